"""From the bytes of a picture to 8-bit RGB pixels; runs in the processes of :mod:`cxrlab.reading.child`."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from cxrlab.errors import DataError, MissingLibraryError
from cxrlab.imports import check_installed
from cxrlab.reading.image import FORMATS, GreyLevels, ImageFacts, packed

MAX_SCANS = 100
"""Of a JPEG; encoders write 6 to 12, and every further one costs as much work as the whole picture."""
MAX_PAGES = 100
"""Pictures and thumbnails in a TIFF."""
_DAMAGE = re.compile(
    rb"Premature end of JPEG file|Corrupt JPEG data: (?P<count>\d+) extraneous bytes before marker 0xd9|"
    rb"Corrupt JPEG data: [^\n]*"
)
_FILLING = 2  # bytes before the end of a JPEG that cameras are known to add
_MAX_SIDE = 1_000_000  # libpng's as OpenCV uses it; OpenCV's own is little more
_SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_HEAD = 4096  # bytes by which another kind of file is recognised
_SAVE, _UNPACK = "save it as PNG", "unpack it, and name the images inside"
_OTHERS = [
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), kind, advice)
    for pattern, kind, advice in (
        (rb"GIF8[79]a", "a GIF", _SAVE),
        (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "a JPEG 2000 image", _SAVE),
        (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", "a JPEG XL image", _SAVE),
        (rb"....ftypavi[fs]", "an AVIF image", _SAVE),
        (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC image", _SAVE),
        (rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ", "a video", "save one picture of it as PNG"),
        (rb"P[1-7]\s", "a PGM, PPM or other Netpbm image", _SAVE),
        (rb"P[Ff]\s|\x76\x2f\x31\x01|#\?RADIANCE", "an image of floating-point values (PFM, EXR, HDR)", _SAVE),
        (rb"8BPS", "a Photoshop file", _SAVE),
        (rb"\0\0[\x01\x02]\0[^\0]\0", "an icon", _SAVE),
        (rb"%PDF-", "a PDF", "save its picture as PNG"),
        (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file", _SAVE),
        (rb"(\xef\xbb\xbf)?\s*(<\?xml.{0,2000}?)?<svg", "an SVG drawing", _SAVE),
        (rb"(\xef\xbb\xbf)?\s*<(!doctype html|html)", "a web page", "download the image itself"),
        (rb"version https://git-lfs", "a Git LFS pointer", "get the image itself: `git lfs pull`"),
        (rb".{344}(n\+1|ni1)\0", "a NIfTI volume", "save the picture that is meant as PNG"),
        (rb"NRRD000|ObjectType\s*=\s*Image", "an NRRD or MetaImage volume", "save the picture that is meant as PNG"),
        (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a ZIP archive or an Office document", _UNPACK),
        (rb"\x1f\x8b|BZh|\xfd7zXZ\0|7z\xbc\xaf|Rar!|\x28\xb5\x2f\xfd", "a compressed file", _UNPACK),
        (rb".{257}ustar", "a TAR archive", _UNPACK),
        (rb"\x89HDF\r\n|\x93NUMPY|MATLAB 5", "a file of arrays (HDF5, NumPy, MATLAB)", _SAVE),
    )
]
_MODES = {"1": "1 bit", "L": "grey", "LA": "grey+alpha", "P": "palette", "PA": "palette", "RGBX": "RGBA"}
# Of TIFF 6.0
_NEW_SUBFILE_TYPE, _BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE_VALUE = 254, 258, 262, 281
_REDUCED_OR_MASK, _WHITE_IS_ZERO = 0b101, 0
# PNG chunks that do not bear on the pixels OpenCV gives, but on which libpng prints remarks past every logger.
_COLOUR_CHUNKS = frozenset({b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT", b"bKGD", b"hIST", b"sPLT"})
_CHECKED = frozenset({b"IHDR", b"PLTE", b"IDAT"})
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
    pixels, facts, _ = decode_levels(name, data, max_pixels, wanted=False)
    return pixels, facts


def decode_levels(
    name: str | Path, data: bytes, max_pixels: int, wanted: bool = True
) -> tuple[NDArray[np.uint8], ImageFacts, GreyLevels | None]:
    """As :func:`decode`, and with ``wanted`` as :func:`cxrlab.reading.image.read_levels_bytes` returns pixels."""
    if not data:
        raise DataError(f"{name}: the file is empty (0 bytes); copy or download it again")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags, which do not matter, and of the size: our own limit is below
        if not is_dicom(data):
            return _read_picture(name, data, max_pixels, wanted)
        try:
            check_installed("pydicom", f"{name}: a DICOM file", "save it as PNG")
        except MissingLibraryError as error:
            raise DataError(str(error)) from None
        from cxrlab.reading.dicom import read_dicom  # here: it imports pydicom, which is optional

        image = read_dicom(name, data, max_pixels, wanted)
        height, width = image.pixels.shape[:2]
        said = image.device, image.view, image.doubts
        facts = ImageFacts("DICOM", width, height, image.mode, image.bits, len(data), 0, *said)
        return image.pixels, facts, image.levels


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM: by the mark after its preamble or, without one, by its first data element.

    Args:
        data: The whole file, or at least its first 132 bytes.
    """
    if data[128:132] == b"DICM":
        return True
    head = data[:8]
    groups = {b"\x02\0": "little", b"\x08\0": "little", b"\0\x08": "big"}
    if len(head) < 8 or head[:2] not in groups:
        return False
    order: Any = groups[head[:2]]
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    implicit = order == "little" and int.from_bytes(head[4:], "little") < 256
    return int.from_bytes(head[2:4], order) < 0x100 and (explicit or implicit)


def _read_picture(
    path: str | Path, data: bytes, max_pixels: int, wanted: bool
) -> tuple[NDArray[np.uint8], ImageFacts, GreyLevels | None]:
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
        plain, chunks = _png_chunks(path, data) if image.format == "PNG" else (data, {})
        declared = _declared_bits(image, chunks) if facts.bits == 16 else 0
    pixels, bits, levels = _decode(path, plain, facts, inverted, declared, wanted)
    guessed = facts.bits == 16 and not declared
    return pixels, facts._replace(width=pixels.shape[1], height=pixels.shape[0], bits=bits, guessed=guessed), levels


def _no_image(path: str | Path, data: bytes) -> DataError:
    if known := _other_kind(data):
        return DataError(f"{path}: {known}")
    begins = next((name for signature, name in _SIGNATURES.items() if data.startswith(signature)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        begins = "WEBP"
    though = f", although it begins like {begins}: damaged, or of a kind that Pillow cannot read" if begins else ""
    what = f"not an image by its content ({len(data):,} bytes{though})"
    return DataError(f"{path}: {what}; leave it out, or save it as one of {', '.join(FORMATS)}")


def _other_kind(data: bytes) -> str:
    """What a file of none of the formats is, and what to do about it; empty where that is unknown."""
    head = data[:_HEAD]
    if head[:2] == b"\x1f\x8b":  # gzip: what is inside tells more
        with suppress(zlib.error):
            inside = _other_kind(zlib.decompressobj(31).decompress(head, _HEAD))
            if "NIfTI" in inside:
                return inside
    for pattern, kind, advice in _OTHERS:
        if pattern.match(head):
            return f"{kind}, which is not read; {advice}"
    return ""


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
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    full = 1
    with suppress(EOFError):  # there are no more
        for page in range(1, MAX_PAGES + 1):
            image.seek(page)
            full += not int(_tags(image).get(_NEW_SUBFILE_TYPE, 0)) & _REDUCED_OR_MASK
        raise ValueError(f"more than {MAX_PAGES} pages and thumbnails")
    image.seek(0)
    return full


def _check_complete(path: str | Path, data: bytes, start: int, image: Image.Image) -> None:
    """Refuses a file that ends early; OpenCV fills the missing part of a JPEG with grey and only logs it."""
    if image.format in {"JPEG", "MPO"}:
        # Pillow stopped where the pixels start. No end-of-image marker can be among them, but one is in a thumbnail.
        if data.rfind(b"\xff\xd9", start) < 0:
            raise DataError(f"{path}: cut off (a JPEG without its end-of-image marker); copy or download it again")
        scans = 1 + data.count(b"\xff\xda", start)  # each of them goes over all pixels
        if scans > MAX_SCANS:
            raise DataError(f"{path}: a JPEG of {scans:,} scans, over the limit of {MAX_SCANS}; save it again")
        return
    try:
        image.load()  # the other formats share no such marker, but Pillow, unlike OpenCV, refuses missing pixels
    except Exception as error:
        raise DataError(f"{path}: damaged or cut off ({error}); copy or download it again") from error


def _decode(
    path: str | Path, data: bytes, facts: ImageFacts, inverted: bool, declared: int, wanted: bool
) -> tuple[NDArray[np.uint8], int, GreyLevels | None]:
    """Pixels, the bits per channel that hold something, and the meaning of grey levels where these are wanted."""
    deep = facts.bits > 8
    # IMREAD_COLOR_RGB with IMREAD_ANYDEPTH mixes up the values of 16-bit RGB TIFF files in OpenCV 5.0.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH if deep else cv2.IMREAD_COLOR_RGB
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # else it prints what is raised here anyway
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # it mostly returns None instead, but not when memory is short
        pixels = None
    if pixels is None or pixels.dtype != (np.uint16 if deep else np.uint8):
        raise DataError(
            f"{path}: damaged or of a kind that OpenCV cannot decode; copy it again, or save it as 8-bit PNG"
        )
    if not deep:
        return np.asarray(pixels, dtype=np.uint8), facts.bits, None
    bits = 16 if facts.bits < 16 else _bits_in_use(int(pixels.max()), declared)  # 12-bit TIFFs come shifted up
    shifted = (pixels.astype(np.uint16, copy=False) >> (bits - 8)).astype(np.uint8)
    if inverted:  # OpenCV does this to 8-bit values only
        shifted = 255 - shifted
    used = min(bits, facts.bits)
    if wanted and facts.mode.startswith("grey"):
        meaning = "MONOCHROME1" if inverted else "MONOCHROME2"
        levels = GreyLevels(0, 1, 2.0 ** (bits - 1), 2.0**bits, meaning)
        return packed(pixels[..., 0].astype(np.uint16), shifted[..., 0]), used, levels
    return np.ascontiguousarray(shifted[..., ::-1]), used, None


def _bits_in_use(largest: int, declared: int) -> int:
    """How many of 16 bits hold something: what the file declares, else what its largest value needs.

    Detectors have 10, 12, 14 or 16 bits; a film of 12 that happens to reach 2,047 only is none of 11. A file that
    declares 12 may also have its values spread over all 16 (PNG, 11.3.2.3), and then uses 16.
    """
    if declared:
        return declared if largest < 2**declared else 16
    needed = max(8, largest.bit_length())
    return needed + needed % 2


def _declared_bits(image: Image.Image, chunks: dict[bytes, bytes]) -> int:
    """The depth that a 16-bit file says its values have (PNG: sBIT, TIFF: MaxSampleValue), from 8 on; else 0."""
    if image.format == "TIFF":
        largest = _tags(image).get(_MAX_SAMPLE_VALUE, 0)
        bits = int(max(largest) if isinstance(largest, tuple) else largest).bit_length()
    else:
        bits = max(chunks.get(b"sBIT", b"\0"), default=0)
    return bits if 8 <= bits < 16 else 0


def _png_chunks(path: str | Path, data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """A PNG without the chunks that only say something of colours, and these (the last of each kind).

    Raises:
        DataError: The checksum of a chunk with pixels is wrong; neither Pillow nor OpenCV says so of all.
    """
    kept, left, position, kind = [data[:8]], {}, 8, b""
    while position < len(data) and kind != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if kind in _CHECKED and zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise DataError(f"{path}: damaged (a checksum in it is wrong); copy or download it again")
        if kind in _COLOUR_CHUNKS:
            left[kind] = data[position + 8 : end - 4]
        else:
            kept.append(data[position:end])
        position = end
    return b"".join(kept), left


def damage_heard(printed: bytes, data: bytes) -> str:
    """What libjpeg, which goes on decoding with grey, printed about damage; empty where it printed nothing of it.

    It prints the first remark on a file only. What fills the end of an otherwise whole file is no damage.

    Args:
        printed: What decoders printed.
        data: The whole file.
    """
    found = _DAMAGE.search(printed)
    if not found:
        return ""
    if found.group("count"):
        end = data.rfind(b"\xff\xd9")
        filling = data[max(0, end - int(found.group("count"))) : end]
        if len(filling) <= _FILLING or len(set(filling)) == 1:
            return ""
    return found.group().decode()
