"""DarkCovidNet of Ozturk et al. (2020), with the padding it was published with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from cxrlab.errors import check_range
from cxrlab.models.layers import check_built_for, height_and_width

_LEAST_SIDE = 4  # pixels: the first two poolings leave one, and everything after them pads


class DarkCovidNet(nn.Module):
    """A small Darknet-19 for chest X-rays: 17 convolutions, 1,164,434 parameters at 256 x 256 x 3.

    Ozturk et al., "Automated detection of COVID-19 cases using deep neural networks with X-ray images", Computers in
    Biology and Medicine 121 (2020) 103792, doi 10.1016/j.compbiomed.2020.103792; what the paper leaves open follows the
    authors' notebook (github.com/muhammedtalo/COVID-19).

    A unit is convolution without bias, batch normalisation, LeakyReLU 0.1; a triple is a 3x3 unit to twice the filters,
    a 1x1 unit back, a 3x3 unit again. **Every convolution pads by 1, those with 1x1 kernels too**, so that each of
    these adds a frame of zeros and the maps grow by 2. At 256 x 256 (shapes channels last):

    ========  =============  ==========
    layer     output shape   parameters
    ========  =============  ==========
    conv_1    (256, 256, 8)         232
    pool_1    (128, 128, 8)           0
    conv_2    (128, 128, 16)      1,184
    pool_2    (64, 64, 16)            0
    triple_1  (66, 66, 32)        9,888
    pool_3    (33, 33, 32)            0
    triple_2  (35, 35, 64)       39,232
    pool_4    (17, 17, 64)            0
    triple_3  (19, 19, 128)     156,288
    pool_5    (9, 9, 128)             0
    triple_4  (11, 11, 256)     623,872
    conv_3    (13, 13, 128)      33,024
    conv_4    (13, 13, 256)     295,424
    conv_5    (13, 13, 2)         4,612
    flatten   (338,)                  0
    linear    (2,)                  678
    ========  =============  ==========

    The last convolution is fastai's: Kaiming-normal weights, and ReLU *before* batch normalisation, whose bias starts
    at 0.001. All other weights start as PyTorch draws them.

    The published network has an output per class and is trained with softmax cross-entropy. Here both outputs are kept,
    in the order Negative, Positive, and ``forward`` returns their difference, Positive minus Negative: binary
    cross-entropy on it is that softmax cross-entropy, and its sigmoid is the softmax probability of Positive. (The
    notebook's classes, sorted by name, have the other order.)

    Args:
        image_size: Side of the square input in pixels, or ``[height, width]``; the linear layer is built for it.
        in_channels: Channels of the input, at least 1.

    Raises:
        ValueError: An argument is out of range, or the image is too small to be pooled.
    """

    def __init__(self, image_size: int | Sequence[int] = 256, in_channels: int = 3) -> None:
        super().__init__()
        check_range("in_channels", in_channels, 1, integer=True)
        self.input_shape = (in_channels, *height_and_width(image_size))
        _, height, width = self.input_shape
        if min(height, width) < _LEAST_SIDE:
            raise ValueError(
                f"image_size {height}x{width} is too small: at least {_LEAST_SIDE}x{_LEAST_SIDE} is needed"
            )
        layers: dict[str, nn.Module] = {
            "conv_1": _unit(in_channels, 8),
            "pool_1": nn.MaxPool2d(2),
            "conv_2": _unit(8, 16),
            "pool_2": nn.MaxPool2d(2),
            "triple_1": _triple(16),
            "pool_3": nn.MaxPool2d(2),
            "triple_2": _triple(32),
            "pool_4": nn.MaxPool2d(2),
            "triple_3": _triple(64),
            "pool_5": nn.MaxPool2d(2),
            "triple_4": _triple(128),
            "conv_3": _unit(256, 128, kernel=1),
            "conv_4": _unit(128, 256),
            "conv_5": _last_unit(256, 2),
            "flatten": nn.Flatten(),
            "linear": nn.Linear(2 * _last_side(height) * _last_side(width), 2),
        }
        self.layers = nn.Sequential(OrderedDict(layers))

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits.

        Args:
            images: Float images in [0, 1] of shape (N, C, H, W), in either memory format. (The authors normalise by
                the mean and deviation of a batch; the first batch normalisation makes up for that but at the frame.)

        Returns:
            Logits of class Positive, of shape (N, 1).

        Raises:
            ValueError: The images are not of the size that the network was built for.
        """
        check_built_for(self.input_shape, images)
        outputs: Tensor = self.layers(images)
        return outputs[:, 1:] - outputs[:, :1]


def _unit(inputs: int, filters: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, filters, kernel, padding=1, bias=False),  # 1 whatever the kernel, as published
        nn.BatchNorm2d(filters),
        nn.LeakyReLU(0.1, inplace=True),
    )


def _triple(inputs: int) -> nn.Sequential:
    return nn.Sequential(_unit(inputs, 2 * inputs), _unit(2 * inputs, inputs, kernel=1), _unit(inputs, 2 * inputs))


def _last_unit(inputs: int, filters: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, filters, 3, padding=1, bias=False)
    norm = nn.BatchNorm2d(filters)
    nn.init.kaiming_normal_(convolution.weight)
    nn.init.constant_(norm.bias, 1e-3)
    return nn.Sequential(convolution, nn.ReLU(inplace=True), norm)


def _last_side(side: int) -> int:
    """Height or width of the last maps: two poolings, three triples with theirs, a triple and a 1x1 unit."""
    side //= 4
    for _ in range(3):
        side = (side + 2) // 2
    return side + 4
