"""Grey levels as a viewer needs them: every value of the file, and the window that it is shown with at first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.reading.conftest import film, lut, row, saved

from cxrlab.reading.image import GreyLevels, UnreadableError, read_image_bytes, read_levels_bytes

NOISE = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)
WINDOW: dict[str, Any] = {"WindowCenter": 1500, "WindowWidth": 900}


def through(levels: NDArray[np.float64], meaning: GreyLevels) -> NDArray[np.float64]:
    """Grey values of a window, as a viewer computes them (PS3.3 C.11.2.1.2)."""
    unit = min(1.0, meaning.step)
    values = meaning.low + levels * meaning.step
    share = ((values - meaning.centre + unit / 2) / max(meaning.width - unit, 1e-9) + 0.5).clip(0, 1)
    return np.asarray(255 * (1 - share if meaning.photometric == "MONOCHROME1" else share))


def unpacked(data: bytes) -> tuple[NDArray[np.float64], NDArray[np.uint8], GreyLevels]:
    pixels, meaning = read_levels_bytes("film", data)
    assert meaning is not None
    levels = np.asarray(pixels[..., 0] * 256.0 + pixels[..., 1], np.float64)
    return levels, pixels[..., 2], meaning


@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("values", "bits", "attributes"),
    [
        pytest.param(NOISE, 12, {}, id="range"),
        pytest.param(NOISE, 12, WINDOW, id="window"),
        pytest.param(NOISE, 12, {"RescaleSlope": 2, "RescaleIntercept": -1024, **WINDOW}, id="rescaled"),
        pytest.param(NOISE, 12, {"RescaleSlope": 0.001, "RescaleIntercept": -1}, id="fractions"),
        pytest.param(NOISE, 12, {"RescaleSlope": -1, "RescaleIntercept": 50}, id="negative-slope"),
        pytest.param(NOISE.astype(np.int16) - 2000, 12, {"WindowCenter": 0, "WindowWidth": 900}, id="signed"),
        pytest.param((NOISE >> 4).astype(np.uint8), 8, {"WindowCenter": 90, "WindowWidth": 99}, id="8-bit"),
        pytest.param(NOISE.astype(np.uint32) * 999, 32, {}, id="32-bit"),
        pytest.param(NOISE, 12, {"ModalityLUTSequence": [lut(list(range(0, 65536, 16)), 0, 16)]}, id="table"),
        pytest.param(np.full((4, 4), 7, np.uint16), 12, {"WindowCenter": 8, "WindowWidth": 3}, id="constant"),
    ],
)
def test_levels_through_the_files_own_window_are_what_is_shown(
    values: NDArray[Any], bits: int, attributes: dict[str, Any], meaning: str
) -> None:
    data = saved(film(values, meaning, bits, **attributes))
    levels, shown, known = unpacked(data)
    assert (shown == read_image_bytes("film", data).pixels[..., 0]).all()
    assert known.photometric == meaning
    assert np.abs(through(levels, known) - shown).max() <= 1
    assert len(np.unique(levels)) == len(np.unique(values))


def test_a_window_and_the_values_are_the_files_own() -> None:
    levels, _, known = unpacked(saved(film(NOISE, bits=12, RescaleSlope=2, RescaleIntercept=-1024, **WINDOW)))
    assert (known.centre, known.width) == (1500, 900)
    assert (known.low + known.step * levels == 2.0 * NOISE - 1024).all()


def test_a_table_of_grey_values_is_shown_at_first(levels: Any) -> None:
    values = film(row(0, 10, 255, dtype=np.uint8), VOILUTSequence=[lut([255 - each for each in range(256)], 0, 8)])
    found, shown, known = unpacked(saved(values))
    assert shown[0].tolist() == levels(values) == [255, 245, 0]
    assert found[0].tolist() == [0, 10, 255]
    assert through(found, known)[0].round().tolist() == [0, 10, 255]


@pytest.mark.parametrize("meaning", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_and_what_a_shutter_hides_are_as_dark_as_the_darkest_pixel(meaning: str) -> None:
    shutter: dict[str, Any] = {"ShutterLeftVerticalEdge": 6, "ShutterRightVerticalEdge": 25}
    shutter |= {"ShutterUpperHorizontalEdge": 4, "ShutterLowerHorizontalEdge": 15}
    values = NOISE.copy()
    values[8, 10] = 4095
    data = saved(film(values, meaning, 12, PixelPaddingValue=4095, ShutterShape="RECTANGULAR", **shutter))
    levels, shown, known = unpacked(data)
    kept = np.zeros(values.shape, bool)
    kept[3:15, 5:25] = True
    kept[8, 10] = False
    for width in (50, 5000):
        grey = through(levels, known._replace(width=width))
        assert grey[~kept].max() <= grey[kept].min()
    assert not shown[~kept].any()


def test_16_bits_of_other_formats_are_levels_too(tmp_path: Path) -> None:
    data = cv2.imencode(".png", NOISE)[1].tobytes()
    levels, shown, known = unpacked(data)
    assert (levels == NOISE).all()
    assert (shown == NOISE >> 4).all()
    assert known == GreyLevels(0, 1, 2048, 4096, "MONOCHROME2")


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_8_bits_and_colours_are_themselves(ending: str) -> None:
    for pixels in (NOISE >> 4, np.stack([NOISE >> 4, NOISE >> 5, NOISE >> 6], -1)):
        data = cv2.imencode(ending, pixels.astype(np.uint8))[1].tobytes()
        found, meaning = read_levels_bytes("film", data)
        assert meaning is None
        assert (found == read_image_bytes("film", data).pixels).all()
    deep = cv2.imencode(".png", np.stack([NOISE] * 3, -1))[1].tobytes()
    assert read_levels_bytes("film", deep)[1] is None


@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_damage_is_an_unreadable_file_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    whole = saved(film(NOISE, bits=12, RescaleSlope=2, PixelPaddingValue=5, **WINDOW))
    outcomes = set()
    for trial in range(400):
        data = bytearray(whole)
        for position in generator.integers(0, len(data) if trial % 2 else 700, 4):
            data[position] = generator.integers(256)
        try:
            pixels, _ = read_levels_bytes("film", bytes(data))
            outcomes.add(True)
            assert pixels.dtype == np.uint8
        except UnreadableError:
            outcomes.add(False)
    assert outcomes == {True, False}
