"""The matrix of what was trained and where it was tested, as coloured squares."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures.canvas import WIDTH, blank

_CELL = 0.72  # inches: below this width the interval does not fit into a cell
_LETTERS = 36  # of a row's name


@dataclass(frozen=True)
class Square:
    """One cell of the heat map.

    Attributes:
        auroc: On the images; where it has no value, its method says why.
        n: Images.
        internal: Whether the images come from the place that was trained on.
        lung_free: AUROC of the best classifier that sees no lung, chosen on training images; ``None`` where unknown.
    """

    auroc: Estimate
    n: int
    internal: bool
    lung_free: float | None = None


def heat_map(
    rows: Sequence[str], columns: Sequence[str], squares: Mapping[tuple[str, str], Square], title: str
) -> Figure:
    """Draws what was trained, a row each, on the places it was tested on, a column each.

    White is chance, blue better, red worse; internal cells have a thick frame, undefined ones and those that are not
    there are grey and hatched.

    Raises:
        ValueError: If there is no row or no column.
    """
    if not rows or not columns:
        raise ValueError(f"rows and columns must hold a name or more, got {len(rows)} and {len(columns)}")
    width = max(WIDTH, _CELL * len(columns) + 0.3)
    letters = int(11.5 * width / len(columns))  # of a column's name on one line
    figure = blank(width, 0.9 + 1.15 * len(rows))
    figure.suptitle(textwrap.fill(title, 46), fontsize=10, parse_math=False)
    axes = figure.add_subplot(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.72, -0.7))
    for i, row in enumerate(rows):
        # Above its cells, as a name on their left would leave a phone no room for numbers.
        name = row if len(row) <= _LETTERS else f"…{row[1 - _LETTERS :]}"  # a path is told by its end
        axes.text(-0.48, i - 0.52, f"trained on {name}", fontsize=9, va="bottom", parse_math=False)
        for j, column in enumerate(columns):
            square = squares.get((row, column), Square(Estimate(None, None, None, "not there"), 0, False))
            value, dark, colour = square.auroc.value, False, to_rgba("#dddddd")
            if value is None:
                hatch, first, lines = "//", "", [textwrap.fill(square.auroc.method, 13)]
            else:
                dark, hatch, first = abs(value - 0.5) > 0.42, None, f"{value:.2f}"
                lines = [f"{square.auroc:.2f}".partition(" ")[2], f"n = {square.n}"]
                lines += [] if square.lung_free is None else [f"no lung {square.lung_free:.2f}"]
                # The palette's ends are too dark to print on: chance to perfect takes four fifths of it.
                colour = mpl.colormaps["RdBu"](0.1 + 0.8 * value)
            axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 0.76, facecolor=colour, edgecolor="white", hatch=hatch))
            style: dict[str, Any] = {"ha": "center", "color": "white" if dark else "black", "parse_math": False}
            axes.text(j, i - 0.34, first, va="center", fontsize=13, **style)
            axes.text(j, i + (0.02 if first else -0.12), "\n".join(lines), va="center", fontsize=8, **style)
            if square.internal:
                frame = Rectangle((j - 0.47, i - 0.48), 0.94, 0.72, fill=False, edgecolor="black", lw=2.5, zorder=5)
                axes.add_patch(frame)
    names = [textwrap.fill(f"on {column}", letters) for column in columns]
    axes.set_xticks(range(len(columns)), names, parse_math=False, fontsize=9)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.spines[:].set_visible(False)
    return figure
