"""What is worked out from image files and kept: datamodules/cache.py."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cxrlab.datamodules import cache, films
from cxrlab.datamodules.cache import DAY, Entry, Store, held, key_of, trim, version_of
from cxrlab.errors import DataError
from cxrlab.files import file_sha256
from cxrlab.reading import image as reading
from cxrlab.reading.image import ReadImage, read_image

OLD, NEW = "0123456789abcdef", "fedcba9876543210"
BLANK = Entry("", np.zeros(3, np.uint8), {"mean": 0.0})


def noise(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)


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
def good(paths: list[str]) -> list[str]:
    """Those that can be read."""
    return [path for path in paths if Path(path).stem not in ("damaged", "missing")]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names of the files that are ``decoded``, and of those that are only ``hashed``."""
    names: dict[str, list[str]] = {"decoded": [], "hashed": []}

    def counted(name: str, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def count(path: Any) -> Any:
            names[name].append(Path(path).stem)
            return original(path)

        return count

    monkeypatch.setattr(cache, "read_image", counted("decoded", read_image))
    monkeypatch.setattr(cache, "file_sha256", counted("hashed", file_sha256))
    return names


def recalled(folder: Path | None, paths: list[str], version: str = NEW) -> tuple[Any, ...]:
    """Hashes, data, facts, problems and notes of images whose entries are their bytes and their mean."""

    def work(image: ReadImage) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], dict[str, Any]]:
        return image.pixels.ravel(), {"mean": float(image.pixels.mean())}

    store = Store(folder, "pixels/all", version)
    sha256, entries, problems = store.recall(paths, work, BLANK, "reading")
    return (
        sha256,
        [entry.data.tobytes() for entry in entries],
        [entry.facts for entry in entries],
        problems,
        store.notes,
    )


def stored(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.npy"))


def test_what_is_kept_is_what_the_files_give(paths: list[str], tmp_path: Path) -> None:
    expected = recalled(None, paths)
    sha256, data, facts, problems, notes = expected
    assert data[0] == noise(3)[..., ::-1].tobytes()
    assert facts[3] == {"mean": noise(1).mean()}
    assert sha256[5] == file_sha256(Path(paths[5]))
    assert (sha256[2], data[2], facts[6]) == ("", BLANK.data.tobytes(), BLANK.facts)
    assert list(problems) == [2, 6]
    assert notes == []
    for _ in range(2):
        assert recalled(tmp_path / "cache", paths) == expected
    assert len(stored(tmp_path)) == 1


def test_nothing_is_read_again_but_what_could_not_be(
    paths: list[str], good: list[str], tmp_path: Path, read: dict[str, list[str]]
) -> None:
    recalled(tmp_path / "cache", paths)
    assert sorted(read["decoded"]) == sorted(Path(path).stem for path in paths)
    read["decoded"].clear()
    recalled(tmp_path / "cache", good[::-1])
    assert read == {"decoded": [], "hashed": []}
    recalled(tmp_path / "cache", paths)
    assert set(read["decoded"]) == {"damaged", "missing"}


def test_only_what_is_new_or_changed_is_decoded(good: list[str], tmp_path: Path, read: dict[str, list[str]]) -> None:
    recalled(tmp_path / "cache", good[:4])
    assert cv2.imwrite(good[1], noise(9))
    read["decoded"].clear()
    found = recalled(tmp_path / "cache", good)
    assert sorted(read["decoded"]) == ["0", "2", "4"]
    assert found == recalled(None, good)
    assert len(stored(tmp_path)) == 2


def test_files_that_have_moved_are_known_by_their_content(
    good: list[str], tmp_path: Path, read: dict[str, list[str]]
) -> None:
    expected = recalled(tmp_path / "cache", good)
    folder = shutil.copytree(tmp_path / "films", tmp_path / "moved")
    moved = [str(folder / Path(path).name) for path in good]
    for hashed in (len(moved), 0):
        read["decoded"].clear()
        read["hashed"].clear()
        assert recalled(tmp_path / "cache", moved) == expected
        assert (read["decoded"], len(read["hashed"])) == ([], hashed)


@pytest.mark.parametrize("what", ["replaced", "touched"])
def test_a_file_that_changes_while_it_is_read_is_not_taken_for_known(
    good: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def changing(path: str) -> ReadImage:
        image = read_image(path)
        if what == "replaced":
            assert cv2.imwrite(path, noise(77))
        else:
            os.utime(path, ns=(1, 1))
        return image

    monkeypatch.setattr(cache, "read_image", changing)
    first = recalled(tmp_path / "cache", good[:1])
    monkeypatch.undo()
    assert first[1] == [noise(3)[..., ::-1].tobytes()]
    state = key_of(good[0])
    assert state is not None
    store = Store(tmp_path / "cache", "pixels/all", NEW)
    store.find([state])
    assert store.found == {}
    assert recalled(tmp_path / "cache", good[:1])[1] == [noise(77 if what == "replaced" else 3)[..., ::-1].tobytes()]


def test_full_chunks_are_written_at_once(good: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_FULL", 2 * noise(0).size)
    expected = recalled(tmp_path / "cache", good)
    assert 2 <= len(stored(tmp_path)) <= 3
    assert recalled(tmp_path / "cache", good) == expected == recalled(None, good)


def pickled(_: bytes) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Unpickled()], object), allow_pickle=True)
    return file.getvalue()


class Unpickled:
    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("it was unpickled",)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: b"foreign",
        lambda data: b"PK\x03\x04" + data[4:],
        lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
        lambda data: data.replace(b"|u1", b"|i1", 1),
        lambda data: data[:-50] + b"0" + data[-49:],
        pickled,
    ],
    ids=[
        "cut by a byte",
        "cut in half",
        "empty",
        "zeros",
        "foreign",
        "a zip",
        "a pixel",
        "signed",
        "its table",
        "pickled",
    ],
)
def test_a_damaged_chunk_is_made_anew(
    good: list[str], tmp_path: Path, damage: Callable[[bytes], bytes], read: dict[str, list[str]]
) -> None:
    expected = recalled(tmp_path / "cache", good)
    (chunk,) = stored(tmp_path)
    chunk.write_bytes(damage(chunk.read_bytes()))
    for _ in range(2):  # the second time it is mended
        assert recalled(tmp_path / "cache", good) == expected
        assert len(read["decoded"]) == 2 * len(good)


def test_no_changed_byte_of_a_chunk_is_ever_believed(tmp_path: Path) -> None:
    store = Store(tmp_path, "pixels/all", NEW)
    store.add(["a"], Entry("a", np.frombuffer(b"data", np.uint8), {"x": 1}))
    store.add(["b"], Entry("b", np.frombuffer(b"", np.uint8), {}))
    store.flush()
    expected = {key: (entry.data.tobytes(), entry.facts) for key, entry in store.found.items()}
    (chunk,) = tmp_path.rglob("*.npy")
    whole = chunk.read_bytes()
    for place in range(len(whole)):
        chunk.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
        fresh = Store(tmp_path, "pixels/all", NEW)
        fresh.find(["a", "b"])
        found = {key: (entry.data.tobytes(), entry.facts) for key, entry in fresh.found.items()}
        assert found in ({}, expected), place


def test_entries_that_were_not_wanted_may_be_damaged(tmp_path: Path) -> None:
    store = Store(tmp_path, "pixels/all", NEW)
    store.add(["a"], Entry("a", np.frombuffer(b"first", np.uint8), {}))
    store.add(["b"], Entry("b", np.frombuffer(b"second", np.uint8), {}))
    store.flush()
    (chunk,) = tmp_path.rglob("*.npy")
    chunk.write_bytes(chunk.read_bytes().replace(b"second", b"seconD"))
    fresh = Store(tmp_path, "pixels/all", NEW)
    fresh.find(["a"])
    assert fresh.found["a"].data.tobytes() == b"first"
    fresh.find(["b"])
    assert "b" not in fresh.found
    assert not chunk.exists()
    assert fresh.found["a"].data.tobytes() == b"first", "what is mapped stays"


def test_other_versions_do_not_find_it(good: list[str], tmp_path: Path, read: dict[str, list[str]]) -> None:
    recalled(tmp_path / "cache", good, OLD)
    read["decoded"].clear()
    assert recalled(tmp_path / "cache", good) == recalled(None, good)
    assert {file.parent.name for file in stored(tmp_path)} == {OLD, NEW}


def test_a_version_belongs_to_code_layout_and_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {version_of((reading,), "x"), version_of((reading, films), "x"), version_of((reading,), "y")}
    monkeypatch.setattr(cv2, "__version__", "0.0")
    versions.add(version_of((reading,), "x"))
    assert len(versions) == 4
    assert all(len(version) == 16 for version in versions)
    assert version_of((films,)) == version_of((films,))


def test_a_key_belongs_to_one_state_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    assert key_of(str(file)) is None
    assert key_of("a\0b") is None
    keys = []
    for data, moment in ((b"123", 1), (b"123", 1), (b"123", 2), (b"1234", 1)):
        file.write_bytes(data)
        os.utime(file, ns=(1, moment))
        keys.append(key_of(str(file)))
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


# What can go wrong with the folder -----------------------------------------------------------------------------------


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("os.fsync", errno.ENOSPC),
        ("pathlib.Path.replace", errno.EXDEV),
        ("pathlib.Path.mkdir", errno.EROFS),
        ("tempfile.mkstemp", errno.EACCES),
    ],
)
def test_what_cannot_be_written_is_noted_once_and_in_memory(
    good: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, read: dict[str, list[str]]
) -> None:
    recalled(tmp_path / "cache", good[:2])
    expected = recalled(None, good)[:-1]
    read["decoded"].clear()
    monkeypatch.setattr(name, failing(number))
    monkeypatch.setattr(cache, "_FULL", noise(0).size)
    *found, (note,) = recalled(tmp_path / "cache", good)
    assert tuple(found) == expected
    assert sorted(read["decoded"]) == ["1", "2", "4"], "each once, and not what was kept before"
    assert note.startswith(f"pixels could not be kept in {tmp_path / 'cache'}: {os.strerror(number)}. ")
    assert "held in memory" in note
    assert "CXRLAB_CACHE=" in note
    monkeypatch.undo()
    assert list((tmp_path / "cache").rglob("*.part")) == []


def test_a_cache_that_may_only_be_read_is_read(
    good: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: dict[str, list[str]]
) -> None:
    expected = recalled(tmp_path / "cache", good)
    read["decoded"].clear()
    for name in ("os.utime", "pathlib.Path.mkdir", "pathlib.Path.unlink", "tempfile.mkstemp"):
        monkeypatch.setattr(name, failing(errno.EACCES))
    assert recalled(tmp_path / "cache", good) == expected
    assert read["decoded"] == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_files_cannot_be_locked_nothing_waits(
    good: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("fcntl.flock", failing(number))
    assert recalled(tmp_path / "cache", good) == recalled(None, good)
    assert len(stored(tmp_path)) == 1


def test_chunks_that_are_removed_at_once_are_noted(
    good: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(path: Path, write: Callable[[Any], object]) -> None:
        assert not path.exists()

    monkeypatch.setattr(cache, "write_atomically", written)
    *found, (note,) = recalled(tmp_path / "cache", good)
    assert found == list(recalled(None, good)[:-1])
    assert "No such file" in note


def test_an_interrupt_keeps_what_was_read(good: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str) -> ReadImage:
        if path == good[-1]:
            raise KeyboardInterrupt
        return read_image(path)

    monkeypatch.setattr(cache, "read_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recalled(tmp_path / "cache", good)
    (chunk,) = stored(tmp_path)
    kept = [stop for _, _, _, start, stop, _ in cache.read_chunk(chunk)[1] if stop > start]
    assert 3 <= len(kept) < 5


def fill(folder: Path, paths: list[str], start: Any, results: Any) -> None:
    start.wait(60)
    results.put(recalled(folder, paths))


@pytest.mark.parametrize("locks", [True, False], ids=["with locks", "without"])
def test_jobs_that_begin_at_once_share_what_one_of_them_reads(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:
        monkeypatch.setattr("fcntl.flock", failing(errno.ENOLCK))
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(3), context.Queue()
    jobs = [context.Process(target=fill, args=(tmp_path / "cache", paths, start, results)) for _ in range(3)]
    for job in jobs:
        job.start()
    found = [results.get(timeout=60) for _ in jobs]
    for job in jobs:
        job.join(60)
    assert found == [recalled(None, paths)] * 3
    if locks:
        assert len(stored(tmp_path)) == 1


# What lies in the folder, and how it is removed -----------------------------------------------------------------------


def write(file: Path, size: int, days: float = 0) -> Path:
    """A file that was last used so many days ago."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x" * size)
    moment = time.time() - days * DAY
    os.utime(file, (moment, moment))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four chunks of two kinds and versions, one that is written, and what is nobody's business."""
    for name, size, days in (
        (f"measurements/films/{OLD}/{'a' * 32}.npy", 2000, 9),
        (f"pixels/8-10-3/{NEW}/{'b' * 32}.npy", 800, 5),
        (f"pixels/8-10-3/{NEW}/{'c' * 32}.npy", 900, 2),
        (f"measurements/films/{NEW}/{'d' * 32}.npy", 2000, 1),
        (f"pixels/8-10-3/{NEW}/.{'e' * 32}.npy.abcd_123.part", 500, 0.5),
        (f"pixels/8-10-3/{NEW}/lock", 0, 90),
        (f"pixels/8-10-3/{NEW}/my.npy", 10, 90),
        (f"pixels/mine/films/{'f' * 32}.npy", 10, 90),
        (f"films/8-10-3/{NEW}/{'a' * 32}.npy", 10, 90),
        ("mine.txt", 10, 90),
    ):
        write(tmp_path / name, size, days)
    return tmp_path


def sizes(folder: Path) -> list[int]:
    return [facts.st_size for _, facts in held(folder)]


def test_everything_is_listed_last_used_first(folder: Path) -> None:
    assert sizes(folder) == [500, 2000, 900, 800, 2000]
    assert held(folder / "nowhere") == []


@pytest.mark.parametrize(("limit", "left"), [(9000, 5), (5000, 4), (4000, 3), (2500, 2), (0, 1)])
def test_what_was_not_used_for_longest_goes_first(folder: Path, limit: float, left: int) -> None:
    before = sizes(folder)
    trim(folder, limit)
    assert sizes(folder) == before[:left]


def test_what_a_killed_job_was_writing_goes_after_a_day(folder: Path) -> None:
    (unfinished,) = folder.rglob("*.part")
    trim(folder, 1e9)
    assert unfinished.exists()
    write(unfinished, 500, 1.1)
    trim(folder, 1e9)
    assert not unfinished.exists()
    assert len(held(folder)) == 4


def test_what_is_used_is_not_what_was_unused_for_longest(good: list[str], tmp_path: Path) -> None:
    recalled(tmp_path / "cache", good, OLD)
    recalled(tmp_path / "cache", good, NEW)
    for age, chunk in enumerate(stored(tmp_path)):
        os.utime(chunk, (1000 + age, 1000 + age))
    recalled(tmp_path / "cache", good, OLD)
    assert [path.parent.name for path, _ in held(tmp_path / "cache")] == [OLD, NEW]


def test_what_is_mapped_stays_when_it_is_trimmed(good: list[str], tmp_path: Path) -> None:
    recalled(tmp_path / "cache", good)
    store = Store(tmp_path / "cache", "pixels/all", NEW)
    entries = store.recall(good, lambda image: (BLANK.data, {}), BLANK, "reading")[1]
    trim(tmp_path / "cache", 0)
    assert stored(tmp_path) == []
    assert [entry.data.tobytes() for entry in entries] == recalled(None, good)[1]
    with pytest.raises(FileNotFoundError):
        cache.read_chunk(tmp_path / "gone.npy")
    with pytest.raises(DataError, match="damaged"):
        cache.read_chunk(write(tmp_path / "x.npy", 9))
