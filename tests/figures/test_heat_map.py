"""What the squares of a matrix say."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from tests.figures.drawn import check_texts

from cxrlab.evaluation.estimate import SeedMean
from cxrlab.figures import Square, heat_map

GOOD = SeedMean(0.93, 0.81, 0.99, "", (0.92, 0.94))
POOR = SeedMean(0.52, 0.4, 0.64, "", (0.5, 0.54))
NONE = SeedMean.undefined("no positive images")


def texts(figure: Figure) -> list[str]:
    axes = figure.axes[0]
    ticks = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    return [text.get_text() for text in axes.texts] + ticks


def test_every_cell_tells_value_interval_images_and_what_needs_no_lung() -> None:
    squares = {
        ("a", "a"): Square(GOOD, 40, True, 0.97),
        ("a", "b"): Square(POOR, 300, False),
        ("b", "b"): Square(NONE, 3, True),
    }
    figure = heat_map(["a", "b"], ["a", "b"], squares, "Title")
    found = "\n".join(texts(figure))
    for text in ("0.93", "[0.81, 0.99]", "n = 40", "no lung 0.97", "0.52", "n = 300", "undefined: no", "not there"):
        assert text in found
    check_texts(figure)
    frames = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert len(frames) == 2  # own held-out images


@pytest.mark.parametrize("n", [1, 3, 5, 8])
def test_every_text_has_room(n: int) -> None:
    names = [f"/folder/of/many/{'letters' * 9}/a_{i}.ckpt" for i in range(n)]
    squares = {(row, f"a_place_{i}"): Square(GOOD, 12_345, i == 0, 0.97) for row in names for i in range(n)}
    figure = heat_map(names, [f"a_place_{i}" for i in range(n)], squares, "SYNTHETIC: AUROC")
    check_texts(figure)
    assert f"letters/a_{n - 1}.ckpt" in "".join(texts(figure))  # told by its end


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="rows and columns"):
        heat_map([], ["a"], {}, "Title")
