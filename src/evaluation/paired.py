"""Two classifiers on the same images: differences with interval, p value, and the method that they came from.

Predictions of the same images are paired, so an interval of each classifier alone says nothing about their difference.
What is undefined is ``None`` (never NaN), with the reason as method.

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
import numpy.typing as npt
from scipy.stats import binomtest, norm, rankdata

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import NO_WIDTH, USUAL, Bools, Difference, Floats, Resampling
from cxrlab.evaluation.statistics import mean_aurocs


def mcnemar(right_a: npt.ArrayLike, right_b: npt.ArrayLike) -> dict[str, Any]:
    """Tests whether two classifiers are right equally often, on the images about which they disagree.

    Args:
        right_a: Shape (n,), boolean: whether the first is right.
        right_b: Shape (n,), boolean: whether the second is right about the same image.

    Returns:
        ``{"only_a", "only_b", "p", "method"}``: the images that only one of them has right, and the two-sided
        probability of so uneven a split of them, or a more uneven one, if either were equally likely; 1 where
        there are none.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    a, b = _arrays(right_a=right_a, right_b=right_b)
    for name, array in (("right_a", a), ("right_b", b)):
        if array.dtype != bool:
            raise ValueError(f"{name} must be boolean, got dtype {array.dtype}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    discordant = only_a + only_b
    p = float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
    method = f"exact McNemar ({discordant} discordant of {a.size} images, taken as independent)"
    return {"only_a": only_a, "only_b": only_b, "p": p, "method": method}


def auroc_difference(
    labels: npt.ArrayLike,
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    patients: npt.ArrayLike,
    how: Resampling = USUAL,
) -> Difference:
    """Returns how much larger the first AUROC is, by DeLong's method or, where it does not apply, by the bootstrap.

    DeLong's variance takes images as independent; it is used where every image is of another patient. Otherwise whole
    patients are resampled. ``method`` says which it was, and why.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores_a: Shape (n,): higher means more likely Positive.
        scores_b: Shape (n,): the other classifier's, of the same images.
        patients: Shape (n,): one identifier per image; where patients are unknown, one of its own for each image.
        how: Of the interval.

    Returns:
        See :func:`delong` and :func:`patient_bootstrap_auroc_difference`.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, a, b, ids = _checked(labels, scores_a, scores_b, patients)
    n_patients = int(np.unique(ids).size)
    if n_patients == y.size:
        found = delong(y, a, b, how.confidence)
        return replace(found, method=f"{found.method}; every image is of another patient")
    found = patient_bootstrap_auroc_difference(y, a, b, ids, how)
    return replace(found, method=f"{found.method}; not DeLong: {y.size} images of {n_patients} patients")


def delong(
    labels: npt.ArrayLike, scores_a: npt.ArrayLike, scores_b: npt.ArrayLike, confidence: float = 0.95
) -> Difference:
    """Returns the difference of two AUROCs of the same independent images, by DeLong's method.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores_a: Shape (n,): higher means more likely Positive.
        scores_b: Shape (n,): the other classifier's, of the same images.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        First AUROC minus second, its Wald interval within [-1, 1],
        and the two-sided p value of the normal approximation. Without interval and p value where the variance is 0 or,
        with a single image of a class, unknown.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, a, b, _ = _checked(labels, scores_a, scores_b)
    check_range("confidence", confidence, 0.0, 1.0, low_open=True, high_open=True)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        return _undefined(y)
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
    labels: npt.ArrayLike,
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    patients: npt.ArrayLike,
    how: Resampling = USUAL,
) -> Difference:
    """Returns the difference of two AUROCs of the same images, with whole patients resampled for both at once.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores_a: Shape (n,) or (models, n): higher means more likely Positive; of several models the mean AUROC counts.
        scores_b: Shape (n,) or (other models, n): of the same images.
        patients: Shape (n,): one identifier per image; where patients are unknown, one of its own for each image.
        how: Of the interval, with R resamples.

    Returns:
        First AUROC minus second, its percentile interval, and ``p = min(1, 2 (1 + k) / (1 + R))`` with k the resamples
        whose difference is 0 or of the other sign than most. Without interval and p value where that has no width.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    several, others = np.atleast_2d(np.asarray(scores_a)), np.atleast_2d(np.asarray(scores_b))
    first = [_checked(labels, row, others[0], patients) for row in several]
    second = [_checked(labels, several[0], row, patients) for row in others]
    y, _, _, ids = first[0]
    if y.all() or not y.any():
        return _undefined(y)
    a, b = np.stack([each[1] for each in first]), np.stack([each[2] for each in second])

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

    Args:
        p_values: In [0, 1]; ``None`` for a test that could not be done, which does not count.

    Returns:
        The adjusted p values in the same order, ``None`` for ``None``.

    Raises:
        ValueError: If a p value is out of range.
    """
    for p in p_values:
        if p is not None:
            check_range("p_values", p, 0.0, 1.0)
    ranked = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(ranked):
        largest = max(largest, p * (len(ranked) - rank))
        adjusted[place] = min(1.0, largest)
    return adjusted


def _components(y: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """The structural components V10, shape (positives,), and V01, shape (negatives,); the mean of either is the AUROC.

    V10 is the share of the negatives that a positive's score exceeds, V01 the share of the positives that exceed a
    negative's score, ties counting one half. An image's midrank among all less its midrank within its class is the
    number of images of the other class below it.
    """
    positives, negatives = int(y.sum()), int((~y).sum())
    ranks = rankdata(scores)
    above = (ranks[y] - rankdata(scores[y])) / negatives
    below = 1 - (ranks[~y] - rankdata(scores[~y])) / positives
    return above, below


def _checked(
    labels: npt.ArrayLike, scores_a: npt.ArrayLike, scores_b: npt.ArrayLike, patients: npt.ArrayLike | None = None
) -> tuple[Bools, Floats, Floats, npt.NDArray[Any]]:
    """Returns labels (bool), both scores (float64) and patients (str) after checking them."""
    ids = np.arange(np.asarray(labels).size) if patients is None else np.asarray(patients, dtype=object)
    y, a, b, ids = _arrays(labels=labels, scores_a=scores_a, scores_b=scores_b, patients=ids)
    strange = [value for value in y.tolist() if value not in (0, 1)]
    if strange:
        raise ValueError(f"labels must be 0 (Negative) or 1 (Positive), got {strange[0]!r}")
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


def _arrays(**given: npt.ArrayLike) -> list[npt.NDArray[Any]]:
    """Returns the arguments as arrays of one dimension, equally long and not empty."""
    arrays = {name: np.asarray(value) for name, value in given.items()}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    sizes = [array.size for array in arrays.values()]
    names = f"{', '.join([*arrays][:-1])} and {[*arrays][-1]}"
    if len(set(sizes)) > 1:
        raise ValueError(f"{names} must be equally long, got {', '.join(map(str, sizes))}")
    if not sizes[0]:
        raise ValueError(f"{names} must not be empty, got 0 images")
    return list(arrays.values())


def _undefined(y: Bools) -> Difference:
    return Difference.undefined(f"no {'negative' if y.all() else 'positive'} images")
