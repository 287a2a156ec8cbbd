"""Rows of letters are found; a side letter, a wire, noise and an empty image are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cxrlab.evaluation.burned_in import text_boxes


def film(height: int = 900, width: int = 1000) -> NDArray[np.uint8]:
    """A smooth ground with a little noise, as films have."""
    rows, columns = np.mgrid[:height, :width]
    ground = 90 + 60 * np.sin(rows / height * 3) * np.cos(columns / width * 2)
    noise = np.random.default_rng(0).normal(0, 4, (height, width))
    return np.asarray((ground + noise).clip(0, 255), np.uint8)


def written(image: NDArray[np.uint8], text: str, level: int = 255, size: float = 1.0) -> NDArray[np.uint8]:
    return np.asarray(
        cv2.putText(image.copy(), text, (620, 80), cv2.FONT_HERSHEY_SIMPLEX, size, level, 3, cv2.LINE_AA), np.uint8
    )


@pytest.mark.parametrize(("level", "size"), [(255, 1.0), (0, 1.0), (255, 0.7), (0, 1.6)])
def test_words_are_found_where_they_stand(level: int, size: float) -> None:
    boxes = text_boxes(written(film(), "PORTABLE", level, size))
    assert len(boxes)
    x, y, width, height = boxes[0]
    assert 600 <= x <= 660
    assert 30 <= y <= 90
    assert width > 3 * height > 0


@pytest.mark.parametrize("shape", [(300, 333), (2700, 3000)])
def test_boxes_are_in_pixels_of_the_image_itself(shape: tuple[int, int]) -> None:
    scale = shape[1] / 1000
    image = cv2.resize(written(film(), "SUPINE"), shape[::-1], interpolation=cv2.INTER_AREA)
    boxes = text_boxes(np.asarray(image, np.uint8))
    assert len(boxes)
    assert abs(boxes[0][0] - 620 * scale) < 30 * scale
    assert abs(boxes[0][1] - 58 * scale) < 20 * scale


def test_what_is_no_row_of_letters_is_not_found() -> None:
    plain = film()
    assert not len(text_boxes(plain))
    assert not len(text_boxes(written(plain, "R")))
    wires = plain.copy()
    for start in (100, 200, 300):
        cv2.line(wires, (start, 0), (start + 300, 899), 255, 4, cv2.LINE_AA)
    assert not len(text_boxes(wires))
    for empty in (np.zeros((50, 40), np.uint8), np.full((1, 1), 255, np.uint8), np.zeros((1, 2000), np.uint8)):
        assert text_boxes(empty).shape == (0, 4)


@pytest.mark.parametrize("wrong", [np.zeros((5, 5)), np.zeros((5, 5, 3), np.uint8), np.zeros((0, 5), np.uint8)])
def test_wrong_arrays(wrong: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"grey must be uint8 of shape \(height, width\)"):
        text_boxes(wrong)
