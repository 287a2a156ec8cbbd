"""The forest plot: what is drawn where, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from cxrlab.evaluation.comparison_figures import Bar, beside_control, forest

BAR = Bar({"value": 0.9, "low": 0.8, "high": 0.95}, [0.85, 0.9, 0.9])


def text_of(figure: Figure) -> str:
    figure.savefig(io.BytesIO(), format="png")  # a layout that does not fit warns, and warnings are errors
    return " ".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def test_value_interval_and_seeds_are_drawn() -> None:
    figure = forest(["a", "b=[0,0]"], {"accuracy": [BAR, BAR], "AUROC": [BAR, BAR]}, "test images", "a note")
    accuracy, auroc = figure.axes
    line, square = accuracy.lines[:2]
    assert np.asarray(line.get_xdata()).tolist() == [0.8, 0.95]
    assert np.asarray(square.get_xdata()).tolist() == [0.9]
    dots = accuracy.collections[0]
    assert isinstance(dots, PathCollection)
    assert np.asarray(dots.get_offsets())[:, 0].tolist() == [0.85, 0.9]
    assert dots.get_sizes()[1] == 2 * dots.get_sizes()[0]  # two seeds are equal
    assert accuracy.get_ylim() == (1.5, -0.5)  # the first setting is on top
    assert auroc.get_xlabel() == "AUROC"
    for text in ("test images", "a note", "b=[0,0]"):
        assert text in text_of(figure)


def test_what_is_undefined_is_said() -> None:
    nothing = Bar({"value": None, "low": None, "high": None}, [])
    bare = Bar({"value": 0.5, "low": None, "high": None}, [0.5])
    figure = forest(["a", "b"], {"AUROC": [nothing, bare]}, "t", "n")
    assert "undefined" in text_of(figure)
    assert len(figure.axes[0].lines) == 1  # the second's square, without an interval


def test_many_long_names_fit() -> None:
    names = [f"model=PaperCNN dropout=[0.25,0.25,0.5] optimizer=SGD lr=0.{i}" for i in range(20)]
    figure = forest(names, {"accuracy": [BAR] * 20, "AUROC": [BAR] * 20}, "t", "n")
    assert "lr=0.19" in text_of(figure)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="names must hold at least one setting"):
        forest([], {}, "t", "n")
    with pytest.raises(ValueError, match="panels must hold 2 bars for each metric, got 1 for 'AUROC'"):
        forest(["a", "b"], {"AUROC": [BAR]}, "t", "n")


def test_classifiers_beside_their_control() -> None:
    estimates = [{"value": 0.9, "low": 0.85, "high": 0.94}, {"value": 0.5, "low": 0.21, "high": 0.6}]
    figure = beside_control(["frame", "size"], estimates, [(0.4, 0.6), (0.41, 0.58)], [True, False], "Title", "Note")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["frame", "size"]
    bands = [bar.get_extents().transformed(axes.transData.inverted()) for bar in axes.patches]
    assert [(band.x0, band.x1) for band in bands] == [pytest.approx((0.4, 0.6)), pytest.approx((0.41, 0.58))]
    assert [np.asarray(line.get_xdata())[0] for line in axes.lines if line.get_marker() == "s"] == [0.9, 0.5]
    assert axes.get_xlim()[0] < 0.21
    with pytest.raises(ValueError, match="equally long and not empty, got 1, 2, 1 and 1"):
        beside_control(["frame"], estimates, [(0.4, 0.6)], [True], "Title", "Note")
