"""Paired tests against statsmodels, a double loop, a published example and simulation; ties, clusters, no width."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from tests.estimates import numbers

from cxrlab.evaluation.estimate import Difference, Resampling
from cxrlab.evaluation.paired import auroc_difference, delong, holm, mcnemar, patient_bootstrap_auroc_difference


def scored(n: int, seed: int, decimals: int = 9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two correlated scores; few decimals make ties."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3 == 0).astype(int)
    common = 1.2 * labels + rng.normal(0, 0.8, n)
    first, second = (norm.cdf(common + rng.normal(0, noise, n)) for noise in (0.4, 0.9))
    return labels, np.round(first, decimals), np.round(second, decimals)


def delong_by_double_loop(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Difference and its variance as in DeLong 1988, equations 3 to 6: kernels of all pairs, full covariances."""
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    kernels = np.zeros((2, len(positive), len(negative)))
    for which, scores in enumerate((a, b)):
        for i, x in enumerate(scores[positive]):
            for j, y in enumerate(scores[negative]):
                kernels[which, i, j] = 1.0 if x > y else 0.5 if x == y else 0.0
    s10, s01 = np.cov(kernels.mean(axis=2)), np.cov(kernels.mean(axis=1))
    covariance = s10 / len(positive) + s01 / len(negative)
    contrast = np.array([1, -1])
    return float(contrast @ kernels.mean(axis=(1, 2))), float(contrast @ covariance @ contrast)


@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
@pytest.mark.parametrize("n", [5, 40, 301])
def test_mcnemar_against_statsmodels(n: int, share: float) -> None:
    rng = np.random.default_rng(n)
    a, b = rng.random(n) < 0.7, rng.random(n) < share
    table = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
    found = mcnemar(a, b)
    assert found["p"] == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue, rel=1e-9)
    assert (found["only_a"], found["only_b"]) == (table[0][1], table[1][0])
    swapped = mcnemar(b, a)
    assert swapped["p"] == pytest.approx(found["p"])
    assert (swapped["only_a"], swapped["only_b"]) == (table[1][0], table[0][1])


def test_mcnemar_by_hand() -> None:
    """Six images that only the first has right: 2 / 2**6."""
    a = np.array([True] * 10)
    b = np.array([False] * 6 + [True] * 4)
    assert mcnemar(a, a)["p"] == 1
    assert mcnemar(a, b) == {
        "only_a": 6,
        "only_b": 0,
        "p": pytest.approx(0.03125),
        "method": "exact McNemar (6 discordant of 10 images, taken as independent)",
    }


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([True], [True, False], "right_a and right_b must be equally long, got 1 right_a and 2 right_b"),
        ([0, 1], [True, False], "right_a must be boolean, got dtype int64"),
    ],
)
def test_mcnemar_refuses(a: Any, b: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mcnemar(a, b)


@pytest.mark.parametrize("decimals", [9, 1, 0], ids=["no ties", "ties", "two values"])
@pytest.mark.parametrize("n", [9, 40, 150])
def test_delong_against_a_double_loop(n: int, decimals: int) -> None:
    labels, a, b = scored(n, n, decimals)
    difference, variance = delong_by_double_loop(labels, a, b)
    found = delong(labels, a, b, 0.9)
    assert found.value == pytest.approx(roc_auc_score(labels, a) - roc_auc_score(labels, b), abs=1e-12)
    assert found.value == pytest.approx(difference, abs=1e-12)
    z = norm.ppf(0.95)
    assert found.low == pytest.approx(max(-1, difference - z * variance**0.5), abs=1e-12)
    assert found.high == pytest.approx(min(1, difference + z * variance**0.5), abs=1e-12)
    assert found.p == pytest.approx(2 * norm.sf(abs(difference) / variance**0.5), rel=1e-9)


def test_delong_without_variance_or_with_a_single_positive() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    a, b = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), np.array([0.0, 0.1, 0.2, 0.6, 0.7, 1.0])
    assert delong(labels, a, b) == Difference.bare(0.0, "no interval: DeLong's variance of the difference is 0")
    opposite = delong(labels, a, 1 - a)
    assert opposite.value == pytest.approx(1)
    assert opposite.p is None
    found = delong([1, 0, 0, 0], [0.5, 0.1, 0.6, 0.2], [0.9, 0.1, 0.2, 0.3])
    assert found.value == pytest.approx(-1 / 3)
    assert found.low is None
    assert "two images of either class" in found.method


@pytest.mark.parametrize(("label", "lacking"), [(0, "positive"), (1, "negative")])
def test_one_class_is_undefined(label: int, lacking: str) -> None:
    found = auroc_difference([label] * 4, [0.1, 0.2, 0.3, 0.4], [0.4, 0.2, 0.3, 0.1], ["a", "a", "b", "c"])
    assert found.value is None
    assert found.p is None
    assert found.method.startswith(f"undefined: no {lacking} images")
    assert delong([label] * 3, [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]).method == f"undefined: no {lacking} images"


def test_bootstrap_p_agrees_with_its_interval_and_is_never_0() -> None:
    labels, a, _ = scored(90, 5)
    patients = [f"p{i // 2}" for i in range(90)]
    clear = patient_bootstrap_auroc_difference(labels, a, 1 - a, patients, Resampling(500))
    assert clear.p == pytest.approx(2 / 501)
    assert clear.above(0)
    weak = patient_bootstrap_auroc_difference(labels, a, np.roll(a, 3), patients, Resampling(500))
    assert (weak.p is not None and weak.p < 0.05) == (weak.above(0) or weak.below(0))
    mirrored = patient_bootstrap_auroc_difference(labels, 1 - a, a, patients, Resampling(500))
    assert mirrored.p == clear.p
    assert mirrored.high == pytest.approx(-numbers(clear)[1])


def test_bootstrap_takes_both_scores_under_the_same_weights() -> None:
    """A classifier and a monotone copy of it differ in no resample; resampled apart they would."""
    labels, a, _ = scored(60, 4)
    patients = [f"p{i // 2}" for i in range(60)]
    found = patient_bootstrap_auroc_difference(labels, a, a**3, patients)
    assert found.value == 0.0
    assert (found.low, found.high, found.p) == (None, None, None)
    assert found.method == "no interval: the difference is the same in every bootstrap resample"


def test_bootstrap_counts_patients_not_images() -> None:
    """Four copies of every image, of the same patient, leave the interval and the p value as they are."""
    labels, a, b = scored(60, 6)
    once = patient_bootstrap_auroc_difference(labels, a, b, range(60), Resampling(300))
    y, first, second, patients = (np.repeat(each, 4) for each in (labels, a, b, range(60)))
    found = patient_bootstrap_auroc_difference(y, first, second, patients, Resampling(300))
    assert [*numbers(found), found.p] == pytest.approx([*numbers(once), once.p])


def test_bootstrap_says_that_patients_are_few() -> None:
    labels, a, b = scored(40, 2)
    ids = [f"p{label}{i % 7}" for i, label in enumerate(labels)]
    method = patient_bootstrap_auroc_difference(labels, a, b, ids, Resampling(200)).method
    expected = "patient bootstrap 95 % (200 resamples, 14 patients); only 7 positive and 7 negative patients"
    assert method == f"{expected}: interval too narrow"


def test_the_method_is_chosen_by_the_patients() -> None:
    labels, a, b = scored(60, 1)
    alone = auroc_difference(labels, a, b, range(60))
    assert replace(alone, method="") == replace(delong(labels, a, b), method="")
    assert alone.method == "DeLong 95 % (20 positive, 40 negative images); every image is of another patient"
    several = [min(i, 57) for i in range(60)]
    grouped = auroc_difference(labels, a, b, several, Resampling(300, 2, 0.9))
    expected = patient_bootstrap_auroc_difference(labels, a, b, several, Resampling(300, 2, 0.9))
    assert replace(grouped, method="") == replace(expected, method="")
    assert grouped.method.startswith("patient bootstrap 90 % (300 resamples, 58 patients)")
    assert grouped.method.endswith("not DeLong: 60 images of 58 patients")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0.1, 0.2], [0.3], ["a", "b"]), "labels, scores_a, scores_b and patients must be equally long"),
        (([0, 1], [0.1, np.nan], [0.3, 0.1], ["a", "b"]), "scores_a must be finite numbers"),
        (([0, 1], [0.1, 0.2], ["x", "y"], ["a", "b"]), "scores_b must be finite numbers"),
        (
            ([0, 1], [0.1, 0.2], [0.3, 0.1], ["a", ""]),
            "patients must hold an identifier for every image, got 1 missing",
        ),
    ],
)
def test_auroc_difference_refuses(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        auroc_difference(*arguments)


def test_holm_by_hand_and_against_statsmodels() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    rng = np.random.default_rng(0)
    for n in (1, 2, 12, 50):
        small = rng.random(n) ** 4
        values = [*small.tolist(), *small[: n // 2].tolist()]  # with ties
        assert holm(values) == multipletests(values, method="holm")[1].tolist()
    assert holm([0.02, None, 0.04, None]) == [pytest.approx(0.04), None, pytest.approx(0.04), None]
    assert holm([None]) == [None]
    assert holm([]) == []
    with pytest.raises(ValueError, match="p_values must be"):
        holm([0.5, 1.5])
