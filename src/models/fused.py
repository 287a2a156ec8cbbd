"""Convolution, pooling, ReLU and dropout in one step of autograd, for a CPU.

There the paper's network spends as long on moving its activations, hundreds of megabytes each, as on arithmetic. The
functions here compute what the layers one by one would, gradients included, and touch memory less often:

* ReLU comes after the pooling, on a quarter of the elements. It is monotone, so the largest value stays the largest,
  and where that is not positive either order gives zero and no gradient.
* The gradient of the bias is the sum of the pooled gradient. oneDNN's own, computed along with the weights', takes up
  to a third of their time in float32.
* What dropout and ReLU let through is where the output is positive: no mask is kept, and neither is the convolution's
  output, the largest tensor of all, of which there is never more than a part.
* Dropout's factor 1 / (1 - rate) is positive, so weights and bias can bear it, which are small.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cxrlab.models.layers import Dropout

_ATEN = torch.ops.aten
_STRIDE, _PADDING, _DILATION = [1, 1], [0, 0], [1, 1]
_PART_BYTES = 100 * 2**20  # of a convolution's output at a time: larger is no faster, smaller slows oneDNN down


def conv_relu(images: Tensor, conv: nn.Conv2d) -> Tensor:
    """``relu(conv(images))``.

    Args:
        images: Shape (N, C, H, W), float, on a CPU.
        conv: Of stride 1, without padding, with a bias.
    """
    output: Tensor = _ConvRelu.apply(*_cast(images, conv.weight, conv.bias))
    return output


def conv_pool_relu_dropout(images: Tensor, conv: nn.Conv2d, pool: nn.MaxPool2d, dropout: Dropout) -> Tensor:
    """``dropout(relu(pool(conv(images))))``.

    Args:
        images: Shape (N, C, H, W), float, on a CPU.
        conv: Of stride 1, without padding, with a bias.
        pool: Whose windows do not overlap.
        dropout: Its masks are drawn from PyTorch's generator, as the layer itself would draw them.
    """
    assert conv.bias is not None
    weight, bias = conv.weight, conv.bias
    if dropout.is_active:
        weight, bias = weight / (1 - dropout.p), bias / (1 - dropout.p)
    output: Tensor = _ConvPoolReluDropout.apply(*_cast(images, weight, bias), pool, dropout)
    return output


def _cast(*tensors: Tensor | None) -> list[Tensor | None]:
    """What autocast would do to the arguments of a convolution; it does not look into functions of our own."""
    if not torch.is_autocast_enabled("cpu"):
        return list(tensors)
    return [tensor if tensor is None else tensor.to(torch.get_autocast_dtype("cpu")) for tensor in tensors]


class _ConvRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        output = torch.conv2d(images, weight, bias).relu_()
        ctx.save_for_backward(images, weight, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        images, weight, output = ctx.saved_tensors
        sums = _Sums(ctx, images, weight)
        for part in _parts(output.shape, output):
            sums.add(part, _ATEN.threshold_backward(gradient[part], output[part], 0))
        return sums.images, sums.weight.to(weight.dtype), sums.bias.to(weight.dtype)


class _ConvPoolReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, pool: nn.MaxPool2d, dropout: Dropout) -> Tensor:
        assert isinstance(pool.kernel_size, int)
        side = pool.kernel_size
        ctx.window = [[side, side], [side, side], _PADDING, _DILATION, False]
        ctx.shape = (len(images), len(weight), *(length - weight.shape[-1] + 1 for length in images.shape[2:]))
        pooled = (*ctx.shape[:2], *(length // side for length in ctx.shape[2:]))
        output = torch.empty(pooled, dtype=images.dtype, memory_format=_memory_format(images))
        indices = torch.empty_like(output, dtype=torch.int64)
        for part in _parts(ctx.shape, output):
            convolved = torch.conv2d(images[part], weight, bias)
            _ATEN.max_pool2d_with_indices.out(convolved, *ctx.window, out=output[part], indices=indices[part])
        dropout.zero_(output.relu_())
        ctx.save_for_backward(images, weight, output, indices)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        images, weight, output, indices = ctx.saved_tensors
        order = _memory_format(output)
        gradient = gradient.contiguous(memory_format=order)
        sums = _Sums(ctx, images, weight)
        for part in _parts(ctx.shape, output):
            pooled = _ATEN.threshold_backward(gradient[part], output[part], 0)
            # PyTorch asks for the pooling's input, and looks at its shape and memory order only: the result will do.
            unpooled = torch.empty((len(pooled), *ctx.shape[1:]), dtype=pooled.dtype, memory_format=order)
            _ATEN.max_pool2d_with_indices_backward.grad_input(
                pooled, unpooled, *ctx.window, indices[part], grad_input=unpooled
            )
            sums.add(part, unpooled, bias=pooled)
        return sums.images, sums.weight.to(weight.dtype), sums.bias.to(weight.dtype), None, None


class _Sums:
    """Gradients of a convolution, gathered part by part of a batch; those of weight and bias in at least float32."""

    def __init__(self, ctx: Any, images: Tensor, weight: Tensor) -> None:
        self._of, self._wanted = (images, weight), [bool(ctx.needs_input_grad[0]), True, False]
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.images = torch.empty_like(images) if ctx.needs_input_grad[0] else None
        self.weight = torch.zeros_like(weight, dtype=dtype)
        self.bias = torch.zeros(len(weight), dtype=dtype)

    def add(self, part: slice, gradient: Tensor, bias: Tensor | None = None) -> None:
        """Adds a part, of which the gradient of the output is given, and one whose sum is the bias's, if another."""
        images, weight = self._of
        of_images, of_weight, _ = _ATEN.convolution_backward(
            gradient, images[part], weight, None, _STRIDE, _PADDING, _DILATION, False, [0, 0], 1, self._wanted
        )
        if self.images is not None:
            self.images[part] = of_images
        self.weight += of_weight
        self.bias += (gradient if bias is None else bias).sum((0, 2, 3), dtype=self.bias.dtype)


def _parts(shape: tuple[int, ...], values: Tensor) -> list[slice]:
    """Stretches of a batch, for each of which a convolution's output, of this shape in all, is not too large."""
    step = max(1, _PART_BYTES // (values.element_size() * math.prod(shape[1:])))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _memory_format(tensor: Tensor) -> torch.memory_format:
    channels_last = tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
