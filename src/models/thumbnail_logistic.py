"""Logistic regression on a thumbnail: the floor that any network has to clear."""

from __future__ import annotations

from torch import Tensor, nn

from cxrlab.errors import check_range
from cxrlab.models.layers import AreaPool2d


class ThumbnailLogistic(nn.Module):
    """A linear model on the image's average brightness in ``size`` x ``size`` tiles: 193 parameters with the defaults.

    Nothing of a lung can be recognised in 8 x 8 pixels. Where this model does well, exposure, borders or the shape of
    the frame tell the classes apart, and a network's score on the same data is worth as much less.

    Tiles come in [0, 1] and are taken as ``4 (x - 0.5)``: zero mean and unit deviation for pixels of mean 1/2 and
    deviation 1/4, about a radiograph's, without looking at any data. Adam's steps of 0.001 then fit a hundred images in
    20 epochs. The weights start at zero, as the problem is convex: seeds differ by the order of the batches only.

    Args:
        size: Tiles along each side, at least 1.
        in_channels: Channels of the input, at least 1.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, size: int = 8, in_channels: int = 3) -> None:
        super().__init__()
        check_range("size", size, 1, integer=True)
        check_range("in_channels", in_channels, 1, integer=True)
        self.thumbnail = AreaPool2d(size, size)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(in_channels * size * size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits.

        Args:
            images: Float images in [0, 1] of shape (N, ``in_channels``, H, W), of any size.

        Returns:
            Logits of class Positive, of shape (N, 1).
        """
        tiles = self.flatten(self.thumbnail(images))
        logits: Tensor = self.linear(4 * (tiles - 0.5))
        return logits
