"""One model under several seeds, on images of one place: what it is worth there, and what it loses elsewhere.

The seeds of a recipe are several trainings and one answer: what is estimated is the mean over seeds. Patients are
resampled, the same ones for every seed, so the interval is that of other patients of the place; how far the seeds
themselves lie apart is told beside it.

Sources:
    Patient bootstrap (percentile interval): A. C. Davison and D. V. Hinkley, Bootstrap Methods and Their Application,
        1997, chapter 5; where it has no width, the score intervals of :mod:`cxrlab.evaluation.statistics`.
    Differences of independent estimates: G. Y. Zou and A. Donner, Stat Med 2008;27:1693-1702.
    The drop from internal to external images: J. R. Zech et al., PLoS Med 2018;15:e1002683, who measured it between
        hospitals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrlab.errors import check_range
from cxrlab.evaluation.statistics import (
    FEW_PATIENTS,
    Bools,
    Estimate,
    Floats,
    newcombe_auroc,
    patient_weights,
    resampled_aurocs,
    weighted_auroc,
    wilson,
)

_NO_WIDTH = 1e-12


@dataclass(frozen=True)
class Answers:
    """What one recipe, trained under one or several seeds, says about the same images.

    Attributes:
        labels: Shape (n,), boolean: whether Positive.
        scores: Shape (seeds, n), in [0, 1]; higher means more likely Positive.
        called: Shape (seeds, n), boolean: whether each model calls the image Positive, at its own threshold.
        patients: Shape (n,): one key per image.

    Raises:
        ValueError: Names the array whose shape does not fit.
    """

    labels: Bools
    scores: Floats
    called: Bools
    patients: npt.NDArray[Any]

    def __post_init__(self) -> None:
        n = self.labels.size
        if self.labels.shape != (n,) or self.labels.dtype != bool:
            raise ValueError(f"labels must be boolean of shape (n,), got {self.labels.dtype} of {self.labels.shape}")
        for name, array in (("scores", self.scores), ("called", self.called)):
            if array.ndim != 2 or array.shape[1] != n or not len(array):
                raise ValueError(f"{name} must have shape (seeds, {n}) with a seed or more, got {array.shape}")
        if self.patients.shape != (n,):
            raise ValueError(f"patients must have shape ({n},), got {self.patients.shape}")

    def take(self, chosen: npt.NDArray[Any]) -> Answers:
        """About some of the images, a mask or positions of shape (m,)."""
        return Answers(
            self.labels[chosen], self.scores[:, chosen], self.called[:, chosen], np.asarray(self.patients[chosen])
        )

    @property
    def undefined(self) -> str | None:
        """Why there is no AUROC, ``None`` where there is one."""
        if not self.labels.size:
            return "no images are left"
        if self.labels.all():
            return "no negative images"
        return None if self.labels.any() else "no positive images"


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Attributes:
        resamples: Of patients, at least 100.
        confidence: Coverage, in (0, 1).
        seed: Of the draws, at least 0.

    Raises:
        ValueError: Names the value that is out of range.
    """

    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("resamples", self.resamples, 100, integer=True)
        check_range("confidence", self.confidence, 0.0, 1.0, low_open=True, high_open=True)
        check_range("seed", self.seed, 0, integer=True)

    def limits(self, drawn: Floats) -> tuple[float, float]:
        """The percentile interval of what was drawn, shape (resamples,)."""
        low, high = np.quantile(drawn, [(1 - self.confidence) / 2, (1 + self.confidence) / 2]).tolist()
        return low, high

    @property
    def percent(self) -> str:
        """``95 %``."""
        return f"{100 * self.confidence:g} %"


def cell(answers: Answers, how: Resampling) -> dict[str, Any]:
    """Returns what a recipe is worth on some images.

    Args:
        answers: About them; there may be none, or those of one label only.
        how: Of the intervals.

    Returns:
        Plain values, ready for JSON: ``n``, ``n_patients``, ``n_positive``, ``n_negative``, ``undefined`` (why there is
        no AUROC, or ``None``) and for each of ``auroc``, ``sensitivity`` and ``specificity`` ``{"value", "low",
        "high", "method", "seeds"}``: the mean over seeds with its interval, and the value of each seed. What is
        undefined is ``None``.
    """
    y, ids = answers.labels, answers.patients
    return {
        "n": int(y.size),
        "n_patients": int(np.unique(ids).size),
        "n_positive": int(y.sum()),
        "n_negative": int((~y).sum()),
        "undefined": answers.undefined,
        "auroc": _auroc_estimate(answers, how),
        "sensitivity": _rate(answers.take(y), answers.called[:, y], how, "no positive images"),
        "specificity": _rate(answers.take(~y), ~answers.called[:, ~y], how, "no negative images"),
    }


def drop(internal: Estimate, external: Estimate) -> Estimate:
    """Returns how much AUROC is lost from a recipe's own held-out images to those of another place.

    The two places have other patients, so their intervals are put together by the square-and-add rule (MOVER, Zou and
    Donner 2008), which keeps the width of a perfect score's interval, where a bootstrap has none.

    Args:
        internal: AUROC on held-out images of the place that was trained on, with interval, as of :func:`cell`.
        external: The same of another place.

    Returns:
        ``{"value", "low", "high", "method"}``; positive where the external AUROC is lower.
    """
    for estimate in (internal, external):
        if estimate["value"] is None:
            return _none(estimate["method"])
    value = internal["value"] - external["value"]
    below = math.hypot(internal["value"] - internal["low"], external["high"] - external["value"])
    above = math.hypot(internal["high"] - internal["value"], external["value"] - external["low"])
    method = "square-and-add of both intervals (MOVER)"
    if "too narrow" in internal["method"] + external["method"]:
        method += "; too few patients in one of them: interval too narrow"
    return {"value": value, "low": max(-1.0, value - below), "high": min(1.0, value + above), "method": method}


def paired(one: Answers, other: Answers, how: Resampling) -> Estimate:
    """Returns how much larger the first recipe's AUROC is on the same images, whole patients resampled for both.

    Args:
        one: About n images.
        other: About the same, in the same order; it may have another number of seeds.
        how: Of the interval.

    Returns:
        ``{"value", "low", "high", "method"}``.

    Raises:
        ValueError: If labels or patients differ.
    """
    if not np.array_equal(one.labels, other.labels) or not np.array_equal(one.patients, other.patients):
        raise ValueError("one and other must be about the same images in the same order")
    if one.undefined:
        return _none(f"undefined: {one.undefined}")
    value = _seed_mean(one) - _seed_mean(other)
    drawn = _drawn(one, how) - _drawn(other, how)  # the same seed draws the same patients
    if np.ptp(drawn) < _NO_WIDTH:
        return {"value": value, "low": None, "high": None, "method": "no interval: the same in every resample"}
    low, high = how.limits(drawn)
    patients = np.unique(one.patients).size
    method = f"paired patient bootstrap {how.percent} ({how.resamples} resamples, {patients} patients)"
    return {"value": value, "low": low, "high": high, "method": method + _few(one)}


def _auroc_estimate(answers: Answers, how: Resampling) -> Estimate:
    if answers.undefined:
        return {**_none(f"undefined: {answers.undefined}"), "seeds": []}
    y, once = answers.labels, np.ones((1, answers.labels.size))
    seeds = [float(weighted_auroc(y, scores, once)[0]) for scores in answers.scores]
    value, drawn = float(np.mean(seeds)), _drawn(answers, how)
    if np.ptp(drawn) > _NO_WIDTH:
        low, high = how.limits(drawn)
        method = f"{_bootstrap(answers, how)}{_few(answers)}"
    else:
        positive, negative = (int(np.unique(answers.patients[of]).size) for of in (y, ~y))
        low, high = newcombe_auroc(value, positive, negative, how.confidence)
        method = f"Newcombe score {how.percent} ({positive} positive, {negative} negative patients)"
    return {"value": value, "low": low, "high": high, "method": method, "seeds": seeds}


def _rate(answers: Answers, hits: Bools, how: Resampling, reason: str) -> Estimate:
    """The mean over seeds of the share of hits among images of one label; hits of shape (seeds, n)."""
    if not answers.labels.size:
        return {**_none(f"undefined: {reason}"), "seeds": []}
    seeds, share = hits.mean(axis=1).tolist(), hits.mean(axis=0)
    value = float(np.mean(seeds))
    weights = patient_weights(answers.labels, answers.patients, how.resamples, how.seed)
    drawn = np.concatenate([block @ share / block.sum(axis=1) for block in weights])
    if np.ptp(drawn) > _NO_WIDTH:
        low, high = how.limits(drawn)
        method = _bootstrap(answers, how)
    else:
        n = int(np.unique(answers.patients).size)
        low, high = wilson(round(value * n), n, how.confidence)
        method = f"Wilson {how.percent} on {n} patient{'s' * (n != 1)}; the bootstrap has no width"
    return {"value": value, "low": low, "high": high, "method": method, "seeds": seeds}


def _seed_mean(answers: Answers) -> float:
    once = np.ones((1, answers.labels.size))
    return float(np.mean([weighted_auroc(answers.labels, scores, once)[0] for scores in answers.scores]))


def _drawn(answers: Answers, how: Resampling) -> Floats:
    """The AUROC's mean over seeds in every resample of patients, shape (resamples,)."""
    return resampled_aurocs(answers.labels, answers.scores, answers.patients, how.resamples, how.seed)


def _bootstrap(answers: Answers, how: Resampling) -> str:
    patients, seeds = np.unique(answers.patients).size, len(answers.scores)
    mean = f" of the mean of {seeds} seeds" if seeds > 1 else ""
    return f"patient bootstrap {how.percent}{mean} ({how.resamples} resamples, {patients} patients)"


def _few(answers: Answers) -> str:
    y = answers.labels
    positive, negative = (int(np.unique(answers.patients[of]).size) for of in (y, ~y))
    if min(positive, negative) >= FEW_PATIENTS:
        return ""
    return f"; only {positive} positive and {negative} negative patients: interval too narrow"


def _none(reason: str) -> Estimate:
    return {"value": None, "low": None, "high": None, "method": reason}
