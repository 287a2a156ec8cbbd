"""What was worked out from files, kept on disk for as long as the files and the code stay the same."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import cv2
import PIL

import cxrlab.reading


class Shelf:
    """One file per image: a checksum, and what is kept.

    Nothing is forced to disk or moved into place, which would take long: a file that is cut off, damaged or just being
    written by another process fails its checksum, and what it held is worked out anew.

    Args:
        folder: Of the cache, ``~`` is expanded; it may be shared by processes and deleted at any time.
        version: Names what was worked out and by which code; each has a folder of its own below ``folder``.

    Attributes:
        notes: That the folder could not be written, once.
    """

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder.expanduser() / version
        self.notes: list[str] = []
        self._first_failure = threading.Lock()
        with suppress(OSError):  # not there yet, or not ours to change
            os.utime(self.folder)  # that it is in use, see cxrlab.datamodules.cache.folder

    def fetch(self, key: str) -> bytes | None:
        """What is kept under a key; ``None`` where it is not there, or damaged."""
        try:
            data = self._file(key).read_bytes()
        except OSError:
            return None
        return unseal(data)

    def keep(self, key: str, data: bytes) -> None:
        """Keeps something; where that fails, it is noted once, and nothing more is written."""
        if self.notes:
            return
        file = self._file(key)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(seal(data))
        except OSError as error:
            with self._first_failure:
                if not self.notes:
                    reason = error.strerror or error
                    self.notes.append(
                        f"measurements could not be kept in {self.folder}: {reason}. A second audit will take as long; "
                        "make the folder writable, or set CXRLAB_CACHE=/some/other/folder before the command"
                    )

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / key


def seal(data: bytes) -> bytes:
    """Puts a checksum before what is kept."""
    return zlib.crc32(data).to_bytes(4, "little") + data


def unseal(sealed: bytes) -> bytes | None:
    """What :func:`seal` was given; ``None`` where it is cut off or damaged."""
    whole = len(sealed) >= 4 and zlib.crc32(sealed[4:]) == int.from_bytes(sealed[:4], "little")
    return sealed[4:] if whole else None


def key_of(path: str) -> str | None:
    """Names this state of a file (path, size, time of the last change); ``None`` where there is no such file."""
    try:
        file = Path(path).absolute()
        state = file.stat()
    except (OSError, ValueError):
        return None
    text = f"{file}\0{state.st_size}\0{state.st_mtime_ns}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def version_of(modules: Iterable[ModuleType], layout: str) -> str:
    """Changes with the code that works something out or reads images, with the layout, and with what decodes."""
    try:
        pydicom = version("pydicom")  # not imported, since it is optional
    except PackageNotFoundError:
        pydicom = "none"  # once it is installed, files that could not be read can be
    digest = hashlib.sha256(f"{layout} {cv2.__version__} {PIL.__version__} {pydicom}".encode())
    room = sorted(Path(str(cxrlab.reading.__file__)).parent.glob("*.py"))
    for file in (*room, *(Path(str(module.__file__)) for module in modules)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
