"""Estimates whose numbers are known to be there."""

from __future__ import annotations

from cxrlab.evaluation.estimate import Estimate


def numbers(estimate: Estimate) -> tuple[float, float, float]:
    """Value, lower and upper limit."""
    assert estimate.value is not None, estimate.method
    assert estimate.low is not None, estimate.method
    assert estimate.high is not None, estimate.method
    return estimate.value, estimate.low, estimate.high


def width(estimate: Estimate) -> float:
    """Of the interval."""
    _, low, high = numbers(estimate)
    return high - low


def holds(estimate: Estimate, value: float) -> bool:
    """Whether a value lies inside of the interval, and that in [0, 1] around the estimate's own value."""
    own, low, high = numbers(estimate)
    return low <= value <= high and low <= own <= high
