"""The lung segmenter: shapes, size, and that it learns."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from cxrlab.models import LungModule, LungUnet
from cxrlab.models.lung_module import soft_dice


def test_shapes_and_parameters() -> None:
    network = LungUnet()
    assert sum(weight.numel() for weight in network.parameters()) == 584_343
    assert network.multiple == 16
    assert network(torch.rand(2, 1, 32, 48)).shape == (2, 1, 32, 48)


@pytest.mark.parametrize(
    ("channels", "message"), [([16], "2 to 6"), ("16,32", "list"), ([16, 0], "channels must be a whole number")]
)
def test_wrong_channels_are_refused(channels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LungUnet(channels)


def test_brightness_and_contrast_change_little() -> None:
    torch.manual_seed(0)
    network = LungUnet([4, 8, 8]).eval()
    images = torch.rand(2, 1, 32, 32)
    inner = slice(8, -8)  # the padding of the first layer knows what black is
    plain, changed = (network(each)[..., inner, inner] for each in (images, 0.5 * images + 0.2))
    assert (plain - changed).std() < 0.5 * plain.std()


def test_soft_dice_by_hand() -> None:
    scores, masks = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    scores[0, 0, 0] = torch.tensor([1.0, 0.5])
    masks[0, 0, 0, 0] = 1
    assert soft_dice(scores, masks).tolist() == pytest.approx([(2 * 1 + 1) / (1.5 + 1 + 1), 1.0])


def test_it_learns_a_bright_square() -> None:
    torch.manual_seed(0)
    module = LungModule(LungUnet([4, 8, 8]), functools.partial(torch.optim.Adam, lr=0.02))
    logged: dict[str, Tensor] = {}
    module.log_dict = lambda values, **_: logged.update(values)  # type: ignore[method-assign]
    masks = torch.zeros(4, 1, 32, 32)
    masks[:, :, 8:24, 8:24] = 1
    images = (0.2 + 0.6 * masks + 0.05 * torch.randn(4, 1, 32, 32)).clamp(0, 1)
    optimizer = module.configure_optimizers()
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = module.training_step({"image": images, "mask": masks}, 0)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert float(logged["train/dice"]) > 0.9
