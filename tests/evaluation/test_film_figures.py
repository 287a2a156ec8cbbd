"""Contact sheets hold every image with its aspect; class means show their difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import AxesImage
from PIL import Image

from cxrlab.evaluation import figures
from cxrlab.evaluation.film_figures import class_means, contact_sheet


def test_every_image_is_on_the_sheet(tmp_path: Path) -> None:
    wide, high, grey = (np.full(shape, 250, np.uint8) for shape in ((10, 40, 3), (400, 100, 1), (50, 50)))
    figure = contact_sheet([wide, high, grey, wide, high], ["1", "2", "$3$", "4", "5"], columns=4, tile=100)
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
    figure = contact_sheet([np.zeros((5, 5), np.uint8)], ["1"], tile=180)
    assert figure.get_size_inches() * figures.DPI == pytest.approx((180, 180))


def test_wrong_images() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([], [])
    with pytest.raises(ValueError, match="one text per image, got 1 for 2"):
        contact_sheet([np.zeros((5, 5), np.uint8)] * 2, ["1"])
    with pytest.raises(ValueError, match=r"images must be uint8 .* got float64"):
        contact_sheet([np.zeros((5, 5))], ["1"])  # type: ignore[list-item]


def test_class_means() -> None:
    negative = np.full((8, 8), 100.0)
    positive = negative.copy()
    positive[0, 0] += 30
    figure = class_means(negative, positive, (3, 4))
    assert [axes.get_title() for axes in figure.axes[:3]] == ["Negative (n = 3)", "Positive (n = 4)", "difference"]
    (difference,) = figure.axes[2].findobj(AxesImage)
    assert isinstance(difference, AxesImage)
    shown = difference.get_array()
    assert shown is not None
    assert shown[0, 0] == 30
    assert shown[1:].sum() == 0
    assert difference.get_clim() == (-30, 30)
    with pytest.raises(ValueError, match="must have one shape"):
        class_means(negative, positive[:4], (3, 4))
