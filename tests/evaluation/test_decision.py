"""What is asked for, what comes of it on validation images, and what travels with the weights."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from cxrlab.evaluation.decision import FIXED, Decided, Decision, consequences
from cxrlab.evaluation.estimate import revived
from cxrlab.evaluation.recalibration import Temperature

N = 400
IDS = [f"p{i // 2}" for i in range(N)]


def planted(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores whose logits are twice too large."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, N)
    return (rng.random(N) < expit(truth)).astype(int), expit(2 * truth)


def test_the_default_changes_nothing() -> None:
    labels, scores = planted()
    assert not Decision().needs_validation
    assert Decision().fit(labels, scores, IDS) == FIXED
    assert FIXED.calibration(scores).tolist() == scores.tolist()
    assert (FIXED.threshold, FIXED.as_dict()["calibration"], FIXED.warnings()) == (0.5, None, [])


def test_rules_and_numbers_are_applied_to_calibrated_probabilities() -> None:
    labels, scores = planted()
    decided = Decision("temperature", "sensitivity", sensitivity=0.9).fit(labels, scores, IDS)
    assert isinstance(decided.calibration, Temperature)
    assert decided.calibration.temperature == pytest.approx(2, rel=0.3)
    called = decided.calibration(scores) >= decided.threshold
    assert 0.9 <= called[labels == 1].mean() < 0.91
    assert decided.rule == "highest with a sensitivity of at least 0.9 on the validation images"
    assert decided.fitted_on is not None
    assert (decided.fitted_on["images"], decided.fitted_on["patients"]) == (N, 200)
    assert decided.fitted_on["threshold_low"] <= decided.threshold <= decided.fitted_on["threshold_high"]
    decided = Decision("platt", 0.3, prevalence=0.1).fit(*planted(), IDS)
    assert (decided.threshold, decided.calibrated, decided.prevalence) == (0.3, True, 0.1)
    assert decided.fitted_on is not None
    assert decided.fitted_on["threshold_low"] is None


def test_few_validation_images_are_a_warning() -> None:
    labels, scores = planted()
    few = Decision("temperature", "youden").fit(labels[:60], scores[:60], IDS[:60])
    assert few.warnings()[0].startswith("calibration and threshold were fitted on few validation images: 60, of ")
    many = [f"p{i}" for i in range(N)]
    assert Decision("temperature", "youden").fit(labels, scores, many).warnings() == []
    only = Decision("temperature").fit(labels[:60], scores[:60], IDS[:60])
    assert only.warnings()[0].startswith("calibration was fitted")


def test_what_cannot_be_fitted_is_left_out_and_told() -> None:
    decided = Decision("isotonic", "youden").fit([1, 1], [0.2, 0.7], ["a", "b"])
    assert (decided.calibrated, decided.threshold) == (False, 0.5)
    assert decided.warnings() == [
        "no calibration or threshold was fitted: all 2 validation images are Positive; images are called at 0.5"
    ]
    labels = np.arange(40) % 2
    decided = Decision("temperature", "youden").fit(labels, 0.2 + 0.5 * labels, IDS[:40])
    assert not decided.calibrated
    assert decided.threshold == pytest.approx(0.45)
    assert decided.warnings()[0].startswith("no calibration (temperature) was fitted to the validation images: their")


@pytest.mark.parametrize(
    "decision", [Decision(), Decision("isotonic", "cost", cost=5, prevalence=0.2), Decision("platt")]
)
def test_a_decision_travels_as_plain_values(decision: Decision) -> None:
    decided = decision.fit(*planted(), IDS)
    again = Decided.from_dict(json.loads(json.dumps(decided.as_dict())))
    assert again == decided
    assert Decided.from_dict({"threshold": 0.5, "model": {}}) == FIXED  # of an older run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 1.5}, "threshold must be a number in"),
        ({"threshold": None}, "threshold must be a number in"),
        ({"threshold_rule": 3}, "threshold_rule must be a text"),
        ({"prevalence": 0.0}, "prevalence must be a number in"),
        ({"calibration": {"kind": "temperature", "temperature": -1}}, "temperature must be"),
        ({"fitted_on": {"images": 3}}, "fitted_on must hold images, patients"),
        ({"fitted_on": "many"}, "fitted_on must hold"),
    ],
)
def test_a_strangers_decision_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Decided.from_dict(FIXED.as_dict() | changes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"calibration": "temp"}, "calibration must be one of none, temperature, platt, isotonic"),
        (
            {"threshold": "yuden"},
            "threshold must be one of youden, sensitivity, cost, got 'yuden'; did you mean 'youden'",
        ),
        ({"threshold": 1.0}, r"threshold must be a number in \(0, 1\)"),
        ({"sensitivity": 0}, "sensitivity must be"),
        ({"cost": 0}, "cost must be"),
        ({"prevalence": 1}, "prevalence must be"),
    ],
)
def test_what_is_asked_for_is_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Decision(**wrong)


def test_consequences() -> None:
    labels, scores = planted()
    decided = Decision("temperature", prevalence=0.05).fit(labels, scores, IDS)
    found = consequences(decided, labels, scores, IDS)
    assert found["calibrated"]["ece"].value < found["uncalibrated"]["ece"].value
    assert found["calibrated"]["brier"].value < found["uncalibrated"]["brier"].value
    assert found["ppv"].value < 0.4
    assert found["npv"].value > 0.95
    assert revived(json.loads(json.dumps(found, default=asdict))) == found
    plain = consequences(FIXED, labels, scores, IDS)
    assert (plain["calibrated"], plain["ppv"]) == (None, None)
