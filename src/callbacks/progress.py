"""A bar with the time that is left of a training, for a person; and one line an epoch, for a person and for a log."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich import get_console
from rich.progress import Progress as Bar

from cxrlab.callbacks.checkpoints import Checkpoints
from cxrlab.console import duration, say, time_bar

_SHOWN = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/auroc")


class TrainingBar(ProgressBar):
    """One bar for all epochs of a training, on a terminal: in a file, a bar is noise."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Bar | None = None
        self._began = 0.0
        self._first = 0  # steps that were done before: of a run that is continued

    def disable(self) -> None:
        """Of the processes of a training only the first has a bar, see :meth:`on_train_start`."""

    def enable(self) -> None:
        """See :meth:`disable`."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows the bar."""
        console = get_console()
        if not (trainer.is_global_zero and console.is_terminal and not console.quiet):
            return
        self._began, self._first = time.monotonic(), trainer.current_epoch * int(trainer.num_training_batches)
        self._bar = time_bar((trainer.max_epochs or 0) * int(trainer.num_training_batches))
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar on."""
        if self._bar is None:
            return
        task = self._bar.tasks[0]
        done = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        seconds = (time.monotonic() - self._began) / (done - self._first) * ((task.total or 0) - done)
        self._bar.update(
            task.id,
            description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
            completed=done,
            left=f"{duration(seconds)} left",
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Takes the bar away, since a sentence follows."""
        self.on_train_end(trainer, pl_module)


class Progress(TrainingBar):
    """The bar, and a line per epoch, in which an epoch is marked that is the best so far."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch_began = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the epoch's clock."""
        self._epoch_began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prints the epoch's line; checkpoints, which decide about the best, have their turn after it."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        values = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in _SHOWN if name in metrics)
        seconds = time.monotonic() - self._epoch_began
        best = any(each.is_best(trainer) for each in trainer.callbacks if isinstance(each, Checkpoints))  # type: ignore[attr-defined]
        mark = "  best so far" if best else ""
        say(f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}  {values}  {seconds:.1f} s{mark}")
