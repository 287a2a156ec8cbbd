"""From files to the array that a network trains on: read, resize once, keep."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich import get_console
from rich.progress import track

from cxrlab.datamodules.reading import read_image
from cxrlab.errors import DataError, check_choice, check_range

_LISTED = 20  # an error lists this many bad files and counts the rest
_SHOW_PROGRESS_FROM = 64  # images; fewer are read before a bar could be seen


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image between the file and the network; it travels with the weights.

    Attributes:
        height: Pixels, at least 1.
        width: Pixels, at least 1.
        channels: 3 (RGB, the paper's) or 1 (grey, ITU-R 601 luma).
    """

    height: int
    width: int
    channels: int = 3

    @classmethod
    def create(cls, image_size: int | Sequence[int], channels: int = 3) -> Preprocessing:
        """Builds from ``image_size`` as the user writes it: one number for a square, or ``[height, width]``.

        Raises:
            ValueError: Not one or two whole numbers of at least 1, or channels other than 1 and 3.
        """
        sides = [image_size, image_size] if isinstance(image_size, int) else image_size
        if isinstance(sides, str) or not isinstance(sides, Sequence) or len(sides) != 2:
            raise ValueError(f"image_size must be one number or [height, width], got {image_size!r}")
        for side in sides:
            check_range("image_size", side, 1, 8192, integer=True)
        check_choice("channels", channels, (1, 3))
        return cls(int(sides[0]), int(sides[1]), channels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image as the network sees it."""
        return self.channels, self.height, self.width

    def apply(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resizes by bilinear interpolation without keeping the aspect ratio, as the paper does.

        Args:
            rgb: Shape (any height, any width, 3), uint8.

        Returns:
            Shape (height, width, channels), uint8.
        """
        if self.channels == 1:
            rgb = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        resized = cv2.resize(rgb, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.uint8).reshape(self.height, self.width, self.channels)

    @staticmethod
    def to_float(images: torch.Tensor) -> torch.Tensor:
        """Turns a batch (N, height, width, channels) uint8 into (N, channels, height, width) float32 in [0, 1].

        The result lies in ``channels_last`` memory order, which is also the order in which convolutions are fastest.
        """
        return images.permute(0, 3, 1, 2).to(torch.float32).div_(255)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"height": self.height, "width": self.width, "channels": self.channels}


@dataclass(frozen=True)
class Pixels:
    """Every image of a manifest, read and resized once.

    Attributes:
        images: Shape (rows, height, width, channels), uint8; rows of unreadable images are zero.
        sha256: One hash per row, empty for unreadable images.
        problems: ``{row: why it could not be read}``.
    """

    images: NDArray[np.uint8]
    sha256: list[str]
    problems: dict[int, str]


def read_all(paths: Sequence[str], preprocessing: Preprocessing) -> Pixels:
    """Reads and resizes every image, on all cores, with a progress bar where it takes long enough to be seen."""
    images = np.zeros((len(paths), preprocessing.height, preprocessing.width, preprocessing.channels), np.uint8)
    sha256 = [""] * len(paths)
    problems: dict[int, str] = {}

    def read_one(row: int) -> None:
        try:
            pixels, sha256[row] = read_image(paths[row])
        except DataError as error:
            problems[row] = str(error)
        else:
            images[row] = preprocessing.apply(pixels)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV and hashing release the interpreter lock
        done = pool.map(read_one, range(len(paths)))
        quiet = len(paths) < _SHOW_PROGRESS_FROM or not get_console().is_terminal
        for _ in track(done, "reading images", len(paths), disable=quiet, transient=True):
            pass
    return Pixels(images, sha256, dict(sorted(problems.items())))


def describe_problems(problems: dict[int, str], total: int) -> str:
    """One message for all unreadable images of a data set."""
    lines = list(problems.values())
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    head = f"{len(lines)} of {total} images cannot be used:"
    hint = "mend or remove them, or pass data.on_error=skip to leave them out (every report then says so)"
    return "\n  ".join([head, *lines[:_LISTED], *more, hint])
