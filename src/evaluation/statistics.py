"""All metrics of a binary classifier, each with its interval, its n and its method.

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
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrlab.errors import check_range
from cxrlab.evaluation import estimate
from cxrlab.evaluation.estimate import USUAL, Bools, Estimate, Floats, Resampling, SeedMean, count_patients

METRICS = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "auroc", "ap")
"""The metrics of :func:`summarise`, in the order in which reports print them."""


def summarise(
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
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
        Values for JSON: those of :func:`counts`, ``threshold``, ``confusion_matrix`` ``[[tn, fp], [fn, tp]]``, and for
        each of :data:`METRICS` an :class:`~cxrlab.evaluation.estimate.Estimate`. What is undefined is ``None`` (never
        NaN), with the reason.
    """
    y, s, ids = checked(labels, scores, patients)
    check_range("threshold", threshold, 0.0, 1.0)
    how = Resampling(resamples, seed, confidence)
    called = s >= threshold
    return {
        **counts(y, ids),
        "threshold": float(threshold),
        "confusion_matrix": [[int((kind & ~called).sum()), int((kind & called).sum())] for kind in (~y, y)],
        "accuracy": _proportion(y == called, ids, "images", how),
        "sensitivity": _proportion(called[y], ids[y], "positive images", how),
        "specificity": _proportion(~called[~y], ids[~y], "negative images", how),
        "ppv": _proportion(y[called], ids[called], "predicted positives", how),
        "npv": _proportion(~y[~called], ids[~called], "predicted negatives", how),
        **_resampled(y, s, called, ids, how),
    }


def counts(labels: Bools, patients: NDArray[Any]) -> dict[str, Any]:
    """Returns ``n``, ``n_positive`` and ``n_negative`` (images), and ``n_patients``."""
    return {
        "n": int(labels.size),
        "n_patients": int(np.unique(patients).size),
        "n_positive": int(labels.sum()),
        "n_negative": int((~labels).sum()),
    }


def newcombe_auroc(auroc: float, positives: int, negatives: int, confidence: float = 0.95) -> tuple[float, float]:
    """Returns Newcombe's score interval for the AUROC, which has a width even at 0 and 1.

    The limits are the values t at which ``|auroc - t| = z sqrt(V(t))``, with the Hanley-McNeil variance
    ``V(t) = t (1 - t) [1 + N (1 - t) / (2 - t) + N t / (1 + t)] / (m n)`` and ``N = (m + n) / 2 - 1``
    (Newcombe 2006, method 5), of m independent ``positives`` and n ``negatives``, each at least 1.
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


def mean_auroc(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, how: Resampling = USUAL) -> SeedMean:
    """The mean of several models' AUROCs on the same images, with whole patients resampled for all at once.

    Scores have shape (models, n) or (n,). The interval is that of other patients for these very models, not of other
    seeds. With one label only, the mean is undefined.
    """
    rows = np.atleast_2d(np.asarray(scores, np.float64))
    y, _, ids = checked(labels, rows[0], patients)
    if reason := lacking(y):
        return SeedMean.undefined(reason)
    seeds = tuple(float(weighted_auroc(y, row, np.ones((1, y.size)))[0]) for row in rows)
    drawn = how.bootstrap(lambda weights: mean_aurocs(y, rows, weights), ids, y)
    of = f" of the mean of {len(rows)} seeds" if len(rows) > 1 else ""
    value = float(np.mean(seeds))
    return SeedMean(value, *auroc_interval(value, drawn, y, ids, how, of), seeds)


def lacking(labels: Bools) -> str:
    """Why there is no AUROC; empty where there are images of both labels."""
    if labels.all():
        return "no negative images"
    return "" if labels.any() else "no positive images"


def auroc_interval(
    value: float, drawn: Floats, labels: Bools, patients: NDArray[Any], how: Resampling, of: str = ""
) -> tuple[float, float, str]:
    """Limits and method from the AUROCs of resamples; Newcombe's interval where they are all alike."""
    limits = how.limits(drawn)
    if limits is not None:
        return *limits, how.method(patients, labels, of)
    positive, negative = count_patients(patients, labels)
    method = f"Newcombe score {how.percent} ({positive} positive, {negative} negative patients)"
    return *newcombe_auroc(value, positive, negative, how.confidence), method


def mean_aurocs(labels: Bools, scores: Floats, weights: Floats) -> Floats:
    """The mean over models, scores (models, n), of :func:`weighted_auroc`; shape (rows of weights,)."""
    return np.asarray(np.mean([weighted_auroc(labels, row, weights) for row in scores], axis=0))


def weighted_auroc(labels: Bools, scores: Floats, weights: Floats) -> Floats:
    """Returns the AUROC under each row of weights; tied pairs count one half.

    Weights have shape (r, n), and some weight on each class in every row. The result has shape (r,), and is that of
    scikit-learn's ``roc_auc_score(labels, scores, sample_weight=row)``.
    """
    positive, negative = weights_per_score(labels, scores, weights)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + 0.5 * negative)).sum(axis=1)
    return np.asarray(wins / (positive.sum(axis=1) * negative.sum(axis=1)))


def weighted_average_precision(labels: Bools, scores: Floats, weights: Floats) -> Floats:
    """Returns scikit-learn's ``average_precision_score`` under each row of weights, like :func:`weighted_auroc`."""
    positive, negative = weights_per_score(labels, scores, weights)
    found = np.cumsum(positive[:, ::-1], axis=1)
    called = found + np.cumsum(negative[:, ::-1], axis=1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    return np.asarray((positive[:, ::-1] * precision).sum(axis=1) / found[:, -1])


def weights_per_score(labels: Bools, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Returns positive and negative weights summed over equal scores, each (r, distinct scores), scores rising."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-math.inf) > 0)
    total = np.add.reduceat(weights[:, order], starts, axis=1)
    positive = np.add.reduceat(weights[:, order] * labels[order], starts, axis=1)
    return positive, total - positive


def checked(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike | None = None
) -> tuple[Bools, Floats, NDArray[Any]]:
    """Returns labels (bool), scores (float64) and patients (str; by default one per image) after checking them."""
    people = np.arange(np.size(scores)) if patients is None else np.asarray(patients, dtype=object)
    y, s, ids = equally_long(labels=labels, scores=scores, patients=people)
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


def equally_long(**given: ArrayLike) -> list[NDArray[Any]]:
    """Checks that arguments have one dimension, are equally long and not empty, and that ``labels`` are 0 and 1."""
    arrays = {name: np.asarray(value) for name, value in given.items()}
    for name, array in arrays.items():
        if array.ndim != 1:
            raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    names, sizes = _listed([*arrays]), {array.size for array in arrays.values()}
    if len(sizes) > 1:
        found = _listed([f"{array.size} {name}" for name, array in arrays.items()])
        raise ValueError(f"{names} must be equally long, got {found}")
    if 0 in sizes:
        raise ValueError(f"{names} must not be empty, got 0 images")
    strange = [value for value in arrays.get("labels", np.zeros(0)).tolist() if value not in (0, 1)]
    if strange:
        raise ValueError(f"labels must be 0 (Negative) or 1 (Positive), got {strange[0]!r}")
    return [*arrays.values()]


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}"


def _proportion(success: Bools, ids: NDArray[Any], what: str, how: Resampling) -> Estimate:
    n, n_patients = int(success.size), int(np.unique(ids).size)
    if not n:
        return Estimate.undefined(f"no {what}")
    method = f"Wilson {how.percent}"
    if n_patients < n:
        method += (
            f" ({n} images of {n_patients} patient{'s' * (n_patients > 1)} taken as independent: interval too narrow)"
        )
    return Estimate(float(success.mean()), *estimate.wilson(int(success.sum()), n, how.confidence), method)


def _resampled(y: Bools, s: Floats, called: Bools, ids: NDArray[Any], how: Resampling) -> dict[str, Estimate]:
    """Returns f1, auroc and ap with their intervals."""
    estimates = {name: Estimate.undefined(lacking(y)) for name in ("f1", "auroc", "ap")}
    if not y.any():
        return estimates
    drawn: dict[str, Callable[[Floats], Floats]] = {"f1": partial(_weighted_f1, y, called)}
    values = {"f1": float(_weighted_f1(y, called, np.ones((1, y.size)))[0])}
    if not y.all():
        drawn |= {"auroc": partial(weighted_auroc, y, s), "ap": partial(weighted_average_precision, y, s)}
        values |= {"auroc": float(roc_auc_score(y, s)), "ap": float(average_precision_score(y, s))}
    columns = how.bootstrap(lambda weights: np.stack([each(weights) for each in drawn.values()], axis=1), ids, y).T
    for (name, value), column in zip(values.items(), columns, strict=True):
        limits = how.limits(column)
        if limits is None:
            estimates[name] = _collapsed(name, value, y, called, ids, how)
        else:
            estimates[name] = Estimate(value, *limits, how.method(ids, y))
    return estimates


def _collapsed(name: str, value: float, y: Bools, called: Bools, ids: NDArray[Any], how: Resampling) -> Estimate:
    """A metric that is the same in (nearly) every resample, with an interval that counts patients, not images."""
    positive, negative = count_patients(ids, y)
    if name == "auroc":
        limits = newcombe_auroc(value, positive, negative, how.confidence)
        method = f"Newcombe score {how.percent} ({positive} positive, {negative} negative patients"
    elif name == "f1":
        # tp / (tp + fp + fn) = F1 / (2 - F1) is a proportion of the images that are positive or called so. Its Wilson
        # interval, on the number of patients of those images, is carried back to F1.
        n = int(np.unique(ids[y | called]).size)
        low, high = estimate.wilson_of_share(value / (2 - value) * n, n, how.confidence)
        limits = 2 * low / (1 + low), 2 * high / (1 + high)
        method = f"Wilson {how.percent} through F1 / (2 - F1) ({n} patients"
    elif value >= 1:
        limits = estimate.wilson(positive, positive, how.confidence)
        method = f"Wilson {how.percent}, binomial model ({positive} positive patients"
    else:
        return Estimate.bare(value, "no interval: bootstrap has no width")
    return Estimate(value, *limits, f"{method}; bootstrap has no width)")


def _weighted_f1(y: Bools, called: Bools, weights: Floats) -> Floats:
    """Returns F1 = 2 tp / (2 tp + fp + fn) under each row of weights; needs weight on a positive."""
    return np.asarray(2 * (weights @ (y & called)) / (weights @ y.astype(float) + weights @ called.astype(float)))
