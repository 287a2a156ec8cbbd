"""Pixels that are read once and mapped ever after: datamodules/pixel_cache.py and known_files.py."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cxrlab.datamodules import pixels
from cxrlab.datamodules.cache import folder as cache_folder
from cxrlab.datamodules.cache import known_files, pixel_cache
from cxrlab.datamodules.cache.pixel_cache import PixelCache
from cxrlab.datamodules.pixels import Pixels, read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError
from cxrlab.files import file_sha256
from cxrlab.reading import image as reading

SMALL = Preprocessing.create([16, 20])


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Five different images, a copy of the first, one that is damaged and one that is missing."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(5):
        assert cv2.imwrite(str(folder / f"{number}.png"), noise(number))
    shutil.copy(folder / "0.png", folder / "copy.png")
    (folder / "damaged.png").write_bytes(b"no image")
    return [str(folder / f"{name}.png") for name in ("3", "0", "damaged", "1", "copy", "2", "missing", "4")]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded or hashed."""
    names: list[str] = []

    def counted(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def count(path: Any) -> Any:
            names.append(Path(path).stem)
            return original(path)

        return count

    monkeypatch.setattr(pixel_cache, "read_image", counted(reading.read_image))
    monkeypatch.setattr(pixels, "read_image", counted(reading.read_image))
    monkeypatch.setattr(known_files, "file_sha256", counted(file_sha256))
    return names


def noise(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)


def cached(tmp_path: Path, paths: list[str], preprocessing: Preprocessing = SMALL, limit_gb: float = 1) -> Pixels:
    return PixelCache(tmp_path / "cache", limit_gb).read(paths, preprocessing)


def stored(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.pixels"))


def assert_same(found: Pixels, expected: Pixels) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.hashes, expected.hashes)
    assert (found.sha256, found.problems) == (expected.sha256, expected.problems)


def test_the_pixels_are_those_of_the_files(paths: list[str], tmp_path: Path) -> None:
    for preprocessing in (SMALL, Preprocessing.create(24, 1, "pad", "clahe", 0.1), Preprocessing.create([8, 9])):
        expected = read_all(paths, preprocessing)
        for _ in range(2):
            found = cached(tmp_path, paths, preprocessing)
            assert_same(found, expected)
            assert found.notes == []
            assert list(found.problems) == [2, 6]
    assert len(stored(tmp_path)) == 3


def test_nothing_is_read_again_but_what_could_not_be(paths: list[str], tmp_path: Path, read: list[str]) -> None:
    cached(tmp_path, paths)
    assert set(read) == {Path(path).stem for path in paths}
    read.clear()
    expected = cached(tmp_path, paths[:2])
    assert read == []
    np.testing.assert_array_equal(expected.images, [SMALL.apply(noise(3)[..., ::-1]), SMALL.apply(noise(0)[..., ::-1])])
    cached(tmp_path, paths)
    assert set(read) == {"damaged", "missing"}


def test_only_what_is_new_or_changed_is_decoded(paths: list[str], tmp_path: Path, read: list[str]) -> None:
    good = [path for path in paths if Path(path).stem not in ("damaged", "missing")]
    cached(tmp_path, good[:4])
    assert cv2.imwrite(good[1], noise(9))
    read.clear()
    found = cached(tmp_path, good)
    assert {"0", "2", "4"} == set(read)
    assert_same(found, read_all(good, SMALL))
    assert len(stored(tmp_path)) == 2


def test_files_that_have_moved_are_known_by_their_content(
    paths: list[str], tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [path for path in paths if Path(path).stem.isdigit()]
    expected = cached(tmp_path, good)
    folder = shutil.copytree(tmp_path / "films", tmp_path / "moved")
    moved = [str(folder / Path(path).name) for path in good]
    read.clear()
    monkeypatch.setattr(pixel_cache, "read_image", None)
    assert_same(cached(tmp_path, moved), expected)
    assert len(read) == len(moved)  # hashed, not decoded
    read.clear()
    assert_same(cached(tmp_path, moved), expected)
    assert read == []


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-5], lambda data: bytes([data[0] ^ 1]) + data[1:], lambda data: b"foreign"],
    ids=["cut off", "a pixel changed", "foreign"],
)
def test_a_damaged_file_is_written_anew(paths: list[str], tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    expected = read_all(paths, SMALL)
    cached(tmp_path, paths)
    (file,) = stored(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert_same(cached(tmp_path, paths), expected)
    (again,) = stored(tmp_path)
    assert again != file


def test_what_was_known_of_files_may_be_lost_or_damaged(paths: list[str], tmp_path: Path) -> None:
    expected = cached(tmp_path, paths)
    (table,) = (tmp_path / "cache").rglob("files")
    for damage in (b"", b"0123456789", table.read_bytes()[:-3]):
        table.write_bytes(damage)
        assert_same(cached(tmp_path, paths), expected)
    table.unlink()
    assert_same(cached(tmp_path, paths), expected)
    assert len(stored(tmp_path)) == 1


def test_other_code_reads_anew(paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, paths)
    monkeypatch.setattr(cv2, "__version__", "0.0")
    pixel_cache._version.cache_clear()
    cached(tmp_path, paths)
    monkeypatch.undo()
    pixel_cache._version.cache_clear()
    assert len({file.parent for file in stored(tmp_path)}) == 2


def test_a_folder_that_cannot_be_written_is_noted_and_the_pixels_are_in_memory(
    paths: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    found = cached(tmp_path, paths)
    assert_same(found, read_all(paths, SMALL))
    (note,) = found.notes
    assert note.startswith(f"pixels could not be kept in {tmp_path / 'cache'}: ")
    assert "held in memory" in note
    assert "CXRLAB_CACHE=" in note


def test_a_disk_that_gets_full_is_noted_and_the_pixels_are_in_memory(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cached(tmp_path, paths[:2])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    found = cached(tmp_path, paths)
    assert_same(found, read_all(paths, SMALL))
    np.testing.assert_array_equal(found.images[:2], expected.images)
    (note,) = found.notes
    assert "No space left on device" in note
    monkeypatch.undo()
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1000))
    assert "No space left on device" in cached(tmp_path, paths).notes[0]  # told before anything is decoded
    assert list((tmp_path / "cache").rglob("*.part")) == []


def test_a_cache_that_may_only_be_read_is_read(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [path for path in paths if Path(path).stem.isdigit()]
    expected = cached(tmp_path, good)

    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "utime", forbidden)
    monkeypatch.setattr(pixel_cache, "read_image", None)
    found = cached(tmp_path, good)
    assert_same(found, expected)
    assert found.notes == []


def test_the_cache_is_removed_while_it_is_filled(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "_held", lambda *_: None)  # as if someone had removed what was just written
    assert_same(cached(tmp_path, paths), read_all(paths, SMALL))


def fill(folder: Path, paths: list[str], start: Any, results: Any) -> None:
    start.wait(60)
    found = PixelCache(folder, 1).read(paths, SMALL)
    results.put((found.images[:].tobytes(), found.notes))


def test_jobs_that_begin_at_once_share_what_one_of_them_reads(paths: list[str], tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(3), context.Queue()
    jobs = [context.Process(target=fill, args=(tmp_path / "cache", paths, start, results)) for _ in range(3)]
    for job in jobs:
        job.start()
    found = [results.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(60)
    assert found == [(read_all(paths, SMALL).images[:].tobytes(), [])] * 3
    assert len(stored(tmp_path)) == 1


def test_where_files_cannot_be_locked_nothing_waits(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unsupported)
    assert cached(tmp_path, paths).notes == []
    assert len(stored(tmp_path)) == 1


def test_beyond_the_limit_the_least_recently_used_goes(paths: list[str], tmp_path: Path) -> None:
    sizes = [Preprocessing.create(side) for side in (100, 101, 102)]
    for age, preprocessing in enumerate(sizes[:2]):
        cached(tmp_path, paths, preprocessing)
        (newest,) = stored(tmp_path)[-1:]
        os.utime(newest, (1000 + age, 1000 + age))
    cached(tmp_path, paths, sizes[0])  # used again, from disk
    found = cached(tmp_path, paths, sizes[2], limit_gb=0.00045)
    left = {entry.name for entry in cache_folder.entries(tmp_path / "cache")}
    assert left == {cache_folder.name_of(preprocessing) for preprocessing in (sizes[0], sizes[2])}
    assert_same(found, read_all(paths, sizes[2]))


def test_images_that_the_limit_has_no_room_for_are_an_error(paths: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        cached(tmp_path, paths, Preprocessing.create(1000), limit_gb=0.01)
    message = str(caught.value)
    assert message.startswith("data.cache_limit_gb=0.01: ")
    assert "data.cache_limit_gb=1 " in message
    assert "data.cache=null" in message
    assert stored(tmp_path) == []


def test_a_file_that_changes_while_it_is_read_is_not_taken_for_known(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replacing(path: str) -> Any:
        image = reading.read_image(path)
        assert cv2.imwrite(path, noise(77))
        return image

    monkeypatch.setattr(pixel_cache, "read_image", replacing)
    first = cached(tmp_path, paths[:1])
    monkeypatch.undo()
    second = cached(tmp_path, paths[:1])
    np.testing.assert_array_equal(first.images[0], SMALL.apply(noise(3)[..., ::-1]))
    np.testing.assert_array_equal(second.images[0], SMALL.apply(noise(77)[..., ::-1]))


def test_an_interrupt_keeps_what_was_read(paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str) -> Any:
        if path == paths[-1]:
            raise KeyboardInterrupt
        return reading.read_image(path)

    monkeypatch.setattr(pixel_cache, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, paths)
    (entry,) = cache_folder.entries(tmp_path / "cache")
    assert 3 <= entry.images < 5


def anonymous_mb() -> float:
    """Resident memory that is this process's own: mapped files, which the system can drop, are not counted."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told apart on Linux only")
def test_images_do_not_have_to_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(1000)]
    for number, path in enumerate(paths):
        Path(path).write_bytes(number.to_bytes(2, "little"))

    def drawn(path: str) -> reading.ReadImage:
        number = int(Path(path).stem)
        picture = np.full((32, 32, 3), number % 251, np.uint8)
        return reading.ReadImage(picture, file_sha256(Path(path)), reading.ImageFacts("", 0, 0, "", 0, 0))

    monkeypatch.setattr(pixel_cache, "read_image", drawn)
    large = Preprocessing.create(300)  # 270 MB in all
    cached(tmp_path, paths[:10], large)  # whatever is allocated once
    before = anonymous_mb()
    for _ in range(2):
        found = cached(tmp_path, paths, large)
        assert [int(found.images[row][0, 0, 0]) for row in range(0, 1000, 37)] == [n % 251 for n in range(0, 1000, 37)]
        assert found.images.take(range(5, 1000, 7))[3].max() == 26
        assert anonymous_mb() - before < 100


def test_no_image_at_all(tmp_path: Path) -> None:
    found = cached(tmp_path, [])
    assert found.images.shape == (0, 16, 20, 3)
    assert found.hashes.shape == (0, 32)
