"""Whether 8 of 10 images with a score of 0.8 are Positive: reliability, Brier score, calibration error.

Sources:
    Brier score: G. W. Brier, Mon Weather Rev 1950;78:1-3, halved to one class, as is usual for two.
    Expected calibration error: M. P. Naeini, G. F. Cooper and M. Hauskrecht, AAAI 2015, of the positive class's score.
    Error of a calibrated classifier: the consistency resampling of J. Bröcker and L. A. Smith, Weather Forecast
        2007;22:651-661.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import ALIKE, USUAL, Bools, Estimate, Floats, Ints, Resampling, wilson
from cxrlab.evaluation.statistics import checked


@dataclass(frozen=True)
class Bin:
    """The images, one or more, whose scores lie between the edges ``low`` and ``high`` of one bin.

    The 95 % Wilson interval is that of the share of Positive images, which are taken as independent.
    """

    low: float
    high: float
    n: int
    mean_score: float
    share_positive: float
    wilson_low: float
    wilson_high: float


def reliability(labels: ArrayLike, scores: ArrayLike, bins: int = 10) -> list[Bin]:
    """Compares the mean score with the share of positives in ``bins`` bins of equal width, at least 1.

    A bin holds its lower edge, and only the last one its upper edge. Returns those that hold images, by rising score.
    """
    y, s, _ = checked(labels, scores)
    index = _bin_index(s, bins)
    rows = []
    for number in np.unique(index).tolist():
        inside = index == number
        n, positive = int(inside.sum()), int(y[inside].sum())
        edges = number / bins, (number + 1) / bins
        rows.append(Bin(*edges, n, float(s[inside].mean()), positive / n, *wilson(positive, n)))
    return rows


def expected_calibration_error(labels: ArrayLike, scores: ArrayLike, bins: int = 10) -> float:
    """Returns the mean distance of mean score and share of positives, each bin weighted by its number of images.

    It is in [0, 1], and 0 is calibrated. It depends on the number of bins, and of few images it is too large: noise in
    a bin counts as miscalibration, whichever its sign.
    """
    y, s, _ = checked(labels, scores)
    return float(_weighted_ece(np.ones((1, y.size)), _excess(y, s, bins))[0])


def summary(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, *, bins: int = 10, how: Resampling = USUAL
) -> dict[str, Estimate]:
    """Returns ``brier``, ``ece`` and ``ece_if_calibrated`` of one set of predictions, with intervals.

    The calibration error of a resample is larger than that of the sample, for the reason that makes the sample's larger
    than the truth. Its interval is therefore the basic one, which takes that shift off (``2 value - quantile``, held to
    [0, 1] and widened to hold the value): in simulations with 40 images and a true error of 0.09 it held the truth in
    78 % of cases, the percentile interval in 9 %. Where the classifier is nearly calibrated both fail, and
    ``ece_if_calibrated`` says more: the mean and range of the error that a perfectly calibrated classifier with these
    scores would show, from as many draws of labels as there are resamples of patients. An error inside its range is no
    sign of miscalibration.
    """
    y, s, ids = checked(labels, scores, patients)
    squares, excess = (s - y) ** 2, _excess(y, s, bins)
    error, method = float(_weighted_ece(np.ones((1, y.size)), excess)[0]), how.method(ids, y)
    drawn = how.limits(how.bootstrap(lambda weights: _weighted_ece(weights, excess), ids, y))
    basic = None
    if drawn is not None:
        basic = min(error, max(0.0, 2 * error - drawn[1])), max(error, min(1.0, 2 * error - drawn[0]))
    squared = how.limits(how.bootstrap(lambda weights: weights @ squares / weights.sum(axis=1), ids, y))
    rng, index = np.random.default_rng(how.seed), _bin_index(s, bins)
    errors = [np.abs(np.bincount(index, s - (rng.random(s.size) < s))).sum() / s.size for _ in range(how.resamples)]
    width = f"{bins} bins of equal width"
    draws = f"{how.resamples} draws of every label from its score, images taken as independent; {width}"
    return {
        "brier": _estimate(float((np.ones((1, y.size)) @ squares / y.size)[0]), squared, method),
        "ece": _estimate(error, basic, f"{width}; basic interval, {method}"),
        "ece_if_calibrated": _estimate(float(np.mean(errors)), how.limits(errors), draws),
    }


def _bin_index(scores: Floats, bins: int) -> Ints:
    """Returns each score's bin, 0 to bins - 1; edges are compared, as 1 / 49 * 49 is below 1."""
    check_range("bins", bins, 1, integer=True)
    return np.searchsorted(np.arange(1, bins) / bins, scores, side="right").astype(np.int64)


def _excess(y: Bools, s: Floats, bins: int) -> Floats:
    """Returns score minus label in the column of the score's bin, and 0 elsewhere; shape (n, bins)."""
    index = _bin_index(s, bins)
    excess = np.zeros((s.size, bins))
    excess[np.arange(s.size), index] = s - y
    return excess


def _weighted_ece(weights: Floats, excess: Floats) -> Floats:
    """Returns the error under each row of weights; a bin's sum of differences is its n times the distance of means."""
    return np.asarray(np.abs(weights @ excess).sum(axis=1) / weights.sum(axis=1))


def _estimate(value: float, limits: tuple[float, float] | None, method: str) -> Estimate:
    return Estimate.bare(value, ALIKE) if limits is None else Estimate(value, *limits, method)
