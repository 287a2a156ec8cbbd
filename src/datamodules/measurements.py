"""What an audit looks at of every image, measured once and kept on disk so that a second audit is quick."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxrlab.datamodules import films
from cxrlab.datamodules.cache import Entry, Store, version_of
from cxrlab.datamodules.films import HASH_BYTES, POINTS, Features, perceptual_hash
from cxrlab.reading.image import ImageFacts, ReadImage

SIDE = 256
"""Height and width in pixels of the grey copy of every image."""

_NO_FACTS = ImageFacts("", 0, 0, "", 0, 0)
# What is kept of an image, apart from its facts. It is part of the cache's version: another layout is another folder.
_RECORD = np.dtype(
    [
        ("grey", np.uint8, (SIDE, SIDE)),
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
        cache: Folder in which measurements are kept (some 100 kB an image); ``None`` keeps nothing. Where it cannot be
            written, ``notes`` of the result say so.
    """
    store = Store(cache, "measurements/films", version_of((films, sys.modules[__name__]), str(_RECORD.descr)))
    blank = Entry("", np.zeros(_RECORD.itemsize, np.uint8), _NO_FACTS._asdict())
    sha256, entries, problems = store.recall(paths, _measured, blank, "measuring images")
    records = np.frombuffer(b"".join(entry.data.data for entry in entries), _RECORD)
    facts = pd.DataFrame([ImageFacts(**entry.facts) for entry in entries], columns=list(ImageFacts._fields))
    features = Features(records["count"], records["points"], records["descriptors"])
    return Measurements(records["grey"], sha256, records["hash"], features, facts, problems, store.notes)


def _measured(image: ReadImage) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    record = np.zeros(1, _RECORD)
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    record["grey"][0] = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    record["hash"][0] = perceptual_hash(image.pixels)
    Features(record["count"], record["points"], record["descriptors"]).find(0, image.pixels)
    return record.view(np.uint8), image.facts._asdict()


def kept_pairs(
    cache: Path | None, search: str, find: Callable[[], pd.DataFrame], sha256: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Finds pairs of images that are one film, or remembers what was found among the same files in the same order.

    Args:
        cache: Folder in which pairs are kept; ``None`` keeps none.
        search: Names the way in which ``find`` looks for them.
        find: Returns pairs as :func:`cxrlab.datamodules.films.find_pairs` does.
        sha256: Of each file; empty where it could not be read.

    Returns:
        The pairs; and what went wrong with the cache.
    """
    store = Store(cache, "measurements/pairs", version_of((films, sys.modules[__name__])))
    key = hashlib.sha256("\n".join([search, *sha256]).encode()).hexdigest()
    store.find([key])
    if key not in store.found:
        store.add([key], Entry(key, find().to_numpy(np.int64).reshape(-1).view(np.uint8), {}))
        store.flush()
    table = store.found[key].data.view(np.int64).reshape(-1, len(films.COLUMNS))
    pairs = pd.DataFrame(np.array(table), columns=list(films.COLUMNS))
    return pairs.astype({"same_file": bool, "mirrored": bool}), store.notes
