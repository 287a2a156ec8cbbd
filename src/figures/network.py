"""A network as boxes and arrows, from top to bottom, as in the paper's Fig. 6."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from cxrlab.figures.canvas import BLUE, DPI, GREEN, GREY, ORANGE, PURPLE, WIDTH

Layer = tuple[str, str, tuple[int | None, ...], int]
"""A row of :func:`network_diagram`: name, type, output shape with ``None`` for the batch, number of parameters."""

# Pattern in a layer's type, and colour; the first kind whose pattern is found counts.
_KINDS = {
    "convolution": (re.compile("conv", re.IGNORECASE), BLUE),
    "pooling": (re.compile("pool", re.IGNORECASE), GREEN),
    "dropout": (re.compile("drop", re.IGNORECASE), GREY),
    "dense": (re.compile("^Dense$|Linear$"), ORANGE),  # a _DenseBlock is none
    "other": (re.compile(""), PURPLE),
}
_BOX, _ARROW, _MARGIN = 0.38, 0.13, 0.1  # inches: height of a box, of an arrow, space at the edges
_LETTERS = 26  # of a type or a name; longer ones lose their end


def network_diagram(rows: Sequence[Layer], title: str) -> Figure:
    """Draws a network as boxes joined by arrows, each with its type, name, output shape and parameters.

    The colour tells the kind of a layer, by the name of its type. Shapes are written without the batch; a layer whose
    shape is empty gives no tensor.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("rows must hold at least one layer, got none")
    heading = textwrap.fill(title, 46)
    top = 0.35 + 0.18 * heading.count("\n")
    height = top + len(rows) * (_BOX + _ARROW) + 0.45
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    figure.suptitle(heading, fontsize=10, y=1 - 0.1 / height, parse_math=False)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))  # in inches, from the top
    axes.set_axis_off()
    used = {}
    for number, (name, layer_type, shape, parameters) in enumerate(rows):
        kind = next(kind for kind, (pattern, _) in _KINDS.items() if pattern.search(layer_type))
        colour = used[kind] = _KINDS[kind][1]
        y = top + number * (_BOX + _ARROW)
        style: dict[str, Any] = {"facecolor": _tint(colour), "edgecolor": colour}
        style["boxstyle"] = "round,pad=0,rounding_size=0.06"
        axes.add_patch(FancyBboxPatch((_MARGIN, y), WIDTH - 2 * _MARGIN, _BOX, **style))
        size = " x ".join("?" if side is None else str(side) for side in shape[1:]) or "no tensor"
        lines = ((0.11, layer_type, size, 9, "bold"), (0.28, name, f"{parameters:,} params", 8, "normal"))
        for down, left, right, font_size, weight in lines:
            how: dict[str, Any] = {"va": "center", "fontsize": font_size, "parse_math": False}
            left = left if len(left) <= _LETTERS else f"{left[: _LETTERS - 1]}…"
            axes.text(2 * _MARGIN, y + down, left, weight=weight, **how)
            axes.text(WIDTH - 2 * _MARGIN, y + down, right, ha="right", **how)
        if number:
            arrow = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0, "linewidth": 1}
            axes.annotate("", (WIDTH / 2, y), (WIDTH / 2, y - _ARROW), arrowprops=arrow)
    kinds = {kind: used[kind] for kind in _KINDS if kind in used}
    handles = [Patch(facecolor=_tint(colour), edgecolor=colour, label=kind) for kind, colour in kinds.items()]
    axes.legend(handles=handles, loc="lower center", ncols=3, frameon=False, fontsize=8, borderaxespad=0.1)
    return figure


def _tint(colour: str) -> tuple[float, float, float]:
    """Returns the colour mixed with white, light enough for black text."""
    red, green, blue = (1 - 0.2 * (1 - int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return red, green, blue
