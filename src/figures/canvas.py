"""What all figures share: colours, resolution, bare axes, sizes of images, and how they become files.

Colours are those of M. Okabe and K. Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrlab.files import write_atomically

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#707070"
GREEN, PURPLE = "#009E73", "#CC79A7"
CLASSES = ("Negative", "Positive")
DPI = 120
WIDTH = 4.0
"""Inches: two figures of this width stand side by side on a page, and type of 8 points is read on a phone."""


def blank(width: float, height: float) -> Figure:
    """A figure of so many inches, laid out so that no text is cut off."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def framed(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    """Such a figure with one frame below a title."""
    figure = blank(width, height)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, parse_math=False)
    return figure, axes


def tidy(axes: Axes, *, grid: Literal["both", "x"] | None = "both") -> None:
    """Leaves of a frame what is read, and draws a pale grid below the data: along ``x`` alone where rows are names."""
    if grid is not None:
        axes.grid(axis=grid, color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if grid == "x":
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)


def rgb(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An image of shape (height, width), or with 1 or 3 channels as a third axis, with three of them."""
    return image if image.shape[2:] == (3,) else np.dstack([image] * 3)


def resized(image: npt.NDArray[Any], side: int, *, enlarge: bool = True) -> npt.NDArray[Any]:
    """The image with its longer side at so many pixels; without ``enlarge`` a smaller one stays as it is."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1 and not enlarge:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    found = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))
    return found.reshape(*size[::-1], *image.shape[2:])  # OpenCV drops a single channel


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, whole or not at all; the folder is made if need be. Returns the path.

    Raises:
        OSError: If the folder cannot be written.
    """
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}))
    return path
