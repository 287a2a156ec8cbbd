"""A number with its interval, and how whole patients are resampled for it.

Source of the Wilson interval: E. B. Wilson, J Am Stat Assoc 1927;22:209-212.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from cxrlab.errors import check_range

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FEW_PATIENTS = 10
"""Below this many patients in a class the method of a bootstrap interval warns that it is too narrow."""
ALIKE = "no interval: the same in every resample"
"""The method where a bootstrap has no width and nothing takes its place."""

_CELLS_PER_BLOCK = 1_000_000
NO_WIDTH = 1e-12
"""Less than any real difference, more than what rounding leaves."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; JSON files hold it with the same names.

    The value is ``None`` where it is undefined, the limits are where there is no interval. The method is that of the
    interval, with what it counted; or it says why there is none.
    """

    value: float | None
    low: float | None
    high: float | None
    method: str

    @classmethod
    def undefined(cls, reason: str, **more: Any) -> Self:
        """Without value; ``method`` is ``undefined:`` and the reason."""
        return cls(None, None, None, f"undefined: {reason}", **more)

    @classmethod
    def bare(cls, value: float, reason: str, **more: Any) -> Self:
        """Without interval; ``method`` is the reason."""
        return cls(value, None, None, reason, **more)

    def above(self, value: float) -> bool:
        """Whether the interval lies above a value; without interval it does not."""
        return self.low is not None and self.low > value

    def below(self, value: float) -> bool:
        """Whether the interval lies below a value; without interval it does not."""
        return self.high is not None and self.high < value

    def __format__(self, form: str) -> str:
        """``0.975 [0.871, 0.996]``, each number in the format; says what is undefined or has no interval."""
        form = form or ".3f"
        if self.value is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.value:{form}} [no interval]"
        return f"{self.value:{form}} [{self.low:{form}}, {self.high:{form}}]"

    def __str__(self) -> str:
        return format(self)


@dataclass(frozen=True)
class Difference(Estimate):
    """Of two classifiers on the same images: the first less the second, with the p value of no difference."""

    p: float | None = None


@dataclass(frozen=True)
class SeedMean(Estimate):
    """The mean over models that differ in their seed alone, with the value of each."""

    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mean(Estimate):
    """The mean over ``n`` images of ``n_patients`` people."""

    n: int = 0
    n_patients: int = 0

    @property
    def count(self) -> int:
        """The number of images behind a share."""
        return round((self.value or 0.0) * self.n)


def as_plain(found: Any) -> Any:
    """The same with dictionaries in the place of estimates, as checkpoints hold it."""
    if isinstance(found, Estimate):
        return asdict(found)
    if isinstance(found, dict):
        return {key: as_plain(value) for key, value in found.items()}
    return [as_plain(each) for each in found] if isinstance(found, list) else found


def revived(found: Any) -> Any:
    """The content of a JSON file with its estimates revived; they must hold nothing but numbers and their method."""
    if isinstance(found, list):
        return [revived(each) for each in found]
    if not isinstance(found, dict):
        return found
    for kind in (Estimate, Difference, SeedMean, Mean):
        if found.keys() == {field.name for field in fields(kind)}:
            values = {**found, "seeds": tuple(found["seeds"])} if isinstance(found.get("seeds"), list) else found
            for name, value in values.items():
                if not _fits(name, value):
                    raise ValueError(f"an estimate must hold numbers and the text of its method, got {name}: {value!r}")
            return kind(**values)
    return {key: revived(value) for key, value in found.items()}


def _fits(name: str, value: Any) -> bool:
    """Whether a field of an estimate holds what it should."""
    if name == "seeds":
        return isinstance(value, tuple) and all(each is not None and _fits("value", each) for each in value)
    kinds: dict[str, Any] = {"method": str, "n": int, "n_patients": int}
    return isinstance(value, kinds.get(name, int | float | None)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Resampling:
    """How intervals are made: with how many resamples of patients (at least 100), which seed, and which coverage."""

    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_range("resamples", self.resamples, 100, integer=True)
        check_range("seed", self.seed, 0, integer=True)
        check_range("confidence", self.confidence, 0.0, 1.0, low_open=True, high_open=True)

    @property
    def percent(self) -> str:
        """``95 %``."""
        return f"{100 * self.confidence:g} %"

    @property
    def ends(self) -> list[float]:
        """The quantiles that are the limits of an interval."""
        return [(1 - self.confidence) / 2, (1 + self.confidence) / 2]

    def limits(self, drawn: npt.ArrayLike) -> tuple[float, float] | None:
        """The percentile interval of what was drawn, shape (resamples,); ``None`` where that has no width."""
        low, high = np.quantile(np.asarray(drawn), self.ends).tolist()
        return (low, high) if high - low > NO_WIDTH else None

    def bootstrap(
        self, statistic: Callable[[Floats], Floats], patients: npt.NDArray[Any], strata: Bools | None = None
    ) -> Floats:
        """Computes a statistic while whole patients are drawn with replacement.

        The statistic takes how often each image occurs, shape (block, n), float64, one row per resample, and returns
        one row per resample; the result has shape (resamples, …). Patients of only true, only false, and both kinds of
        ``strata`` are drawn apart, so that a kind that is there is there in every resample.
        """
        _, index = np.unique(patients, return_inverse=True)
        n_patients = int(index.max()) + 1
        kinds = np.ones(index.size, np.bool_) if strata is None else strata
        positive = np.bincount(index, weights=kinds, minlength=n_patients) > 0
        negative = np.bincount(index, weights=~kinds, minlength=n_patients) > 0
        masks = (positive & ~negative, positive & negative, negative & ~positive)
        groups = [np.flatnonzero(mask) for mask in masks if mask.any()]
        rng = np.random.default_rng(self.seed)
        block = max(1, _CELLS_PER_BLOCK // index.size)
        found = []
        for start in range(0, self.resamples, block):
            size = min(block, self.resamples - start)
            counts = np.zeros((size, n_patients))
            for members in groups:
                # Every resample counts in numbers of its own, so that all are counted at once.
                picks = rng.integers(0, members.size, size=(size, members.size))
                picks += np.arange(size)[:, None] * members.size
                counts[:, members] = np.bincount(picks.ravel(), minlength=picks.size).reshape(picks.shape)
            found.append(statistic(counts[:, index]))
        return np.concatenate(found)

    def method(self, patients: npt.NDArray[Any], strata: Bools | None = None, of: str = "") -> str:
        """Describes such a bootstrap, and warns of too few patients; ``of`` says what was resampled."""
        total = np.unique(patients).size
        text = f"patient bootstrap {self.percent}{of} ({self.resamples} resamples, {total} patients)"
        if strata is None:
            return text
        positive, negative = count_patients(patients, strata)
        if min(positive, negative) < FEW_PATIENTS:
            text += f"; only {positive} positive and {negative} negative patients: interval too narrow"
        return text


USUAL = Resampling()
"""How intervals are made where nothing else is said."""


def count_patients(patients: npt.NDArray[Any], labels: Bools) -> tuple[int, int]:
    """How many patients have positive images, and how many have negative ones."""
    return int(np.unique(patients[labels]).size), int(np.unique(patients[~labels]).size)


def mean(values: npt.ArrayLike, patients: npt.ArrayLike, how: Resampling = USUAL, *, share: bool = False) -> Mean:
    """The mean of one finite value per image, with whole patients resampled; NaN is left out.

    Where the bootstrap of a ``share`` of images has no width, Wilson's interval with as many trials as there are
    patients takes its place; other means have no interval then.
    """
    x, ids = np.asarray(values, np.float64), np.asarray(patients).astype(str)
    if x.ndim != 1 or x.shape != ids.shape:
        raise ValueError(f"values and patients must be equally long, got {x.shape} and {ids.shape}")
    if np.isinf(x).any():
        raise ValueError("values must be finite numbers")
    x, ids = x[~np.isnan(x)], ids[~np.isnan(x)]
    count = int(np.unique(ids).size)
    sizes = {"n": int(x.size), "n_patients": count}
    if not x.size:
        return Mean.undefined("no images", **sizes)
    value = float(x.mean())
    limits = how.limits(how.bootstrap(lambda weights: weights @ x / weights.sum(axis=1), ids))
    if limits:
        few = f"; only {count} patients: interval too narrow" if count < FEW_PATIENTS else ""
        return Mean(value, *limits, how.method(ids) + few, **sizes)
    if share:
        method = f"Wilson {how.percent} ({count} patient{'s' * (count != 1)}; bootstrap has no width)"
        return Mean(value, *wilson(round(value * count), count, how.confidence), method, **sizes)
    return Mean.bare(value, "no interval: one patient" if count == 1 else ALIKE, **sizes)


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion of ``n`` independent trials, at least 1."""
    check_range("n", n, 1, integer=True)
    check_range("successes", successes, 0, n, integer=True)
    check_range("confidence", confidence, 0.0, 1.0, low_open=True, high_open=True)
    low, high = wilson_of_share(successes, n, confidence)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def wilson_of_share(successes: float, n: int, confidence: float) -> tuple[float, float]:
    """The Wilson score interval of a proportion whose successes need not be a whole number.

    Written in the order of statsmodels' ``proportion_confint``, so that the limits are the same to the last bit.
    """
    z = float(norm.isf((1 - confidence) / 2))
    share = successes / n
    denominator = 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / denominator
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)
