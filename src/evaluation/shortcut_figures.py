"""The figure of a shortcut battery: what is left of the AUROC when the lungs are gone."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrlab.evaluation.figures import BLUE, DPI, GREY, ORANGE

_BAND = "#f1e6da"


@dataclass(frozen=True)
class Row:
    """One kind of image.

    Attributes:
        name: What was done to it.
        group: Rows of one group follow each other below its name; an empty one has none.
        tried: ``{"value", "low", "high"}`` of the trained model; ``None`` where it was not tried.
        retrained: Likewise, of the recipe trained again on such images.
        each: AUROCs of the seeds behind ``retrained``.
        counts: Whether the verdict takes it for an image without lungs.
    """

    name: str
    group: str
    tried: Mapping[str, Any] | None
    retrained: Mapping[str, Any] | None = None
    each: Sequence[float] = ()
    counts: bool = False


def lungs_removed(rows: Sequence[Row], title: str, note: str) -> Figure:
    """Draws AUROCs with their intervals below each other, test-time and retrained, and 0.5 as a line.

    Args:
        rows: In the order of the figure, at least one.
        title: Title of the figure.
        note: What lines, dots and n are, for the line below.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("rows must hold at least one kind of image, got none")
    groups = list(dict.fromkeys(row.group for row in rows))
    lines = len(rows) + len([group for group in groups if group])
    figure = Figure(figsize=(7.6, 1.6 + 0.3 * lines), dpi=DPI, layout="constrained")
    figure.suptitle(textwrap.fill(title, 80), fontsize=11, parse_math=False)
    axes = figure.add_subplot()
    places = _places(rows)
    for row, place in zip(rows, places, strict=True):
        if row.counts:
            axes.axhspan(place - 0.5, place + 0.5, color=_BAND, linewidth=0, zorder=0)
        _draw(axes, place, row)
    for group in filter(None, groups):
        first = min(place for row, place in zip(rows, places, strict=True) if row.group == group)
        # Left of the axes, where the names of the rows stand.
        axes.annotate(
            group,
            (0, first - 0.95),
            xytext=(-6, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
            weight="bold",
        )
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2, zorder=1)
    drawn = [each for row in rows for each in (row.tried, row.retrained) if each and each["value"] is not None]
    lows = [float(each["value"] if each["low"] is None else each["low"]) for each in drawn]
    axes.set_xlim(min(0.3, *lows, 0.3) - 0.02, 1.02)
    axes.set_ylim(places[-1] + 0.6, places[0] - (1.6 if groups[0] else 0.6))
    axes.set_yticks(places, [row.name for row in rows], parse_math=False, fontsize=9)
    axes.set_xlabel("AUROC")
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    if any(row.tried for row in rows) and any(row.retrained for row in rows):
        _legend(axes)
    figure.supxlabel(textwrap.fill(note, 105), fontsize=8, color=GREY)
    return figure


def sheet(pairs: Sequence[npt.NDArray[np.uint8]], names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draws pairs of images side by side, each pair below its name.

    Args:
        pairs: Shape (2, height, width, channels) each, uint8, one or three channels (RGB); at least one.
        names: One per pair.
        columns: Pairs side by side, at most.

    Raises:
        ValueError: If there is no pair, or not one name for each.
    """
    if not pairs or len(pairs) != len(names):
        raise ValueError(f"pairs and names must be equally many and not none, got {len(pairs)} and {len(names)}")
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(2.4 * columns, 1.45 * rows), dpi=DPI, layout="constrained")
    for number, (pair, name) in enumerate(zip(pairs, names, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, number)
        gap = np.full((pair.shape[1], max(1, pair.shape[2] // 32), pair.shape[3]), 255, np.uint8)
        image = np.concatenate([pair[0], gap, pair[1]], axis=1)
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=8, parse_math=False)
        axes.set_axis_off()
    return figure


def _places(rows: Sequence[Row]) -> list[float]:
    """Where each row stands, from the top; the name of a group takes a line of its own."""
    places: list[float] = []
    for number, row in enumerate(rows):
        headed = bool(row.group) and (number == 0 or rows[number - 1].group != row.group)
        places.append((places[-1] + 1 if places else 0.0) + (1 if headed else 0))
    return places


def _draw(axes: Axes, place: float, row: Row) -> None:
    both = row.tried is not None and row.retrained is not None
    for estimate, colour, marker, off in ((row.tried, BLUE, "s", -0.17), (row.retrained, ORANGE, "o", 0.17)):
        if estimate is None or estimate["value"] is None:
            continue
        at = place + (off if both else 0)
        if estimate["low"] is not None:
            axes.plot([estimate["low"], estimate["high"]], [at, at], color=colour, linewidth=2, zorder=2)
        axes.plot([estimate["value"]], [at], marker, color=colour, markersize=6, zorder=4)
        if colour == ORANGE:
            axes.scatter(row.each, [at] * len(row.each), s=9, color="black", linewidths=0, alpha=0.7, zorder=5)


def _legend(axes: Axes) -> None:
    for colour, marker, name in (
        (BLUE, "s", "this model, tried on such images"),
        (ORANGE, "o", "trained again on them"),
    ):
        axes.plot([], [], marker, color=colour, label=name)
    axes.legend(loc="upper left", fontsize=8, frameon=True, edgecolor="none")
