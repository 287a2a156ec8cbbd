"""Contact sheets hold every image with its aspect; class means show their difference."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import AxesImage
from PIL import Image
from tests.figures.drawn import check_apart, check_texts, drawn_texts

from cxrlab import figures
from cxrlab.figures.canvas import DPI


def test_every_image_is_on_the_sheet(tmp_path: Path) -> None:
    wide, high, grey = (np.full(shape, 250, np.uint8) for shape in ((10, 40, 3), (400, 100, 1), (50, 50)))
    figure = figures.contact_sheet([wide, high, grey, wide, high], ["1", "2", "$3$", "4", "5"], columns=4, tile=100)
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2", "$3$", "4", "5"]
    path = figures.save(figure, tmp_path / "sheet.png")
    with Image.open(path) as picture:
        assert picture.size == (400, 200)
        pixels = np.asarray(picture.convert("L"))
    lit = pixels > 200
    assert lit[50, 5:95].all()  # wide: the full width of its tile, and a quarter of the height
    assert not lit[:35, 40:60].any()
    assert lit[5:95, 150].all()
    assert not lit[40:60, 101:130].any()  # high: the other way round
    assert lit[50, 250]
    assert lit[150, 50]
    assert not lit[100:, 100:].any()  # no sixth image


def test_a_single_image_makes_a_small_sheet() -> None:
    figure = figures.contact_sheet([np.zeros((5, 5), np.uint8)], ["1"], tile=180)
    assert figure.get_size_inches() * DPI == pytest.approx((180, 180))


SMALL, RGB, ONE = np.zeros((5, 5), np.uint8), np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 1), np.uint8)


@pytest.mark.parametrize(
    ("draw", "arguments", "said"),
    [
        (figures.contact_sheet, ([], []), "at least one image"),
        (figures.contact_sheet, ([SMALL] * 2, ["1"]), "one text per image, got 1 for 2"),
        (figures.contact_sheet, ([SMALL / 1.0], ["1"]), "images must be uint8 .* got float64"),
        (
            figures.before_after,
            ([RGB, RGB], RGB[None], ["a"], "b"),
            "as many as processed, got 2 for 1",
        ),
        (figures.before_after, ([RGB[0]], RGB[None], ["a"], "b"), "originals must be uint8"),
        (figures.before_after, ([RGB], RGB, ["a"], "b"), "processed must be uint8"),
        (figures.before_after, ([RGB], RGB[None], [], "b"), "captions must hold one text per image, got 0 for 1"),
        (figures.image_grid, (ONE.repeat(2, axis=3), ["a"]), "images must be uint8 of shape"),
        (figures.image_grid, (ONE[0], ["a"]), "images must be uint8 of shape"),
        (figures.image_grid, (ONE / 1.0, ["a"]), "images must be uint8 of shape"),
        (figures.image_grid, (ONE, ["a", "b"]), "got 2 for 1 images"),
    ],
)
def test_wrong_images(draw: Any, arguments: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        draw(*arguments)


def test_class_means() -> None:
    negative = np.full((8, 8), 100.0)
    positive = negative.copy()
    positive[0, 0] += 30
    figure = figures.class_means(negative, positive, (3, 4))
    assert [axes.get_title() for axes in figure.axes[:3]] == ["Negative (n = 3)", "Positive (n = 4)", "difference"]
    (difference,) = figure.axes[2].findobj(AxesImage)
    assert isinstance(difference, AxesImage)
    shown = difference.get_array()
    assert shown is not None
    assert shown[0, 0] == 30
    assert shown[1:].sum() == 0
    assert difference.get_clim() == (-30, 30)
    with pytest.raises(ValueError, match="must have one shape"):
        figures.class_means(negative, positive[:4], (3, 4))


def test_before_and_after() -> None:
    sizes = [(300, 400), (2000, 900), (30, 40), (50, 50), (64, 96)]
    originals = [np.full((*size, 3), 40 * number, np.uint8) for number, size in enumerate(sizes)]
    processed = np.full((5, 24, 24, 1), 77, np.uint8)
    captions = [f"image {number}" for number in range(5)]
    figure = figures.before_after(originals, processed, captions, "What is done to images")
    assert len(figure.axes) == 10
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert [0 if array is None else int(array.flat[0]) for array in shown] == [0, 77, 40, 77, 80, 77, 120, 77, 160, 77]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["image 0\n400 x 300", "24 x 24", "image 1\n900 x 2000", "24 x 24"]
    check_texts(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for box, (height, width) in zip(boxes[::2], sizes, strict=True):
        assert box.height / box.width == pytest.approx(height / width, abs=0.02)
    for above, below in zip(boxes[::2], boxes[1::2], strict=True):
        assert above.y0 > below.y1
    assert len({round(box.y1) for box in boxes[:8:2]}) == 1
    named = [axes for axes in figure.axes if axes.texts]
    assert [axes.texts[0].get_text() for axes in named] == ["in the file", "what the network sees"] * 2


def test_large_originals_are_made_smaller_before_they_are_drawn() -> None:
    figure = figures.before_after([np.zeros((1500, 2000, 1), np.uint8)], np.zeros((1, 8, 8, 3), np.uint8), ["a"], "b")
    array = figure.axes[0].images[0].get_array()
    assert array is not None
    assert array.shape == (384, 512)
    assert figure.axes[0].get_title() == "a\n2000 x 1500"


def test_image_grid_keeps_line_breaks_and_wraps_within_them() -> None:
    images = np.zeros((5, 8, 8, 1), dtype=np.uint8)
    captions = ["score 0.734\nNo Finding\nkermany-NORMAL2-IM-0120", "a", "true finding: Streptococcus\nb\nc", "d", "e"]
    figure = figures.image_grid(images, captions)
    assert figure.axes[0].get_title() == captions[0]
    assert figure.axes[2].get_title() == "true finding:\nStreptococcus\nb\nc"
    check_texts(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for place, box in product(drawn_texts(figure).values(), boxes):
        check_apart(place, box, 1)


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (4, 3), (6, 1)])
def test_image_grid(count: int, channels: int) -> None:
    images = np.zeros((count, 8, 10, channels), dtype=np.uint8)
    figure = figures.image_grid(images, [f"image_{i} $5" for i in range(count)])
    assert len(figure.axes) == count
    assert figure.axes[0].get_title() == "image_0 $5"
    figure.draw_without_rendering()
