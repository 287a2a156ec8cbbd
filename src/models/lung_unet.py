"""The small U-Net of the lung segmenter."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from cxrlab.errors import check_range
from cxrlab.imports import need


class LungUnet(nn.Module):
    """MONAI's residual U-Net with one grey channel in and one logit per pixel out: 584,343 parameters by default.

    Ronneberger et al., arXiv:1505.04597, with the residual units of Zhang et al., arXiv:1711.10684. Instance
    normalisation makes it indifferent to how bright and how contrasty a film was stored. Every level halves the sides,
    the first one at once; with five levels and 96 pixels the deepest sees most of the film, which is what finds a lung
    that is white from top to bottom.

    Args:
        channels: Of each level, 2 to 6 whole numbers of at least 1.

    Raises:
        MissingLibraryError: MONAI is not installed.
        ValueError: An argument is out of range.
    """

    def __init__(self, channels: Sequence[int] = (16, 32, 64, 128, 128)) -> None:
        super().__init__()
        if isinstance(channels, str) or not isinstance(channels, Sequence) or not 2 <= len(channels) <= 6:
            raise ValueError(f"channels must be a list of 2 to 6 whole numbers, got {channels!r}")
        for each in channels:
            check_range("channels", each, 1, 1024, integer=True)
        # Here, since MONAI takes seconds to import and few runs need it.
        library = need("monai.networks.nets.unet", "the lung segmentation model")
        self.channels = [int(each) for each in channels]
        self.unet = library.UNet(2, 1, 1, channels=self.channels, strides=[2] * (len(channels) - 1), num_res_units=1)

    @property
    def multiple(self) -> int:
        """What height and width must be a multiple of, pixels."""
        return int(2 ** (len(self.channels) - 1))

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits.

        Args:
            images: Float images in [0, 1] of shape (N, 1, H, W), sides a :attr:`multiple`.

        Returns:
            Logits of lung, of shape (N, 1, H, W).
        """
        logits: Tensor = self.unet(images)
        return logits
