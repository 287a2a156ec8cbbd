"""How a score becomes a probability, and from which probability on an image is called Positive.

A :class:`Decision` is what was asked for, a :class:`Decided` what came of it on the validation images; the second
travels with the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from cxrlab.errors import check_choice, check_range
from cxrlab.evaluation import calibration as calibration_error
from cxrlab.evaluation import recalibration, thresholds
from cxrlab.evaluation.estimate import Estimate, Resampling, count_patients
from cxrlab.evaluation.recalibration import UNCALIBRATED, Calibration, CannotFitError
from cxrlab.evaluation.statistics import checked

DEFAULT_THRESHOLD = 0.5
DEFAULT_RULE = "a fixed number, fitted to no image"
ENOUGH = 100
"""Patients of each class that a calibration should rest on: Y. Vergouwe et al., J Clin Epidemiol 2005;58:475-483."""

_COUNTS = ("images", "patients", "positive_patients", "negative_patients")
_FITTED = (*_COUNTS, "threshold_low", "threshold_high")


@dataclass(frozen=True)
class Decided:
    """How scores become probabilities and calls.

    Attributes:
        calibration: Turns scores into probabilities.
        threshold: An image is called Positive when its probability, after calibration, is at least this; in [0, 1].
        rule: How the threshold was chosen, in words.
        prevalence: Share of people with the disease for which PPV and NPV are stated, in (0, 1), or ``None``.
        fitted_on: Counts of ``images``, ``patients``, ``positive_patients`` and ``negative_patients``, with the 95 %
            interval ``threshold_low`` to ``threshold_high`` (``None`` each if the threshold was given as a number);
            ``None`` where nothing was fitted.
        problems: Why something that was asked for was not done.
    """

    calibration: Calibration = UNCALIBRATED
    threshold: float = DEFAULT_THRESHOLD
    rule: str = DEFAULT_RULE
    prevalence: float | None = None
    fitted_on: Mapping[str, Any] | None = None
    problems: tuple[str, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether probabilities are anything but the network's scores."""
        return self.calibration.kind != "none"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint holds them."""
        return {
            "calibration": self.calibration.as_dict(),
            "threshold": self.threshold,
            "threshold_rule": self.rule,
            "prevalence": self.prevalence,
            "fitted_on": None if self.fitted_on is None else dict(self.fitted_on),
        }

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Decided:
        """Returns what :meth:`as_dict` described; the dict is untrusted, and older ones hold less."""
        threshold, rule = found.get("threshold"), found.get("threshold_rule", DEFAULT_RULE)
        check_range("threshold", threshold, 0.0, 1.0)
        if not isinstance(rule, str):
            raise ValueError(f"threshold_rule must be a text, got {rule!r}")
        prevalence, fitted_on = found.get("prevalence"), found.get("fitted_on")
        if prevalence is not None:
            check_range("prevalence", prevalence, 0.0, 1.0, low_open=True, high_open=True)
        if fitted_on is not None:
            if not isinstance(fitted_on, Mapping) or set(fitted_on) != set(_FITTED):
                raise ValueError(f"fitted_on must hold {', '.join(_FITTED)}, got {str(fitted_on)[:60]}")
            for name in _COUNTS:
                check_range(f"fitted_on.{name}", fitted_on[name], 0, integer=True)
            if fitted_on["threshold_low"] is not None or fitted_on["threshold_high"] is not None:
                check_range("fitted_on.threshold_low", fitted_on["threshold_low"], 0.0, 1.0)
                check_range("fitted_on.threshold_high", fitted_on["threshold_high"], fitted_on["threshold_low"], 1.0)
        calibration = recalibration.from_dict(found.get("calibration"))
        return cls(calibration, float(threshold or 0), rule, prevalence, fitted_on)

    def warnings(self) -> list[str]:
        """What a reader has to know before the first number that rests on this."""
        found = list(self.problems)
        if self.fitted_on is not None:
            positive, negative = self.fitted_on["positive_patients"], self.fitted_on["negative_patients"]
            if min(positive, negative) < ENOUGH:
                parts = ["calibration"] if self.calibrated else []
                parts += ["threshold"] if self.fitted_on["threshold_low"] is not None else []
                found.append(
                    f"{' and '.join(parts)} {'were' if len(parts) > 1 else 'was'} fitted on few validation images: "
                    f"{self.fitted_on['images']}, of {positive} Positive and {negative} Negative patients "
                    f"(at least {ENOUGH} of each are wanted)"
                )
        return found


FIXED = Decided()
"""The network's own scores, called at 0.5."""


@dataclass(frozen=True)
class Decision:
    """How calibration and threshold are to be chosen, from validation images only, when training is over.

    Args:
        calibration: ``none``, ``temperature``, ``platt`` or ``isotonic``, see :mod:`cxrlab.evaluation.recalibration`.
        threshold: Of the calibrated probability: a number in (0, 1), or a rule: ``youden``, ``sensitivity`` or
            ``cost``, see :func:`cxrlab.evaluation.thresholds.choose`.
        sensitivity: What ``threshold=sensitivity`` reaches on the validation images, in (0, 1].
        cost: What a false negative costs in false positives, above 0, for ``threshold=cost``.
        prevalence: Share of people with the disease where the model would be used, in (0, 1): for ``threshold=cost``,
            and for PPV and NPV; ``None`` takes the share of the validation images for the first and states no second.
    """

    calibration: str = "none"
    threshold: float | str = DEFAULT_THRESHOLD
    sensitivity: float = 0.95
    cost: float = 1.0
    prevalence: float | None = None

    def __post_init__(self) -> None:
        check_choice("calibration", self.calibration, recalibration.KINDS)
        if isinstance(self.threshold, str):
            check_choice("threshold", self.threshold, thresholds.RULES)
        else:
            check_range("threshold", self.threshold, 0.0, 1.0, low_open=True, high_open=True)
        check_range("sensitivity", self.sensitivity, 0.0, 1.0, low_open=True)
        check_range("cost", self.cost, 0.0, low_open=True)
        if self.prevalence is not None:
            check_range("prevalence", self.prevalence, 0.0, 1.0, low_open=True, high_open=True)

    @property
    def needs_validation(self) -> bool:
        """Whether anything has to be fitted."""
        return self.calibration != "none" or isinstance(self.threshold, str)

    def fit(self, labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, *, seed: int = 0) -> Decided:
        """Fits what is to be fitted to the validation images, of which ``scores`` are the network's.

        What cannot be fitted is left out, and :attr:`Decided.problems` says why. The seed is that of the resamples of
        patients which give the threshold's interval.
        """
        if not self.needs_validation:
            return self.unfitted()
        y, s, ids = checked(labels, scores, patients)
        if y.all() or not y.any():
            return self.unfitted(f"all {y.size} validation images are {'Positive' if y.all() else 'Negative'}")
        calibrate, problems = UNCALIBRATED, list[str]()
        try:
            calibrate = recalibration.fit(self.calibration, y, s)
        except CannotFitError as error:
            problems.append(f"no calibration ({self.calibration}) was fitted to the validation images: {error}")
        threshold, low, high = self.threshold, None, None
        if isinstance(threshold, str):
            p, how = calibrate(s), Resampling(seed=seed)
            found = thresholds.choose(
                threshold, y, p, ids, sensitivity=self.sensitivity, cost=self.cost, prevalence=self.prevalence, how=how
            )
            assert found.value is not None
            threshold, low, high = found.value, found.low, found.high
        fitted_on = None
        if isinstance(self.threshold, str) or calibrate is not UNCALIBRATED:
            counts = (y.size, np.unique(ids).size, *count_patients(ids, y))
            fitted_on = dict(zip(_FITTED, (*map(int, counts), low, high), strict=True))
        rule = self._rule(float(y.mean()))
        return Decided(calibrate, float(threshold), rule, self.prevalence, fitted_on, tuple(problems))

    def unfitted(self, reason: str = "") -> Decided:
        """What is left where nothing can be fitted, for a reason: the network's own scores, and the number or 0.5."""
        threshold, rule = self.threshold, self._rule(0.5)
        if isinstance(threshold, str):
            threshold, rule = DEFAULT_THRESHOLD, f"{DEFAULT_THRESHOLD:g}, as no rule could be applied: {reason}"
        problems: tuple[str, ...] = ()
        if reason and self.needs_validation:
            problems = (f"no calibration or threshold was fitted: {reason}; images are called at {threshold:g}",)
        return Decided(threshold=float(threshold), rule=rule, prevalence=self.prevalence, problems=problems)

    def _rule(self, share_positive: float) -> str:
        rules = {
            "youden": "greatest sensitivity + specificity (Youden) on the validation images",
            "sensitivity": f"highest with a sensitivity of at least {self.sensitivity:g} on the validation images",
            "cost": f"least cost on the validation images, a false negative at {self.cost:g} false positives, "
            f"at prevalence {self.prevalence or share_positive:.2g}",
        }
        return rules.get(str(self.threshold), DEFAULT_RULE)


def consequences(decided: Decided, labels: ArrayLike, scores: ArrayLike, patients: ArrayLike) -> dict[str, Any]:
    """Returns what a decision does to one set of images, of which ``scores`` are the network's.

    ``uncalibrated`` and ``calibrated`` (``None`` where nothing was calibrated) are a
    :func:`cxrlab.evaluation.calibration.summary`, ``ppv`` and ``npv`` those at the prevalence (``None`` where none is
    stated), and ``curve`` is a :func:`cxrlab.evaluation.thresholds.decision_curve`.
    """
    probabilities = decided.calibration(scores)
    values: dict[str, Estimate | None] = {"ppv": None, "npv": None}
    if decided.prevalence is not None:
        values |= thresholds.predictive_values(labels, probabilities >= decided.threshold, patients, decided.prevalence)
    after = calibration_error.summary(labels, probabilities, patients) if decided.calibrated else None
    return {
        "uncalibrated": calibration_error.summary(labels, scores, patients),
        "calibrated": after,
        **values,
        "curve": thresholds.decision_curve(labels, probabilities, patients),
    }
