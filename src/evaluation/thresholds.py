"""The score from which an image is called Positive, and what such a call is worth.

Sources:
    Youden's index: W. J. Youden, Cancer 1950;3:32-35.
    Cost: C. E. Metz, Semin Nucl Med 1978;8:283-298: the expected cost of a false negative and a false positive.
    Predictive values at a prevalence: Bayes' theorem, with the logit interval of N. D. Mercaldo, K. F. Lau and
        X. H. Zhou, Stat Med 2007;26:2170-2183.
    Net benefit: A. J. Vickers and E. B. Elkin, Med Decis Making 2006;26:565-574.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import norm

from cxrlab.errors import check_choice, check_range
from cxrlab.evaluation.estimate import USUAL, Estimate, Floats, Resampling, count_patients
from cxrlab.evaluation.statistics import checked, weights_per_score

RULES = ("youden", "sensitivity", "cost")
THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities of disease from which on a reader would act."""


def choose(
    rule: str,
    labels: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    *,
    sensitivity: float = 0.95,
    cost: float = 1.0,
    prevalence: float | None = None,
    how: Resampling = USUAL,
) -> Estimate:
    """Chooses a threshold by a rule; it lies halfway between two scores that were found.

    The rules are ``youden`` (greatest sensitivity + specificity - 1), ``sensitivity`` (the highest threshold that
    reaches it, in (0, 1]), and ``cost`` (of a false negative in false positives, above 0; least
    ``prevalence cost (1 - sensitivity) + (1 - prevalence) (1 - specificity)``, where the prevalence is by default the
    share of Positive images). Of thresholds equally good for the first or the last the lowest is taken, which misses
    the fewest. Both labels must occur. The interval is where the threshold falls in resamples of patients.
    """
    y, s, ids = checked(labels, scores, patients)
    if y.all() or not y.any():
        raise ValueError(f"labels must hold both classes, got {int(y.sum())} Positive of {y.size}")
    check_choice("rule", rule, RULES)
    check_range("sensitivity", sensitivity, 0.0, 1.0, low_open=True)
    check_range("cost", cost, 0.0, low_open=True)
    prevalence = float(y.mean()) if prevalence is None else prevalence
    check_range("prevalence", prevalence, 0.0, 1.0, low_open=True, high_open=True)
    # Thresholds that tell every two different scores apart, rising: the first calls all Positive, the last none. No
    # threshold in [0, 1] calls an image with a score of 1 Negative; there is then no last one.
    found = np.unique(s)
    between = np.maximum((found[1:] + found[:-1]) / 2, np.nextafter(found[:-1], 1))  # of neighbouring floats the upper
    cuts = np.concatenate([[found[0] / 2], between, [(found[-1] + 1) / 2] if found[-1] < 1 else []])

    def best(weights: Floats) -> Floats:
        # At each cut the share of positives and of negatives that is called, both (rows, cuts); at a last one none is.
        above = [np.cumsum(summed[:, ::-1], axis=1)[:, ::-1] for summed in weights_per_score(y, s, weights)]
        sens, wrong = (np.pad(each / each[:, :1], ((0, 0), (0, cuts.size - each.shape[1]))) for each in above)
        spec = 1 - wrong
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
    labels: ArrayLike, called: ArrayLike, patients: ArrayLike, prevalence: float
) -> dict[str, Estimate]:
    """Returns ``ppv`` and ``npv`` where a share of ``prevalence`` has the disease, whatever share of these images does.

    Sensitivity and specificity are taken as the same there. The 95 % interval is Mercaldo's logit one. Where either is
    0 or 1 it is the adjusted one: half a squared normal quantile is added to the patients called either way, and the
    interval is widened to hold the value. It counts patients, not images.
    """
    check_range("prevalence", prevalence, 0.0, 1.0, low_open=True, high_open=True)
    y, c, ids = checked(labels, np.asarray(called, np.float64), patients)
    if y.all() or not y.any():
        reason = f"all images are {'Positive' if y.all() else 'Negative'}"
        return dict.fromkeys(("ppv", "npv"), Estimate.undefined(reason))
    sens, spec = float(c[y].mean()), float(1 - c[~y].mean())
    positive, negative = count_patients(ids, y)
    z = float(norm.ppf(0.5 + USUAL.confidence / 2))
    added = 0.0 if 0 < sens < 1 and 0 < spec < 1 else z * z
    n1, n0 = positive + added, negative + added
    se, sp = (sens * positive + added / 2) / n1, (spec * negative + added / 2) / n0
    odds = prevalence / (1 - prevalence)
    method = (
        f"Bayes at prevalence {prevalence:g}; {'adjusted ' if added else ''}logit {USUAL.percent} "
        f"(Mercaldo 2007), {positive} positive and {negative} negative patients"
    )
    ppv_error = math.sqrt((1 - se) / (se * n1) + sp / ((1 - sp) * n0))
    npv_error = math.sqrt(se / ((1 - se) * n1) + (1 - sp) / (sp * n0))
    return {
        "ppv": _by_bayes(sens * odds, 1 - spec, math.log(se * odds / (1 - sp)), z * ppv_error, method),
        "npv": _by_bayes(spec / odds, 1 - sens, math.log(sp / odds / (1 - se)), z * npv_error, method),
    }


def decision_curve(
    labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, how: Resampling = USUAL
) -> dict[str, Any]:
    """Returns the net benefit per image, ``TP / n - FP / n t / (1 - t)``, at each threshold t.

    It is that of these images, with their share of Positive, the ``prevalence``; where the disease is rarer it is less.
    It takes scores as probabilities: read it of calibrated ones. There are lists as long as :data:`THRESHOLDS`:
    ``thresholds``, ``model`` with a band ``low`` to ``high`` at each threshold for itself, and ``treat_all``. Treating
    nobody has a net benefit of 0. ``better`` says whether the model beats treating everybody and treating nobody, at
    this coverage for all thresholds together, whichever are looked at: both differences have a band as wide as the
    bootstrap's largest absolute t, whose standard errors are at least what one wrong patient would change.
    """
    y, s, ids = checked(labels, scores, patients)
    odds = THRESHOLDS / (1 - THRESHOLDS)
    # What calling an image Positive at each threshold adds: 1 if it is, minus the odds if not; shape (n, thresholds).
    gain = np.where(s[:, None] >= THRESHOLDS, np.where(y[:, None], 1.0, -odds), 0.0)
    all_treated = np.where(y[:, None], 1.0, -odds)

    def means(weights: Floats) -> Floats:
        return np.asarray(np.hstack([weights @ gain, weights @ all_treated]) / weights.sum(axis=1, keepdims=True))

    draws, everybody = np.hsplit(how.bootstrap(means, ids, y), 2)
    low, high = np.quantile(draws, how.ends, axis=0)
    against = np.concatenate([draws, draws - everybody], axis=1)
    found = np.concatenate([gain.mean(axis=0), (gain - all_treated).mean(axis=0)])
    least = np.tile(np.maximum(1.0, odds), 2) / np.unique(ids).size
    error = np.maximum(against.std(axis=0), least)
    width = np.quantile((np.abs(against - found) / error).max(axis=1), how.confidence)
    above = (found - max(width, norm.ppf(how.ends[1])) * error > 0).reshape(2, -1).all(axis=0)
    prevalence = float(y.mean())
    return {
        "prevalence": prevalence,
        "method": f"{how.method(ids, y)}, at each threshold for itself",
        "thresholds": THRESHOLDS.tolist(),
        "model": gain.mean(axis=0).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "treat_all": (prevalence - (1 - prevalence) * odds).tolist(),
        "better": above.tolist(),
    }


def useful_thresholds(curve: Mapping[str, Any]) -> list[float] | None:
    """The thresholds that are ``better`` in a decision curve, rising; ``None`` where an older run did not record it."""
    if "better" not in curve:
        return None
    return [at for at, better in zip(curve["thresholds"], curve["better"], strict=True) if better]


def _by_bayes(right: float, wrong: float, log_odds: float, half: float, method: str) -> Estimate:
    """A predictive value ``right / (right + wrong)``, with the interval ``half`` to either side of its log odds."""
    if right + wrong == 0:
        return Estimate.undefined("no image was called so")
    value, low, high = right / (right + wrong), float(expit(log_odds - half)), float(expit(log_odds + half))
    return Estimate(value, min(low, value), max(high, value), method)
