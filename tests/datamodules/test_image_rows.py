"""Images that need not lie in one array: datamodules/image_rows.py."""

from __future__ import annotations

import numpy as np
import pytest

from cxrlab.datamodules.image_rows import ImageRows

ALL = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)


@pytest.fixture
def images() -> ImageRows:
    """Rows of ``ALL`` in two blocks, in which they lie in another order."""
    blocks = [ALL[[4, 0, 2, 6]], ALL[[5, 1, 3]]]
    places = np.array([(0, 1), (1, 1), (0, 2), (1, 2), (0, 0), (1, 0), (0, 3)])
    return ImageRows(blocks, places, (4, 5, 3))


def test_they_look_like_the_array(images: ImageRows) -> None:
    assert (images.shape, images.ndim, images.size, len(images)) == ((7, 4, 5, 3), 4, 420, 7)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(images), ALL)
    np.testing.assert_array_equal(np.asarray(images, np.float32), ALL.astype(np.float32))
    np.testing.assert_array_equal(list(images), ALL)


@pytest.mark.parametrize(
    "index",
    [
        3,
        np.int64(-1),
        slice(1, 6, 2),
        slice(None),
        [5, 0, 5],
        np.array([2, 1]),
        np.arange(7) % 2 == 0,
        np.zeros(7, np.bool_),
        (slice(None), slice(1, 3), slice(2, 4)),
        (4, 2, 1),
    ],
    ids=str,
)
def test_they_are_indexed_like_the_array(images: ImageRows, index: object) -> None:
    found = images[index]
    np.testing.assert_array_equal(found, ALL[index])  # type: ignore[call-overload]
    assert found.dtype == np.uint8


def test_an_image_that_is_not_there(images: ImageRows) -> None:
    with pytest.raises(IndexError):
        images[7]


def test_rows_are_chosen_without_copying(images: ImageRows) -> None:
    chosen = images.take([6, 1, 1]).take(np.array([True, False, True]))
    np.testing.assert_array_equal(chosen[:], ALL[[6, 1]])
    assert np.shares_memory(chosen[0], images[6])
    assert np.shares_memory(ImageRows.of(ALL).take([3])[0], ALL)


def test_a_part_is_a_copy(images: ImageRows) -> None:
    images[:][0] = 0
    np.testing.assert_array_equal(images[0], ALL[0])
    with pytest.raises(ValueError, match="by being copied"):
        np.array(images, copy=False)


def test_no_image_at_all() -> None:
    images = ImageRows.of(ALL[:0])
    assert images[:].shape == images.shape == (0, 4, 5, 3)
