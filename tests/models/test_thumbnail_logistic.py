"""Logistic regression on a thumbnail: its tiles, its size, and that 20 epochs are enough."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cxrlab.models import ThumbnailLogistic


@pytest.mark.parametrize(("channels", "count"), [(3, 193), (1, 65)])
def test_count_and_one_logit_for_images_of_any_size(channels: int, count: int) -> None:
    network = ThumbnailLogistic(in_channels=channels)
    assert sum(weight.numel() for weight in network.parameters()) == count
    for side in (224, 50):
        assert network(torch.rand(2, channels, side, side)).tolist() == [[0.0], [0.0]]  # undecided before training


def test_it_sees_tiles_and_nothing_finer() -> None:
    torch.manual_seed(0)
    network = ThumbnailLogistic()
    nn.init.normal_(network.linear.weight)
    images = torch.rand(1, 3, 64, 64)
    shuffled = images.reshape(1, 3, 64, 8, 8).flip(4).flatten(3)  # within the tiles
    moved = images.roll(8, dims=3)
    torch.testing.assert_close(network(shuffled), network(images))
    assert abs(network(moved) - network(images)) > 0.01


def test_a_hundred_steps_of_the_papers_optimizer_fit_a_dark_corner() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0.0, 1.0] * 16)
    images = torch.rand(32, 3, 32, 32, generator=generator)
    images[labels == 1, :, :8, :8] *= 0.6
    network = ThumbnailLogistic()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(100):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(images)[:, 0], labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert ((network(images)[:, 0] > 0) == (labels == 1)).all()


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 2.5}, {"in_channels": 0}])
def test_bad_arguments_are_refused_by_name(options: dict[str, float]) -> None:
    name = next(iter(options))
    with pytest.raises(ValueError, match=rf"{name} must be a whole number in \[1, inf\)"):
        ThumbnailLogistic(**options)  # type: ignore[arg-type]
