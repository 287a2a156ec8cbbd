"""Networks by what they do: prepared images in, scores out, whatever file they came from."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cxrlab.evaluation.statistics import Floats


class Scorer(Protocol):
    """What a :class:`cxrlab.inference.predictor.Predictor` needs of a network."""

    def __call__(self, images: NDArray[np.uint8]) -> Floats:
        """Returns the sigmoid of the logits, float64 (n,), of images (n, height, width, channels) as prepared."""
        ...

    @property
    def words(self) -> dict[str, Any]:
        """What it runs on, for people: ``{"runtime": "PyTorch 2.15", "device": "cpu", "precision": "32-true"}``."""
        ...
