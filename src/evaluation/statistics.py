"""What a binary classifier's numbers are worth: every metric with its interval, its n and its method.

Images of one patient are not independent, so everything that can be resampled is resampled by patient. Where the
bootstrap has nothing to say (a perfect score stays perfect in every resample) a score interval takes its place, and the
``method`` beside the number says so.

Sources:
    AUROC: R. G. Newcombe, Stat Med 2006;25:559-573, method 5, on the variance of J. A. Hanley and B. J. McNeil,
        Radiology 1982;143:29-36.
    F1: K. F. Y. Lam, V. Gopal and J. Qian, arXiv 2309.14621, "Wilson indirect".
    AP: the binomial model of K. Boyd, K. H. Eng and C. D. Page, ECML PKDD 2013 (n = number of positives), inverted as a
        score interval because their own interval has zero width at 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import USUAL, Bools, Estimate, Floats, Resampling, SeedMean, wilson, wilson_of_share

Interval = tuple[float, float]

METRICS = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "auroc", "ap")
"""The metrics of :func:`summarise`, in the order in which reports print them."""


def summarise(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    threshold: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Any]:
    """Returns all metrics of one set of predictions, with intervals.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores: Shape (n,): probability of Positive, in [0, 1].
        patients: Shape (n,): one identifier per image; where patients are unknown, one of its own for each image.
        threshold: An image is called Positive when its score is at least this, in [0, 1].
        resamples: Number of bootstrap resamples, at least 100.
        seed: Seed of the resampling, at least 0; the same seed gives the same intervals.
        confidence: Coverage of the intervals, in (0, 1).

    Returns:
        Values ready for JSON: ``n``, ``n_patients``, ``n_positive``, ``n_negative`` (images),
        ``threshold``, ``confusion_matrix`` ``[[tn, fp], [fn, tp]]``, and for each of :data:`METRICS` an
        :class:`~cxrlab.evaluation.estimate.Estimate`. What is undefined is ``None`` (never NaN), with the reason.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, s, ids = checked(labels, scores, patients)
    check_range("threshold", threshold, 0.0, 1.0)
    how = Resampling(resamples, seed, confidence)
    called = s >= threshold
    return {
        "n": int(y.size),
        "n_patients": int(np.unique(ids).size),
        "n_positive": int(y.sum()),
        "n_negative": int((~y).sum()),
        "threshold": float(threshold),
        "confusion_matrix": [
            [int((~y & ~called).sum()), int((~y & called).sum())],
            [int((y & ~called).sum()), int((y & called).sum())],
        ],
        **_proportions(y, called, ids, confidence),
        **_resampled(y, s, called, ids, how),
    }


def newcombe_auroc(auroc: float, positives: int, negatives: int, confidence: float = 0.95) -> Interval:
    """Returns Newcombe's score interval for the AUROC, which has a width even at 0 and 1.

    The limits are the values t at which ``|auroc - t| = z sqrt(V(t))``, with the Hanley-McNeil variance
    ``V(t) = t (1 - t) [1 + N (1 - t) / (2 - t) + N t / (1 + t)] / (m n)`` and ``N = (m + n) / 2 - 1``
    (Newcombe 2006, method 5).

    Args:
        auroc: The AUROC found, in [0, 1].
        positives: m, the number of independent positives, at least 1.
        negatives: n, the number of independent negatives, at least 1.
        confidence: Coverage, in (0, 1).

    Raises:
        ValueError: If an argument is out of range.
    """
    check_range("auroc", auroc, 0.0, 1.0)
    check_range("positives", positives, 1, integer=True)
    check_range("negatives", negatives, 1, integer=True)
    check_range("confidence", confidence, 0.0, 1.0, low_open=True, high_open=True)
    z = float(norm.ppf(0.5 + confidence / 2))
    extra = (positives + negatives) / 2 - 1

    def distance(t: float) -> float:
        variance = t * (1 - t) * (1 + extra * (1 - t) / (2 - t) + extra * t / (1 + t)) / (positives * negatives)
        return (auroc - t) ** 2 - z * z * variance

    # At the ends the variance is 0, so the distance is positive there unless auroc is that end itself; just inside
    # an end that equals auroc it is negative, because the variance is of first order and the distance of second.
    inside = 1e-12
    low = 0.0 if auroc <= inside else float(brentq(distance, 0.0, min(auroc, 1 - inside)))
    high = 1.0 if auroc >= 1 - inside else float(brentq(distance, max(auroc, inside), 1.0))
    return low, high


def mean_auroc(
    labels: npt.ArrayLike, scores: npt.ArrayLike, patients: npt.ArrayLike, how: Resampling = USUAL
) -> SeedMean:
    """The mean of several models' AUROCs on the same images, with whole patients resampled for all at once.

    The interval is of the images that were drawn, for these very models; it says nothing of other seeds.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores: Shape (models, n) or (n,), in [0, 1].
        patients: Shape (n,): one identifier per image.
        how: Of the interval.

    Returns:
        Undefined without images of both labels. Where the bootstrap has no width, Newcombe's score interval of one
        AUROC on as many patients takes its place.

    Raises:
        ValueError: Names the argument that is wrong.
    """
    rows = np.atleast_2d(np.asarray(scores, np.float64))
    y, _, ids = checked(labels, rows[0], patients)
    if y.all() or not y.any():
        return SeedMean.undefined(f"no {'negative' if y.all() else 'positive'} images")
    seeds = tuple(float(weighted_auroc(y, row, np.ones((1, y.size)))[0]) for row in rows)
    limits = how.limits(how.bootstrap(lambda weights: mean_aurocs(y, rows, weights), ids, y))
    if limits is None:
        positive, negative = (int(np.unique(ids[of]).size) for of in (y, ~y))
        limits = newcombe_auroc(float(np.mean(seeds)), positive, negative, how.confidence)
        method = f"Newcombe score {how.percent} ({positive} positive, {negative} negative patients)"
    else:
        method = how.method(ids, y, f" of the mean of {len(rows)} seeds" if len(rows) > 1 else "")
    return SeedMean(float(np.mean(seeds)), *limits, method, seeds)


def mean_aurocs(labels: Bools, scores: Floats, weights: Floats) -> Floats:
    """The mean over models, scores (models, n), of :func:`weighted_auroc`; shape (rows of weights,)."""
    return np.asarray(np.mean([weighted_auroc(labels, row, weights) for row in scores], axis=0))


def weighted_auroc(labels: Bools, scores: Floats, weights: Floats) -> Floats:
    """Returns the AUROC under each row of weights; tied pairs count one half.

    Args:
        labels: Shape (n,), boolean, both classes present.
        scores: Shape (n,).
        weights: Shape (r, n), at least 0, some weight on each class in every row.

    Returns:
        Shape (r,), in [0, 1]; equal to scikit-learn's ``roc_auc_score(labels, scores, sample_weight=row)``.
    """
    positive, negative = _weights_per_score(labels, scores, weights)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + 0.5 * negative)).sum(axis=1)
    return np.asarray(wins / (positive.sum(axis=1) * negative.sum(axis=1)))


def weighted_average_precision(labels: Bools, scores: Floats, weights: Floats) -> Floats:
    """Returns the average precision (step-wise, no interpolation) under each row of weights.

    Args:
        labels: Shape (n,), boolean, at least one positive.
        scores: Shape (n,).
        weights: Shape (r, n), at least 0, some weight on the positives in every row.

    Returns:
        Shape (r,), in (0, 1]; equal to scikit-learn's ``average_precision_score`` with ``sample_weight=row``.
    """
    positive, negative = _weights_per_score(labels, scores, weights)
    found = np.cumsum(positive[:, ::-1], axis=1)
    called = found + np.cumsum(negative[:, ::-1], axis=1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    return np.asarray((positive[:, ::-1] * precision).sum(axis=1) / found[:, -1])


def checked(
    labels: npt.ArrayLike, scores: npt.ArrayLike, patients: npt.ArrayLike
) -> tuple[Bools, Floats, npt.NDArray[Any]]:
    """Returns labels (bool), scores (float64) and patients (str), each of shape (n,).

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, s, ids = np.asarray(labels), np.asarray(scores), np.asarray(patients, dtype=object)
    for name, array in (("labels", y), ("scores", s), ("patients", ids)):
        if array.ndim != 1:
            raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if not y.size == s.size == ids.size:
        raise ValueError(
            f"labels, scores and patients must be equally long, got {y.size} labels, {s.size} scores and "
            f"{ids.size} patients"
        )
    if not y.size:
        raise ValueError("labels, scores and patients must not be empty, got 0 images")
    strange = [value for value in y.tolist() if value not in (0, 1)]
    if strange:
        raise ValueError(f"labels must be 0 (Negative) or 1 (Positive), got {strange[0]!r}")
    if s.dtype.kind not in "fiu":
        raise ValueError(f"scores must be numbers, got dtype {s.dtype}")
    outside = np.flatnonzero(~((s >= 0) & (s <= 1)))
    if outside.size:
        raise ValueError(
            f"scores must be finite probabilities in [0, 1], got {s[outside[0]]} at position {outside[0]} "
            f"({outside.size} of {s.size} are wrong)"
        )
    missing = sum(not isinstance(value, (str, int, np.integer)) or value == "" for value in ids.tolist())
    if missing:
        raise ValueError(
            f"patients must hold a str or whole number for every image, got {missing} missing or other values; give an "
            "image whose patient is unknown an identifier of its own"
        )
    return y.astype(bool), s.astype(np.float64), ids.astype(str)


def _proportions(y: Bools, called: Bools, ids: npt.NDArray[Any], confidence: float) -> dict[str, Estimate]:
    """Returns the five proportions; each is a rate of successes among some of the images."""
    everything = np.ones_like(y)
    cases = {
        "accuracy": (y == called, everything, "images"),
        "sensitivity": (called, y, "positive images"),
        "specificity": (~called, ~y, "negative images"),
        "ppv": (y, called, "predicted positives"),
        "npv": (~y, ~called, "predicted negatives"),
    }
    return {
        name: _proportion(success[among], ids[among], what, confidence)
        for name, (success, among, what) in cases.items()
    }


def _proportion(success: Bools, ids: npt.NDArray[Any], what: str, confidence: float) -> Estimate:
    n = int(success.size)
    if not n:
        return Estimate.undefined(f"no {what}")
    method = f"Wilson {_percent(confidence)}"
    n_patients = int(np.unique(ids).size)
    if n_patients < n:
        method += (
            f" ({n} images of {n_patients} patient{'s' * (n_patients > 1)} taken as independent: interval too narrow)"
        )
    return Estimate(float(success.mean()), *wilson(int(success.sum()), n, confidence), method)


def _resampled(y: Bools, s: Floats, called: Bools, ids: npt.NDArray[Any], how: Resampling) -> dict[str, Estimate]:
    """Returns f1, auroc and ap with their intervals."""
    if not y.any():
        return {name: Estimate.undefined("no positive images") for name in ("f1", "auroc", "ap")}
    values = {"f1": float(_weighted_f1(y, called, np.ones((1, y.size)))[0])}
    if not y.all():
        values |= {"auroc": float(roc_auc_score(y, s)), "ap": float(average_precision_score(y, s))}

    def each(weights: Floats) -> Floats:
        found = [_weighted_f1(y, called, weights)]
        if not y.all():
            found += [weighted_auroc(y, s, weights), weighted_average_precision(y, s, weights)]
        return np.stack(found, axis=1)

    drawn = dict(zip(values, how.bootstrap(each, ids, y).T, strict=True))
    estimates = {name: Estimate.undefined("no negative images") for name in ("f1", "auroc", "ap")}
    for name, value in values.items():
        limits = how.limits(drawn[name])
        if limits is None:
            estimates[name] = _collapsed(name, value, y, called, ids, how.confidence)
        else:
            estimates[name] = Estimate(value, *limits, how.method(ids, y))
    return estimates


def _collapsed(name: str, value: float, y: Bools, called: Bools, ids: npt.NDArray[Any], confidence: float) -> Estimate:
    """Returns the interval of a metric that is the same in (nearly) every resample, counting patients, not images."""
    percent = _percent(confidence)
    positive, negative = int(np.unique(ids[y]).size), int(np.unique(ids[~y]).size)
    if name == "auroc":
        low, high = newcombe_auroc(value, positive, negative, confidence)
        method = f"Newcombe score {percent} ({positive} positive, {negative} negative patients; bootstrap has no width)"
    elif name == "f1":
        low, high, n = _f1_interval(value, y | called, ids, confidence)
        method = f"Wilson {percent} through F1 / (2 - F1) ({n} patients; bootstrap has no width)"
    elif value >= 1:
        low, high = wilson(positive, positive, confidence)
        method = f"Wilson {percent}, binomial model ({positive} positive patients; bootstrap has no width)"
    else:
        return Estimate.bare(value, "no interval: bootstrap has no width")
    return Estimate(value, low, high, method)


def _f1_interval(f1: float, involved: Bools, ids: npt.NDArray[Any], confidence: float) -> tuple[float, float, int]:
    """Returns low, high and the number of patients behind an F1, by the Wilson indirect method.

    ``F* = tp / (tp + fp + fn) = F1 / (2 - F1)`` is a proportion of the images that are positive or called so; its
    Wilson interval on the number of patients of those images, carried back by ``F1 = 2 F* / (1 + F*)``, is returned.
    """
    n = int(np.unique(ids[involved]).size)
    limits = wilson_of_share(f1 / (2 - f1) * n, n, confidence)
    low, high = (float(min(1.0, max(0.0, 2 * limit / (1 + limit)))) for limit in limits)
    return low, high, n


def _weighted_f1(y: Bools, called: Bools, weights: Floats) -> Floats:
    """Returns F1 = 2 tp / (2 tp + fp + fn) under each row of weights; needs weight on a positive."""
    hits = weights @ (y & called)
    return np.asarray(2 * hits / (weights @ y.astype(float) + weights @ called.astype(float)))


def _weights_per_score(labels: Bools, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Returns positive and negative weights summed over equal scores, each (r, distinct scores), scores rising."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-math.inf) > 0)
    total = np.add.reduceat(weights[:, order], starts, axis=1)
    positive = np.add.reduceat(weights[:, order] * labels[order], starts, axis=1)
    return positive, total - positive


def _percent(confidence: float) -> str:
    return f"{100 * confidence:g} %"
