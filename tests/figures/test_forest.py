"""The forest plot: what is drawn where, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures import Point, Row, forest
from cxrlab.figures.canvas import BLUE, ORANGE

GOOD = Estimate(0.9, 0.8, 0.95, "")
NONE = Estimate.undefined("nothing")
POINT = Point(GOOD, [0.85, 0.9, 0.9])


def text_of(figure: Figure) -> str:
    figure.savefig(io.BytesIO(), format="png")  # a layout that does not fit warns, and warnings are errors
    return " ".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def intervals(axes: Axes) -> list[tuple[str, list[float]]]:
    """Colour and ends of every interval, from top to bottom."""
    lines = [line for line in axes.lines if line.get_linestyle() == "-" and len(np.asarray(line.get_xdata())) == 2]
    return [(str(line.get_color()), np.asarray(line.get_xdata(), float).tolist()) for line in lines]


def values(axes: Axes, marker: str) -> list[float]:
    return [float(x) for line in axes.lines if line.get_marker() == marker for x in np.asarray(line.get_xdata())]


def places(axes: Axes) -> dict[str, float]:
    names = [label.get_text() for label in axes.get_yticklabels()]
    return dict(zip(names, map(float, axes.get_yticks()), strict=True))


def test_value_interval_and_seeds_are_drawn() -> None:
    panels = {"accuracy": None, "AUROC": 0.5}
    figure = forest([Row(name, [[POINT], [POINT]]) for name in ("a", "b=[0,0]")], "test", "a note", panels=panels)
    accuracy, auroc = figure.axes
    assert intervals(accuracy) == [(BLUE, [0.8, 0.95])] * 2
    assert values(accuracy, "s") == [0.9, 0.9]
    dots = accuracy.collections[0]
    assert isinstance(dots, PathCollection)
    assert np.asarray(dots.get_offsets())[:, 0].tolist() == [0.85, 0.9]
    assert dots.get_sizes()[1] == 2 * dots.get_sizes()[0]  # two seeds are equal
    assert places(accuracy) == {"a": 0, "b=[0,0]": 1}
    assert accuracy.get_ylim()[0] > accuracy.get_ylim()[1]  # the first row is on top
    assert auroc.get_xlabel() == "AUROC"
    for text in ("test", "a note", "b=[0,0]"):
        assert text in text_of(figure)


def test_what_is_undefined_is_said_and_an_interval_may_be_missing() -> None:
    bare = Point(Estimate.bare(0.5, ""))
    figure = forest([Row("a", [[Point(NONE)]]), Row("b", [[bare]])], "t", "n")
    assert "undefined" in text_of(figure)
    assert intervals(figure.axes[0]) == []
    assert values(figure.axes[0], "s") == [0.5]


def test_groups_have_a_line_of_their_own_and_rows_are_told_and_set_off() -> None:
    low = Point(Estimate(0.2, 0.1, 0.3, ""), second=True)
    rows = [
        Row("intact", [[POINT, low]]),
        Row("lungs black", [[POINT]], "lungs removed", shaded=True),
        Row("centre black", [[low]], "lungs removed", told="drop 0.410"),
        Row("8 x 8", [[POINT]], "detail removed"),
    ]
    figure = forest(rows, "t", "n", kinds=("tried", "trained again"))
    (axes,) = figure.axes
    at = places(axes)
    assert [at[row.name] for row in rows] == [0, 2, 3, 5]  # the name of a group stands between
    assert (ORANGE, [0.1, 0.3]) in intervals(axes)
    assert values(axes, "o") == [0.2, 0.2]
    assert {"lungs removed", "detail removed", "drop 0.410"} <= {text.get_text() for text in axes.texts}
    assert len(axes.patches) == 1  # what is set off
    assert axes.get_xlim()[0] < 0.1
    assert "trained again" in text_of(figure)
    assert forest(rows, "t", "n").axes[0].get_legend() is None


def test_a_negative_control_lies_below_its_value() -> None:
    rows = [
        Row("frame", [[Point(GOOD)]], control=(0.4, 0.6)),
        Row("size", [[Point(Estimate(0.5, 0.21, 0.6, ""), hollow=True)]], control=(0.41, 0.58)),
    ]
    (axes,) = forest(rows, "Title", "Note").axes
    bands = [bar.get_extents().transformed(axes.transData.inverted()) for bar in axes.patches]
    assert [(band.x0, band.x1) for band in bands] == [pytest.approx((0.4, 0.6)), pytest.approx((0.41, 0.58))]
    assert [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "s"] == [BLUE, "white"]
    assert axes.get_xlim()[0] < 0.21


def test_many_long_names_fit() -> None:
    names = [f"model=PaperCNN dropout=[0.25,0.25,0.5] optimizer=SGD lr=0.{i}" for i in range(20)]
    panels = {"accuracy": None, "AUROC": 0.5}
    figure = forest([Row(name, [[POINT], [POINT]], told="x" * 40) for name in names], "t", "n", panels=panels)
    assert "lr=0.19" in text_of(figure)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="rows must hold at least one"):
        forest([], "t", "n")
    with pytest.raises(ValueError, match="'a' must have points for 1 panels, got 2"):
        forest([Row("a", [[POINT], [POINT]])], "t", "n")
