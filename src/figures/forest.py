"""The forest plot: values with their intervals below each other, narrow enough to be read on a phone."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures.canvas import BLUE, GREY, ORANGE, WIDTH, blank, tidy

_KINDS = ((BLUE, "s"), (ORANGE, "o"))
_SHADE, _CONTROL = "#f1e6da", "#d9d9d9"
_GROUND = {"edgecolor": "none", "pad": 0.6}  # of a text, so that no line of the grid crosses it
_DOT = 12  # area of one seed's dot, points squared
_LETTERS = 50  # on one line of a row
_TEXT, _LINE, _GAP = 0.17, 0.19, 0.12  # inches: a line of text, a value with its interval, the gap between two rows


@dataclass(frozen=True)
class Point:
    """A value on a row.

    Attributes:
        estimate: Without limits no interval is drawn; without value the row says ``undefined``.
        seeds: The values of single seeds; equal ones share a dot, whose area grows with their number.
        second: Whether it is drawn as a circle in the second colour, rather than as a square in the first.
        hollow: Whether only its outline is drawn.
    """

    estimate: Estimate
    seeds: Sequence[float] = ()
    second: bool = False
    hollow: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the figure: a line of text, and the values below it.

    Attributes:
        name: On the left of the text; long ones are wrapped.
        points: One or more.
        group: Rows of one group follow each other below its name; an empty one has none.
        told: On the right of the text.
        control: Lowest and highest value that chance leaves a negative control: a grey band.
        shaded: Whether the row is set off from the others.
    """

    name: str
    points: Sequence[Point]
    group: str = ""
    told: str = ""
    control: tuple[float, float] | None = None
    shaded: bool = False


def forest(
    rows: Sequence[Row],
    title: str,
    note: str = "",
    *,
    metric: str = "AUROC",
    chance: float | None = 0.5,
    kinds: Sequence[str] = (),
) -> Figure:
    """Draws rows, at least one, from top to bottom.

    Args:
        rows: What is drawn.
        title: Above all.
        note: What squares, lines and dots are, below all.
        metric: What the axis shows.
        chance: The value that guessing would give, a dotted line; 0 stands for differences, which may be negative.
        kinds: What squares and circles are, for a legend.

    Raises:
        ValueError: There is no row.
    """
    if not rows:
        raise ValueError("rows must hold at least one, got none")
    figure = blank(WIDTH, 1.0)  # until the rows are placed
    axes = figure.add_subplot()
    axes.set_title(textwrap.fill(title, 46), fontsize=10, parse_math=False)
    beside: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": 9, "va": "top", "parse_math": False}
    beside["zorder"] = 2
    at, group = 0.0, ""  # at: inches below the top of the axes
    for row in rows:
        if row.group and row.group != group:
            axes.text(0, at, row.group, weight="bold", bbox={**_GROUND, "facecolor": "white"}, **beside)
            at += _TEXT + _GAP
        group = row.group
        name = textwrap.fill(row.name, max(14, _LETTERS - len(row.told)))
        ground = {**_GROUND, "facecolor": _SHADE if row.shaded else "white"}
        axes.text(0, at, name, bbox=ground, **beside)
        axes.text(1, at, row.told, ha="right", bbox=ground, **beside)
        top, at = at, at + _TEXT * (1 + name.count("\n"))
        end = at + _LINE * len(row.points) + _GAP
        if row.shaded:
            axes.axhspan(top - _GAP / 2, end - _GAP / 2, color=_SHADE, linewidth=0, zorder=0)
        if row.control is not None:
            low, high = row.control
            middle = at + (0.1 + len(row.points) / 2) * _LINE
            axes.barh(middle, high - low, len(row.points) * _LINE - 0.03, low, color=_CONTROL, zorder=1)
        for point in row.points:
            _draw(axes, at + 0.6 * _LINE, point)
            at += _LINE
        at = end
    axes.set_ylim(at, -_GAP)
    axes.set_yticks([])
    axes.set_xlim(*_ends(rows, chance))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.tick_params(labelsize=9)
    axes.set_xlabel(metric, fontsize=9)
    if chance is not None:
        axes.axvline(chance, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    tidy(axes, grid="x")
    for (colour, marker), kind in zip(_KINDS, kinds, strict=False):
        axes.plot([], [], marker, color=colour, label=kind)
    if kinds:
        figure.legend(loc="outside upper center", fontsize=8, frameon=False)
    below = textwrap.fill(note, 56)
    figure.supxlabel(below, fontsize=8, color=GREY, parse_math=False)
    figure.set_size_inches(WIDTH, at + 1 + 0.14 * below.count("\n") + 0.16 * len(kinds))
    return figure


def _draw(axes: Axes, place: float, point: Point) -> None:
    value, low, high = point.estimate.value, point.estimate.low, point.estimate.high
    if value is None:
        how: dict[str, Any] = {"ha": "center", "va": "center", "color": GREY, "fontsize": 9}
        axes.text(0.5, place, "undefined", transform=axes.get_yaxis_transform(), **how)
        return
    colour, marker = _KINDS[point.second]
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
    axes.plot([value], [place], marker, color=colour, mfc="white" if point.hollow else colour, ms=6.5, zorder=4)
    # Seeds lie below the line, so that neither a dot nor the value hides the other.
    equal = Counter(round(seed, 6) for seed in point.seeds)
    below, sizes = [place + 0.45 * _LINE] * len(equal), [_DOT * times for times in equal.values()]
    axes.scatter([*equal], below, s=sizes, color="black", alpha=0.7, linewidths=0, zorder=3)


def _ends(rows: Sequence[Row], chance: float | None) -> tuple[float, float]:
    """Where the axis begins and ends: around all that is drawn, and not at 0 where everything is near 1."""
    numbers = [row.control[0] for row in rows if row.control is not None]
    for point in (point for row in rows for point in row.points):
        drawn = (point.estimate.low, point.estimate.value, point.estimate.high, *point.seeds)
        numbers += [each for each in drawn if each is not None]
    if chance == 0:
        return min([-0.05, *numbers]) - 0.03, max([0.05, *numbers]) + 0.03
    least = min([0.9 if chance is None else chance - 0.05, *numbers])
    return max(-0.02, least - 0.03), 1.02
