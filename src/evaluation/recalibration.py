"""From a network's scores to probabilities: temperature, Platt scaling and isotonic regression.

Temperature and Platt work on the logit of the score and keep the order of the images, and so the AUROC. Isotonic
regression may give several scores one value: its ties can move the AUROC a little, and it needs more images.

Sources:
    Temperature: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, ICML 2017; fitted by likelihood.
    Platt: J. Platt, Advances in Large Margin Classifiers 1999, 61-74, with his smoothed targets ``(N+ + 1) / (N+ + 2)``
        and ``1 / (N- + 2)``; here of the logit, so that slope 1 and intercept 0 change nothing.
    Isotonic: B. Zadrozny and C. Elkan, KDD 2002 (scikit-learn's ``IsotonicRegression``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from cxrlab.errors import check_choice, check_range
from cxrlab.evaluation.estimate import Bools, Floats
from cxrlab.evaluation.statistics import checked

TEMPERATURES = (0.05, 20.0)
"""A best temperature outside this range is taken as a sign that the images do not determine one."""

# Between 0 and the least float32, and between the greatest float32 below 1 and 1: the logit of a network's score is
# finite, and no two scores get the same one.
_LOWEST, _HIGHEST = 2.0**-150, 1 - 2.0**-25
# A float32 score of 1 may stand for any larger logit, one of 1e-45 for nothing but -103: a fit treats both sides alike.
_LARGEST_FITTED = float(np.log(_HIGHEST) - np.log1p(-_HIGHEST))
_MOST_STEPS = 1_000_000


class CannotFitError(ValueError):
    """The images do not determine what was to be fitted; the message is a sentence for people."""


@dataclass(frozen=True)
class Calibration:
    """Turns scores into probabilities; this one leaves the network's own scores as they are."""

    kind: ClassVar[str] = "none"

    def __call__(self, scores: npt.ArrayLike) -> Floats:
        """Returns probabilities, float64, of scores in [0, 1], shape (n,)."""
        return np.asarray(self._applied(np.asarray(scores, np.float64)))

    def _applied(self, scores: Floats) -> Floats:
        return scores

    def as_dict(self) -> dict[str, Any] | None:
        """Plain values, as a checkpoint holds them; ``None`` for the network's own scores."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"kind": self.kind, **values} if values else None

    def words(self) -> str:
        """For people."""
        return "none: scores are the network's own"


@dataclass(frozen=True)
class Temperature(Calibration):
    """``expit(logit(score) / temperature)``, above 0: above 1 scores were too bold, below 1 too timid."""

    temperature: float
    kind: ClassVar[str] = "temperature"

    def __post_init__(self) -> None:
        check_range("temperature", self.temperature, 0.0, low_open=True)

    def _applied(self, scores: Floats) -> Floats:
        return np.asarray(expit(logit(scores) / self.temperature))

    def words(self) -> str:
        """For people."""
        return f"temperature {self.temperature:.3f} (logits are divided by it)"


@dataclass(frozen=True)
class Platt(Calibration):
    """``expit(slope logit(score) + intercept)``, the slope above 0, so that the order of images stays."""

    slope: float
    intercept: float
    kind: ClassVar[str] = "platt"

    def __post_init__(self) -> None:
        check_range("slope", self.slope, 0.0, low_open=True)
        check_range("intercept", self.intercept, -math.inf)

    def _applied(self, scores: Floats) -> Floats:
        return np.asarray(expit(self.slope * logit(scores) + self.intercept))

    def words(self) -> str:
        """For people."""
        return f"Platt: {self.slope:.3f} times the logit, and {self.intercept:+.3f}"


@dataclass(frozen=True)
class Isotonic(Calibration):
    """Straight lines through points, level outside of them: scores rise strictly, values never fall, both in [0, 1]."""

    scores: tuple[float, ...]
    values: tuple[float, ...]
    kind: ClassVar[str] = "isotonic"

    def __post_init__(self) -> None:
        for name, points in (("scores", self.scores), ("values", self.values)):
            if not isinstance(points, (list, tuple)) or not 1 <= len(points) <= _MOST_STEPS:
                raise ValueError(f"{name} must be a list of 1 to {_MOST_STEPS} numbers, got {str(points)[:40]}")
            for point in points:
                check_range(name, point, 0.0, 1.0)
        if len(self.scores) != len(self.values):
            raise ValueError(f"values must be as many as scores, got {len(self.values)} and {len(self.scores)}")
        if (np.diff(self.scores) <= 0).any():
            raise ValueError("scores must rise strictly, and some do not")
        if (np.diff(self.values) < 0).any():
            raise ValueError("values must never fall, and some do")

    def _applied(self, scores: Floats) -> Floats:
        return np.asarray(np.interp(scores, self.scores, self.values))

    def words(self) -> str:
        """For people."""
        return f"isotonic regression through {len(self.scores)} points; equal values are ties"


UNCALIBRATED = Calibration()
KINDS: dict[str, type[Calibration]] = {each.kind: each for each in (Calibration, Temperature, Platt, Isotonic)}


def logit(scores: npt.ArrayLike) -> Floats:
    """Returns ``log(s / (1 - s))`` in float64; finite for 0 and 1, and different for every two float32 scores."""
    s = np.clip(np.asarray(scores, np.float64), _LOWEST, _HIGHEST)
    return np.asarray(np.log(s) - np.log1p(-s))


def fit(kind: str, labels: npt.ArrayLike, scores: npt.ArrayLike) -> Calibration:
    """Fits a calibration, one of :data:`KINDS`, to images that trained nothing.

    Raises:
        CannotFitError: One class only; or the scores separate the classes perfectly, or order them the wrong way round,
            so that no finite temperature or no rising line is the best.
    """
    check_choice("kind", kind, KINDS)
    y, s, _ = checked(labels, scores)
    if kind == "none":
        return UNCALIBRATED
    if y.all() or not y.any():
        raise CannotFitError(f"all {y.size} images are {'Positive' if y.all() else 'Negative'}")
    if kind == "isotonic":
        steps = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(s, y)
        return Isotonic(tuple(steps.X_thresholds_.tolist()), tuple(steps.y_thresholds_.tolist()))
    logits = np.clip(logit(s), -_LARGEST_FITTED, _LARGEST_FITTED)
    return _temperature(y, logits) if kind == "temperature" else _platt(y, logits)


def from_dict(found: Any) -> Calibration:
    """Returns what ``as_dict`` described; it is untrusted, and the error names what is wrong."""
    if found is None:
        return UNCALIBRATED
    if not isinstance(found, Mapping) or not isinstance(found.get("kind"), str):
        raise ValueError(f"calibration must be a dict with a kind, got {str(found)[:60]}")
    check_choice("calibration.kind", found["kind"], [kind for kind in KINDS if kind != "none"])
    wanted = KINDS[found["kind"]]
    names = [field.name for field in fields(wanted)]
    if set(found) != {"kind", *names}:
        raise ValueError(
            f"calibration {wanted.kind} must have kind, {', '.join(names)}, got {', '.join(map(str, found))}"
        )
    return wanted(**{name: tuple(found[name]) if isinstance(found[name], list) else found[name] for name in names})


def _temperature(y: Bools, logits: Floats) -> Temperature:
    """The likelihood is concave in 1 / temperature: its slope has one root, or none."""

    def slope(log_temperature: float) -> float:
        return float(logits @ (y - expit(logits / math.exp(log_temperature))))

    low, high = (math.log(end) for end in TEMPERATURES)
    if slope(low) >= 0:
        raise CannotFitError(f"their scores are right so often that the best temperature is below {TEMPERATURES[0]:g}")
    if slope(high) <= 0:
        raise CannotFitError(f"their scores say so little that the best temperature is above {TEMPERATURES[1]:g}")
    # Below the root the slope is negative: a smaller temperature is bolder than the labels bear out.
    return Temperature(math.exp(brentq(slope, low, high, xtol=1e-12)))


def _platt(y: Bools, logits: Floats) -> Platt:
    """Platt's targets keep the best line finite; standardised logits keep its search short."""
    positive, negative = int(y.sum()), int((~y).sum())
    targets = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    mean, spread = float(logits.mean()), float(logits.std())
    if not spread > 0:
        raise CannotFitError("all their scores are the same")
    x = (logits - mean) / spread

    def loss(line: Floats) -> tuple[float, Floats]:
        z = line[0] * x + line[1]
        rest = expit(z) - targets
        return float((np.logaddexp(0, z) - targets * z).mean()), np.array([(rest * x).mean(), rest.mean()])

    slope, intercept = minimize(loss, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-9}).x.tolist()
    if slope <= 0:
        raise CannotFitError("their scores are no higher for Positive than for Negative images")
    return Platt(slope / spread, intercept - slope * mean / spread)
