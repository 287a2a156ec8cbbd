"""What lies in the cache's folder and how it is removed: datamodules/cache_folder.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from cxrlab.datamodules.cache.folder import DAY, Entry, entries, remove, remove_empty, trim
from cxrlab.datamodules.cache.pixel_file import RECORD

OLD, NEW = "0123456789abcdef", "fedcba9876543210"


def write(file: Path, size: int, days: float = 0) -> Path:
    """A file that was last used so many days ago."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    used(file, days)
    return file


def used(path: Path, days: float) -> None:
    moment = time.time() - days * DAY
    os.utime(path, (moment, moment))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two measurements of either version, three files of pixels, and what is nobody's business."""
    for version, days in ((OLD, 9), (NEW, 1)):
        for key in ("ab12", "cd34"):
            write(tmp_path / version / key[:2] / key, 1000)
        used(tmp_path / version, days)
    store = tmp_path / "pixels" / NEW / "8-10-3-squeeze-none-0.0"
    for name, days in (("a", 5), ("b", 2)):
        write(store / f"{name}.pixels", 2 * (240 + RECORD.itemsize) + 20, days)
    write(store / "c.part", 500, 0.5)
    write(store / "lock", 0)
    write(tmp_path / "pixels" / "files", 64)
    write(tmp_path / "mine.txt", 10)
    write(tmp_path / "pixels" / NEW / "mine" / "my.pixels", 10)
    write(tmp_path / "films" / "ab" / "film.png", 10)
    return tmp_path


def listed(folder: Path) -> list[tuple[str, str, int]]:
    return [(each.kind, each.name, each.images) for each in entries(folder)]


def test_everything_is_listed_last_used_first(folder: Path) -> None:
    name = "8-10-3-squeeze-none-0.0"
    assert listed(folder) == [
        ("pixels", name, 0),
        ("measurements", NEW, 2),
        ("pixels", name, 2),
        ("pixels", name, 2),
        ("measurements", OLD, 2),
    ]
    sizes = [each.size for each in entries(folder)]
    pixels = 2 * (240 + RECORD.itemsize) + 20
    assert sizes == [500, 2000, pixels, pixels, 2000]
    assert entries(folder)[-1].used == pytest.approx(time.time() - 9 * DAY, abs=60)
    assert entries(folder / "nowhere") == []


@pytest.mark.parametrize(("limit", "left"), [(9000, 5), (5000, 4), (4000, 3), (3000, 2), (0, 1)])
def test_what_was_not_used_for_longest_goes_first(folder: Path, limit: float, left: int) -> None:
    before = entries(folder)
    trim(folder, limit)
    assert entries(folder) == before[:left]


def test_what_a_killed_job_was_writing_goes_after_a_day(folder: Path) -> None:
    (unfinished,) = folder.rglob("*.part")
    trim(folder, 1e9)
    assert unfinished.exists()
    used(unfinished, 1.1)
    trim(folder, 1e9)
    assert not unfinished.exists()
    assert len(entries(folder)) == 4


def test_what_is_not_the_caches_stays(folder: Path) -> None:
    remove(entries(folder))
    remove_empty(folder)
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert left == ["films/ab/film.png", "mine.txt", f"pixels/{NEW}/mine/my.pixels"]
    assert not (folder / OLD).exists()
    assert not (folder / "pixels" / NEW / "8-10-3-squeeze-none-0.0").exists()


def test_what_others_need_stays_when_a_part_is_removed(folder: Path) -> None:
    remove(each for each in entries(folder) if each.kind == "measurements")
    remove_empty(folder)
    assert {each.kind for each in entries(folder)} == {"pixels"}
    assert (folder / "pixels" / "files").exists()
    assert len(list(folder.rglob("lock"))) == 1


def test_what_another_process_has_removed_is_no_error(folder: Path) -> None:
    remove(entries(folder))
    remove([Entry("pixels", "x", 1, (folder / "gone",), 1, 0.0)])
    assert entries(folder) == []
