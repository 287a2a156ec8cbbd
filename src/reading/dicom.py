"""DICOM files as 8-bit RGB: the values a viewer would show at first, or the reason why there are none."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import keyword_dict, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from scipy.special import expit

from cxrlab.console import one_line
from cxrlab.errors import DataError, did_you_mean

# Nothing else of a file is kept in memory: no name and no date of a patient can get into a message or a table.
_KEYWORDS = (
    *("SOPClassUID", "Manufacturer", "ManufacturerModelName", "ViewPosition"),
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelPresentation"),
    *(f"{kind}PaletteColorLookupTableDescriptor" for kind in ("Red", "Green", "Blue")),
    *(f"{kind}PaletteColorLookupTableData" for kind in ("Red", "Green", "Blue")),
    *(f"Segmented{kind}PaletteColorLookupTableData" for kind in ("Red", "Green", "Blue")),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_NEEDED = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation"),
)
_GREY = ("MONOCHROME1", "MONOCHROME2")
_MODES = dict.fromkeys(_GREY, "grey") | {"PALETTE COLOR": "palette"}
_MODES |= dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), "RGB")
_LARGEST_INFLATED = 400_000_000
"""Bytes to which a deflated file may grow."""
_INSTALL = "`pip install 'cxrlab[dicom]'`"
_EXPORT = "export it uncompressed (Explicit VR Little Endian)"
_EXTRA = frozenset(
    {JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL, JPEGLSLossless, JPEGLSNearLossless}
)
"""What the decoders of that extra are for."""
_UNSAFE = "gdcm"
"""Left aside where it is installed: damaged JPEG data make GDCM 3.2 end the whole process."""
_HEADER = 256  # bytes that tell a DICOM file from others
_BULKY = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_LONGEST = 1024  # characters of a tag's value in a table
_JPEG_2000 = b"\xff\x4f\xff\x51"  # start of codestream, then the marker of its size
_UNDEFINED = 0xFFFFFFFF  # the length of compressed pixels, which end with a mark (PS3.5, 7.1.1)
_RLE_GAIN = 64
"""PackBits, DICOM's run-length code, makes at most 128 bytes of 2."""


class DicomImage(NamedTuple):
    """Pixels of shape (height, width, 3), uint8, and what the file says of them."""

    pixels: NDArray[np.uint8]
    mode: str
    bits: int
    device: str
    view: str


def is_dicom(data: bytes) -> bool:
    """Whether a file is DICOM: by the mark after its preamble or, without one, by its first data element."""
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


def read_dicom(path: str | Path, data: bytes, max_pixels: int) -> DicomImage:
    """Reads the one image of a DICOM file; warnings are the caller's to silence.

    Grey values go through the modality transform (rescale, or its table), then the first VOI table or, where there is
    none, the first window (PS3.3 C.11.1, C.11.2), then to 0..255. Where there is neither, the smallest value becomes 0
    and the largest 255, padding (PixelPaddingValue) left aside; where all are the same, 128. MONOCHROME1 is inverted:
    bone is always light. Palette and YBR images become RGB; of more than 8 bits the upper 8 in use are kept.

    Args:
        path: Only for messages.
        data: The whole file.
        max_pixels: Largest rows x columns that is decoded.

    Raises:
        DataError: Names the file and the reason: no image in it, several frames, too large, no decoder installed for
            its compression, a window without width, values without a range (floating point), damaged or cut off.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs every warning, too; what matters is raised here
    try:
        dataset = _parse(path, data)
        _check(path, dataset, max_pixels)
        stored = _decode(path, dataset)
        grey = dataset.PhotometricInterpretation in _GREY
        pixels = _display(path, dataset, stored) if grey else _colours(path, dataset, stored)
        device = f"{_text(dataset, 'Manufacturer', 64)} {_text(dataset, 'ManufacturerModelName', 64)}".strip()
        mode = _MODES[dataset.PhotometricInterpretation]
        return DicomImage(pixels, mode, int(dataset.BitsStored), device, _text(dataset, "ViewPosition", 16))
    except DataError:
        raise
    except Exception as error:  # whatever pydicom meets in a damaged file; its words may quote what the file holds
        raise DataError(f"{path}: a damaged or cut off DICOM file; export it from its archive again") from error


def read_tags(path: Path, keywords: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Reads the header of a DICOM file for those who ask for it; nothing else in this project does.

    Args:
        path: Any file that :func:`read_dicom` could read, or no DICOM file.
        keywords: Of the tags whose values are wanted, see :func:`check_keywords`.

    Returns:
        Their values as text, empty where the file has none; and the keywords of all other tags that the file has and
        :func:`read_dicom` does not keep, in their order, ``private`` for private ones, without any value. Both are
        empty where the file is no DICOM file, or its header cannot be read.
    """
    none = dict.fromkeys(keywords, "")
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER)
        if not is_dicom(head):
            return none, []
        with _no_log():
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            wanted = {keyword: _one_line(dataset.get(keyword)) for keyword in keywords}
            tags = sorted(dataset.keys())
    except Exception:  # noqa: BLE001 - whatever a damaged file makes pydicom do; its words may quote what the file holds
        return none, []
    names = [keyword_for_tag(tag) or ("private" if tag.is_private else "unknown") for tag in tags]
    return wanted, [name for name in dict.fromkeys(names) if name not in (*_KEYWORDS, *keywords)]


def check_keywords(keywords: Sequence[str]) -> None:
    """Checks names of DICOM tags.

    Raises:
        ValueError: One is no keyword of the standard, or is the name of pixels; says which, and what is near.
    """
    for keyword in keywords:
        tag = tag_for_keyword(str(keyword))
        if tag is None or str(keyword) in _BULKY:
            near = did_you_mean(str(keyword), keyword_dict)
            raise ValueError(f"dicom_tags must be keywords of DICOM tags such as PatientID, got {keyword!r}{near}")


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    """Warnings would quote what a damaged header holds."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _one_line(value: Any) -> str:
    """A value for one cell of a table."""
    return "" if value is None else one_line(value)[:_LONGEST]


def _parse(path: str | Path, data: bytes) -> Dataset:
    file = io.BytesIO(data)
    file.seek(132 if data[128:132] == b"DICM" else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _check_inflated(path, data[file.tell() :])
    file.seek(0)
    tags: list[Any] = [pydicom.tag.Tag(keyword) for keyword in _KEYWORDS]
    return pydicom.dcmread(file, force=True, specific_tags=tags)


def _check_inflated(path: str | Path, deflated: bytes) -> None:
    """Inflates without keeping anything: pydicom does it in one go, whatever the size."""
    inflater, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), deflated, 0
    while chunk := inflater.decompress(rest, 2**24):
        rest, size = inflater.unconsumed_tail, size + len(chunk)
        if size > _LARGEST_INFLATED:
            raise DataError(f"{path}: grows to more than {_LARGEST_INFLATED:,} bytes when inflated; leave it out")


def _check(path: str | Path, dataset: Dataset, max_pixels: int) -> None:
    """Refuses by the header what cannot be read, before anything is decoded."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise DataError(f"{path}: its values (floating point) have no range that means black and white; leave it out")
    raw = dataset.get_item("PixelData")  # as it stands in the file, and only until it is asked for otherwise
    claimed = _UNDEFINED if raw is None else getattr(raw, "length", _UNDEFINED)
    if not dataset.get("PixelData"):
        raise DataError(f"{path}: a DICOM file without an image ({_kind(dataset)}), or cut off before it; leave it out")
    if claimed not in (_UNDEFINED, len(dataset.PixelData)):  # pydicom takes what there is
        there = f"{len(dataset.PixelData):,} of {claimed:,} bytes of pixels"
        raise DataError(f"{path}: cut off: {there}; copy it again")
    absent = [keyword for keyword in _NEEDED if dataset.get(keyword) is None]
    if absent:
        raise DataError(f"{path}: a damaged DICOM file: its header lacks {', '.join(absent)}; export it again")
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(f"{path}: holds {frames} frames, and which of them is meant is unknown; save one of them")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows * columns > max_pixels:
        size = f"{columns}x{rows} pixels by its header, over the limit of {max_pixels:,}"
        raise DataError(f"{path}: {size}; shrink the image")
    meaning = str(dataset.PhotometricInterpretation)
    if meaning not in _MODES:
        known = ", ".join(_MODES)
        raise DataError(f"{path}: its PhotometricInterpretation is none of {known}; export it as MONOCHROME2 or RGB")
    if int(dataset.SamplesPerPixel) != (3 if _MODES[meaning] == "RGB" else 1):
        raise DataError(f"{path}: {dataset.SamplesPerPixel} samples per pixel do not fit {meaning}; export it again")
    stored, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    if not 1 <= stored <= allocated <= 32 or int(dataset.get("HighBit", stored - 1)) != stored - 1:
        layout = f"{stored} bits stored of {allocated}, the highest of them bit {dataset.get('HighBit')}"
        raise DataError(f"{path}: its values ({layout}) cannot be read; export it again")


def _kind(dataset: Dataset) -> str:
    """What a file is, by its SOP class; only names of the standard, since a file may hold any text there."""
    uid = UID(str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or ""))
    return f"{uid.name}" if uid and uid.name != uid else "of unknown kind"


def _text(dataset: Dataset, keyword: str, longest: int) -> str:
    """A text, or nothing where it is longer than the standard allows or cannot be printed: then it is damaged."""
    text = str(dataset.get(keyword) or "").strip()
    return text if len(text) <= longest and text.isprintable() else ""


def _decode(path: str | Path, dataset: Dataset) -> NDArray[Any]:
    """Stored values, shape (rows, columns) or (rows, columns, 3); YBR has become RGB."""
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        native = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else native
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    name = syntax.name if syntax.name != syntax else "a private transfer syntax"
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(f"{path}: stored as {name}, for which there is no decoder; {_EXPORT}") from None
    if not decoder.is_encapsulated:
        size = get_expected_length(dataset)
        if len(dataset.PixelData) < size:
            raise DataError(f"{path}: cut off: {len(dataset.PixelData):,} of {size:,} bytes of pixels; copy it again")
        return decoder.as_array(dataset, index=0, raw=False)[0]
    plugins = [plugin for plugin in decoder.available_plugins if plugin != _UNSAFE]
    more = f"{_INSTALL}, or {_EXPORT}" if syntax in _EXTRA and "pylibjpeg" not in plugins else _EXPORT
    if not plugins:
        raise DataError(f"{path}: compressed as {name}, and no decoder for that is installed; {more}")
    _check_encoded(path, dataset, syntax)
    for plugin in plugins:
        with contextlib.suppress(Exception):  # whatever it is, the next one may do it
            return decoder.as_array(dataset, index=0, raw=False, decoding_plugin=plugin)[0]
    tried = ", ".join(plugins)
    raise DataError(f"{path}: damaged, or {name} of a kind that {tried} cannot decode; copy it again, or {more}")


def _check_encoded(path: str | Path, dataset: Dataset, syntax: UID) -> None:
    """Compressed pixels have a size of their own, and it is the one that a decoder allocates memory for."""
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if syntax == RLELossless:
        size = rows * columns * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated) // 8
        if size > _RLE_GAIN * len(frame):
            raise DataError(
                f"{path}: cut off: {len(frame):,} bytes cannot hold {columns}x{rows} pixels; export it again"
            )
    elif (inside := _encoded_layout(frame)) is None:
        raise DataError(f"{path}: damaged: its compressed image has no header; export it again")
    elif inside[:3] != (rows, columns, int(dataset.SamplesPerPixel)) or not 2 <= inside[3] <= dataset.BitsAllocated:
        found = f"{inside[1]}x{inside[0]} pixels, {inside[2]} samples of {inside[3]} bits"
        raise DataError(f"{path}: damaged: its compressed image ({found}) does not fit its header; export it again")


def _encoded_layout(frame: bytes) -> tuple[int, int, int, int] | None:
    """Rows, columns, samples per pixel and their bits, of a JPEG, JPEG-LS or JPEG 2000 image.

    ITU-T T.81 B.2.2, T.87 C.2.2 and T.800 A.5.1 say where they stand.
    """
    start = frame.find(_JPEG_2000) if frame[4:8] == b"jP  " else 0  # wrapped as a JP2 file, or bare
    if frame[start : start + 4] == _JPEG_2000 and len(frame) > start + 42:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        samples, bits = struct.unpack_from(">HB", frame, start + 40)
        return bottom - top, right - left, samples, (bits & 127) + 1
    position = 2
    while position + 10 <= len(frame) and frame[position] == 0xFF:
        marker, length = struct.unpack_from(">xBH", frame, position)
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            bits, height, width, samples = struct.unpack_from(">BHHB", frame, position + 4)
            return height, width, samples, bits
        position += 1 if marker == 0xFF else 2 + length
    return None


def _colours(path: str | Path, dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.uint8]:
    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        entries, _, depth = dataset.RedPaletteColorLookupTableDescriptor
        if depth == 8 and not 0 < entries <= 256:  # pydicom 3.0 would compute the index in 8 bits
            raise DataError(f"{path}: a palette of {entries} colours of 8 bits cannot be read; export it as RGB")
        stored = apply_color_lut(stored, dataset)[..., :3]
        bits = max(8, int(stored.max()).bit_length())
    if bits < 8:
        raise DataError(f"{path}: colours of {bits} bits cannot be read; export it with 8")
    return np.ascontiguousarray((stored >> (bits - 8)).astype(np.uint8))


def _display(path: str | Path, dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values as they are shown.

    Worked out once for each value that occurs, of which there are at most 65,536 in files of 16 bits.
    """
    values, index, present = _distinct(stored)
    modality = _modality(dataset, values)
    if dataset.get("VOILUTSequence"):
        table, bits = _table(dataset, dataset.VOILUTSequence[0])
        shown = _look_up(table, dataset.VOILUTSequence[0], modality) / (2**bits - 1)
    elif (window := _window(path, dataset)) is not None:
        shown = _through_window(modality, *window)
    else:
        shown = _whole_range(modality[present], _padding(dataset, values)[present], modality)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    # A hair above the half, so that rounding errors never decide a tie, and an inverted twin is equal to the bit.
    grey = np.floor(shown.clip(0, 1) * 255 + 0.5 + 1e-9).astype(np.uint8)[index]
    return np.stack([grey] * 3, -1)


def _distinct(stored: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Values, for each pixel the position of its value, and which of the values occur."""
    if stored.dtype.itemsize > 2:
        values, index = np.unique(stored, return_inverse=True)
        return values, index.reshape(stored.shape), np.ones(len(values), bool)
    index = stored.view(f"u{stored.dtype.itemsize}")
    values = np.arange(2 ** (8 * stored.dtype.itemsize), dtype=index.dtype).view(stored.dtype)
    return values, index, np.bincount(index.ravel(), minlength=len(values)) > 0


def _modality(dataset: Dataset, values: NDArray[Any]) -> NDArray[np.float64]:
    """Stored values in the unit of the modality (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        return _look_up(_table(dataset, item)[0], item, values.astype(np.float64))
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return values * float(1 if slope is None else slope) + float(intercept or 0)


def _table(dataset: Dataset, item: Dataset) -> tuple[NDArray[Any], int]:
    """The entries of a modality or VOI table, and how many bits they have."""
    data, bits = item.LUTData, int(item.LUTDescriptor[2])
    if isinstance(data, bytes):
        order = "<" if dataset.original_encoding[1] else ">"
        entries = int(item.LUTDescriptor[0]) or 2**16
        data = np.frombuffer(data, np.uint8 if bits == 8 and len(data) <= entries + 1 else f"{order}u2")
    return np.atleast_1d(np.asarray(data)), bits


def _look_up(table: NDArray[Any], item: Dataset, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values below and above the table take its first and its last entry."""
    entries = min(int(item.LUTDescriptor[0]) or 2**16, len(table))
    position = np.rint(values - float(item.LUTDescriptor[1])).clip(0, entries - 1).astype(np.intp)
    return table[position].astype(np.float64)


def _window(path: str | Path, dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window, if there is one."""
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}:
        raise DataError(f"{path}: its VOILUTFunction is none of LINEAR, LINEAR_EXACT, SIGMOID; export it again")
    least = 1 if function == "LINEAR" else np.finfo(float).tiny
    if not (math.isfinite(centre) and math.isfinite(width) and width >= least):
        raise DataError(f"{path}: its window (centre {centre:g}, width {width:g}) shows nothing; export it again")
    return centre, width, function


def _first(value: Any) -> float | None:
    """The first of one or several numbers, or ``None``."""
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else float(value)


def _through_window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Values in [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return np.asarray(expit(4 * (values - centre) / width))
    if function == "LINEAR":  # of whole numbers: a window of 256 shows 256 of them, and so has 255 steps
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return ((values - centre) / width + 0.5).clip(0, 1)


def _whole_range(
    seen: NDArray[np.float64], padding: NDArray[np.bool_], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values in [0, 1] between the smallest and the largest that are seen, padding left aside unless it is all."""
    counted = seen if padding.all() else seen[~padding]
    low, high = counted.min(), counted.max()
    return ((values - low) / (high - low)).clip(0, 1) if high > low else np.full_like(values, 0.5)


def _padding(dataset: Dataset, values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which stored values only fill the rectangle around the picture (PS3.3 C.7.5.1.1.2)."""
    one = _first(dataset.get("PixelPaddingValue"))
    if one is None:
        return np.zeros(len(values), bool)
    other = _first(dataset.get("PixelPaddingRangeLimit"))
    low, high = sorted((one, one if other is None else other))
    return np.asarray((values >= low) & (values <= high))
