"""When a process keeps the memory that training steps free."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from cxrlab.machine import memory


class KeepMemory(pl.Callback):
    """Keeps freed memory from the first training step's end to the end of training, see :mod:`cxrlab.machine.memory`.

    By then the optimizer has its state, which would otherwise lie among what every step frees, and split it: a tenth of
    a process's memory. Afterwards report, evaluation and the next job of a sweep find the memory free.
    """

    def __init__(self) -> None:
        self._kept = False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Keeps what is freed from now on."""
        if not self._kept:
            self._kept = memory.keep_freed()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hands it back."""
        self._return()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Hands it back, also after an error, when Lightning does not call ``teardown``."""
        self._return()

    def _return(self) -> None:
        if self._kept:
            self._kept = not memory.return_freed()
