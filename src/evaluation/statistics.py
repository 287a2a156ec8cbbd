"""What a binary classifier's numbers are worth: every metric with its interval, its n and its method.

Images of one patient are not independent, so everything that can be resampled is resampled by patient. Where the
bootstrap has nothing to say (a perfect score stays perfect in every resample) a score interval takes its place, and the
``method`` beside the number says so.

Sources:
    Wilson interval: E. B. Wilson, J Am Stat Assoc 1927;22:209-212.
    AUROC: R. G. Newcombe, Stat Med 2006;25:559-573, method 5, on the variance of J. A. Hanley and B. J. McNeil,
        Radiology 1982;143:29-36.
    F1: K. F. Y. Lam, V. Gopal and J. Qian, arXiv 2309.14621, "Wilson indirect".
    AP: the binomial model of K. Boyd, K. H. Eng and C. D. Page, ECML PKDD 2013 (n = number of positives), inverted as a
        score interval because their own interval has zero width at 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrlab.errors import check_range

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Interval = tuple[float, float]
Estimate = dict[str, Any]

METRICS = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "auroc", "ap")
"""The metrics of :func:`summarise`, in the order in which reports print them."""

FEW_PATIENTS = 10
"""Below this many patients in a class the method of a bootstrap interval warns that it is too narrow."""

_CELLS_PER_BLOCK = 1_000_000


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
        Plain Python values, ready for JSON: ``n``, ``n_patients``, ``n_positive``, ``n_negative`` (images),
        ``threshold``, ``confusion_matrix`` ``[[tn, fp], [fn, tp]]``, and for each of :data:`METRICS` a dict
        ``{"value", "low", "high", "method"}``. What is undefined is ``None`` (never NaN), with the reason as method.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, s, ids = checked(labels, scores, patients)
    check_range("threshold", threshold, 0.0, 1.0)
    check_range("resamples", resamples, 100, integer=True)
    check_range("seed", seed, 0, integer=True)
    check_range("confidence", confidence, 0.0, 1.0, low_open=True, high_open=True)
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
        **_resampled(y, s, called, ids, resamples, seed, confidence),
    }


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Returns the Wilson score interval of a proportion.

    Args:
        successes: Number of successes, 0 to ``n``.
        n: Number of independent trials, at least 1.
        confidence: Coverage, in (0, 1).

    Raises:
        ValueError: If an argument is out of range.
    """
    check_range("n", n, 1, integer=True)
    check_range("successes", successes, 0, n, integer=True)
    check_range("confidence", confidence, 0.0, 1.0, low_open=True, high_open=True)
    low, high = _wilson(successes, n, confidence)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def _wilson(successes: float, n: int, confidence: float) -> Interval:
    """Returns the Wilson score interval of a proportion whose successes need not be a whole number.

    Written in the order of statsmodels' ``proportion_confint``, so that the limits are the same to the last bit.
    """
    z = float(norm.isf((1 - confidence) / 2))
    share = successes / n
    denominator = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / denominator
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)


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


def patient_weights(labels: Bools, patients: npt.NDArray[Any], resamples: int, seed: int) -> Iterator[Floats]:
    """Yields how often each image occurs in each bootstrap resample of whole patients, block by block.

    Patients are drawn with replacement within strata (only positive images, only negative ones, both), so a class
    that is there at all is there in every resample.

    Args:
        labels: Shape (n,), boolean.
        patients: Shape (n,), identifiers.
        resamples: Number of resamples in all blocks together.
        seed: Seed of the draws.

    Yields:
        Arrays of shape (block, n), float64, whole numbers from 0.
    """
    rng = np.random.default_rng(seed)
    _, index = np.unique(patients, return_inverse=True)
    n_patients = int(index.max()) + 1
    positive = np.bincount(index, weights=labels, minlength=n_patients) > 0
    negative = np.bincount(index, weights=~labels, minlength=n_patients) > 0
    strata = [np.flatnonzero(mask) for mask in (positive & ~negative, positive & negative, negative & ~positive)]
    block = max(1, _CELLS_PER_BLOCK // labels.size)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        counts = np.zeros((size, n_patients))
        for members in strata:
            if members.size:
                counts[:, members] = _draw(rng, size, members.size)
        yield counts[:, index]


def resampled_means(values: Floats, patients: npt.NDArray[Any], resamples: int, seed: int) -> Floats:
    """Means over images under resamples of whole patients, shape (resamples,).

    Args:
        values: Shape (n,).
        patients: Shape (n,), identifiers.
        resamples: How many.
        seed: Of the draws.
    """
    one_stratum = np.ones(values.shape, np.bool_)
    blocks = patient_weights(one_stratum, patients, resamples, seed)
    return np.concatenate([weights @ values / weights.sum(axis=1) for weights in blocks])


def resampled_aurocs(labels: Bools, scores: Floats, patients: npt.NDArray[Any], resamples: int, seed: int) -> Floats:
    """The mean of several models' AUROCs under resamples of whole patients, the same for all; shape (resamples,).

    Args:
        labels: Shape (n,), boolean, of both kinds.
        scores: Shape (models, n).
        patients: Shape (n,), identifiers.
        resamples: How many.
        seed: Of the draws: two calls on the same labels and patients draw the same.
    """
    blocks = patient_weights(labels, patients, resamples, seed)
    return np.concatenate([mean_aurocs(labels, scores, weights) for weights in blocks])


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
        return _undefined(f"no {what}")
    low, high = wilson(int(success.sum()), n, confidence)
    method = f"Wilson {_percent(confidence)}"
    n_patients = int(np.unique(ids).size)
    if n_patients < n:
        method += (
            f" ({n} images of {n_patients} patient{'s' * (n_patients > 1)} taken as independent: interval too narrow)"
        )
    return _estimate(float(success.mean()), low, high, method)


def _resampled(
    y: Bools, s: Floats, called: Bools, ids: npt.NDArray[Any], resamples: int, seed: int, confidence: float
) -> dict[str, Estimate]:
    """Returns f1, auroc and ap with their intervals."""
    if not y.any():
        return {name: _undefined("no positive images") for name in ("f1", "auroc", "ap")}
    names = ["f1"] if y.all() else ["f1", "auroc", "ap"]
    draws: dict[str, list[Floats]] = {name: [] for name in names}
    for weights in patient_weights(y, ids, resamples, seed):
        draws["f1"].append(_weighted_f1(y, called, weights))
        if not y.all():
            draws["auroc"].append(weighted_auroc(y, s, weights))
            draws["ap"].append(weighted_average_precision(y, s, weights))
    values = {"f1": float(_weighted_f1(y, called, np.ones((1, y.size)))[0])}
    if not y.all():
        values |= {"auroc": float(roc_auc_score(y, s)), "ap": float(average_precision_score(y, s))}
    bootstrap = bootstrap_method(y, ids, resamples, confidence)
    estimates = {name: _undefined("no negative images") for name in ("f1", "auroc", "ap")}
    for name in names:
        low, high = np.quantile(np.concatenate(draws[name]), [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
        if high - low > 1e-12:
            estimates[name] = _estimate(values[name], low, high, bootstrap)
        else:
            estimates[name] = _collapsed(name, values[name], y, called, ids, confidence)
    return estimates


def bootstrap_method(y: Bools, ids: npt.NDArray[Any], resamples: int, confidence: float) -> str:
    """Names a bootstrap of patients, and says where there are too few of them for it."""
    total, positive, negative = (int(np.unique(part).size) for part in (ids, ids[y], ids[~y]))
    method = f"patient bootstrap {_percent(confidence)} ({resamples} resamples, {total} patients)"
    if min(positive, negative) < FEW_PATIENTS:
        method += f"; only {positive} positive and {negative} negative patients: interval too narrow"
    return method


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
        return {"value": value, "low": None, "high": None, "method": "no interval: bootstrap has no width"}
    return _estimate(value, low, high, method)


def _f1_interval(f1: float, involved: Bools, ids: npt.NDArray[Any], confidence: float) -> tuple[float, float, int]:
    """Returns low, high and the number of patients behind an F1, by the Wilson indirect method.

    ``F* = tp / (tp + fp + fn) = F1 / (2 - F1)`` is a proportion of the images that are positive or called so; its
    Wilson interval on the number of patients of those images, carried back by ``F1 = 2 F* / (1 + F*)``, is returned.
    """
    n = int(np.unique(ids[involved]).size)
    limits = _wilson(f1 / (2 - f1) * n, n, confidence)
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


def _draw(rng: np.random.Generator, resamples: int, n: int) -> Ints:
    """Returns how often each of n things is drawn in n draws with replacement, shape (resamples, n)."""
    picks = rng.integers(0, n, size=(resamples, n)) + np.arange(resamples)[:, None] * n
    return np.bincount(picks.ravel(), minlength=resamples * n).reshape(resamples, n)


def _estimate(value: float, low: float, high: float, method: str) -> Estimate:
    return {"value": value, "low": low, "high": high, "method": method}


def _undefined(reason: str) -> Estimate:
    return {"value": None, "low": None, "high": None, "method": f"undefined: {reason}"}


def _percent(confidence: float) -> str:
    return f"{100 * confidence:g} %"
