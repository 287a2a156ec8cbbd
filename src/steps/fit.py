"""Training itself: Lightning's fit, made to go on where a killed run stopped and to survive Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning.trainer.states import TrainerStatus

from cxrlab.runs.folder import RunFolder
from cxrlab.steps.assembly import Parts
from cxrlab.steps.quiet import quiet_lightning


def fit(parts: Parts, run: RunFolder) -> bool:
    """Trains from the run's last finished epoch, or from the start.

    Args:
        parts: Of the run.
        run: Its folder.

    Returns:
        Whether Ctrl-C ended training; the weights of the last finished epoch are then on disk.
    """
    with _sigint_restored(), quiet_lightning():
        try:
            parts.trainer.fit(
                parts.module, datamodule=parts.datamodule, ckpt_path=run.last_checkpoint(), weights_only=True
            )
        except SystemExit:  # Lightning's answer to Ctrl-C, after closing its loggers
            if parts.trainer.state.status != TrainerStatus.INTERRUPTED:
                raise
            return True
    return False


@contextmanager
def _sigint_restored() -> Iterator[None]:
    """Lightning leaves Ctrl-C switched off after the first; the report that follows must be stoppable, too."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
