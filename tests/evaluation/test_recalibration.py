"""Calibration: planted distortions are found again, orders are kept, and what a stranger wrote is checked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxrlab.evaluation import calibration
from cxrlab.evaluation.recalibration import CannotFitError, Isotonic, Platt, Temperature, fit, from_dict, logit

KINDS = ("temperature", "platt", "isotonic")


def planted(n: int, seed: int, slope: float = 1.0, intercept: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and scores of which ``expit(slope logit(score) + intercept)`` is the true probability."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1.5, n)
    return (rng.random(n) < expit(truth)).astype(int), expit((truth - intercept) / slope)


def test_a_known_temperature_is_recovered() -> None:
    labels, scores = planted(20_000, 0, slope=1 / 2.5)  # logits 2.5 times too large
    found = fit("temperature", labels, scores)
    assert isinstance(found, Temperature)
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    before, after = (calibration.expected_calibration_error(labels, each) for each in (scores, found(scores)))
    assert before > 0.1
    assert after < 0.02


def test_a_known_line_is_recovered_and_finite_for_perfectly_separated_scores() -> None:
    found = fit("platt", *planted(200_000, 1, slope=1.7, intercept=-0.4))
    assert isinstance(found, Platt)
    assert found.slope == pytest.approx(1.7, rel=0.05)
    assert found.intercept == pytest.approx(-0.4, rel=0.05)
    found = fit("platt", [0] * 20 + [1] * 20, np.linspace(0, 1, 40))
    assert isinstance(found, Platt)
    assert 0 < found.slope < 100


def test_a_known_monotone_distortion_is_recovered() -> None:
    """The true probability is the cube of the score, which no line through logits is."""
    rng = np.random.default_rng(2)
    scores = rng.random(1_000_000).astype(np.float32).astype(np.float64)
    labels = (rng.random(scores.size) < scores**3).astype(int)
    at = np.linspace(0.6, 0.95, 15)
    np.testing.assert_allclose(fit("isotonic", labels, scores)(at), at**3, rtol=0.05)


def test_temperature_is_the_most_likely_one() -> None:
    labels, scores = planted(300, 3, slope=0.6)

    def likelihood(temperature: float) -> float:
        p = Temperature(temperature)(scores)
        return float(np.where(labels == 1, np.log(p), np.log1p(-p)).sum())

    found = fit("temperature", labels, scores)
    assert isinstance(found, Temperature)
    assert likelihood(found.temperature) > max(likelihood(found.temperature * factor) for factor in (0.99, 1.01))


@pytest.mark.filterwarnings("ignore:Setting penalty=None:UserWarning")  # scikit-learn 1.8 takes C=inf for it, and warns
def test_platt_against_sklearn() -> None:
    """Smoothed targets are weights: each image counts for its own class and a little for the other one."""
    labels, scores = planted(200, 4, slope=1.4, intercept=0.3)
    positive, negative = int(labels.sum()), int((1 - labels).sum())
    target = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    x = np.tile(logit(scores), 2)[:, None]
    both, weights = np.repeat([1, 0], labels.size), np.concatenate([target, 1 - target])
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, both, sample_weight=weights)
    found = fit("platt", labels, scores)
    assert isinstance(found, Platt)
    assert found.slope == pytest.approx(float(expected.coef_[0, 0]), rel=1e-4)
    assert found.intercept == pytest.approx(float(expected.intercept_[0]), abs=1e-4)


def test_isotonic_against_sklearn_and_level_outside_its_points() -> None:
    labels, scores = planted(500, 5, slope=0.5)
    expected = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores, labels)
    at = np.random.default_rng(0).random(1000)
    np.testing.assert_allclose(fit("isotonic", labels, scores)(at), expected.predict(at), atol=1e-12)
    assert Isotonic((0.2, 0.8), (0.1, 0.9))([0.0, 0.2, 0.5, 0.8, 1.0]).tolist() == pytest.approx(
        [0.1, 0.1, 0.5, 0.9, 0.9]
    )


@pytest.mark.parametrize("kind", ["temperature", "platt"])
@pytest.mark.parametrize("slope", [0.4, 1.0, 2.0])
def test_the_auroc_stays_to_the_last_bit(kind: str, slope: float) -> None:
    """Of float32 scores, as a network gives them, with some at 0 and near 1."""
    labels, scores = planted(2000, 6, slope=slope)
    scores = np.concatenate([scores, [0.0, 1e-38, 1 - 2**-24, 1.0]]).astype(np.float32).astype(np.float64)
    labels = np.concatenate([labels, [0, 0, 1, 1]])
    found = fit(kind, labels, scores)(scores)
    assert ((found >= 0) & (found <= 1)).all()
    assert roc_auc_score(labels, found) == roc_auc_score(labels, scores)
    assert not np.array_equal(found, scores)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_brings_back_the_same_bits(kind: str) -> None:
    labels, scores = planted(100, 9, slope=0.7)
    found = fit(kind, labels, scores)
    again = from_dict(json.loads(json.dumps(found.as_dict())))
    assert again == found
    assert np.array_equal(again(scores), found(scores))
    assert from_dict(None)(scores) is scores or np.array_equal(from_dict(None)(scores), scores)


@pytest.mark.parametrize(
    ("kind", "labels", "scores", "message"),
    [
        ("temperature", [1, 1, 1], [0.2, 0.5, 0.9], "all 3 images are Positive"),
        ("isotonic", [0, 0], [0.2, 0.5], "all 2 images are Negative"),
        ("temperature", [0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "right so often"),
        ("temperature", [1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], "say so little"),
        ("platt", [1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], "no higher for Positive"),
        ("platt", [0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], "are the same"),
    ],
)
def test_what_images_do_not_determine_is_said(kind: str, labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(CannotFitError, match=message):
        fit(kind, labels, scores)


@pytest.mark.parametrize(
    ("stranger", "message"),
    [
        ([1.0], "must be a dict with a kind"),
        ({"kind": ["temperature"]}, "must be a dict with a kind"),
        ({"kind": "none"}, "calibration.kind must be one of"),
        ({"kind": "temprature", "temperature": 1.0}, "did you mean 'temperature'"),
        ({"kind": "temperature"}, "must have kind, temperature"),
        ({"kind": "temperature", "temperature": 1.0, "slope": 2.0}, "must have kind, temperature"),
        ({"kind": "temperature", "temperature": 0.0}, "temperature must be a number"),
        ({"kind": "temperature", "temperature": float("nan")}, "temperature must be a number"),
        ({"kind": "temperature", "temperature": "1"}, "temperature must be a number"),
        ({"kind": "platt", "slope": -1.0, "intercept": 0.0}, "slope must be a number"),
        ({"kind": "platt", "slope": 1.0, "intercept": float("inf")}, "intercept must be a number"),
        ({"kind": "isotonic", "scores": [0.1, 0.2], "values": [0.5]}, "as many as scores"),
        ({"kind": "isotonic", "scores": [0.2, 0.1], "values": [0.1, 0.2]}, "rise strictly"),
        ({"kind": "isotonic", "scores": [0.1, 0.2], "values": [0.2, 0.1]}, "never fall"),
        ({"kind": "isotonic", "scores": [0.1, 0.2], "values": [0.2, 1.1]}, "values must be a number"),
        ({"kind": "isotonic", "scores": [], "values": []}, "a list of 1 to"),
        ({"kind": "isotonic", "scores": "0.1", "values": [0.1]}, "scores must be a list"),
    ],
)
def test_a_strangers_calibration_is_checked(stranger: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(stranger)
