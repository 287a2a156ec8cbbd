"""The paper's convolutional network, layer by layer as its Fig. 6 prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrlab.errors import check_choice, check_range
from cxrlab.models.fused import conv_pool_relu_dropout, conv_relu
from cxrlab.models.layers import (
    Dropout,
    check_built_for,
    height_and_width,
    in_memory_order,
    init_like_keras,
    is_watched,
)

_CONVOLUTIONS = ("conv2d", "conv2d_1", "conv2d_2")
_NORMS = ("batch_normalization", "batch_normalization_1", "batch_normalization_2")
_NORM_VARIABLES = ("gamma", "beta", "moving_mean", "moving_variance")


class GlobalAveragePooling2D(nn.Module):
    """Mean over height and width: (N, C, H, W) -> (N, C)."""

    def forward(self, features: Tensor) -> Tensor:
        """Averages over the last two axes."""
        return features.mean(dim=(2, 3))


class PaperCNN(nn.Module):
    """The 24-million-parameter COVID-19 classifier of the paper; every choice it made is an argument.

    With the defaults the layers, their names, shapes and parameter counts are those of the paper's Fig. 6 (shapes
    channel-last, as printed there):

    ================  ===================  ==========
    layer             output shape         parameters
    ================  ===================  ==========
    conv2d            (222, 222, 32)              896
    conv2d_1          (220, 220, 64)           18,496
    max_pooling2d     (110, 110, 64)                0
    dropout           (110, 110, 64)                0
    conv2d_2          (108, 108, 128)          73,856
    max_pooling2d_1   (54, 54, 128)                 0
    dropout_1         (54, 54, 128)                 0
    flatten           (373248,)                     0
    dense             (64,)                23,887,936
    dropout_2         (64,)                         0
    dense_1           (1,)                         65
    ================  ===================  ==========

    23,981,249 parameters in all, every one of them trainable. The paper reports 39 of its 40 test images right
    (Table I, Fig. 9), with those images also serving as the validation set.

    Args:
        image_size: Side of the square input in pixels, or ``[height, width]``.
        in_channels: Channels of the input, at least 1.
        filters: Filters of the three convolutions, each at least 1.
        kernel: Side of every convolution kernel, at least 1; no padding ("valid").
        pool: Side and stride of both max poolings, at least 1.
        dense_units: Width of the hidden dense layer, at least 1.
        dropout: Rates after the first pooling, the second pooling and the hidden dense layer, each in [0, 1).
        head: ``flatten`` as in the paper, or ``gap`` for global average pooling, which leaves a hundred thousand
            parameters and takes images of any size.
        norm: ``none`` as in the paper, or ``batch`` for batch normalisation between convolution and ReLU (with
            PyTorch's momentum 0.1 and epsilon 1e-5: Keras's momentum 0.99 needs more steps than the paper takes).
        init: ``keras`` for Glorot-uniform kernels and zero biases (Glorot and Bengio 2010; the paper's library's
            default), or ``torch`` for PyTorch's own.
        channels_last: Memory order of images and weights; changes no number, only time.
        fused: Compute on a CPU through :mod:`cxrlab.models.fused`: the same function and gradients but for rounding, in
            less time and memory. Without effect elsewhere and with ``norm="batch"``.
        fast_dropout: See :class:`~cxrlab.models.layers.Dropout`: other masks than PyTorch's, of the same distribution.

    Raises:
        ValueError: An argument is out of range, or the image is too small to be pooled twice.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        in_channels: int = 3,
        filters: Sequence[int] = (32, 64, 128),
        kernel: int = 3,
        pool: int = 2,
        dense_units: int = 64,
        dropout: Sequence[float] = (0.25, 0.25, 0.5),
        head: str = "flatten",
        norm: str = "none",
        init: str = "keras",
        channels_last: bool = True,
        fused: bool = True,
        fast_dropout: bool = True,
    ) -> None:
        super().__init__()
        for name, value in {
            "in_channels": in_channels,
            "kernel": kernel,
            "pool": pool,
            "dense_units": dense_units,
        }.items():
            check_range(name, value, 1, integer=True)
        _check_three("filters", filters)
        for index, count in enumerate(filters):
            check_range(f"filters[{index}]", count, 1, integer=True)
        _check_three("dropout", dropout)
        for index, rate in enumerate(dropout):
            check_range(f"dropout[{index}]", rate, 0, 1, high_open=True)
        check_choice("head", head, ("flatten", "gap"))
        check_choice("norm", norm, ("none", "batch"))
        check_choice("init", init, ("keras", "torch"))
        for name, switch in {"channels_last": channels_last, "fused": fused, "fast_dropout": fast_dropout}.items():
            check_choice(name, switch, (True, False))
        self.channels_last, self.fused = channels_last, fused
        self.input_shape = (in_channels, *height_and_width(image_size))
        pooled = self._pooled_area(kernel, pool)

        first, second, third = filters
        batch = norm == "batch"
        self.conv2d = nn.Conv2d(in_channels, first, kernel)
        self.batch_normalization = nn.BatchNorm2d(first) if batch else None
        self.conv2d_1 = nn.Conv2d(first, second, kernel)
        self.batch_normalization_1 = nn.BatchNorm2d(second) if batch else None
        self.max_pooling2d = nn.MaxPool2d(pool)
        self.dropout = Dropout(dropout[0], fast_dropout)
        self.conv2d_2 = nn.Conv2d(second, third, kernel)
        self.batch_normalization_2 = nn.BatchNorm2d(third) if batch else None
        self.max_pooling2d_1 = nn.MaxPool2d(pool)
        self.dropout_1 = Dropout(dropout[1], fast_dropout)
        self.flatten = nn.Flatten() if head == "flatten" else None
        self.global_average_pooling2d = GlobalAveragePooling2D() if head == "gap" else None
        self.dense = nn.Linear(third * pooled if head == "flatten" else third, dense_units)
        self.dropout_2 = Dropout(dropout[2], fast_dropout)
        self.dense_1 = nn.Linear(dense_units, 1)
        if init == "keras":
            self.apply(init_like_keras)
        if channels_last:  # after the weights are drawn: a seed means the same ones in either order
            self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits.

        Args:
            images: Float images in [0, 1], RGB, of shape (N, C, H, W), in either memory format.

        Returns:
            Logits of class Positive, of shape (N, 1).

        Raises:
            ValueError: The images are not of the size that the flatten head was built for.
        """
        if self.flatten is not None:
            check_built_for(self.input_shape, images)
        images = in_memory_order(images, self.channels_last)
        x = self._fused_features(images) if self._is_fused(images) else self._features(images)
        x = _through(self.global_average_pooling2d, _through(self.flatten, x))
        x = self.dropout_2(F.relu(self.dense(x)))
        logits: Tensor = self.dense_1(x)
        return logits

    def _features(self, images: Tensor) -> Tensor:
        """What comes out of the second pooling, shape (N, filters, H', W').

        ReLU comes after the pooling where one directly follows the other: both keep the largest value if it is positive
        and give zero otherwise, gradients included, and a quarter of the elements are left to work on.
        """
        x = F.relu(_through(self.batch_normalization, self.conv2d(images)))
        x = _through(self.batch_normalization_1, self.conv2d_1(x))
        x = self.dropout(F.relu(self.max_pooling2d(x)))
        x = _through(self.batch_normalization_2, self.conv2d_2(x))
        features: Tensor = self.dropout_1(F.relu(self.max_pooling2d_1(x)))
        return features

    def _fused_features(self, images: Tensor) -> Tensor:
        """The same in fewer steps."""
        x = conv_relu(images, self.conv2d)
        x = conv_pool_relu_dropout(x, self.conv2d_1, self.max_pooling2d, self.dropout)
        return conv_pool_relu_dropout(x, self.conv2d_2, self.max_pooling2d_1, self.dropout_1)

    def _is_fused(self, images: Tensor) -> bool:
        """Not where something watches the layers, as saliency maps do, or follows what they compute: a compiler."""
        followed = torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        plain = self.batch_normalization is None and not any(map(is_watched, self.children()))
        return self.fused and images.device.type == "cpu" and plain and not followed

    def _pooled_area(self, kernel: int, pool: int) -> int:
        """Pixels left per filter after both poolings; refuses images that leave none."""
        lost = kernel - 1
        _, height, width = self.input_shape
        rows, columns = (((side - 2 * lost) // pool - lost) // pool for side in (height, width))
        if min(rows, columns) < 1:
            least = (pool + lost) * pool + 2 * lost
            raise ValueError(
                f"image_size {height}x{width} is too small for kernel {kernel} and pool {pool}: "
                f"at least {least}x{least} is needed"
            )
        return rows * columns


def from_keras(weights: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Turns the weights of the same network in Keras into a state dict of :class:`PaperCNN`.

    Convolution kernels go from (height, width, in, out) to (out, in, height, width), dense kernels from (in, out) to
    (out, in). The rows of the first dense kernel are reordered as well: Keras flattens channel-last, PyTorch
    channel-first.

    Args:
        weights: What ``model.get_weights()`` returns; or a mapping from ``layer/variable`` to array, where the layers
            bear Fig. 6's names and the variables are kernel, bias (gamma, beta, moving_mean, moving_variance). Longer
            paths such as ``sequential/conv2d/kernel`` are read by their last two parts.

    Returns:
        Float32 tensors for ``PaperCNN.load_state_dict``; copies, so the arrays stay the caller's.

    Raises:
        ValueError: Arrays are missing, left over or too many.
    """
    arrays = _by_name(weights)
    state: dict[str, Tensor] = {}
    for layer in _CONVOLUTIONS:
        state[f"{layer}.weight"] = _tensor(arrays[f"{layer}/kernel"].transpose(3, 2, 0, 1))
        state[f"{layer}.bias"] = _tensor(arrays[f"{layer}/bias"])
    for layer in _NORMS if f"{_NORMS[0]}/gamma" in arrays else ():
        for ours, theirs in zip(("weight", "bias", "running_mean", "running_var"), _NORM_VARIABLES, strict=True):
            state[f"{layer}.{ours}"] = _tensor(arrays[f"{layer}/{theirs}"])
        state[f"{layer}.num_batches_tracked"] = torch.tensor(0)
    channels, units = arrays["conv2d_2/bias"].size, arrays["dense/bias"].size
    by_pixel = arrays["dense/kernel"].reshape(-1, channels, units)
    state["dense.weight"] = _tensor(by_pixel.transpose(2, 1, 0).reshape(units, -1))
    state["dense.bias"] = _tensor(arrays["dense/bias"])
    state["dense_1.weight"] = _tensor(arrays["dense_1/kernel"].T)
    state["dense_1.bias"] = _tensor(arrays["dense_1/bias"])
    return state


def _by_name(weights: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Names the arrays ``layer/variable`` and checks that none is missing or left over."""
    batch = any("gamma" in name for name in weights) if isinstance(weights, Mapping) else len(weights) > 10
    expected = _keras_names(batch)
    if isinstance(weights, Mapping):
        named = {"/".join(name.split("/")[-2:]): np.asarray(array) for name, array in weights.items()}
        missing = [name for name in expected if name not in named]
        unknown = [name for name in named if name not in expected]
        if missing or unknown:
            raise ValueError(f"these are not the paper network's weights: missing {missing}, unknown {unknown}")
        return named
    if len(weights) != len(expected):
        raise ValueError(
            f"Keras stores the paper network in {len(_keras_names(False))} arrays "
            f"({len(_keras_names(True))} with batch normalisation), got {len(weights)}"
        )
    return {name: np.asarray(array) for name, array in zip(expected, weights, strict=True)}


def _keras_names(batch: bool) -> list[str]:
    """``layer/variable`` of every array, in the order of ``model.get_weights()``."""
    names: list[str] = []
    for layer, norm in zip(_CONVOLUTIONS, _NORMS, strict=True):
        names += [f"{layer}/kernel", f"{layer}/bias"]
        names += [f"{norm}/{variable}" for variable in _NORM_VARIABLES] if batch else []
    return [*names, "dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.tensor(np.ascontiguousarray(array), dtype=torch.float32)


def _through(layer: nn.Module | None, x: Tensor) -> Tensor:
    """The output of a layer that this configuration may not have."""
    return x if layer is None else layer(x)


def _check_three(name: str, values: Sequence[float]) -> None:
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 3:
        raise ValueError(f"{name} must be a list of three numbers, got {values!r}")
