"""A progress bar for a person, and one line per epoch for a person and for a log file."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from rich import get_console

from cxrlab.console import say

_SHOWN = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/auroc")


class Progress(RichProgressBar):
    """Lightning's rich progress bar on a terminal; a line per epoch there and anywhere else."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    @property
    def is_enabled(self) -> bool:
        """Only on a terminal: in a file, a bar is noise."""
        return bool(super().is_enabled) and get_console().is_terminal

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the epoch's clock."""
        super().on_train_epoch_start(trainer, pl_module)
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        values = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in _SHOWN if name in metrics)
        seconds = time.monotonic() - self._began
        say(f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  {values}  {seconds:.1f} s")

    def _get_train_description(self, current_epoch: int) -> str:
        """Counts epochs from 1, as every line and file of a run does; Lightning's bar counts from 0."""
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What stands beside the bar: no version number."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}
