"""Films of 16 bits that declare no depth, when a training starts: datamodules/chest_xray.py."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrlab.datamodules.chest_xray import ChestXRayDataModule
from cxrlab.datamodules.sources import ManifestSource

FILMS = 24


def notes(tmp_path: Path, depths: dict[int, int], kind: str = "png") -> list[str]:
    """What is said of films of two classes in turn, some of 16 bits with values up to 2^depth."""
    generator = np.random.default_rng(0)
    for row in range(FILMS):
        film = generator.integers(0, 256, (40, 40), np.uint8)
        if row in depths:
            film = (film.astype(np.uint16) << (depths[row] - 8)).astype(np.uint16)
            film[0, 0] = 2 ** depths[row] - 1
        assert cv2.imwrite(str(tmp_path / f"p{row:02d}.{kind}"), film)
    rows = {"path": [f"p{row:02d}.{kind}" for row in range(FILMS)], "label": [row % 2 for row in range(FILMS)]}
    table = tmp_path / "films.csv"
    pd.DataFrame(rows | {"patient_id": [f"patient{row}" for row in range(FILMS)]}).to_csv(table, index=False)
    found = []
    for _ in range(2):  # read, and then out of the cache
        data = ChestXRayDataModule(ManifestSource(str(table)), image_size=16, cache=str(tmp_path / "cache"))
        data.setup()
        found.append([warning for warning in data.warnings if "16-bit" in warning])
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_films_that_were_scaled_differently_are_told_with_their_labels(tmp_path: Path, kind: str) -> None:
    told = notes(tmp_path, {row: 14 if row % 2 else 12 for row in range(FILMS)}, kind)
    assert len(told) == 2
    assert any("12 Negative" in each and "scaled as 12 bits by its largest value" in each for each in told)
    assert any("12 Positive" in each and "scaled as 14 bits by its largest value" in each for each in told)


@pytest.mark.parametrize("depths", [{}, dict.fromkeys(range(FILMS), 12), {row: 12 - row % 2 for row in range(FILMS)}])
def test_nothing_is_said_where_all_were_scaled_alike(tmp_path: Path, depths: dict[int, int]) -> None:
    assert notes(tmp_path, depths) == []
