"""Training itself: Lightning's fit, which goes on where a killed run stopped and survives Ctrl-C."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.trainer.states import TrainerStatus

from cxrlab.callbacks import RandomState
from cxrlab.console import tell
from cxrlab.errors import CheckpointError, DivergedError, UserError
from cxrlab.runs.folder import RunFolder
from cxrlab.steps.assembly import Parts, assemble
from cxrlab.steps.quiet import quiet_lightning

_NOTICED = 10  # seconds in which a broken connection has ended the first process by itself


class ProcessFailedError(UserError):
    """One of the processes that train together ended, so that the run cannot go on."""


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
        config: From which other processes can build the same parts.

    Raises:
        ProcessFailedError: Another process failed.
    """
    with _sigint_restored(), _together(config, parts.trainer.world_size):
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


@contextmanager
def _together(config: DictConfig, processes: int) -> Iterator[None]:
    """Lets the other processes of a run train along, this one being the first; with one process it does nothing.

    Lightning's own launcher would repeat the whole command in each of them, end this process without a word when
    another fails, and let the next job of a sweep wait for processes that are gone.

    Raises:
        ProcessFailedError: One of the others has ended before its time; what it had to say is on the screen.
    """
    if processes == 1:
        yield
        return
    before = torch.get_num_threads()
    threads = max(1, before // processes)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "NODE_RANK": "0"}
    place |= {"WORLD_SIZE": str(processes), "OMP_NUM_THREADS": str(threads)}  # PyTorch and Lightning read all of these
    work = (OmegaConf.to_container(config, resolve=True), place, threads)
    spawn, over = multiprocessing.get_context("spawn"), threading.Event()
    others = [spawn.Process(target=_take_part, args=(rank, *work)) for rank in range(1, processes)]
    # Ctrl-C reaches every process of a terminal and is for the first to answer; the others inherit that it is blocked.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for process in others:
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    threading.Thread(target=_watch, args=(others, over), daemon=True).start()
    torch.set_num_threads(threads)
    try:
        with _environment(place | {"LOCAL_RANK": "0"}):  # set, it keeps Lightning from starting processes itself
            yield
    except RuntimeError as error:  # a broken connection: by whose fault?
        if failure := _failure(others, timeout=1):
            raise ProcessFailedError(failure) from error
        raise
    finally:
        over.set()
        for process in others:
            process.kill()
            process.join()
        torch.set_num_threads(before)
        if torch.distributed.is_initialized():  # or what this process does next would wait for the others
            torch.distributed.destroy_process_group()


def _watch(others: list[SpawnProcess], over: threading.Event) -> None:
    """Ends this process when another has failed and what waits for it does not notice, as on GPUs it may not."""
    failure = _failure(others)
    if not over.wait(_NOTICED) and failure:
        tell(f"error: {failure}", error=True)
        os._exit(1)


def _failure(others: list[SpawnProcess], timeout: float | None = None) -> str | None:
    """Waits until a process has ended, and says how, if that was no good end."""
    ended = wait([process.sentinel for process in others], timeout)
    for number, process in enumerate(others, start=2):
        if process.sentinel in ended:
            process.join()  # its end can be seen before its status
        if code := process.exitcode:
            how = f"was ended by signal {-code} (9: perhaps for want of memory)" if code < 0 else "failed, see above"
            return f"process {number} of this run {how}; ckpt_path=<the run folder> goes on from the last saved epoch"
    return None


def _take_part(rank: int, plain: dict[str, Any], place: Mapping[str, str], threads: int) -> None:
    """What every process but the first does: the same steps with its parts of the batches; it writes nothing."""
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    os.environ.update(place, LOCAL_RANK=str(rank))
    torch.set_num_threads(threads)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")  # the first process says the same
            logging.disable()
            config = OmegaConf.create(plain)
            parts = assemble(config)
            parts.datamodule.setup()
            run = RunFolder(config.output_dir)
            parts.prepare(resumed=run.last_checkpoint() is not None)
            with suppress(DivergedError):  # the first process says it
                _fit(parts, run)
    except UserError as error:
        tell(f"error in process {rank + 1}: {error}", error=True)
        sys.exit(1)


def _end_with_the_first() -> None:
    """Waiting for a process that was killed would never end."""
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables, and puts back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _sigint_restored() -> Iterator[None]:
    """Lightning leaves Ctrl-C switched off after the first; the report that follows must be stoppable, too."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
