"""Whether acting on a score does more good than treating everybody or nobody: net benefit.

Source: A. J. Vickers and E. B. Elkin, Med Decis Making 2006;26:565-574.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from cxrlab.evaluation.estimate import USUAL, Floats, Resampling
from cxrlab.evaluation.statistics import checked

THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities of disease from which on a reader would act."""


def decision_curve(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    patients: npt.ArrayLike,
    how: Resampling = USUAL,
) -> dict[str, Any]:
    """Returns the net benefit per image, ``TP / n - FP / n t / (1 - t)``, at each threshold t.

    It is that of these images, with their share of Positive; where the disease is rarer it is less. It takes scores as
    probabilities: read it of calibrated ones.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores: Shape (n,): probability of Positive, in [0, 1].
        patients: Shape (n,): one identifier per image, see :func:`cxrlab.evaluation.summarise`.
        how: Of the band, at each threshold for itself.

    Returns:
        Plain values: ``prevalence`` (share of Positive images), ``method``, and lists as long as :data:`THRESHOLDS`:
        ``thresholds``, ``model``, ``low``, ``high``, ``treat_all``. Treating nobody has a net benefit of 0. ``better``
        says whether the model beats treating everybody and treating nobody, at this coverage for all thresholds
        together: both differences have a band as wide as the bootstrap's largest absolute t, whose standard errors are
        at least what one wrong patient would change.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
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
    """The thresholds at which the model beats treating everybody and treating nobody, whichever else were looked at.

    Args:
        curve: As :func:`decision_curve` gives it.

    Returns:
        In rising order; ``None`` where an older run did not record it.
    """
    if "better" not in curve:
        return None
    return [at for at, better in zip(curve["thresholds"], curve["better"], strict=True) if better]
