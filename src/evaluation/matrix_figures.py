"""The matrix of trained recipes and places, and what is lost between them, drawn as the other figures are."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cxrlab.evaluation.figures import BLUE, DPI, GREY, ORANGE

_WRAP = 22  # characters of a name on one line


@dataclass(frozen=True)
class Square:
    """One cell of the heat map.

    Attributes:
        auroc: ``{"value", "low", "high"}``; ``None`` as value is undefined.
        n: Images.
        internal: Whether the images come from the place that was trained on.
        lung_free: AUROC of the best classifier that sees no lung, chosen on training images; ``None`` where unknown.
        reason: Why the AUROC is undefined.
    """

    auroc: Mapping[str, Any]
    n: int
    internal: bool
    lung_free: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Fall:
    """One row of the drop figure.

    Attributes:
        name: Of what was trained.
        internal: ``{"value", "low", "high"}`` on its own held-out images.
        external: The same elsewhere, by place.
        drops: Internal minus external AUROC with interval, by place.
    """

    name: str
    internal: Mapping[str, Any]
    external: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    drops: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


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


def falls(rows: Sequence[Fall], title: str) -> Figure:
    """Draws, for each row, how far the AUROC falls from its own held-out images to each other place.

    Args:
        rows: At least one.
        title: Title of the figure.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("rows must hold at least one, got none")
    lines = sum(2.0 + len(row.external) for row in rows)
    figure = Figure(figsize=(8.2, 1.5 + 0.3 * lines), dpi=DPI, layout="constrained")
    figure.suptitle(textwrap.fill(title, 80), fontsize=11, parse_math=False)
    axes = figure.add_subplot()
    y, ticks, names = 0.0, [], []
    for row in rows:
        _point(axes, y, row.internal, BLUE, "s")
        _told(axes, y, _in_words(row.internal))
        ticks.append(y)
        names.append(f"{row.name}, own held-out images")
        top = y
        for place, estimate in row.external.items():
            y += 1
            _fall(axes, y, row.internal, estimate)
            _told(axes, y, f"{_in_words(estimate)}   {_loss(row.drops.get(place, {}))}")
            ticks.append(y)
            names.append(f"on {place}")
        if row.internal.get("value") is not None:
            axes.plot([row.internal["value"]] * 2, [top, y + 0.3], color=BLUE, linestyle=":", linewidth=1, zorder=1)
        y += 2
    axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1, zorder=0)
    axes.set_xlim(_left(rows), 1.01)
    axes.set_ylim(y - 1.4, -0.7)
    axes.set_yticks(ticks, names, parse_math=False, fontsize=9)
    axes.set_xlabel("AUROC (line: interval over patients; ticks: seeds; dashed: chance)")
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _places(rows: Sequence[str], columns: Sequence[str]) -> list[tuple[tuple[int, int], tuple[str, str]]]:
    return [((i, j), (row, column)) for i, row in enumerate(rows) for j, column in enumerate(columns)]


def _square(axes: Axes, place: tuple[int, int], square: Square | None, colours: Any) -> None:
    i, j = place
    value = None if square is None else square.auroc.get("value")
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
        lines = [f"[{_two(square.auroc['low'])}, {_two(square.auroc['high'])}]", f"n = {square.n}"]
        lines += [] if square.lung_free is None else [f"no lung: {square.lung_free:.2f}"]
        axes.text(j, i + 0.18, "\n".join(lines), ha="center", va="center", fontsize=8, color=colour)
    if square is not None and square.internal:
        frame = Rectangle((j - 0.47, i - 0.47), 0.94, 0.94, fill=False, edgecolor="black", linewidth=2.5, zorder=5)
        axes.add_patch(frame)


def _fall(axes: Axes, y: float, internal: Mapping[str, Any], external: Mapping[str, Any]) -> None:
    start, end = internal.get("value"), external.get("value")
    if start is not None and end is not None and abs(start - end) > 0.005:
        arrow = {"arrowstyle": "->", "color": GREY, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 4}
        axes.annotate("", xy=(end, y - 0.25), xytext=(start, y - 0.25), arrowprops=arrow, zorder=1)
    _point(axes, y, external, ORANGE, "o")


def _point(axes: Axes, y: float, estimate: Mapping[str, Any], colour: str, marker: str) -> None:
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    if value is None:
        return
    if low is not None and high is not None:
        axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
    axes.plot([value], [y], marker, color=colour, markersize=7, zorder=3)
    seeds = estimate.get("seeds") or []
    if len(seeds) > 1:
        axes.plot(seeds, [y] * len(seeds), "|", color="black", markersize=6, markeredgewidth=0.8, zorder=4)


def _told(axes: Axes, y: float, text: str) -> None:
    axes.text(1.02, y, text, va="center", fontsize=8.5, transform=axes.get_yaxis_transform(), parse_math=False)


def _in_words(estimate: Mapping[str, Any]) -> str:
    value = estimate.get("value")
    return "undefined" if value is None else f"{value:.2f} [{_two(estimate['low'])}, {_two(estimate['high'])}]"


def _loss(estimate: Mapping[str, Any]) -> str:
    value = estimate.get("value")
    if value is None:
        return ""
    return f"drop {value:+.2f} [{_two(estimate['low'], '+')}, {_two(estimate['high'], '+')}]"


def _two(value: float | None, sign: str = "") -> str:
    return "?" if value is None else format(value, f"{sign}.2f")


def _left(rows: Sequence[Fall]) -> float:
    estimates = [estimate for row in rows for estimate in (row.internal, *row.external.values())]
    lows = [
        value for estimate in estimates for value in (estimate.get("low"), estimate.get("value")) if value is not None
    ]
    return float(np.clip(min([0.45, *lows]) - 0.03, 0.0, 0.5))


def _wrapped(names: Sequence[str]) -> list[str]:
    return [textwrap.fill(name, _WRAP) for name in names]
