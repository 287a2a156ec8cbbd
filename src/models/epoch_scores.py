"""What one pass over a split came to: every image's score, and the metrics of them all."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_stat_scores
from torchmetrics.utilities.distributed import gather_all_tensors

METRICS = ("loss", "accuracy", "sensitivity", "specificity", "ppv", "f1", "auroc", "ap")
"""What is computed of a pass, of scores in [0, 1] called at threshold 0.5."""


class EpochScores:
    """Collects batches on the device they come from, and computes once, when the pass is over.

    Metrics that are brought up to date with every batch cost more than a small network's step; on a GPU each of them
    would also make the CPU wait for the step.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Resets the collected batches."""
        self._batches: list[tuple[Tensor, Tensor, Tensor]] = []
        self._sums: list[Tensor] = []

    def __len__(self) -> int:
        return sum(len(rows) for rows, _, _ in self._batches)

    def add(self, rows: Tensor, labels: Tensor, scores: Tensor, loss: Tensor) -> None:
        """Adds a batch.

        Args:
            rows: Of the manifest, shape (N,), integers.
            labels: Shape (N,), 0 or 1.
            scores: Probabilities of Positive, shape (N,).
            loss: The mean over these images, a scalar.
        """
        self._batches.append((rows, labels, scores.detach()))
        self._sums.append(loss.detach() * len(rows))

    def finish(self, *, gather: bool) -> dict[str, Tensor]:
        """Returns the metrics of the pass by name, float32 scalars on the CPU.

        Args:
            gather: Whether other processes have seen the other images; they must all call this.
        """
        rows, labels, scores = (torch.cat(parts) for parts in zip(*self._batches, strict=True))
        loss = torch.stack(self._sums).sum()
        if gather:
            rows, labels, scores = _together(rows, labels, scores)
            torch.distributed.all_reduce(loss)
        self._batches = [(rows.cpu(), labels.cpu(), scores.cpu())]
        self._sums = [loss.cpu()]
        return {"loss": self._sums[0] / len(rows), **_metrics(*self._batches[0][1:])}

    def collected(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows of the manifest and probabilities of Positive, both of shape (n,); of the pass that is finished."""
        rows, _, scores = self._batches[0]
        return rows.numpy(), scores.double().numpy()


def _metrics(labels: Tensor, scores: Tensor) -> dict[str, Tensor]:
    labels = labels.long()
    tp, fp, tn, fn, positive = binary_stat_scores(scores, labels)
    return {
        "accuracy": _share(tp + tn, len(labels)),
        "sensitivity": _share(tp, positive),
        "specificity": _share(tn, tn + fp),
        "ppv": _share(tp, tp + fp),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
        "auroc": binary_auroc(scores, labels),
        "ap": binary_average_precision(scores, labels),
    }


def _share(part: Tensor, whole: Tensor | int) -> Tensor:
    """A quotient, 0 where there is nothing to divide by, as torchmetrics has it."""
    return part.float() / max(int(whole), 1)


def _together(rows: Tensor, labels: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The images of all processes, in the manifest's order; doubles hold each of the three exactly."""
    found = torch.cat(gather_all_tensors(torch.stack([rows.double(), labels.double(), scores.double()], dim=1)))
    found = found[found[:, 0].argsort(stable=True)]
    return found[:, 0].long(), found[:, 1].to(labels.dtype), found[:, 2].to(scores.dtype)
