"""One file of the pixel cache: datamodules/pixel_file.py."""

from __future__ import annotations

import errno
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from cxrlab.datamodules.cache.pixel_file import PixelFile, PixelWriter, images_in
from cxrlab.errors import DataError

SHAPE = (4, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), np.uint8)
LOOKS = np.random.default_rng(1).integers(0, 256, (6, 32), np.uint8)
NAMES = [hashlib.sha256(bytes([number])).hexdigest() for number in range(6)]


def write(folder: Path, rows: list[int], full: int = 2**30) -> list[Path]:
    with PixelWriter(folder, full) as writer:
        for row in rows:
            writer.append(NAMES[row], LOOKS[row], IMAGES[row])
    return sorted(folder.iterdir())


def test_what_was_written_is_mapped(tmp_path: Path) -> None:
    (path,) = write(tmp_path / "new" / "folder", [4, 0, 2])
    file = PixelFile(path, SHAPE)
    assert [sha256.decode() for sha256 in file.table["sha256"]] == [NAMES[4], NAMES[0], NAMES[2]]
    np.testing.assert_array_equal(file.table["hash"], LOOKS[[4, 0, 2]])
    np.testing.assert_array_equal([file[place] for place in range(3)], IMAGES[[4, 0, 2]])
    assert file.is_whole(range(3))
    assert images_in(path.stat().st_size, SHAPE) == 3
    assert not file[0].flags.writeable


def test_a_file_that_is_removed_stays_mapped(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [1])
    file = PixelFile(path, SHAPE)
    path.unlink()
    np.testing.assert_array_equal(file[0], IMAGES[1])


def test_to_another_process_goes_the_name_and_not_the_pixels(tmp_path: Path) -> None:
    (path,) = write(tmp_path, list(range(6)))
    data = pickle.dumps(PixelFile(path, SHAPE))
    assert IMAGES[0].tobytes() not in data
    np.testing.assert_array_equal(pickle.loads(data)[3], IMAGES[3])


def test_copies_are_written_once_and_full_files_closed(tmp_path: Path) -> None:
    paths = write(tmp_path, [0, 1, 0, 2, 3, 1, 4, 5], full=2 * IMAGES[0].size)
    assert [len(PixelFile(path, SHAPE).table) for path in paths] == [2, 2, 2]
    assert {sha256.decode() for path in paths for sha256 in PixelFile(path, SHAPE).table["sha256"]} == set(NAMES)


def test_nothing_written_leaves_no_file(tmp_path: Path) -> None:
    assert write(tmp_path, []) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: data + b"x",
        lambda data: data[:-20] + b"?" + data[-19:],
        lambda data: b"\0" * len(data),
    ],
    ids=["cut by a byte", "empty", "cut in half", "longer", "its table changed", "zeros"],
)
def test_what_is_no_whole_file_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    (path,) = write(tmp_path, [0, 1, 2])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=str(path)):
        PixelFile(path, SHAPE)


def test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [0, 1, 2])
    with pytest.raises(DataError, match="cut off, or no file of the pixel cache"):
        PixelFile(path, (5, 5, 3))


def test_changed_pixels_are_noticed(tmp_path: Path) -> None:
    (path,) = write(tmp_path, [0, 1, 2])
    data = bytearray(path.read_bytes())
    data[IMAGES[0].size + 7] ^= 1  # in the second image
    path.write_bytes(data)
    file = PixelFile(path, SHAPE)
    assert file.is_whole([0, 2])
    assert not file.is_whole([0, 1])


def write_until(folder: Path, error: BaseException) -> None:
    with PixelWriter(folder) as writer:
        writer.append(NAMES[3], LOOKS[3], IMAGES[3])
        raise error


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        write_until(tmp_path, full)
    with mock.patch("os.fsync", side_effect=full), pytest.raises(OSError, match="No space"):
        write(tmp_path, [0])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_keeps_what_was_read(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_until(tmp_path, KeyboardInterrupt())
    (path,) = tmp_path.iterdir()
    np.testing.assert_array_equal(PixelFile(path, SHAPE)[0], IMAGES[3])
