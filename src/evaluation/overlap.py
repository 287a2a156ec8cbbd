"""How well two masks of one image agree: 1 if both are empty."""

from __future__ import annotations

import numpy as np

from cxrlab.evaluation.estimate import Bools


def dice(mask: Bools, other: Bools) -> float:
    """Dice coefficient ``2 |A and B| / (|A| + |B|)`` of masks of one shape, in [0, 1] (Dice 1945)."""
    both, total = _counts(mask, other)
    return 2 * both / total if total else 1.0


def iou(mask: Bools, other: Bools) -> float:
    """Intersection over union ``|A and B| / |A or B|`` of masks of one shape, in [0, 1] (Jaccard 1912)."""
    both, total = _counts(mask, other)
    return both / (total - both) if total else 1.0


def _counts(mask: Bools, other: Bools) -> tuple[int, int]:
    if mask.shape != other.shape:
        raise ValueError(f"masks must be of one shape, got {mask.shape} and {other.shape}")
    return int(np.count_nonzero(mask & other)), int(np.count_nonzero(mask) + np.count_nonzero(other))
