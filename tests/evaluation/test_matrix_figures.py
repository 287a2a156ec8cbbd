"""What the figures of a matrix say."""

from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure

from cxrlab.evaluation.matrix_figures import Fall, Square, falls, heat_map

GOOD = {"value": 0.93, "low": 0.81, "high": 0.99, "seeds": [0.92, 0.94]}
POOR = {"value": 0.52, "low": 0.4, "high": 0.64, "seeds": [0.5, 0.54]}
NONE: dict[str, Any] = {"value": None, "low": None, "high": None, "seeds": []}


def texts(figure: Figure) -> list[str]:
    axes = figure.axes[0]
    ticks = [label.get_text() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    return [text.get_text() for text in axes.texts] + ticks


def test_every_cell_tells_value_interval_images_and_what_needs_no_lung() -> None:
    squares = {
        ("a", "a"): Square(GOOD, 40, True, 0.97),
        ("a", "b"): Square(POOR, 300, False),
        ("b", "b"): Square(NONE, 3, True, reason="no positive images"),
    }
    figure = heat_map(["a", "b"], ["a", "b"], squares, "Title")
    found = "\n".join(texts(figure))
    for text in ("0.93", "[0.81, 0.99]", "n = 40", "no lung: 0.97", "0.52", "n = 300", "no positive", "not there"):
        assert text in found
    frames = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert len(frames) == 2  # own held-out images


def test_falls_tell_where_from_where_to_and_how_far() -> None:
    drop = {"value": 0.41, "low": 0.25, "high": 0.55}
    rows = [Fall("a", GOOD, {"b": POOR, "c": NONE}, {"b": drop}), Fall("b", POOR, {"a": GOOD}, {})]
    found = texts(falls(rows, "Title"))
    assert "0.52 [0.40, 0.64]   drop +0.41 [+0.25, +0.55]" in found
    assert "a, own held-out images" in found
    assert any(text.startswith("undefined") for text in found)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="rows and columns"):
        heat_map([], ["a"], {}, "Title")
    with pytest.raises(ValueError, match="at least one"):
        falls([], "Title")
