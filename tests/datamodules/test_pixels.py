"""Reading a whole manifest: datamodules/pixels.py."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cxrlab.datamodules.films import perceptual_hash
from cxrlab.datamodules.pixels import describe_problems, doubts_of, read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.reading.image import ImageFacts, ReadImage


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(file: Path, seed: int) -> str:
    assert cv2.imwrite(str(file), noise(20, 30, seed)[..., ::-1])
    return str(file)


def test_all_images_come_in_order_with_their_hashes(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.png", number) for number in range(70)]  # enough for a progress bar
    pixels = read_all(paths[::-1], Preprocessing.create([20, 30]))
    assert pixels.images.dtype == np.uint8
    np.testing.assert_array_equal(pixels.images, [noise(20, 30, number) for number in reversed(range(70))])
    assert pixels.sha256 == [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in reversed(paths)]
    assert pixels.problems == {}
    assert pixels.hashes.dtype == np.uint8
    np.testing.assert_array_equal(pixels.hashes, [perceptual_hash(noise(20, 30, n)) for n in reversed(range(70))])


def test_every_problem_is_collected(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    missing = tmp_path / "missing.png"
    pixels = read_all([str(empty), write(tmp_path / "good.png", 0), str(missing)], Preprocessing.create(8, 1))
    assert list(pixels.problems) == [0, 2]
    assert pixels.problems[0].startswith(f"{empty}: the file is empty")
    assert pixels.problems[2].startswith(f"{missing}: no such file")
    assert [bool(image.any()) for image in pixels.images] == [False, True, False]
    assert [len(sha256) for sha256 in pixels.sha256] == [0, 64, 0]
    assert [bool(row.any()) for row in pixels.hashes] == [False, True, False]


def test_no_image_at_all_gives_empty_tables() -> None:
    pixels = read_all([], Preprocessing.create(8))
    assert pixels.images.shape == (0, 8, 8, 3)
    assert pixels.hashes.shape == (0, 32)


def test_a_long_list_of_problems_is_cut() -> None:
    lines = describe_problems({row: f"/{row}.png: bad" for row in range(25)}, 100).splitlines()
    assert lines[0] == "25 of 100 images cannot be used:"
    assert lines[1:21] == [f"  /{row}.png: bad" for row in range(20)]
    assert lines[21] == "  … and 5 more"
    assert "data.on_error=skip" in lines[22]
    assert len(lines) == 23


def test_a_short_list_of_problems_is_whole() -> None:
    assert describe_problems({3: "/3.png: bad"}, 4).splitlines()[:2] == [
        "1 of 4 images cannot be used:",
        "  /3.png: bad",
    ]


@pytest.mark.parametrize(
    ("levels", "header", "doubts"),
    [
        (slice(0, 256), "", ""),
        (slice(100, 110), "", "nearly blank"),
        (slice(0, 256), "Modality CT (no radiograph)", "Modality CT (no radiograph)"),
        (slice(7, 8), "BodyPartExamined HAND; ViewPosition LL", "BodyPartExamined HAND; ViewPosition LL; nearly blank"),
    ],
)
def test_doubts_are_what_the_header_says_and_that_nothing_is_to_be_seen(
    levels: slice, header: str, doubts: str
) -> None:
    for height, width in ((300, 200), (10, 8)):
        pixels = np.resize(np.arange(256, dtype=np.uint8)[levels], (height, width))[..., None].repeat(3, -1)
        facts = ImageFacts("DICOM", width, height, "grey", 8, 1, doubts=header)
        assert doubts_of(ReadImage(pixels, "", facts)) == doubts
