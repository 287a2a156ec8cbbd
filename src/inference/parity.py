"""Whether a file gives the scores that PyTorch gives, and how long either takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxrlab.inference.scorer import Images, Scorer, TorchScorer
from cxrlab.runs.checkpoint import LoadedModel

TOLERANCE = 1e-4  # by which scores of a file and of PyTorch in float32 may differ
BATCHES = (1, 16)  # whose latency is stated
FLOAT32, BF16 = "PyTorch float32", "PyTorch bf16"
_TURNS = 5  # at least, of each way that is timed


@dataclass(frozen=True)
class Parity:
    """How far a file is from PyTorch in float32."""

    images: int
    what: str  # which images, in words
    score: float  # largest difference of two scores; NaN where one is no number
    logit: float  # largest difference of two logits
    spread: float  # largest minus smallest score of PyTorch, to compare the differences with
    calls: int  # images that only one of the two calls Positive
    bf16: float  # largest difference of PyTorch's scores in bf16 (autocast) from those in float32


class _Bf16Scorer(TorchScorer):
    """As with precision=bf16-mixed, which Fabric would announce on the screen."""

    def run(self, images: Images) -> tuple[NDArray[Any], NDArray[Any]]:
        with torch.autocast("cpu", torch.bfloat16):
            return super().run(images)


def compare(model: LoadedModel, scorer: Scorer, images: Images, what: str) -> Parity:
    """Scores images (n, H, W, C), n at least 1, with PyTorch and a file, which gets them at once and one by one."""
    run = scorer.logits_and_scores
    ours = np.stack(TorchScorer(model.network, "cpu", "32-true").logits_and_scores(images))
    bf16 = _Bf16Scorer(model.network, "cpu", "32-true")(images)
    at_once = np.stack(run(images))
    one_by_one = np.concatenate([np.stack(run(images[row : row + 1])) for row in range(len(images))], axis=1)
    logit, score = (float(each) for each in np.abs([at_once - ours, one_by_one - ours]).max((0, 2)))
    calls = [model.calibrate(scores) >= model.threshold for scores in (ours[1], at_once[1])]
    return Parity(
        images=len(images),
        what=what,
        score=score,
        logit=logit,
        spread=float(np.ptp(ours[1])),
        calls=int((calls[0] != calls[1]).sum()),
        bf16=float(np.abs(bf16 - ours[1]).max()),
    )


def time_ways(model: LoadedModel, scorer: Scorer, name: str, images: Images, seconds: float = 2.0) -> dict[str, Any]:
    """Times PyTorch in float32, in bf16 and a file in turn, from prepared pixels to scores.

    Args:
        model: In PyTorch.
        scorer: The file.
        name: Of what runs it.
        images: Shape (n, H, W, C); repeated as often as a batch needs.
        seconds: For each batch size, about.

    Returns:
        By batch size (a text, as in JSON), then by way: ``ms`` per image (median), ``shortest_ms`` (others on the
        machine only add to it), ``turns``, and ``ratio`` (median over the turns of its time to that of PyTorch in
        float32 in the same turn).
    """
    ways: dict[str, Scorer] = {
        FLOAT32: TorchScorer(model.network, "cpu", "32-true"),
        BF16: _Bf16Scorer(model.network, "cpu", "32-true"),
        name: scorer,
    }
    found: dict[str, Any] = {}
    for size in BATCHES:
        batch = images[np.arange(size) % len(images)]
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way(batch)
        end = time.monotonic() + seconds
        while len(taken[FLOAT32]) < _TURNS or time.monotonic() < end:
            # In turn, so that whatever else the machine is doing disturbs all alike. Each runs uncounted first: the
            # threads of the way before may still be spinning, and its own data have left the caches.
            for name, way in ways.items():
                way(batch)
                began = time.perf_counter()
                way(batch)
                taken[name].append(time.perf_counter() - began)
        found[str(size)] = {
            name: {
                "ms": 1000 * statistics.median(each) / size,
                "shortest_ms": 1000 * min(each) / size,
                "turns": len(each),
                "ratio": statistics.median(a / b for a, b in zip(each, taken[FLOAT32], strict=True)),
            }
            for name, each in taken.items()
        }
    return found
