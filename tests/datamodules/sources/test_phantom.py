"""The drawing itself: one film, its mask, the three cues."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import ndimage

from cxrlab.datamodules.sources.phantom import CUES, Anatomy, draw, plant_shortcut


def film(patient: int = 0, number: int = 0, size: int = 256, opacity: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    anatomy = Anatomy.sample(np.random.default_rng([0, patient]))
    return draw(anatomy, np.random.default_rng([1, patient, number]), size, opacity)


@pytest.mark.parametrize("size", [64, 100, 256, 513])
def test_a_film_and_its_mask_have_the_size_asked_for(size: int) -> None:
    image, mask = film(size=size, opacity=1.0)
    assert image.shape == mask.shape == (size, size)
    assert image.dtype == mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("patient", range(5))
def test_the_mask_is_two_dark_lungs_inside_a_brighter_chest(patient: int) -> None:
    image, mask = film(patient)
    lungs, count = ndimage.label(mask)
    areas = ndimage.sum_labels(np.ones_like(lungs), lungs, np.arange(1, count + 1)) / mask.size
    assert count == 2
    assert 0.06 < areas.min() < areas.max() < 0.25
    deep = ndimage.binary_erosion(mask, iterations=6)
    wall = ndimage.binary_dilation(mask, iterations=10) & ~ndimage.binary_dilation(mask, iterations=3)
    assert image[deep].mean() + 30 < image[wall].mean()
    assert image[:, 120:136].mean() > image[deep].mean() + 60  # spine and heart


@pytest.mark.parametrize("patient", range(8))
@pytest.mark.parametrize("size", [64, 256])
def test_opacity_brightens_pixels_inside_the_lungs_and_changes_none_outside(patient: int, size: int) -> None:
    healthy, mask = film(patient, size=size)
    ill, same = film(patient, size=size, opacity=1.0)
    assert (mask == same).all()
    assert (healthy[mask == 0] == ill[mask == 0]).all()
    assert ill[mask > 0].mean() > healthy[mask > 0].mean() + 1


def test_opacity_scales_the_disease() -> None:
    levels = [film(3, opacity=opacity)[0].mean() for opacity in (0.0, 0.3, 0.6, 1.0)]
    assert levels == sorted(set(levels))


def test_films_of_one_patient_differ_less_than_patients_do() -> None:
    def mask_difference(one: tuple[int, int], other: tuple[int, int]) -> float:
        return float((film(*one, size=64)[1] != film(*other, size=64)[1]).mean())

    assert (film(0, 0)[0] != film(0, 1)[0]).any()
    within = np.mean([mask_difference((p, 0), (p, 1)) for p in range(15)])
    between = np.mean([mask_difference((p, 0), (p + 1, 1)) for p in range(15)])
    assert within < between


def test_the_same_random_state_gives_the_same_film() -> None:
    assert (film(2, 1, opacity=0.7)[0] == film(2, 1, opacity=0.7)[0]).all()


@pytest.mark.parametrize("kind", CUES)
@pytest.mark.parametrize("size", [64, 256])
def test_a_cue_leaves_its_argument_alone_and_a_local_one_stays_off_the_lungs(kind: str, size: int) -> None:
    for patient in range(10):
        image, mask = film(patient, size=size)
        before = image.copy()
        changed = plant_shortcut(image, kind) != image
        assert (image == before).all()
        assert changed.any()
        if kind != "brightness":
            assert not changed[mask > 0].any()


def test_an_unknown_cue_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'marker'"):
        plant_shortcut(np.zeros((64, 64), np.uint8), "markr")


def test_a_film_takes_milliseconds() -> None:
    film()
    started = time.process_time()
    for patient in range(10):
        film(patient, opacity=1.0)
    assert (time.process_time() - started) / 10 < 0.1  # about 0.008 s; the bound allows for a busy machine
