"""The numbers of a shortcut battery against others' and by hand; the rules, verdict by verdict."""

from __future__ import annotations

import numpy as np
import pytest
from tests.estimates import holds

from cxrlab.evaluation import shortcuts
from cxrlab.evaluation.estimate import Estimate, Resampling
from cxrlab.evaluation.statistics import mean_auroc

LABELS = np.arange(40) % 2
PATIENTS = np.array([f"p{number // 4}-{number % 2}" for number in range(40)])  # two images each
NOISE = np.random.default_rng(0).uniform(0, 1, (3, 40))
SCORES = (0.3 * LABELS + 0.7 * NOISE).clip(0, 1)


def estimate(value: float, low: float | None, high: float | None) -> Estimate:
    return Estimate(value, low, high, "made up")


def test_what_an_alteration_does_to_scores_by_hand() -> None:
    intact = np.where(LABELS == 1, 0.9, 0.1)
    altered = np.where(LABELS == 1, 0.6, 0.1)
    altered[[1, 3]] = 0.2  # two Positives of different patients or one: decisions that change
    found = shortcuts.respond(LABELS, intact, altered, PATIENTS, threshold=0.5, how=Resampling())
    assert (found["n"], found["n_patients"]) == (40, 20)
    assert found["auroc"].value == 1
    assert found["difference"].value == 0
    assert found["flipped"].value == pytest.approx(2 / 40)
    assert holds(found["flipped"], 2 / 40)
    assert found["shift"]["Negative"].value == 0
    assert found["shift"]["Positive"].value == pytest.approx((18 * -0.3 + 2 * -0.7) / 20)


INTACT = estimate(0.9, 0.8, 0.97)


@pytest.mark.parametrize(
    ("removed", "expected"),
    [
        ({"a": estimate(0.85, 0.7, 0.95), "b": estimate(0.5, 0.4, 0.6)}, ("FAIL", "a")),
        ({"a": estimate(0.65, 0.55, 0.75), "b": estimate(0.7, 0.45, 0.9)}, ("WARN", "a")),
        ({"a": estimate(0.55, 0.45, 0.65), "b": estimate(0.5, 0.4, 0.6)}, ("PASS", "a")),
        ({"a": estimate(0.55, 0.45, 0.65), "b": estimate(0.2, 0.1, 0.3)}, ("WARN", "b")),
        ({}, ("NOT CHECKED", "")),
        ({"a": estimate(0.5, None, None)}, ("NOT CHECKED", "")),
    ],
    ids=["kept", "partly kept", "chance", "the wrong way round", "no input", "no interval"],
)
def test_the_rule_without_lungs(removed: dict[str, Estimate], expected: tuple[str, str]) -> None:
    assert shortcuts.judge_without_lungs(INTACT, removed) == expected


def test_the_lungs_alone_should_be_enough() -> None:
    assert shortcuts.judge_lungs_only(INTACT, estimate(0.8, 0.7, 0.9)) == "PASS"
    assert shortcuts.judge_lungs_only(INTACT, estimate(0.6, 0.52, 0.7)) == "WARN"
    assert shortcuts.judge_lungs_only(INTACT, estimate(0.8, 0.45, 0.9)) == "WARN"
    chance = estimate(0.6, 0.45, 0.75)
    assert shortcuts.judge_without_lungs(chance, {"a": estimate(0.9, 0.8, 1)}) == ("NOT CHECKED", "")
    assert shortcuts.judge_lungs_only(chance, INTACT) == "NOT CHECKED"


@pytest.mark.parametrize(
    ("flipped", "verdict"),
    [
        (estimate(0.3, 0.2, 0.4), "FAIL"),
        (estimate(0.3, 0.04, 0.6), "WARN"),
        (estimate(0.1, 0.06, 0.2), "WARN"),
        (estimate(0.05, 0.01, 0.2), "PASS"),
    ],
)
def test_the_rule_of_edits(flipped: Estimate, verdict: str) -> None:
    assert shortcuts.judge_flips(flipped) == verdict
    assert shortcuts.judge_flips(flipped, on_lungs=True) == ("WARN" if verdict == "FAIL" else verdict)


def test_chance_fails_no_more_often_than_stated() -> None:
    """100 made-up models that know nothing without lungs, six inputs each: the rule may err in some 5 % of them."""
    rng = np.random.default_rng(1)
    labels = np.arange(100) % 2
    ids = np.array([f"p{number // 2}-{number % 2}" for number in range(100)])
    verdicts = []
    for _ in range(100):
        scores = rng.uniform(0, 1, (6, 50)).repeat(2, axis=1)[:, np.argsort(np.argsort(ids))]
        how = Resampling(400, confidence=shortcuts.corrected(6))
        removed = {str(number): mean_auroc(labels, row, ids, how) for number, row in enumerate(scores)}
        verdicts.append(shortcuts.judge_without_lungs(INTACT, removed)[0])
    assert verdicts.count("FAIL") <= 3
    assert verdicts.count("PASS") >= 88
