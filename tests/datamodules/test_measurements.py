"""Measuring images once and keeping what was measured: datamodules/measurements.py."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxrlab.datamodules import measurements
from cxrlab.datamodules.films import perceptual_hash
from cxrlab.datamodules.measurements import Measurements, measure
from cxrlab.reading.image import ImageFacts, ReadImage, read_image


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

    monkeypatch.setattr(measurements, "read_image", counting)
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


def test_a_changed_file_is_measured_anew(paths: list[str], tmp_path: Path, reads: list[str]) -> None:
    old = measure(paths[:1], tmp_path / "cache")
    file = Path(paths[0])
    state = file.stat()
    assert cv2.imwrite(paths[0], 255 - read_image(paths[0]).pixels[:, :, ::-1])
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    reads.clear()
    new = measure(paths[:1], tmp_path / "cache")
    assert reads == ["a.png"]
    assert new.sha256 != old.sha256
    np.testing.assert_array_equal(new.grey, measure(paths[:1]).grey)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


def emptied(data: bytes) -> bytes:
    return data[:0]


@pytest.mark.parametrize("damage", [cut, flipped, emptied], ids=lambda damage: damage.__name__)
def test_a_damaged_cache_file_is_ignored_and_replaced(
    damage: Callable[[bytes], bytes], paths: list[str], tmp_path: Path, reads: list[str]
) -> None:
    cache = tmp_path / "cache"
    first = measure(paths[:1], cache)
    (kept,) = (file for file in cache.rglob("*") if file.is_file())
    kept.write_bytes(damage(kept.read_bytes()))
    reads.clear()
    assert_equal(measure(paths[:1], cache), first)
    assert reads == ["a.png"]
    assert_equal(measure(paths[:1], cache), first)
    assert reads == ["a.png"], "it was mended"


def test_other_code_or_libraries_do_not_find_the_old_measurements(
    paths: list[str], tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(paths[:1], tmp_path / "cache")
    monkeypatch.setattr(cv2, "__version__", "0.0")
    measurements._version.cache_clear()
    reads.clear()
    measure(paths[:1], tmp_path / "cache")
    monkeypatch.undo()
    measurements._version.cache_clear()
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_told_once(paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    measured = measure([paths[0], paths[2]], tmp_path / "cache")
    (note,) = measured.notes
    assert note.startswith(f"measurements could not be kept in {tmp_path / 'cache'}")
    assert "CXRLAB_CACHE=" in note
    np.testing.assert_array_equal(measured.grey, measure([paths[0], paths[2]]).grey)


def test_audits_at_once_share_a_cache(paths: list[str], tmp_path: Path) -> None:
    alone = measure(paths)
    results: list[Measurements] = []
    threads = [threading.Thread(target=lambda: results.append(measure(paths, tmp_path / "cache"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        assert_equal(result, alone)
    assert_equal(measure(paths, tmp_path / "cache"), alone)


def test_a_file_replaced_while_it_is_read_is_not_kept(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replacing(path: str | Path) -> ReadImage:
        image = read_image(path)
        os.utime(path, ns=(1, 1))
        return image

    monkeypatch.setattr(measurements, "read_image", replacing)
    measure(paths[:1], tmp_path / "cache")
    assert [file for file in tmp_path.joinpath("cache").rglob("*") if file.is_file()] == []


def test_an_interrupt_ends_the_measuring_and_keeps_what_was_done(
    class_folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    paths = [str(path) for path in sorted(class_folders({"NORMAL": 40}).glob("*/*"))]

    def interrupted(path: str | Path) -> ReadImage:
        if path == paths[5]:
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(measurements, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(paths, tmp_path / "cache")
    kept = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert 5 <= len(kept) < 40


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


def test_facts_are_of_every_file_in_order_and_empty_for_the_unreadable(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number in (0, 2):
        assert cv2.imwrite(paths[number], np.full((20, 30, 3), 60 + number, np.uint8))
    facts = measure(paths).facts
    assert list(facts.columns) == list(ImageFacts._fields)
    assert facts["bytes"].tolist() == [Path(paths[0]).stat().st_size, 0, Path(paths[2]).stat().st_size]
    assert facts["format"].tolist() == ["PNG", "", "PNG"]
    assert list(zip(facts["width"], facts["height"], strict=True)) == [(30, 20), (0, 0), (30, 20)]
    assert list(measure([]).facts.columns) == list(ImageFacts._fields)
