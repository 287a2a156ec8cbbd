"""What the gate sees of an image."""

from __future__ import annotations

import numpy as np
import pytest

from cxrlab.thumbnails import luma, square, thumbnail, unframed


@pytest.mark.parametrize(("shape", "expected"), [((400, 200), (128, 64)), ((30, 60), (64, 128)), ((1, 900), (1, 128))])
def test_the_longer_side_becomes_128_and_the_aspect_is_kept(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    assert thumbnail(np.zeros((*shape, 3), np.uint8)).shape == (*expected, 3)


def test_turning_first_or_last_is_the_same() -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 256, 3), dtype=np.uint8)
    there, back = np.rot90(thumbnail(image)), thumbnail(np.ascontiguousarray(np.rot90(image)))
    assert np.abs(there.astype(int) - back.astype(int)).max() <= 1


def test_brightness_and_contrast_are_taken_away_and_the_rest_is_zero() -> None:
    grey = np.random.default_rng(0).integers(40, 200, (64, 32), dtype=np.uint8)
    seen = square(grey, 64)
    assert seen.shape == (64, 64)
    assert seen.dtype == np.float32
    assert not seen[:, :16].any()
    assert not seen[:, 48:].any()
    assert seen[:, 16:48].mean() == pytest.approx(0, abs=1e-5)
    assert seen[:, 16:48].std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(square(grey // 2, 64), seen, atol=0.02)


@pytest.mark.parametrize("shade", [0, 120, 255])
def test_a_frame_changes_next_to_nothing(shade: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (80, 60), dtype=np.uint8)
    framed = np.full((120, 100), shade, np.uint8)
    framed[10:90, 30:90] = grey
    np.testing.assert_array_equal(unframed(framed), grey)
    np.testing.assert_array_equal(square(framed, 64), square(grey, 64))


def test_what_is_nearly_all_frame_is_left_alone() -> None:
    grey = np.zeros((100, 100), np.uint8)
    assert unframed(grey).shape == (100, 100)
    grey[50:60, 50:60] = 255
    assert unframed(grey).shape == (100, 100)


def test_an_image_of_one_grey_level_is_not_divided_by_nothing() -> None:
    assert not square(np.full((50, 50), 77, np.uint8), 32).any()


def test_luma_is_that_of_itu_601() -> None:
    assert luma(np.full((1, 1, 3), (200, 100, 50), np.uint8)).item() == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)])
def test_anything_else_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images must be uint8"):
        thumbnail(image)
