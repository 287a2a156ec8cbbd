"""One model under several seeds, on images of one place: what it is worth there, and what it loses elsewhere.

The seeds of a recipe are several trainings and one answer: what is estimated is the mean over seeds. Patients are
resampled, the same ones for every seed, so the interval is that of other patients of the place.

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
from cxrlab.evaluation.statistics import counts, lacking, mean_auroc


@dataclass(frozen=True)
class Answers:
    """What one recipe, trained under one or several seeds, says about the same images.

    Labels are boolean. Scores have shape (seeds, n), as has ``called``: whether each model calls the image Positive, at
    its own threshold.
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
        return Answers(self.labels[chosen], self.scores[:, chosen], self.called[:, chosen], self.patients[chosen])

    @property
    def undefined(self) -> str | None:
        """Why there is no AUROC, ``None`` where there is one."""
        return (lacking(self.labels) or None) if self.labels.size else "no images are left"


def cell(answers: Answers, how: Resampling) -> dict[str, Any]:
    """Returns what a recipe is worth on some images; there may be none, or those of one label only.

    The values are those of :func:`cxrlab.evaluation.statistics.counts`, ``undefined`` (why there is no AUROC, or
    ``None``) and a :class:`SeedMean` for each of ``auroc``, ``sensitivity`` and ``specificity``.
    """
    y, ids, reason = answers.labels, answers.patients, answers.undefined

    def rate(hits: Bools, of: Bools, without: str) -> SeedMean:
        """The mean over seeds of the share of hits, shape (seeds, n), among images of one label."""
        if not of.any():
            return SeedMean.undefined(without)
        found = mean(hits[:, of].mean(axis=0), ids[of], how, share=True)
        seeds = tuple(hits[:, of].mean(axis=1).tolist())
        return SeedMean(float(np.mean(seeds)), found.low, found.high, found.method, seeds)

    return {
        **counts(y, ids),
        "undefined": reason,
        "auroc": SeedMean.undefined(reason) if reason else mean_auroc(y, answers.scores, ids, how),
        "sensitivity": rate(answers.called, y, "no positive images"),
        "specificity": rate(~answers.called, ~y, "no negative images"),
    }


def drop(internal: Estimate, external: Estimate) -> Estimate:
    """Returns how much AUROC is lost from a recipe's own held-out images to those of another place.

    The two places have other patients, so their intervals are put together by the square-and-add rule (MOVER, Zou and
    Donner 2008), which keeps the width of a perfect score's interval, where a bootstrap has none.
    """
    numbers = np.array([[each.value, each.low, each.high] for each in (internal, external)], np.float64)
    if np.isnan(numbers).any():
        return Estimate(None, None, None, (internal if np.isnan(numbers[0]).any() else external).method)
    (value, low, high), (other, other_low, other_high) = numbers.tolist()
    fall = value - other
    below, above = math.hypot(value - low, other_high - other), math.hypot(high - value, other - other_low)
    method = "square-and-add of both intervals (MOVER)"
    if "too narrow" in internal.method + external.method:
        method += "; too few patients in one of them: interval too narrow"
    return Estimate(fall, max(-1.0, fall - below), min(1.0, fall + above), method)


def paired(one: Answers, other: Answers, how: Resampling) -> Difference:
    """Returns how much larger the first recipe's AUROC is on the same images in the same order.

    Whole patients are resampled for both recipes at once; they may have another number of seeds.
    """
    if not np.array_equal(one.labels, other.labels) or not np.array_equal(one.patients, other.patients):
        raise ValueError("one and other must be about the same images in the same order")
    if one.undefined:
        return Difference.undefined(one.undefined)
    return patient_bootstrap_auroc_difference(one.labels, one.scores, other.scores, one.patients, how)
