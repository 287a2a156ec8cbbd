"""How well two masks of one image agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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
