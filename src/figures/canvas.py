"""What all figures share: colours, resolution, bare axes, and how they become files.

Colours are those of M. Okabe and K. Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrlab.files import write_atomically

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#707070"
GREEN, PURPLE = "#009E73", "#CC79A7"
CLASSES = ("Negative", "Positive")
DPI = 120
WIDTH = 4.0
"""Inches: two figures of this width stand side by side on a page, and type of 8 points is read on a phone."""


def tidy(axes: Axes, *, grid: Literal["both", "x"] | None = "both") -> None:
    """Leaves of a frame what is read, and draws a pale grid below the data.

    Args:
        axes: Of a figure that is otherwise done.
        grid: Along both axes; along ``x``, whose rows are names; or none.
    """
    if grid is not None:
        axes.grid(axis=grid, color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if grid == "x":
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, whole or not at all; the folder is made if need be. Returns the path.

    Raises:
        OSError: If the folder cannot be written.
    """
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}))
    return path
