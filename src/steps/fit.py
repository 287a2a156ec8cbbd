"""Training itself: Lightning's fit, which goes on where a killed run stopped and survives Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.trainer.states import TrainerStatus

from cxrlab.errors import DivergedError
from cxrlab.runs.folder import RunFolder
from cxrlab.steps.assembly import Parts, assemble
from cxrlab.steps.processes import other_processes
from cxrlab.steps.quiet import quiet_lightning


class Ending(NamedTuple):
    """How a training ended.

    Attributes:
        status: ``finished``, ``interrupted`` (by Ctrl-C) or ``diverged``.
        reason: Of a divergence: what was found, what to lower, and which epoch's weights there are to evaluate.
    """

    status: str
    reason: str | None = None

    def head(self) -> dict[str, str]:
        """How ``metrics.json`` begins."""
        return {"status": self.status} | ({"diverged": self.reason} if self.reason else {})


def fit(parts: Parts, run: RunFolder, config: DictConfig) -> Ending:
    """Trains from the run's last saved epoch, or from the start; with several devices, together with others.

    Args:
        parts: Of the run.
        run: Its folder.
        config: From which another process can build the same parts.

    Raises:
        ProcessFailedError: Another process failed.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    with _sigint_restored(), other_processes(_take_part, plain, parts.trainer.world_size):
        try:
            _fit(parts, run)
        except SystemExit:  # Lightning's answer to Ctrl-C, after closing its loggers
            if parts.trainer.state.status != TrainerStatus.INTERRUPTED:
                raise
            return Ending("interrupted")
        except DivergedError as error:
            kept = (
                f"the report is of {parts.checkpoints.describe()}"
                if parts.checkpoints.path()
                else "no epoch had a good end"
            )
            return Ending("diverged", f"{error}; {kept}")
    return Ending("finished")


def _fit(parts: Parts, run: RunFolder) -> None:
    with quiet_lightning():
        parts.trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=run.last_checkpoint(), weights_only=True)


def _take_part(plain: dict[str, Any], ready: Callable[[], None]) -> None:
    """What every process but the first does: the same steps with its parts of the batches, and nothing is written."""
    config = OmegaConf.create(plain)
    parts = assemble(config)
    parts.datamodule.setup()
    run = RunFolder(config.output_dir)
    parts.prepare(resumed=run.last_checkpoint() is not None)
    ready()
    with suppress(DivergedError):  # the first process says it
        _fit(parts, run)


@contextmanager
def _sigint_restored() -> Iterator[None]:
    """Lightning leaves Ctrl-C switched off after the first; the report that follows must be stoppable, too."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
