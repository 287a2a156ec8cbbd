"""Inputs without a lung: numbers by hand, and images whose cue is known."""

from __future__ import annotations

import numpy as np
import pytest

from cxrlab.datamodules.cues import plant_shortcut
from cxrlab.evaluation import lung_free


def header(n: int) -> dict[str, np.ndarray]:
    return {
        "format": np.array(["PNG", "JPEG"] * n)[:n],
        "mode": np.full(n, "grey"),
        "width": np.arange(n) + 200,
        "height": np.full(n, 100),
        "bits": np.full(n, 8),
        "bytes": np.arange(n) + 1000,
        "jpeg_quality": np.array([0, 75] * n)[:n],
    }


def films(n: int, seed: int = 0) -> np.ndarray:
    """Grey images (n, 256, 256) of any brightness and contrast, brighter downwards, with noise."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 1, 256)[None, :, None] * rng.uniform(60, 90, (n, 1, 1))
    grey = 60 + rng.normal(0, 12, (n, 1, 1)) + slope + rng.normal(0, 3, (n, 256, 256))
    return grey.clip(0, 255).astype(np.uint8)


def test_every_input_has_numbers_of_every_image() -> None:
    found = lung_free.features(films(3), header(3))
    assert list(found) == list(lung_free.INPUTS)
    columns = {name: numbers.shape[1] for name, numbers in found.items()}
    assert columns == {
        "size": 4, "header": 9, "bytes": 2, "corners": 4, "strip": 4, "border": 7,
        "frame": 1024, "wide_frame": 1024, "grey": 7, "thumbnail": 64,
    }  # fmt: skip
    assert all(numbers.shape[0] == 3 and numbers.dtype == np.float64 for numbers in found.values())
    assert found["size"][1].tolist() == [201, 100, 2.01, 1 / 3]
    assert found["bytes"][1].tolist() == pytest.approx([1001, 8 * 1001 / 20100])


def test_what_is_called_lung_free_does_not_see_the_middle() -> None:
    before, after = films(2), films(2)
    after[:, 12:-12, 12:-12] = 255 - after[:, 12:-12, 12:-12]
    after[:, :24, :24], after[:, :24, -24:] = before[:, :24, :24], before[:, :24, -24:]
    after[:, -24:, :24], after[:, -24:, -24:] = before[:, -24:, :24], before[:, -24:, -24:]
    first, second = (lung_free.features(grey, header(2)) for grey in (before, after))
    for name, what in lung_free.INPUTS.items():
        same = np.array_equal(first[name], second[name])
        assert same == (what.lung_free or name == "bytes"), name  # bytes are a fact of the file here


def test_numbers_by_hand() -> None:
    grey = np.zeros((1, 256, 256), np.uint8)
    grey[0, :, :12] = 100
    found = lung_free.features(grey, header(1))
    assert found["strip"][0].tolist() == pytest.approx([100, 0, 100 * 12 / 256, 100 * 12 / 256])
    assert found["corners"][0].tolist() == [50, 0, 50, 0]
    assert found["grey"][0].tolist() == pytest.approx(
        [100 * 12 / 256, 100 * np.sqrt(12 / 256 * 244 / 256), 0, 0, 0, 244 / 256, 0]
    )
    assert found["frame"].reshape(32, 32)[5].tolist() == [100, 50, *[0] * 30]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("marker", "a mark in the top left corner"),
        ("border", "a bright frame"),
        ("brightness", "overall brightness (lighter images)"),
        ("left edge", "a left edge darker than the others"),
    ],
)
def test_cues_are_named(kind: str, words: str) -> None:
    labels = np.arange(30) % 2
    grey = films(30)
    if kind == "left edge":
        grey[labels == 1, :, :12] = 20
    else:
        grey[labels == 1] = [plant_shortcut(image, kind) for image in grey[labels == 1]]
    name, auroc = lung_free.rank_cues(lung_free.edge_cues(grey), labels)[0]
    assert name == words
    assert auroc > 0.9


def test_header_cues_are_named() -> None:
    facts = header(12) | {"width": np.array([100, 300] * 6), "height": np.array([100, 150] * 6)}
    facts["width"][1] = 301
    ranked = dict(lung_free.rank_cues(lung_free.header_cues(facts), np.arange(12) % 2))
    assert ranked["larger images"] == ranked["wider images"] == ranked["file format JPEG"] == 1
    assert ranked["another size than 100 x 100"] == 1
    assert "a higher JPEG quality" not in ranked  # half of them have none


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"grey must be uint8 of shape \(n, 256, 256\), got float64"):
        lung_free.features(np.zeros((2, 256, 256)), header(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="facts must hold bytes of each of the 2 images"):
        lung_free.features(films(2), {name: fact for name, fact in header(2).items() if name != "bytes"})
