"""metrics.csv: one row per epoch, exact across kills and resumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl

from cxrlab.files import write_csv


class History(pl.Callback):
    """Keeps every epoch's metrics in the checkpoint, and writes all of them to ``metrics.csv`` at each epoch's end.

    Lightning's CSVLogger deletes the file when it is opened again, and would list an epoch twice that was cut off.

    Args:
        path: Of ``metrics.csv``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self._earlier_seconds = 0.0
        self._began = time.monotonic()
        self._epoch_began = self._began

    @property
    def epoch_seconds(self) -> list[float]:
        """Wall-clock seconds of training and validation, one figure per finished epoch."""
        return [row["seconds"] for row in self.rows]

    @property
    def wall_seconds(self) -> float:
        """Seconds since this object was made, plus those that a resumed run had spent up to its checkpoint."""
        return self._earlier_seconds + time.monotonic() - self._began

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the epoch's clock."""
        self._epoch_began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the epoch's row; validation is over by now."""
        if not trainer.is_global_zero:
            return
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name != "lr"}
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        seconds = round(time.monotonic() - self._epoch_began, 3)
        self.rows.append({"epoch": trainer.current_epoch + 1, "lr": rate, **values, "seconds": seconds})
        write_csv(self.path, pd.DataFrame(self.rows))

    def state_dict(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"rows": self.rows, "wall_seconds": self.wall_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up where the checkpoint was written."""
        self.rows = list(state_dict["rows"])
        self._earlier_seconds = float(state_dict["wall_seconds"])
