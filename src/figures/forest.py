"""The forest plot: values with their intervals below each other."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures.canvas import BLUE, DPI, GREY, ORANGE, tidy

AUROC: Mapping[str, float | None] = {"AUROC": 0.5}
"""A single panel, as most figures have it."""

_KINDS = ((BLUE, "s"), (ORANGE, "o"))
_DOT = 12  # area of one seed's dot, points squared
_APART = 0.17  # rows between the line of a row and each of two values on it
_SHADE, _CONTROL = "#f1e6da", "#d9d9d9"
_NAME = 44  # characters of a row's name on one line
_PANEL = 3.4  # inches
_CHARACTER = 0.072  # inches


@dataclass(frozen=True)
class Point:
    """A value on a row.

    Attributes:
        estimate: A missing interval is not drawn, a missing value is said.
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
    """A line of the figure.

    Attributes:
        name: On its left; long ones are wrapped.
        points: One or two for every panel.
        group: Rows of one group follow each other below its name; an empty one has none.
        told: Text on its right.
        control: Lowest and highest value that chance leaves a negative control: a grey band.
        shaded: Whether the row is set off from the others.
    """

    name: str
    points: Sequence[Sequence[Point]]
    group: str = ""
    told: str = ""
    control: tuple[float, float] | None = None
    shaded: bool = False


def forest(
    rows: Sequence[Row],
    title: str,
    note: str,
    *,
    panels: Mapping[str, float | None] = AUROC,
    kinds: Sequence[str] = (),
) -> Figure:
    """Draws rows below each other, one panel for each metric side by side.

    Args:
        rows: From top to bottom, at least one.
        title: Of the figure.
        note: What squares, lines and dots are, for the line below.
        panels: Metrics, and for each the value that guessing would give, a dotted line, or ``None``.
        kinds: What squares and circles are, for a legend.

    Raises:
        ValueError: There is no row, or one has not its points for each panel.
    """
    if not rows:
        raise ValueError("rows must hold at least one, got none")
    for row in rows:
        if len(row.points) != len(panels):
            raise ValueError(f"{row.name!r} must have points for {len(panels)} panels, got {len(row.points)}")
    places, headings = _places(rows)
    names = [textwrap.fill(row.name, _NAME) for row in rows]
    lines = places[-1] + 1 + sum(name.count("\n") for name in names) / 2
    width = max(6.8, 3.0 + _PANEL * len(panels) + _CHARACTER * max(len(row.told) for row in rows))
    figure = Figure(figsize=(width, 1.5 + 0.34 * lines), dpi=DPI, layout="constrained")
    figure.suptitle(textwrap.fill(title, 80), fontsize=11, parse_math=False)
    for number, (panel, chance) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), number + 1)
        axes.set_yticks(places, [""] * len(rows) if number else names, parse_math=False, fontsize=9)
        axes.set_ylim(places[-1] + 0.6, -0.6)
        axes.set_xlabel(panel)
        for place, row in zip(places, rows, strict=True):
            _draw(axes, place, row, row.points[number])
        if chance is not None:
            axes.axvline(chance, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
        axes.set_xlim(_left(rows, number, chance), 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        tidy(axes, grid="x")
    for place, group in headings.items():  # where the names of the rows stand
        _beside(figure.axes[0], place, group, -6, weight="bold")
    for place, row in zip(places, rows, strict=True):
        _beside(figure.axes[-1], place, row.told, 8)
    if kinds:
        _explain(figure.axes[0], kinds)
    figure.supxlabel(textwrap.fill(note, round(15 * width)), fontsize=8, color=GREY)
    return figure


def _places(rows: Sequence[Row]) -> tuple[list[float], dict[float, str]]:
    """Where each row stands, from 0 at the top, and the names of groups, which take a line of their own."""
    places: list[float] = []
    headings: dict[float, str] = {}
    at = 0.0
    for number, row in enumerate(rows):
        if row.group and (number == 0 or rows[number - 1].group != row.group):
            headings[at] = row.group
            at += 1
        places.append(at)
        at += 1
    return places, headings


def _draw(axes: Axes, place: float, row: Row, points: Sequence[Point]) -> None:
    if row.shaded:
        axes.axhspan(place - 0.5, place + 0.5, color=_SHADE, linewidth=0, zorder=0)
    if row.control is not None:
        low, high = row.control
        axes.barh(place, high - low, height=0.62, left=low, color=_CONTROL, zorder=1)
    for number, point in enumerate(points):
        _point(axes, place + (_APART * (2 * number - 1) if len(points) > 1 else 0), point)


def _point(axes: Axes, place: float, point: Point) -> None:
    value, low, high = point.estimate.value, point.estimate.low, point.estimate.high
    if value is None:
        middle = axes.get_yaxis_transform()
        axes.text(0.5, place, "undefined", ha="center", va="center", color=GREY, fontsize=9, transform=middle)
        return
    colour, marker = _KINDS[point.second]
    if low is not None and high is not None:
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt", zorder=2)
    fill = "white" if point.hollow else colour
    axes.plot([value], [place], marker, color=colour, mfc=fill, markersize=6.5, zorder=4)
    if point.seeds:  # off the line, so that neither a dot nor the value hides the other
        equal = Counter(round(seed, 6) for seed in point.seeds)
        sizes = [_DOT * times for times in equal.values()]
        axes.scatter([*equal], [place + 0.24] * len(equal), s=sizes, color="black", alpha=0.7, linewidths=0, zorder=3)


def _explain(axes: Axes, kinds: Sequence[str]) -> None:
    for (colour, marker), name in zip(_KINDS, kinds, strict=True):
        axes.plot([], [], marker, color=colour, label=name)
    axes.legend(loc="upper left", fontsize=8, frameon=True, edgecolor="none")


def _beside(axes: Axes, place: float, text: str, points: int, **how: Any) -> None:
    """Writes left of the axes, or right of them where the distance is positive."""
    axes.annotate(
        text,
        (int(points > 0), place),
        (points, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        ha="left" if points > 0 else "right",
        va="center",
        fontsize=9,
        parse_math=False,
        **how,
    )


def _left(rows: Sequence[Row], panel: int, chance: float | None) -> float:
    """Where an axis begins: left of all that is drawn, and not at 0 where everything is near 1."""
    estimates = [point.estimate for row in rows for point in row.points[panel]]
    drawn = [number for each in estimates for number in (each.low, each.value) if number is not None]
    drawn += [seed for row in rows for point in row.points[panel] for seed in point.seeds]
    drawn += [row.control[0] for row in rows if row.control is not None]
    least = min([0.9 if chance is None else chance - 0.05, *drawn])
    return float(np.clip(least - 0.03, -0.02, 0.87))
