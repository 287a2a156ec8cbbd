"""From files to the pixels that a network trains on: read, resize once, keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cxrlab.datamodules.films import HASH_BYTES, perceptual_hash
from cxrlab.datamodules.image_rows import ImageRows
from cxrlab.datamodules.parallel import for_each
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError
from cxrlab.reading.image import BETWEEN, ReadImage, read_image

BLANK = 16
"""Grey levels between the 5th and the 95th percentile, below which an image is nearly blank."""
_LISTED = 20  # an error lists this many bad files and counts the rest
_GRID = 64  # rows and columns, or somewhat more, by which blankness is told


SCALED = "16-bit values of undeclared depth (PNG: sBIT, TIFF: MaxSampleValue) scaled as "
"""How the doubt about a guessed depth begins; where all films have the same, it is none."""


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


def read_all(paths: Sequence[str], preprocessing: Preprocessing) -> Pixels:
    """Reads and resizes every image into memory, on all cores, with a progress bar where it takes long enough."""
    images = np.zeros((len(paths), preprocessing.height, preprocessing.width, preprocessing.channels), np.uint8)
    hashes = np.zeros((len(paths), HASH_BYTES), np.uint8)
    sha256 = [""] * len(paths)
    problems: dict[int, str] = {}
    doubts: dict[int, str] = {}

    def read_one(row: int) -> None:
        try:
            image = read_image(paths[row])
        except DataError as error:
            problems[row] = str(error)
        else:
            sha256[row] = image.sha256
            images[row] = preprocessing.apply(image.pixels)
            hashes[row] = perceptual_hash(image.pixels)
            if found := doubts_of(image):
                doubts[row] = found

    for_each(read_one, range(len(paths)), "reading images")
    return Pixels(ImageRows.of(images), sha256, dict(sorted(problems.items())), hashes, doubts=doubts)


def doubts_of(image: ReadImage) -> str:
    """What speaks against training on an image: what a DICOM header says, that it is nearly blank, a guessed depth."""
    step = max(1, min(image.pixels.shape[:2]) // _GRID)
    blank = np.ptp(np.percentile(image.pixels[::step, ::step], (5, 95))) < BLANK
    depth = [f"{SCALED}{image.facts.bits} bits by its largest value"] if image.facts.guessed else []
    return BETWEEN.join([*filter(None, [image.facts.doubts]), *(["nearly blank"] if blank else []), *depth])


def describe_problems(problems: dict[int, str], total: int) -> str:
    """One message for all unreadable images of a data set."""
    lines = list(problems.values())
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    head = f"{len(lines)} of {total} images cannot be used:"
    skip = ", or pass data.on_error=skip to leave them out (every report then says so)" if len(lines) < total else ""
    hint = f"mend or remove them{skip}"
    return "\n  ".join([head, *lines[:_LISTED], *more, hint])
