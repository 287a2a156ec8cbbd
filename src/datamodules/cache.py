"""What was worked out from image files, kept on disk, so that no file is decoded or measured twice.

It lies in chunks, ``<kind>/<what>/<version of the code>/*.npy`` below the cache's folder. A chunk is two NumPy arrays
behind each other: the bytes of many entries, which are mapped, and JSON that says what they are. It is written
once, moved into place whole, and from then on only read or removed. So no index is ever written anew, processes may
read, fill and trim at once, and what a job has mapped stays readable for it (on POSIX systems).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray

import cxrlab.reading
from cxrlab.console import say
from cxrlab.datamodules.parallel import for_each
from cxrlab.errors import DataError
from cxrlab.files import file_sha256, write_atomically
from cxrlab.reading.image import ReadImage, read_image

DAY = 86_400  # seconds
KINDS = ("pixels", "measurements")

_NOTHING = np.zeros(0, np.uint8)
_FULL = 2**25  # bytes of a chunk: what a job that is killed loses, and what is read again for a damaged byte
_NAME = re.compile(r"[0-9a-f]{16}/(?:[0-9a-f]{32}\.npy|\.[0-9a-f]{32}\.npy\.\w{8}\.part)")


class Entry(NamedTuple):
    """What was worked out from one file: bytes where they lie, shape (n,), uint8, and facts that JSON can hold."""

    sha256: str
    data: NDArray[np.uint8]
    facts: dict[str, Any]


class Store:
    """Entries of one kind and version, by key; threads may share one.

    Args:
        cache: Its folder, ``~`` is expanded; processes may share it, and anything in it may be deleted at any time.
            ``None`` keeps everything in memory.
        name: ``kind/what``.
        version: Of the code that works the entries out, see :func:`version_of`.

    Attributes:
        found: Entries by SHA-256 of the file, and by its state (:func:`key_of`), that were looked for or added.
        notes: Why nothing can be written; what is added is then in memory.
    """

    def __init__(self, cache: Path | None, name: str, version: str) -> None:
        self.found: dict[str, Entry] = {}
        self.notes: list[str] = []
        self._cache, self._name = cache, name
        self._folder = None if cache is None else cache.expanduser() / name / version
        self._pending: list[tuple[list[str], Entry]] = []
        self._size, self._lock = 0, threading.Lock()

    def recall(
        self,
        paths: Sequence[str],
        work: Callable[[ReadImage], tuple[NDArray[np.uint8], dict[str, Any]]],
        blank: Entry,
        doing: str,
        check: Callable[[int], object] = lambda count: None,
    ) -> tuple[list[str], list[Entry], dict[int, str]]:
        """Finds what was worked out from files by their content, wherever they lie, and reads the others.

        A file whose path, size and time of the last change are known is not read to tell its content.

        Args:
            paths: Image files.
            work: Makes of an image what is kept: bytes, shape (n,), and facts.
            blank: Stands in for the entry of a file that could not be read.
            doing: What is being done, for the progress bar.
            check: Called with the number of files to be read; after an ``OSError`` nothing is written.

        Returns:
            Of each file the SHA-256, empty where it could not be read, and the entry; ``{row: why not}``.
        """
        sha256, problems = [""] * len(paths), dict[int, str]()
        states = [""] * len(paths) if self._folder is None else [key_of(path) or "" for path in paths]

        def read(row: int) -> None:
            try:
                image = read_image(paths[row])
            except DataError as error:
                sha256[row], problems[row] = "", str(error)
            else:
                sha256[row] = image.sha256
                # The file may have been replaced while it was read.
                state = states[row] if states[row] == key_of(paths[row]) else ""
                self.add([image.sha256, state], Entry(image.sha256, *work(image)))

        if rows := self._missing(paths, states, sha256):
            with ExitStack() as stack:
                try:
                    if self._folder is not None:
                        stack.enter_context(_claimed(self._folder))
                        rows = self._missing(paths, states, sha256)  # another job may have read them meanwhile
                    check(len(rows))
                except OSError as error:
                    self._fail(error)
                stack.callback(self.flush)  # before others get in, and also after Ctrl-C
                for_each(read, rows, doing)
        self.flush()  # files that have moved
        return sha256, [self.found.get(key, blank) for key in sha256], dict(sorted(problems.items()))

    def _missing(self, paths: Sequence[str], states: Sequence[str], sha256: list[str]) -> list[int]:
        """Looks for the entries of files and tells the rows that have none; ``sha256`` is filled in."""

        def tell(row: int) -> None:
            with suppress(OSError, ValueError):
                sha256[row] = file_sha256(Path(paths[row]))

        if self._chunks():  # otherwise every file is read anyway
            self.find(states)
            for row, entry in enumerate(map(self.found.get, states)):
                sha256[row] = sha256[row] if entry is None else entry.sha256
            unknown = [row for row, key in enumerate(sha256) if not key]
            for_each(tell, unknown, "looking for changed images")
            self.find(sha256)
            for row in unknown:
                if sha256[row] in self.found and states[row] == key_of(paths[row]):
                    self.add([states[row]], Entry(sha256[row], _NOTHING, {}))
        return [row for row, key in enumerate(sha256) if key not in self.found]

    def find(self, keys: Collection[str]) -> None:
        """Looks for entries and compares their checksums; a chunk that is cut off or damaged is removed."""
        wanted = {key for key in keys if key not in self.found}

        def look(path: Path) -> None:
            with suppress(OSError):  # removed in the meantime, or not ours to read or change
                try:
                    if found := _entries(path, wanted):
                        self.found.update(found)
                        os.utime(path)  # that it is in use, see trim
                except DataError:
                    path.unlink()

        for_each(look, self._chunks() if wanted else [], "checking what is cached")

    def add(self, keys: Sequence[str], entry: Entry) -> None:
        """Adds an entry, under those of its keys that are not known; it is on disk after :meth:`flush`."""
        with self._lock:
            fresh = [key for key in keys if key and key not in self.found]
            if keys[0] not in fresh:  # a copy of a file: only the state is new
                entry = Entry(entry.sha256, _NOTHING, {})
            if fresh:
                self.found.update(dict.fromkeys(fresh, entry))
                self._pending.append((fresh, entry))
                self._size += len(entry.data)
        if self._size >= _FULL:
            self.flush()

    def flush(self) -> None:
        """Writes what has been added, as one chunk."""
        with self._lock:
            pending, self._pending, self._size = self._pending, [], 0
        if not pending or self._folder is None or self.notes:
            return
        table, stop = [], 0
        for keys, (sha256, part, facts) in pending:
            start, stop = stop, stop + len(part)
            table.append((keys, sha256, zlib.crc32(part.data), start, stop, facts))
        said = json.dumps(table).encode()
        path = self._folder / f"{_digest(said)}.npy"

        def save(file: IO[bytes]) -> None:
            # Not the file itself: of a full disk NumPy would only say how many bytes it wanted to write.
            writer: Any = SimpleNamespace(write=file.write)
            np.save(writer, np.concatenate([entry.data for _, entry in pending]))
            np.save(writer, np.frombuffer(said, np.uint8))

        try:
            write_atomically(path, save)
            self.found.update(_entries(path, {key for keys, _ in pending for key in keys}))
        except (OSError, DataError) as error:
            self._fail(error)

    def _chunks(self) -> list[Path]:
        return [] if self._folder is None else sorted(self._folder.glob("*.npy"))

    def _fail(self, error: Exception) -> None:
        note = (
            f"{self._name.partition('/')[0]} could not be kept in {self._cache}: "
            f"{getattr(error, 'strerror', None) or error}. They are held in memory, and the next run reads the images "
            "again; make room and the folder writable, or set CXRLAB_CACHE=/another/folder before the command"
        )
        self.notes = [note]


def read_chunk(path: Path) -> tuple[NDArray[np.uint8], list[Any]]:
    """The bytes of a chunk, mapped, and of each entry keys, SHA-256 of the file, checksum, start, stop and facts.

    Raises:
        DataError: It is cut off or damaged, apart from the bytes.
        OSError: It is not there, or cannot be read.
    """
    try:
        data = np.lib.format.open_memmap(path, mode="r")
        with path.open("rb") as file:
            file.seek(data.offset + data.nbytes)
            table = np.load(file).tobytes()
        if data.dtype != np.uint8 or _digest(table) != path.stem:
            raise ValueError("not what was written")
        return data, json.loads(table)
    except OSError:
        raise
    except Exception as error:  # whatever a damaged header makes of NumPy
        raise DataError(f"{path}: damaged") from error


def _entries(path: Path, wanted: set[str]) -> dict[str, Entry]:
    """Those entries of a chunk that are wanted."""
    mapped, table = read_chunk(path)
    data = np.asarray(mapped)  # a plain array is quicker to index
    found = {}
    for keys, sha256, crc, start, stop, facts in table:
        if not wanted.isdisjoint(keys):
            entry = Entry(sha256, data[start:stop], facts)
            if zlib.crc32(entry.data.data) != crc:
                raise DataError(f"{path}: damaged")
            found.update(dict.fromkeys(keys, entry))
    return found


def _digest(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()[:32]


def _claimed(folder: Path) -> IO[bytes]:
    """Waits until no other job fills a folder; others wait until the file is closed, or the job was killed.

    Where files cannot be locked nobody waits: work is then done twice, but never wrongly.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / "lock").open("ab")
    with suppress(ImportError, OSError):
        import fcntl  # not on Windows

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another job that is reading images into {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
    return file


def held(cache: Path) -> list[tuple[Path, os.stat_result]]:
    """The chunks of all kinds and versions, last used first, with those that are unfinished (``.part``).

    Files that are not known to be the cache's are not looked at.
    """
    found = []
    for path in (path for kind in KINDS for path in (cache / kind).glob("*/*/*")):
        if _NAME.fullmatch(f"{path.parent.name}/{path.name}"):
            with suppress(OSError):  # gone in the meantime
                found.append((path, path.stat()))
    return sorted(found, key=lambda each: each[1].st_mtime, reverse=True)


def trim(cache: Path, limit: float) -> None:
    """Removes what was not used for longest until the rest takes at most ``limit`` bytes.

    So go versions of the code that are no longer run. What jobs that were killed have left unfinished goes after a day.
    """
    found = held(cache)
    total = sum(facts.st_size for _, facts in found)
    for path, facts in reversed(found):
        if facts.st_mtime < time.time() - DAY if path.suffix == ".part" else total > limit:
            total -= facts.st_size
            with suppress(OSError):
                path.unlink()


def key_of(path: str) -> str | None:
    """Names this state of a file (path, size, time of the last change); ``None`` where there is no such file."""
    try:
        file = Path(path).absolute()
        state = file.stat()
    except (OSError, ValueError):
        return None
    text = f"{file}\0{state.st_size}\0{state.st_mtime_ns}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def version_of(modules: Sequence[ModuleType], layout: str = "") -> str:
    """16 digits that change with the code that works something out or reads images, the layout, and what decodes."""
    try:
        pydicom = version("pydicom")  # not imported, since it is optional
    except PackageNotFoundError:
        pydicom = "none"  # once it is installed, files that could not be read can be
    digest = hashlib.sha256(f"{layout} {cv2.__version__} {PIL.__version__} {pydicom}".encode())
    room = sorted(Path(str(cxrlab.reading.__file__)).parent.glob("*.py"))
    for file in (*room, *(Path(str(module.__file__)) for module in modules), Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
