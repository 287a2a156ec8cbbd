"""DICOM files as 8-bit RGB: the values a viewer would show at first, or the reason why there are none."""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, keyword_dict, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.tag import Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian
from scipy.special import expit

from cxrlab.console import one_line
from cxrlab.errors import DataError, did_you_mean
from cxrlab.reading import dicom_header
from cxrlab.reading.dicom_frames import stored_values
from cxrlab.reading.image import BETWEEN, GreyLevels, packed

_BULKY = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# Nothing else of a file is kept in memory: no name and no date of a patient can get into a message or a table.
_PICTURE = (
    *("Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "PhotometricInterpretation", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PixelPresentation"),
    *("ShutterShape", "ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge"),
    *("ShutterLowerHorizontalEdge", "CenterOfCircularShutter", "RadiusOfCircularShutter"),
    "VerticesOfThePolygonalShutter",
    *(f"{kind}PaletteColorLookupTableDescriptor" for kind in ("Red", "Green", "Blue")),
    *(
        f"{kind}PaletteColorLookupTableData"
        for colour in ("Red", "Green", "Blue")
        for kind in (colour, f"Segmented{colour}")
    ),
    *_BULKY,
)
_KEYWORDS = (*_PICTURE, *dicom_header.KEYWORDS, "Manufacturer", "ManufacturerModelName")
_NEEDED = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_MODES = dict.fromkeys(_GREY, "grey") | {"PALETTE COLOR": "palette"}
_MODES |= dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), "RGB")
_LARGEST_INFLATED = 400_000_000  # bytes to which a deflated file may grow
_LONGEST = 1024  # characters of a tag's value in a table
_UNDEFINED = 0xFFFFFFFF  # the length of compressed pixels, which end with a mark (PS3.5, 7.1.1)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,(\d{1,2}|\d{4,})")  # 4,096 may as well be four thousand
_BLANK = 0.99  # share of the pixels at one end of the scale
_LARGEST = 1e30  # of any number that is computed with
_LONGEST_DOUBT = 240  # characters of all doubts about a file


class DicomImage(NamedTuple):
    """Pixels of shape (height, width, 3), uint8, and what the file says of them."""

    pixels: NDArray[np.uint8]
    mode: str
    bits: int
    device: str
    view: str
    doubts: str
    levels: GreyLevels | None = None


def read_dicom(path: str | Path, data: bytes, max_pixels: int, levels: bool = False) -> DicomImage:
    """Reads the one image of a DICOM file; warnings are the caller's to silence.

    Grey values go through the modality transform (rescale, or its table), then the first VOI table or, where there is
    none, the first window (PS3.3 C.11.1, C.11.2), then to 0..255. Where there is neither, the smallest value becomes 0
    and the largest 255, padding (PixelPaddingValue) left aside; where all are the same, 128. MONOCHROME1 is inverted:
    bone is always light. Padding and what a shutter hides are black. Palette and YBR images become RGB; of more than 8
    bits the upper 8 in use are kept. What the header says against a frontal chest film is in ``doubts``, see
    :func:`cxrlab.reading.dicom_header.doubts_of`; docs/data.md has a table of all attributes.

    Args:
        path: Only for messages.
        data: The whole file.
        max_pixels: Largest rows x columns that is decoded.
        levels: Whether grey images are wanted with their values, see :func:`cxrlab.reading.image.read_levels_bytes`.

    Raises:
        DataError: Names the file and the reason why there is no image.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs every warning, too; what matters is raised here
    try:
        return _read(data, max_pixels, levels)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error.__cause__


def _read(data: bytes, max_pixels: int, levels: bool) -> DicomImage:
    """As :func:`read_dicom`; here and below, a DataError says the reason and not yet the file."""
    dataset = _parse(data)
    _check_image(dataset)
    doubts = _convert(dataset)
    _check(dataset, max_pixels)
    meaning = str(dataset.PhotometricInterpretation)
    meant: GreyLevels | None = None
    try:
        stored, bits = stored_values(dataset)
        if meaning in _GREY:
            pixels, shown, meant = _display(dataset, stored, bits, levels)
            doubts += shown
        else:
            pixels = _colours(dataset, stored, bits)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # what is left of odd headers; words of libraries may quote what the file holds
        what = "its header and its pixels do not fit together"
        raise DataError(f"{what} ({type(error).__name__}); export it from its archive again") from error
    # A text that is longer than the standard allows, or cannot be printed, is damaged.
    wanted = (("Manufacturer", 64), ("ManufacturerModelName", 64), ("ViewPosition", 16))
    texts = [(str(dataset.get(keyword) or "").strip(), longest) for keyword, longest in wanted]
    maker, model, view = (text if len(text) <= longest and text.isprintable() else "" for text, longest in texts)
    said = BETWEEN.join([*dicom_header.doubts_of(dataset), *doubts])[:_LONGEST_DOUBT]
    return DicomImage(pixels, _MODES[meaning], int(dataset.BitsStored), f"{maker} {model}".strip(), view, said, meant)


def read_tags(path: Path, keywords: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Reads the header of a DICOM file for those who ask for it; nothing else in this project does.

    Args:
        path: Any DICOM file, as :func:`cxrlab.reading.picture.is_dicom` has it.
        keywords: Of the tags whose values are wanted, see :func:`check_keywords`.

    Returns:
        Their values as text, empty where the file has none; and the keywords, ``private`` for private tags, of all
        others that the file has and :func:`read_dicom` does not keep, in their order, without any value. Both are
        empty where its header cannot be read.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # warnings would quote what a damaged header holds
    try:
        with warnings.catch_warnings(action="ignore"):
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            values = {keyword: _value(dataset, keyword) for keyword in keywords}
            wanted = {key: "" if value is None else one_line(value)[:_LONGEST] for key, value in values.items()}
            tags = sorted(dataset.keys())
    except Exception:  # noqa: BLE001 - whatever a damaged file makes pydicom do; its words may quote what the file holds
        return dict.fromkeys(keywords, ""), []
    names = [keyword_for_tag(tag) or ("private" if tag.is_private else "unknown") for tag in tags]
    return wanted, [name for name in dict.fromkeys(names) if name not in (*_KEYWORDS, *keywords)]


def _value(dataset: Dataset, keyword: str) -> Any:
    """A value, as it is written where it is no such date, age or number as the standard has."""
    try:
        return dataset.get(keyword)
    except Exception:  # noqa: BLE001 - whatever a misspelt value makes pydicom do
        written = dataset.get_item(keyword).value
        return written.decode("latin-1").strip("\0 ") if isinstance(written, bytes) else ""


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


def _parse(data: bytes) -> Dataset:
    file = io.BytesIO(data)
    tags: list[Any] = [Tag(keyword) for keyword in _KEYWORDS]
    try:
        file.seek(132 if data[128:132] == b"DICM" else 0)
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            # Without keeping anything: pydicom inflates in one go, whatever the size.
            inflater, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), data[file.tell() :], 0
            while chunk := inflater.decompress(rest, 2**24):
                rest, size = inflater.unconsumed_tail, size + len(chunk)
                if size > _LARGEST_INFLATED:
                    raise DataError(f"grows to more than {_LARGEST_INFLATED:,} bytes when inflated; leave it out")
        file.seek(0)
        return pydicom.dcmread(file, force=True, specific_tags=tags)
    except (DataError, MemoryError):
        raise
    except RecursionError:
        raise DataError("its header has sequences within sequences without an end; leave it out") from None
    except zlib.error:
        raise DataError("its deflated part is damaged or cut off; copy it again") from None
    except Exception as error:  # pydicom raises anything there; its words may quote what the file holds
        what = f"a damaged DICOM header: no further than byte {file.tell():,} of {len(data):,} can it be read"
        raise DataError(f"{what} ({type(error).__name__}); copy it again, or export it again") from error


def _convert(dataset: Dataset) -> list[str]:
    """Turns every element into values now, so that one which cannot be read is named.

    Returns doubts: those that are not needed to show the picture, and were left aside.
    """
    doubts = []
    for tag in list(dataset.keys()):
        keyword = keyword_for_tag(tag)
        try:
            dataset[tag]  # pydicom converts it
        except Exception as error:  # whatever a damaged value makes pydicom do; its words may quote what the file holds
            del dataset[tag]
            if keyword in _PICTURE:
                what = f"its {keyword} cannot be read: of another kind or length than the standard has"
                raise DataError(f"{what}; export it again") from error
            doubts.append(f"{keyword} cannot be read")
    return doubts


def _check_image(dataset: Dataset) -> None:
    """Refuses a file without an image, or without all of it; to be called before anything is converted."""
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise DataError("its values (floating point) have no range that means black and white; leave it out")
    raw: Any = dataset.get_item("PixelData", keep_deferred=True)  # as it stands in the file
    if raw is None or raw.value == b"":
        # What it is, by names of the standard only, since a file may hold any text there.
        uid = UID(str(_value(dataset, "SOPClassUID") or _value(dataset.file_meta, "MediaStorageSOPClassUID") or ""))
        kind = uid.name if uid and uid.name != uid else "of unknown kind"
        raise DataError(f"a DICOM file without an image ({kind}), or cut off before it; leave it out")
    pixels, claimed = raw.value, getattr(raw, "length", _UNDEFINED)
    if not isinstance(pixels, bytes):
        raise DataError("its PixelData is none by its kind (VR); export it again")
    if claimed not in (_UNDEFINED, len(pixels)):  # pydicom takes what there is
        raise DataError(f"cut off: {len(pixels):,} of {claimed:,} bytes of pixels; copy it again")


def _check(dataset: Dataset, max_pixels: int) -> None:
    """Refuses by the header what cannot be read, before anything is decoded."""
    absent = [keyword for keyword in (*_NEEDED, "PixelRepresentation") if dataset.get(keyword) in (None, "")]
    if absent:
        raise DataError(f"a damaged DICOM file: its header lacks {', '.join(absent)}; export it again")
    frames = _whole(dataset, "NumberOfFrames", 1) or 1
    if frames != 1:
        raise DataError(f"holds {frames} frames, and which of them is meant is unknown; save one of them")
    rows, columns, samples = (_whole(dataset, each) for each in ("Rows", "Columns", "SamplesPerPixel"))
    if rows < 1 or columns < 1 or rows * columns > max_pixels:
        why = f", over the limit of {max_pixels:,}; shrink the image" if rows > 0 < columns else "; export it again"
        raise DataError(f"{columns}x{rows} pixels by its header{why}")
    meaning = str(dataset.PhotometricInterpretation)
    if meaning not in _MODES:
        known = ", ".join(_MODES)
        raise DataError(f"its PhotometricInterpretation is none of {known}; export it as MONOCHROME2 or RGB")
    if samples != (3 if _MODES[meaning] == "RGB" else 1):
        raise DataError(f"{samples} samples per pixel do not fit {meaning}; export it again")
    stored, allocated = _whole(dataset, "BitsStored"), _whole(dataset, "BitsAllocated")
    highest = _whole(dataset, "HighBit", stored - 1)
    if not 1 <= stored <= allocated or allocated not in (1, 8, 16, 32) or highest != stored - 1:
        layout = f"{stored} bits stored of {allocated}, the highest of them bit {highest}"
        raise DataError(f"its values ({layout}) cannot be read; export it again")
    for keyword in ("PixelRepresentation", "PlanarConfiguration")[:samples]:  # grey has one plane
        if _whole(dataset, keyword) not in (0, 1):
            raise DataError(f"its {keyword} is neither 0 nor 1; export it again")


def _whole(dataset: Dataset, keyword: str, absent: int | None = None) -> int:
    """One whole number, which takes the place of what stood there: pydicom needs it as the standard has it."""
    value = dataset.get(keyword)
    if value in (None, "") and absent is not None:
        return absent
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not number.is_integer():
        raise DataError(f"its {keyword} is not one whole number; export it again")
    dataset.add_new(keyword, dictionary_VR(keyword), int(number))
    return int(number)


def _counting(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Values without the bits that do not count, which may hold an overlay; the sign is in the highest that does."""
    shift = 8 * values.dtype.itemsize - bits
    return values << shift >> shift


def _colours(dataset: Dataset, stored: NDArray[Any], count: int) -> NDArray[np.uint8]:
    stored, bits = _counting(stored, count), int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        entries, first, depth = dataset.RedPaletteColorLookupTableDescriptor
        if depth == 8 and not 0 < entries <= 256:  # pydicom 3.0 would compute the index in 8 bits
            raise DataError(f"a palette of {entries} colours of 8 bits cannot be read; export it as RGB")
        whole = np.arange(first, first + (entries or 2**16)).astype(stored.dtype)
        bits = max(8, int(apply_color_lut(whole, dataset).max()).bit_length())  # some say 16, and mean 8
        stored = apply_color_lut(stored, dataset)[..., :3]
    if bits < 8:
        raise DataError(f"colours of {bits} bits cannot be read; export it with 8")
    return np.ascontiguousarray((stored >> (bits - 8)).astype(np.uint8))


def _display(
    dataset: Dataset, stored: NDArray[Any], bits: int, wanted: bool
) -> tuple[NDArray[np.uint8], list[str], GreyLevels | None]:
    """Grey values as they are shown, doubts about them, and the meaning of levels where these are wanted.

    Worked out once for each value that occurs, of which there are at most 65,536 in files of 16 bits.
    """
    index: NDArray[Any]
    if stored.dtype.itemsize > 2:
        raw, index, counts = np.unique(stored, return_inverse=True, return_counts=True)
        index = index.reshape(stored.shape)
    else:
        index = stored.view(f"u{stored.dtype.itemsize}")
        raw = np.arange(2 ** (8 * stored.dtype.itemsize), dtype=index.dtype).view(stored.dtype)
        counts = np.bincount(index.ravel(), minlength=len(raw))
    values = _counting(raw, bits)
    modality = _modality(dataset, values)
    padding, doubts = _padding(dataset, raw, values), []
    if padding[counts > 0].all():
        padding[:] = False
        doubts = ["PixelPaddingValue (all of the picture, so left aside)"]
    seen = (counts > 0) & ~padding
    how = "range of values"
    if dataset.get("VOILUTSequence"):
        shown, depth = _through_table(dataset, "VOILUTSequence", modality)
        shown, how = shown / (2**depth - 1), "VOILUTSequence"
    elif (window := _window(dataset)) is not None:
        shown, how = _through_window(modality, *window), f"window (centre {window[0]:g}, width {window[1]:g})"
    else:
        low, high = modality[seen].min(), modality[seen].max()
        shown = (modality - low) / (high - low) if high > low else np.full_like(modality, 0.5)
        alone = [each for each in ("WindowCenter", "WindowWidth") if _first(dataset, each) is not None]
        doubts += [f"{each} (alone, so left aside)" for each in alone]
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shown = 1 - shown
    # Slightly above one half, so that rounding errors never decide a tie, and an inverted twin is equal to the bit.
    grey = np.floor(shown.clip(0, 1) * 255 + 0.5 + 1e-9).astype(np.uint8)
    doubts += _blank(dataset, grey, np.where(padding, 0, counts), how)
    grey[padding] = 0
    pixels = grey[index]
    _shut(dataset, pixels)
    if not wanted:
        return np.stack([pixels] * 3, -1), doubts, None
    levels, meaning = _levels(dataset, modality, seen)
    white = levels.max() if meaning.photometric == "MONOCHROME1" else np.uint16(0)
    levels[padding] = white  # of which is made black, as of what a shutter hides
    of_pixels = levels[index] ^ white  # black is 0 now, which _shut() makes of what is hidden
    _shut(dataset, of_pixels)
    return packed(of_pixels ^ white, pixels), doubts, meaning


def _modality(dataset: Dataset, values: NDArray[Any]) -> NDArray[np.float64]:
    """Stored values in the unit of the modality (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _through_table(dataset, "ModalityLUTSequence", values.astype(np.float64))[0]
    slope = _first(dataset, "RescaleSlope")
    return values * (1.0 if slope is None else slope) + (_first(dataset, "RescaleIntercept") or 0.0)


def _levels(
    dataset: Dataset, modality: NDArray[np.float64], seen: NDArray[np.bool_]
) -> tuple[NDArray[np.uint16], GreyLevels]:
    """For each value its level from 0 to 65,535, and what levels mean; only values that are seen are told apart."""
    low, high = float(modality[seen].min()), float(modality[seen].max())
    step = 1.0 if dataset.get("ModalityLUTSequence") else abs(_first(dataset, "RescaleSlope") or 1.0)
    step = max(step, (high - low) / 65535)
    levels = np.rint((modality - low) / step).clip(0, 65535).astype(np.uint16)
    # Without a window all values are shown: the linear function takes half a unit off the centre, one off the width.
    unit = min(1.0, step)
    centre, width, _ = _window(dataset) or ((low + high + unit) / 2, high - low + unit, "")
    return levels, GreyLevels(low, step, centre, width, str(dataset.PhotometricInterpretation))


def _blank(dataset: Dataset, grey: NDArray[np.uint8], counts: NDArray[np.int64], how: str) -> Iterator[str]:
    """Says so where different values are shown as one."""
    if np.count_nonzero(counts) < 2:
        return
    if dataset.get("RescaleSlope") == 0 and not dataset.get("ModalityLUTSequence"):
        yield "RescaleSlope 0 (makes all values one: blank)"
    for level, name in ((0, "black"), (255, "white")):
        share = counts[grey == level].sum() / counts.sum()
        if share >= _BLANK:
            yield f"{how} shows {100 * share:.0f} % of the pixels {name} (blank)"


def _through_table(dataset: Dataset, keyword: str, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Entries of a modality or VOI table for these values, and how many bits they have.

    Values below and above the table take its first and its last entry. pydicom's own apply_modality_lut and apply_voi
    (3.0) count in the table's 8 bits, give other entries or fail for tables of 8 bits, of packed bytes, and of another
    length or depth than they expect.
    """
    try:
        item = dataset[keyword].value[0]
        data, (entries, first, bits) = item.LUTData, (int(each) for each in item.LUTDescriptor)
        entries = entries or 2**16
        if isinstance(data, bytes):
            order = "<" if dataset.original_encoding[1] else ">"
            data = np.frombuffer(data, np.uint8 if bits == 8 and len(data) <= entries + 1 else f"{order}u2")
        table = np.atleast_1d(np.asarray(data))[:entries]
        if not 1 <= bits <= 16 or not len(table):
            raise ValueError("no table")
    except Exception as error:  # whatever a damaged table makes pydicom do
        raise DataError(f"its {keyword} holds no table of values; export it again") from error
    position = np.rint(values - first).clip(0, len(table) - 1).astype(np.intp)
    return table[position].astype(np.float64), bits


def _window(dataset: Dataset) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window, if there is one."""
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if centre is None or width is None:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}:
        raise DataError("its VOILUTFunction is none of LINEAR, LINEAR_EXACT, SIGMOID; export it again")
    least = 1 if function == "LINEAR" else np.finfo(float).tiny
    if not width >= least:
        raise DataError(f"its window (centre {centre:g}, width {width:g}) shows nothing; export it again")
    return centre, width, function


def _first(dataset: Dataset, keyword: str) -> float | None:
    """The first of one or several numbers, or ``None``."""
    value = dataset.get(keyword)
    if isinstance(value, (list, pydicom.multival.MultiValue)):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return None
    text = str(value).partition("\\")[0].strip()  # of pydicom where it is no number
    try:
        number = float(text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text)
    except ValueError:
        number = math.nan
    if not abs(number) < _LARGEST:
        comma = " (it is written with a comma, which may stand for a point or for thousands)" if "," in text else ""
        raise DataError(f"its {keyword} is no number that can be used{comma}; export it again")
    return number


def _through_window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Values from 0 (black) to 1 (white), or beyond (PS3.3 C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        return np.asarray(expit(4 * (values - centre) / width))
    if function == "LINEAR":  # of whole numbers: a window of 256 shows 256 of them, and so has 255 steps
        centre, width = centre - 0.5, width - 1
    if width == 0:
        return (values > centre).astype(np.float64)
    return (values - centre) / width + 0.5


def _padding(dataset: Dataset, raw: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which values only fill the rectangle around the picture (PS3.3 C.7.5.1.1.2).

    They are written in 16 bits, with or without a sign whatever the pixels have, and may need bits that do not count.
    """
    one = _first(dataset, "PixelPaddingValue")
    if one is None:
        return np.zeros(len(values), bool)
    other = _first(dataset, "PixelPaddingRangeLimit")
    ends = [one, one if other is None else other]
    if raw.dtype.kind == "i":
        ends = [end - 2**16 if end >= 2**15 else end for end in ends]
    else:
        ends = [end + 2**16 if end < 0 else end for end in ends]
    counted = values if min(ends) >= values.min() and max(ends) <= values.max() else raw
    return np.asarray((counted >= min(ends)) & (counted <= max(ends)))


def _shut(dataset: Dataset, pixels: NDArray[Any]) -> None:
    """Blackens what a shutter hides (PS3.3 C.7.6.11): all outside of a rectangle, circle and polygon. In place."""

    def places(keyword: str, count: int = 0) -> list[int]:
        """Rows and columns, counted from 1; so many, or any even number where ``count`` is 0."""
        value = dataset.get(keyword)
        found = [value] if isinstance(value, int) else list(value or ())
        if not found or len(found) != (count or len(found) // 2 * 2) or max(map(abs, found)) > 2**15:
            raise DataError(f"its {keyword} is no place in the picture; export it again")
        return [int(each) for each in found]

    shapes = dataset.get("ShutterShape") or ()
    for shape in [shapes] if isinstance(shapes, str) else shapes:
        kept = np.zeros(pixels.shape, np.uint8)
        if shape == "RECTANGULAR":
            left, right = (places(f"Shutter{side}VerticalEdge", 1)[0] for side in ("Left", "Right"))
            upper, lower = (places(f"Shutter{side}HorizontalEdge", 1)[0] for side in ("Upper", "Lower"))
            kept[max(upper - 1, 0) : max(lower, 0), max(left - 1, 0) : max(right, 0)] = 1
        elif shape == "CIRCULAR":
            (row, column), (radius,) = places("CenterOfCircularShutter", 2), places("RadiusOfCircularShutter", 1)
            cv2.circle(kept, (column - 1, row - 1), max(radius, 0), 1, cv2.FILLED)
        elif shape == "POLYGONAL":
            corners = np.array(places("VerticesOfThePolygonalShutter"), np.int32).reshape(-1, 2)
            cv2.fillPoly(kept, [corners[:, ::-1] - 1], 1)
        else:  # BITMAP needs an overlay, and overlays are not drawn
            continue
        pixels *= kept
