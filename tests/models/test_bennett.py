"""Bennett's network: the rows, names and counts that Keras prints, and Keras's defaults."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cxrlab.models import Bennett
from cxrlab.models.bennett import SeparableConv2dRelu
from cxrlab.models.layer_table import layer_table

TABLE = [
    ("conv2d", (150, 150, 16), 448),
    ("conv2d_1", (150, 150, 16), 2_320),
    ("max_pooling2d", (75, 75, 16), 0),
    ("separable_conv2d", (75, 75, 32), 688),
    ("separable_conv2d_1", (75, 75, 32), 1_344),
    ("batch_normalization", (75, 75, 32), 64),
    ("max_pooling2d_1", (37, 37, 32), 0),
    ("separable_conv2d_2", (37, 37, 64), 2_400),
    ("separable_conv2d_3", (37, 37, 64), 4_736),
    ("batch_normalization_1", (37, 37, 64), 128),
    ("max_pooling2d_2", (18, 18, 64), 0),
    ("separable_conv2d_4", (18, 18, 128), 8_896),
    ("separable_conv2d_5", (18, 18, 128), 17_664),
    ("batch_normalization_2", (18, 18, 128), 256),
    ("max_pooling2d_3", (9, 9, 128), 0),
    ("dropout", (9, 9, 128), 0),
    ("separable_conv2d_6", (9, 9, 256), 34_176),
    ("separable_conv2d_7", (9, 9, 256), 68_096),
    ("batch_normalization_3", (9, 9, 256), 512),
    ("max_pooling2d_4", (4, 4, 256), 0),
    ("dropout_1", (4, 4, 256), 0),
    ("flatten", (4096,), 0),
    ("dense", (512,), 2_097_664),
    ("dropout_2", (512,), 0),
    ("dense_1", (128,), 65_664),
    ("dropout_3", (128,), 0),
    ("dense_2", (64,), 8_256),
    ("dropout_4", (64,), 0),
    ("dense_3", (1,), 65),
]


def statistics(network: nn.Module) -> int:
    """Numbers that Keras counts as non-trainable parameters and PyTorch holds as buffers."""
    return sum(value.numel() for name, value in network.named_buffers() if "running" in name)


def test_every_row_and_both_counts() -> None:
    network = Bennett()
    table = layer_table(network, (3, 150, 150))
    assert [(row.name, row.output_shape[1:], row.params) for row in table.rows] == TABLE
    assert table.total == table.trainable == 2_313_377
    assert statistics(network) == 960
    assert table.total + statistics(network) == 2_314_337


def test_a_separable_convolution_is_a_full_one_of_rank_one() -> None:
    layer = SeparableConv2dRelu(3, 5)
    features = torch.randn(2, 3, 7, 6)
    kernel = layer.pointwise.weight * layer.depthwise.weight.squeeze(1)[None]
    by_hand = F.relu(F.conv2d(features, kernel, layer.pointwise.bias, padding=1))
    torch.testing.assert_close(layer(features), by_hand)


def test_weights_and_normalisation_start_as_in_keras() -> None:
    torch.manual_seed(0)
    network = Bennett(64)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            area = math.prod(module.weight.shape[2:])
            groups = module.groups if isinstance(module, nn.Conv2d) else 1
            limit = math.sqrt(6 / (area * (module.weight.shape[1] + module.weight.shape[0])))
            if groups > 1:  # Keras's depthwise kernel is (3, 3, channels, 1)
                limit = math.sqrt(6 / (area * (groups + 1)))
            assert limit * 0.9 < module.weight.abs().max() <= limit, name
            assert module.bias is None or not module.bias.any(), name
        if isinstance(module, nn.BatchNorm2d):
            assert module.eps == 1e-3
            assert module.momentum == pytest.approx(0.01)


def test_dropout_rates_reach_their_places_and_momentum_is_keras_s() -> None:
    network = Bennett(32, dropout=[0.1, 0.15, 0.3, 0.4, 0.6], momentum=0.9)
    rates = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.1, 0.15, 0.3, 0.4, 0.6]
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    before = norm.running_mean.clone() if norm.running_mean is not None else None
    seen: list[torch.Tensor] = []
    norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].mean((0, 2, 3))))
    network(torch.rand(2, 3, 32, 32))
    assert before is not None
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, 0.9 * before + 0.1 * seen[0].detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": [150, 31]}, "image_size 150x31 is too small: at least 32x32 is needed"),
        ({"in_channels": 0}, "in_channels must be a whole number in"),
        ({"dropout": [0.5]}, r"dropout must be a list of five numbers, got \[0.5\]"),
        ({"dropout": [0, 0, 0, 0, 1.0]}, r"dropout\[4\] must be a number in \[0, 1\), got 1.0"),
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\), got 1.0"),
    ],
)
def test_bad_arguments_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bennett(**options)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"built for images of shape \(1, 32, 40\), got \(1, 40, 32\)"):
        Bennett([32, 40], in_channels=1)(torch.rand(2, 1, 40, 32))
