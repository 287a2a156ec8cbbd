"""SIGTERM, from ``kill`` or a cluster's scheduler."""

from __future__ import annotations

import signal
import threading

import pytorch_lightning as pl


class Termination(pl.Callback):
    """Lets SIGTERM end one of several processes at once, as SIGKILL does: a run goes on from its last saved epoch then.

    Lightning's own handler sends a message to the other processes first, and waits for them: they may be waiting for
    this one. With a single process its handler stays, and ends training at the next step.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes back the handler that Lightning has set by now; after training it restores the one from before."""
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
