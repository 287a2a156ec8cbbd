"""DarkCovidNet: the published shapes, padding and count, and one logit for two outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrlab.models import DarkCovidNet
from cxrlab.models.layer_table import layer_table

TABLE = [
    ("conv_1", (None, 256, 256, 8), 232),
    ("pool_1", (None, 128, 128, 8), 0),
    ("conv_2", (None, 128, 128, 16), 1_184),
    ("pool_2", (None, 64, 64, 16), 0),
    ("triple_1", (None, 66, 66, 32), 9_888),
    ("pool_3", (None, 33, 33, 32), 0),
    ("triple_2", (None, 35, 35, 64), 39_232),
    ("pool_4", (None, 17, 17, 64), 0),
    ("triple_3", (None, 19, 19, 128), 156_288),
    ("pool_5", (None, 9, 9, 128), 0),
    ("triple_4", (None, 11, 11, 256), 623_872),
    ("conv_3", (None, 13, 13, 128), 33_024),
    ("conv_4", (None, 13, 13, 256), 295_424),
    ("conv_5", (None, 13, 13, 2), 4_612),
    ("flatten", (None, 338), 0),
    ("linear", (None, 2), 678),
]


def test_every_row_and_the_published_count() -> None:
    table = layer_table(DarkCovidNet(), (3, 256, 256))
    assert [(row.name, row.output_shape, row.params) for row in table.rows] == TABLE
    assert table.total == table.trainable == 1_164_434


def test_only_convolutions_of_one_pixel_make_maps_grow() -> None:
    network = DarkCovidNet()
    grown: dict[tuple[int, ...], set[int]] = {}

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        grown.setdefault(module.kernel_size, set()).add(output.shape[2] - inputs[0].shape[2])

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(torch.rand(2, 3, 256, 256))
    assert grown == {(3, 3): {0}, (1, 1): {2}}


def test_the_loss_on_one_logit_is_the_published_one_on_two_outputs() -> None:
    torch.manual_seed(0)
    network = DarkCovidNet(32).eval()
    images, labels = torch.rand(6, 3, 32, 32), torch.tensor([0, 1, 1, 0, 1, 0])
    with torch.no_grad():
        outputs, logits = network.layers(images), network(images)
    assert outputs.shape == (6, 2)
    assert logits.shape == (6, 1)
    published = F.cross_entropy(outputs, labels)
    torch.testing.assert_close(F.binary_cross_entropy_with_logits(logits[:, 0], labels.float()), published)
    torch.testing.assert_close(logits[:, 0].sigmoid(), outputs.softmax(1)[:, 1])


@pytest.mark.parametrize("size", [4, 5, 37, [48, 31]])
def test_the_linear_layer_fits_the_image(size: Any) -> None:
    network = DarkCovidNet(size, in_channels=1).eval()
    _, height, width = network.input_shape
    assert network(torch.rand(2, 1, height, width)).shape == (2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 3}, "image_size 3x3 is too small: at least 4x4 is needed"),
        ({"image_size": [64, 2]}, "image_size 64x2 is too small"),
        ({"image_size": "big"}, "image_size must be a whole number or"),
        ({"in_channels": 0}, "in_channels must be a whole number in"),
    ],
)
def test_bad_arguments_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DarkCovidNet(**options)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"built for images of shape \(3, 32, 32\), got \(3, 40, 40\)"):
        DarkCovidNet(32)(torch.rand(2, 3, 40, 40))
