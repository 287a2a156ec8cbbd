"""Measuring images once and keeping what was measured, and pairs of films: datamodules/measurements.py."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxrlab.datamodules import cache
from cxrlab.datamodules.cache import held
from cxrlab.datamodules.films import COLUMNS, perceptual_hash
from cxrlab.datamodules.measurements import Measurements, kept_pairs, measure
from cxrlab.datamodules.pixels import read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.reading.image import ImageFacts, ReadImage, read_image

PAIRS = pd.DataFrame([(0, 2, True, 0, 0, False), (1, 3, False, 12, 44, True)], columns=list(COLUMNS))
FILES = ["a", "b", "a", "", "d"]


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """A PNG, a JPEG, a damaged file and a missing one."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 80, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), noise)
    Image.fromarray(noise[:50, :40, 0]).save(tmp_path / "b.jpg", quality=80)
    (tmp_path / "c.png").write_bytes(b"not an image")
    return [str(tmp_path / name) for name in ("a.png", "c.png", "b.jpg", "missing.png")]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []

    def counting(path: str | Path) -> ReadImage:
        names.append(Path(path).name)
        return read_image(path)

    monkeypatch.setattr(cache, "read_image", counting)
    return names


def assert_equal(one: Measurements, other: Measurements) -> None:
    np.testing.assert_array_equal(one.grey, other.grey)
    np.testing.assert_array_equal(one.hashes, other.hashes)
    for name, values in vars(one.features).items():
        np.testing.assert_array_equal(values, getattr(other.features, name))
    assert (one.sha256, one.problems, one.notes) == (other.sha256, other.problems, other.notes)
    pd.testing.assert_frame_equal(one.facts, other.facts)


def test_measures_what_can_be_read_and_says_why_the_rest_cannot(paths: list[str]) -> None:
    measured = measure(paths)
    rgb = read_image(paths[0]).pixels
    grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (256, 256), interpolation=cv2.INTER_AREA)
    assert measured.grey.shape == (4, 256, 256)
    np.testing.assert_array_equal(measured.grey[0], grey)
    np.testing.assert_array_equal(measured.hashes[0], perceptual_hash(rgb))
    assert measured.sha256[0] == hashlib.sha256(Path(paths[0]).read_bytes()).hexdigest()
    assert measured.features.counts[0] > 50
    assert list(measured.facts.columns) == list(ImageFacts._fields)
    assert measured.facts["format"].to_list() == ["PNG", "", "JPEG", ""]
    assert measured.facts["width"].to_list() == [80, 0, 40, 0]
    assert measured.facts["bytes"].to_list() == [Path(paths[0]).stat().st_size, 0, Path(paths[2]).stat().st_size, 0]
    assert measured.facts["jpeg_quality"].to_list() == [0, 0, 80, 0]
    assert list(measured.problems) == [1, 3]
    assert "c.png: not an image" in measured.problems[1]
    assert "missing.png: no such file" in measured.problems[3]
    assert measured.sha256[1] == measured.sha256[3] == ""
    assert not measured.grey[1].any()
    assert measured.notes == []


def test_a_second_audit_reads_only_what_was_not_measured(paths: list[str], tmp_path: Path, reads: list[str]) -> None:
    first = measure(paths, tmp_path / "cache")
    assert sorted(reads) == ["a.png", "b.jpg", "c.png", "missing.png"]
    reads.clear()
    assert_equal(measure(paths, tmp_path / "cache"), first)
    assert sorted(reads) == ["c.png", "missing.png"], "unreadable files are not kept"
    assert_equal(measure(paths), first)


def test_other_code_or_libraries_do_not_find_what_was_kept(
    paths: list[str], tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("0.0", "0.0", "0.1"):
        monkeypatch.setattr(cv2, "__version__", version)
        measure(paths[:1], tmp_path / "cache")
        read_all(paths[:1], Preprocessing.create(8), tmp_path / "cache")
        kept_pairs(tmp_path / "cache", "near", lambda: PAIRS, FILES)
    assert len(reads) == 4
    versions = [path.parts[-4:-1] for path, _ in held(tmp_path / "cache")]
    assert len(set(versions)) == len(versions) == 6


def test_a_cache_that_cannot_be_written_is_told_once(paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    measured = measure([paths[0], paths[2]], tmp_path / "cache")
    (note,) = measured.notes
    assert note.startswith(f"measurements could not be kept in {tmp_path / 'cache'}: ")
    assert "CXRLAB_CACHE=" in note
    assert_equal(dataclasses.replace(measured, notes=[]), measure([paths[0], paths[2]]))


def test_take_renumbers_rows_and_problems(paths: list[str]) -> None:
    measured = dataclasses.replace(measure(paths), notes=["a note"])
    taken = measured.take([2, 1, 0])
    np.testing.assert_array_equal(taken.grey, measured.grey[[2, 1, 0]])
    np.testing.assert_array_equal(taken.hashes, measured.hashes[[2, 1, 0]])
    np.testing.assert_array_equal(taken.features.points, measured.features.points[[2, 1, 0]])
    assert taken.sha256 == [measured.sha256[row] for row in (2, 1, 0)]
    assert taken.facts["format"].to_list() == ["JPEG", "", "PNG"]
    assert taken.facts.index.to_list() == [0, 1, 2]
    assert taken.problems == {1: measured.problems[1]}
    assert taken.notes == ["a note"]


def test_no_images_is_no_error() -> None:
    measured = measure([])
    assert measured.grey.shape == (0, 256, 256)
    assert list(measured.facts.columns) == list(ImageFacts._fields)


# Pairs of films that are remembered


def never() -> pd.DataFrame:
    raise AssertionError("looked for again")


@pytest.mark.parametrize("pairs", [PAIRS, PAIRS[:0]], ids=["some", "none"])
def test_what_was_found_is_remembered(pairs: pd.DataFrame, tmp_path: Path) -> None:
    for find in (lambda: pairs, never):
        found, notes = kept_pairs(tmp_path, "near", find, FILES)
        pd.testing.assert_frame_equal(found, pairs)
        assert notes == []


@pytest.mark.parametrize(("search", "files"), [("thorough", FILES), ("near", FILES[::-1]), ("near", FILES[:4])])
def test_other_files_and_another_search_are_looked_at_anew(search: str, files: list[str], tmp_path: Path) -> None:
    kept_pairs(tmp_path, "near", lambda: PAIRS, FILES)
    found, _ = kept_pairs(tmp_path, search, lambda: PAIRS[:1], files)
    assert len(found) == 1


def test_without_a_cache_nothing_is_kept() -> None:
    pd.testing.assert_frame_equal(kept_pairs(None, "near", lambda: PAIRS, FILES)[0], PAIRS)
    with pytest.raises(AssertionError, match="looked for again"):
        kept_pairs(None, "near", never, FILES)


def test_a_folder_that_cannot_be_written_is_noted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found, (note,) = kept_pairs(tmp_path / "file", "near", lambda: PAIRS, FILES)
    assert len(found) == 2
    assert "could not be kept" in note
