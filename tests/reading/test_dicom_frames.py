"""Every transfer syntax that is read, and work, damage and names of those that are not: reading/dicom_frames.py."""

from __future__ import annotations

import io
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid as uids
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from tests.reading.conftest import TESTED_WITH, Read, film, saved

from cxrlab.errors import DataError
from cxrlab.reading import dicom_frames
from cxrlab.reading.dicom_frames import _packets, encoded_layout
from cxrlab.reading.image import SECONDS, read_image

SHIPPED = TESTED_WITH / "test_files"
WINDOW: dict[str, Any] = {"WindowCenter": 2048, "WindowWidth": 4096}


def drawn(rows: int = 120, columns: int = 90) -> NDArray[np.uint16]:
    """A smooth picture of 12 bits with a little noise: every value of it is known."""
    y, x = np.mgrid[0:rows, 0:columns] / 40
    noise = np.random.default_rng(0).normal(0, 20, (rows, columns))
    return np.asarray(2048 + 1500 * np.sin(x * 3) * np.cos(y * 2) + noise).clip(0, 4095).astype(np.uint16)


def jpeg(pixels: NDArray[Any], **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(pixels, **options))


def jpeg_ls(pixels: NDArray[Any], **options: Any) -> bytes:
    return bytes(imagecodecs.jpegls_encode(pixels, **options))


def jpeg_2000_of(pixels: NDArray[Any], **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(pixels, **options))


def htj2k(pixels: NDArray[Any], **options: Any) -> bytes:
    return bytes(imagecodecs.htj2k_encode(pixels, **options))


PIXELS = drawn()
# PS3.3 C.11.2.1.2 for centre 2048 and width 4096: (x - 2047.5) / 4095 + 0.5, of 255.
SHOWN = np.floor(((PIXELS - 2047.5) / 4095 + 0.5) * 255 + 0.5).astype(np.uint8)
ENCODE: dict[uids.UID, Callable[[NDArray[np.uint16]], bytes]] = {
    uids.JPEGLossless: lambda x: jpeg(x, lossless=True, predictor=4, bitspersample=12),
    uids.JPEGLosslessSV1: lambda x: jpeg(x, lossless=True, predictor=1, bitspersample=12),
    uids.JPEGLSLossless: jpeg_ls,
    uids.JPEG2000Lossless: lambda x: jpeg_2000_of(x, level=0, codecformat="j2k", bitspersample=12),
    uids.JPEG2000: lambda x: jpeg_2000_of(x, level=0, codecformat="jp2", bitspersample=12),
    uids.HTJ2KLossless: lambda x: htj2k(x, reversible=True),
    uids.HTJ2KLosslessRPCL: lambda x: htj2k(x, reversible=True),
    uids.HTJ2K: lambda x: htj2k(x, reversible=True),
}


def encoded(syntax: uids.UID, pixels: NDArray[np.uint16] = PIXELS, frame: bytes | None = None) -> bytes:
    """A file of 12 bits in a transfer syntax; with ``frame`` as its compressed pixels."""
    dataset = film(pixels, bits=12, **WINDOW)
    if syntax == uids.ExplicitVRBigEndian:
        dataset.PixelData = pixels.byteswap().tobytes()
    elif syntax == uids.RLELossless and frame is None:
        saved(dataset)
        dataset.compress(uids.RLELossless, generate_instance_uid=False)
    elif syntax in ENCODE or frame is not None:
        dataset.PixelData = encapsulate([ENCODE[syntax](pixels) if frame is None else frame])
    return saved(dataset, syntax)


@pytest.mark.parametrize(
    "syntax", [*uids.UncompressedTransferSyntaxes, uids.RLELossless, *ENCODE], ids=lambda uid: uid.keyword
)
def test_a_film_is_equal_in_every_lossless_encoding(read: Read, syntax: uids.UID) -> None:
    np.testing.assert_array_equal(read(encoded(syntax)).pixels[..., 0], SHOWN)


def test_eight_encodings_that_ship_with_pydicom_are_equal() -> None:
    kinds = ("", "_bigendian", "_expb", "_implicit", "_RLE", "_jp2klossless", "_jpeg_ls_lossless", "_padded")
    first, *others = (read_image(SHIPPED / f"MR_small{kind}.dcm").pixels for kind in kinds)
    assert len(np.unique(first)) > 100
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_radiograph_that_ships_with_pydicom_is_equal_in_every_encoding(read: Read) -> None:
    """Its twins are made here; MONOCHROME1, 12 of 16 bits, with a window."""
    original = pydicom.dcmread(SHIPPED / "dicomdirtests" / "77654033" / "CR1" / "6154")
    pixels, expected = original.pixel_array, read(saved(original)).pixels
    for syntax, encode in ENCODE.items():
        original.PixelData = encapsulate([encode(pixels)])
        np.testing.assert_array_equal(read(saved(original, syntax)).pixels, expected, syntax.keyword)


@pytest.mark.parametrize("bits", [8, 10, 14, 16])
def test_jpeg_lossless_of_other_depths(read: Read, bits: int) -> None:
    pixels = (PIXELS.astype(np.uint32) * (2**bits - 1) // 4095).astype(np.uint8 if bits == 8 else np.uint16)
    dataset = film(pixels, bits=bits)
    expected = read(dataset).pixels
    dataset.PixelData = encapsulate([jpeg(pixels, lossless=True, bitspersample=bits)])
    np.testing.assert_array_equal(read(saved(dataset, uids.JPEGLosslessSV1)).pixels, expected)


def test_signed_values_are_signed_in_every_encoding(read: Read) -> None:
    signed = PIXELS.astype(np.int16) - 2048
    dataset = film(signed, bits=16, WindowCenter=0, WindowWidth=4096)
    expected = read(dataset).pixels
    assert len(np.unique(expected)) > 150
    unsigned = signed.view(np.uint16)  # JPEG knows no sign: the bits are stored as they are
    for syntax, frame in {
        uids.JPEGLosslessSV1: jpeg(unsigned, lossless=True, bitspersample=16),
        uids.JPEGLSLossless: jpeg_ls(unsigned),
        uids.JPEG2000Lossless: jpeg_2000_of(signed, level=0, codecformat="j2k"),
    }.items():
        dataset.PixelData = encapsulate([frame])
        np.testing.assert_array_equal(read(saved(dataset, syntax)).pixels, expected, syntax.keyword)


def test_jpeg_of_12_bits(read: Read) -> None:
    """Lossy: near to what was stored, which 8 bits would miss by up to 15 of 4095."""
    frame = jpeg(PIXELS, level=98, bitspersample=12)
    assert (encoded_layout(frame) or ())[3:] == (12, 0xC1)
    assert np.abs(read(encoded(uids.JPEGExtended12Bit, frame=frame)).pixels[..., 0].astype(int) - SHOWN).max() <= 2
    first, second = (read_image(SHIPPED / name).pixels for name in ("JPGExtended.dcm", "JPEG-lossy.dcm"))
    np.testing.assert_array_equal(first, second)
    assert first.max() == 255


def test_near_lossless_is_near(read: Read) -> None:
    frame = jpeg_ls(PIXELS, level=4)
    assert np.abs(read(encoded(uids.JPEGLSNearLossless, frame=frame)).pixels[..., 0].astype(int) - SHOWN).max() <= 1


@pytest.mark.parametrize("kind", ["RGB", "YBR_FULL"])
def test_colours_of_jpeg_lossless_are_converted_only_where_the_header_says_so(read: Read, kind: str) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    stored = rgb if kind == "RGB" else np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    dataset = film(stored, kind)
    frame = jpeg(np.ascontiguousarray(stored), lossless=True, colorspace="RGB")
    if kind != "RGB":  # the encoder calls the three R, G and B
        frame = frame.replace(b"R\x11\0G\x11\0B\x11\0", b"\1\x11\0\2\x11\0\3\x11\0").replace(
            b"R\0G\0B\0", b"\1\0\2\0\3\0"
        )
    dataset.PixelData = encapsulate([frame])
    found = read(saved(dataset, uids.JPEGLosslessSV1)).pixels
    assert np.abs(found.astype(int) - rgb).max() <= (0 if kind == "RGB" else 3)
    shipped = read_image(SHIPPED / "SC_rgb_jpeg_gdcm.dcm").pixels
    np.testing.assert_array_equal(shipped, read_image(SHIPPED / "SC_rgb_rle.dcm").pixels)


def cut(frame: bytes) -> bytes:
    """Half of the compressed pixels are missing, the mark of the end is in place."""
    return frame[: len(frame) // 4 * 2] + b"\xff\xd9"


def emptied(frame: bytes) -> bytes:
    half = len(frame) // 2
    return frame[:half] + bytes(500) + frame[half + 500 :]


@pytest.mark.parametrize("damage", [cut, emptied])
@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (uids.JPEGLosslessSV1, ENCODE[uids.JPEGLosslessSV1]),
        (uids.JPEGLossless, ENCODE[uids.JPEGLossless]),
        (uids.JPEGExtended12Bit, lambda x: jpeg(x, level=95, bitspersample=12)),
        (uids.JPEGBaseline8Bit, lambda x: jpeg((x >> 4).astype(np.uint8), level=95)),
        (uids.JPEGLSLossless, jpeg_ls),
    ],
    ids=["lossless-1", "lossless-4", "12-bit", "8-bit", "jpeg-ls"],
)
def test_damaged_pixels_are_refused_and_never_grey(
    refused: Callable[..., str],
    syntax: uids.UID,
    encode: Callable[[NDArray[np.uint16]], bytes],
    damage: Callable[[bytes], bytes],
) -> None:
    frame = encode(drawn(300, 200))
    data = encoded(syntax, drawn(300, 200), damage(frame))
    assert refused(data).startswith(("damaged", "cut off"))


@pytest.mark.parametrize("rows", [8, 9, 17, 200])
@pytest.mark.parametrize("columns", [1, 7, 64, 300])
def test_whole_films_of_any_size_are_not_taken_for_damaged(read: Read, rows: int, columns: int) -> None:
    for pixels in (drawn(rows, columns), np.full((rows, columns), 7, np.uint16)):
        twelve = jpeg(pixels, bitspersample=12)
        assert read(encoded(uids.JPEGLosslessSV1, pixels)).pixels.shape == (rows, columns, 3)
        assert read(encoded(uids.JPEGExtended12Bit, pixels, twelve)).pixels.shape == (rows, columns, 3)


# Limits of work --------------------------------------------------------------------------------------------------


def test_many_scans_are_refused(refused: Callable[..., str]) -> None:
    frame = jpeg((PIXELS >> 4).astype(np.uint8))
    scan = frame.index(b"\xff\xda")
    many = frame[:scan] + frame[scan:-2] * 2000 + frame[-2:]
    start = time.monotonic()
    assert refused(encoded(uids.JPEGBaseline8Bit, frame=many)).startswith("a JPEG of 2,000 scans, over 1")
    assert time.monotonic() - start < 5


def test_a_progressive_jpeg_is_refused(refused: Callable[..., str]) -> None:
    buffer = io.BytesIO()
    Image.fromarray((PIXELS >> 4).astype(np.uint8)).save(buffer, "JPEG", progressive=True)
    assert refused(encoded(uids.JPEGBaseline8Bit, frame=buffer.getvalue())).startswith("a progressive, hierarchical or")


def jpeg_2000(layers: int = 1, tile: tuple[int, int] = (90, 120), precincts: bytes = b"") -> bytes:
    """The header of a JPEG 2000 image of 120 rows, with five levels."""
    size = struct.pack(">HHIIIIIIIIHBBB", 47 - 6, 0, 90, 120, 0, 0, *tile, 0, 0, 1, 11, 1, 1)
    style = struct.pack(">BBHBBBBBB", bool(precincts), 0, layers, 0, 5, 4, 4, 0, 1) + precincts
    coding = b"\xff\x52" + struct.pack(">H", 2 + len(style)) + style
    return b"\xff\x4f\xff\x51" + size + coding + b"\xff\x90" + bytes(40)


# Worked out by hand: tiles x components x layers x precincts of six resolutions.
@pytest.mark.parametrize(
    ("frame", "packets"),
    [
        (jpeg_2000(), 6),
        (jpeg_2000(layers=65535), 6 * 65535),
        (jpeg_2000(tile=(1, 1)), 90 * 120 * 6),
        (jpeg_2000(tile=(45, 60)), 4 * 6),
        # precincts of 2x2: 90x120, 45x60, 23x30, 12x15, 6x8, 3x4 pixels, the smallest resolution first
        (jpeg_2000(precincts=b"\x11" * 6), 45 * 60 + 23 * 30 + 12 * 15 + 6 * 8 + 3 * 4 + 2 * 2),
    ],
)
def test_packets_of_jpeg_2000(frame: bytes, packets: int) -> None:
    assert _packets(frame, 0) == packets


@pytest.mark.parametrize("frame", [jpeg_2000(layers=65535, tile=(9, 12)), jpeg_2000(layers=500, tile=(1, 1))])
def test_a_jpeg_2000_image_that_asks_for_too_much_is_refused(refused: Callable[..., str], frame: bytes) -> None:
    message = refused(encoded(uids.JPEG2000, frame=frame))
    assert message.startswith("a JPEG 2000 image of ")
    assert "packets, over 1,000,000" in message


def test_too_many_fragments_are_refused(refused: Callable[..., str]) -> None:
    dataset = film(PIXELS, bits=12)
    dataset.PixelData = b"\xfe\xff\x00\xe0\0\0\0\0" * 100_000
    assert refused(saved(dataset, uids.JPEGLosslessSV1)).startswith("its pixels are in more than 65,536 fragments")


def test_a_film_in_many_fragments_is_one_film(read: Read) -> None:
    frame = ENCODE[uids.JPEGLosslessSV1](PIXELS)
    dataset = film(PIXELS, bits=12, **WINDOW)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=40)
    np.testing.assert_array_equal(read(saved(dataset, uids.JPEGLosslessSV1)).pixels[..., 0], SHOWN)


# Names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uid", "said"),
    [
        (
            "1.2.840.10008.1.2.4.110",
            "stored as JPEG XL Lossless, for which there is no decoder (transfer syntax {}, un",
        ),
        ("1.2.840.10008.1.2.4.112", "stored as JPEG XL, for which there is no decoder (transfer syntax {}, unknown to"),
        ("1.2.840.10008.1.2.8.1", "stored as Deflated Image Frame Compression, for which there is no decoder (transf"),
        (
            "1.2.840.10008.1.2.4.999",
            "stored as something unknown, for which there is no decoder (transfer syntax {}, u",
        ),
        ("1.2.840.113619.5.2", "stored as something unknown, for which there is no decoder (transfer syntax {}, unkn"),
        ("1.2.840.10008.1.2.4.55", "stored as JPEG Full Progression, Non-Hierarchical (Process 10 and 12), for which"),
        ("1.2.840.10008.1.2.4.102", "stored as MPEG-4 AVC/H.264 High Profile / Level 4.1, for which there is no decod"),
    ],
)
def test_what_is_not_read_is_named_with_its_uid(refused: Callable[..., str], uid: str, said: str) -> None:
    dataset = film(PIXELS, bits=12)
    dataset.PixelData = encapsulate([bytes(100)])
    data = saved(dataset, "1.2.840.10008.1.2.4.201")
    old, new = b"1.2.840.10008.1.2.4.201", uid.encode()
    at = data.index(old) - 2  # its length stands before it
    value = new + b"\0" * (len(new) % 2)
    data = data[:at] + struct.pack("<H", len(value)) + value + data[at + 2 + 24 :]
    message = refused(data)
    assert message.startswith(said.format(uid))
    assert uid in message
    assert "private" not in message
    assert "pip install" not in message


def test_a_syntax_and_pixels_that_contradict_each_other_are_named(refused: Callable[..., str]) -> None:
    compressed = encoded(uids.JPEGLosslessSV1)
    native = saved(film(PIXELS, bits=12))
    lying = compressed.replace(b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.1\0\0\0")
    assert refused(lying).startswith("its header says uncompressed, but its pixels are compressed")
    other = native.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0")
    assert refused(other).startswith("damaged: its compressed pixels are no fragments")
    assert refused(saved(film(PIXELS, bits=12, Rows=30))).startswith("21,600 bytes of pixels where its header tells")


@pytest.mark.usefixtures("in_this_process")
def test_a_decoder_that_is_not_ours_is_never_asked(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDCM, which ends the whole process on damaged data, and whatever else pydicom may find installed."""

    def fail(*_: object) -> None:
        raise AssertionError("asked")

    decoder = get_decoder(uids.JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {"gdcm": fail})
    monkeypatch.setattr(dicom_frames, "is_available", lambda uid: False)
    assert "no decoder for that is installed" in refused(encoded(uids.JPEGLosslessSV1))


# Damage by chance ------------------------------------------------------------------------------------------------


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
    """Bytes, lengths and value representations changed, parts cut out, repeated or moved."""
    spoilt = bytearray(data)
    reach = len(data) if generator.integers(2) else min(len(data), 900)
    for place in generator.integers(0, reach, generator.integers(1, 5)):
        spoilt[place] = generator.integers(256)
    kind = generator.integers(6)
    place = int(generator.integers(130, reach))
    if kind == 0:
        del spoilt[place:]
    elif kind == 1:
        del spoilt[place : place + int(generator.integers(1, 30))]
    elif kind == 2:
        spoilt[place:place] = spoilt[place - 30 : place] * int(generator.integers(1, 20))
    elif kind == 3:
        names = [b"US", b"SQ", b"OW", b"DS", b"UN", b"LO", b"??"]
        found = [at for name in names for at in range(132, min(reach, 900)) if data[at : at + 2] == name]
        if found:
            at = found[generator.integers(len(found))]
            spoilt[at : at + 2] = names[generator.integers(len(names))]
    elif kind == 4:
        spoilt[place : place + 4] = b"\xff\xff\xff\xff"
    return bytes(spoilt)


@pytest.mark.slow
@pytest.mark.parametrize(
    "syntax",
    [*uids.UncompressedTransferSyntaxes, uids.RLELossless, *ENCODE, uids.JPEGExtended12Bit],
    ids=lambda uid: uid.keyword,
)
def test_thousands_of_damaged_files_end_in_an_image_or_a_reason(tmp_path: Path, syntax: uids.UID) -> None:
    frame = jpeg(PIXELS, bitspersample=12) if syntax == uids.JPEGExtended12Bit else None
    data, generator, outcomes = encoded(syntax, frame=frame), np.random.default_rng(len(syntax)), [0, 0]
    file = tmp_path / "film"
    for _ in range(150):
        file.write_bytes(damaged(data, generator))
        start = time.monotonic()
        try:
            pixels = read_image(file).pixels
        except DataError as error:
            outcomes[0] += 1
            assert str(error).startswith(f"{file}: ")  # noqa: PT017 - either outcome is right
            assert "Doe" not in str(error)  # noqa: PT017
        else:
            outcomes[1] += 1
            assert pixels.dtype == np.uint8
            assert pixels.ndim == 3
        assert time.monotonic() - start < SECONDS + 10  # of a damaged JPEG 2000 image in a few hundred
    assert all(outcomes)
