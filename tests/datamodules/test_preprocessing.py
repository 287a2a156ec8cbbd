"""From an image of any size to the network's: datamodules/preprocessing.py."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cxrlab.datamodules.preprocessing import Preprocessing


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


def test_one_channel_is_luma() -> None:
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 200, 200]]], np.uint8)
    grey = Preprocessing.create([1, 4], channels=1).apply(rgb)
    assert grey.shape == (1, 4, 1)
    assert grey[0, :, 0].tolist() == [76, 150, 29, 200]  # 0.299, 0.587, 0.114 of 255


SIZE, SIDES = (
    r"image_size must be a whole number in \[1, 8192\], got ",
    r"image_size must be one number or \[height, width\]",
)
WRONG: list[tuple[dict[str, Any], str]] = [
    *(({"image_size": size}, SIZE + found) for size, found in (
        (0, "0"), ([224, -1], "-1"), (9000, "9000"), (True, "True"), ([224.5, 224], "224.5"),
    )),
    *(({"image_size": size}, SIDES) for size in (224.0, [224], [224, 224, 3], "22", None)),
    *(({"channels": channels}, r"channels must be one of 1, 3, got") for channels in (0, 2, 4, "3", True)),
    ({"fit": "stretch"}, "fit must be one of squeeze, pad, crop, got 'stretch'"),
    ({"contrast": "CLAHE"}, "contrast must be one of .*; did you mean 'clahe'"),
    ({"contrast": None}, "contrast must be one of none, clahe, histeq, got None"),
    *(({"border": border}, r"border must be a number in \[0, 0.4\), got") for border in (0.4, -0.1, float("nan"))),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), WRONG, ids=str)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        Preprocessing.create(**{"image_size": 8, **options})


def test_plain_values_make_the_same_again() -> None:
    everything = Preprocessing.create([48, 64], 1, "pad", "clahe", 0.1)
    values = {"height": 48, "width": 64, "channels": 1, "fit": "pad", "contrast": "clahe", "border": 0.1}
    assert everything.as_dict() == values
    assert Preprocessing.from_dict(values) == everything
    old = {"height": 32, "width": 16, "channels": 1}  # a checkpoint from before there were options
    assert Preprocessing.from_dict(old) == Preprocessing.create([32, 16], 1)


def test_a_strangers_values_are_checked() -> None:
    for change, message in (
        ({"fit": "strech"}, "fit must be one of squeeze, pad, crop"),
        ({"height": 10**9}, "image_size must be a whole number"),
        ({"blur": 1}, "preprocessing must be one of channels, fit, contrast, border, got 'blur'"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            Preprocessing.from_dict(Preprocessing.create(8).as_dict() | change)


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


def disc() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Shape (60, 120, 3): a white disc of diameter 40 in the middle of a grey field that is wider than high."""
    image = np.full((60, 120, 3), 100, np.uint8)
    y, x = np.mgrid[:60, :120] + 0.5
    image[np.hypot(y - 30, x - 60) < 20] = 255
    return image


def extent(image: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Height and width of what is white."""
    rows, columns = np.nonzero(image[..., 0] > 200)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


def test_padding_keeps_the_aspect_and_puts_black_bars_above_and_below() -> None:
    image = Preprocessing.create(60, fit="pad").apply(disc())
    assert extent(image) == (20, 20)
    assert not image[:15].any()
    assert not image[45:].any()
    assert (image[15:45] > 0).all()


def test_padding_a_high_image_puts_the_bars_left_and_right() -> None:
    image = Preprocessing.create([40, 60], 1, "pad").apply(disc().swapaxes(0, 1).copy())
    assert image.shape == (40, 60, 1)
    assert not image[:, :20].any()
    assert not image[:, 40:].any()
    assert (image[:, 20:40] > 0).all()


def test_cropping_keeps_the_aspect_and_the_middle() -> None:
    image = Preprocessing.create(60, fit="crop").apply(disc())
    assert extent(image) == (40, 40)
    np.testing.assert_array_equal(image, disc()[:, 30:90])


@pytest.mark.parametrize("fit", ["squeeze", "pad", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 2)], ids=str)
@pytest.mark.parametrize("size", [[1, 1], [7, 30], [64, 64]], ids=str)
@pytest.mark.parametrize("contrast", ["none", "clahe", "histeq"])
def test_extreme_shapes_come_out_in_the_size_asked_for(
    shape: tuple[int, int], size: list[int], fit: str, contrast: str
) -> None:
    for channels in (1, 3):
        image = Preprocessing.create(size, channels, fit, contrast, 0.39).apply(noise(*shape))
        assert image.shape == (*size, channels)
        assert image.dtype == np.uint8


def test_the_border_is_cut_off_before_anything_else() -> None:
    framed = noise(100, 50)
    framed[:10] = framed[90:] = 0
    framed[:, :5] = framed[:, 45:] = 255
    inside = framed[10:90, 5:45]
    for fit in ("squeeze", "pad", "crop"):
        cut = Preprocessing.create(32, fit=fit, border=0.1).apply(framed)
        np.testing.assert_array_equal(cut, Preprocessing.create(32, fit=fit).apply(np.ascontiguousarray(inside)))


def faint(seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Shape (64, 64, 3): grey, of little contrast."""
    grey = np.random.default_rng(seed).normal(100, 5, (64, 64)).clip(0, 255).astype(np.uint8)
    return np.stack([grey] * 3, -1)


@pytest.mark.parametrize("contrast", ["clahe", "histeq"])
def test_contrast_grows_and_grey_stays_grey(contrast: str) -> None:
    image = Preprocessing.create(64, contrast=contrast).apply(faint())
    assert image.std() > 1.5 * faint().std()
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    np.testing.assert_array_equal(image[..., :1], Preprocessing.create(64, 1, contrast=contrast).apply(faint()))


def test_contrast_is_of_the_luma_with_the_parameters_stated() -> None:
    grey = faint()[..., 0]
    np.testing.assert_array_equal(
        Preprocessing.create(64, 1, contrast="histeq").apply(faint())[..., 0], cv2.equalizeHist(grey)
    )
    np.testing.assert_array_equal(
        Preprocessing.create(64, 1, contrast="clahe").apply(faint())[..., 0], cv2.createCLAHE(2.0, (8, 8)).apply(grey)
    )


def test_black_bars_are_no_part_of_the_histogram() -> None:
    wide = np.ascontiguousarray(faint()[:32])
    padded = Preprocessing.create(64, 1, "pad", "histeq").apply(wide)
    np.testing.assert_array_equal(padded[16:48, :, 0], cv2.equalizeHist(wide[..., 0]))
    assert not padded[:16].any()


def test_threads_do_not_disturb_each_other() -> None:
    preprocessing = Preprocessing.create(48, contrast="clahe")
    images = [faint(seed) for seed in range(64)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(preprocessing.apply, images))
    np.testing.assert_array_equal(together, [preprocessing.apply(image) for image in images])
