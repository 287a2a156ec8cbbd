"""A map lies where the network saw; an outline where the lungs are."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cxrlab.datamodules import Preprocessing
from cxrlab.page.pictures import LONGEST, field, film, heat_layer, outline


def decoded(address: str) -> NDArray[np.uint8]:
    found = re.fullmatch(r"data:image/(?:png|jpeg);base64,(.*)", address)
    assert found
    image = cv2.imdecode(np.frombuffer(base64.b64decode(found[1]), np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(image, dtype=np.uint8)


@pytest.mark.parametrize("fit", ["squeeze", "pad", "crop"])
@pytest.mark.parametrize("border", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(300, 500), (500, 300), (400, 400)])
def test_a_place_of_the_film_is_found_in_what_the_network_saw(fit: str, border: float, shape: tuple[int, int]) -> None:
    """A film whose red is its column and green its row: what the network sees then says where it came from."""
    height, width = shape
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width)
    ramp[..., 1] = np.linspace(0, 255, height)[:, None]
    preprocessing = Preprocessing.create([80, 100], fit=fit, border=border)
    seen = field(preprocessing, height, width)
    inside = preprocessing.apply(ramp)[seen.rows, seen.columns].astype(float) / 255
    down, across = (np.arange(size) + 0.5 for size in inside.shape[:2])
    expected_across = seen.left + seen.width * across / inside.shape[1]
    expected_down = seen.top + seen.height * down / inside.shape[0]
    assert np.abs(inside[..., 0] - expected_across).max() < 0.02
    assert np.abs(inside[..., 1] - expected_down[:, None]).max() < 0.02
    assert seen.whole == (border == 0 and (fit != "crop" or shape[0] * 100 == shape[1] * 80))


def test_a_film_is_shrunk_for_the_page_and_keeps_its_shape() -> None:
    rgb = np.full((600, 2048, 3), 90, np.uint8)
    assert decoded(film(rgb)).shape == (300, LONGEST)  # grey is sent as grey
    coloured = rgb.copy()
    coloured[..., 0] = 200
    assert np.abs(decoded(film(coloured))[5, 5].astype(int) - (90, 90, 200)).max() <= 3  # OpenCV's order


def test_a_map_is_clear_where_nothing_is() -> None:
    heat = np.zeros((40, 40), np.float32)
    heat[:20, :20] = 4
    heat[0, 0] = 8
    seen = field(Preprocessing.create(40, fit="pad"), 50, 100)
    layer = decoded(heat_layer(heat, seen))
    assert layer.shape == (20, 40, 4)  # the bars above and below are none of the film
    assert layer[5, 5, 3] == 128
    assert layer[5, 30, 3] == 0
    assert not decoded(heat_layer(np.zeros((40, 40), np.float32), seen))[..., 3].any()


def test_an_outline_goes_around_what_is_marked() -> None:
    mask = np.zeros((1024, 2048), bool)
    mask[200:600, 100:500] = mask[300:500, 1000:1800] = True
    path = outline(mask, 256, 512)
    points = np.array(re.findall(r"([\d.]+) ([\d.]+)", path), float)
    assert path.count("M") == path.count("Z") == 2
    assert points.min(0).tolist() == [25, 50]
    assert points.max(0).tolist() == [449, 149]
    assert outline(np.zeros((10, 10), bool), 10, 10) == ""
