"""Arrays as pictures that stand inside a page: the film, the map on it, the outline of lungs."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlab.datamodules import Preprocessing
from cxrlab.figures import coloured

LONGEST = 1024
"""Pixels along the longer side of a film as shown; the network got the whole."""
_QUALITY = 92  # of JPEG: no block is seen at this size, a tenth of what PNG takes
_COARSE = 512  # pixels along the longer side on which an outline is drawn
_SMOOTH = 0.002  # of an outline's length: how far its corners may be straightened


@dataclass(frozen=True)
class Field:
    """The part of a film that a network sees.

    Attributes:
        left: Share of the film's width, in [0, 1].
        top: Share of its height.
        width: Likewise.
        height: Likewise.
        rows: Of the network's image: where this part lies in it; the rest is black bars.
        columns: Likewise.
    """

    left: float
    top: float
    width: float
    height: float
    rows: slice
    columns: slice

    @property
    def whole(self) -> bool:
        """Whether nothing of the film is left out."""
        return (self.left, self.top, self.width, self.height) == (0, 0, 1, 1)


def field(preprocessing: Preprocessing, height: int, width: int) -> Field:
    """Which part of a film of this size :meth:`Preprocessing.apply` brings to the network, and where to.

    Args:
        preprocessing: The model's.
        height: Of the film, pixels.
        width: Likewise.
    """
    top, left = int(height * preprocessing.border), int(width * preprocessing.border)
    rows, columns = height - 2 * top, width - 2 * left
    seen = slice(0, preprocessing.height), slice(0, preprocessing.width)
    if preprocessing.fit == "crop":
        kept = (
            min(rows, max(1, round(columns * preprocessing.height / preprocessing.width))),
            min(columns, max(1, round(rows * preprocessing.width / preprocessing.height))),
        )
        top, left = top + (rows - kept[0]) // 2, left + (columns - kept[1]) // 2
        rows, columns = kept
    elif preprocessing.fit == "pad":
        scale = min(preprocessing.height / rows, preprocessing.width / columns)
        inner = max(1, round(rows * scale)), max(1, round(columns * scale))
        above, before = (preprocessing.height - inner[0]) // 2, (preprocessing.width - inner[1]) // 2
        seen = slice(above, above + inner[0]), slice(before, before + inner[1])
    return Field(left / width, top / height, columns / width, rows / height, *seen)


def film(rgb: NDArray[np.uint8]) -> tuple[str, int, int]:
    """An image for a page.

    Args:
        rgb: Shape (height, width, 3), uint8.

    Returns:
        A ``data:`` address, and width and height as they are shown.
    """
    small = shrunk(rgb, LONGEST)
    pixels = small[..., 0] if _is_grey(small) else small[..., ::-1]
    return _address(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]), small.shape[1], small.shape[0]


def lossless(rgb: NDArray[np.uint8]) -> bytes:
    """An image as PNG, quickly rather than small: it goes no further than to the browser.

    Args:
        rgb: Shape (height, width, 3), uint8.
    """
    pixels = rgb[..., 0] if _is_grey(rgb) else rgb[..., ::-1]
    return _encoded(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def heat_layer(heat: NDArray[np.float32], seen: Field) -> str:
    """A map as a picture to be laid on a film: colours by strength, and clear where there is nothing.

    Args:
        heat: Shape (height, width) as the network's image, at least 0; shown relative to its largest value.
        seen: What of it lies on the film.

    Returns:
        A ``data:`` address.
    """
    # Coloured as a whole, then cut: where the network looked at black bars most, the film stays pale.
    layer = coloured(heat)[seen.rows, seen.columns]
    pixels = (layer * 255).round().astype(np.uint8)
    return _address(".png", pixels[..., [2, 1, 0, 3]])


def outline(mask: NDArray[np.bool_]) -> tuple[str, int, int]:
    """Edges of a mask as an SVG path.

    Args:
        mask: Shape (height, width).

    Returns:
        The path's ``d``, empty where nothing is marked, and width and height of its coordinates.
    """
    small = shrunk(mask.astype(np.uint8) * 255, _COARSE)
    edges, _ = cv2.findContours((small > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    parts = []
    for edge in edges:
        points = cv2.approxPolyDP(edge, _SMOOTH * cv2.arcLength(edge, True), True)[:, 0]
        parts.append("M" + "L".join(f"{int(x)} {int(y)}" for x, y in points) + "Z")
    return "".join(parts), small.shape[1], small.shape[0]


def shrunk(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """An image whose longer side is at most so many pixels."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _is_grey(rgb: NDArray[np.uint8]) -> bool:
    return np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 1], rgb[..., 2])


def _address(ending: str, pixels: NDArray[np.uint8], options: list[int] | None = None) -> str:
    kind = {".jpg": "jpeg", ".png": "png"}[ending]
    return f"data:image/{kind};base64,{base64.b64encode(_encoded(ending, pixels, options)).decode('ascii')}"


def _encoded(ending: str, pixels: NDArray[np.uint8], options: list[int] | None) -> bytes:
    written, data = cv2.imencode(ending, np.ascontiguousarray(pixels), options or [])
    assert written  # 8 bits and 1, 3 or 4 channels always can be
    return data.tobytes()
