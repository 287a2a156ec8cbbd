"""Figures that compare settings, drawn as those of :mod:`cxrlab.evaluation.figures` are."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxrlab.evaluation.figures import BLUE, DPI, GREY, ORANGE

_DOT = 18  # area of one seed's dot, points squared
_WRAP = 34  # characters of a setting's name on one line


@dataclass(frozen=True)
class Bar:
    """One setting under one metric.

    Attributes:
        estimate: ``{"value", "low", "high"}``; what is ``None`` is not drawn.
        seeds: The metric of each seed alone.
    """

    estimate: Mapping[str, Any]
    seeds: Sequence[float]


def forest(names: Sequence[str], panels: Mapping[str, Sequence[Bar]], title: str, note: str) -> Figure:
    """Draws settings below each other, metrics side by side: value and interval, and a dot for each seed.

    Equal seeds share a dot, whose area grows with their number.

    Args:
        names: Of the settings, from top to bottom, at least one.
        panels: By metric: a bar for each setting.
        title: Title of the figure.
        note: What value, interval and dots are, for the line below.

    Raises:
        ValueError: If there is no setting, or a metric has not one bar for each.
    """
    if not names:
        raise ValueError("names must hold at least one setting, got none")
    for metric, bars in panels.items():
        if len(bars) != len(names):
            raise ValueError(f"panels must hold {len(names)} bars for each metric, got {len(bars)} for {metric!r}")
    wrapped = [textwrap.fill(name, _WRAP) for name in names]
    lines = sum(max(2, text.count("\n") + 1) for text in wrapped)
    figure = Figure(figsize=(3.0 + 3.4 * len(panels), 1.5 + 0.24 * lines), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    for position, (metric, bars) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), position)
        for row, bar in enumerate(bars):
            _bar(axes, row, bar)
        axes.set_xlabel(metric)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), wrapped if position == 1 else [""] * len(names), parse_math=False)
        axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.supxlabel(textwrap.fill(note, 95), fontsize=8, color=GREY)
    return figure


def beside_control(
    names: Sequence[str],
    estimates: Sequence[Mapping[str, Any]],
    controls: Sequence[tuple[float, float]],
    strong: Sequence[bool],
    title: str,
    note: str,
) -> Figure:
    """Draws AUROCs with their intervals below each other, each on the range that a negative control leaves to chance.

    Args:
        names: Of the classifiers, from top to bottom, at least one.
        estimates: ``{"value", "low", "high"}`` of each.
        controls: Lowest and highest AUROC of the range of each one's control.
        strong: Whether each is drawn as a filled square, rather than an open one.
        title: Title of the figure.
        note: What squares, lines and bands are, for the line below.

    Raises:
        ValueError: If there is no classifier, or the arguments are not equally long.
    """
    if not names or not len(names) == len(estimates) == len(controls) == len(strong):
        lengths = f"{len(names)}, {len(estimates)}, {len(controls)} and {len(strong)}"
        raise ValueError(f"names, estimates, controls and strong must be equally long and not empty, got {lengths}")
    figure = Figure(figsize=(6.8, 1.4 + 0.34 * len(names)), dpi=DPI, layout="constrained")
    figure.suptitle(textwrap.fill(title, 70), fontsize=11, parse_math=False)
    axes = figure.add_subplot()
    for row, (estimate, control, filled) in enumerate(zip(estimates, controls, strong, strict=True)):
        axes.barh(row, control[1] - control[0], height=0.62, left=control[0], color="#d9d9d9", zorder=1)
        axes.plot([estimate["low"], estimate["high"]], [row, row], color=BLUE, linewidth=2, zorder=2)
        axes.plot([estimate["value"]], [row], "s", color=BLUE, mfc=BLUE if filled else "white", markersize=7, zorder=3)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    axes.set_xlim(min(0.3, *(low for low, _ in controls), *(estimate["low"] for estimate in estimates)) - 0.02, 1.02)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xlabel("AUROC")
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.supxlabel(textwrap.fill(note, 95), fontsize=8, color=GREY)
    return figure


def _bar(axes: Axes, row: int, bar: Bar) -> None:
    value, low, high = (bar.estimate.get(key) for key in ("value", "low", "high"))
    if value is None:
        axes.text(0.5, row, "undefined", ha="center", va="center", color=GREY, transform=axes.get_yaxis_transform())
        return
    if low is not None and high is not None:
        axes.plot([low, high], [row, row], color=BLUE, linewidth=2, solid_capstyle="butt", zorder=2)
    # Off the line, so that neither a dot nor the square hides the other.
    equal = Counter(round(seed, 6) for seed in bar.seeds)
    sizes = [_DOT * times for times in equal.values()]
    axes.scatter([*equal], [row + 0.24] * len(equal), s=sizes, color=ORANGE, alpha=0.8, linewidths=0, zorder=3)
    axes.plot([value], [row], "s", color=BLUE, markersize=7, zorder=4)
