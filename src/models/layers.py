"""Pieces that several networks share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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


def in_memory_order(images: Tensor, channels_last: bool) -> Tensor:
    """Images with their channels side by side in memory, or one channel's pixels, as PyTorch has it by itself.

    Args:
        images: Shape (N, C, H, W), which stays.
        channels_last: Which of the two; convolutions run faster with channels side by side on most machines.
    """
    return images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def is_watched(layer: nn.Module) -> bool:
    """Whether somebody has asked to be told of a layer's inputs, outputs or gradients; then it has to be called."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return any(hooks)


_DIGITS = 24  # of a rate, binary: within 3e-8 of it


class Dropout(nn.Dropout):
    """Dropout whose masks take little time to draw on a CPU.

    PyTorch draws one Bernoulli number per element there, on one thread: longer than a bf16 convolution over the same
    elements. Here 64 elements share random words, a bit each, and as many words are drawn as the rate has binary
    digits: one for 0.5, two for 0.25, 24 for a rate that has no end. If a bit is set with probability p, it is with
    p / 2 after "and" with a random one and with (1 + p) / 2 after "or": so the digits, from the last to the first, make
    up the rate. Masks come from PyTorch's generator in either case.

    Args:
        rate: Probability with which an element is set to zero, in [0, 1).
        fast: ``False`` draws the masks that ``nn.Dropout`` would, as is done on other devices anyway.
    """

    def __init__(self, rate: float, fast: bool = True) -> None:
        super().__init__(rate)
        self.fast = fast

    @property
    def is_active(self) -> bool:
        """Whether anything can be dropped: in training, at a rate above zero."""
        return self.training and self.p > 0

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Zeroes elements and scales the rest by 1 / (1 - rate); in evaluation, nothing."""
        if not (self.fast and self.is_active and input.device.type == "cpu"):
            return super().forward(input)
        return input * self._keep(input).to(input.dtype) / (1 - self.p)

    def zero_(self, values: Tensor) -> None:
        """Zeroes elements in place and scales nothing; in evaluation, nothing at all.

        Args:
            values: On a CPU, of any shape whose elements lie side by side in some order.
        """
        if not self.is_active:
            return
        if not self.fast:
            values.mul_(torch.empty_like(values).bernoulli_(1 - self.p))
        elif values.element_size() == 2:  # as integers: bool becomes bf16 one element at a time
            values.view(torch.int16).mul_(self._keep(values).to(torch.int16))
        else:
            values.mul_(self._keep(values).to(values.dtype))

    def _keep(self, like: Tensor) -> Tensor:
        """1 where an element stays and 0 where it goes, uint8, in the shape and memory order of ``like``."""
        drop = torch.zeros(-(-like.numel() // 64), dtype=torch.int64)
        digits = min(round(self.p * 2**_DIGITS), 2**_DIGITS - 1)
        for digit in reversed(f"{digits:0{_DIGITS}b}".rstrip("0")):
            word = torch.empty_like(drop).random_(-(2**63), None)
            drop = drop.bitwise_or_(word) if digit == "1" else drop.bitwise_and_(word)
        keep = torch.from_numpy(np.unpackbits(drop.bitwise_not_().numpy().view(np.uint8), count=like.numel()))
        return keep.as_strided(like.shape, torch.empty_like(like, device="meta").stride())


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
