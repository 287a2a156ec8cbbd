"""How well two masks of one image agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cxrlab.errors import check_range
from cxrlab.evaluation.statistics import FEW_PATIENTS, Estimate, resampled_means

Masks = npt.NDArray[np.bool_]


def dice(mask: Masks, other: Masks) -> float:
    """Dice coefficient ``2 |A and B| / (|A| + |B|)``, in [0, 1] (Dice 1945); two empty masks agree: 1.

    Args:
        mask: Boolean, any shape.
        other: The same shape.

    Raises:
        ValueError: The shapes differ.
    """
    both, total = _counts(mask, other)
    return 2 * both / total if total else 1.0


def iou(mask: Masks, other: Masks) -> float:
    """Intersection over union ``|A and B| / |A or B|``, in [0, 1] (Jaccard 1912); two empty masks agree: 1.

    Args:
        mask: Boolean, any shape.
        other: The same shape.

    Raises:
        ValueError: The shapes differ.
    """
    both, total = _counts(mask, other)
    return both / (total - both) if total else 1.0


def _counts(mask: Masks, other: Masks) -> tuple[int, int]:
    if mask.shape != other.shape:
        raise ValueError(f"masks must be of one shape, got {mask.shape} and {other.shape}")
    return int(np.count_nonzero(mask & other)), int(np.count_nonzero(mask) + np.count_nonzero(other))


def mean_with_interval(
    values: npt.ArrayLike,
    patients: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of one value per image, with a percentile bootstrap of whole patients.

    Args:
        values: Shape (n,), finite, n at least 1.
        patients: Shape (n,), one identifier per image.
        resamples: Number of resamples, at least 100.
        seed: Of the resampling.
        confidence: Coverage, in (0, 1).

    Returns:
        ``{"value", "low", "high", "method"}``; without limits where there is one patient only.

    Raises:
        ValueError: An argument is out of range, or lengths differ.
    """
    check_range("resamples", resamples, 100, integer=True)
    check_range("confidence", confidence, 0, 1, low_open=True, high_open=True)
    numbers, people = np.asarray(values, np.float64), np.asarray(patients).astype(str)
    if not numbers.size or numbers.shape != people.shape or numbers.ndim != 1:
        raise ValueError(f"values and patients must be equally long, got {numbers.shape} and {people.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError("values must be finite numbers")
    count = int(np.unique(people).size)
    result: dict[str, Any] = {"value": float(numbers.mean()), "low": None, "high": None}
    if count < 2:
        return result | {"method": "no interval: one patient"}
    means = resampled_means(numbers, people, resamples, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()
    method = f"patient bootstrap {100 * confidence:g}% ({resamples} resamples, {count} patients)"
    if count < FEW_PATIENTS:
        method += f"; only {count} patients: interval too narrow"
    return result | {"low": low, "high": high, "method": method}
