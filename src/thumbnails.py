"""What the gate sees of an image: one definition for what trains it and for what uses it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlab.errors import check_range

THUMBNAIL = 128
"""Pixels, the longer side of a thumbnail."""
_EVEN = 16  # grey levels between the darkest and the lightest pixel of a line that belongs to a frame
_LEAST = 0.25  # of either side is kept, whatever is even
_FLAT = 2.0  # grey levels; a spread below this is not stretched any further, or noise would fill a blank image


def thumbnail(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A small copy with the aspect kept: averaged where the image is larger, bilinear where it is smaller.

    Args:
        rgb: Shape (height, width, 3), uint8, of any size.

    Returns:
        Likewise, with a longer side of 128 pixels.

    Raises:
        ValueError: Another type or shape, or no pixel.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise ValueError(f"images must be uint8 (height, width, 3), got {rgb.dtype} {rgb.shape}")
    small: NDArray[np.uint8] = _fitted(rgb, THUMBNAIL)
    return small


def luma(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """ITU-R 601 luma of an image (height, width, 3), uint8: (height, width), uint8."""
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY), np.uint8)


def unframed(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without the even lines at the edges, which slides, viewers, collimators and padding leave around a film.

    Args:
        grey: Shape (height, width), uint8.

    Returns:
        A part of it, at least a quarter of either side; all of it where a side would be less.
    """
    rows = _busy(np.ptp(grey, axis=1))
    columns = _busy(np.ptp(grey[rows], axis=0))
    return grey[rows, columns]


def square(grey: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """One grey image as the network sees it, whatever its brightness and contrast.

    Its frame is cut off, the longer side becomes ``size``, the aspect is kept; mean 0 and standard deviation 1 over the
    picture; the rest of the square is 0, on both sides alike.

    Args:
        grey: Shape (height, width), uint8.
        size: Pixels, at least 8.

    Returns:
        Shape (size, size), float32.
    """
    check_range("size", size, 8, 1024, integer=True)
    small = _fitted(unframed(grey), size).astype(np.float32)
    spread = max(float(small.std()), _FLAT)
    height, width = small.shape
    top, left = (size - height) // 2, (size - width) // 2
    canvas = np.zeros((size, size), np.float32)
    canvas[top : top + height, left : left + width] = (small - small.mean()) / spread
    return canvas


def _busy(ranges: NDArray[np.uint8]) -> slice:
    """From the first to the last line that is not even; all lines where that is too little to be a film."""
    busy = np.flatnonzero(ranges > _EVEN)
    if not busy.size or busy[-1] + 1 - busy[0] < _LEAST * ranges.size:
        return slice(None)
    return slice(int(busy[0]), int(busy[-1]) + 1)


def _fitted(image: NDArray[np.uint8], side: int) -> Any:
    """The image with its longer side at so many pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=interpolation), np.uint8)
