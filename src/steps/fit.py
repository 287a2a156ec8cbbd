"""Training itself: Lightning's fit, which goes on where a killed run stopped and survives Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.trainer.states import TrainerStatus

from cxrlab.callbacks import RandomState
from cxrlab.errors import CheckpointError, DivergedError
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
    last = run.last_checkpoint()
    try:
        with quiet_lightning():
            parts.trainer.fit(parts.module, datamodule=parts.datamodule, ckpt_path=last, weights_only=True)
    except _UNFIT as error:
        states = next(each for each in parts.trainer.callbacks if isinstance(each, RandomState))  # type: ignore[attr-defined]
        if last is None or states.restored:
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(
            f"{last}: cannot be continued ({reason}): damaged, or of another run; restore it, or begin a new run "
            "without ckpt_path"
        ) from None


_UNFIT = (
    *(LookupError, TypeError, ValueError, RuntimeError, AttributeError, AssertionError),
    MisconfigurationException,
)
"""What Lightning and PyTorch raise on a state of training that does not fit."""


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
