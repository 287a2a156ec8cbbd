"""A network as boxes and arrows, as in the paper's Fig. 6."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from cxrlab.figures.canvas import BLUE, DPI, GREEN, GREY, ORANGE, PURPLE

Layer = tuple[str, str, tuple[int | None, ...], int]
"""A row of :func:`network_diagram`: name, type, output shape with ``None`` for the batch, number of parameters."""

# Pattern in a layer's type, colour, and height of the box in inches; the first kind whose pattern is found counts.
_KINDS = {
    "convolution": (re.compile("conv", re.IGNORECASE), BLUE, 1.25),
    "pooling": (re.compile("pool", re.IGNORECASE), GREEN, 1.1),
    "dropout": (re.compile("drop", re.IGNORECASE), GREY, 0.92),
    "dense": (re.compile("^Dense$|Linear$"), ORANGE, 1.15),  # a _DenseBlock is none
    "other": (re.compile(""), PURPLE, 1.12),
}
_PAGE, _BOX, _GAP, _LINE = 8.4, 1.19, 0.22, 1.25  # inches: page, width of a box, arrow, line of boxes
_PER_LINE = 6  # boxes
_TEXT_LINE = 0.165  # inches from one line of text in a box to the next


def network_diagram(rows: Sequence[Layer], title: str) -> Figure:
    """Draws a network as boxes joined by arrows, at most six in a line, each with output shape and parameters.

    Colour and height tell the kind of a layer, by the name of its type. The figure is 1008 pixels wide.

    Args:
        rows: One layer or block after the other, at least one. Shapes are written without the batch; an empty one is a
            layer that gives no tensor.
        title: Title; long ones are wrapped.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("rows must hold at least one layer, got none")
    lines = -(-len(rows) // _PER_LINE)
    columns = -(-len(rows) // lines)
    heading = textwrap.fill(title, 90)
    top = 0.4 + 0.2 * heading.count("\n")
    height = top + lines * (_LINE + 2 * _GAP) - _GAP + 0.3
    figure = Figure(figsize=(_PAGE, height), dpi=DPI)
    figure.suptitle(heading, fontsize=11, y=1 - 0.12 / height, parse_math=False)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _PAGE), ylim=(0, height))  # in inches
    axes.set_axis_off()
    left = (_PAGE - (columns - 1) * (_BOX + _GAP)) / 2
    places = [
        (left + number % columns * (_BOX + _GAP), height - top - _LINE / 2 - number // columns * (_LINE + 2 * _GAP))
        for number in range(len(rows))
    ]
    for place, row in zip(places, rows, strict=True):
        _layer_box(axes, *place, row)
    for start, end, (_, layer_type, _, _) in zip(places, places[1:], rows[1:], strict=False):
        _arrow(axes, start, end, _KINDS[_kind(layer_type)][2])
    used = {_kind(row[1]) for row in rows}
    handles = [
        Patch(facecolor=_tint(colour), edgecolor=colour, label=kind)
        for kind, (_, colour, _) in _KINDS.items()
        if kind in used
    ]
    axes.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9, borderaxespad=0.2)
    return figure


def _kind(layer_type: str) -> str:
    return next(kind for kind, (pattern, _, _) in _KINDS.items() if pattern.search(layer_type))


def _tint(colour: str) -> tuple[float, float, float]:
    """Returns the colour mixed with white, light enough for black text."""
    red, green, blue = (1 - 0.2 * (1 - int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return red, green, blue


def _layer_box(axes: Axes, x: float, y: float, row: Layer) -> None:
    """Draws one layer around the point (x, y), with its texts one below the other."""
    name, layer_type, shape, params = row
    _, colour, height = _KINDS[_kind(layer_type)]
    corner = x - _BOX / 2, y - height / 2
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch(corner, _BOX, height, style, facecolor=_tint(colour), edgecolor=colour))
    size = " x ".join("?" if side is None else str(side) for side in shape[1:]) or "no tensor"
    texts: list[tuple[str, float, str]] = [(line, 9, "bold") for line in _broken(layer_type, 13)]
    texts += [(line, 8, "normal") for line in _broken(name, 16)]
    texts += [(size, 8.5, "normal"), (f"{params:,} params", 8, "normal")]
    for number, (text, font_size, weight) in enumerate(texts):
        at = y + _TEXT_LINE * ((len(texts) - 1) / 2 - number)
        axes.text(x, at, text, ha="center", va="center_baseline", fontsize=font_size, weight=weight, parse_math=False)


def _broken(name: str, letters: int) -> list[str]:
    """Breaks a name between its parts (``_``, ``.``, camel case) into at most two lines of so many letters."""
    lines = [""]
    for part in re.split(r"(?<=[._])|(?<=[a-z0-9])(?=[A-Z])", name):
        if lines[-1] and len(lines[-1] + part) > letters:
            lines.append("")
        lines[-1] += part
    if len(lines) > 2:
        lines = [lines[0], "".join(lines[1:])]
    return [line if len(line) <= letters else f"{line[: letters - 1]}…" for line in lines]


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], height: float) -> None:
    """Draws the arrow from the box around ``start`` to the one of the given height around ``end``."""
    style = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0, "linewidth": 1}
    (x, y), (next_x, next_y) = start, end
    if y == next_y:
        axes.annotate("", (next_x - _BOX / 2, y), (x + _BOX / 2, y), arrowprops=style)
        return
    turn = next_y + _LINE / 2 + _GAP
    axes.plot([x, x, next_x], [y, turn, turn], color="black", linewidth=1, zorder=0)
    axes.annotate("", (next_x, next_y + height / 2), (next_x, turn), arrowprops=style)
