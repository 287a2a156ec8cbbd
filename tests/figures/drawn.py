"""What a figure says, and whether its texts can be read."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from cxrlab.evaluation.estimate import Estimate

ESTIMATE = Estimate(0.91, 0.8, 0.97, "patient bootstrap")
LABELS = np.repeat([0, 1], [12, 8])
SCORES = np.clip(0.3 + 0.4 * LABELS + np.random.default_rng(0).normal(0, 0.2, 20), 0, 1)


def texts(axes: Axes) -> str:
    legend = axes.get_legend() or next(iter(axes.figure.legends), None)
    parts = [axes.get_title(), *(item.get_text() for item in axes.texts)]
    return "\n".join(parts + ([item.get_text() for item in legend.get_texts()] if legend else []))


def drawn_texts(figure: Figure) -> dict[Text, Bbox]:
    """Every text that is not empty, ticks left out, with its place in pixels once all is laid out."""
    figure.draw_without_rendering()
    found = [item for item in figure.findobj(Text) if item.get_text() and not isinstance(item, Annotation)]
    ticks = {id(item) for axes in figure.axes for item in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    hidden = {id(item) for axes in figure.axes if not axes.axison for item in (axes.xaxis.label, axes.yaxis.label)}
    return {item: item.get_window_extent() for item in found if id(item) not in ticks | hidden}


def check_texts(figure: Figure) -> None:
    """Nothing is cut off at the edge, and no text lies on another."""
    places = drawn_texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for item, place in places.items():
        assert min(place.x0, place.y0, width - place.x1, height - place.y1) >= 0, item
    for one, other in combinations(places, 2):
        check_apart(places[one], places[other], 2)


def check_apart(one: Bbox, other: Bbox, pixels: float) -> None:
    """Two boxes share less than so many pixels in one direction."""
    overlap = Bbox.intersection(one, other)
    assert overlap is None or min(overlap.width, overlap.height) < pixels, (one, other)
