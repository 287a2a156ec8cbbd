"""How long several ways of doing the same take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

Way = Callable[[], object]


def alternate(ways: Mapping[str, Way], seconds: float = 2.0, least: int = 5) -> dict[str, list[float]]:
    """Times ways in turn, so that whatever else the machine is doing disturbs all alike.

    Every way runs once before, uncounted. Right before each counted turn it runs uncounted again: the threads of the
    way before it may still be spinning, and its data have left the caches.

    Args:
        ways: By name.
        seconds: How long all of it may take, about; above 0.
        least: Counted turns of each, at least 1, whatever they take.

    Returns:
        By name the seconds of every counted turn.
    """
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    end = time.monotonic() + seconds
    while len(next(iter(taken.values()))) < least or time.monotonic() < end:
        for name, way in ways.items():
            way()
            began = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - began)
    return taken


def ratio(taken: Mapping[str, list[float]], of: str, to: str) -> float:
    """Median over the turns of one way's time to another's in the same turn."""
    return statistics.median(a / b for a, b in zip(taken[of], taken[to], strict=True))
