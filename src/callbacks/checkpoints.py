"""Two files: the newest state, from which a run goes on, and the best weights, which are evaluated."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from cxrlab.errors import check_choice, check_range
from cxrlab.runs.checkpoint import load_checkpoint
from cxrlab.runs.folder import BEST, LAST


class Checkpoints(Checkpoint):
    """Writes ``last.ckpt`` (everything) at epochs' ends, and ``best.ckpt`` (weights only) when an epoch is better.

    The last epoch always leaves its state, others where that does not hold up training: a slow disk, or a large network
    on few images, costs a killed run some epochs, which are computed again to the same numbers, and not every run much
    of its time.

    Lightning's ModelCheckpoint ties its state to an absolute folder, numbers its files, and does not keep the order in
    which two of them write; here the best weights are always on disk before the state that calls them the best, so that
    a kill between the two costs nothing.

    Args:
        monitor: The metric that says which epoch is best.
        mode: ``min`` or ``max``.
        weights: ``best``, or ``last``: then no ``best.ckpt`` is written.
        time_share: Of training, that writing ``last.ckpt`` may take, above 0 and up to 1: epochs go by without one
            until it is no more than that. With 0.02 a kill costs at most an epoch and fifty times what writing takes.
    """

    def __init__(
        self, monitor: str = "val/loss", mode: str = "min", weights: str = "best", time_share: float = 0.02
    ) -> None:
        check_choice("mode", mode, ("min", "max"))
        check_choice("weights", weights, ("best", "last"))
        check_range("time_share", time_share, 0, 1, low_open=True)
        self.monitor = monitor
        self.mode = mode
        self.weights = weights
        self.time_share = time_share
        self.folder: Path | None = None
        self.best_score: float | None = None
        self.best_epoch = 0
        self.epochs = 0
        self._written_epochs = 0
        self._written_at = -math.inf
        self._writing_took = 0.0  # seconds
        self._should_stop = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Writes what there is to write; early stopping has made up its mind by now."""
        if self.folder is None:
            return
        self.epochs = trainer.current_epoch + 1
        self._should_stop = trainer.should_stop
        if self.is_best(trainer):
            self.best_score = float(trainer.callback_metrics[self.monitor])
            self.best_epoch = self.epochs
            trainer.save_checkpoint(self.folder / BEST, weights_only=True)
        if self._is_due(trainer):
            began = time.monotonic()
            trainer.save_checkpoint(self.folder / LAST)
            self._written_epochs, self._written_at = self.epochs, time.monotonic()
            self._writing_took = self._written_at - began

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether the state is to be written now; the same answer in every process, since all have a part in it."""
        if trainer.should_stop or self.epochs == trainer.max_epochs or trainer.global_step == trainer.max_steps:
            return True
        since = time.monotonic() - self._written_at
        return bool(trainer.strategy.broadcast(since >= self._writing_took / self.time_share))

    def is_best(self, trainer: pl.Trainer) -> bool:
        """Whether the epoch that is over is better than all before it; never where the last one's weights are kept."""
        score = float(trainer.callback_metrics[self.monitor]) if self.weights == "best" else math.nan
        if math.isnan(score):
            return False
        if self.best_score is None:
            return True
        return score < self.best_score if self.mode == "min" else score > self.best_score

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "should_stop": self._should_stop,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where the checkpoint was written."""
        self.best_score = state_dict["best_score"]
        self.best_epoch = state_dict["best_epoch"]
        self.epochs = self._written_epochs = state_dict["epochs"]
        self._should_stop = state_dict["should_stop"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that was killed after early stopping had spoken stays stopped; the best weights keep their name.

        ``best.ckpt`` may be of a later epoch than the state from which training goes on, and stays until that one comes
        again or an earlier one is better than what the state knows.
        """
        trainer.should_stop = trainer.should_stop or self._should_stop
        if self.folder is not None and self.epochs and (self.folder / BEST).is_file():
            self.best_epoch = int(load_checkpoint(self.folder / BEST)["epoch"]) + 1

    def path(self) -> Path | None:
        """The checkpoint to evaluate, ``None`` before the first epoch that may be chosen is over."""
        if self.folder is None or not (self.epochs if self.weights == "last" else self.best_epoch):
            return None
        return self.folder / (LAST if self.weights == "last" else BEST)

    def describe(self) -> str:
        """Which weights these are, in words."""
        if self.weights == "last":
            return f"last (epoch {self._written_epochs})"
        return f"best (epoch {self.best_epoch} of {max(self.best_epoch, self.epochs)}, by {self.monitor})"
