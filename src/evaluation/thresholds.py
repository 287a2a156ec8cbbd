"""From which score on an image is called Positive, and what such a call is worth where the disease is rarer.

Sources:
    Youden's index: W. J. Youden, Cancer 1950;3:32-35.
    Cost: C. E. Metz, Semin Nucl Med 1978;8:283-298: the expected cost of a false negative and a false positive.
    Predictive values at a prevalence: Bayes' theorem, with the logit interval of N. D. Mercaldo, K. F. Lau and
        X. H. Zhou, Stat Med 2007;26:2170-2183.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm

from cxrlab.errors import check_choice, check_range
from cxrlab.evaluation.estimate import USUAL, Bools, Estimate, Floats, Resampling
from cxrlab.evaluation.statistics import checked

RULES = ("youden", "sensitivity", "cost")


def choose(
    rule: str,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    sensitivity: float = 0.95,
    cost: float = 1.0,
    prevalence: float | None = None,
    how: Resampling = USUAL,
) -> Estimate:
    """Chooses a threshold by a rule; it lies halfway between two scores that were found.

    Args:
        rule: ``youden`` (greatest sensitivity + specificity - 1), ``sensitivity`` (the highest threshold that reaches
            it), or ``cost`` (least ``prevalence cost (1 - sensitivity) + (1 - prevalence) (1 - specificity)``). Of
            thresholds equally good for the first or the last the lowest is taken, which misses the fewest.
        labels: Shape (n,): 0 Negative, 1 Positive, both there.
        scores: Shape (n,): probability of Positive, in [0, 1].
        patients: Shape (n,): one identifier per image, see :func:`cxrlab.evaluation.summarise`.
        sensitivity: To be reached, in (0, 1].
        cost: Of a false negative, in false positives, above 0.
        prevalence: Share of people with the disease, in (0, 1); ``None`` takes the share of Positive images.
        how: Of the interval.

    Returns:
        The threshold in [0, 1], and where it falls in resamples of patients.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    y, s, ids = checked(labels, scores, patients)
    if y.all() or not y.any():
        raise ValueError(f"labels must hold both classes, got {int(y.sum())} Positive of {y.size}")
    check_choice("rule", rule, RULES)
    check_range("sensitivity", sensitivity, 0.0, 1.0, low_open=True)
    check_range("cost", cost, 0.0, low_open=True)
    prevalence = float(y.mean()) if prevalence is None else prevalence
    check_range("prevalence", prevalence, 0.0, 1.0, low_open=True, high_open=True)
    cuts = _cuts(s)

    def best(weights: Floats) -> Floats:
        sens, spec = _operating_points(y, s, weights)
        if rule == "sensitivity":  # falls with the threshold; a share like 0.95 may be missed by a rounding error
            index = (sens >= sensitivity - 1e-9).sum(axis=1) - 1
        elif rule == "youden":
            index = np.argmax(np.round(sens + spec, 12), axis=1)
        else:
            expected = prevalence * cost * (1 - sens) + (1 - prevalence) * (1 - spec)
            index = np.argmin(np.round(expected, 12), axis=1)
        return np.asarray(cuts[index])

    value = float(best(np.ones((1, y.size)))[0])
    low, high = np.quantile(how.bootstrap(best, ids, y), how.ends).tolist()
    return Estimate(value, min(low, value), max(high, value), how.method(ids, y))


def predictive_values(
    labels: npt.ArrayLike,
    called: npt.ArrayLike,
    patients: npt.ArrayLike,
    prevalence: float,
    *,
    confidence: float = 0.95,
) -> dict[str, Estimate]:
    """Returns PPV and NPV where a share of ``prevalence`` has the disease, whatever share of these images does.

    Sensitivity and specificity are taken as the same there. The interval is Mercaldo's logit one. Where either is 0 or
    1 it is the adjusted one: half a squared normal quantile is added to the patients called either way, and the
    interval is widened to hold the value. It counts patients, not images.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        called: Shape (n,): whether each image was called Positive.
        patients: Shape (n,): one identifier per image.
        prevalence: In (0, 1).
        confidence: Coverage of the intervals, in (0, 1).

    Returns:
        ``ppv`` and ``npv``.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    check_range("prevalence", prevalence, 0.0, 1.0, low_open=True, high_open=True)
    check_range("confidence", confidence, 0.0, 1.0, low_open=True, high_open=True)
    y, c, ids = checked(labels, np.asarray(called, np.float64), patients)
    if y.all() or not y.any():
        one = Estimate.undefined(f"all images are {'Positive' if y.all() else 'Negative'}")
        return {"ppv": one, "npv": one}
    sens, spec = float(c[y].mean()), float(1 - c[~y].mean())
    positive, negative = (int(np.unique(ids[part]).size) for part in (y, ~y))
    z = float(norm.ppf(0.5 + confidence / 2))
    added = 0.0 if 0 < sens < 1 and 0 < spec < 1 else z * z
    n1, n0 = positive + added, negative + added
    se, sp = (sens * positive + added / 2) / n1, (spec * negative + added / 2) / n0
    odds = prevalence / (1 - prevalence)
    method = (
        f"Bayes at prevalence {prevalence:g}; {'adjusted ' if added else ''}logit {100 * confidence:g} % "
        f"(Mercaldo 2007), {positive} positive and {negative} negative patients"
    )
    ppv_error = math.sqrt((1 - se) / (se * n1) + sp / ((1 - sp) * n0))
    npv_error = math.sqrt(se / ((1 - se) * n1) + (1 - sp) / (sp * n0))
    return {
        "ppv": _by_bayes(sens * odds, 1 - spec, math.log(se * odds / (1 - sp)), z * ppv_error, method),
        "npv": _by_bayes(spec / odds, 1 - sens, math.log(sp / odds / (1 - se)), z * npv_error, method),
    }


def _by_bayes(right: float, wrong: float, log_odds: float, half: float, method: str) -> Estimate:
    """A predictive value ``right / (right + wrong)``, with the interval ``half`` to either side of its log odds."""
    if right + wrong == 0:
        return Estimate.undefined("no image was called so")
    value, low, high = right / (right + wrong), float(expit(log_odds - half)), float(expit(log_odds + half))
    return Estimate(value, min(low, value), max(high, value), method)


def _cuts(scores: Floats) -> Floats:
    """Thresholds that tell every two different scores apart, rising: the first calls all Positive, the last none.

    No threshold in [0, 1] calls an image with a score of 1 Negative; there is then no last one.
    """
    found = np.unique(scores)
    last = [(found[-1] + 1) / 2] if found[-1] < 1 else []
    between = np.maximum((found[1:] + found[:-1]) / 2, np.nextafter(found[:-1], 1))  # of neighbouring floats the upper
    return np.concatenate([[found[0] / 2], between, last])


def _operating_points(y: Bools, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Sensitivity and specificity at each of :func:`_cuts` under each row of weights, both (rows, cuts)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-math.inf) > 0)

    def called(part: Bools) -> Floats:
        summed = np.add.reduceat((weights * part)[:, order], starts, axis=1)
        above = np.cumsum(summed[:, ::-1], axis=1)[:, ::-1]
        none = np.zeros((len(weights), int(scores.max() < 1)))
        return np.asarray(np.hstack([above, none]) / above[:, :1])

    return called(y), 1 - called(~y)
