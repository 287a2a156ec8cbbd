"""Files from strangers, and files that broke on their way: each is a row with its reason, and nothing else happens."""

from __future__ import annotations

import io
import logging
import struct
import sys
import time
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cxrlab.errors import DataError
from cxrlab.inference import Predictor, load
from cxrlab.reading.image import read_image_bytes

MakeModel = Callable[..., Path]
Encode = Callable[..., bytes]
Films = list[NDArray[np.uint8]]
EXAMPLES = 1000
PATIENT = ("Doe", "Jane", "MRN-4711", "19500101")


@pytest.fixture
def predictor(make_model: MakeModel) -> Predictor:
    return load(make_model())


def seeds(films: Films, png: Encode, dicom: Encode) -> list[bytes]:
    """One small good file of every kind that is read."""
    small = cv2.resize(films[0], (96, 96))
    found = [png(small), png(np.repeat(small[..., None], 3, 2)), dicom(small)]
    for suffix in (".jpg", ".bmp", ".tiff", ".webp"):
        done, encoded = cv2.imencode(suffix, small)
        assert done
        found.append(encoded.tobytes())
    return found


def damaged(data: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    """Applies changes, each at a place that is counted from the front, around the end."""
    found = bytearray(data)
    for kind, place, new in changes:
        at = place % max(1, len(found))
        if kind == "overwrite":
            found[at : at + len(new)] = new
        elif kind == "insert":
            found[at:at] = new
        elif kind == "remove":
            del found[at : at + max(1, len(new))]
        elif kind == "cut":
            del found[at:]
        else:
            found += found[at : at + 64]
    return bytes(found)


KINDS = st.sampled_from(["overwrite", "overwrite", "overwrite", "insert", "remove", "cut", "repeat"])
# Most of what matters stands in the first few hundred bytes; lengths are often two or four bytes of 0xFF.
PLACES = st.one_of(st.integers(0, 300), st.integers(0, 5000))
BYTES = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff"]))
CHANGES = st.lists(st.tuples(KINDS, PLACES, BYTES), min_size=1, max_size=6)


@pytest.mark.slow
def test_a_thousand_damaged_files_are_rows_and_never_a_crash(
    predictor: Predictor, films: Films, png: Encode, dicom: Encode, capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    whole = seeds(films, png, dicom)
    verdicts = {"scored": 0, "refused": 0}

    @settings(max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))  # fmt: skip  # noqa: E501
    @given(st.integers(0, len(whole) - 1), CHANGES)
    def look(seed: int, changes: list[tuple[str, int, bytes]]) -> None:
        found = predictor.examine("film", damaged(whole[seed], changes), max_pixels=10_000_000).prediction
        assert (found.score is None) == (found.verdict == "refuse")
        assert found.score is None or 0 <= found.score <= 1
        assert found.verdict != "refuse" or found.reason
        verdicts["scored" if found.score is not None else "refused"] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        look()
    assert sum(verdicts.values()) >= EXAMPLES
    assert min(verdicts.values()) > EXAMPLES / 20, verdicts  # neither did nothing reach the decoders, nor all of it
    printed = "".join(capfd.readouterr()) + caplog.text
    assert "Traceback" not in printed
    assert not any(name in printed for name in PATIENT)


MANY = 2000
SLOWEST = 20.0  # seconds


@pytest.mark.slow
def test_two_thousand_hostile_images_are_answered_in_time(
    films: Films, png: Encode, capfd: pytest.CaptureFixture[str]
) -> None:
    """Files whose pixels are damaged, or put together from several; each is an image or has a reason."""
    small = cv2.resize(films[0], (96, 96))
    whole = [png(small), png(small.astype(np.uint16) << 4)]
    kinds: list[tuple[str, dict[str, Any]]] = [
        *(("JPEG", {"progressive": progressive, "quality": 80}) for progressive in (False, True)),
        *(("TIFF", {"compression": name}) for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        *(("WEBP", {"lossless": lossless}) for lossless in (False, True)),
        *((name, {}) for name in ("BMP", "GIF", "PPM", "JPEG2000")),
    ]
    for kind, options in kinds:
        buffer = io.BytesIO()
        Image.fromarray(small).save(buffer, kind, **options)
        whole.append(buffer.getvalue())
    generator = np.random.default_rng(0)
    read = 0
    for _ in range(MANY):
        data = bytearray(whole[generator.integers(len(whole))])
        for _ in range(generator.integers(1, 5)):
            at, length = int(generator.integers(len(data))), int(generator.integers(1, 300))
            kind_of_damage = generator.integers(4)
            if kind_of_damage == 0:
                data[at : at + length] = generator.bytes(length)
            elif kind_of_damage == 1:
                data[at : at + length] = bytes(length)
            elif kind_of_damage == 2:
                data[at:at] = data[at : at + length] * int(generator.integers(1, 30))
            else:
                other = whole[generator.integers(len(whole))]
                data[at:] = other[int(generator.integers(len(other))) :]
            data = data or bytearray(b"x")
        began = time.monotonic()
        try:
            pixels = read_image_bytes("some.png", bytes(data), 10_000_000).pixels
        except DataError as error:
            assert str(error).startswith("some.png: ")  # noqa: PT017 - either outcome is right
        else:
            read += 1
            assert pixels.shape[2] == 3
        assert time.monotonic() - began < SLOWEST + 10
    assert MANY / 50 < read < MANY * 0.9
    assert capfd.readouterr() == ("", "")


def png_bomb(width: int, height: int) -> bytes:
    """A few kilobytes that unfold into width x height grey pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_by_its_header_before_it_unfolds(predictor: Predictor) -> None:
    bomb = png_bomb(20_000, 20_000)
    assert len(bomb) < 500_000
    tracemalloc.start()
    try:
        found = predictor.examine("bomb.png", bomb).prediction
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.verdict == "refuse"
    assert "over the limit of 150,000,000 pixels by its header" in found.reason
    assert peak < 50_000_000


def test_an_image_that_says_it_is_small_and_holds_more_is_no_larger(predictor: Predictor) -> None:
    data = bytearray(png_bomb(5_000, 5_000))
    data[16:24] = struct.pack(">II", 100, 100)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    found = predictor.examine("small.png", bytes(data))
    assert found.rgb is None or found.rgb.shape == (100, 100, 3)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFE])
def test_a_dicom_with_a_hostile_length_is_refused(
    length: int, predictor: Predictor, films: Films, dicom: Encode
) -> None:
    data = bytearray(dicom(films[0]))
    # The length of the pixels stands after two empty bytes and has four, that of the patient's name has two.
    for element, after, size in ((b"\xe0\x7f\x10\x00", 4, 4), (b"\x10\x00\x10\x00PN", 0, 2)):
        at = bytes(data).index(element) + len(element) + after
        changed = data[:at] + struct.pack("<I", length)[:size] + data[at + size :]
        found = predictor.examine("film.dcm", bytes(changed)).prediction
        assert found.verdict == "refuse"
        assert found.reason
        assert not any(name in found.reason for name in PATIENT)


def test_a_dicom_whose_header_claims_a_huge_image_is_refused(predictor: Predictor, films: Films, dicom: Encode) -> None:
    found = predictor.examine("film.dcm", dicom(films[0], Rows=65535, Columns=65535)).prediction
    assert "over the limit" in found.reason


def test_no_name_of_a_patient_gets_anywhere(
    predictor: Predictor, films: Films, dicom: Encode, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    good, cut = tmp_path / "good.dcm", tmp_path / "cut.dcm"
    good.write_bytes(dicom(films[0]))
    cut.write_bytes(dicom(films[0])[:700])
    rows = predictor.predict([good, cut])
    assert list(rows["verdict"]) == ["warn", "refuse"]
    seen = rows.to_csv() + caplog.text + "".join(capfd.readouterr())
    assert not any(name in seen for name in PATIENT)


@pytest.mark.parametrize(
    "name", ["../../../tmp/owned.png", "/etc/passwd", "a\x1b[2Jb\r\n.png", "\u202egnp.exe", "x" * 5000, ""]
)
def test_a_name_is_never_more_than_a_name(
    name: str, predictor: Predictor, films: Films, png: Encode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
    opened.clear()
    found = predictor.examine(name, png(films[0])).prediction
    assert name not in opened
    assert found.score is not None
    assert set(tmp_path.rglob("*")) == before
