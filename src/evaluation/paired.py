"""Two classifiers on the same images: differences with interval, p value, and the method that they came from.

Predictions of the same images are paired, so an interval of each classifier alone says nothing about their difference.
Scores here may be any finite numbers: higher means more likely Positive. What is undefined is ``None`` (never NaN),
with the reason as method.

Sources:
    McNemar's test: Q. McNemar, Psychometrika 1947;12:153-157, in its exact (binomial) form.
    AUROCs of the same images: E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 1988;44:837-845, on
        midranks as in X. Sun and W. Xu, IEEE Signal Process Lett 2014;21:1389-1393.
    p value of a bootstrap: A. C. Davison and D. V. Hinkley, Bootstrap Methods and Their Application, 1997, section 4.2
        (never 0), of the percentile interval inverted: p is below 1 - confidence where that interval leaves out 0.
    Several tests: S. Holm, Scand J Stat 1979;6:65-70.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm, rankdata

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import NO_WIDTH, USUAL, Bools, Difference, Floats, Resampling
from cxrlab.evaluation.statistics import equally_long, lacking, mean_aurocs


def mcnemar(right_a: ArrayLike, right_b: ArrayLike) -> dict[str, Any]:
    """Tests whether two classifiers are right equally often, on the images about which they disagree.

    Both arguments are boolean, shape (n,): whether the first and the second are right about the same image. Returns
    ``only_a`` and ``only_b``, the images that only one of them has right; ``p``, the two-sided probability of so uneven
    a split of them, or a more uneven one, if either were equally likely (1 where there are none); and ``method``.
    """
    a, b = equally_long(right_a=right_a, right_b=right_b)
    for name, array in (("right_a", a), ("right_b", b)):
        if array.dtype != bool:
            raise ValueError(f"{name} must be boolean, got dtype {array.dtype}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_a + only_b
    p = float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
    method = f"exact McNemar ({discordant} discordant of {a.size} images, taken as independent)"
    return {"only_a": only_a, "only_b": only_b, "p": p, "method": method}


def auroc_difference(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, patients: ArrayLike, how: Resampling = USUAL
) -> Difference:
    """Returns how much larger the first AUROC is, by DeLong's method or, where it does not apply, by the bootstrap.

    :func:`delong` takes images as independent; it is used where every image is of another patient, and
    :func:`patient_bootstrap_auroc_difference` otherwise. ``method`` says which it was, and why.
    """
    y, a, b, ids = _checked(labels, scores_a, scores_b, patients)
    n_patients = int(np.unique(ids).size)
    if n_patients == y.size:
        found = delong(y, a, b, how.confidence)
        return replace(found, method=f"{found.method}; every image is of another patient")
    found = patient_bootstrap_auroc_difference(y, a, b, ids, how)
    return replace(found, method=f"{found.method}; not DeLong: {y.size} images of {n_patients} patients")


def delong(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, confidence: float = 0.95) -> Difference:
    """Returns the first AUROC minus the second, of the same independent images, by DeLong's method.

    The interval is Wald's within [-1, 1], the p value that of the normal approximation, two-sided. There is neither
    where the variance is 0 or, with a single image of a class, unknown.
    """
    y, a, b, _ = _checked(labels, scores_a, scores_b, np.arange(np.size(labels)))
    check_range("confidence", confidence, 0.0, 1.0, low_open=True, high_open=True)
    if reason := lacking(y):
        return Difference.undefined(reason)
    positives, negatives = int(y.sum()), int((~y).sum())
    components_a, components_b = _components(y, a), _components(y, b)
    difference = float(components_a[0].mean() - components_b[0].mean())
    if min(positives, negatives) < 2:
        return Difference.bare(difference, "no interval: DeLong's variance needs two images of either class")
    variance = sum(
        float(np.var(own - other, ddof=1) / own.size) for own, other in zip(components_a, components_b, strict=True)
    )
    error = variance**0.5
    if error < NO_WIDTH:
        return Difference.bare(difference, "no interval: DeLong's variance of the difference is 0")
    half = float(norm.ppf(0.5 + confidence / 2)) * error
    method = f"DeLong {100 * confidence:g} % ({positives} positive, {negatives} negative images)"
    p = float(2 * norm.sf(abs(difference) / error))
    return Difference(difference, max(-1.0, difference - half), min(1.0, difference + half), method, p)


def patient_bootstrap_auroc_difference(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, patients: ArrayLike, how: Resampling = USUAL
) -> Difference:
    """Returns the first AUROC minus the second, of the same images, with whole patients resampled for both at once.

    Scores have shape (n,) or (models, n); of several models the mean AUROC counts. The interval is that of the
    percentiles, and ``p = min(1, 2 (1 + k) / (1 + resamples))`` with k the resamples whose difference is 0 or of the
    other sign than most. There is neither where the interval has no width.
    """
    a, b = np.atleast_2d(np.asarray(scores_a)), np.atleast_2d(np.asarray(scores_b))
    for row in b:
        _checked(labels, a[0], row, patients)
    for row in a:
        y, _, _, ids = _checked(labels, row, b[0], patients)
    if reason := lacking(y):
        return Difference.undefined(reason)

    def difference(weights: Floats) -> Floats:
        return mean_aurocs(y, a, weights) - mean_aurocs(y, b, weights)

    value = float(difference(np.ones((1, y.size)))[0])
    drawn = how.bootstrap(difference, ids, y)
    limits = how.limits(drawn)
    if limits is None:
        return Difference.bare(value, "no interval: the difference is the same in every bootstrap resample")
    k = min(int((drawn <= NO_WIDTH).sum()), int((drawn >= -NO_WIDTH).sum()))
    return Difference(value, *limits, how.method(ids, y), min(1.0, 2 * (1 + k) / (1 + how.resamples)))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts p values for their number, so that the chance of any false finding among them stays what it was for one.

    ``None`` stands for a test that could not be done; it does not count and stays ``None``.
    """
    for p in p_values:
        if p is not None:
            check_range("p_values", p, 0.0, 1.0)
    adjusted = np.array(p_values, np.float64)  # NaN for None
    order = np.argsort(adjusted)[: np.isfinite(adjusted).sum()]  # NaN comes last
    largest = np.maximum.accumulate(adjusted[order] * np.arange(order.size, 0, -1))
    adjusted[order] = np.minimum(1.0, largest)
    return [None if np.isnan(p) else p for p in adjusted.tolist()]


def _components(y: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """The structural components V10, shape (positives,), and V01, shape (negatives,); the mean of either is the AUROC.

    V10 is the share of the negatives that a positive's score exceeds, V01 the share of the positives that exceed a
    negative's score, ties counting one half. An image's midrank among all less its midrank within its class is the
    number of images of the other class below it.
    """
    ranks = rankdata(scores)
    above = (ranks[y] - rankdata(scores[y])) / (~y).sum()
    below = 1 - (ranks[~y] - rankdata(scores[~y])) / y.sum()
    return above, below


def _checked(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, patients: ArrayLike
) -> tuple[Bools, Floats, Floats, NDArray[Any]]:
    """Returns labels (bool), both scores (float64) and patients (str) after checking them."""
    people = np.asarray(patients, dtype=object)
    y, a, b, ids = equally_long(labels=labels, scores_a=scores_a, scores_b=scores_b, patients=people)
    for name, scores in (("scores_a", a), ("scores_b", b)):
        if scores.dtype.kind not in "fiu" or not np.isfinite(scores).all():
            raise ValueError(f"{name} must be finite numbers, got {scores.dtype} with {scores.tolist()[:3]} …")
    missing = sum(value is None or value == "" or value != value for value in ids.tolist())
    if missing:
        raise ValueError(
            f"patients must hold an identifier for every image, got {missing} missing; give an image whose patient is "
            "unknown one of its own"
        )
    return y.astype(bool), a.astype(np.float64), b.astype(np.float64), ids.astype(str)
