"""Whether a score of 0.8 means that 8 of 10 such images are Positive: reliability, Brier score, calibration error.

Sources:
    Brier score: G. W. Brier, Mon Weather Rev 1950;78:1-3, halved to one class, as is usual for two.
    Expected calibration error: M. P. Naeini, G. F. Cooper and M. Hauskrecht, AAAI 2015, of the positive class's score.
    Error of a calibrated classifier: the consistency resampling of J. Bröcker and L. A. Smith, Weather Forecast
        2007;22:651-661.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import ALIKE, USUAL, Bools, Estimate, Floats, Ints, Resampling, wilson
from cxrlab.evaluation.statistics import checked


@dataclass(frozen=True)
class Bin:
    """The images whose scores lie in one bin.

    Attributes:
        low: Lower edge, inside the bin.
        high: Upper edge, outside the bin unless it is 1.
        n: Number of images, at least 1.
        mean_score: Mean of their scores.
        share_positive: Share of them that is Positive.
        wilson_low: Lower end of the 95 % Wilson interval of that share, images taken as independent.
        wilson_high: Its upper end.
    """

    low: float
    high: float
    n: int
    mean_score: float
    share_positive: float
    wilson_low: float
    wilson_high: float


def reliability(labels: npt.ArrayLike, scores: npt.ArrayLike, bins: int = 10) -> list[Bin]:
    """Compares, bin by bin, the mean score with the share of positives.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores: Shape (n,): probability of Positive, in [0, 1].
        bins: Number of bins of equal width, at least 1.

    Returns:
        The bins that hold images, by rising score.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, s = _labels_and_scores(labels, scores)
    index = _bin_index(s, bins)
    rows = []
    for number in np.unique(index).tolist():
        inside = index == number
        n, positive = int(inside.sum()), int(y[inside].sum())
        edges = number / bins, (number + 1) / bins
        rows.append(Bin(*edges, n, float(s[inside].mean()), positive / n, *wilson(positive, n)))
    return rows


def expected_calibration_error(labels: npt.ArrayLike, scores: npt.ArrayLike, bins: int = 10) -> float:
    """Returns the mean distance of mean score and share of positives, each bin weighted by its number of images.

    The bins are of equal width, closed below and, but for the last, open above. The error depends on their number,
    and of few images it is too large: noise in a bin counts as miscalibration, whichever its sign.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores: Shape (n,): probability of Positive, in [0, 1].
        bins: Number of bins, at least 1.

    Returns:
        0 (calibrated) to 1.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, s = _labels_and_scores(labels, scores)
    return float(_weighted_ece(np.ones((1, y.size)), _excess(y, s, bins))[0])


def summary(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    bins: int = 10,
    how: Resampling = USUAL,
) -> dict[str, Estimate]:
    """Returns the calibration of one set of predictions, with intervals.

    The calibration error of a resample is larger than that of the sample, for the reason that makes the sample's larger
    than the truth. Its interval is therefore the basic one, which takes that shift off (``2 value - quantile``, held to
    [0, 1] and widened to hold the value): in simulations with 40 images and a true error of 0.09 it held the truth in
    78 % of cases, the percentile interval in 9 %. Where the classifier is nearly calibrated both fail, and
    ``ece_if_calibrated`` says more: an error inside its range is no sign of miscalibration.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores: Shape (n,): probability of Positive, in [0, 1].
        patients: Shape (n,): one identifier per image, see :func:`cxrlab.evaluation.summarise`.
        bins: Number of bins of equal width for the calibration error, at least 1.
        how: Of the intervals; as many draws of labels as resamples of patients.

    Returns:
        ``brier``; ``ece``; and ``ece_if_calibrated``, the mean and range of the error that a perfectly calibrated
        classifier with these scores would show.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, s, ids = checked(labels, scores, patients)
    squares, excess = (s - y) ** 2, _excess(y, s, bins)
    method, once = how.method(ids, y), np.ones((1, y.size))
    error = float(_weighted_ece(once, excess)[0])
    drawn = how.limits(how.bootstrap(lambda weights: _weighted_ece(weights, excess), ids, y))
    basic = None
    if drawn is not None:
        basic = min(error, max(0.0, 2 * error - drawn[1])), max(error, min(1.0, 2 * error - drawn[0]))
    squared = how.limits(how.bootstrap(lambda weights: weights @ squares / weights.sum(axis=1), ids, y))
    binning = f"{bins} bins of equal width; basic interval, "
    return {
        "brier": _estimate(float((once @ squares / y.size)[0]), squared, method),
        "ece": _estimate(error, basic, binning + method),
        "ece_if_calibrated": _if_calibrated(s, bins, how),
    }


def _labels_and_scores(labels: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[Bools, Floats]:
    y, s, _ = checked(labels, scores, np.arange(np.size(scores)))
    return y, s


def _bin_index(scores: Floats, bins: int) -> Ints:
    """Returns each score's bin, 0 to bins - 1; edges are compared, as 1 / 49 * 49 is below 1."""
    check_range("bins", bins, 1, integer=True)
    inner = np.arange(1, bins) / bins
    return np.searchsorted(inner, scores, side="right").astype(np.int64)


def _excess(y: Bools, s: Floats, bins: int) -> Floats:
    """Returns score minus label in the column of the score's bin, and 0 elsewhere; shape (n, bins)."""
    excess = np.zeros((s.size, bins))
    excess[np.arange(s.size), _bin_index(s, bins)] = s - y
    return excess


def _weighted_ece(weights: Floats, excess: Floats) -> Floats:
    """Returns the error under each row of weights; a bin's sum of differences is its n times the distance of means."""
    return np.asarray(np.abs(weights @ excess).sum(axis=1) / weights.sum(axis=1))


def _if_calibrated(s: Floats, bins: int, how: Resampling) -> Estimate:
    rng = np.random.default_rng(how.seed)
    index = _bin_index(s, bins)
    errors = [np.abs(np.bincount(index, s - (rng.random(s.size) < s))).sum() / s.size for _ in range(how.resamples)]
    draws = f"{how.resamples} draws of every label from its score"
    method = f"{draws}, images taken as independent; {bins} bins of equal width"
    return _estimate(float(np.mean(errors)), how.limits(errors), method)


def _estimate(value: float, limits: tuple[float, float] | None, method: str) -> Estimate:
    return Estimate.bare(value, ALIKE) if limits is None else Estimate(value, *limits, method)
