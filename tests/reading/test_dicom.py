"""From a DICOM file to 8-bit RGB, or to a reason why not: reading/dicom.py."""

from __future__ import annotations

import io
import logging
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import uid as uids
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from tests.reading.conftest import PATIENT, TESTED_WITH, Read, film, lut, outcomes_of_damage, row, saved

from cxrlab.errors import DataError
from cxrlab.reading import dicom, dicom_frames
from cxrlab.reading.image import MAX_PIXELS, ImageFacts, read_image
from cxrlab.reading.picture import is_dicom

NOISE = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)


def test_pixels_and_facts(read: Read) -> None:
    data = saved(film(NOISE, bits=12))
    pixels, _, facts = read(data)
    low, high = int(NOISE.min()), int(NOISE.max())
    np.testing.assert_array_equal(pixels[..., 0], np.rint((NOISE - low) / (high - low) * 255))
    assert pixels.dtype == np.uint8
    assert facts == ImageFacts("DICOM", 30, 20, "grey", 12, len(data), 0, "Acme DX 1000", "PA", "")


# Worked out by hand with PS3.3 C.11.2.1.2: y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255, cut at 0 and 255.
@pytest.mark.parametrize(
    ("values", "window", "attributes", "expected"),
    [
        ([100, 150, 300], None, {}, [0, 64, 255]),
        ([7, 7, 7], None, {}, [128, 128, 128]),
        ([0, 1, 128, 255, 300], (128, 256), {}, [0, 1, 128, 255, 255]),  # c - 0.5 = 127.5, w - 1 = 255: the identity
        ([0, 1000, 4095], (2048, 4096), {}, [0, 62, 255]),  # (1000 - 2047.5) / 4095 + 0.5 = 0.2442
        ([9, 10, 11], (10.5, 1), {}, [0, 0, 255]),
        ([0, 10, 20, 40], (20, 40), {"VOILUTFunction": "LINEAR_EXACT"}, [0, 64, 128, 255]),  # (10 - 20) / 40 + 0.5
        ([0, 20, 30], (20, 40), {"VOILUTFunction": "SIGMOID"}, [30, 128, 186]),  # 1 / (1 + exp(-4 * 10 / 40)) = 0.7311
        ([0, 100, 200], ([100, 5], [201, 9]), {}, [1, 128, 255]),  # the first of two windows
        # 2 x - 100: 0, 100, 300 -> -100, 100, 500; (100 - 199.5) / 400 + 0.5
        ([0, 100, 300], (200, 401), {"RescaleSlope": 2, "RescaleIntercept": -100}, [0, 64, 255]),
        ([10, 20, 30], None, {"RescaleSlope": -1, "RescaleIntercept": 50}, [255, 128, 0]),
        ([0, 100, 4000], None, {"PixelPaddingValue": 4000}, [0, 255, 0]),
        ([0, 5, 100, 150, 200], None, {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9}, [0, 0, 0, 128, 255]),
        ([3, 3], None, {"PixelPaddingValue": 3}, [128, 128]),
        ([0, 99], (None, None), {}, [0, 255]),
    ],
)
def test_values_by_hand(
    levels: Callable[..., list[int]], values: list[int], window: Any, attributes: dict[str, Any], expected: list[int]
) -> None:
    shown = {} if window is None else {"WindowCenter": window[0], "WindowWidth": window[1]}
    assert levels(film(row(*values), **shown, **attributes)) == expected


# PS3.3 C.7.5.1.1.2: what pads is background, and background is black, whatever the values mean.
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 4096}], ids=["range", "window"])
@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("value", [0, 1000, 4095])
def test_padding_is_black(levels: Callable[..., list[int]], meaning: str, window: dict[str, Any], value: int) -> None:
    values = [value, 100, 2100, 4000, value]
    shown = levels(film(row(*values), meaning, 12, PixelPaddingValue=value, **window))
    bare = levels(film(row(*values[1:4]), meaning, 12, **window))
    assert shown == [0, *bare, 0]


def test_padding_goes_before_a_table(levels: Callable[..., list[int]]) -> None:
    table = lut([255 - entry for entry in range(256)], 0, 8)
    values = film(row(0, 10, 255, dtype=np.uint8), PixelPaddingValue=0, VOILUTSequence=[table])
    assert levels(values) == [0, 245, 0]


@pytest.mark.parametrize("value", [63536, -2000])
def test_padding_of_signed_values_is_found_with_and_without_its_sign(
    levels: Callable[..., list[int]], value: int
) -> None:
    dataset = film(row(-2000, -1000, 1000, -2000, dtype=np.int16), WindowCenter=0.5, WindowWidth=2001)
    dataset.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)
    assert levels(dataset) == [0, 0, 255, 0]
    dataset.PhotometricInterpretation = "MONOCHROME1"
    assert levels(dataset) == [0, 255, 0, 0]


def test_padding_may_lie_in_bits_that_do_not_count(levels: Callable[..., list[int]]) -> None:
    """65535 in 12 of 16 bits is padding; 4095, which has the same 12 bits, is white."""
    padded = film(row(65535, 4095, 0, 65535), bits=12, PixelPaddingValue=65535)
    assert levels(padded) == [0, 255, 0, 0]


def test_padding_that_would_leave_nothing_is_left_aside_and_told(read: Read) -> None:
    image = read(film(row(1, 2, 3), PixelPaddingValue=0, PixelPaddingRangeLimit=4095))
    assert image.pixels[0, :, 0].tolist() == [0, 128, 255]
    assert image.facts.doubts == "PixelPaddingValue (all of the picture, so left aside)"


def shuttered(read: Read, **attributes: Any) -> list[str]:
    """The rows of a white film of 7 x 9 pixels: ``#`` where it is shown."""
    white = film(np.full((7, 9), 4000, np.uint16), WindowCenter=2000, WindowWidth=100, **attributes)
    return ["".join("#" if level else "." for level in line) for line in read(white).pixels[..., 0]]


def test_what_a_shutter_hides_is_black(read: Read) -> None:
    edges = {"ShutterLeftVerticalEdge": 3, "ShutterRightVerticalEdge": 8}
    edges |= {"ShutterUpperHorizontalEdge": 2, "ShutterLowerHorizontalEdge": 4}
    rectangle = [".........", *["..######."] * 3, *["........."] * 3]
    assert shuttered(read, ShutterShape="RECTANGULAR", **edges) == rectangle
    circle = {"CenterOfCircularShutter": [4, 5], "RadiusOfCircularShutter": 2}
    found = shuttered(read, ShutterShape="CIRCULAR", **circle)
    assert (found[0], found[3], found[6]) == (".........", "..#####..", ".........")
    assert found == found[::-1]
    triangle = {"VerticesOfThePolygonalShutter": [1, 1, 7, 1, 7, 7]}
    assert shuttered(read, ShutterShape="POLYGONAL", **triangle) == [
        "#" * (line + 1) + "." * (8 - line) for line in range(7)
    ]
    both = shuttered(read, ShutterShape=["RECTANGULAR", "CIRCULAR"], **edges, **circle)
    assert both == [
        "".join("#" if a == b == "#" else "." for a, b in zip(*lines, strict=True))
        for lines in zip(rectangle, found, strict=True)
    ]
    assert shuttered(read, ShutterShape="BITMAP") == ["#" * 9] * 7


def test_a_shutter_without_a_place_is_refused(refused: Callable[..., str]) -> None:
    assert refused(film(NOISE, ShutterShape="CIRCULAR")).startswith("its CenterOfCircularShutter is no place")


def written(centre: str, width: str = "4096.0", **attributes: Any) -> bytes:
    """A film whose window is written so, whatever pydicom would say of it."""
    data = saved(film(row(0, 1000, 4095), bits=12, WindowCenter="1234.5", WindowWidth="6543.2", **attributes))
    for old, new in ((b"1234.5", centre), (b"6543.2", width)):
        data = data.replace(old, new.encode().ljust(6))
    return data


@pytest.mark.parametrize("centre", ["2047,5", "2048", " 2048", "+2048", "2048,0", "2048.0"])
def test_decimal_commas_are_read_as_points(levels: Callable[..., list[int]], centre: str) -> None:
    low = (1000 - (float(centre.replace(",", ".")) - 0.5)) / 4095 + 0.5
    assert levels(written(centre, "4096,0"))[1] == int(low * 255 + 0.5)


@pytest.mark.parametrize(
    ("centre", "said"),
    [
        ("2,048", "its WindowCenter is no number that can be used (it is written with a comma, which may stand for"),
        ("1,2,3", "its WindowCenter is no number that can be used (it is written with a comma"),
        ("abc", "its WindowCenter is no number that can be used; export it again"),
        ("nan", "its WindowCenter is no number that can be used; export it again"),
        ("1e99", "its WindowCenter is no number that can be used; export it again"),
        ("1.2.3", "its WindowCenter is no number that can be used; export it again"),
    ],
)
def test_what_is_no_number_is_named(refused: Callable[..., str], centre: str, said: str) -> None:
    assert refused(written(centre)).startswith(said)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"RescaleSlope": "x"}, "its RescaleSlope is no number"),
        ({"PlanarConfiguration": 7}, ""),
        ({"PixelRepresentation": 2}, "its PixelRepresentation is neither 0 nor 1"),
        ({"Rows": 0}, "30x0 pixels by its header; export it again"),
        ({"BitsAllocated": 12}, "its values (12 bits stored of 12, the highest of them bit 11)"),
        ({"NumberOfFrames": "1A"}, "its NumberOfFrames is not one whole number"),
        ({"VOILUTSequence": [Dataset()]}, "its VOILUTSequence holds no table of values"),
        ({"ModalityLUTSequence": [Dataset()]}, "its ModalityLUTSequence holds no table of values"),
    ],
)
def test_damaged_attributes_are_named(
    read: Read, refused: Callable[..., str], attributes: dict[str, Any], said: str
) -> None:
    dataset = film(NOISE, bits=12)
    with pydicom.config.disable_value_validation():
        for keyword, value in attributes.items():
            dataset.add_new(keyword, "LO" if isinstance(value, str) else pydicom.datadict.dictionary_VR(keyword), value)
        if said:
            assert refused(dataset).startswith(said)
        else:
            assert read(dataset).pixels.shape == (20, 30, 3)


ROWS = b"\x28\0\x10\0US\x02\0\x14\0"  # 20
DEVICE = b"\x08\0\x70\0LO"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(ROWS, b"\x28\0\x10\0UL\x04\0\x14\0\0\0", id="rows-in-4-bytes"),
        pytest.param(ROWS, b"\x28\0\x10\0DS\x02\x0020", id="rows-as-text"),
        pytest.param(ROWS, b"\x28\0\x10\0UN\0\0\x02\0\0\0\x14\0", id="rows-unknown"),
        pytest.param(ROWS, b"\x28\0\0\0UL\x04\0\x07\0\0\0" + ROWS, id="wrong-length-of-a-group"),
        pytest.param(b"MONOCHROME2 ", b"MONOCHROME2\0", id="ends-with-nul"),
        pytest.param(b"CS\x0c\0MONOCHROME2 ", b"CS\x0b\0MONOCHROME2", id="odd-length"),
        pytest.param(b"1.2.840.10008.1.2.1\0", b"\0" * 20, id="empty-transfer-syntax"),
        pytest.param(DEVICE, b"\x08\0\x05\0CS\x08\0NOT-ISO " + DEVICE, id="unknown-character-set"),
        pytest.param(DEVICE, b"\x08\0\x20\0DA\x0a\x002024-02-31\x08\0\x30\0TM\x04\0noon" + DEVICE, id="no-date"),
    ],
)
def test_headers_that_are_odd_but_clear_are_read(read: Read, old: bytes, new: bytes) -> None:
    data = saved(film(NOISE, bits=12))
    assert data.count(old) == 1
    image = read(data.replace(old, new))
    np.testing.assert_array_equal(image.pixels, read(data).pixels)
    assert image.facts.doubts == ""


@pytest.mark.parametrize("length", [0, 4, 5000, 2**32 - 1])
def test_a_wrong_length_of_the_file_meta_information_does_not_matter(read: Read, length: int) -> None:
    data = saved(film(NOISE, bits=12))
    wrong = data[:140] + length.to_bytes(4, "little") + data[144:]
    np.testing.assert_array_equal(read(wrong).pixels, read(data).pixels)


def test_the_standard_before_dicom(read: Read, refused: Callable[..., str]) -> None:
    """ACR-NEMA 2.0: no preamble, no file meta information, no VR, a length of the group first."""
    data = saved(film(NOISE, bits=12), uids.ImplicitVRLittleEndian)
    body = data[132 + 12 + int.from_bytes(data[140:144], "little") :]
    begin = b"\x08\0\0\0\x04\0\0\0\x64\0\0\0\x08\0\x10\0\x0c\0\0\0ACR-NEMA 2.0"
    np.testing.assert_array_equal(read(begin + body).pixels, read(data).pixels)
    without = body.replace(b"\x28\0\x04\0\x0c\0\0\0MONOCHROME2 ", b"")
    assert refused(begin + without).startswith("a damaged DICOM file: its header lacks PhotometricInterpretation")


def test_half_a_window_is_left_aside_and_told(read: Read) -> None:
    image = read(film(NOISE, bits=12, WindowCenter=5))
    assert image.facts.doubts == "WindowCenter (alone, so left aside)"
    np.testing.assert_array_equal(image.pixels, read(film(NOISE, bits=12)).pixels)


def test_nested_sequences_without_an_end_are_refused(refused: Callable[..., str]) -> None:
    start = b"\x08\0\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    data = saved(film(NOISE))
    at = data.index(b"\x08\0\x70\0LO")
    assert refused(data[:at] + start * 20_000).startswith(("its header has sequences within", "a damaged DICOM header"))


OVERLAY = row(0, 2048, 4095) | np.uint16(0x8000)
SIGNED = row(-2048, 0, 2047, dtype=np.int16) & np.int16(0x0FFF)
TO_8_BITS = lut([entry // 16 for entry in range(4096)], 0, 8)


@pytest.mark.parametrize(
    ("values", "bits", "attributes", "expected"),
    [
        (row(-1000, -500, 0, 1000, dtype=np.int16), None, {}, [0, 64, 128, 255]),  # (-500 + 1000) / 2000
        (row(-160, -60, 40, 140, 240, dtype=np.int16), None, {"window": (40.5, 401)}, [0, 64, 128, 191, 255]),
        (SIGNED, 12, {}, [0, 128, 255]),  # the unused bits do not hold the sign
        (OVERLAY, 12, {"window": (2048, 4096)}, [0, 128, 255]),  # nor are they a part of the value
        (row(10, 20, 30, 30, dtype=np.uint8), None, {}, [0, 128, 255, 255]),
        (row(0, 2**30, 2**31, dtype=np.uint32), None, {}, [0, 128, 255]),
        (
            row(9, 10, 11, 12, 13),
            None,
            {"modality": lut([0, 100, 400], 10, 16), "window": (200.5, 401)},
            [0, 0, 64, 255, 255],
        ),
        (row(0, 16, 255, 256, 2048, 4095), None, {"voi": TO_8_BITS}, [0, 1, 15, 16, 128, 255]),
        (
            row(-3, -2, -1, 0, 1, 2, dtype=np.int16),
            None,
            {"voi": lut([0, 255, 0, 255], -2, 8)},
            [0, 0, 255, 0, 255, 255],
        ),
    ],
)
def test_kinds_of_values(
    levels: Callable[..., list[int]], values: NDArray[Any], bits: int, attributes: dict[str, Any], expected: list[int]
) -> None:
    dataset = film(values, bits=bits)
    if "window" in attributes:
        dataset.WindowCenter, dataset.WindowWidth = attributes["window"]
    for key, keyword in (("modality", "ModalityLUTSequence"), ("voi", "VOILUTSequence")):
        if key in attributes:
            setattr(dataset, keyword, [attributes[key]])
    assert levels(dataset) == expected


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian])
def test_a_voi_table_goes_before_the_window(levels: Callable[..., list[int]], syntax: str) -> None:
    table = lut([0, 1023, 512, 256], 5, 10)  # 512 / 1023, 256 / 1023
    attributes: dict[str, Any] = {"VOILUTSequence": [table], "WindowCenter": 3, "WindowWidth": 2}
    data = saved(film(row(0, 5, 6, 7, 8, 99), **attributes), syntax)
    assert levels(data) == [0, 0, 255, 128, 64, 64]


TWINS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    # c' = 4095 - c + 1, since the window is not symmetric around its centre
    ({"WindowCenter": 1000, "WindowWidth": 700}, {"WindowCenter": 3096, "WindowWidth": 700}),
    (
        {"WindowCenter": 1000.25, "WindowWidth": 77.5, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 3094.75, "WindowWidth": 77.5, "VOILUTFunction": "LINEAR_EXACT"},
    ),
    ({"PixelPaddingValue": 0}, {"PixelPaddingValue": 4095}),
    ({"RescaleSlope": 3, "RescaleIntercept": -7}, {"RescaleSlope": 3, "RescaleIntercept": -7}),
    (
        {"VOILUTSequence": [lut([entry // 16 for entry in range(4096)], 0, 8)]},
        {"VOILUTSequence": [lut([entry // 16 for entry in range(4096)], 0, 8)]},
    ),
]


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.RLELossless])
@pytest.mark.parametrize("attributes", TWINS, ids=["none", "linear", "exact", "padding", "rescale", "table"])
def test_a_monochrome1_twin_is_equal(
    read: Read, attributes: tuple[dict[str, Any], dict[str, Any]], syntax: str
) -> None:
    def compressed(dataset: Dataset) -> bytes:
        if syntax == uids.RLELossless:
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
            dataset.compress(uids.RLELossless, generate_instance_uid=False)
            return saved(dataset, uids.RLELossless)
        return saved(dataset)

    original = read(compressed(film(NOISE, bits=12, **attributes[0])))
    twin = read(compressed(film(4095 - NOISE, "MONOCHROME1", 12, **attributes[1])))
    np.testing.assert_array_equal(twin.pixels, original.pixels)
    assert len(np.unique(twin.pixels)) > 5
    assert twin.facts.mode == original.facts.mode == "grey"


@pytest.mark.parametrize("name", ["MR_small.dcm", "CT_small.dcm", "dicomdirtests/77654033/CR1/6154"])
def test_the_twin_of_a_shipped_file_is_equal(read: Read, name: str) -> None:
    """The twin shows the same film: its values run the other way, and so do rescale and window."""
    dataset = pydicom.dcmread(TESTED_WITH / "test_files" / name)
    meaning = dataset.PhotometricInterpretation
    stored = dataset.pixel_array
    expected = read(saved(dataset)).pixels
    low, high = (-(2**15), 2**15 - 1) if stored.dtype.kind == "i" else (0, 2**dataset.BitsStored - 1)
    dataset.PixelData = (high + low - stored.astype(np.int64)).astype(stored.dtype).tobytes()
    slope, intercept = float(dataset.get("RescaleSlope", 1)), float(dataset.get("RescaleIntercept", 0))
    modality = slope * (high + low) + 2 * intercept  # what a value and its twin's add up to
    if "WindowCenter" in dataset:
        centre, width = (np.atleast_1d(dataset[keyword].value)[0] for keyword in ("WindowCenter", "WindowWidth"))
        dataset.WindowCenter, dataset.WindowWidth = modality - float(centre) + 1, width
    if "PixelPaddingValue" in dataset:
        del dataset.PixelPaddingValue
    dataset.PhotometricInterpretation = "MONOCHROME1" if meaning == "MONOCHROME2" else "MONOCHROME2"
    np.testing.assert_array_equal(read(saved(dataset)).pixels, expected)


RGB = np.random.default_rng(1).integers(0, 256, (8, 10, 3), np.uint8)


@pytest.mark.parametrize("syntax", [uids.ExplicitVRLittleEndian, uids.ImplicitVRLittleEndian, uids.ExplicitVRBigEndian])
def test_colours_in_every_byte_order(read: Read, syntax: str) -> None:
    wide = RGB.astype(np.uint16) << 4 | 9
    stored = wide.byteswap() if syntax == uids.ExplicitVRBigEndian else wide
    dataset = film(wide, "RGB", 12)
    dataset.PixelData = stored.tobytes()
    pixels, _, facts = read(saved(dataset, syntax))
    np.testing.assert_array_equal(pixels, RGB)
    assert facts[3:5] == ("RGB", 12)


def test_planes_of_colour(read: Read) -> None:
    dataset = film(RGB, "RGB", PlanarConfiguration=1)
    dataset.PixelData = RGB.transpose(2, 0, 1).tobytes()
    np.testing.assert_array_equal(read(dataset).pixels, RGB)


def test_ybr_becomes_rgb(read: Read) -> None:
    ybr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    assert np.abs(read(film(ybr, "YBR_FULL")).pixels.astype(int) - RGB).max() <= 3


def palette(stored: NDArray[Any], entries: list[int], bits: int) -> Dataset:
    dataset = film(stored, "PALETTE COLOR")
    kind = np.uint8 if bits == 8 else np.uint16
    for turn, colour in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [len(entries), 0, bits])
        table = np.roll(np.array(entries, kind), turn).tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table)
    return dataset


def test_a_palette(read: Read) -> None:
    pixels, _, facts = read(palette(row(0, 1, 2, 3, dtype=np.uint8), [0, 10, 20, 255], 8))
    assert pixels[0].tolist() == [[0, 255, 20], [10, 0, 255], [20, 10, 0], [255, 20, 10]]
    assert facts.mode == "palette"
    deep = read(palette(row(0, 1, 2, 3, dtype=np.uint8), [0, 10 << 8, 20 << 8, 255 << 8], 16))
    np.testing.assert_array_equal(deep.pixels, pixels)


def test_a_palette_of_8_bits_with_many_colours_is_refused(refused: Callable[..., str]) -> None:
    assert refused(palette(row(0, 300), [value % 256 for value in range(512)], 8)).startswith("a palette of 512")


@pytest.mark.parametrize("quality", [None, 90])
def test_compressed_pixels(read: Read, quality: int | None) -> None:
    smooth = (np.add.outer(np.arange(32), np.arange(40)) * 3).astype(np.uint8)
    buffer = io.BytesIO()
    if quality is None:
        Image.fromarray(smooth).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    else:
        Image.fromarray(smooth).save(buffer, "JPEG", quality=quality)
    dataset = film(smooth, WindowCenter=128, WindowWidth=256)
    dataset.PixelData = encapsulate([buffer.getvalue()])
    pixels = read(saved(dataset, uids.JPEG2000Lossless if quality is None else uids.JPEGBaseline8Bit)).pixels
    assert np.abs(pixels[..., 0].astype(int) - smooth).max() <= (0 if quality is None else 5)


def test_deflated_and_headerless_files(read: Read) -> None:
    shipped = TESTED_WITH / "test_files"
    assert read_image(shipped / "image_dfl.dcm").pixels.shape == (512, 512, 3)
    data = saved(film(NOISE, bits=12))
    expected = read(data).pixels
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    for without in (data[132:], data[start:]):  # without its preamble, and without its file meta information
        assert is_dicom(without)
        np.testing.assert_array_equal(read(without).pixels, expected)
    implicit = saved(film(NOISE, bits=12), uids.ImplicitVRLittleEndian)
    start = 132 + 12 + int.from_bytes(implicit[140:144], "little")
    np.testing.assert_array_equal(read(implicit[start:]).pixels, expected)
    big = film(NOISE, bits=12)
    big.PixelData = NOISE.byteswap().tobytes()
    big_endian = saved(big, uids.ExplicitVRBigEndian)
    start = 132 + 12 + int.from_bytes(big_endian[140:144], "little")
    np.testing.assert_array_equal(read(big_endian[start:]).pixels, expected)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x08\0", b"\x08\0\x05\0", b"\x08\0\x08\0 has no VR", b"\x08\0\x05\xffCS\x0a\0", b"\0\x08\0\x05cs\0\x0a"],
)
def test_other_files_are_not_taken_for_dicom(data: bytes) -> None:
    assert not is_dicom(data)


def test_several_frames_are_refused_with_their_number(refused: Callable[..., str]) -> None:
    message = refused(film(NOISE, NumberOfFrames=30))
    assert message == "holds 30 frames, and which of them is meant is unknown; save one of them"


def test_a_file_without_an_image_says_what_it_is(refused: Callable[..., str]) -> None:
    dataset = film(NOISE, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    del dataset.PixelData
    assert refused(dataset) == (
        "a DICOM file without an image (Basic Text SR Storage), or cut off before it; leave it out"
    )
    dataset.SOPClassUID = "1.2.3.4.5"
    assert "(of unknown kind)" in refused(dataset)


def test_floating_point_is_refused(refused: Callable[..., str]) -> None:
    dataset = film(NOISE)
    del dataset.PixelData
    dataset.FloatPixelData = NOISE.astype(np.float32).tobytes()
    assert refused(dataset).startswith("its values (floating point) have no range")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        pytest.param({"Rows": None}, "a damaged DICOM file: its header lacks Rows; export it again", id="no-rows"),
        pytest.param({"PhotometricInterpretation": "HSV"}, "its PhotometricInterpretation is none of", id="hsv"),
        pytest.param({"SamplesPerPixel": 3}, "3 samples per pixel do not fit MONOCHROME2", id="samples"),
        pytest.param({"HighBit": 15}, "its values (12 bits stored of 16, the highest of them bit 15)", id="high-bit"),
        pytest.param({"BitsAllocated": 64}, "its values (12 bits stored of 64", id="bits"),
        pytest.param(
            {"WindowCenter": 5, "WindowWidth": 0}, "its window (centre 5, width 0) shows nothing", id="window"
        ),
        pytest.param(
            {"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
            "its VOILUTFunction is none of",
            id="function",
        ),
        pytest.param({"Rows": 21}, "cut off: 1,200 of 1,260 bytes of pixels; copy it again", id="cut-off"),
    ],
)
def test_headers_that_make_no_sense_are_refused(
    refused: Callable[..., str], attributes: dict[str, Any], message: str
) -> None:
    assert refused(film(NOISE, bits=12, **attributes)).startswith(message)


def memory_of(refuse: Callable[[], object]) -> int:
    """Peak of Python's and NumPy's memory in bytes."""
    tracemalloc.start()
    try:
        refuse()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bombs_are_refused_by_the_header(refused: Callable[..., str]) -> None:
    large = saved(film(NOISE, Rows=60_000, Columns=60_000))
    assert memory_of(lambda: refused(large)) < 2_000_000
    assert refused(large) == f"60000x60000 pixels by its header, over the limit of {MAX_PIXELS:,}; shrink the image"


def test_a_run_length_bomb_is_refused(refused: Callable[..., str]) -> None:
    dataset = film(NOISE, Rows=12_000, Columns=12_000)
    dataset.PixelData = encapsulate([bytes(64) + b"\x81\0" * 100])
    data = saved(dataset, uids.RLELossless)
    assert memory_of(lambda: refused(data)) < 2_000_000
    assert refused(data).startswith("cut off: 264 bytes cannot hold 12000x12000 pixels")


@pytest.mark.parametrize("syntax", [uids.JPEGBaseline8Bit, uids.JPEG2000])
def test_a_compressed_image_larger_than_its_header_is_refused(refused: Callable[..., str], syntax: str) -> None:
    buffer = io.BytesIO()
    image = Image.fromarray(np.zeros((64, 48), np.uint8))
    image.save(
        buffer, *(["JPEG2000"] if syntax == uids.JPEG2000 else ["JPEG"])
    )  # a JP2 file with boxes, and a bare JPEG
    dataset = film(np.zeros((4, 4), np.uint8))
    dataset.PixelData = encapsulate([buffer.getvalue()])
    assert refused(saved(dataset, syntax)) == (
        "damaged: its compressed image (48x64 pixels, 1 samples of 8 bits) does not fit its header; export it again"
    )


def test_a_compressed_image_without_a_header_is_refused(refused: Callable[..., str]) -> None:
    for rubbish in (b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\x10JFIF", b"no image at all"):
        dataset = film(np.zeros((4, 4), np.uint8))
        dataset.PixelData = encapsulate([rubbish + bytes(len(rubbish) % 2)])
        assert "its compressed image has no header" in refused(saved(dataset, uids.JPEGBaseline8Bit))


@pytest.mark.usefixtures("in_this_process")
def test_a_deflated_bomb_is_refused(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "_LARGEST_INFLATED", 50_000_000)
    data = saved(film(NOISE), "1.2.840.10008.1.2.1.99")
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(10_000_000)) for _ in range(20)) + packer.flush()
    assert len(bomb) < 300_000
    assert refused(data[:start] + bomb) == "grows to more than 50,000,000 bytes when inflated; leave it out"


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("MR_small_jpeg_ls_lossless.dcm", "JPEG-LS Lossless Image Compression"),
        ("SC_rgb_jpeg_gdcm.dcm", "JPEG Lossless"),
        ("JPGExtended.dcm", "JPEG Extended"),
    ],
)
@pytest.mark.usefixtures("in_this_process")
def test_a_missing_decoder_is_named(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str, syntax: str
) -> None:
    monkeypatch.setattr(dicom_frames, "is_available", lambda uid: False)
    message = refused((TESTED_WITH / "test_files" / name).read_bytes())
    assert message.startswith(f"compressed as {syntax}")
    assert "and no decoder for that is installed; `pip install 'cxrlab[dicom]'`, or export it" in message


def test_where_the_extra_is_installed_nobody_is_told_to_install_it(refused: Callable[..., str]) -> None:
    data = (TESTED_WITH / "test_files" / "MR_small_jpeg_ls_lossless.dcm").read_bytes()
    message = refused(data[:-3000] + bytes(2000) + data[-1000:])
    assert message.startswith("damaged, or JPEG-LS Lossless Image Compression of a kind that imagecodecs cannot")
    assert "pip install" not in message


def test_videos_are_refused(refused: Callable[..., str]) -> None:
    dataset = film(np.zeros((4, 4), np.uint8))
    dataset.PixelData = encapsulate([b"video"])
    assert refused(saved(dataset, uids.MPEG2MPML)).startswith("stored as MPEG2 Main Profile / Main Level, for which")


def test_damaged_texts_are_not_passed_on(read: Read) -> None:
    data = saved(film(NOISE))
    at = data.index(b"\x08\0\x70\0LO")  # Manufacturer; with a longer length it swallows what follows
    name = data.index(PATIENT.encode())
    swallowed = data[: at + 6] + (name + 8 - at - 8).to_bytes(2, "little") + data[at + 8 :]
    facts = read(swallowed).facts
    assert PATIENT not in str(facts)
    assert "Acme" not in facts.device


def test_nothing_is_logged_or_warned(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    dataset = film(NOISE, bits=12)
    dataset.PixelData += bytes(100)  # longer than it should be: pydicom warns of it, and logs the warning
    logging.getLogger("pydicom").setLevel(logging.NOTSET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(dataset).pixels.shape == (20, 30, 3)
    assert not caplog.records


def shipped() -> list[Path]:
    return sorted(path for path in (TESTED_WITH / "test_files").rglob("*") if path.is_file() and path.suffix != ".py")


def test_every_file_that_ships_with_pydicom_is_an_image_or_refused_with_a_reason() -> None:
    images, refusals = [], {}
    for file in shipped():
        try:
            images.append((file, read_image(file)))
        except DataError as error:
            assert str(error).startswith(f"{file}: ")  # noqa: PT017 - either outcome is right
            refusals[file.name] = str(error).removeprefix(f"{file}: ")
    assert len(images) >= 74
    assert len(images) + len(refusals) >= 170
    for file, image in images:
        assert image.pixels.ndim == 3, file
        assert image.pixels.max() > image.pixels.min() or file.name in {"17166", "17196"}, file
    for name, reason in {
        "rtplan.dcm": "without an image (RT Plan Storage)",
        "waveform_ecg.dcm": "without an image (12-lead ECG Waveform Storage)",
        "DICOMDIR": "without an image (Media Storage Directory Storage)",
        "examples_ybr_color.dcm": "holds 30 frames",
        "MR_truncated.dcm": "cut off: 8,130 of 8,192 bytes",
        "zipMR.gz": "a compressed file, which is not read",
    }.items():
        assert reason in refusals[name]


@pytest.mark.slow
def test_random_damage_ends_in_an_image_or_a_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(NOISE.astype(np.uint8)).save(buffer, "JPEG")
    jpeg = film(NOISE.astype(np.uint8))
    jpeg.PixelData = encapsulate([buffer.getvalue()])
    files = [
        saved(film(NOISE, bits=12, WindowCenter=2048, WindowWidth=4096)),
        saved(film(RGB, "RGB"), uids.ImplicitVRLittleEndian),
        saved(film(NOISE, bits=12, VOILUTSequence=[lut([1, 2, 3, 4], 0, 8)]), "1.2.840.10008.1.2.1.99"),
        saved(jpeg, uids.JPEGBaseline8Bit),
        *((TESTED_WITH / "test_files" / name).read_bytes() for name in ("MR_small_RLE.dcm", "JPEG2000.dcm")),
    ]
    outcomes = outcomes_of_damage(files, tmp_path / "file", 600, header=1500)
    assert min(outcomes.count(True), outcomes.count(False)) > 100
