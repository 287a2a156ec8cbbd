"""Thresholds by rule against a search over all of them; predictive values against counts; net benefit by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_curve
from tests.estimates import holds, numbers
from tests.estimates import width as width_of

from cxrlab import figures
from cxrlab.evaluation.estimate import Resampling
from cxrlab.evaluation.thresholds import choose, decision_curve, predictive_values, useful_thresholds

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
    assert 0.01 < width_of(found) < 0.5
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


def test_a_threshold_lies_between_two_scores_of_both_classes() -> None:
    found = choose("youden", [0, 0, 1, 1], [0.1, 0.3, 0.7, 0.9], list("abcd"))
    assert found.value == pytest.approx(0.5)
    extremes = choose("sensitivity", [1, 0, 1], [0.0, 0.5, 1.0], list("abc"), sensitivity=1.0)
    assert extremes.value == 0.0
    with pytest.raises(ValueError, match="both classes, got 2 Positive of 2"):
        choose("youden", [1, 1], [0.2, 0.4], ["a", "b"])


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


IDS = [f"p{i}" for i in range(200)]


def drawn(seed: int, informative: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.beta(1, 1, 200)
    return (rng.random(200) < (scores if informative else 0.5)).astype(int), scores


def test_net_benefit_by_hand() -> None:
    curve = decision_curve([1, 1, 0, 0, 0], [0.9, 0.15, 0.5, 0.3, 0.1], list("abcde"))
    at = {round(t, 2): value for t, value in zip(curve["thresholds"], curve["model"], strict=True)}
    assert at[0.2] == pytest.approx(1 / 5 - 2 / 5 * 0.25)  # one hit, two false alarms
    assert at[0.05] == pytest.approx(2 / 5 - 3 / 5 * 0.05 / 0.95)  # everybody
    assert at[0.95] == 0  # nobody
    everybody = dict(zip(curve["thresholds"], curve["treat_all"], strict=True))
    assert everybody[0.05] == pytest.approx(at[0.05])
    assert everybody[0.4] == pytest.approx(0)  # at the prevalence, treating everybody is worth nothing
    assert curve["prevalence"] == 0.4
    assert decision_curve([0, 0], [0.2, 0.6], ["a", "b"])["treat_all"][49] == pytest.approx(-1)


def test_a_perfect_score_has_the_prevalence_as_its_net_benefit() -> None:
    labels = np.arange(200) % 2
    curve = decision_curve(labels, labels.astype(float), IDS)
    assert curve["model"] == pytest.approx([0.5] * 99)
    # At the ends, treating everybody or nobody costs no more than one wrong patient would.
    assert useful_thresholds(curve) == pytest.approx([at / 100 for at in range(2, 99)])
    few = decision_curve([0, 1], [0.1, 0.9], ["a", "b"])
    assert useful_thresholds(few) == []
    many = decision_curve([0, 1] * 40, [0.1, 0.9] * 40, list(map(str, range(80))))
    assert 0.5 in (useful_thresholds(many) or [])


def test_the_band_holds_the_curve_and_is_plain() -> None:
    curve = decision_curve(*drawn(0, informative=True), IDS)
    low, value, high = (np.array(curve[name]) for name in ("low", "model", "high"))
    assert (low <= value + 1e-12).all()
    assert (value <= high + 1e-12).all()
    assert json.loads(json.dumps(curve)) == curve
    again = decision_curve(*drawn(0, informative=True), IDS)
    assert curve == again


def test_only_an_informative_score_is_of_use() -> None:
    useful = useful_thresholds(decision_curve(*drawn(1, informative=True), IDS))
    assert useful
    assert useful[0] < 0.5 < useful[-1]
    assert useful_thresholds(decision_curve(*drawn(1, informative=False), IDS)) == []
    assert useful_thresholds({"thresholds": [0.5]}) is None


def test_looking_at_99_thresholds_finds_no_more_by_chance_than_looking_at_one() -> None:
    found = pointwise = 0
    for seed in range(60):
        curve = decision_curve(*drawn(100 + seed, informative=False), IDS, how=Resampling(200))
        found += bool(useful_thresholds(curve))
        low, others = np.array(curve["low"]), np.maximum(np.array(curve["treat_all"]), 0)
        pointwise += bool((low > others).any())
    assert found <= 3  # 5 % of 60
    assert pointwise > found


def test_the_figure_names_what_it_draws() -> None:
    drawn_figure = figures.decision_curve(decision_curve(*drawn(2, informative=True), IDS), 0.4, "Test: decision curve")
    axes = drawn_figure.axes[0]
    names = [text.get_text() for text in drawn_figure.legends[0].get_texts()]
    assert {"treat nobody", "treat everybody", "act on the score", "threshold 0.4"} <= set(names)
    assert "% Positive" in axes.get_title()
    assert axes.get_ylim()[0] > -0.2
