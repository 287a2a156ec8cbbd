"""From files to the array that a network trains on: read, resize once, keep."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich import get_console
from rich.progress import track

from cxrlab.datamodules.films import HASH_BYTES, perceptual_hash
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.datamodules.reading import read_image
from cxrlab.errors import DataError

_LISTED = 20  # an error lists this many bad files and counts the rest
_SHOW_PROGRESS_FROM = 64  # images; fewer are read before a bar could be seen


@dataclass(frozen=True)
class Pixels:
    """Every image of a manifest, read and resized once.

    Attributes:
        images: Shape (rows, height, width, channels), uint8; rows of unreadable images are zero.
        sha256: One hash per row, empty for unreadable images.
        problems: ``{row: why it could not be read}``.
        hashes: What each image looks like, shape (rows, 32), uint8, zero for unreadable images; see
            :func:`cxrlab.datamodules.films.perceptual_hash`.
    """

    images: NDArray[np.uint8]
    sha256: list[str]
    problems: dict[int, str]
    hashes: NDArray[np.uint8]


def read_all(paths: Sequence[str], preprocessing: Preprocessing) -> Pixels:
    """Reads and resizes every image, on all cores, with a progress bar where it takes long enough to be seen."""
    images = np.zeros((len(paths), preprocessing.height, preprocessing.width, preprocessing.channels), np.uint8)
    hashes = np.zeros((len(paths), HASH_BYTES), np.uint8)
    sha256 = [""] * len(paths)
    problems: dict[int, str] = {}

    def read_one(row: int) -> None:
        try:
            pixels, sha256[row], _ = read_image(paths[row])
        except DataError as error:
            problems[row] = str(error)
        else:
            images[row] = preprocessing.apply(pixels)
            hashes[row] = perceptual_hash(pixels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV and hashing release the interpreter lock
        done = pool.map(read_one, range(len(paths)))
        quiet = len(paths) < _SHOW_PROGRESS_FROM or not get_console().is_terminal
        for _ in track(done, "reading images", len(paths), disable=quiet, transient=True):
            pass
    return Pixels(images, sha256, dict(sorted(problems.items())), hashes)


def describe_problems(problems: dict[int, str], total: int) -> str:
    """One message for all unreadable images of a data set."""
    lines = list(problems.values())
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    head = f"{len(lines)} of {total} images cannot be used:"
    skip = ", or pass data.on_error=skip to leave them out (every report then says so)" if len(lines) < total else ""
    hint = f"mend or remove them{skip}"
    return "\n  ".join([head, *lines[:_LISTED], *more, hint])
