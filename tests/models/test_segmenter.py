"""What stands before and after the network: any size in, the same size out, two lungs without holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cxrlab.models import LungUnet, Segmenter
from cxrlab.models.segmenter import square, tidy, weights_fingerprint


class Dark(nn.Module):
    """Calls lung what is darker than a grey level, as lungs are."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 50 * (self.level - images)
        return logits


def film(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Two dark lungs on a light chest."""
    image = np.full((height, width, channels), 200, np.uint8)
    for left in (0.15, 0.6):
        image[height // 4 : 3 * height // 4, int(left * width) : int((left + 0.25) * width)] = 30
    return image


@pytest.mark.parametrize(("shape", "channels"), [((64, 64), 3), ((100, 60), 1), ((33, 47), 3), ((224, 224), 3)])
def test_masks_have_the_images_own_size(shape: tuple[int, int], channels: int) -> None:
    images = np.stack([film(*shape, channels)] * 2)
    masks = Segmenter(Dark(), 64, Path("x"))(images)
    assert masks.shape == images.shape[:3]
    assert masks.dtype == np.bool_
    expected = images[..., 0] < 100
    assert (masks == expected).mean() > 0.95


@pytest.mark.parametrize(("grey", "lung"), [(126, True), (129, False)])
def test_lung_is_what_is_as_likely_as_not(grey: int, lung: bool) -> None:
    images = np.full((1, 32, 32, 1), grey, np.uint8)  # probabilities of 0.57 and 0.43
    assert Segmenter(Dark(), 32, Path("x"))(images).all() == lung


def test_batches_do_not_change_the_masks() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 32, 32, 1), dtype=np.uint8)
    segment = Segmenter(LungUnet([2, 4]), 32, Path("x"))
    one_by_one = np.concatenate([segment(image[None]) for image in images])
    assert (segment(images) != one_by_one).mean() < 1e-3  # one sum in another order may fall on the other side of 0.5


def test_no_image_and_no_lung() -> None:
    segment = Segmenter(Dark(), 32, Path("x"))
    assert segment(np.zeros((0, 50, 40, 3), np.uint8)).shape == (0, 50, 40)
    assert not segment(np.full((1, 50, 40, 3), 255, np.uint8)).any()


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8, 3), np.float32), np.zeros((8, 8, 3), np.uint8)])
def test_other_images_are_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="images must be uint8"):
        Segmenter(Dark(), 32, Path("x"))(images)


def test_tidy_keeps_two_parts_and_fills_holes() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:18, 2:10] = mask[2:18, 18:28] = mask[0, 14:16] = True
    holed = mask.copy()
    holed[8:10, 4:6] = False
    mask[0, 14:16] = False
    assert (tidy(holed) == mask).all()
    assert not tidy(np.zeros((4, 4), bool)).any()


def test_the_fingerprint_is_that_of_the_weights() -> None:
    torch.manual_seed(0)
    one, other = LungUnet([2, 4]), LungUnet([2, 4])
    assert weights_fingerprint(one.state_dict()) != weights_fingerprint(other.state_dict())
    other.load_state_dict(one.state_dict())
    assert weights_fingerprint(one.state_dict()) == weights_fingerprint(other.state_dict())
    assert Segmenter(one, 32, Path("x")).fingerprint == weights_fingerprint(other.state_dict())


def test_colour_becomes_luma() -> None:
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 200
    assert (square(red, 32) == 60).all()  # 0.299 of 200
