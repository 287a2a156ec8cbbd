"""Values against scikit-learn, scipy, statsmodels, published numbers and simulation; clusters; degenerate cases."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
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
from tests.estimates import numbers

from cxrlab.evaluation.estimate import Estimate, Resampling, revived, wilson
from cxrlab.evaluation.statistics import (
    METRICS,
    mean_auroc,
    newcombe_auroc,
    summarise,
    weighted_auroc,
    weighted_average_precision,
)


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


def test_newcombe_is_symmetric_and_shrinks() -> None:
    low, high = newcombe_auroc(0.9, 10, 30)
    assert newcombe_auroc(0.1, 30, 10) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    lows = [newcombe_auroc(1.0, n, n)[0] for n in (5, 20, 80, 320)]
    assert lows == sorted(lows)
    assert newcombe_auroc(1.0, 20, 20)[1] == 1.0


def test_newcombe_covers_near_the_end() -> None:
    """True AUROC 0.95, 15 + 25 patients: about 95 % of the intervals hold it."""
    rng = np.random.default_rng(1)
    true, labels = 0.95, np.repeat([True, False], [15, 25])
    shift = norm.ppf(true) * np.sqrt(2)
    found = [weighted_auroc(labels, rng.normal(shift * labels), np.ones((1, 40)))[0] for _ in range(400)]
    intervals = [newcombe_auroc(float(value), 15, 25) for value in found]
    assert 0.92 <= np.mean([low <= true <= high for low, high in intervals]) <= 1.0


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
    assert found["specificity"].high == 1.0
    assert found["auroc"].method == "patient bootstrap 95 % (300 resamples, 40 patients)"


def test_score_at_the_threshold_is_positive() -> None:
    found = summarise([1, 0], [0.5, 0.4], each(2), resamples=100)
    assert found["confusion_matrix"] == [[1, 0], [0, 1]]


def test_plain_json_and_repeatable() -> None:
    labels, scores = noisy(50, 0)
    first = summarise(labels, scores, each(50), resamples=200, seed=4)
    assert revived(json.loads(json.dumps(first, allow_nan=False, default=asdict))) == first
    assert first == summarise(labels, scores, each(50), resamples=200, seed=4)
    assert bounds(first["auroc"]) != bounds(summarise(labels, scores, each(50), resamples=200, seed=5)["auroc"])


def test_input_kinds_make_no_difference() -> None:
    labels, scores = noisy(50, 0)
    table = pd.DataFrame({"label": labels, "score": scores, "patient_id": each(50)})
    assert summarise(table["label"], table["score"], table["patient_id"], resamples=100) == summarise(
        labels.astype(bool), scores.tolist(), np.array(each(50)), resamples=100
    )


def test_bootstrap_against_a_plain_loop() -> None:
    """The same bootstrap written the slow way agrees within resampling error."""
    labels, scores = noisy(60, 2)
    groups = np.arange(60) // 2 * 3 + np.where(labels == 1, 1, 0)
    found = summarise(labels, scores, groups.astype(str), resamples=3000)["auroc"]
    rng = np.random.default_rng(9)
    strata = [np.unique(groups[labels == label]) for label in (0, 1)]
    slow = []
    for _ in range(1500):
        drawn = np.concatenate([rng.choice(stratum, stratum.size) for stratum in strata])
        rows = np.concatenate([np.flatnonzero(groups == group) for group in drawn])
        slow.append(roc_auc_score(labels[rows], scores[rows]))
    assert bounds(found) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.015)


def test_coverage_of_the_patient_bootstrap() -> None:
    """Two correlated images per patient, true AUROC 0.80: intervals by patient cover, by image they do not."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    patients = np.repeat(np.arange(40), 3).astype(str)
    shift = norm.ppf(0.8) * np.sqrt(2)
    covered = {"patients": 0, "images": 0}
    for _ in range(150):
        latent = np.sqrt(0.9) * np.repeat(rng.normal(size=40), 3) + np.sqrt(0.1) * rng.normal(size=120)
        scores = norm.cdf(latent + shift * labels)
        for name, ids in (("patients", patients), ("images", each(120))):
            low, high = bounds(summarise(labels, scores, ids, resamples=200)["auroc"])
            covered[name] += low <= 0.8 <= high
    assert covered["patients"] / 150 >= 0.88
    assert covered["images"] / 150 <= 0.82


def test_clustered_patients_give_wider_intervals() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 60)
    scores = norm.cdf(np.repeat(rng.normal(size=30), 4) + labels)
    apart = summarise(labels, scores, each(120), resamples=500)
    together = summarise(labels, scores, np.repeat(np.arange(30), 4).astype(str), resamples=500)
    for name in ("f1", "auroc", "ap"):
        assert np.diff(bounds(together[name])) > 1.4 * np.diff(bounds(apart[name]))
    assert apart["accuracy"].method == "Wilson 95 %"
    assert (
        together["accuracy"].method
        == "Wilson 95 % (120 images of 30 patients taken as independent: interval too narrow)"
    )
    assert together["n_patients"] == 30


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


def test_worst_scores_keep_a_width_or_say_so() -> None:
    found = summarise([0] * 10 + [1] * 10, [0.9] * 10 + [0.1] * 10, each(20), resamples=200)
    assert bounds(found["auroc"]) == pytest.approx(newcombe_auroc(0.0, 10, 10))
    assert found["f1"].value == found["f1"].low == 0.0
    assert 0.1 < found["f1"].high < 0.5
    assert bounds(found["ap"]) == (None, None)
    assert found["ap"].method.startswith("no interval")


def test_constant_scores() -> None:
    found = summarise([0] * 10 + [1] * 10, [0.5] * 20, each(20), resamples=200)
    assert found["auroc"].value == 0.5
    assert found["auroc"].low < 0.4
    assert found["auroc"].high > 0.6
    assert found["npv"] == Estimate.undefined("no predicted negatives")


def test_few_patients_are_said_to_be_few() -> None:
    labels, scores = noisy(12, 0)
    assert (
        "only 4 positive and 8 negative patients: interval too narrow"
        in summarise(labels, scores, each(12))["auroc"].method
    )


@pytest.mark.parametrize(("label", "missing"), [(1, "negative"), (0, "positive")])
def test_one_class_only(label: int, missing: str) -> None:
    found = summarise([label] * 6, [0.2, 0.4, 0.6, 0.7, 0.8, 0.9], each(6), resamples=100)
    for name in ("auroc", "ap", "specificity" if label else "sensitivity"):
        assert found[name] == Estimate.undefined(f"no {missing} images")
    assert found["accuracy"].value is not None
    assert (found["f1"].value is None) == (label == 0)


def test_one_image() -> None:
    found = summarise([1], [0.9], ["a"], resamples=100)
    assert bounds(found["sensitivity"]) == pytest.approx((0.2065, 1.0), abs=1e-4)
    assert found["f1"].low < 0.5


def test_large_sets_are_quick() -> None:
    labels, scores = noisy(5000, 0)
    start = time.perf_counter()
    summarise(labels, scores, each(5000), resamples=2000)
    assert time.perf_counter() - start < 15


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


@pytest.mark.parametrize(
    ("name", "value"), [("threshold", 1.5), ("resamples", 10), ("seed", -1), ("confidence", 1.0), ("confidence", 0.0)]
)
def test_wrong_options_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        summarise([0, 1], [0.1, 0.9], ["a", "b"], **{name: value})  # type: ignore[arg-type]


SEVERAL_LABELS = np.arange(40) % 2
IN_PAIRS = np.array([f"p{number // 4}-{number % 2}" for number in range(40)])  # two images each
SEVERAL = (0.3 * SEVERAL_LABELS + 0.7 * np.random.default_rng(0).uniform(0, 1, (3, 40))).clip(0, 1)


def test_the_mean_auroc_of_one_model_is_that_of_the_summary() -> None:
    found = mean_auroc(SEVERAL_LABELS, SEVERAL[0], IN_PAIRS)
    expected = summarise(SEVERAL_LABELS, SEVERAL[0], IN_PAIRS)["auroc"]
    assert numbers(found) == pytest.approx(numbers(expected))


def test_the_mean_of_several_models_is_a_mean() -> None:
    found = mean_auroc(SEVERAL_LABELS, SEVERAL, IN_PAIRS)
    assert found.value == pytest.approx(np.mean([roc_auc_score(SEVERAL_LABELS, row) for row in SEVERAL]))
    value, low, high = numbers(found)
    assert low < value < high
    assert "20 patients" in found.method


def test_a_higher_confidence_is_a_wider_interval() -> None:
    narrow, wide = (
        mean_auroc(SEVERAL_LABELS, SEVERAL, IN_PAIRS, Resampling(confidence=level)) for level in (0.9, 0.99)
    )
    assert numbers(wide)[1] < numbers(narrow)[1] < numbers(narrow)[2] < numbers(wide)[2]


def test_a_perfect_auroc_has_a_width_by_patients() -> None:
    found = mean_auroc(SEVERAL_LABELS, SEVERAL_LABELS * 0.8 + 0.1, IN_PAIRS)
    assert found.value == 1
    assert 0.6 < numbers(found)[1] < numbers(found)[2] == 1
    assert "Newcombe" in found.method


def test_one_label_only_is_undefined() -> None:
    found = mean_auroc(np.ones(4), np.full(4, 0.5), np.array(list("abcd")))
    assert found.value is None
    assert "no negative" in found.method
