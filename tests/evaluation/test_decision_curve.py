"""Net benefit by hand and by its limits, and the figure."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cxrlab import figures
from cxrlab.evaluation.decision_curve import decision_curve, useful_thresholds
from cxrlab.evaluation.estimate import Resampling

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


def test_a_perfect_score_has_the_prevalence_as_its_net_benefit() -> None:
    labels = np.arange(200) % 2
    curve = decision_curve(labels, labels.astype(float), IDS)
    assert curve["model"] == pytest.approx([0.5] * 99)
    # At the ends, treating everybody or nobody costs no more than one wrong patient would.
    assert useful_thresholds(curve) == pytest.approx([at / 100 for at in range(2, 99)])


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


def test_a_perfect_score_of_few_patients_is_no_proof() -> None:
    few = decision_curve([0, 1], [0.1, 0.9], ["a", "b"])
    assert useful_thresholds(few) == []
    many = decision_curve([0, 1] * 40, [0.1, 0.9] * 40, list(map(str, range(80))))
    assert 0.5 in (useful_thresholds(many) or [])


def test_one_class_is_no_crash() -> None:
    assert decision_curve([0, 0], [0.2, 0.6], ["a", "b"])["treat_all"][49] == pytest.approx(-1)


def test_the_figure_names_what_it_draws() -> None:
    drawn_figure = figures.decision_curve(decision_curve(*drawn(2, informative=True), IDS), 0.4, "Test: decision curve")
    axes = drawn_figure.axes[0]
    names = [text.get_text() for text in drawn_figure.legends[0].get_texts()]
    assert {"treat nobody", "treat everybody", "act on the score", "threshold 0.4"} <= set(names)
    assert "% Positive" in axes.get_title()
    assert axes.get_ylim()[0] > -0.2
