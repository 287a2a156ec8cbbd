"""Means over seeds, drops and paired differences, against the statistics of single models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.estimates import holds, numbers

from cxrlab.evaluation.estimate import Estimate, Resampling
from cxrlab.evaluation.matrix import Answers, cell, drop, paired
from cxrlab.evaluation.paired import patient_bootstrap_auroc_difference
from cxrlab.evaluation.statistics import summarise

QUICK = Resampling(resamples=200)


def answers(n: int = 60, seeds: int = 1, strength: float = 1.0, seed: int = 0) -> Answers:
    """Images in pairs of one patient, scores that are higher for positives."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) // 2 % 2 == 1
    scores = 1 / (1 + np.exp(-(strength * (labels - 0.5) * 2 + rng.normal(size=(seeds, n)))))
    return Answers(labels, scores, scores >= 0.5, (np.arange(n) // 2).astype(str))


def test_one_seed_is_what_a_run_reports() -> None:
    one = answers()
    found = cell(one, QUICK)
    expected = summarise(one.labels, one.scores[0], one.patients, resamples=200)
    assert numbers(found["auroc"]) == pytest.approx(numbers(expected["auroc"]), abs=1e-12)
    assert found["sensitivity"].value == expected["sensitivity"].value
    assert found["specificity"].value == expected["specificity"].value
    assert [found[key] for key in ("n", "n_positive", "n_negative", "n_patients")] == [60, 30, 30, 30]


def test_several_seeds_are_one_mean_with_their_range() -> None:
    many = answers(seeds=3)
    found = cell(many, QUICK)["auroc"]
    singles = [summarise(many.labels, row, many.patients, resamples=100)["auroc"].value for row in many.scores]
    assert found.seeds == pytest.approx(singles)
    assert found.value == pytest.approx(np.mean(singles))
    assert "mean of 3 seeds (200 resamples, 30 patients)" in found.method
    one = answers()
    copies = Answers(one.labels, one.scores.repeat(4, axis=0), one.called.repeat(4, axis=0), one.patients)
    for metric in ("auroc", "sensitivity", "specificity"):
        expected = numbers(cell(one, QUICK)[metric])
        assert numbers(cell(copies, QUICK)[metric]) == pytest.approx(expected, abs=1e-12)
    scores, called = np.concatenate([one.scores, 1 - one.scores]), np.concatenate([one.called, ~one.called])
    opposite = cell(Answers(one.labels, scores, called, one.patients), QUICK)  # one half in every resample
    assert opposite["auroc"].method.startswith("Newcombe")
    assert opposite["sensitivity"].method.startswith("Wilson")


@pytest.mark.parametrize(
    ("chosen", "reason"), [(slice(0, 0), "no images are left"), ([0, 1], "no positive images"), ([2, 3], "no negative")]
)
def test_a_cell_without_both_labels_is_undefined(chosen: Any, reason: str) -> None:
    found = cell(answers().take(np.arange(60)[chosen]), QUICK)
    assert reason in found["undefined"]
    assert found["auroc"].value is None
    assert reason in found["auroc"].method
    assert drop(cell(answers(), QUICK)["auroc"], found["auroc"]).value is None


def test_a_perfect_score_has_an_interval() -> None:
    labels = np.arange(20) < 10
    perfect = Answers(labels, labels[None].astype(float), labels[None], np.arange(20))
    found = cell(perfect, QUICK)
    assert found["auroc"].value == found["auroc"].high == 1.0
    assert found["auroc"].low < 0.9
    assert found["auroc"].method.startswith("Newcombe")
    assert found["sensitivity"].method.startswith("Wilson 95 % (10 patients")
    assert found["sensitivity"].low == pytest.approx(0.722, abs=1e-3)


def test_a_drop_is_internal_less_external_with_both_widths() -> None:
    inside = cell(answers(200, seeds=2, strength=2.0), QUICK)["auroc"]
    outside = cell(answers(300, seeds=2, strength=0.0, seed=1), QUICK)["auroc"]
    found = drop(inside, outside)
    assert found.value == pytest.approx(inside.value - outside.value)
    value, low, high = numbers(found)
    assert 0 < low < value < high
    assert numbers(drop(outside, inside)) == pytest.approx((-value, -high, -low))
    perfect = Estimate(1.0, 0.84, 1.0, "Newcombe")
    other = Estimate(0.7, 0.6, 0.79, "bootstrap; only 9 patients: interval too narrow")
    found = drop(perfect, other)
    assert found.low == pytest.approx(0.3 - np.hypot(0.16, 0.09))
    assert found.high == pytest.approx(0.3 + 0.1)
    assert "too narrow" in found.method


def test_the_interval_of_a_drop_holds_the_truth_as_often_as_it_says() -> None:
    places = [(answers(120, seed=k), answers(160, seed=1000 + k)) for k in range(60)]
    drawn = [drop(cell(one, QUICK)["auroc"], cell(other, QUICK)["auroc"]) for one, other in places]
    held = sum(holds(each, 0) for each in drawn)
    assert held >= 51  # 60 at 95 %: fewer than 51 in one of 10,000


def test_a_paired_difference_is_that_of_single_models() -> None:
    one, other = answers(80, strength=1.5), answers(80, strength=0.5, seed=1)
    found = paired(one, other, QUICK)
    expected = patient_bootstrap_auroc_difference(
        one.labels.astype(int), one.scores[0], other.scores[0], one.patients, QUICK
    )
    assert found.value == pytest.approx(expected.value)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    same = paired(one, one, QUICK)
    assert same.value == 0
    assert same.low is None


def test_shapes_and_ranges_are_checked() -> None:
    good = answers()
    with pytest.raises(ValueError, match="labels must be boolean"):
        Answers(good.labels.astype(int), good.scores, good.called, good.patients)
    with pytest.raises(ValueError, match=r"scores must have shape \(seeds, 60\)"):
        Answers(good.labels, good.scores[0], good.called, good.patients)
    with pytest.raises(ValueError, match="patients must have shape"):
        Answers(good.labels, good.scores, good.called, good.patients[:3])
    with pytest.raises(ValueError, match="same images"):
        paired(answers(60), answers(40), QUICK)
