"""Keeps the score of every image of a validation or test pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch import Tensor


class Scores(pl.Callback):
    """Collects what ``validation_step`` and ``test_step`` return, from the start of a pass to the start of the next."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Tensor]] = []

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the pass before."""
        self._batches = []

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps a batch."""
        self._batches.append((outputs["row"].cpu(), outputs["score"].cpu()))

    on_test_batch_end = on_validation_batch_end

    def collected(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows of the manifest and probabilities of Positive, both of shape (n,), in the order of the pass."""
        rows = np.concatenate([rows.numpy() for rows, _ in self._batches])
        scores = np.concatenate([scores.numpy().astype(np.float64) for _, scores in self._batches])
        return rows, scores
