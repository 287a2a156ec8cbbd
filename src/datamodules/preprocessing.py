"""What happens to an image between the file and the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cxrlab.errors import check_choice, check_range

FITS = ("squeeze", "pad", "crop")
CONTRASTS = ("none", "clahe", "histeq")
CLAHE_CLIP_LIMIT = 2.0
"""A bin of a tile's histogram keeps at most so many times the mean bin; the rest is spread over all bins."""
CLAHE_TILES = (8, 8)


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image between the file and the network; it travels with the weights.

    The steps, in this order: cut the border off, make it grey, fit, change the contrast, and pad (so that black bars do
    not count as part of the picture).

    Attributes:
        height: Pixels, at least 1.
        width: Pixels, at least 1.
        channels: 3 (RGB, the paper's) or 1 (grey, ITU-R 601 luma).
        fit: How the picture comes to fill height and width: ``squeeze`` (the paper's: the aspect ratio is lost),
            ``pad`` (it is kept, black bars on two sides) or ``crop`` (it is kept, the largest centred part is shown).
        contrast: Of the luma, after resizing: ``none``, ``clahe`` (contrast-limited adaptive histogram equalisation,
            Zuiderveld 1994; clip limit 2, 8x8 tiles) or ``histeq`` (histogram equalisation). Hue is kept.
        border: Share of the height cut off at top and bottom each, and of the width at left and right, in [0, 0.4).
    """

    height: int
    width: int
    channels: int = 3
    fit: str = "squeeze"
    contrast: str = "none"
    border: float = 0.0

    @classmethod
    def create(
        cls,
        image_size: int | Sequence[int],
        channels: int = 3,
        fit: str = "squeeze",
        contrast: str = "none",
        border: float = 0.0,
    ) -> Preprocessing:
        """Builds from ``image_size`` as the user writes it: one number for a square, or ``[height, width]``.

        Raises:
            ValueError: Names the value that is out of range, and what is allowed.
        """
        sides = [image_size, image_size] if isinstance(image_size, int) else image_size
        if isinstance(sides, str) or not isinstance(sides, Sequence) or len(sides) != 2:
            raise ValueError(f"image_size must be one number or [height, width], got {image_size!r}")
        for side in sides:
            check_range("image_size", side, 1, 8192, integer=True)
        check_choice("channels", channels, (1, 3))
        check_choice("fit", fit, FITS)
        check_choice("contrast", contrast, CONTRASTS)
        check_range("border", border, 0, 0.4, high_open=True)
        return cls(int(sides[0]), int(sides[1]), channels, fit, contrast, float(border))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Rebuilds what :meth:`as_dict` gave, also of checkpoints written when there were only sizes and channels.

        Raises:
            KeyError: No height or width.
            ValueError: A key that does not exist, or a value out of range; the file is untrusted.
        """
        options = {key: value for key, value in values.items() if key not in {"height", "width"}}
        for key in options:
            check_choice("preprocessing", key, ("channels", "fit", "contrast", "border"))
        return cls.create([values["height"], values["width"]], **options)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image as the network sees it."""
        return self.channels, self.height, self.width

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Brings one image to the network's size, by bilinear interpolation as the paper does.

        Args:
            rgb: Shape (any height, any width, 3), uint8.

        Returns:
            Shape (height, width, channels), uint8.
        """
        top, left = int(rgb.shape[0] * self.border), int(rgb.shape[1] * self.border)
        image = rgb[top : rgb.shape[0] - top, left : rgb.shape[1] - left]
        if self.channels == 1:
            image = _uint8(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        rows, columns = image.shape[:2]
        height, width = self.height, self.width
        if self.fit == "crop":  # the largest centred part of the wanted aspect ratio
            cut = min(rows, max(1, round(columns * height / width)))
            rows, columns = cut, min(columns, max(1, round(rows * width / height)))
            top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
            image = image[top : top + rows, left : left + columns]
        elif self.fit == "pad":  # the largest size of the image's own aspect ratio that fits
            scale = min(height / rows, width / columns)
            height, width = max(1, round(rows * scale)), max(1, round(columns * scale))
        image = _uint8(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
        if self.contrast != "none":
            image = _change_luma(image, self.contrast)
        canvas = np.zeros((self.height, self.width, self.channels), np.uint8)
        top, left = (self.height - height) // 2, (self.width - width) // 2
        canvas[top : top + height, left : left + width] = image.reshape(height, width, self.channels)
        return canvas

    @staticmethod
    def to_float(images: torch.Tensor) -> torch.Tensor:
        """Turns a batch (N, height, width, channels) uint8 into (N, channels, height, width) float32 in [0, 1].

        The result lies in ``channels_last`` memory order, which is also the order in which convolutions are fastest.
        """
        return images.permute(0, 3, 1, 2).to(torch.float32).div_(255)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint, one per attribute."""
        return asdict(self)


def _uint8(image: Any) -> NDArray[np.uint8]:
    return np.asarray(image, dtype=np.uint8)


def _change_luma(image: NDArray[np.uint8], contrast: str) -> NDArray[np.uint8]:
    grey = image.ndim == 2
    parts = image if grey else cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)  # a grey pixel comes back as exactly its luma
    luma = np.ascontiguousarray(parts if grey else parts[..., 0])
    # One per call: it keeps the tables of its tiles, and images are prepared in threads.
    clahe = cv2.createCLAHE(CLAHE_CLIP_LIMIT, CLAHE_TILES)
    changed = cv2.equalizeHist(luma) if contrast == "histeq" else clahe.apply(luma)
    if grey:
        return _uint8(changed)
    parts[..., 0] = changed
    return _uint8(cv2.cvtColor(parts, cv2.COLOR_YCrCb2RGB))
