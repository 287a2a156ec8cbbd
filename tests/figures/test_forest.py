"""The forest plot: what is drawn where, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from tests.figures.drawn import check_texts

from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures import Point, Row, forest
from cxrlab.figures.canvas import BLUE, ORANGE, WIDTH

GOOD = Estimate(0.9, 0.8, 0.95, "")
POINT = Point(GOOD, [0.85, 0.9, 0.9])


def text_of(figure: Figure) -> str:
    check_texts(figure)
    return " ".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def intervals(axes: Axes) -> list[tuple[str, list[float]]]:
    """Colour and ends of every interval, from top to bottom."""
    lines = [line for line in axes.lines if line.get_linestyle() == "-" and len(np.asarray(line.get_xdata())) == 2]
    return [(str(line.get_color()), np.asarray(line.get_xdata(), float).tolist()) for line in lines]


def values(axes: Axes, marker: str) -> list[float]:
    return [float(x) for line in axes.lines if line.get_marker() == marker for x in np.asarray(line.get_xdata())]


def places(axes: Axes) -> list[str]:
    """All texts in the axes, from top to bottom."""
    return [text.get_text() for text in sorted(axes.texts, key=lambda text: text.get_position()[1]) if text.get_text()]


def test_value_interval_and_seeds_are_drawn_below_the_name() -> None:
    figure = forest([Row(name, [POINT], told=f"{GOOD}") for name in ("a", "b=[0,0]")], "test", "a note")
    (axes,) = figure.axes
    assert intervals(axes) == [(BLUE, [0.8, 0.95])] * 2
    assert values(axes, "s") == [0.9, 0.9]
    dots = axes.collections[0]
    assert isinstance(dots, PathCollection)
    assert np.asarray(dots.get_offsets())[:, 0].tolist() == [0.85, 0.9]
    assert dots.get_sizes()[1] == 2 * dots.get_sizes()[0]  # two seeds are equal
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    assert places(axes) == ["a", str(GOOD), "b=[0,0]", str(GOOD)]
    assert axes.get_xlabel() == "AUROC"
    assert figure.get_figwidth() == WIDTH
    for text in ("test", "a note", "b=[0,0]"):
        assert text in text_of(figure)


def test_what_is_undefined_is_said_and_an_interval_may_be_missing() -> None:
    rows = [Row("a", [Point(Estimate.undefined("nothing"))]), Row("b", [Point(Estimate.bare(0.5, ""))])]
    figure = forest(rows, "t", "n")
    assert "undefined" in text_of(figure)
    assert intervals(figure.axes[0]) == []
    assert values(figure.axes[0], "s") == [0.5]


def test_groups_have_a_line_of_their_own_and_rows_are_told_and_set_off() -> None:
    low = Point(Estimate(0.2, 0.1, 0.3, ""), second=True)
    rows = [
        Row("intact", [POINT, low]),
        Row("lungs black", [POINT], "lungs removed", shaded=True),
        Row("centre black", [low], "lungs removed", told="drop 0.410"),
        Row("8 x 8", [POINT], "detail removed"),
    ]
    figure = forest(rows, "t", "n", kinds=("tried", "trained again"))
    (axes,) = figure.axes
    told = ["intact", "lungs removed", "lungs black", "centre black", "drop 0.410", "detail removed", "8 x 8"]
    assert places(axes) == told
    assert (ORANGE, [0.1, 0.3]) in intervals(axes)
    assert values(axes, "o") == [0.2, 0.2]
    assert len(axes.patches) == 1  # what is set off
    assert axes.get_xlim()[0] < 0.1
    assert "trained again" in text_of(figure)
    assert forest(rows, "t", "n").legends == []


def test_a_negative_control_lies_below_its_value() -> None:
    rows = [
        Row("frame", [Point(GOOD)], control=(0.4, 0.6)),
        Row("size", [Point(Estimate(0.5, 0.21, 0.6, ""), hollow=True)], control=(0.41, 0.58)),
    ]
    (axes,) = forest(rows, "Title", "Note").axes
    bands = [bar.get_extents().transformed(axes.transData.inverted()) for bar in axes.patches]
    assert [(band.x0, band.x1) for band in bands] == [pytest.approx((0.4, 0.6)), pytest.approx((0.41, 0.58))]
    marks = [line for line in axes.lines if line.get_marker() == "s"]
    assert [line.get_markerfacecolor() for line in marks] == [BLUE, "white"]
    for band, mark in zip(bands, marks, strict=True):
        assert band.y1 < np.asarray(mark.get_ydata()).item() < band.y0  # the axis points down
    assert axes.get_xlim()[0] < 0.21


def test_differences_may_be_negative_and_are_held_against_nothing() -> None:
    rows = [Row("a", [Point(Estimate(-0.3, -0.6, 0.1, ""))]), Row("b", [Point(Estimate(0.1, 0.0, 0.2, ""))])]
    (axes,) = forest(rows, "t", metric="difference", chance=0).axes
    left, right = axes.get_xlim()
    assert left < -0.6
    assert 0.2 < right < 0.5
    assert [line.get_linestyle() for line in axes.lines if np.asarray(line.get_xdata()).tolist() == [0, 0]] == [":"]


def test_many_long_names_fit() -> None:
    names = [f"model=PaperCNN dropout=[0.25,0.25,0.5] optimizer=SGD lr=0.{i}" for i in range(20)]
    figure = forest([Row(name, [POINT], told="0.900 [0.800, 0.950]") for name in names], "t", "n")
    assert "lr=0.19" in text_of(figure)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="rows must hold at least one"):
        forest([], "t", "n")
