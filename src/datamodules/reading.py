"""From a file to an 8-bit RGB array: the one function through which every image of the project comes."""

from __future__ import annotations

import hashlib
import io
import stat
import threading
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
"""Largest width x height that is decoded; a full-size radiograph has some 15 million, and 150 million take 450 MB."""
_WARNING_FILTERS = threading.Lock()  # they belong to the whole process, and images are read in threads


class ReadImage(NamedTuple):
    """An image and the SHA-256 of the file's bytes."""

    pixels: NDArray[np.uint8]
    sha256: str


def read_image(path: str | Path) -> ReadImage:
    """Reads an image file the way the paper does: OpenCV, then BGR to RGB.

    Greyscale (8 or 16 bit), RGB, RGBA, palette and CMYK files all arrive as 8-bit RGB. As ``cv2.imread`` does by
    default, 16-bit values keep their upper byte, an alpha channel is dropped, and EXIF orientation is applied.

    Args:
        path: File; its type is told by its content, never by its name.

    Returns:
        Pixels of shape (height, width, 3), uint8, and the file's SHA-256.

    Raises:
        DataError: Names the file, why it cannot be used (missing, unreadable, empty, not an image, too large, cut off)
            and what to do about it.
    """
    data = _read_bytes(Path(path))
    _check_header(path, data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:  # it mostly returns None instead, but not when memory is short
        pixels = None
    if pixels is None:
        raise DataError(
            f"{path}: damaged or of a kind that OpenCV cannot decode; copy it again, or save it as 8-bit PNG"
        )
    return ReadImage(np.asarray(pixels, dtype=np.uint8), hashlib.sha256(data).hexdigest())


def _read_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # reading a pipe or a device may never end
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
            raise DataError(f"{path}: {what}; name an image file")
        data = path.read_bytes()
    except FileNotFoundError:
        what = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise DataError(f"{path}: {what}; correct the path, or put the file there") from None
    except PermissionError:
        raise DataError(f"{path}: no permission to read it; `chmod u+r` it, or ask its owner") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); mend it, or leave it out") from None
    except ValueError as error:
        raise DataError(f"{str(path)!r}: no path of a file ({error}); correct it") from None
    if not data:
        raise DataError(f"{path}: the file is empty (0 bytes); copy or download it again")
    return data


def _check_header(path: str | Path, data: bytes) -> None:
    """Refuses what is no image, is too large, or ends early, before OpenCV allocates anything.

    OpenCV itself turns the missing part of a truncated JPEG grey and only mutters about it.
    """
    try:
        with _WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tags, which do not matter, and of the size: our own limit is below
            file = io.BytesIO(data)
            image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise DataError(f"{path}: over the limit of {MAX_PIXELS:,} pixels by its header; shrink the image") from None
    except Exception as error:
        what = f"not an image by its content ({len(data):,} bytes)"
        raise DataError(f"{path}: {what}; leave it out, or save it as one of {', '.join(FORMATS)}") from error
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            size = f"{width}x{height} pixels by its header, over the limit of {MAX_PIXELS:,}"
            raise DataError(f"{path}: {size}; shrink the image")
        _check_complete(path, data[file.tell() :], image)


def _check_complete(path: str | Path, rest: bytes, image: Image.Image) -> None:
    if image.format in {"JPEG", "MPO"}:
        # Pillow stopped where the pixels start. No end-of-image marker can be among them, but one is in a thumbnail.
        if b"\xff\xd9" not in rest:
            raise DataError(f"{path}: cut off (a JPEG without its end-of-image marker); copy or download it again")
        return
    try:
        image.load()  # the other formats share no such marker, but Pillow, unlike OpenCV, refuses missing pixels
    except Exception as error:
        raise DataError(f"{path}: damaged or cut off ({error}); copy or download it again") from error
