"""Values against scikit-learn, scipy, statsmodels, published numbers and simulation; clusters; degenerate cases."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from cxrlab.evaluation.estimate import Estimate, revived, wilson
from cxrlab.evaluation.statistics import METRICS, newcombe_auroc, summarise, weighted_auroc, weighted_average_precision


def noisy(n: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(int)
    scores = norm.cdf(rng.normal(1.2 * labels, 1))
    return labels, np.round(scores, 1) if ties else scores


def each(n: int) -> list[str]:
    return [f"p{i}" for i in range(n)]


def bounds(estimate: Estimate) -> tuple[Any, Any]:
    return estimate.low, estimate.high


@pytest.mark.parametrize(("auroc", "m", "n"), [(0.3, 4, 9), (0.9, 20, 20), (0.975, 9, 20), (1.0, 9, 20), (0.0, 1, 1)])
def test_newcombe_limits_solve_the_score_equation(auroc: float, m: int, n: int) -> None:
    """The variance written out by hand as Hanley and McNeil (1982) have it, with both m - 1 and n - 1 set to N."""
    low, high = newcombe_auroc(auroc, m, n)
    assert 0 <= low <= auroc <= high <= 1
    assert low < high
    extra = (m + n) / 2 - 1
    for t in {low, high} - {0.0, 1.0}:
        q1, q2 = t / (2 - t), 2 * t * t / (1 + t)
        variance = (t * (1 - t) + extra * (q1 - t * t) + extra * (q2 - t * t)) / (m * n)
        assert abs(auroc - t) == pytest.approx(norm.ppf(0.975) * np.sqrt(variance), rel=1e-6)


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_curves_against_sklearn(ties: bool) -> None:
    labels, scores = noisy(60, 3, ties)
    weights = np.random.default_rng(0).poisson(1.0, (20, 60)).astype(float)
    aurocs = weighted_auroc(labels.astype(bool), scores, weights)
    precisions = weighted_average_precision(labels.astype(bool), scores, weights)
    for row, auroc, precision in zip(weights, aurocs, precisions, strict=True):
        assert auroc == pytest.approx(roc_auc_score(labels, scores, sample_weight=row), abs=1e-12)
        assert precision == pytest.approx(average_precision_score(labels, scores, sample_weight=row), abs=1e-12)


def test_values_against_sklearn() -> None:
    labels, scores = noisy(120, 5, ties=True)
    found = summarise(labels, scores, each(120), threshold=0.6, resamples=100)
    called = scores >= 0.6
    expected = {
        "accuracy": accuracy_score(labels, called),
        "sensitivity": recall_score(labels, called),
        "specificity": recall_score(labels, called, pos_label=0),
        "ppv": precision_score(labels, called),
        "npv": precision_score(labels, called, pos_label=0),
        "f1": f1_score(labels, called),
        "auroc": roc_auc_score(labels, scores),
        "ap": average_precision_score(labels, scores),
    }
    assert {name: found[name].value for name in METRICS} == pytest.approx(expected, abs=1e-12)
    (tn, fp), (fn, tp) = found["confusion_matrix"]
    assert (tn + fp, fn + tp) == (found["n_negative"], found["n_positive"]) == (80, 40)
    assert (tp, fp) == (int((called & (labels == 1)).sum()), int((called & (labels == 0)).sum()))


def test_the_papers_result() -> None:
    scores = [0.1] * 20 + [0.9] * 19 + [0.05]
    found = summarise([0] * 20 + [1] * 20, scores, each(40), resamples=300)
    assert found["confusion_matrix"] == [[20, 0], [1, 19]]
    assert bounds(found["accuracy"]) == pytest.approx((0.871, 0.996), abs=5e-4)
    assert found["accuracy"].method == "Wilson 95 %"
    assert summarise([1, 0], [0.5, 0.4], each(2))["confusion_matrix"] == [[1, 0], [0, 1]]  # Positive from 0.5 on
    assert found["specificity"].high == 1.0
    assert found["auroc"].method == "patient bootstrap 95 % (300 resamples, 40 patients)"


def test_plain_json_and_repeatable() -> None:
    labels, scores = noisy(50, 0)
    first = summarise(labels, scores, each(50), resamples=200, seed=4)
    assert revived(json.loads(json.dumps(first, allow_nan=False, default=asdict))) == first
    assert first == summarise(labels, scores, each(50), resamples=200, seed=4)
    assert bounds(first["auroc"]) != bounds(summarise(labels, scores, each(50), resamples=200, seed=5)["auroc"])


def test_resampled_intervals_count_patients_not_images() -> None:
    """Four copies of every image, of the same patient, leave them as they are."""
    labels, scores = noisy(40, 1)
    once = summarise(labels, scores, each(40), resamples=200)
    copies = summarise(*(np.repeat(values, 4) for values in (labels, scores, each(40))), resamples=200)
    for name in ("f1", "auroc", "ap"):
        assert bounds(copies[name]) == pytest.approx(bounds(once[name]))
    warning = "160 images of 40 patients taken as independent: interval too narrow"
    assert (once["accuracy"].method, copies["accuracy"].method) == ("Wilson 95 %", f"Wilson 95 % ({warning})")
    assert copies["n_patients"] == 40


def test_perfect_scores_keep_a_width() -> None:
    """9 positive and 20 negative patients, all right: nothing may read [1, 1]."""
    patients = [f"n{i}" for i in range(20)] + [f"p{i % 9}" for i in range(20)]
    found = summarise([0] * 20 + [1] * 20, [0.1] * 20 + [0.9] * 20, patients, resamples=200)
    for name in METRICS:
        assert found[name].value == found[name].high == 1.0
        assert found[name].low < 0.95
    assert bounds(found["auroc"]) == pytest.approx(newcombe_auroc(1.0, 9, 20))
    assert "Newcombe score 95 % (9 positive, 20 negative patients" in found["auroc"].method
    lower = wilson(9, 9)[0]
    assert found["ap"].low == pytest.approx(lower)
    assert found["f1"].low == pytest.approx(2 * lower / (1 + lower))
    found = summarise([1], [0.9], ["a"], resamples=100)
    assert bounds(found["sensitivity"]) == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert found["f1"].low < 0.5


def test_worst_and_constant_scores_keep_a_width_or_say_so() -> None:
    found = summarise([0] * 10 + [1] * 10, [0.9] * 10 + [0.1] * 10, each(20), resamples=200)
    assert bounds(found["auroc"]) == pytest.approx(newcombe_auroc(0.0, 10, 10))
    assert found["f1"].value == found["f1"].low == 0.0
    assert 0.1 < found["f1"].high < 0.5
    assert bounds(found["ap"]) == (None, None)
    assert found["ap"].method.startswith("no interval")
    found = summarise([0] * 10 + [1] * 10, [0.5] * 20, each(20), resamples=200)
    assert found["auroc"].value == 0.5
    assert found["auroc"].low < 0.4
    assert found["auroc"].high > 0.6
    assert found["npv"] == Estimate.undefined("no predicted negatives")


@pytest.mark.parametrize(("label", "missing"), [(1, "negative"), (0, "positive")])
def test_one_class_only(label: int, missing: str) -> None:
    found = summarise([label] * 6, [0.2, 0.4, 0.6, 0.7, 0.8, 0.9], each(6), resamples=100)
    for name in ("auroc", "ap", "specificity" if label else "sensitivity"):
        assert found[name] == Estimate.undefined(f"no {missing} images")
    assert found["accuracy"].value is not None
    assert (found["f1"].value is None) == (label == 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0.1], ["a", "b"]), "equally long, got 2 labels, 1 scores and 2 patients"),
        (([], [], []), "must not be empty"),
        (([0, 2], [0.1, 0.2], ["a", "b"]), r"labels must be 0 \(Negative\) or 1 \(Positive\), got 2"),
        (([0, np.nan], [0.1, 0.2], ["a", "b"]), "labels must be .* got nan"),
        (([0, 1], [0.1, np.nan], ["a", "b"]), "scores must be finite .* got nan at position 1"),
        (([0, 1], [0.1, np.inf], ["a", "b"]), "scores must be finite"),
        (([0, 1], [-0.1, 4.0], ["a", "b"]), r"got -0.1 at position 0 \(2 of 2 are wrong\)"),
        (([0, 1], ["x", "y"], ["a", "b"]), "scores must be numbers"),
        (([0, 1], [0.1, 0.2], ["a", None]), "patients must hold .* got 1 missing"),
        (([0, 1], [0.1, 0.2], ["a", ""]), "patients must hold"),
        (([0, 1], [0.1, 0.2], ["a", float("nan")]), "patients must hold"),
        (([[0, 1]], [0.1, 0.2], ["a", "b"]), "labels must have one dimension"),
    ],
)
def test_wrong_arrays_are_named(arguments: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(*arguments)


def test_a_wrong_threshold_is_named() -> None:
    with pytest.raises(ValueError, match="threshold must be"):
        summarise([0, 1], [0.1, 0.9], ["a", "b"], threshold=1.5)


def test_a_higher_confidence_is_a_wider_interval() -> None:
    labels, scores = noisy(60, 1)
    narrow, wide = (summarise(labels, scores, each(60), resamples=200, confidence=level) for level in (0.9, 0.99))
    for name in METRICS:
        assert wide[name].low < narrow[name].low < narrow[name].high < wide[name].high
