"""What a figure says, and whether its texts can be read."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox


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
        assert place.x0 >= 0, item
        assert place.y0 >= 0, item
        assert place.x1 <= width, item
        assert place.y1 <= height, item
    items = list(places)
    for number, item in enumerate(items):
        for other in items[:number]:
            overlap = Bbox.intersection(places[item], places[other])
            assert overlap is None or min(overlap.width, overlap.height) < 2, (item, other)
