"""Arrays as pictures that stand inside a page: the film, the map on it, the outline of lungs."""

from __future__ import annotations

import base64
from typing import NamedTuple

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


class Field(NamedTuple):
    """The part of a film that a network sees: shares of the film's width and height, in [0, 1]."""

    left: float
    top: float
    width: float
    height: float
    rows: slice  # of the network's image: where this part lies in it; the rest is black bars
    columns: slice

    @property
    def whole(self) -> bool:
        """Whether nothing of the film is left out."""
        return self[:4] == (0, 0, 1, 1)


def field(preprocessing: Preprocessing, height: int, width: int) -> Field:
    """Which part of a film of so many pixels :meth:`Preprocessing.apply` brings to the network, and where to."""
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


def film(rgb: NDArray[np.uint8]) -> str:
    """An image of shape (height, width, 3) as a ``data:`` address, at most :data:`LONGEST` pixels along a side."""
    return _address("jpeg", _channels(shrunk(rgb, LONGEST)), cv2.IMWRITE_JPEG_QUALITY, _QUALITY)


def lossless(rgb: NDArray[np.uint8]) -> bytes:
    """An image of shape (height, width, 3) as PNG, quickly rather than small: it goes only to the browser."""
    return _encoded("png", _channels(rgb), cv2.IMWRITE_PNG_COMPRESSION, 1)


def heat_layer(heat: NDArray[np.float32], seen: Field) -> str:
    """A map as a ``data:`` address to be laid on a film: colours by strength, and clear where there is nothing.

    Args:
        heat: Shape (height, width) as the network's image, at least 0; shown relative to its largest value.
        seen: What of it lies on the film.
    """
    # Coloured as a whole, then cut: where the network looked at black bars most, the film stays pale.
    layer = coloured(heat)[seen.rows, seen.columns]
    return _address("png", (layer * 255).round().astype(np.uint8)[..., [2, 1, 0, 3]])


def outline(mask: NDArray[np.bool_], height: int, width: int) -> str:
    """Edges of a mask of any scale as the ``d`` of an SVG path on a film of so many pixels; empty without any."""
    small = shrunk(mask.astype(np.uint8) * 255, _COARSE)
    edges, _ = cv2.findContours((small > 127).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    across, down = width / small.shape[1], height / small.shape[0]
    parts = []
    for edge in edges:
        points = cv2.approxPolyDP(edge, _SMOOTH * cv2.arcLength(edge, True), True)[:, 0]
        parts.append("M" + "L".join(f"{across * x:.1f} {down * y:.1f}" for x, y in points) + "Z")
    return "".join(parts)


def shrunk(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """An image whose longer side is at most so many pixels."""
    scale = longest / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _channels(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One channel of what is grey, three in OpenCV's order of what is not."""
    grey = np.array_equal(rgb[..., 0], rgb[..., 1]) and np.array_equal(rgb[..., 1], rgb[..., 2])
    return rgb[..., 0] if grey else rgb[..., ::-1]


def _address(kind: str, pixels: NDArray[np.uint8], *options: int) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(_encoded(kind, pixels, *options)).decode('ascii')}"


def _encoded(kind: str, pixels: NDArray[np.uint8], *options: int) -> bytes:
    written, data = cv2.imencode(f".{kind}", np.ascontiguousarray(pixels), options)
    assert written  # 8 bits and 1, 3 or 4 channels always can be
    return data.tobytes()
