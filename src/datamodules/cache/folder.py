"""What lies in the cache's folder, how long it has not been used, and how it is removed.

Removing is safe at any time: what a running job has mapped stays readable for it on POSIX systems (the disk gets the
room back when the job ends), and what is missed is made again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cxrlab.datamodules.cache import pixel_file
from cxrlab.datamodules.preprocessing import Preprocessing

PIXELS, MEASUREMENTS = "pixels", "measurements"
KNOWN_FILES = "files"
LOCK = "lock"
DAY = 86_400  # seconds

_VERSION = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class Entry:
    """What is removed as a whole: a file of pixels, or all measurements of one version of the code.

    Attributes:
        kind: ``pixels`` or ``measurements``.
        name: Of the preprocessing, or of the version of the code.
        images: How many; 0 while the file is written.
        files: That it consists of.
        size: Bytes.
        used: When a job last used it, in seconds since the epoch.
    """

    kind: str
    name: str
    images: int
    files: tuple[Path, ...]
    size: int
    used: float

    @property
    def unfinished(self) -> bool:
        """Whether a job is writing it, or was killed while it did."""
        return self.files[0].suffix == pixel_file.UNFINISHED


def entries(folder: Path) -> list[Entry]:
    """What is known to be the cache's in its folder, last used first; other files are not looked at."""
    found = [*_pixels(folder / PIXELS), *_measurements(folder)]
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def trim(folder: Path, limit: float) -> None:
    """Removes what was not used for longest until the rest takes at most ``limit`` bytes.

    So go versions of the code that are no longer run. What jobs that were killed have left unfinished goes after a day.
    """
    found = entries(folder)
    total = sum(entry.size for entry in found)
    for entry in reversed(found):
        stale = entry.used < time.time() - DAY
        if stale if entry.unfinished else total > limit:
            remove([entry])
            total -= entry.size


def remove(chosen: Iterable[Entry]) -> None:
    """Removes entries; what another process has removed before, or what cannot be removed, is passed over."""
    for entry in chosen:
        for file in entry.files:
            with suppress(OSError):
                file.unlink()


def remove_empty(folder: Path) -> None:
    """Removes what is left of the cache where nothing is left of its entries."""
    if not any(entry.kind == PIXELS for entry in entries(folder)):
        with suppress(OSError):
            (folder / PIXELS / KNOWN_FILES).unlink()
    shelves = [shelf for version in _versions(folder) for shelf in version.glob("??/")]
    stores = [store for version in _versions(folder / PIXELS) for store in version.glob("*/")]
    for store in stores:
        if not any(_is_pixels(file) for file in store.iterdir()):
            with suppress(OSError):
                (store / LOCK).unlink()
    for each in (*shelves, *stores, *_versions(folder), *_versions(folder / PIXELS), folder / PIXELS):
        with suppress(OSError):  # not empty
            each.rmdir()


def name_of(preprocessing: Preprocessing) -> str:
    """A folder's name that tells the preprocessing: ``224-224-3-squeeze-none-0.0``."""
    return "-".join(map(str, preprocessing.as_dict().values()))


def _shape(name: str) -> pixel_file.Shape:
    height, width, channels = (int(number) for number in name.split("-")[:3])
    return height, width, channels


def _is_pixels(file: Path) -> bool:
    return file.suffix in (pixel_file.FINISHED, pixel_file.UNFINISHED)


def _pixels(folder: Path) -> Iterator[Entry]:
    for version in _versions(folder):
        for file in filter(_is_pixels, version.glob("*/*")):
            with suppress(OSError, ValueError):  # gone in the meantime, or not ours
                facts, name = file.stat(), file.parent.name
                finished = file.suffix == pixel_file.FINISHED
                images = pixel_file.images_in(facts.st_size, _shape(name)) if finished else 0
                yield Entry(PIXELS, name, images, (file,), facts.st_size, facts.st_mtime)


def _measurements(folder: Path) -> Iterator[Entry]:
    for version in _versions(folder):
        files = tuple(version.glob("??/*"))
        with suppress(OSError):
            size = sum(file.stat().st_size for file in files)
            if files:
                yield Entry(MEASUREMENTS, version.name, len(files), files, size, version.stat().st_mtime)


def _versions(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [each for each in folder.iterdir() if _VERSION.fullmatch(each.name) and each.is_dir()]
    return []
