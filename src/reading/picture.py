"""From the bytes of a picture to 8-bit RGB pixels; runs in the processes of :mod:`cxrlab.reading.child`."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from cxrlab.errors import DataError
from cxrlab.reading.image import FORMATS, ImageFacts

_FIRST_OF_DICOM = (b"\2", b"\x08", b"\0")  # without the mark, see is_dicom
_MAX_SIDE = 1_000_000  # libpng's as OpenCV uses it; OpenCV's own is little more
_SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_MODES = {"1": "1 bit", "L": "grey", "LA": "grey+alpha", "P": "palette", "PA": "palette", "RGBX": "RGBA"}
# Of TIFF 6.0
_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 254, 258, 262, 339
_REDUCED_OR_MASK, _WHITE_IS_ZERO, _UNSIGNED = 0b101, 0, 1
# PNG chunks that do not bear on the pixels OpenCV gives, but on which libpng prints remarks past every logger.
_COLOUR_CHUNKS = frozenset({b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT", b"bKGD", b"hIST", b"sPLT"})
# ITU-T T.81 (JPEG), table K.1: the luminance table that encoders scale by their quality setting.
_LUMINANCE = np.fromstring(
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 18 22 37 56 68 "
    "109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99",
    dtype=int,
    sep=" ",
)
_QUALITIES = np.arange(1, 101)
_SCALES = np.where(_QUALITIES < 50, 5000 // _QUALITIES, 200 - 2 * _QUALITIES)  # per cent, as libjpeg has it
_TABLES = np.clip((_LUMINANCE * _SCALES[:, None] + 50) // 100, 1, 255)


def decode(name: str | Path, data: bytes, max_pixels: int) -> tuple[NDArray[np.uint8], ImageFacts]:
    """Decodes an image in this process, without the limits that :func:`cxrlab.reading.image.read_image` sets.

    Args:
        name: Only for messages.
        data: The whole file.
        max_pixels: Largest width x height that is decoded.

    Returns:
        Pixels of shape (height, width, 3), uint8, and what the file says about itself.

    Raises:
        DataError: Names it, why it cannot be used and what to do about it.
    """
    if not data:
        raise DataError(f"{name}: the file is empty (0 bytes); copy or download it again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags, which do not matter, and of the size: our own limit is below
        if data[128:132] != b"DICM" and data[:1] not in _FIRST_OF_DICOM:
            return _read_picture(name, data, max_pixels)
        from cxrlab.reading.dicom import is_dicom, read_dicom  # takes a third of a second

        if not is_dicom(data):
            return _read_picture(name, data, max_pixels)
        image = read_dicom(name, data, max_pixels)
        height, width = image.pixels.shape[:2]
        facts = ImageFacts("DICOM", width, height, image.mode, image.bits, len(data), 0, image.device, image.view)
        return image.pixels, facts


def _read_picture(path: str | Path, data: bytes, max_pixels: int) -> tuple[NDArray[np.uint8], ImageFacts]:
    """Has Pillow check the file before OpenCV, which is the one that decodes it, allocates anything."""
    file = io.BytesIO(data)
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError:
        raise DataError(f"{path}: over the limit of {max_pixels:,} pixels by its header; shrink the image") from None
    except Exception as error:
        raise _no_image(path, data) from error
    with image:
        width, height = image.size
        if width * height > max_pixels or max(width, height) > _MAX_SIDE:
            limit = f"{max_pixels:,}" if width * height > max_pixels else f"{_MAX_SIDE:,} a side"
            size = f"{width}x{height} pixels by its header, over the limit of {limit}"
            raise DataError(f"{path}: {size}; shrink the image")
        facts, inverted = _facts(image, data), _check_kind(path, image)
        _check_complete(path, data, file.tell(), image)
    pixels, bits = _decode(path, data, facts, inverted)
    return pixels, facts._replace(width=pixels.shape[1], height=pixels.shape[0], bits=bits)


def _no_image(path: str | Path, data: bytes) -> DataError:
    begins = next((name for signature, name in _SIGNATURES.items() if data.startswith(signature)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        begins = "WEBP"
    though = f", although it begins like {begins}: damaged, or of a kind that Pillow cannot read" if begins else ""
    what = f"not an image by its content ({len(data):,} bytes{though})"
    return DataError(f"{path}: {what}; leave it out, or save it as one of {', '.join(FORMATS)}")


def _facts(image: Image.Image, data: bytes) -> ImageFacts:
    grey = image.mode in {"I", "F"} or image.mode.startswith("I;")
    mode = "grey" if grey else _MODES.get(image.mode, image.mode)
    bits = 1 if image.mode == "1" else 8
    if image.format == "PNG":
        bits = data[24]  # the bit depth of IHDR, which is always the first chunk
        mode = "grey+alpha" if data[25] == 4 else mode  # Pillow says RGBA of 16-bit ones
    elif image.format == "TIFF":
        bits = int(_tags(image).get(_BITS_PER_SAMPLE, (1,))[0])
    kind = "JPEG" if image.format == "MPO" else str(image.format)
    return ImageFacts(kind, *image.size, mode, bits, len(data), _jpeg_quality(image))


def _tags(image: Image.Image) -> TiffImagePlugin.ImageFileDirectory_v2:
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    return image.tag_v2


def _jpeg_quality(image: Image.Image) -> int:
    tables = getattr(image, "quantization", None)
    if not tables:
        return 0
    distances = np.abs(_TABLES - np.asarray(tables[min(tables)])).sum(1)
    return int(_QUALITIES[distances.argmin()])


def _check_kind(path: str | Path, image: Image.Image) -> bool:
    """Refuses values without a range, and several pictures in one file; says whether white is zero in a TIFF."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise DataError(
            f"{path}: its values (floating point, signed or 32 bit) have no range that means black and white; "
            "save it as 16-bit PNG"
        )
    try:
        pictures = _count_pictures(image)
    except Exception as error:
        raise DataError(f"{path}: damaged ({error}); copy or download it again") from error
    if pictures > 1:
        raise DataError(f"{path}: holds {pictures} pictures, and which of them is meant is unknown; save one of them")
    return image.format == "TIFF" and _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def _count_pictures(image: Image.Image) -> int:
    """Pages or frames; neither the thumbnails of a TIFF nor what a camera appends to a JPEG is counted."""
    if image.format in {"JPEG", "MPO"}:
        return 1
    count = int(getattr(image, "n_frames", 1))
    if image.format == "TIFF" and count > 1:
        full = 0
        for page in range(1, count):
            image.seek(page)
            full += not int(_tags(image).get(_NEW_SUBFILE_TYPE, 0)) & _REDUCED_OR_MASK
        image.seek(0)
        return 1 + full
    return count


def _check_complete(path: str | Path, data: bytes, start: int, image: Image.Image) -> None:
    """Refuses a file that ends early; OpenCV turns the missing part of a JPEG grey and only mutters about it."""
    if image.format in {"JPEG", "MPO"}:
        # Pillow stopped where the pixels start. No end-of-image marker can be among them, but one is in a thumbnail.
        if data.rfind(b"\xff\xd9", start) < 0:
            raise DataError(f"{path}: cut off (a JPEG without its end-of-image marker); copy or download it again")
        return
    try:
        image.load()  # the other formats share no such marker, but Pillow, unlike OpenCV, refuses missing pixels
    except Exception as error:
        raise DataError(f"{path}: damaged or cut off ({error}); copy or download it again") from error


def _decode(path: str | Path, data: bytes, facts: ImageFacts, inverted: bool) -> tuple[NDArray[np.uint8], int]:
    """Pixels, and the bits per channel that hold something."""
    deep = facts.bits > 8
    # IMREAD_COLOR_RGB with IMREAD_ANYDEPTH mixes up the values of 16-bit RGB TIFF files in OpenCV 5.0.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if deep else cv2.IMREAD_COLOR_RGB
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # else it prints what is raised here anyway
    try:
        pixels = cv2.imdecode(np.frombuffer(_without_colour_chunks(facts, data), np.uint8), flags)
    except cv2.error:  # it mostly returns None instead, but not when memory is short
        pixels = None
    if pixels is None or pixels.dtype != (np.uint16 if deep else np.uint8):
        raise DataError(
            f"{path}: damaged or of a kind that OpenCV cannot decode; copy it again, or save it as 8-bit PNG"
        )
    if not deep:
        return np.asarray(pixels, dtype=np.uint8), facts.bits
    bits = max(8, int(pixels.max()).bit_length())
    shifted = (pixels.astype(np.uint16, copy=False) >> (bits - 8)).astype(np.uint8)
    if inverted:  # OpenCV does this to 8-bit values only
        shifted = 255 - shifted
    return np.ascontiguousarray(shifted[..., ::-1]), max(8, bits - (16 - facts.bits))  # 12-bit TIFFs come shifted up


def _without_colour_chunks(facts: ImageFacts, data: bytes) -> bytes:
    if facts.format != "PNG":
        return data
    kept, position = [data[:8]], 8
    while position < len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] not in _COLOUR_CHUNKS:
            kept.append(data[position:end])
        position = end
    return b"".join(kept)


_DAMAGE = re.compile(rb"Premature end of JPEG file|Corrupt JPEG data: [^\n]*")


def damage_heard(printed: bytes) -> str:
    """What libjpeg, which goes on decoding with grey, printed about damage; empty where it printed nothing of it."""
    found = _DAMAGE.search(printed)
    return found.group().decode() if found else ""
