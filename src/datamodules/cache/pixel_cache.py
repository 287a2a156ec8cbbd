"""Preprocessed images kept on disk by the content of their files, so that no file is decoded twice.

Below the cache's folder lie ``pixels/<version of the code>/<preprocessing>/*.pixels``, see
:mod:`cxrlab.datamodules.cache.pixel_file`, and ``pixels/files``, see :mod:`cxrlab.datamodules.cache.known_files`. A
data set of which one image is new finds all the others; so do folds, filters, and other data sets that hold the same
files.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import ceil, prod
from pathlib import Path

import numpy as np

from cxrlab.console import say
from cxrlab.datamodules import films, preprocessing
from cxrlab.datamodules.cache import folder as cache_folder
from cxrlab.datamodules.cache import pixel_file
from cxrlab.datamodules.cache.known_files import KnownFiles
from cxrlab.datamodules.cache.pixel_file import PixelFile, PixelWriter, Shape
from cxrlab.datamodules.cache.shelf import version_of
from cxrlab.datamodules.films import HASH_BYTES, perceptual_hash
from cxrlab.datamodules.image_rows import Block, ImageRows
from cxrlab.datamodules.parallel import for_each
from cxrlab.datamodules.pixels import Pixels, doubts_of, read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError
from cxrlab.reading.image import read_image

GB = 10**9

Held = dict[str, tuple[PixelFile, int]]
"""By the SHA-256 of an image file where its pixels lie: a file of the cache and the place in it."""


class PixelCache:
    """Reads images through the cache; processes may share it, and any of it may be deleted at any time.

    Args:
        folder: Of the cache, ``~`` is expanded.
        limit_gb: GB (of 10^9 bytes) that all of it may take. When it grows beyond them, what was not used for longest
            is removed; a running job keeps what it has mapped, see :mod:`cxrlab.datamodules.cache.folder`.
    """

    def __init__(self, folder: Path, limit_gb: float) -> None:
        self.folder = folder.expanduser()
        self.limit_gb = limit_gb

    def read(self, paths: Sequence[str], preprocessing: Preprocessing) -> Pixels:
        """Maps the preprocessed images of files; what is not in the cache is read into it, on all cores.

        What cannot be kept, because the folder cannot be written or the disk is full, is read into memory, and the
        result's ``notes`` say so.

        Raises:
            DataError: The images take more than the limit.
        """
        pixels = self.folder / cache_folder.PIXELS
        files = KnownFiles(pixels / cache_folder.KNOWN_FILES, paths)
        store = _Store(pixels / _version(), paths, files, preprocessing)
        store.open()
        notes = []
        try:
            if store.missing():
                self._check_limit(files.sha256, store.shape)
                store.fill()
                cache_folder.trim(self.folder, self.limit_gb * GB)
            files.keep()
        except OSError as error:
            notes.append(self._note(error))
            store.open()  # what was finished before
        return store.pixels(notes)

    def _check_limit(self, sha256: Sequence[str], shape: Shape) -> None:
        different = len(set(sha256) - {""}) + sha256.count("")
        need = different * (prod(shape) + pixel_file.RECORD.itemsize) / GB
        if need > self.limit_gb:
            raise DataError(
                f"data.cache_limit_gb={self.limit_gb:g}: {different:,} images of {shape[0]}x{shape[1]} pixels take "
                f"{need:.3g} GB of the cache; pass data.cache_limit_gb={ceil(need)} or more, or data.cache=null to "
                "hold them in memory"
            )

    def _note(self, error: OSError) -> str:
        return (
            f"pixels could not be kept in {self.folder}: {error.strerror or error}. They are held in memory, and the "
            "next run reads the images again; make room and the folder writable, or set CXRLAB_CACHE=/another/folder "
            "before the command"
        )


class _Store:
    """The images of one preprocessing.

    Args:
        folder: Of the version.
        paths: Of the files whose images are wanted.
        files: What is known of them; what is read is filled in.
        preprocessing: Of these images.
    """

    def __init__(self, folder: Path, paths: Sequence[str], files: KnownFiles, preprocessing: Preprocessing) -> None:
        self._folder = folder / cache_folder.name_of(preprocessing)
        self._paths, self._files, self._preprocessing = paths, files, preprocessing
        self._sha256 = files.sha256
        self.shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
        self._held: Held = {}
        self._problems: dict[int, str] = {}

    def missing(self) -> list[int]:
        """Rows that have no pixels yet, and no problem."""
        return [
            row for row, sha256 in enumerate(self._sha256) if sha256 not in self._held and row not in self._problems
        ]

    def open(self) -> None:
        """Maps what is there of what is wanted; files that are cut off or damaged are removed."""
        paths = sorted(self._folder.glob(f"*{pixel_file.FINISHED}"))
        if paths:  # otherwise every file is read anyway
            self._files.hash_others()
        wanted = set(self._sha256)
        for path in paths if self.missing() else ():
            with suppress(OSError):  # removed in the meantime
                found = _held(path, self.shape, wanted - self._held.keys())
                if found is None:
                    path.unlink()
                elif found:
                    self._held |= found
                    os.utime(path)  # that it is in use, see cxrlab.datamodules.cache.folder

    def fill(self) -> None:
        """Reads what is missing into new files.

        Raises:
            OSError: They cannot be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with _alone(self._folder / cache_folder.LOCK):
            self.open()  # another job may have read it while this one waited
            rows = self.missing()
            if prod(self.shape) * len(rows) > shutil.disk_usage(self._folder).free:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with PixelWriter(self._folder) as writer:
                for_each(lambda row: self._read(row, writer), rows, "reading images")
            self.open()

    def _read(self, row: int, writer: PixelWriter) -> None:
        try:
            image = read_image(self._paths[row])
        except DataError as error:
            self._problems[row] = str(error)
            return
        self._sha256[row] = image.sha256
        pixels = self._preprocessing.apply(image.pixels)
        writer.append(image.sha256, perceptual_hash(image.pixels), pixels, doubts_of(image))

    def pixels(self, notes: list[str]) -> Pixels:
        """Everything that was wanted; what is still missing is read into memory."""
        blocks: list[Block] = [np.zeros((1, *self.shape), np.uint8)]  # what stands in for an unreadable image
        places, hashes = np.zeros((len(self._paths), 2), np.int64), np.zeros((len(self._paths), HASH_BYTES), np.uint8)
        numbers: dict[PixelFile, int] = {}
        doubts: dict[int, str] = {}
        for row, sha256 in enumerate(self._sha256):
            if sha256 in self._held:
                file, place = self._held[sha256]
                if file not in numbers:
                    numbers[file] = len(blocks)
                    blocks.append(file)
                places[row], hashes[row] = (numbers[file], place), file.table["hash"][place]
                if found := file.table["doubts"][place].decode():
                    doubts[row] = found
        rest = self.missing()
        read = read_all([self._paths[row] for row in rest], self._preprocessing)
        for place, row in enumerate(rest):
            places[row], hashes[row], self._sha256[row] = (len(blocks), place), read.hashes[place], read.sha256[place]
        doubts |= {rest[place]: found for place, found in read.doubts.items()}
        problems = self._problems | {rest[place]: problem for place, problem in read.problems.items()}
        images = ImageRows([*blocks, read.images], places, self.shape)
        # The bytes of an unreadable image may be known; they make no image.
        known = ["" if row in problems else sha256 for row, sha256 in enumerate(self._sha256)]
        return Pixels(images, known, dict(sorted(problems.items())), hashes, notes, doubts)


def _held(path: Path, shape: Shape, wanted: Collection[str]) -> Held | None:
    """What a file holds of what is wanted; ``None`` where it is cut off or damaged."""
    try:
        file = PixelFile(path, shape)
    except DataError:
        return None
    names = [sha256.decode() for sha256 in file.table["sha256"].tolist()]
    found = {sha256: (file, place) for place, sha256 in enumerate(names) if sha256 in wanted}
    return found if file.is_whole([place for _, place in found.values()]) else None


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Waits until no other job is inside, which would do the same work.

    Where files cannot be locked nobody waits: work is then done twice, but never wrongly. The system frees the lock of
    a job that was killed.
    """
    with lock.open("ab") as file:
        with suppress(ImportError, OSError):
            import fcntl  # not on Windows

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"waiting for another job that is reading images into {lock.parent}")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def _version() -> str:
    return version_of((films, preprocessing, pixel_file, sys.modules[__name__]), "")
