"""Random numbers belong to the sample: datamodules/augment.py and conf/augment."""

from __future__ import annotations

import random
from typing import Any

import albumentations as A
import numpy as np
import pytest
from numpy.typing import NDArray

from cxrlab.config import build, compose
from cxrlab.datamodules import Augmentation
from cxrlab.errors import ConfigError

Image = NDArray[np.uint8]


def image(channels: int = 3) -> Image:
    return np.random.default_rng(0).integers(60, 180, (40, 32, channels), np.uint8)


def from_conf(name: str) -> Augmentation:
    """Builds ``augment=<name>`` as a run does; albumentations warns, hence fails here, where an argument is unknown."""
    built: Augmentation = build(compose("train", [f"augment={name}"], "unused").augment)
    return built


@pytest.fixture(scope="module")
def strong() -> Augmentation:
    return from_conf("strong")


@pytest.mark.parametrize("name", ["light", "strong"])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_are_kept_and_the_image_is_not_changed(name: str, channels: int) -> None:
    original = image(channels)
    changed = from_conf(name)(original, 0, 0, 0)
    assert changed.shape == original.shape
    assert changed.dtype == np.uint8
    assert (changed != original).any()
    np.testing.assert_array_equal(original, image(channels))


def test_none_changes_nothing() -> None:
    np.testing.assert_array_equal(from_conf("none")(image(), 3, 2, 1), image())
    assert from_conf("none").transforms == []


def test_a_sample_does_not_depend_on_what_was_drawn_before(strong: Augmentation) -> None:
    keys = [(epoch, row) for epoch in range(2) for row in range(6)]
    forwards = {key: strong(image(), 0, *key) for key in keys}
    other = from_conf("strong")
    np.random.seed(5)  # noqa: NPY002 - that numpy's and Python's own states have no effect is the point
    random.seed(5)
    for key in reversed(keys):
        np.testing.assert_array_equal(other(image(), 0, *key), forwards[key])


def test_seed_epoch_and_row_each_matter(strong: Augmentation) -> None:
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32 - 1, 10_000, 10**6)]
    assert len({strong(image(), *key).tobytes() for key in keys}) == len(keys)


def coin(step: int) -> A.BasicTransform:
    """Adds a step to every pixel, or not."""

    def add(pixels: Image, **_: Any) -> Image:
        return pixels + np.uint8(step)

    return A.Lambda(image=add, p=0.5)


def test_transforms_are_applied_independently_of_each_other() -> None:
    augment = Augmentation([coin(1), coin(2), coin(4)])
    black = np.zeros((2, 2, 3), np.uint8)
    applied = np.array([augment(black, 0, 0, row)[0, 0, 0] for row in range(800)])
    counts = np.bincount(applied, minlength=8)  # each subset of the three with probability 1/8
    assert ((counts > 65) & (counts < 135)).all(), counts


@pytest.mark.parametrize(
    ("transform", "found"),
    [
        pytest.param(A.RandomCrop(8, 8), r"got uint8 of shape \(8, 8, 3\)", id="crop"),
        pytest.param(A.Transpose(p=1), r"got uint8 of shape \(32, 40, 3\)", id="transpose"),
        pytest.param(A.ToFloat(p=1), r"got float32 of shape \(40, 32, 3\)", id="float"),
    ],
)
def test_transforms_that_change_size_or_type_are_refused(transform: Any, found: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^augment must keep images uint8 of shape \(40, 32, 3\), {found}; leave out"
    ):
        Augmentation([transform])(image(), 0, 0, 0)
