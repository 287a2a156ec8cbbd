"""Pieces that several networks share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cxrlab.errors import check_range


def height_and_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """The sides of an image as the user writes them: one number for a square, or ``[height, width]``; pixels.

    Raises:
        ValueError: Not one or two whole numbers of at least 1.
    """
    sides = [image_size, image_size] if isinstance(image_size, int) else image_size
    if isinstance(sides, str) or not isinstance(sides, Sequence) or len(sides) != 2:
        raise ValueError(f"image_size must be a whole number or [height, width], got {image_size!r}")
    for side in sides:
        check_range("image_size", side, 1, integer=True)
    return sides[0], sides[1]


def check_built_for(input_shape: tuple[int, int, int], images: Tensor) -> None:
    """Refuses images of another size than a network's linear layer was built for.

    Args:
        input_shape: Channels, height and width of one image.
        images: Shape (N, C, H, W).

    Raises:
        ValueError: Their channels, height and width differ.
    """
    shape = tuple(images.shape[1:])
    if shape != input_shape:
        raise ValueError(f"the network was built for images of shape {input_shape}, got {shape}")


def init_like_keras(module: nn.Module) -> None:
    """Sets a convolution or dense layer as Keras does: Glorot-uniform kernel (Glorot and Bengio 2010), zero bias."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class AreaPool2d(nn.Module):
    """Averages images down to a fixed size, each output over its share of the area, as ``nn.AdaptiveAvgPool2d`` does.

    That module's gradient is not deterministic on a GPU, and it takes not every size on Apple's; sums over slices do.

    Args:
        height: Height of the output in pixels, at least 1.
        width: Width of the output in pixels, at least 1.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, ``height``, ``width``)."""
        return _averages(_averages(images, 2, self.height), 3, self.width)


def _averages(images: Tensor, axis: int, count: int) -> Tensor:
    """Means along one axis over ``count`` stretches of equal length, or nearly: neighbours may share a pixel."""
    length = images.shape[axis]
    starts = [index * length // count for index in range(count)]
    ends = [-(-(index + 1) * length // count) for index in range(count)]
    means = [images.narrow(axis, start, end - start).mean(axis) for start, end in zip(starts, ends, strict=True)]
    return torch.stack(means, axis)
