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
import numpy.typing as npt

from cxrlab.errors import check_range
from cxrlab.evaluation.paired import Difference, patient_bootstrap_auroc_difference
from cxrlab.evaluation.statistics import (
    Bools,
    Estimate,
    Floats,
    bootstrap_method,
    checked,
    mean_aurocs,
    newcombe_auroc,
    resampled_aurocs,
    resampled_means,
    wilson,
)

ERROR = 0.05
"""Of all intervals of a verdict together: they hold at 95 %."""
KEPT_SHARE = 0.5
"""From this share of the intact AUROC's distance from 0.5 on, performance counts as kept."""
FLIPS_WARN, FLIPS_FAIL = 0.05, 0.2
"""Shares of decisions that an edit without meaning may change."""

Judgement = tuple[str, str]
"""A verdict (FAIL, WARN, NOT CHECKED, PASS) and the input that it rests on, empty where it rests on none."""

_NO_WIDTH = 1e-12


@dataclass(frozen=True)
class Tried:
    """One alteration, on the images that a trained model is probed with.

    Attributes:
        name: Of the alteration; ``none`` is the images as they are.
        group: ``lungs removed``, ``lungs kept``, ``detail removed`` or ``edit``.
        words: What was done, for people.
        n: Images.
        n_patients: People on them.
        auroc: ``{"value", "low", "high", "method"}``.
        difference: To the intact AUROC on the same images, altered minus intact, see :mod:`cxrlab.evaluation.paired`.
        shift: Mean change of the score by label, ``Negative`` and ``Positive``.
        flipped: Share of images whose decision changes.
        visible: Mean share of the lungs' area that can still be seen; ``None`` where nobody knows where the lungs are.
        corrected: The AUROC with the interval that the verdict uses, where it takes this for an input without lungs;
            else ``None``.
    """

    name: str
    group: str
    words: str
    n: int
    n_patients: int
    auroc: Estimate
    difference: Difference
    shift: dict[str, Estimate]
    flipped: Estimate
    visible: float | None
    corrected: Estimate | None


@dataclass(frozen=True)
class Retrained:
    """One alteration, on whose images the same recipe was trained again, under one seed or several.

    Attributes:
        name: As of :class:`Tried`, like ``group``, ``words`` and ``corrected``.
        group: Likewise.
        words: Likewise.
        n: Test images.
        n_patients: People on them.
        right: Images called rightly, one number per seed.
        auroc: Of the mean of all seeds' AUROCs, the interval from resampling patients.
        each: The seeds' AUROCs.
        difference: To the mean AUROC of the recipe on intact images; ``None`` where that was not trained.
        corrected: Likewise.
    """

    name: str
    group: str
    words: str
    n: int
    n_patients: int
    right: tuple[int, ...]
    auroc: Estimate
    each: tuple[float, ...]
    difference: Difference | None
    corrected: Estimate | None


def respond(
    labels: npt.ArrayLike,
    intact: npt.ArrayLike,
    altered: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    threshold: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """What becomes of a model's scores when its images are altered.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        intact: Shape (n,): scores in [0, 1] of the images as they are.
        altered: Shape (n,): of the altered ones.
        patients: Shape (n,): one identifier per image.
        threshold: An image is called Positive from this score on.
        resamples: Of every bootstrap, at least 100.
        seed: Of every bootstrap.

    Returns:
        ``n``, ``n_patients``, ``auroc``, ``difference``, ``shift`` and ``flipped`` of :class:`Tried`.

    Raises:
        ValueError: Names the argument that is wrong.
    """
    y, before, ids = checked(labels, intact, patients)
    _, after, _ = checked(labels, altered, patients)
    check_range("threshold", threshold, 0.0, 1.0)
    options = {"resamples": resamples, "seed": seed}
    flips = (before >= threshold) != (after >= threshold)
    by_label = {"Negative": ~y, "Positive": y}
    return {
        "n": int(y.size),
        "n_patients": int(np.unique(ids).size),
        "auroc": mean_auroc(y, after[None], ids, **options),
        "difference": patient_bootstrap_auroc_difference(y, after, before, ids, **options),
        "shift": {name: mean((after - before)[of], ids[of], **options) for name, of in by_label.items()},
        "flipped": share(flips, ids, **options),
    }


def mean_auroc(
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    confidence: float = 1 - ERROR,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The mean of several models' AUROCs on the same images, with whole patients resampled for all at once.

    The interval is of the images that were drawn, for these very models; it says nothing of other seeds.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores: Shape (models, n), in [0, 1].
        patients: Shape (n,): one identifier per image.
        confidence: Coverage, in (0, 1).
        resamples: At least 100.
        seed: Of the resampling.

    Returns:
        ``{"value", "low", "high", "method"}``; all but the method ``None`` without images of both labels. Where all
        resamples agree, Newcombe's score interval of one AUROC on as many patients takes the bootstrap's place.
    """
    rows = np.atleast_2d(np.asarray(scores, np.float64))
    y, _, ids = checked(labels, rows[0], patients)
    check_range("resamples", resamples, 100, integer=True)
    check_range("confidence", confidence, 0.0, 1.0, low_open=True, high_open=True)
    if y.all() or not y.any():
        absent = "negative" if y.all() else "positive"
        return {"value": None, "low": None, "high": None, "method": f"undefined: no {absent} images"}
    value = float(mean_aurocs(y, rows, np.ones((1, y.size)))[0])
    drawn = resampled_aurocs(y, rows, ids, resamples, seed)
    if np.ptp(drawn) < _NO_WIDTH:
        low, high = newcombe_auroc(value, np.unique(ids[y]).size, np.unique(ids[~y]).size, confidence)
        method = f"Newcombe score {100 * confidence:g} % by patients; the bootstrap has no width"
        return {"value": value, "low": low, "high": high, "method": method}
    return _between(value, drawn, confidence, bootstrap_method(y, ids, resamples, confidence))


def mean_auroc_difference(
    labels: npt.ArrayLike,
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """How much larger the first models' mean AUROC is than the others', on the same images; patients are resampled.

    Args:
        labels: Shape (n,): 0 Negative, 1 Positive.
        scores_a: Shape (models, n), in [0, 1].
        scores_b: Shape (other models, n), in [0, 1].
        patients: Shape (n,): one identifier per image.
        resamples: At least 100.
        seed: Of the resampling.

    Returns:
        ``{"difference", "low", "high", "method"}``; what is undefined is ``None``.
    """
    a, b = (np.atleast_2d(np.asarray(scores, np.float64)) for scores in (scores_a, scores_b))
    y, _, ids = checked(labels, a[0], patients)
    if y.all() or not y.any():
        return {"difference": None, "low": None, "high": None, "method": "undefined: images of one label only"}
    once = np.ones((1, y.size))
    value = float((mean_aurocs(y, a, once) - mean_aurocs(y, b, once))[0])
    drawn = resampled_aurocs(y, a, ids, resamples, seed) - resampled_aurocs(y, b, ids, resamples, seed)
    if np.ptp(drawn) < _NO_WIDTH:
        return {"difference": value, "low": None, "high": None, "method": "no interval: the same in every resample"}
    found = _between(value, drawn, 1 - ERROR, bootstrap_method(y, ids, resamples, 1 - ERROR))
    return {"difference": found.pop("value"), **found}


def mean(values: Floats, patients: npt.NDArray[Any], *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """The mean over images, with whole patients resampled.

    Args:
        values: Shape (n,).
        patients: Shape (n,): one identifier per image.
        resamples: At least 100.
        seed: Of the resampling.

    Returns:
        ``{"value", "low", "high", "method"}``; no limits where every resample gives the same.
    """
    if not values.size:
        return {"value": None, "low": None, "high": None, "method": "undefined: no images"}
    drawn = resampled_means(values, patients, resamples, seed)
    value = float(values.mean())
    if np.ptp(drawn) < _NO_WIDTH:
        return {"value": value, "low": None, "high": None, "method": "no interval: the same in every resample"}
    total = np.unique(patients).size
    method = f"patient bootstrap {100 * (1 - ERROR):g} % ({resamples} resamples, {total} patients)"
    return _between(value, drawn, 1 - ERROR, method)


def share(found: Bools, patients: npt.NDArray[Any], *, resamples: int = 2000, seed: int = 0) -> Estimate:
    """A share of images, with whole patients resampled; Wilson's interval on patients where that has no width.

    Args:
        found: Shape (n,), boolean.
        patients: Shape (n,): one identifier per image.
        resamples: At least 100.
        seed: Of the resampling.

    Returns:
        ``{"value", "low", "high", "method"}``.
    """
    estimate = mean(found.astype(np.float64), patients, resamples=resamples, seed=seed)
    if estimate["value"] is None or estimate["low"] is not None:
        return estimate
    total = int(np.unique(patients).size)
    low, high = wilson(round(estimate["value"] * total), total, 1 - ERROR)
    method = f"Wilson {100 * (1 - ERROR):g} % by patients; the bootstrap has no width"
    return {"value": estimate["value"], "low": low, "high": high, "method": method}


def corrected(inputs: int) -> float:
    """The confidence of one interval if those of so many inputs are to hold together at 95 %."""
    return 1 - ERROR / max(1, inputs)


def judge_without_lungs(intact: Estimate, removed: Mapping[str, Estimate]) -> Judgement:
    """Whether labels can be told apart although no lung can be seen.

    Args:
        intact: The AUROC on intact images.
        removed: The AUROCs of the inputs without lungs by name, each interval at :func:`corrected` confidence.

    Returns:
        NOT CHECKED where the interval of the intact AUROC reaches down to 0.5 or there is no input without lungs. FAIL
        if an interval lies above 0.5 and its AUROC keeps :data:`KEPT_SHARE` of the intact one's distance from 0.5; WARN
        if one lies above 0.5 and keeps less, or lies below 0.5 (told apart, the wrong way round); else PASS.
    """
    known = {name: each for name, each in removed.items() if each["low"] is not None}
    if not known or not above_chance(intact):
        return "NOT CHECKED", ""
    best = max(known, key=lambda name: float(known[name]["value"]))
    apart = {name: each for name, each in known.items() if above_chance(each)}
    if apart:
        best = max(apart, key=lambda name: float(apart[name]["value"]))
        return ("FAIL" if kept(intact, apart[best]) >= KEPT_SHARE else "WARN"), best
    reversed_ = [name for name, each in known.items() if each["high"] < 0.5]
    if reversed_:
        return "WARN", min(reversed_, key=lambda name: float(known[name]["value"]))
    return "PASS", best


def judge_lungs_only(intact: Estimate, only: Estimate) -> str:
    """Whether the lungs alone are enough: PASS if at least :data:`KEPT_SHARE` is kept, else WARN."""
    if not above_chance(intact) or only["low"] is None:
        return "NOT CHECKED"
    return "PASS" if above_chance(only) and kept(intact, only) >= KEPT_SHARE else "WARN"


def judge_flips(flipped: Estimate, *, on_lungs: bool = False) -> str:
    """Whether an edit without meaning changes decisions.

    Args:
        flipped: The share of decisions that change.
        on_lungs: Whether the edit reaches the lungs' own pixels: a model that does not bear it is a fragile one, but
            need not look at anything but lungs.

    Returns:
        FAIL from :data:`FLIPS_FAIL` of them on if the interval lies above :data:`FLIPS_WARN` and the edit is beside the
        lungs; WARN above :data:`FLIPS_WARN`; else PASS.
    """
    if flipped["value"] is None:
        return "NOT CHECKED"
    if flipped["value"] >= FLIPS_FAIL and flipped["low"] > FLIPS_WARN and not on_lungs:
        return "FAIL"
    return "WARN" if flipped["value"] > FLIPS_WARN else "PASS"


def above_chance(auroc: Estimate) -> bool:
    """Whether an interval lies above 0.5."""
    return auroc["low"] is not None and bool(auroc["low"] > 0.5)


def kept(intact: Estimate, altered: Estimate) -> float:
    """Share of the intact AUROC's distance from 0.5 that is left; negative below 0.5."""
    return float((altered["value"] - 0.5) / (intact["value"] - 0.5))


def _between(value: float, drawn: Floats, confidence: float, method: str) -> Estimate:
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    return {"value": value, "low": low, "high": high, "method": method}
