"""Thresholds by rule against a search over all of them, and predictive values against counts and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_curve
from tests.estimates import holds, numbers
from tests.estimates import width as width_of

from cxrlab.evaluation.thresholds import choose, predictive_values

RNG = np.random.default_rng(0)
LABELS = np.repeat([0, 1], [60, 40])
SCORES = np.clip(0.35 + 0.25 * LABELS + RNG.normal(0, 0.18, 100), 0, 1).round(2)
PATIENTS = [f"p{i // 2}" for i in range(100)]


def rates(threshold: float) -> tuple[float, float]:
    called = threshold <= SCORES
    return float(called[LABELS == 1].mean()), float((~called)[LABELS == 0].mean())


def test_youden_against_sklearn() -> None:
    found = choose("youden", LABELS, SCORES, PATIENTS)
    wrong, right, _ = roc_curve(LABELS, SCORES, drop_intermediate=False)
    assert sum(rates(numbers(found)[0])) - 1 == pytest.approx(float((right - wrong).max()))
    assert holds(found, numbers(found)[0])
    assert "patient bootstrap 95 %" in found.method


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
def test_a_fixed_sensitivity_is_reached_by_the_highest_threshold(wanted: float) -> None:
    value = choose("sensitivity", LABELS, SCORES, PATIENTS, sensitivity=wanted).value
    assert value is not None
    assert rates(value)[0] >= wanted
    next_higher = SCORES[value <= SCORES].min() + 1e-9
    assert rates(next_higher)[0] < wanted


@pytest.mark.parametrize(("cost", "prevalence"), [(1, 0.4), (10, None), (1, 0.01), (50, 0.3)])
def test_no_threshold_costs_less(cost: float, prevalence: float | None) -> None:
    share = prevalence or 0.4

    def price(threshold: float) -> float:
        sensitivity, specificity = rates(threshold)
        return share * cost * (1 - sensitivity) + (1 - share) * (1 - specificity)

    value = choose("cost", LABELS, SCORES, PATIENTS, cost=cost, prevalence=prevalence).value
    assert value is not None
    assert price(value) == pytest.approx(min(price(each) for each in np.linspace(0, 1, 2001)))


def test_what_is_missed_dearly_lowers_the_threshold() -> None:
    cheap, dear = (numbers(choose("cost", LABELS, SCORES, PATIENTS, cost=cost))[0] for cost in (0.2, 20))
    assert dear < cheap


def test_a_threshold_lies_between_two_scores() -> None:
    found = choose("youden", [0, 0, 1, 1], [0.1, 0.3, 0.7, 0.9], list("abcd"))
    assert found.value == pytest.approx(0.5)
    extremes = choose("sensitivity", [1, 0, 1], [0.0, 0.5, 1.0], list("abc"), sensitivity=1.0)
    assert extremes.value == 0.0


def test_the_interval_gets_narrower_with_more_patients() -> None:
    def width(n: int) -> float:
        rng = np.random.default_rng(1)
        labels = np.arange(n) % 2
        scores = np.clip(0.35 + 0.3 * labels + rng.normal(0, 0.15, n), 0, 1)
        return width_of(choose("youden", labels, scores, [f"p{i}" for i in range(n)]))

    assert width(4000) < 0.6 * width(60)


def test_one_class_has_no_threshold() -> None:
    with pytest.raises(ValueError, match="both classes, got 2 Positive of 2"):
        choose("youden", [1, 1], [0.2, 0.4], ["a", "b"])


def test_predictive_values_are_counts_where_the_prevalence_is_the_images_own() -> None:
    called = SCORES >= 0.5
    found = predictive_values(LABELS, called, PATIENTS, 0.4)
    assert found["ppv"].value == pytest.approx(LABELS[called].mean())
    assert found["npv"].value == pytest.approx((1 - LABELS[~called]).mean())


def test_predictive_values_by_hand() -> None:
    """Sensitivity 0.9, specificity 0.8, at 1 %: PPV 0.009 / 0.207."""
    labels = np.repeat([1, 0], 10)
    called = np.array([1] * 9 + [0] + [1] * 2 + [0] * 8)
    found = predictive_values(labels, called, [f"p{i}" for i in range(20)], 0.01)
    assert found["ppv"].value == pytest.approx(0.009 / (0.009 + 0.99 * 0.2))
    assert found["npv"].value == pytest.approx(0.99 * 0.8 / (0.99 * 0.8 + 0.001))
    for estimate in found.values():
        value, low, high = numbers(estimate)
        assert low < value < high


def test_the_interval_of_a_ppv_holds_the_truth() -> None:
    rng, hits = np.random.default_rng(2), 0
    truth = 0.1 * 0.85 / (0.1 * 0.85 + 0.9 * 0.1)
    labels, ids = np.repeat([1, 0], [50, 80]), [f"p{i}" for i in range(130)]
    for _ in range(400):
        called = rng.random(130) < np.where(labels == 1, 0.85, 0.1)
        found = predictive_values(labels, called, ids, 0.1)["ppv"]
        hits += holds(found, truth)
    assert 0.92 <= hits / 400 <= 0.99


def test_images_of_one_patient_do_not_narrow_an_interval() -> None:
    labels = np.repeat([1, 1, 0, 0], 10)
    called = np.repeat([1, 0, 1, 0], [18, 2, 4, 16])
    own = predictive_values(labels, called, [f"p{i}" for i in range(40)], 0.2)["ppv"]
    shared = predictive_values(labels, called, [f"p{i // 5}" for i in range(40)], 0.2)["ppv"]
    assert shared.value == own.value
    assert width_of(shared) > width_of(own)


def test_perfect_and_undefined_predictive_values() -> None:
    labels, ids = [1, 1, 0, 0], list("abcd")
    perfect = predictive_values(labels, labels, ids, 0.1)["ppv"]
    assert perfect.value == perfect.high == 1
    assert numbers(perfect)[1] < 0.5
    nobody = predictive_values(labels, [0, 0, 0, 0], ids, 0.1)
    assert nobody["ppv"].value is None
    assert nobody["npv"].value == pytest.approx(0.9)
    assert predictive_values([1, 1], [0, 1], ["a", "b"], 0.1)["npv"].method == "undefined: all images are Positive"
