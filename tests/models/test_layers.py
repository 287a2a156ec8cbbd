"""Pieces that several networks share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cxrlab.models.layers import AreaPool2d, height_and_width, init_like_keras


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (8, 9), (3, 1)])
def test_area_pooling_is_torchs_adaptive_pooling(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, requires_grad=True)
    ours, theirs = AreaPool2d(8, 5)(images), nn.AdaptiveAvgPool2d((8, 5))(images)
    torch.testing.assert_close(ours, theirs)
    weights = torch.rand_like(ours)
    gradients = [torch.autograd.grad((pooled * weights).sum(), images)[0] for pooled in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_a_size_is_one_number_or_two() -> None:
    assert height_and_width(64) == (64, 64)
    assert height_and_width([48, 32]) == (48, 32)
    for wrong in ("64", [1, 2, 3], None):
        with pytest.raises(ValueError, match="image_size must be a whole number or"):
            height_and_width(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="image_size must be"):
        height_and_width([64, 0])


def test_keras_initialisation() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 16, 3)
    init_like_keras(layer)
    limit = (6 / (9 * 8 + 9 * 16)) ** 0.5  # Glorot and Bengio 2010, eq. 16
    assert 0.95 * limit < layer.weight.abs().max().item() <= limit
    assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
    assert layer.bias is not None
    assert not layer.bias.any()
    norm = nn.BatchNorm2d(4)
    init_like_keras(norm)
    assert norm.weight.tolist() == [1.0] * 4
