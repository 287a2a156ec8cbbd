"""From files to the pixels that a network trains on: read, resize once, keep."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, prod
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlab.datamodules import films
from cxrlab.datamodules import preprocessing as preparing
from cxrlab.datamodules.cache import Entry, Store, trim, version_of
from cxrlab.datamodules.films import HASH_BYTES, perceptual_hash
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError
from cxrlab.reading.image import BETWEEN, ReadImage
from cxrlab.words import first_few

BLANK = 16
"""Grey levels between the 5th and the 95th percentile, below which an image is nearly blank."""
SCALED = "16-bit values of undeclared depth (PNG: sBIT, TIFF: MaxSampleValue) scaled as "
"""How the doubt about a guessed depth begins; where all films have the same, it is none."""
GB = 10**9

_LISTED = 20  # an error lists this many bad files and counts the rest
_GRID = 64  # rows and columns, or somewhat more, by which blankness is told

Images = NDArray[np.uint8]


class ImageRows:
    """A list of images that stands in for one array, shape (rows, height, width, channels), uint8, without being one.

    ``images[rows]`` with a number, a slice, a mask or numbers, and ``np.asarray(images)``, copy what is asked for into
    memory, except for one image that lies there as it is. :meth:`take` chooses rows and copies nothing.

    Args:
        images: Each of this shape, in memory or mapped; or of height x width values, where three channels are equal.
        shape: Of one image: height, width, channels.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, images: Sequence[Images], shape: tuple[int, ...]) -> None:
        self._images, self._rows, self.shape = images, np.arange(len(images)), (len(images), *shape)

    @classmethod
    def of(cls, images: Images) -> ImageRows:
        """All images of an array, shape (rows, height, width, channels)."""
        return cls(list(images), images.shape[1:])

    def take(self, rows: Any) -> ImageRows:
        """Some of the rows, by number or mask, in that order."""
        return ImageRows([self._images[row] for row in self._rows[rows]], self.shape[1:])

    def __reduce__(self) -> tuple[Any, ...]:
        """To a loader's worker go the names of mapped files, not gigabytes of pixels."""
        places: list[Any] = []
        for image in self._images:
            base: Any = image
            while base is not None and not isinstance(base, np.memmap):
                base = getattr(base, "base", None)
            place = (base.filename, image.ctypes.data - base.ctypes.data, image.size) if base is not None else image
            places.append(place)
        return _reopened, (places, self.shape[1:])

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Images]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, rows: Any) -> Images:
        chosen = self._rows[rows]
        if chosen.ndim == 0:
            return self._colour(self._images[int(chosen)])
        copy = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for into, row in zip(copy, chosen, strict=True):
            self._colour(self._images[row], into)
        return copy

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("images that lie in several places become one array only by being copied")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def _colour(self, image: Images, into: Images | None = None) -> Images:
        if image.size < prod(self.shape[1:]):
            grey = image.reshape(self.shape[1:3])
            return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB, into), np.uint8)  # NumPy takes 50 times as long
        image = image.reshape(self.shape[1:])
        if into is not None:
            into[:] = image
        return image


def _reopened(places: list[Any], shape: tuple[int, ...]) -> ImageRows:
    names = {place[0] for place in places if isinstance(place, tuple)}
    files = {name: np.asarray(np.load(name, mmap_mode="r")) for name in names}
    images = [files[place[0]][place[1] :][: place[2]] if isinstance(place, tuple) else place for place in places]
    return ImageRows(images, shape)


@dataclass(frozen=True)
class Pixels:
    """Every image of a manifest, read and resized once.

    Attributes:
        images: Shape (rows, height, width, channels), uint8; rows of unreadable images are zero.
        sha256: One hash per row, empty for unreadable images.
        problems: ``{row: why it could not be read}``.
        hashes: What each image looks like, shape (rows, 32), uint8, zero for unreadable images; see
            :func:`cxrlab.datamodules.films.perceptual_hash`.
        notes: What else went wrong, such as a cache that could not be written.
        doubts: ``{row: what speaks against training on it}``, see :func:`doubts_of`.
    """

    images: ImageRows
    sha256: list[str]
    problems: dict[int, str]
    hashes: NDArray[np.uint8]
    notes: list[str] = field(default_factory=list)
    doubts: dict[int, str] = field(default_factory=dict)


def read_all(
    paths: Sequence[str], preprocessing: Preprocessing, cache: Path | None = None, limit_gb: float = 20
) -> Pixels:
    """Reads and resizes every image, on all cores, with a progress bar where it takes long enough.

    Args:
        paths: Image files.
        preprocessing: Of each.
        cache: Folder that keeps the pixels, which are then mapped; ``None`` holds them in memory. So is what cannot be
            written, and ``notes`` of the result say why.
        limit_gb: GB (of 10^9 bytes) that the cache may take; what was not used for longest is removed beyond it.

    Raises:
        DataError: The images take more than the limit.
    """
    shape = (preprocessing.height, preprocessing.width, preprocessing.channels)
    cache = None if cache is None else cache.expanduser()
    name = "-".join(map(str, preprocessing.as_dict().values()))  # 224-224-3-squeeze-none-0.0
    store = Store(cache, f"pixels/{name}", version_of((films, preparing, sys.modules[__name__])))

    def work(image: ReadImage) -> tuple[Images, dict[str, Any]]:
        pixels = preprocessing.apply(image.pixels)
        if preprocessing.channels == 3 and np.array_equal(pixels, cv2.cvtColor(pixels[..., 0], cv2.COLOR_GRAY2RGB)):
            pixels = pixels[..., 0]
        return pixels.ravel(), {"hash": perceptual_hash(image.pixels).tobytes().hex(), "doubts": doubts_of(image)}

    def check(count: int) -> None:
        # A grey picture takes a third of that, but which are grey is seen only when they are read.
        need = count * prod(shape) + sum(len(entry.data) for key, entry in store.found.items() if key == entry.sha256)
        if cache is not None and need > limit_gb * GB:
            raise DataError(
                f"data.cache_limit_gb={limit_gb:g}: {len(paths):,} images of {shape[0]}x{shape[1]} pixels take "
                f"{need / GB:.3g} GB of the cache; pass data.cache_limit_gb={ceil(need / GB)} or more, or "
                "data.cache=null to hold them in memory"
            )
        if cache is not None and count * prod(shape) > shutil.disk_usage(cache).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    blank = Entry("", np.zeros(prod(shape), np.uint8), {"hash": "00" * HASH_BYTES, "doubts": ""})
    sha256, entries, problems = store.recall(paths, work, blank, "reading images", check)
    if cache is not None:
        trim(cache, limit_gb * GB)
    hashes = bytearray.fromhex("".join(entry.facts["hash"] for entry in entries))
    doubts = {row: entry.facts["doubts"] for row, entry in enumerate(entries) if entry.facts["doubts"]}
    images = ImageRows([entry.data for entry in entries], shape)
    return Pixels(
        images, sha256, problems, np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES), store.notes, doubts
    )


def doubts_of(image: ReadImage) -> str:
    """What speaks against training on an image: what a DICOM header says, that it is nearly blank, a guessed depth."""
    step = max(1, min(image.pixels.shape[:2]) // _GRID)
    blank = np.ptp(np.percentile(image.pixels[::step, ::step], (5, 95))) < BLANK
    depth = [f"{SCALED}{image.facts.bits} bits by its largest value"] if image.facts.guessed else []
    return BETWEEN.join([*filter(None, [image.facts.doubts]), *(["nearly blank"] if blank else []), *depth])


def describe_problems(problems: dict[int, str], total: int) -> str:
    """One message for all unreadable images of a data set."""
    lines = list(problems.values())
    head = f"{len(lines)} of {total} images cannot be used:"
    skip = ", or pass data.on_error=skip to leave them out (every report then says so)" if len(lines) < total else ""
    hint = f"mend or remove them{skip}"
    return "\n  ".join([head, *first_few(lines, _LISTED), hint])
