"""Pieces that several networks share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cxrlab.models.layers import AreaPool2d, Dropout, height_and_width, init_like_keras


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


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.3, 0.5, 1 / 3, 0.001, 0.9995])
def test_fast_dropout_drops_at_its_rate_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    count = 2_000_000
    output = Dropout(rate).train()(torch.ones(count))

    dropped = int((output == 0).sum())
    deviation = (count * rate * (1 - rate)) ** 0.5
    assert abs(dropped - count * rate) < 4 * deviation
    assert output[output != 0].unique().tolist() == pytest.approx([1 / (1 - rate)])


def test_fast_dropout_masks_every_bit_of_a_word_alike_and_apart() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.25).train()(torch.ones(6_400_000)) != 0).view(-1, 64).float()

    assert kept.mean(0).tolist() == pytest.approx([0.75] * 64, abs=0.0065)  # 4.7 standard deviations
    together = torch.corrcoef(kept.T) - torch.eye(64)
    assert float(together.abs().max()) < 0.016  # 5, of 2,016 pairs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_dropout_in_place_zeroes_what_the_layer_would(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    images = (torch.rand(2, 3, 5, 7) + 1).to(dtype).contiguous(memory_format=memory_format)
    layer = Dropout(0.3).train()
    torch.manual_seed(0)
    output = layer(images)
    torch.manual_seed(0)
    values = images.clone()
    layer.zero_(values)

    assert output.dtype == dtype
    assert torch.equal(values == 0, output == 0)
    assert torch.equal(values[values != 0], images[values != 0])
    assert 0 < int((values == 0).sum()) < values.numel()


def test_slow_dropout_draws_pytorchs_masks() -> None:
    images = torch.rand(2, 3, 5, 7)
    torch.manual_seed(0)
    expected = nn.Dropout(0.3).train()(images)
    torch.manual_seed(0)
    assert torch.equal(Dropout(0.3, fast=False).train()(images), expected)
    torch.manual_seed(0)
    values = images.clone()
    Dropout(0.3, fast=False).zero_(values)
    assert torch.equal(values == 0, expected == 0)


def test_dropout_does_nothing_in_evaluation_or_at_rate_zero() -> None:
    images = torch.rand(2, 3)
    assert torch.equal(Dropout(0.5).eval()(images), images)
    assert torch.equal(Dropout(0.0).train()(images), images)
