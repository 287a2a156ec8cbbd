"""From a file to 8-bit RGB, or to a reason why not: reading/image.py."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms
from tests.reading.conftest import outcomes_of_damage

from cxrlab.errors import DataError
from cxrlab.reading.image import MAX_PIXELS, ImageFacts, read_bytes, read_image, read_image_bytes
from cxrlab.reading.picture import decode

Pixels = NDArray[np.uint8]
EXIF = Image.Exif()
EXIF[0x0112] = 6  # orientation: to be turned by 90 degrees clockwise


def picture() -> Pixels:
    """Shape (24, 31, 3), uint8: a gradient, so that JPEG keeps it, with noise, so that nothing agrees by luck."""
    y, x = np.mgrid[:24, :31]
    smooth = np.stack([8 * x, 10 * y, 4 * (x + y)], -1)
    return (smooth + np.random.default_rng(0).integers(0, 8, smooth.shape)).astype(np.uint8)


RGB = picture()
GREY = RGB[..., 0]
DEEP = GREY.astype(np.uint16) << 8 | RGB[..., 1]  # 16 bit; the upper byte is GREY


def encode(image: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def encode_cv(suffix: str, image: NDArray[Any]) -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


def stacked(grey: Pixels) -> Pixels:
    return np.stack([grey] * 3, -1)


def mode(name: str) -> Image.Image:
    return Image.fromarray(RGB).convert(name)


def quantized() -> Image.Image:
    return Image.fromarray(RGB).quantize(32)


LOSSLESS: dict[str, tuple[bytes, Pixels]] = {
    "png-rgb": (encode(RGB, "PNG"), RGB),
    "png-grey": (encode(GREY, "PNG"), stacked(GREY)),
    "png-grey-alpha": (encode(mode("LA"), "PNG"), stacked(np.asarray(mode("L")))),
    "png-1-bit": (encode(GREY > 99, "PNG"), stacked((GREY > 99) * np.uint8(255))),
    "png-16-bit": (encode(DEEP, "PNG"), stacked(GREY)),
    "png-16-bit-rgb": (encode_cv(".png", RGB[..., ::-1].astype(np.uint16) << 8 | 77), RGB),
    "png-rgba": (encode(np.dstack([RGB, GREY]), "PNG"), RGB),
    "png-palette": (encode(quantized(), "PNG"), np.asarray(quantized().convert("RGB"))),
    "png-interlaced-exif": (encode(RGB, "PNG", exif=EXIF), np.rot90(RGB, -1)),
    "bmp-rgb": (encode(RGB, "BMP"), RGB),
    "bmp-grey": (encode(GREY, "BMP"), stacked(GREY)),
    "tiff-rgb": (encode(RGB, "TIFF"), RGB),
    "tiff-grey": (encode(GREY, "TIFF"), stacked(GREY)),
    "tiff-16-bit": (encode(DEEP, "TIFF"), stacked(GREY)),
    "tiff-lzw": (encode(RGB, "TIFF", compression="tiff_lzw"), RGB),
    "tiff-deflate": (encode(RGB, "TIFF", compression="tiff_deflate"), RGB),
    "tiff-white-is-zero": (encode(255 - GREY, "TIFF", tiffinfo={262: 0}), stacked(255 - GREY)),
    "tiff-rgba": (encode(np.dstack([RGB, np.full_like(GREY, 255)]), "TIFF"), RGB),
    "webp-lossless": (encode(RGB, "WEBP", lossless=True), RGB),
    "webp-exif": (encode(RGB, "WEBP", lossless=True, exif=EXIF), np.rot90(RGB, -1)),
}
LOSSY: dict[str, bytes] = {
    "jpeg": encode(RGB, "JPEG", quality=95, subsampling=0),
    "jpeg-progressive": encode(RGB, "JPEG", quality=95, subsampling=0, progressive=True),
    "jpeg-grey": encode(GREY, "JPEG", quality=95),
    "jpeg-multi-picture": encode(RGB, "MPO", save_all=True, append_images=[mode("L")], quality=95, subsampling=0),
    "jpeg-with-a-tail": encode(RGB, "JPEG", quality=95) + b"\nappended by a camera",
    "webp": encode(RGB, "WEBP", quality=95),
}
ONE_PICTURE = {name: data for name, (data, _) in LOSSLESS.items()} | {
    name: LOSSY[name] for name in ("jpeg", "jpeg-progressive", "jpeg-grey", "webp")
}


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Writes bytes and returns the message with which they are refused, without the path it begins with."""

    def read(data: bytes, name: str = "some.png") -> str:
        file = tmp_path / name
        file.write_bytes(data)
        return reason(file)

    return read


def reason(file: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(file)
    assert str(caught.value).startswith(f"{file}: ")
    return str(caught.value).removeprefix(f"{file}: ")


def read_written(folder: Path, data: bytes) -> Pixels:
    (folder / "file").write_bytes(data)
    return read_image(folder / "file").pixels


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_arrive_exactly(tmp_path: Path, name: str) -> None:
    data, expected = LOSSLESS[name]
    pixels = read_written(tmp_path, data)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_are_what_pillow_makes_of_them(tmp_path: Path, name: str) -> None:
    pixels = read_written(tmp_path, LOSSY[name])
    expected = np.asarray(Image.open(io.BytesIO(LOSSY[name])).convert("RGB"))
    assert pixels.shape == (24, 31, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 2
    assert np.abs(pixels.astype(int).mean() - (RGB if "grey" not in name else GREY).mean()) < 3


def test_cmyk_is_close_to_what_pillow_makes_of_it(tmp_path: Path) -> None:
    data = encode(mode("CMYK"), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(read_written(tmp_path, data) - expected).max() <= 3


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY])
def test_the_pixels_are_those_of_imread(tmp_path: Path, name: str) -> None:
    data = LOSSLESS[name][0] if name in LOSSLESS else LOSSY[name]
    pixels = read_written(tmp_path, data)
    expected = cv2.imread(str(tmp_path / "file"))
    assert expected is not None
    np.testing.assert_array_equal(pixels, expected[..., ::-1])


# What EXIF says of the first row and column, as turns of an array (JEITA CP-3451, tag Orientation).
ORIENTATIONS: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(tmp_path: Path, kind: str, bits: int, orientation: int) -> None:
    if bits == 16 and kind in {"JPEG", "WEBP"}:
        return
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif}
    quality: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
    options |= quality.get(kind, {})
    (tmp_path / "file").write_bytes(encode(RGB if bits == 8 else DEEP, kind, **options))
    pixels, _, facts = read_image(tmp_path / "file")
    expected = ORIENTATIONS[orientation](RGB if bits == 8 else stacked(GREY))
    assert (facts.height, facts.width) == pixels.shape[:2] == expected.shape[:2]
    if kind == "JPEG":
        assert np.abs(pixels.astype(int) - expected).mean() < 8
    else:
        np.testing.assert_array_equal(pixels, expected)


def test_12_bit_values_in_16_bit_files_are_not_nearly_black(tmp_path: Path) -> None:
    twelve = DEEP >> 4
    assert twelve.max() > 2**11
    for kind in ("PNG", "TIFF"):
        (tmp_path / "file").write_bytes(encode(twelve, kind))
        pixels, _, facts = read_image(tmp_path / "file")
        np.testing.assert_array_equal(pixels, stacked((twelve >> 4).astype(np.uint8)))
        assert facts.bits == 12


@pytest.mark.parametrize(
    ("values", "bits", "expected"),
    [
        pytest.param([0, 256, 65535], 16, [0, 1, 255], id="16"),
        pytest.param([0, 8, 1023], 10, [0, 2, 255], id="10"),
        pytest.param([0, 1, 511], 10, [0, 0, 127], id="9-is-10"),
        pytest.param([0, 16, 2047], 12, [0, 1, 127], id="11-is-12"),
        pytest.param([0, 1, 4096], 14, [0, 0, 64], id="13-is-14"),
        pytest.param([0, 1, 200], 8, [0, 1, 200], id="8-stays-8"),
        pytest.param([0, 1, 2], 8, [0, 1, 2], id="dim"),
        pytest.param([0, 0, 0], 8, [0, 0, 0], id="black"),
    ],
)
def test_the_upper_8_of_the_bits_in_use_are_kept(
    tmp_path: Path, values: list[int], bits: int, expected: list[int]
) -> None:
    (tmp_path / "file").write_bytes(encode(np.array([values], np.uint16), "PNG"))
    pixels, _, facts = read_image(tmp_path / "file")
    assert pixels[0, :, 0].tolist() == expected
    assert facts.bits == bits


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    return data[:33] + chunk(kind, content) + data[33:]


@pytest.mark.parametrize("largest", [300, 2047, 4095])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_the_depth_that_a_file_declares_is_used(tmp_path: Path, kind: str, largest: int) -> None:
    values = np.array([[0, 256, largest]], np.uint16)
    data = encode(values, kind, **({"tiffinfo": {281: 4095}} if kind == "TIFF" else {}))
    (tmp_path / "file").write_bytes(with_chunk(data, b"sBIT", b"\x0c") if kind == "PNG" else data)
    pixels, _, facts = read_image(tmp_path / "file")
    assert pixels[0, :, 0].tolist() == [0, 16, largest >> 4]
    assert (facts.bits, facts.guessed) == (12, False)


def test_values_that_are_spread_over_all_bits_are_not_cut_by_what_is_declared(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(with_chunk(encode(DEEP, "PNG"), b"sBIT", b"\x0c"))
    pixels, _, facts = read_image(tmp_path / "file")
    np.testing.assert_array_equal(pixels, stacked(GREY))
    assert (facts.bits, facts.guessed) == (16, False)


def test_one_pixel_does_not_change_the_brightness_of_a_film(tmp_path: Path) -> None:
    for peak in (2040, 2047, 2048, 4095):
        values = np.full((9, 9), 2000, np.uint16)
        values[0, 0] = peak
        for kind in ("PNG", "TIFF"):
            (tmp_path / "file").write_bytes(encode(values, kind))
            assert read_image(tmp_path / "file").pixels[5, 5].tolist() == [125] * 3


def test_a_dim_12_bit_tiff_is_as_dim_as_it_says(tmp_path: Path) -> None:
    values = np.arange(32 * 24, dtype=np.uint16).reshape(24, 32)  # up to 767 of 4,095
    (tmp_path / "file").write_bytes(packed_12_bit_tiff(values))
    pixels, _, facts = read_image(tmp_path / "file")
    np.testing.assert_array_equal(pixels[..., 0], values >> 4)
    assert (facts.bits, facts.guessed) == (12, False)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_colours_and_transparency(tmp_path: Path, suffix: str) -> None:
    deep = np.dstack([RGB[..., ::-1], np.full_like(GREY, 9)]).astype(np.uint16) << 8 | 77
    for channels, mode_ in ((3, "RGB"), (4, "RGBA")):
        (tmp_path / "file").write_bytes(encode_cv(suffix, deep[..., :channels]))
        pixels, _, facts = read_image(tmp_path / "file")
        np.testing.assert_array_equal(pixels, RGB)
        assert facts[3:5] == (mode_, 16)


def test_a_16_bit_tiff_in_which_white_is_zero_is_inverted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(encode(DEEP, "TIFF", tiffinfo={262: 0}))
    np.testing.assert_array_equal(read_image(tmp_path / "file").pixels, stacked(255 - GREY))


def packed_12_bit_tiff(values: NDArray[np.uint16]) -> bytes:
    height, width = values.shape
    pairs = values.reshape(-1, 2).astype(int)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    data = packed.astype(np.uint8).tobytes()
    start = 8 + 2 + 9 * 12 + 4
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: start, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + data


def test_a_12_bit_tiff_is_read(tmp_path: Path) -> None:
    values = np.arange(32 * 24, dtype=np.uint16).reshape(24, 32) * 5 % 4096
    (tmp_path / "file").write_bytes(packed_12_bit_tiff(values))
    pixels, _, facts = read_image(tmp_path / "file")
    np.testing.assert_array_equal(pixels[..., 0], values >> 4)
    assert facts.bits == 12


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_several_pictures_in_a_file_are_refused_with_their_number(refused: Callable[..., str], kind: str) -> None:
    others = [Image.fromarray(np.roll(RGB, 9 * turn, 0)) for turn in (1, 2)]
    assert refused(encode(RGB, kind, save_all=True, append_images=others)) == (
        "holds 3 pictures, and which of them is meant is unknown; save one of them"
    )


def test_the_thumbnail_of_a_tiff_is_no_second_picture(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    thumbnail = Image.fromarray(RGB[::4, ::4].copy())
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}  # a reduced version of another picture in this file
    Image.fromarray(RGB).save(buffer, "TIFF", save_all=True, append_images=[thumbnail])
    (tmp_path / "file").write_bytes(buffer.getvalue())
    with Image.open(tmp_path / "file") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
    np.testing.assert_array_equal(read_image(tmp_path / "file").pixels, RGB)


FACTS: dict[str, tuple[bytes, tuple[str, str, int, int]]] = {
    "png-grey": (LOSSLESS["png-grey"][0], ("PNG", "grey", 8, 0)),
    "png-1-bit": (LOSSLESS["png-1-bit"][0], ("PNG", "1 bit", 1, 0)),
    "png-grey-alpha": (LOSSLESS["png-grey-alpha"][0], ("PNG", "grey+alpha", 8, 0)),
    "png-palette": (encode(quantized(), "PNG"), ("PNG", "palette", 8, 0)),
    "png-4-bit-palette": (encode(Image.fromarray(RGB).quantize(14), "PNG", bits=4), ("PNG", "palette", 4, 0)),
    "png-rgba": (LOSSLESS["png-rgba"][0], ("PNG", "RGBA", 8, 0)),
    "png-16-bit": (LOSSLESS["png-16-bit"][0], ("PNG", "grey", 16, 0)),
    "bmp": (LOSSLESS["bmp-rgb"][0], ("BMP", "RGB", 8, 0)),
    "tiff": (LOSSLESS["tiff-grey"][0], ("TIFF", "grey", 8, 0)),
    "webp": (LOSSY["webp"], ("WEBP", "RGB", 8, 0)),
    "jpeg": (LOSSY["jpeg"], ("JPEG", "RGB", 8, 95)),
    "jpeg-grey": (LOSSY["jpeg-grey"], ("JPEG", "grey", 8, 95)),
    "jpeg-cmyk": (encode(mode("CMYK"), "JPEG", quality=60), ("JPEG", "CMYK", 8, 60)),
    "jpeg-multi-picture": (LOSSY["jpeg-multi-picture"], ("JPEG", "RGB", 8, 95)),
}


@pytest.mark.parametrize("name", FACTS)
def test_the_file_says_what_it_is(tmp_path: Path, name: str) -> None:
    data, (kind, colours, bits, quality) = FACTS[name]
    (tmp_path / "file").write_bytes(data)
    expected = ImageFacts(kind, 31, 24, colours, bits, len(data), quality, "", "", guessed=bits == 16)
    assert read_image(tmp_path / "file").facts == expected


@pytest.mark.parametrize("quality", [1, 5, 10, 25, 49, 50, 51, 75, 85, 90, 95, 99, 100])
def test_the_quality_of_a_jpeg_is_estimated(tmp_path: Path, quality: int) -> None:
    (tmp_path / "file").write_bytes(encode(RGB, "JPEG", quality=quality))
    assert read_image(tmp_path / "file").facts.jpeg_quality == quality


def test_the_quality_of_an_unusual_table_is_the_nearest(tmp_path: Path) -> None:
    flat = [16] * 64  # coarser than libjpeg's for low frequencies and finer for high ones
    (tmp_path / "file").write_bytes(encode(GREY, "JPEG", qtables=[flat]))
    assert 50 < read_image(tmp_path / "file").facts.jpeg_quality < 95


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_nothing_is_printed_about_colour_profiles(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(GREY, "PNG")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # RGB does not fit a grey image
    iccp = chunk(b"iCCP", b"RGB\0\0" + zlib.compress(profile))
    (tmp_path / "file").write_bytes(data[:33] + iccp + data[33:])
    cv2.imread(str(tmp_path / "file"))
    assert "iCCP" in capfd.readouterr().err  # what OpenCV does without help
    np.testing.assert_array_equal(read_image(tmp_path / "file").pixels, stacked(GREY))
    assert capfd.readouterr().err == ""


def test_opencv_prints_no_remarks(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    four_channels = np.dstack([RGB, GREY]).astype(np.uint16) << 8  # OpenCV does not say what the fourth one is
    data = encode_cv(".tiff", four_channels)
    capfd.readouterr()
    read_written(tmp_path, data)
    assert capfd.readouterr().err == ""


def test_the_filters_of_warnings_are_as_before_when_threads_have_read(tmp_path: Path) -> None:
    files = []
    for number, data in enumerate([LOSSY["jpeg"], LOSSLESS["png-rgb"][0], b"none"] * 20):
        files.append(tmp_path / str(number))
        files[-1].write_bytes(data)

    def read(file: Path) -> bool:
        try:
            return read_image(file).pixels.size > 0
        except DataError:
            return False

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(read, files)) == 40
        assert warnings.filters == before


def test_sha256_is_of_the_bytes_of_the_file(tmp_path: Path) -> None:
    data = LOSSY["jpeg"]
    (tmp_path / "file").write_bytes(data)
    assert read_image(str(tmp_path / "file")).sha256 == hashlib.sha256(data).hexdigest()


def test_the_type_is_told_by_the_content(tmp_path: Path, refused: Callable[..., str]) -> None:
    file = tmp_path / "really-a-png.jpg"
    file.write_bytes(encode(RGB, "PNG"))
    np.testing.assert_array_equal(read_image(file).pixels, RGB)
    message = refused(b"Dear colleague, the film is on its way.", "note.png")
    assert (
        message
        == "not an image by its content (39 bytes); leave it out, or save it as one of PNG, JPEG, BMP, TIFF, WEBP"
    )


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("film.png", encode(RGB, "PNG"))
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("film.png"))
    return buffer.getvalue()


SAVE = "which is not read; save it as PNG"
UNPACK = "which is not read; unpack it, and name the images inside"
OTHERS = {
    "gif": (encode(RGB, "GIF"), f"a GIF, {SAVE}"),
    "jpeg-2000": (encode(RGB, "JPEG2000"), f"a JPEG 2000 image, {SAVE}"),
    "jpeg-2000-bare": (b"\xff\x4f\xff\x51\0\x2f" + bytes(80), f"a JPEG 2000 image, {SAVE}"),
    "avif": (encode(RGB, "AVIF"), f"an AVIF image, {SAVE}"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(300), f"a HEIC image, {SAVE}"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(300), "a video, which is not read; save one picture of it"),
    "jpeg-xl": (b"\xff\x0a" + bytes(30), f"a JPEG XL image, {SAVE}"),
    "jpeg-xl-boxed": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(30), f"a JPEG XL image, {SAVE}"),
    "pgm": (encode(GREY, "PPM"), f"a PGM, PPM or other Netpbm image, {SAVE}"),
    "pfm": (b"Pf\n2 2\n-1.0\n" + bytes(16), "an image of floating-point values (PFM, EXR, HDR), which"),
    "psd": (b"8BPS\0\1" + bytes(30), f"a Photoshop file, {SAVE}"),
    "ico": (encode(RGB, "ICO"), f"an icon, {SAVE}"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", f"an SVG drawing, {SAVE}"),
    "svg-with-head": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- x -->\n<svg/>", f"an SVG drawing, {SAVE}"),
    "pdf": (b"%PDF-1.7", "a PDF, which is not read; save its picture as PNG"),
    "html": (b"<!DOCTYPE html>\n<html><title>Sign in", "a web page, which is not read; download the image itself"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer, which is not read; get"),
    "nifti": (bytes(344) + b"n+1\0" + bytes(80), "a NIfTI volume, which is not read; save the picture that is meant"),
    "nifti.gz": (gzipped(bytes(344) + b"n+1\0" + bytes(80)), "a NIfTI volume, which is not read; save the picture"),
    "nrrd": (b"NRRD0005\ntype: short\n", "an NRRD or MetaImage volume, which is not read"),
    "zip": (zipped(), f"a ZIP archive or an Office document, {UNPACK}"),
    "gz": (gzipped(encode(RGB, "PNG")), f"a compressed file, {UNPACK}"),
    "tar": (tarred(), f"a TAR archive, {UNPACK}"),
    "numpy": (b"\x93NUMPY\1\0", f"a file of arrays (HDF5, NumPy, MATLAB), {SAVE}"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_formats_are_refused_by_name(refused: Callable[..., str], name: str) -> None:
    data, message = OTHERS[name]
    assert refused(data).startswith(message)


def test_a_mark_of_a_jpeg_is_no_image(refused: Callable[..., str]) -> None:
    assert refused(b"\xff\xd8\xff").startswith("not an image by its content")


@pytest.mark.parametrize("values", [GREY.astype(np.float32) / 255, DEEP.astype(np.int32)], ids=["float", "32-bit"])
def test_values_without_a_range_are_refused_rather_than_shown_black(refused: Callable[..., str], values: Any) -> None:
    assert refused(encode(values, "TIFF")) == (
        "its values (floating point, signed or 32 bit) have no range that means black and white; save it as 16-bit PNG"
    )


def test_signed_values_are_refused(refused: Callable[..., str]) -> None:
    assert refused(encode_cv(".tiff", GREY.astype(np.int16) - 100)).startswith("its values (floating point, signed")


def test_what_begins_like_an_image_but_is_none_says_so(refused: Callable[..., str]) -> None:
    data = encode_cv(".tiff", RGB.astype(np.float64))
    kind = "although it begins like TIFF: damaged, or of a kind that Pillow cannot read"
    assert refused(data).startswith(f"not an image by its content ({len(data):,} bytes, {kind})")
    assert "begins like WEBP" in refused(b"RIFF\x10\0\0\0WEBPVP8 \0\0\0\0")


@pytest.mark.parametrize("name", ONE_PICTURE)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    data = ONE_PICTURE[name]
    near_the_ends = {0, 1, 2, len(data) // 2, *range(len(data) - 8, len(data))}
    for length in near_the_ends | set(np.random.default_rng(0).integers(0, len(data), 40).tolist()):
        (tmp_path / "file").write_bytes(data[:length])
        try:
            read_image(tmp_path / "file")
        except DataError as error:
            assert "again" in str(error) or "not an image" in str(error)  # noqa: PT017 - the loop must reach the last cut
        else:
            pytest.fail(f"{length} of {len(data)} bytes were accepted")


def test_a_jpeg_cut_off_after_its_thumbnail_is_refused(refused: Callable[..., str]) -> None:
    app1 = b"Exif\0\0" + encode(GREY, "JPEG")
    data = encode(RGB, "JPEG")
    data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + data[2:]
    assert refused(data[:-60]).startswith("cut off (a JPEG without its end-of-image marker)")


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "png-rgb", "tiff-lzw"])
def test_an_unfinished_download_filled_with_zeros_is_refused(
    refused: Callable[..., str], name: str, share: float
) -> None:
    data = ONE_PICTURE[name]
    kept = int(share * len(data))
    message = refused(data[:kept] + bytes(len(data) - kept + 500))
    assert "again" in message or "not an image" in message


def film_like(**options: Any) -> bytes:
    """A JPEG of 600x800 with something everywhere."""
    smooth = cv2.resize(np.random.default_rng(1).integers(0, 256, (60, 80)).astype(np.uint8), (800, 600))
    return encode(smooth, "JPEG", quality=90, **options)


KINDS_OF_JPEG: dict[str, dict[str, Any]] = {
    "baseline": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 20},
}


@pytest.mark.parametrize("kind", KINDS_OF_JPEG)
def test_a_damaged_jpeg_with_its_end_in_place_is_refused(refused: Callable[..., str], kind: str) -> None:
    whole = film_like(**KINDS_OF_JPEG[kind])
    half, noise = len(whole) // 2, np.random.default_rng(2).bytes(2000)
    for data in (
        whole[:half] + b"\xff\xd9",
        whole[: half + half // 2] + b"\xff\xd9",
        whole[:half] + bytes(2000) + whole[half + 2000 :],
        whole[:half] + noise + whole[half + 2000 :],
        whole[:half] + b"\xff" * 2000 + whole[half + 2000 :],
        whole[:half] + whole,
    ):
        assert refused(data).startswith("damaged")


@pytest.mark.parametrize("kind", KINDS_OF_JPEG)
def test_filling_before_the_end_of_a_jpeg_is_no_damage(tmp_path: Path, kind: str) -> None:
    whole = film_like(**KINDS_OF_JPEG[kind])
    expected = read_written(tmp_path, whole)
    for filling in (b"\0", b"ab", bytes(100)):
        np.testing.assert_array_equal(read_written(tmp_path, whole[:-2] + filling + whole[-2:]), expected)
        np.testing.assert_array_equal(read_written(tmp_path, whole + filling), expected)


def scan_bomb(scans: int) -> bytes:
    """A progressive JPEG of which the first scan of the details is repeated."""
    data = encode(Image.new("L", (200, 200), 128), "JPEG", progressive=True, quality=50)
    begin = data.index(bytes.fromhex("ffda000801010001"))
    end = data.index(b"\xff", begin + 10)
    while data[end + 1] == 0:
        end = data.index(b"\xff", end + 2)
    return data[:end] + data[begin:end] * scans + data[end:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(refused: Callable[..., str]) -> None:
    assert read_bytes_of(scan_bomb(60)).shape == (200, 200, 3)
    assert refused(scan_bomb(2000)).startswith("a JPEG of 2,006 scans, over the limit of 100; save it again")


def read_bytes_of(data: bytes) -> Pixels:
    return read_image_bytes("some.jpg", data).pixels


def test_pages_without_an_end_are_refused(refused: Callable[..., str]) -> None:
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 254: 1, 273: 8, 277: 1, 278: 4, 279: 16}
    size = 2 + 12 * len(tags) + 4
    pages = b""
    for number in range(400):
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
        pages += struct.pack("<H", len(tags)) + entries + struct.pack("<I", 24 + size * (number + 1))
    data = b"II*\0" + struct.pack("<I", 24) + bytes(16) + pages[:-4] + bytes(4)
    assert refused(data).startswith("damaged (more than 100 pages and thumbnails)")


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT"])
def test_a_wrong_checksum_in_a_png_is_refused(refused: Callable[..., str], kind: bytes) -> None:
    data = bytearray(encode(GREY, "PNG"))
    at = data.index(kind)
    at += 4 + int.from_bytes(data[at - 4 : at], "big")
    data[at] ^= 1
    message = refused(bytes(data))
    assert "damaged" in message
    assert "again" in message or "save it as" in message


def test_a_flipped_byte_in_a_png_is_refused(refused: Callable[..., str]) -> None:
    data = bytearray(encode(RGB, "PNG"))
    data[len(data) // 2] ^= 255
    assert refused(bytes(data)).startswith("damaged or cut off")


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bmp_header(width: int, height: int) -> bytes:
    data = bytearray(encode(RGB, "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def tiff_header(width: int, height: int) -> bytes:
    data = encode(RGB, "TIFF")
    for tag, old, new in ((256, 31, width), (257, 24, height)):
        for kind, code in ((3, "<HHIHH"), (4, "<HHII")):
            words = (0,) if kind == 3 else ()
            data = data.replace(struct.pack(code, tag, kind, 1, old, *words), struct.pack("<HHII", tag, 4, 1, new))
    return data


@pytest.mark.parametrize("header", [png_header, bmp_header, tiff_header], ids=["png", "bmp", "tiff"])
def test_a_decompression_bomb_is_refused_by_its_header(
    refused: Callable[..., str], header: Callable[[int, int], bytes]
) -> None:
    assert refused(header(60_000, 60_000)) == f"over the limit of {MAX_PIXELS:,} pixels by its header; shrink the image"
    assert refused(header(15_000, 11_000)) == (
        f"15000x11000 pixels by its header, over the limit of {MAX_PIXELS:,}; shrink the image"
    )


def test_a_side_over_the_limit_of_opencv_is_refused(
    refused: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    wide = np.zeros((1, 1_000_001), np.uint8)
    expected = "1000001x1 pixels by its header, over the limit of 1,000,000 a side; shrink the image"
    assert refused(encode(wide, "PNG")) == expected
    assert capfd.readouterr().err == ""


def test_an_error_of_opencv_itself_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise cv2.error("Insufficient memory")

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(DataError, match=r"some\.png: damaged or of a kind that OpenCV cannot decode"):
        decode("some.png", encode(RGB, "PNG"), MAX_PIXELS)


@pytest.mark.slow
def test_a_large_image_is_read_without_a_warning(tmp_path: Path) -> None:
    data = encode(Image.new("1", (10_000, 9_000)), "PNG")  # 90 million pixels: Pillow warns, the limit here is higher
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_written(tmp_path, data).shape == (9_000, 10_000, 3)


def test_an_empty_file_is_refused(refused: Callable[..., str]) -> None:
    assert refused(b"") == "the file is empty (0 bytes); copy or download it again"


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.png") == "no such file; correct the path, or put the file there"


def test_links_are_followed_or_refused(tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(encode(RGB, "PNG"))
    for name, target in {"good": "film.png", "dangling": "gone.png", "loop": "loop"}.items():
        (tmp_path / name).symlink_to(target)
    np.testing.assert_array_equal(read_image(tmp_path / "good").pixels, RGB)
    assert reason(tmp_path / "dangling").startswith("a link to a file that is not there; correct the path")
    assert reason(tmp_path / "loop").startswith("cannot be read (Too many levels of symbolic links); mend it")


def test_folders_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "to-device.png").symlink_to(os.devnull)
    assert reason(tmp_path) == "a folder; name an image file"
    assert reason(tmp_path / "to-device.png") == "a pipe, socket or device; name an image file"
    assert reason(tmp_path / "pipe.png") == "a pipe, socket or device; name an image file"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        pytest.param(
            PermissionError(13, "Permission denied"), "no permission to read it; `chmod u+r` it", id="permission"
        ),
        pytest.param(OSError(5, "Input/output error"), "cannot be read (Input/output error)", id="disk"),
    ],
)
def test_what_the_disk_refuses_is_named(  # root may read everything, hence the patch
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    def fail(*_: Any) -> int:
        raise error

    (tmp_path / "film.png").write_bytes(encode(RGB, "PNG"))
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(DataError) as caught:
        read_bytes(tmp_path / "film.png")
    assert str(caught.value).startswith(f"{tmp_path / 'film.png'}: {message}")


@pytest.mark.parametrize(
    "name",
    [
        "Thorax größer 肺 🫁.png",
        " leading and trailing .png ",
        "'single' \"double\".png",
        "new\nline.png",
        "x" * 200,
        "-rf *",
    ],
    ids=["unicode", "spaces", "quotes", "newline", "long", "shell"],
)
def test_odd_names_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encode(RGB, "PNG"))
    np.testing.assert_array_equal(read_image(tmp_path / name).pixels, RGB)


@pytest.mark.parametrize(
    ("name", "why"), [("x" * 300, "File name too long"), ("a\0b", "no path of a file")], ids=["long", "nul"]
)
def test_impossible_names_are_refused(name: str, why: str) -> None:
    with pytest.raises(DataError, match=why):
        read_image(name)


@pytest.mark.slow
def test_random_damage_ends_in_an_image_or_a_reason(tmp_path: Path) -> None:
    outcomes = outcomes_of_damage(list(ONE_PICTURE.values()), tmp_path / "file", 300, header=120)
    assert min(outcomes.count(True), outcomes.count(False)) > 20
