"""From a file to an 8-bit RGB array: the one function through which every image of the project comes."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrlab.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 150_000_000
"""Largest width x height that is decoded; a full-size radiograph has some 15 million, and 150 million RGB pixels take 450 MB."""


class ReadImage(NamedTuple):
    """An image and the SHA-256 of the file's bytes."""

    pixels: NDArray[np.uint8]
    sha256: str


def read_image(path: str | Path) -> ReadImage:
    """Reads an image file the way the paper does: OpenCV, then BGR to RGB.

    Greyscale (8 or 16 bit), RGB, RGBA, palette and CMYK files all arrive as 8-bit RGB. As ``cv2.imread`` does by default,
    16-bit values keep their upper byte, an alpha channel is dropped, and EXIF orientation is applied.

    Args:
        path: File; its type is told by its content, never by its name.

    Returns:
        Pixels of shape (height, width, 3), uint8, and the file's SHA-256.

    Raises:
        DataError: Names the file and why it cannot be used: missing, unreadable, empty, not an image, too large, truncated.
    """
    data = _read_bytes(Path(path))
    _check_header(path, data)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise DataError(f"{path}: the image data are damaged or of a kind that OpenCV cannot decode")
    return ReadImage(np.asarray(pixels, dtype=np.uint8), hashlib.sha256(data).hexdigest())


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        what = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise DataError(f"{path}: {what}") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where an image file was expected") from None
    except PermissionError:
        raise DataError(f"{path}: no permission to read it; `chmod u+r` it, or ask its owner") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not data:
        raise DataError(f"{path}: the file is empty (0 bytes); copy or download it again")
    return data


def _check_header(path: str | Path, data: bytes) -> None:
    """Refuses what is no image, is too large, or ends early, before OpenCV allocates anything.

    OpenCV itself turns the missing part of a truncated JPEG grey and only mutters about it; Pillow refuses it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below, with its own words
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise DataError(f"{path}: more than {MAX_PIXELS:,} pixels by its header; refused as a decompression bomb") from None
    except Exception as error:
        kinds = ", ".join(FORMATS)
        raise DataError(f"{path}: not an image by its content ({len(data):,} bytes); expected one of {kinds}") from error
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise DataError(f"{path}: {width}x{height} pixels by its header, over the limit of {MAX_PIXELS:,}; refused")
        _check_complete(path, data, image)


def _check_complete(path: str | Path, data: bytes, image: Image.Image) -> None:
    if image.format == "JPEG" and data.rstrip(b"\0\r\n ").endswith(b"\xff\xd9"):
        return  # ends with its end-of-image marker: nothing is cut off, and no second decoding is needed
    try:
        image.draft("L", (1, 1))  # JPEG: decodes an eighth of the size, which is enough to walk through the whole file
        image.load()
    except Exception as error:
        raise DataError(f"{path}: damaged or cut off ({error}); copy or download it again") from error
