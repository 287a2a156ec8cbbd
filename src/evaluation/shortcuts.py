"""What a classifier still gets right when something is taken away from its images, and the rules that judge it.

Everything is of the same images before and after, so differences are paired, and whole patients are resampled.

Sources:
    Altered inputs: L. Maguolo and L. Nanni, Inf Fusion 2021;76:1-7; A. J. DeGrave, J. D. Janizek and S.-I. Lee,
        Nat Mach Intell 2021;3:610-619.
    Several inputs, of which the best counts: C. E. Bonferroni; intervals of level 1 - 0.05 / k hold for all k at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import Difference, Estimate, Resampling, SeedMean, mean
from cxrlab.evaluation.paired import patient_bootstrap_auroc_difference
from cxrlab.evaluation.statistics import checked, mean_auroc

ERROR = 0.05
"""Of all intervals of a verdict together: they hold at 95 %."""
CHANCE = 0.5
"""The AUROC of guessing."""
KEPT_SHARE = 0.5
"""From this share of the intact AUROC's distance from 0.5 on, performance counts as kept."""
FLIPS_WARN, FLIPS_FAIL = 0.05, 0.2
"""Shares of decisions that an edit without meaning may change."""


@dataclass(frozen=True)
class Tried:
    """One alteration, on the images that a trained model is probed with.

    Attributes:
        name: Of the alteration; ``none`` is the images as they are.
        group: ``lungs removed``, ``lungs kept``, ``detail removed`` or ``edit``; ``words`` say what was done.
        difference: To the intact AUROC on the same images, altered minus intact, see :mod:`cxrlab.evaluation.paired`.
        shift: Mean change of the score by label, ``Negative`` and ``Positive``.
        flipped: Share of images whose decision changes.
        visible: Mean share of the lungs' area that can still be seen; ``None`` where nobody knows where the lungs are.
        corrected: The AUROC with the interval of the verdict, if it takes this for an input without lungs.
    """

    name: str
    group: str
    words: str
    n: int
    n_patients: int
    auroc: SeedMean
    difference: Difference
    shift: dict[str, Estimate]
    flipped: Estimate
    visible: float | None
    corrected: Estimate | None


@dataclass(frozen=True)
class Retrained:
    """One alteration, on whose images the same recipe was trained again; else like :class:`Tried`.

    ``right`` is the number of test images called rightly, for each seed, and ``auroc`` the mean of all seeds. The
    difference is that to the mean AUROC of the recipe on intact images; ``None`` where that was not trained.
    """

    name: str
    group: str
    words: str
    n: int
    n_patients: int
    right: tuple[int, ...]
    auroc: SeedMean
    difference: Difference | None
    corrected: Estimate | None


def respond(
    labels: ArrayLike, intact: ArrayLike, altered: ArrayLike, patients: ArrayLike, *, threshold: float, how: Resampling
) -> dict[str, Any]:
    """Compares the scores of intact and of altered images, for the fields of :class:`Tried` with the same names."""
    y, before, ids = checked(labels, intact, patients)
    _, after, _ = checked(labels, altered, patients)
    check_range("threshold", threshold, 0.0, 1.0)
    by_label = {"Negative": ~y, "Positive": y}
    return {
        "n": int(y.size),
        "n_patients": int(np.unique(ids).size),
        "auroc": mean_auroc(y, after, ids, how),
        "difference": patient_bootstrap_auroc_difference(y, after, before, ids, how),
        "shift": {name: mean((after - before)[of], ids[of], how) for name, of in by_label.items()},
        "flipped": mean((before >= threshold) != (after >= threshold), ids, how, share=True),
    }


def corrected(inputs: int) -> float:
    """The confidence of one interval if those of so many inputs are to hold together at 95 %."""
    return 1 - ERROR / max(1, inputs)


def judge_without_lungs(intact: Estimate, removed: Mapping[str, Estimate]) -> tuple[str, str]:
    """Whether labels can be told apart although no lung can be seen, and the input on which this verdict rests.

    The AUROCs are those on intact images and of the inputs without lungs, each interval at :func:`corrected`
    confidence. NOT CHECKED where the interval of the intact AUROC reaches down to 0.5 or there is no input without
    lungs. FAIL if an interval lies above 0.5 and its AUROC keeps :data:`KEPT_SHARE` of the intact one's distance from
    0.5; WARN if one lies above 0.5 and keeps less, or lies below 0.5 (told apart, the wrong way round); else PASS.
    """
    aurocs = {name: each.value for name, each in removed.items() if each.value is not None and each.low is not None}
    if not aurocs or not intact.above(CHANCE):
        return "NOT CHECKED", ""
    apart = [name for name in aurocs if removed[name].above(CHANCE)]
    if apart:
        best = max(apart, key=aurocs.__getitem__)
        return ("FAIL" if kept(intact, removed[best]) >= KEPT_SHARE else "WARN"), best
    reversed_ = [name for name in aurocs if removed[name].below(CHANCE)]
    if reversed_:
        return "WARN", min(reversed_, key=aurocs.__getitem__)
    return "PASS", max(aurocs, key=aurocs.__getitem__)


def judge_lungs_only(intact: Estimate, only: Estimate) -> str:
    """Whether the lungs alone are enough: PASS if at least :data:`KEPT_SHARE` is kept, else WARN."""
    if not intact.above(CHANCE) or only.low is None:
        return "NOT CHECKED"
    return "PASS" if only.above(CHANCE) and kept(intact, only) >= KEPT_SHARE else "WARN"


def judge_flips(flipped: Estimate, *, on_lungs: bool = False) -> str:
    """Judges the share of decisions that an edit without meaning changes.

    FAIL from :data:`FLIPS_FAIL` on if the interval lies above :data:`FLIPS_WARN` and the edit is beside the lungs; WARN
    above :data:`FLIPS_WARN`; else PASS. A model that does not bear an edit of the lungs' own pixels is a fragile one,
    but need not look at anything but lungs.
    """
    if flipped.value is None:
        return "NOT CHECKED"
    if flipped.value >= FLIPS_FAIL and flipped.above(FLIPS_WARN) and not on_lungs:
        return "FAIL"
    return "WARN" if flipped.value > FLIPS_WARN else "PASS"


def kept(intact: Estimate, altered: Estimate) -> float:
    """Share of the intact AUROC's distance from 0.5 that is left; negative below 0.5."""
    if intact.value is None or altered.value is None:
        raise ValueError(f"both AUROCs must be defined, got {intact.method} and {altered.method}")
    return (altered.value - CHANCE) / (intact.value - CHANCE)
