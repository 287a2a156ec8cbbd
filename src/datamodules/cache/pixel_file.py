"""One file of the pixel cache: preprocessed images behind each other, then a table of what they are, then a footer.

The images are mapped, not read: the system loads a page when it is looked at and drops it when memory runs short.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Sequence
from contextlib import suppress
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrlab.datamodules.films import HASH_BYTES
from cxrlab.datamodules.parallel import for_each
from cxrlab.errors import DataError

FINISHED, UNFINISHED = ".pixels", ".part"
"""How the names of files end."""
RECORD = np.dtype([("sha256", "S64"), ("hash", np.uint8, (HASH_BYTES,)), ("crc", "<u4"), ("doubts", "S256")])
_FOOTER = struct.Struct("<8sQI")  # the mark below, how many images, the checksum of the table
_MARK = b"cxrlab-1"
_PART = 64  # images that a thread checks in one go; handing over each by itself would take as long as checking it

Shape = tuple[int, int, int]


class PixelFile:
    """A finished file, mapped.

    It can be removed while it is mapped: on POSIX systems its pixels stay until the last process that uses them ends.

    Args:
        path: Of the file.
        shape: Of one image: height, width, channels.

    Attributes:
        table: One record per image: ``sha256`` of its file, its perceptual ``hash``, ``crc`` of its pixels,
            ``doubts`` as :func:`cxrlab.datamodules.pixels.doubts_of` has them.

    Raises:
        DataError: It is cut off, damaged or something else.
        OSError: It is not there, or cannot be read.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        self.path, self.shape = path, shape
        with path.open("rb") as file:
            self.table = _read_table(file, prod(shape))
            mapped = np.memmap(file, np.uint8, "r", 0, (len(self.table), *shape))
        self._pixels: NDArray[np.uint8] = np.asarray(mapped)  # a plain array is quicker to index

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        return np.asarray(self._pixels[place])

    def __reduce__(self) -> tuple[Any, ...]:
        """To a loader's worker goes the name of the file, not gigabytes of pixels."""
        return PixelFile, (self.path, self.shape)

    def is_whole(self, places: Sequence[int]) -> bool:
        """Whether the pixels of some of the images are those that were written; looks at all of them."""
        damaged: list[int] = []

        def check(some: Sequence[int]) -> None:
            damaged.extend(place for place in some if zlib.crc32(self._pixels[place]) != self.table["crc"][place])

        parts = [places[start : start + _PART] for start in range(0, len(places), _PART)]
        for_each(check, parts, "checking cached images")
        return not damaged


def _read_table(file: Any, image_bytes: int) -> NDArray[np.void]:
    size = os.fstat(file.fileno()).st_size
    file.seek(max(0, size - _FOOTER.size))
    footer = file.read(_FOOTER.size)
    mark, count, crc = _FOOTER.unpack(footer) if len(footer) == _FOOTER.size else (b"", 0, 0)
    expected = count * (image_bytes + RECORD.itemsize) + _FOOTER.size
    if mark != _MARK or not count or size != expected:
        raise DataError(f"{file.name}: cut off, or no file of the pixel cache; remove it")
    file.seek(count * image_bytes)
    table = file.read(count * RECORD.itemsize)
    if zlib.crc32(table) != crc:
        raise DataError(f"{file.name}: damaged; remove it")
    return np.frombuffer(table, RECORD)


def images_in(size: int, shape: Shape) -> int:
    """How many images of a shape a finished file of so many bytes holds, without opening it."""
    return (size - _FOOTER.size) // (prod(shape) + RECORD.itemsize)


class PixelWriter:
    """Writes files of the pixel cache; threads may share one.

    Images come in any order and go to disk at once, under a name that no reader looks at. A file is closed, forced to
    disk and renamed when it is full, so that a job that is killed loses little of what it has read.

    Args:
        folder: Made where needed.
        full: Bytes; a file with at least so many is closed, and the next one begun.

    Raises:
        OSError: Here and in every method: the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, full: int = 2**30) -> None:
        self._folder, self._full = folder, full
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._begin()

    def append(self, sha256: str, looks: NDArray[np.uint8], pixels: NDArray[np.uint8], doubts: str = "") -> None:
        """Writes an image, unless one of the same file has been written.

        Args:
            sha256: Of the file it came from.
            looks: Its perceptual hash, shape (32,).
            pixels: Shape (height, width, channels), uint8.
            doubts: ASCII; what is longer than 256 letters is cut off.
        """
        data, record = pixels.tobytes(), np.zeros(1, RECORD)
        record["sha256"], record["hash"], record["crc"], record["doubts"] = sha256, looks, zlib.crc32(data), doubts
        with self._lock:
            if sha256 in self._known:
                return
            self._known.add(sha256)
            self._file.write(data)
            self._records.append(record.tobytes())
            if self._file.tell() >= self._full:
                self._finish()
                self._begin()

    def __enter__(self) -> PixelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes the last file, also after Ctrl-C; what could not be written whole is dropped."""
        if isinstance(error, OSError):
            self._discard()
        else:
            self._finish()

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(UNFINISHED, "", self._folder)
        self._file, self._path = os.fdopen(handle, "wb"), Path(name)
        self._records: list[bytes] = []

    def _finish(self) -> None:
        if not self._records:
            self._discard()
            return
        table = b"".join(self._records)
        try:
            self._file.write(table + _FOOTER.pack(_MARK, len(self._records), zlib.crc32(table)))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path.chmod(0o644)  # a cache may be shared by colleagues
            self._path.rename(self._path.with_suffix(FINISHED))
        except OSError:
            self._discard()
            raise

    def _discard(self) -> None:
        with suppress(OSError):  # what is still in the buffer may not fit on the disk either
            self._file.close()
        self._path.unlink(missing_ok=True)
