"""From a file to an 8-bit RGB array: the one function through which every image of the project comes."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxrlab.errors import DataError
from cxrlab.reading.worker import POOL, Message

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""What Pillow is asked to recognise; DICOM is recognised before."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".dcm", ".dicom"})
MAX_PIXELS = 150_000_000
"""Largest width x height that is decoded; a full-size radiograph has some 15 million, and 150 million take 450 MB."""
MAX_BYTES = 512 * 2**20
"""Largest file that is read: what an uncompressed image of so many pixels and 8-bit colours takes."""
SECONDS, SECONDS_PER_MB = 20.0, 0.25
"""How long reading and decoding a file may take: so long, and so much longer for each megabyte (2^20 bytes)."""
BETWEEN = "; "
"""Stands between the doubts about a file; none of them holds it."""
NO_RADIOGRAPH = "(no radiograph)"
"""How a doubt ends that leaves nothing to score."""


class ImageFacts(NamedTuple):
    """What a file says about itself, apart from its pixels.

    Attributes:
        format: PNG, JPEG, BMP, TIFF, WEBP or DICOM; ``array`` of pixels that came from no file.
        width: Pixels, as displayed (after EXIF orientation).
        height: Pixels, as displayed.
        mode: ``1 bit``, ``grey``, ``grey+alpha``, ``palette``, ``RGB``, ``RGBA``, ``CMYK`` and rarer ones.
        bits: Per channel, as stored; where 16 are stored, those in use, see :func:`read_image`; DICOM's BitsStored.
        bytes: Size of the file.
        jpeg_quality: 1 to 100: the setting of libjpeg whose quantisation table is nearest; 0 where there is none.
        device: Maker and model, DICOM only; empty where unknown.
        view: DICOM's ViewPosition; empty where unknown.
        doubts: What a DICOM header says against a frontal chest film, see :mod:`cxrlab.reading.dicom_header`.
        guessed: Whether ``bits`` of a file that stores 16 were told by its largest value.
    """

    format: str
    width: int
    height: int
    mode: str
    bits: int
    bytes: int
    jpeg_quality: int = 0
    device: str = ""
    view: str = ""
    doubts: str = ""
    guessed: bool = False


class ReadImage(NamedTuple):
    """An image, the SHA-256 of the file's bytes, and what the file says about itself."""

    pixels: NDArray[np.uint8]
    sha256: str
    facts: ImageFacts


class GreyLevels(NamedTuple):
    """What the 16-bit levels of a grey image mean: level ``n`` is the value ``low + n * step``.

    Attributes:
        low: In the unit of the file (DICOM: after the modality transform), of level 0.
        step: Between two levels, above 0.
        centre: Of the window that is shown at first, as DICOM's WindowCenter; without one, all values are shown.
        width: Likewise, as WindowWidth.
        photometric: ``MONOCHROME2``, or ``MONOCHROME1`` where the lowest value is white.
    """

    low: float
    step: float
    centre: float
    width: float
    photometric: str


class UnreadableError(DataError):
    """An image that cannot be used.

    Attributes:
        sha256: Of the file's bytes; empty where they could not be read.
    """

    def __init__(self, message: str, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


def read_image(path: str | Path) -> ReadImage:
    """Reads an image file the way the paper does: OpenCV, then BGR to RGB.

    Greyscale, RGB, RGBA, palette and CMYK files all arrive as 8-bit RGB. As ``cv2.imread`` does by default, an alpha
    channel is dropped, and EXIF orientation is applied. Of 16-bit files the upper 8 of the bits in use are kept. These
    are what the file declares (PNG: sBIT, TIFF: MaxSampleValue); else 8, 10, 12, 14 or 16, the first that its largest
    value fits into: a 12-bit image would arrive nearly black otherwise. DICOM: see
    :func:`cxrlab.reading.dicom.read_dicom`.

    The file is opened, read and decoded in a process of its own, see :mod:`cxrlab.reading.worker`, under the limits
    above.

    Args:
        path: File; its type is recognised by its content, never by its name.

    Returns:
        Pixels of shape (height, width, 3), uint8, the file's SHA-256, and what it says about itself.

    Raises:
        UnreadableError: Names the file, why it cannot be used (missing, unreadable, empty, not an image, several
            images, too large, damaged, took too long) and what to do about it.
    """
    size = 0
    with suppress(OSError, ValueError):  # which the child tells
        size = min(Path(path).stat().st_size, MAX_BYTES)
    return _ask(str(path), str(Path(path).absolute()), b"", size, MAX_PIXELS, SECONDS)


def image_of_array(pixels: NDArray[np.uint8]) -> ReadImage:
    """An image that is in memory, as :func:`read_image` would have given it.

    Args:
        pixels: Shape (height, width), grey, or (height, width, 3), RGB; uint8.

    Returns:
        Pixels of shape (height, width, 3), the SHA-256 of the pixels as they were given, and their size.
    """
    grey = pixels.ndim == 2
    rgb = np.repeat(pixels[..., None], 3, axis=2) if grey else np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    facts = ImageFacts("array", width, height, "grey" if grey else "RGB", 8, pixels.nbytes)
    return ReadImage(rgb, hashlib.sha256(pixels.tobytes()).hexdigest(), facts)


def read_image_bytes(
    name: str | Path, data: bytes, max_pixels: int = MAX_PIXELS, seconds: float = SECONDS
) -> ReadImage:
    """Reads an image whose bytes are in memory, as :func:`read_image` does.

    Args:
        name: Only for messages: nothing of that name is opened.
        data: The whole file.
        max_pixels: Largest width x height that is decoded, at most 150 million.
        seconds: How long it may take, besides 0.25 s for each megabyte.

    Returns:
        As :func:`read_image`.

    Raises:
        UnreadableError: As there.
    """
    try:
        return _ask(str(name), "", data, len(data), max_pixels, seconds)
    except UnreadableError as error:
        error.sha256 = hashlib.sha256(data).hexdigest()
        raise


def read_levels_bytes(
    name: str | Path, data: bytes, max_pixels: int = MAX_PIXELS, seconds: float = SECONDS
) -> tuple[NDArray[np.uint8], GreyLevels | None]:
    """Reads an image with all the grey levels that its file holds, for those who change brightness and contrast.

    Args:
        name: As for :func:`read_image_bytes`.
        data: Likewise.
        max_pixels: Likewise.
        seconds: Likewise.

    Returns:
        Shape (height, width, 3), uint8. With levels (DICOM in grey, and other grey files of more than 8 bits): upper
        byte and lower byte of each level, then the grey value of :func:`read_image`. Without: its RGB.

    Raises:
        UnreadableError: As there.
    """
    answer, pixels = _answer(str(name), "", data, len(data), max_pixels, seconds, levels=True)
    levels = answer["levels"]
    return np.frombuffer(pixels, np.uint8).reshape(answer["shape"]), levels and GreyLevels(**levels)


def packed(levels: NDArray[np.uint16], grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Upper and lower byte of each level, and its grey value, as the three channels of a picture."""
    return np.stack([(levels >> 8).astype(np.uint8), levels.astype(np.uint8), grey], -1)


def _ask(name: str, path: str, data: bytes, size: int, max_pixels: int, seconds: float) -> ReadImage:
    answer, pixels = _answer(name, path, data, size, max_pixels, seconds)
    shape = answer["shape"]
    return ReadImage(np.frombuffer(pixels, np.uint8).reshape(shape), answer["sha256"], ImageFacts(**answer["facts"]))


def _answer(
    name: str, path: str, data: bytes, size: int, max_pixels: int, seconds: float, *, levels: bool = False
) -> tuple[Message, memoryview]:
    seconds += SECONDS_PER_MB * size / 2**20
    message = {"name": name, "path": path, "max_pixels": max_pixels, "seconds": seconds, "levels": levels}
    try:
        answer, pixels = POOL.ask(name, message, data, seconds)
    except DataError as error:
        raise UnreadableError(str(error), "") from None
    if "error" in answer:
        raise UnreadableError(answer["error"], answer["sha256"])
    return answer, pixels


def _no_file(path: Path, mode: int) -> str:
    if not stat.S_ISDIR(mode):
        return "a pipe, socket or device; name an image file"
    if os.access(path, os.R_OK | os.X_OK):
        return "a folder; name an image file"
    return "a folder that cannot be listed; `chmod u+rx` it, or ask its owner"


def read_bytes(path: Path, name: str | Path = "") -> bytes:
    """Reads a file as it is.

    Args:
        path: File.
        name: What it is called in messages; by default the path.

    Raises:
        DataError: Names the file, why it cannot be read (missing, a folder, a pipe, no permission, too large) and what
            to do.
    """
    name = name or path
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # reading a pipe or a device may never end
            raise DataError(f"{name}: {_no_file(path, state.st_mode)}")
        # What has become a pipe since then must not be waited for either.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            data = b"" if state.st_size > MAX_BYTES else file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        what = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise DataError(f"{name}: {what}; correct the path, or put the file there") from None
    except PermissionError:
        raise DataError(f"{name}: no permission to read it; `chmod u+r` it, or ask its owner") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); mend it, or leave it out") from None
    except ValueError as error:
        raise DataError(f"{str(name)!r}: no path of a file ({error}); correct it") from None
    if (size := max(state.st_size, len(data))) > MAX_BYTES:
        raise DataError(f"{name}: {size:,} bytes, over the limit of {MAX_BYTES:,}; shrink the image, or compress it")
    return data
