"""Before a score: is this a frontal chest X-ray at all? Rules that need no weights, then a small trained network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ACCEPT, WARN, REFUSE = "accept", "warn", "refuse"
VERDICTS = (ACCEPT, WARN, REFUSE)


@dataclass(frozen=True)
class Judgement:
    """What a gate says of one image.

    Attributes:
        verdict: ``accept``, ``warn`` (scored, with doubt) or ``refuse`` (not scored).
        kind: What it looks like: ``frontal``, ``lateral``, ``ct``, ``photograph``, ….
        reason: A sentence for people with what to do next; empty where it is accepted.
        frontal: Probability of a frontal film the right way up, in [0, 1]; ``None`` where no network looked at it.
    """

    verdict: str
    kind: str
    reason: str = ""
    frontal: float | None = None


class Gate:
    """Judges images; without a network it knows rules only, and says so.

    Attributes:
        fingerprint: SHA-256 of weights and limits; empty without a network.
    """

    fingerprint: str = ""

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Judgement]:
        """Judges images, each of shape (height, width, 3), uint8, of any size."""
        return [Judgement(WARN, "unknown", "nothing was looked at") for _ in images]

    def as_entry(self) -> dict[str, Any]:
        """Tensors and plain values, as a checkpoint holds them under ``gate``."""
        return {}

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Gate:
        """Rebuilds what :meth:`as_entry` gave; it may come from a stranger.

        Raises:
            ValueError: Says what is wrong with it.
        """
        return cls()
