"""The figure of a shortcut battery: every interval where it belongs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cxrlab.evaluation.figures import BLUE, ORANGE
from cxrlab.evaluation.shortcut_figures import Row, lungs_removed, sheet


def estimate(value: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high}


ROWS = [
    Row("intact", "", estimate(0.9, 0.8, 1.0), estimate(0.95, 0.9, 1.0), (0.94, 0.96)),
    Row("lungs black", "lungs removed", estimate(0.5, 0.4, 0.6), None, counts=True),
    Row("centre black", "lungs removed", None, estimate(0.7, None, None), (0.7,)),
    Row("8 x 8", "detail removed", estimate(0.2, 0.1, 0.3)),
]


def test_every_interval_is_drawn_at_its_row() -> None:
    axes = lungs_removed(ROWS, "made up", "a note").axes[0]
    places = dict(zip([label.get_text() for label in axes.get_yticklabels()], axes.get_yticks(), strict=True))
    assert list(places) == ["intact", "lungs black", "centre black", "8 x 8"]
    assert places["lungs black"] - places["intact"] == 2  # the name of the group stands between
    assert places["centre black"] - places["lungs black"] == 1
    drawn = [(line.get_color(), np.asarray(line.get_xdata(), float).tolist()) for line in axes.lines]
    spans = {(colour, *ends) for colour, ends in drawn if len(ends) == 2}
    assert {(BLUE, 0.8, 1.0), (ORANGE, 0.9, 1.0), (BLUE, 0.4, 0.6), (BLUE, 0.1, 0.3)} <= spans
    assert {text.get_text() for text in axes.texts} == {"lungs removed", "detail removed"}
    assert axes.get_xlim()[0] < 0.1
    assert axes.get_legend() is not None


def test_one_kind_alone_needs_no_legend() -> None:
    assert lungs_removed([ROWS[1]], "made up", "").axes[0].get_legend() is None


def test_a_sheet_holds_every_pair_under_its_name() -> None:
    pairs = [np.full((2, 8, 6, channels), 100, np.uint8) for channels in (1, 1, 3)]
    figure = sheet(pairs, ["a", "b", "c"], columns=2)
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    assert figure.axes[0].images[0].get_size()[0] == 8


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        lungs_removed([], "", "")
    with pytest.raises(ValueError, match="equally many"):
        sheet([], [])
