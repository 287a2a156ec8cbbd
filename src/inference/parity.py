"""Whether a file gives the scores that PyTorch gives, and how long either takes."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrlab.datamodules import Preprocessing
from cxrlab.inference.contents import ScoringNetwork
from cxrlab.inference.latency import Way, alternate, ratio
from cxrlab.runs.checkpoint import LoadedModel

TOLERANCE = 1e-4
"""Scores of a file and of PyTorch in float32 may differ by so much."""
BATCHES = (1, 16)
"""Batch sizes whose latency is stated."""
FLOAT32, BF16 = "PyTorch float32", "PyTorch bf16"

Images = NDArray[np.uint8]
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]
Run = Callable[[Images], Outputs]
"""Images (n, H, W, C) as prepared to logits (n,) and scores (n,)."""


@dataclass(frozen=True)
class Parity:
    """How far a file is from PyTorch in float32.

    Attributes:
        images: How many were compared.
        what: Which, in words.
        score: Largest difference of two scores.
        logit: Largest difference of two logits.
        spread: Largest less smallest score of PyTorch: what the differences are to be seen against.
        calls: Images that only one of the two calls Positive.
        bf16: Largest difference of PyTorch's scores in bf16 (autocast) from those in float32.
    """

    images: int
    what: str
    score: float
    logit: float
    spread: float
    calls: int
    bf16: float

    @property
    def holds(self) -> bool:
        """Whether the scores are the same but for the tolerance; not where one is no number."""
        return self.score <= TOLERANCE


def torch_run(network: Callable[[Tensor], tuple[Tensor, Tensor]], bf16: bool = False) -> Run:
    """How PyTorch scores prepared images on the CPU.

    Args:
        network: Images (N, C, H, W), float32 in [0, 1], to logits (N,) and scores (N,).
        bf16: Whether under autocast to bf16, or in float32.
    """

    def run(images: Images) -> Outputs:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(Preprocessing.to_float(torch.from_numpy(images)))[0].float()
            return logits.numpy(), logits.sigmoid().numpy()

    return run


def compare(model: LoadedModel, run: Run, images: Images, what: str) -> Parity:
    """Scores the same images with PyTorch and with a file, with the file both all at once and one by one.

    Args:
        model: In PyTorch.
        run: The file.
        images: Shape (n, H, W, C), n at least 1.
        what: Which these are, in words.
    """
    network = ScoringNetwork(model.network)
    logits, scores = torch_run(network)(images)
    theirs = [run(images), _one_by_one(run, images)]
    calls = [model.calibrate(found) >= model.threshold for found in (scores, theirs[0][1])]
    return Parity(
        images=len(images),
        what=what,
        score=_largest(theirs[0][1] - scores, theirs[1][1] - scores),
        logit=_largest(theirs[0][0] - logits, theirs[1][0] - logits),
        spread=float(np.ptp(scores)),
        calls=int((calls[0] != calls[1]).sum()),
        bf16=_largest(torch_run(network, bf16=True)(images)[1] - scores),
    )


def time_ways(model: LoadedModel, run: Run, name: str, images: Images, seconds: float = 2.0) -> dict[str, Any]:
    """Times PyTorch in float32, in bf16 and a file in turn, from prepared pixels to scores.

    Args:
        model: In PyTorch.
        run: The file.
        name: Of what runs the file.
        images: Shape (n, H, W, C); repeated as often as a batch needs.
        seconds: For each batch size, about.

    Returns:
        By batch size (a text, as in JSON), then by way: ``ms`` per image (median), ``shortest_ms`` (others on the
        machine only add to it), ``turns``, and ``ratio`` (median over the turns of its time to that of PyTorch in
        float32).
    """
    network = ScoringNetwork(model.network)
    runs = {FLOAT32: torch_run(network), BF16: torch_run(network, bf16=True), name: run}
    return {str(batch): _times(runs, images[np.arange(batch) % len(images)], seconds) for batch in BATCHES}


def _times(runs: dict[str, Run], batch: Images, seconds: float) -> dict[str, dict[str, Any]]:
    def way(run: Run) -> Way:
        return lambda: run(batch)

    taken = alternate({name: way(run) for name, run in runs.items()}, seconds)
    return {
        name: {
            "ms": 1000 * statistics.median(seconds) / len(batch),
            "shortest_ms": 1000 * min(seconds) / len(batch),
            "turns": len(seconds),
            "ratio": ratio(taken, name, FLOAT32),
        }
        for name, seconds in taken.items()
    }


def _one_by_one(run: Run, images: Images) -> Outputs:
    found = [run(images[row : row + 1]) for row in range(len(images))]
    return np.concatenate([logits for logits, _ in found]), np.concatenate([scores for _, scores in found])


def _largest(*differences: NDArray[np.float32]) -> float:
    """The largest absolute value; NaN where there is one."""
    return float(np.abs(np.concatenate(differences)).max())
