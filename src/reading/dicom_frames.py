"""Stored values of a DICOM file, whatever its transfer syntax: which are read, by which decoder, within which limits.

This module is also a plugin of pydicom (:func:`is_available` and so on), through which it decodes by imagecodecs.
"""

from __future__ import annotations

import io
import re
import struct
from itertools import islice
from math import ceil
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid as uids
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_fragments, get_frame
from pydicom.pixels.decoders.base import Decoder, DecodeRunner
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID

from cxrlab.errors import DataError
from cxrlab.imports import command_to_install, is_installed, need

EXPORT = "export it uncompressed (Explicit VR Little Endian)"
_NATIVE = frozenset(uids.UncompressedTransferSyntaxes)
_JPEG, _JPEG_LS = frozenset(uids.JPEGTransferSyntaxes), frozenset(uids.JPEGLSTransferSyntaxes)
_JPEG_2000 = frozenset(uids.JPEG2000TransferSyntaxes) - {uids.JPEG2000MC, uids.JPEG2000MCLossless}
_NEWER = {  # than the dictionary of pydicom 3.0
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}
_UID = re.compile(r"[0-9.]{1,64}")
_ITEM = b"\xfe\xff\x00\xe0"  # with which every fragment of compressed pixels begins (PS3.5 A.4)
_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: start of codestream, then the marker of its size
_SOF_BASELINE, _SOF_EXTENDED, _SOF_LOSSLESS, _SOF_JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7
_RLE_GAIN = 64
"""PackBits, DICOM's run-length code, makes at most 128 bytes of 2."""
_MOST_FRAGMENTS = 65_536
_MOST_PACKETS = 1_000_000
"""Of a JPEG 2000 image: tiles x components x layers x precincts of all resolutions; an empty one costs a byte."""
_TAIL = 16  # bytes at the end of a JPEG that are altered to see whether they are needed

_Plugin = tuple[str, tuple[str, str]]
_PILLOW: _Plugin = ("pillow", ("pydicom.pixels.decoders.pillow", "_decode_frame"))
_PYDICOM: _Plugin = ("pydicom", ("pydicom.pixels.decoders.rle", "_decode_frame"))
_IMAGECODECS: _Plugin = ("imagecodecs", (__name__, "decode_frame"))
DECODER_DEPENDENCIES = dict.fromkeys(_JPEG | _JPEG_LS | _JPEG_2000, ("imagecodecs",))
"""For pydicom."""


def is_available(uid: str) -> bool:
    """Whether pydicom may use :func:`decode_frame` for a transfer syntax."""
    return uid in DECODER_DEPENDENCIES and is_installed("imagecodecs")


def decode_frame(source: bytes, runner: DecodeRunner) -> bytes:
    """For pydicom: the decoded bytes of a frame, colours by pixel and never converted."""
    values = _decode(runner.transfer_syntax, source)
    runner.set_option("bits_allocated", 8 * values.dtype.itemsize)
    runner.set_option("planar_configuration", 0)
    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):  # these are undone by the decoder
        runner.set_option("photometric_interpretation", "RGB")
    return bytes(values.astype(values.dtype.newbyteorder("<")).tobytes())


def _decode(syntax: str, data: bytes) -> NDArray[Any]:
    """By imagecodecs."""
    imagecodecs = need("imagecodecs", "compressed DICOM")
    if syntax in _JPEG:
        grey = (encoded_layout(data) or (0, 0, 1))[2] == 1
        found = imagecodecs.jpeg8_decode(data, colorspace=None if grey else "RGB")
    else:
        found = (imagecodecs.jpegls_decode if syntax in _JPEG_LS else imagecodecs.jpeg2k_decode)(data)
    return np.asarray(found)


def stored_values(dataset: Dataset) -> tuple[NDArray[Any], int]:
    """Decodes the pixels.

    Args:
        dataset: With everything that pydicom needs for it; its rows, columns and bits have been looked at.

    Returns:
        Shape (rows, columns) or (rows, columns, 3), in which YBR has become RGB; and how many bits of a value count.

    Raises:
        DataError: With the reason, and not the file: no such transfer syntax is read, no decoder of it is installed, it
            asks for too much work, or the pixels are damaged, cut off, or of another size than the header says.
    """
    if not str(dataset.file_meta.get("TransferSyntaxUID") or "").strip("\0 "):
        implicit, little = dataset.original_encoding
        native = uids.ExplicitVRLittleEndian if little else uids.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = uids.ImplicitVRLittleEndian if implicit else native
    syntax = UID(str(dataset.file_meta.TransferSyntaxUID))
    if syntax in _NATIVE:
        if dataset["PixelData"].is_undefined_length or dataset.PixelData[:4] == _ITEM:
            raise DataError("its header says uncompressed, but its pixels are compressed; export it again")
        size, there = get_expected_length(dataset), len(dataset.PixelData)
        if there < size:
            raise DataError(f"cut off: {there:,} of {size:,} bytes of pixels; copy it again")
        if there >= 2 * size + 2:
            raise DataError(f"{there:,} bytes of pixels where its header tells of {size:,}; export it again")
        # The bits that do not count are kept: padding may lie outside of the others.
        as_stored: Any = {"correct_unused_bits": False}
        return Decoder(syntax).as_array(dataset, index=0, raw=False, **as_stored)[0], int(dataset.BitsStored)
    if syntax not in _JPEG | _JPEG_LS | _JPEG_2000 | {uids.RLELossless}:
        unknown = syntax.name == syntax
        name = _NEWER.get(syntax, "something unknown" if unknown else syntax.name)
        written = syntax if _UID.fullmatch(syntax) else "that is no UID"
        what = f"transfer syntax {written}" + (", unknown to this version of pydicom" if unknown else "")
        raise DataError(f"stored as {name}, for which there is no decoder ({what}); {EXPORT}")
    frame = _frame(dataset, syntax)
    plugin = _plugin(syntax, frame, int(dataset.BitsStored))
    dataset.PixelData = encapsulate([frame])  # what was looked at, and nothing else
    decoder = Decoder(syntax)
    decoder.add_plugin(*plugin)
    try:
        values = decoder.as_array(dataset, index=0, raw=False)[0]
    except MemoryError:
        raise
    except Exception as error:
        what = f"damaged, or {syntax.name} of a kind that {plugin[0]} cannot decode"
        raise DataError(f"{what}; copy it again, or {EXPORT}") from error
    if syntax in _JPEG:
        _check_to_the_end(frame, pillow=plugin == _PILLOW)
    return values, 8 * values.dtype.itemsize


def _frame(dataset: Dataset, syntax: UID) -> bytes:
    """The one compressed image, after all that its own header tells has been looked at."""
    try:
        if next(islice(generate_fragments(dataset.PixelData), _MOST_FRAGMENTS, None), None) is not None:
            raise DataError(f"its pixels are in more than {_MOST_FRAGMENTS:,} fragments; {EXPORT}")
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
        frame = frame[_codestream(frame) or 0 :]  # no boxes of a JP2 file (PS3.5 A.4.4): decoders may loop in them
    except (ValueError, struct.error, IndexError, EOFError):
        raise DataError("damaged: its compressed pixels are no fragments (PS3.5 A.4); copy it again") from None
    rows, columns, samples = (int(dataset[each].value) for each in ("Rows", "Columns", "SamplesPerPixel"))
    if syntax == uids.RLELossless:
        if rows * columns * samples * int(dataset.BitsAllocated) // 8 > _RLE_GAIN * len(frame):
            lacks = f"{len(frame):,} bytes cannot hold {columns}x{rows} pixels"
            raise DataError(f"cut off: {lacks}; export it again")
    elif (inside := encoded_layout(frame)) is None:
        raise DataError("damaged: its compressed image has no header; export it again")
    elif inside[:3] != (rows, columns, samples) or not 2 <= inside[3] <= dataset.BitsAllocated:
        found = f"{inside[1]}x{inside[0]} pixels, {inside[2]} samples of {inside[3]} bits"
        raise DataError(f"damaged: its compressed image ({found}) does not fit its header; export it again")
    elif (work := _too_much(frame, samples)) is not None:
        raise DataError(f"{work}; {EXPORT}")
    return frame


def encoded_layout(frame: bytes) -> tuple[int, int, int, int, int] | None:
    """Rows, columns, samples per pixel, their bits and the marker that says so, of a JPEG, JPEG-LS or JPEG 2000 image.

    ITU-T T.81 B.2.2, T.87 C.2.2 and T.800 A.5.1 say where they stand.
    """
    if (start := _codestream(frame)) is not None:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        samples, bits = struct.unpack_from(">HB", frame, start + 40)
        return bottom - top, right - left, samples, (bits & 127) + 1, 0x51
    position = 2
    while position + 10 <= len(frame) and frame[position] == 0xFF:
        marker, length = struct.unpack_from(">xBH", frame, position)
        if marker == _SOF_JPEG_LS or (0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}):
            bits, height, width, samples = struct.unpack_from(">BHHB", frame, position + 4)
            return height, width, samples, bits, marker
        position += 1 if marker == 0xFF else 2 + length
    return None


def _codestream(frame: bytes) -> int | None:
    """Where a JPEG 2000 image begins: it is wrapped as a JP2 file, or bare."""
    start = frame.find(_CODESTREAM) if frame[4:8] == b"jP  " else 0
    return start if frame[start : start + 4] == _CODESTREAM and len(frame) > start + 42 else None


def _too_much(frame: bytes, samples: int) -> str | None:
    """Why an image asks for more work than its size says, by its own header."""
    if (start := _codestream(frame)) is not None:
        packets = _packets(frame, start)
        return f"a JPEG 2000 image of {packets:,} packets, over {_MOST_PACKETS:,}" if packets > _MOST_PACKETS else None
    marker = (encoded_layout(frame) or (0,))[-1]
    if marker not in {_SOF_BASELINE, _SOF_EXTENDED, _SOF_LOSSLESS, _SOF_JPEG_LS}:
        return "a progressive, hierarchical or arithmetic JPEG, which is not read in DICOM"
    scans = frame.count(b"\xff\xda")  # no pixel is coded so
    return f"a JPEG of {scans:,} scans, over {samples}" if scans > samples else None


def _packets(frame: bytes, start: int) -> int:
    """Packets of a JPEG 2000 image (ITU-T T.800 A.5.1, A.6.1, B.6), as its main header has them."""
    right, bottom, _, _, wide, high, left, top, components = struct.unpack_from(">8IH", frame, start + 8)
    if not wide or not high:
        return 0
    packets: int = components * ceil((right - left) / wide) * ceil((bottom - top) / high)
    wide, high = min(wide, right), min(high, bottom)
    position = start + 2
    while position + 14 <= len(frame) and frame[position] == 0xFF and frame[position + 1] != 0x90:
        marker, length = struct.unpack_from(">xBH", frame, position)
        if marker == 0x52:
            style, layers, levels = struct.unpack_from(">BxHxB", frame, position + 4)
            sizes = frame[position + 14 : position + 15 + levels] if style & 1 else b"\xff" * (levels + 1)
            places = 0
            for level, size in enumerate(sizes):
                shrunk = max(levels - level, 0)
                places += ceil(wide / 2 ** (shrunk + (size & 15))) * ceil(high / 2 ** (shrunk + (size >> 4)))
            return packets * int(layers) * places
        position += 2 + length
    return packets


def _plugin(syntax: UID, frame: bytes, bits: int) -> _Plugin:
    """The decoder: the same whatever else is installed, and never another for what the first one found damaged."""
    if syntax == uids.RLELossless:
        return _PYDICOM
    _, _, samples, inside, marker = encoded_layout(frame) or (0, 0, 0, 0, 0)
    baseline = inside == 8 and marker != _SOF_LOSSLESS and (syntax == uids.JPEGBaseline8Bit or bits == 8)
    if baseline and syntax in {uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit}:
        return _PILLOW
    if is_available(syntax):
        return _IMAGECODECS
    if syntax in {uids.JPEG2000, uids.JPEG2000Lossless} and inside <= (16 if samples == 1 else 8):
        return _PILLOW
    what = f"compressed as {syntax.name}, and no decoder for that is installed"
    raise DataError(f"{what}; {command_to_install('imagecodecs')}, or {EXPORT}")


def _check_to_the_end(frame: bytes, *, pillow: bool) -> None:
    """Refuses a JPEG whose pixels end too early or too late: decoders then fill up with grey, and say nothing.

    The last bytes of its pixels are altered: its last pixels must change, and no others.
    """
    if pillow:
        cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)  # prints what is wrong: is heard
    end = frame.rfind(b"\xff\xd9")
    if end < 0:
        raise DataError("cut off (a JPEG without its end-of-image marker); copy it again")
    altered = bytearray(frame)
    for place in range(max(end - _TAIL, 1), end):
        if frame[place] not in {0xFF, 0xAA} and frame[place - 1] != 0xFF:  # that no marker comes about
            altered[place] ^= 0x55
    try:
        decoded, other = (
            np.asarray(Image.open(io.BytesIO(data), formats=("JPEG",))) if pillow else _decode(uids.JPEGLossless, data)
            for data in (frame, bytes(altered))
        )
        differ = decoded != other
    except Exception:  # noqa: BLE001 - decoders raise anything; and bytes that bring that about were needed
        return
    rows, columns = differ.shape[:2]
    changed = np.flatnonzero(differ.reshape(rows, -1).any(1))
    tail = 8 * (2 + 32 * _TAIL // columns)  # rows of 8x8 blocks of 2 bits, the fewest that a block takes
    if np.ptp(decoded) and (not len(changed) or changed[0] < rows - tail):  # all of one value has one code only
        raise DataError("damaged: its compressed pixels end too early or too late; copy it again")
