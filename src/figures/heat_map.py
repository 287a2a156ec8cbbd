"""The matrix of what was trained and where it was tested, as coloured squares."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures.canvas import DPI, GREY

_WRAP = 22  # characters of a name on one line


@dataclass(frozen=True)
class Square:
    """One cell of the heat map.

    Attributes:
        auroc: On the images.
        n: Images.
        internal: Whether the images come from the place that was trained on.
        lung_free: AUROC of the best classifier that sees no lung, chosen on training images; ``None`` where unknown.
        reason: Why the AUROC is undefined.
    """

    auroc: Estimate
    n: int
    internal: bool
    lung_free: float | None = None
    reason: str = ""


def heat_map(
    rows: Sequence[str], columns: Sequence[str], squares: Mapping[tuple[str, str], Square], title: str
) -> Figure:
    """Draws every row on every column: AUROC with interval, images, and what sees no lung in the same cell.

    White is chance, blue better, red worse; internal cells have a thick frame, undefined ones are grey and hatched.

    Args:
        rows: What was trained, from top to bottom, at least one.
        columns: Places it was tested on, from left to right, at least one.
        squares: By row and column; a cell that is not there is drawn as undefined.
        title: Title of the figure.

    Raises:
        ValueError: If there is no row or no column.
    """
    if not rows or not columns:
        raise ValueError(f"rows and columns must hold a name or more, got {len(rows)} and {len(columns)}")
    size = (2.2 + 1.75 * len(columns), 2.0 + 1.25 * len(rows))
    figure = Figure(figsize=(max(size[0], 5.4), size[1]), dpi=DPI, layout="constrained")
    figure.suptitle(textwrap.fill(title, max(44, 21 * len(columns))), fontsize=11, parse_math=False)
    axes = figure.add_subplot()
    colours = mpl.colormaps["RdBu"]
    for place, (row, column) in _places(rows, columns):
        _square(axes, place, squares.get((row, column)), colours)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), _wrapped(columns), parse_math=False)
    axes.set_yticks(range(len(rows)), _wrapped(rows), parse_math=False)
    axes.set_xlabel("tested on")
    axes.set_ylabel("trained on")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    note = (
        "AUROC, mean over seeds, with its interval over patients. Thick frame: own held-out images. "
        "No lung: best classifier on file size and edges alone, chosen on training images."
    )
    figure.supxlabel(textwrap.fill(note, max(50, 24 * len(columns))), fontsize=7.5, color=GREY)
    return figure


def _places(rows: Sequence[str], columns: Sequence[str]) -> list[tuple[tuple[int, int], tuple[str, str]]]:
    return [((i, j), (row, column)) for i, row in enumerate(rows) for j, column in enumerate(columns)]


def _square(axes: Axes, place: tuple[int, int], square: Square | None, colours: Any) -> None:
    i, j = place
    value = None if square is None else square.auroc.value
    if square is None or value is None:
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor="#dddddd", edgecolor="white", hatch="//"))
        reason = "not there" if square is None else f"undefined:\n{textwrap.fill(square.reason, 18)}"
        axes.text(j, i, reason, ha="center", va="center", fontsize=8, parse_math=False)
    else:
        # The palette's ends are too dark to print on: chance to perfect takes four fifths of it.
        axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, facecolor=colours(0.1 + 0.8 * value), edgecolor="white"))
        dark = abs(value - 0.5) > 0.42
        colour = "white" if dark else "black"
        axes.text(j, i - 0.24, f"{value:.2f}", ha="center", va="center", fontsize=15, color=colour)
        lines = [f"{square.auroc:.2f}".partition(" ")[2], f"n = {square.n}"]
        lines += [] if square.lung_free is None else [f"no lung: {square.lung_free:.2f}"]
        axes.text(j, i + 0.18, "\n".join(lines), ha="center", va="center", fontsize=8, color=colour)
    if square is not None and square.internal:
        frame = Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor="black", linewidth=2.5, zorder=5)
        axes.add_patch(frame)


def _wrapped(names: Sequence[str]) -> list[str]:
    return [textwrap.fill(name, _WRAP) for name in names]
