"""Resizing, and reading a whole manifest: datamodules/pixels.py."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cxrlab.datamodules.pixels import Preprocessing, describe_problems, read_all


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", [(100, 100), (57, 130), (20, 30), (1, 1)], ids=str)
@pytest.mark.parametrize("size", [224, [48, 64], (1, 7)], ids=str)
def test_resizing_is_bilinear_of_the_whole_image(shape: tuple[int, int], size: Any) -> None:
    preprocessing = Preprocessing.create(size)
    resized = preprocessing.apply(noise(*shape))
    height, width = (224, 224) if size == 224 else size
    assert resized.shape == (height, width, 3)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, cv2.resize(noise(*shape), (width, height), interpolation=cv2.INTER_LINEAR))


def test_nothing_is_cropped_or_padded() -> None:
    halves = np.zeros((50, 200, 3), np.uint8)
    halves[:, 100:] = 255
    resized = Preprocessing.create(10).apply(halves)
    assert (resized[:, :4] == 0).all()
    assert (resized[:, 6:] == 255).all()


def test_an_image_of_the_right_size_is_unchanged() -> None:
    np.testing.assert_array_equal(Preprocessing.create([30, 20]).apply(noise(30, 20)), noise(30, 20))


def test_one_channel_is_luma() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 200, 200]]], np.uint8)
    grey = Preprocessing.create([1, 4], channels=1).apply(rgb)
    assert grey.shape == (1, 4, 1)
    assert grey[0, :, 0].tolist() == [76, 150, 29, 200]  # 0.299, 0.587, 0.114 of 255


@pytest.mark.parametrize(
    ("size", "message"),
    [
        pytest.param(0, r"image_size must be a whole number in \[1, 8192\], got 0", id="zero"),
        pytest.param([224, -1], r"image_size must be a whole number in \[1, 8192\], got -1", id="negative"),
        pytest.param(9000, r"image_size must be a whole number in \[1, 8192\], got 9000", id="huge"),
        pytest.param(True, r"image_size must be a whole number in \[1, 8192\], got True", id="bool"),
        pytest.param([224.5, 224], r"image_size must be a whole number in \[1, 8192\], got 224.5", id="fraction"),
        pytest.param(224.0, r"image_size must be one number or \[height, width\], got 224.0", id="float"),
        pytest.param([224], r"image_size must be one number or \[height, width\], got \[224\]", id="one-side"),
        pytest.param([224, 224, 3], r"image_size must be one number or \[height, width\]", id="three"),
        pytest.param("22", r"image_size must be one number or \[height, width\], got '22'", id="text"),
        pytest.param(None, r"image_size must be one number or \[height, width\], got None", id="none"),
    ],
)
def test_bad_sizes_are_named(size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Preprocessing.create(size)


@pytest.mark.parametrize("channels", [0, 2, 4, "3", True])
def test_bad_channels_are_named(channels: Any) -> None:
    with pytest.raises(ValueError, match=r"^channels must be one of 1, 3, got"):
        Preprocessing.create(224, channels)


def test_plain_values_make_the_same_again() -> None:
    preprocessing = Preprocessing.create([48, 64], 1)
    assert preprocessing.as_dict() == {"height": 48, "width": 64, "channels": 1}
    assert Preprocessing(**preprocessing.as_dict()) == preprocessing


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_are_in_zero_to_one_and_channels_come_first(channels: int) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(channels).reshape(2, -1, 8, channels)
    before = images.clone()
    floats = Preprocessing.to_float(images)
    assert floats.dtype == torch.float32
    assert floats.shape == (2, channels, images.shape[1], 8)
    assert floats.is_contiguous(memory_format=torch.channels_last)
    assert (floats.min().item(), floats.max().item()) == (0, 1)
    assert torch.equal(floats[1, 0, 3, 5], images[1, 3, 5, 0] / 255)
    assert torch.equal(images, before)


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
