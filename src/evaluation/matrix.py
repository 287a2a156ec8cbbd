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

from cxrlab.evaluation.estimate import Bools, Difference, Estimate, Floats, Resampling, SeedMean, mean
from cxrlab.evaluation.paired import patient_bootstrap_auroc_difference
from cxrlab.evaluation.statistics import mean_auroc


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
        "auroc": _auroc(answers, how),
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
        Positive where the external AUROC is lower.
    """
    own, there = _numbers(internal), _numbers(external)
    if own is None or there is None:
        return Estimate(None, None, None, (internal if own is None else external).method)
    (value, low, high), (other, other_low, other_high) = own, there
    fall = value - other
    below, above = math.hypot(value - low, other_high - other), math.hypot(high - value, other - other_low)
    method = "square-and-add of both intervals (MOVER)"
    if "too narrow" in internal.method + external.method:
        method += "; too few patients in one of them: interval too narrow"
    return Estimate(fall, max(-1.0, fall - below), min(1.0, fall + above), method)


def paired(one: Answers, other: Answers, how: Resampling) -> Difference:
    """Returns how much larger the first recipe's AUROC is on the same images, whole patients resampled for both.

    Args:
        one: About n images.
        other: About the same, in the same order; it may have another number of seeds.
        how: Of the interval.

    Raises:
        ValueError: If labels or patients differ.
    """
    if not np.array_equal(one.labels, other.labels) or not np.array_equal(one.patients, other.patients):
        raise ValueError("one and other must be about the same images in the same order")
    if one.undefined:
        return Difference.undefined(one.undefined)
    return patient_bootstrap_auroc_difference(one.labels, one.scores, other.scores, one.patients, how)


def _auroc(answers: Answers, how: Resampling) -> SeedMean:
    if answers.undefined:
        return SeedMean.undefined(answers.undefined)
    return mean_auroc(answers.labels, answers.scores, answers.patients, how)


def _rate(answers: Answers, hits: Bools, how: Resampling, reason: str) -> SeedMean:
    """The mean over seeds of the share of hits among images of one label; hits of shape (seeds, n)."""
    if not answers.labels.size:
        return SeedMean.undefined(reason)
    found = mean(hits.mean(axis=0), answers.patients, how, share=True)
    seeds = tuple(hits.mean(axis=1).tolist())
    return SeedMean(float(np.mean(seeds)), found.low, found.high, found.method, seeds)


def _numbers(estimate: Estimate) -> tuple[float, float, float] | None:
    """Value and limits, or ``None`` where one is missing."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return estimate.value, estimate.low, estimate.high
