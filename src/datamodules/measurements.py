"""What an audit looks at of every image, measured once and kept on disk so that a second audit is quick."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxrlab.datamodules import films
from cxrlab.datamodules.cache.shelf import Shelf, key_of, version_of
from cxrlab.datamodules.films import HASH_BYTES, POINTS, Features, perceptual_hash
from cxrlab.datamodules.parallel import for_each
from cxrlab.errors import DataError
from cxrlab.reading.image import ImageFacts, ReadImage, read_image

SIDE = 256
"""Height and width in pixels of the grey copy of every image."""

_NO_FACTS = ImageFacts("", 0, 0, "", 0, 0)
# What is kept of an image, apart from its facts. It is part of the cache's version: another layout is another folder.
_RECORD = np.dtype(
    [
        ("grey", np.uint8, (SIDE, SIDE)),
        ("sha256", "S64"),
        ("hash", np.uint8, (HASH_BYTES,)),
        ("count", np.int32),
        ("points", np.float32, (POINTS, 3)),
        ("descriptors", np.uint8, (POINTS, 128)),
    ]
)


@dataclass(frozen=True)
class Measurements:
    """Of n images, all in the same order; some 100 kB of memory each, 1 GB for 10,000.

    Attributes:
        grey: Shape (n, 256, 256), uint8: ITU-R 601 luma, squeezed to a square by averaging areas.
        sha256: Of each file; empty where it could not be read.
        hashes: Perceptual hashes, shape (n, 32), uint8: 256 bits, see :mod:`cxrlab.datamodules.films`.
        features: Local features, for finding crops of one film.
        facts: One row per image, columns of :class:`cxrlab.reading.image.ImageFacts`.
        problems: ``{row: why it could not be read}``; the other values of such a row are zero or empty.
        notes: What else went wrong, such as a cache that could not be written.
    """

    grey: NDArray[np.uint8]
    sha256: list[str]
    hashes: NDArray[np.uint8]
    features: Features
    facts: pd.DataFrame
    problems: dict[int, str]
    notes: list[str] = field(default_factory=list)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> Measurements:
        """Of some of the images, in the order of ``rows``."""
        chosen = [int(row) for row in rows]
        return Measurements(
            grey=self.grey[chosen],
            sha256=[self.sha256[row] for row in chosen],
            hashes=self.hashes[chosen],
            features=self.features.take(chosen),
            facts=self.facts.iloc[chosen].reset_index(drop=True),
            problems={new: self.problems[row] for new, row in enumerate(chosen) if row in self.problems},
            notes=list(self.notes),
        )


def measure(paths: Sequence[str], cache: Path | None = None) -> Measurements:
    """Measures every image, on all cores, with a progress bar where it takes long enough to be seen.

    Args:
        paths: Image files; what cannot be read is in ``problems`` of the result.
        cache: Folder in which measurements are kept (some 100 kB an image), for files whose path, size and time of last
            change are the same when they are asked for again. It may be shared by audits that run at once, and be
            deleted at any time. Where it cannot be written, ``notes`` of the result say so. ``None`` keeps nothing.
    """
    n = len(paths)
    grey, hashes = np.zeros((n, SIDE, SIDE), np.uint8), np.zeros((n, HASH_BYTES), np.uint8)
    features, sha256, facts = Features.empty(n), [""] * n, [_NO_FACTS] * n
    problems: dict[int, str] = {}
    shelf = None if cache is None else Shelf(Path(cache), _version())

    def measure_one(row: int) -> None:
        try:
            record, facts[row] = _measured(paths[row], shelf)
        except DataError as error:
            problems[row] = str(error)
            return
        grey[row], hashes[row], sha256[row] = record["grey"][0], record["hash"][0], record["sha256"][0].decode()
        features.put(row, _features(record))

    for_each(measure_one, range(n), "measuring images")
    table = pd.DataFrame(facts, columns=list(ImageFacts._fields))
    notes = [] if shelf is None else shelf.notes
    return Measurements(grey, sha256, hashes, features, table, dict(sorted(problems.items())), notes)


def _measured(path: str, shelf: Shelf | None) -> tuple[NDArray[np.void], ImageFacts]:
    """An image's record, shape (1,), and its facts, from the cache or from the file."""
    key = None if shelf is None else key_of(path)
    kept = None if shelf is None or key is None else shelf.fetch(key)
    if kept is not None:
        return np.frombuffer(kept, _RECORD, 1), ImageFacts(**json.loads(kept[_RECORD.itemsize :]))
    image = read_image(path)
    record = _record(image)
    if shelf is not None and key is not None and key == key_of(path):  # it may have been replaced while it was read
        shelf.keep(key, record.tobytes() + json.dumps(image.facts._asdict()).encode())
    return record, image.facts


def _record(image: ReadImage) -> NDArray[np.void]:
    record = np.zeros(1, _RECORD)
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    record["grey"][0] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    record["sha256"] = image.sha256
    record["hash"][0] = perceptual_hash(image.pixels)
    _features(record).find(0, image.pixels)
    return record


def _features(record: NDArray[np.void]) -> Features:
    """Of one image, in the memory of its record."""
    return Features(record["count"], record["points"], record["descriptors"])


@functools.cache
def _version() -> str:
    return version_of((films, sys.modules[__name__]), str(_RECORD.descr))
