"""The separable network of Bennett (2020), the paper's reference 3."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from cxrlab.errors import check_range
from cxrlab.models.layers import check_built_for, height_and_width, init_like_keras

_FILTERS = (32, 64, 128, 256)
_LEAST_SIDE = 32  # pixels: five poolings leave one


class Conv2dRelu(nn.Conv2d):
    """A convolution followed by ReLU, which in Keras is one layer."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the parent's name)
        """(N, inputs, H, W) -> (N, filters, H, W)."""
        return F.relu(super().forward(input))


class SeparableConv2dRelu(nn.Module):
    """Keras's ``SeparableConv2D``, 3x3 and "same": a filter per channel, a 1x1 mixture with bias, ReLU."""

    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, filters, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, filters, H, W)."""
        return F.relu(self.pointwise(self.depthwise(features)))


class LinearRelu(nn.Linear):
    """A dense layer followed by ReLU, which in Keras is one layer."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the parent's name)
        """(N, inputs) -> (N, units)."""
        return F.relu(super().forward(input))


class Bennett(nn.Module):
    """Two convolutions, four blocks of separable ones, four dense layers; layers are named as Keras names them.

    J. Bennett, "World's first known open-source machine learning -> convolutional artificial neural network in Covid19
    XRay diagnosis", ResearchGate, 2020; layers as in its program
    (github.com/JordanMicahBennett/SMART-CT-SCAN_BASED-COVID19_VIRUS_DETECTOR). At 150 x 150 x 3, shapes channels last:

    ==================================================  =============  ==========
    layers                                              output shape   parameters
    ==================================================  =============  ==========
    conv2d, conv2d_1, max_pooling2d                     (75, 75, 16)        2,768
    separable_conv2d, _1, batch_normalization, pooling  (37, 37, 32)        2,096
    separable_conv2d_2, _3, and the same                (18, 18, 64)        7,264
    separable_conv2d_4, _5, and the same, dropout       (9, 9, 128)        26,816
    separable_conv2d_6, _7, and the same, dropout_1     (4, 4, 256)       102,784
    flatten                                             (4096,)                 0
    dense, dropout_2                                    (512,)          2,097,664
    dense_1, dropout_3                                  (128,)             65,664
    dense_2, dropout_4                                  (64,)               8,256
    dense_3                                             (1,)                   65
    ==================================================  =============  ==========

    These are 2,313,377 parameters and, counted by Keras among its 2,314,337 in all, the 960 means and variances of the
    four batch normalisations, which PyTorch holds as buffers.

    Keras's defaults are kept: Glorot-uniform kernels (Glorot and Bengio 2010), zero biases, batch normalisation after
    the ReLU with epsilon 0.001.

    Args:
        image_size: Side of the square input in pixels, or ``[height, width]``, at least 32.
        in_channels: Channels of the input, at least 1.
        dropout: Rates after the third block, the fourth, and the dense layers of 512, 128 and 64, each in [0, 1).
        momentum: Share of the old mean and variance that a step keeps in batch normalisation, Keras's convention, in
            [0, 1).

    Raises:
        ValueError: An argument is out of range, or the image is too small to be pooled five times.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 150,
        in_channels: int = 3,
        dropout: Sequence[float] = (0.2, 0.2, 0.7, 0.5, 0.3),
        momentum: float = 0.99,
    ) -> None:
        super().__init__()
        check_range("in_channels", in_channels, 1, integer=True)
        check_range("momentum", momentum, 0, 1, high_open=True)
        if isinstance(dropout, str) or not isinstance(dropout, Sequence) or len(dropout) != 5:
            raise ValueError(f"dropout must be a list of five numbers, got {dropout!r}")
        for index, rate in enumerate(dropout):
            check_range(f"dropout[{index}]", rate, 0, 1, high_open=True)
        self.input_shape = (in_channels, *height_and_width(image_size))
        _, height, width = self.input_shape
        if min(height, width) < _LEAST_SIDE:
            raise ValueError(
                f"image_size {height}x{width} is too small: at least {_LEAST_SIDE}x{_LEAST_SIDE} is needed"
            )
        layers: list[tuple[str, nn.Module]] = [
            ("conv2d", Conv2dRelu(in_channels, 16, 3, padding=1)),
            ("conv2d", Conv2dRelu(16, 16, 3, padding=1)),
            ("max_pooling2d", nn.MaxPool2d(2)),
        ]
        inputs = 16
        for block, filters in enumerate(_FILTERS):
            layers += [
                ("separable_conv2d", SeparableConv2dRelu(inputs, filters)),
                ("separable_conv2d", SeparableConv2dRelu(filters, filters)),
                ("batch_normalization", nn.BatchNorm2d(filters, eps=1e-3, momentum=1 - momentum)),
                ("max_pooling2d", nn.MaxPool2d(2)),
            ]
            if block >= 2:
                layers.append(("dropout", nn.Dropout(dropout[block - 2])))
            inputs = filters
        layers.append(("flatten", nn.Flatten()))
        inputs *= (height // 32) * (width // 32)
        for units, rate in zip((512, 128, 64), dropout[2:], strict=True):
            layers += [("dense", LinearRelu(inputs, units)), ("dropout", nn.Dropout(rate))]
            inputs = units
        layers.append(("dense", nn.Linear(inputs, 1)))
        self.layers = nn.Sequential(_numbered(layers))
        self.apply(init_like_keras)

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits.

        Args:
            images: Float images in [0, 1] of shape (N, C, H, W), in either memory format.

        Returns:
            Logits of class Positive, of shape (N, 1).

        Raises:
            ValueError: The images are not of the size that the network was built for.
        """
        check_built_for(self.input_shape, images)
        logits: Tensor = self.layers(images)
        return logits


def _numbered(layers: Sequence[tuple[str, nn.Module]]) -> OrderedDict[str, nn.Module]:
    """Gives layers of the same name Keras's suffixes: conv2d, conv2d_1 and so on."""
    seen: Counter[str] = Counter()
    named: OrderedDict[str, nn.Module] = OrderedDict()
    for name, layer in layers:
        named[f"{name}_{seen[name]}" if seen[name] else name] = layer
        seen[name] += 1
    return named
