"""The small network that says what kind of picture an image is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrlab.errors import check_range


class GateNet(nn.Module):
    """Residual convolutions over one grey square, one logit per kind of picture: 218,426 parameters by default.

    The first layer halves the sides with a 5x5 kernel; every further level halves them again with two 3x3 convolutions
    and a shortcut (He et al., arXiv:1512.03385). The mean over what is left of the plane goes through dropout into one
    linear layer. With four levels and 64 pixels every place of the last plane sees the whole picture, which is what
    tells a film from the same film turned.

    Args:
        kinds: How many kinds of picture, 2 to 64.
        channels: Of each level, 2 to 5 whole numbers of 1 to 512.
        dropout: Share of the last features left out in training, in [0, 1).

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, kinds: int = 10, channels: Sequence[int] = (16, 32, 64, 96), dropout: float = 0.3) -> None:
        super().__init__()
        check_range("kinds", kinds, 2, 64, integer=True)
        if isinstance(channels, str) or not isinstance(channels, Sequence) or not 2 <= len(channels) <= 5:
            raise ValueError(f"channels must be a list of 2 to 5 whole numbers, got {channels!r}")
        for each in channels:
            check_range("channels", each, 1, 512, integer=True)
        check_range("dropout", dropout, 0, 1, high_open=True)
        self.kinds = int(kinds)
        self.channels = [int(each) for each in channels]
        first = self.channels[0]
        self.stem = nn.Sequential(nn.Conv2d(1, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        pairs = zip(self.channels, self.channels[1:], strict=False)
        self.levels = nn.Sequential(*(_Level(inside, outside) for inside, outside in pairs))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.channels[-1], self.kinds)

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits.

        Args:
            images: Float (N, 1, S, S), mean 0 and standard deviation 1 over each picture, S at least 32.

        Returns:
            Logits (N, kinds).
        """
        features: Tensor = self.levels(self.stem(images)).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


class _Level(nn.Module):
    """Halves the sides: two convolutions beside a shortcut that averages."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inside, outside, 3, 2, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outside)
        self.second = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outside)
        self.shortcut = nn.Conv2d(inside, outside, 1)

    def forward(self, planes: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(planes)))
        short = self.shortcut(F.avg_pool2d(planes, 2, ceil_mode=True))
        return torch.relu(self.second_norm(self.second(inner)) + short)
