"""Agreement of masks: values worked out by hand, and intervals that resample people."""

from __future__ import annotations

import numpy as np
import pytest

from cxrlab.evaluation.overlap import dice, iou, mean_with_interval


def test_values_worked_out_by_hand() -> None:
    one, other = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    one[0] = True  # 4 pixels, of which 2 are in the other's 3
    other[0, 2:] = other[1, 0] = True
    assert dice(one, other) == pytest.approx(4 / 7)
    assert iou(one, other) == pytest.approx(2 / 5)
    assert dice(one, one) == iou(one, one) == 1
    assert dice(one, ~one) == iou(one, ~one) == 0


def test_two_empty_masks_agree() -> None:
    empty = np.zeros((3, 3), bool)
    assert dice(empty, empty) == iou(empty, empty) == 1
    assert dice(empty, ~empty) == 0


def test_masks_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(2, 2\) and \(2, 3\)"):
        dice(np.zeros((2, 2), bool), np.zeros((2, 3), bool))


def test_the_interval_counts_people_not_images() -> None:
    rng = np.random.default_rng(0)
    of_person = rng.normal(0.9, 0.05, 20)
    values, people = np.repeat(of_person, 10), np.repeat(np.arange(20), 10)
    grouped = mean_with_interval(values, people)
    alone = mean_with_interval(values, np.arange(200))
    assert grouped["value"] == alone["value"] == pytest.approx(of_person.mean())
    assert grouped["low"] < grouped["value"] < grouped["high"]
    assert grouped["high"] - grouped["low"] > 2 * (alone["high"] - alone["low"])
    spread = of_person.std(ddof=0) / np.sqrt(20)  # of a mean of 20 resampled people
    assert grouped["high"] - grouped["low"] == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert "20 patients" in grouped["method"]
    assert grouped == mean_with_interval(values, people)


def test_few_people_are_told_and_one_has_no_interval() -> None:
    assert "too narrow" in mean_with_interval([0.8, 0.9, 1.0], ["a", "b", "c"])["method"]
    assert mean_with_interval([0.8, 0.9], ["a", "a"]) == {
        "value": pytest.approx(0.85),
        "low": None,
        "high": None,
        "method": "no interval: one patient",
    }


@pytest.mark.parametrize(("values", "message"), [([], "equally long"), ([np.nan, 1.0], "finite")])
def test_wrong_values_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_with_interval(values, list(range(len(values))))
