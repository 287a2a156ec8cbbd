"""The drawing itself: one film, its mask, the three cues."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cxrlab.datamodules.cues import CUES, plant_shortcut
from cxrlab.datamodules.sources.phantom import DISEASES, Anatomy, draw


def film(
    patient: int = 0, number: int = 0, size: int = 256, opacity: float = 0.0, disease: str = "lines"
) -> tuple[np.ndarray, np.ndarray]:
    anatomy = Anatomy.sample(np.random.default_rng([0, patient]))
    return draw(anatomy, np.random.default_rng([1, patient, number]), size, opacity, disease)


def detail(image: np.ndarray, mask: np.ndarray) -> float:
    """How much neighbouring pixels differ from one row to the next, inside the lungs."""
    return float(np.abs(np.diff(image.astype(float), axis=0))[mask[1:] > 0].mean())


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


@pytest.mark.parametrize("disease", DISEASES)
@pytest.mark.parametrize("size", [64, 256])
def test_disease_changes_pixels_inside_the_lungs_and_none_outside(disease: str, size: int) -> None:
    for patient in range(8):
        healthy, mask = film(patient, size=size, disease=disease)
        ill, same = film(patient, size=size, opacity=1.0, disease=disease)
        assert (mask == same).all()
        assert (healthy[mask == 0] == ill[mask == 0]).all()
        assert (healthy[mask > 0] != ill[mask > 0]).mean() > 0.1


@pytest.mark.parametrize("size", [64, 128, 256])
def test_lines_change_detail_and_neither_mean_nor_spread(size: int) -> None:
    pairs = [(film(patient, size=size), film(patient, size=size, opacity=1.0)) for patient in range(12)]
    means, spreads = [], []
    for (healthy, mask), (ill, _) in pairs:
        lungs = mask > 0
        means.append(ill[lungs].mean() - healthy[lungs].mean())
        spreads.append(ill[lungs].std() / healthy[lungs].std())
        assert detail(ill, mask) > 1.3 * detail(healthy, mask)
    assert abs(np.mean(means)) < 2
    assert 0.9 < np.mean(spreads) < 1.1


def test_lines_of_two_films_of_a_patient_are_not_alike() -> None:
    one, other = (film(0, number, opacity=1.0)[0].astype(float) for number in (0, 1))
    bare = [film(0, number, disease="consolidation")[0].astype(float) for number in (0, 1)]
    lungs = ndimage.binary_erosion(film(0, 0)[1] & film(0, 1)[1], iterations=4)
    lines = [a - b for a, b in zip((one, other), bare, strict=True)]
    assert abs(np.corrcoef(lines[0][lungs], lines[1][lungs])[0, 1]) < 0.1


def test_opacity_scales_the_disease() -> None:
    steps = (0.0, 0.3, 0.6, 1.0)
    for patient in range(4):
        levels = [film(patient, opacity=opacity, disease="consolidation")[0].mean() for opacity in steps]
        details = [detail(*film(patient, opacity=opacity)) for opacity in steps]
        assert levels == sorted(set(levels))
        assert details == sorted(set(details))


def test_an_unknown_disease_or_cue_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean 'lines'"):
        film(disease="line")
    with pytest.raises(ValueError, match="did you mean 'marker'"):
        plant_shortcut(np.zeros((64, 64), np.uint8), "markr")


def test_films_of_one_patient_differ_less_than_patients_do() -> None:
    def mask_difference(one: tuple[int, int], other: tuple[int, int]) -> float:
        return float((film(*one, size=64)[1] != film(*other, size=64)[1]).mean())

    assert (film(0, 0)[0] != film(0, 1)[0]).any()
    within = np.mean([mask_difference((p, 0), (p, 1)) for p in range(15)])
    between = np.mean([mask_difference((p, 0), (p + 1, 1)) for p in range(15)])
    assert within < between


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
