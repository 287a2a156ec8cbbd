"""Several processes on one machine that work together, one per device; PyTorch connects them (``torch.distributed``).

The run itself is the first process. It starts the others when they are needed and ends them afterwards, so that there
is one process that reads the command line, writes the run folder, prints, and evaluates.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from cxrlab.console import as_lines, tell
from cxrlab.errors import UserError

Work = Callable[[Any, Callable[[], None]], None]
"""What another process does, a function of a module: called with plain values, and with what to call when ready."""
_NOTICED = 10  # seconds in which a broken connection has ended the first process by itself


class ProcessFailedError(UserError):
    """One of the other processes ended, so that the run cannot go on."""


@dataclass(frozen=True)
class _Place:
    """Where a process stands among all of them; see PyTorch's documentation of ``init_process_group``."""

    rank: int
    processes: int
    port: int
    threads: int

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Sets what PyTorch and Lightning read, and this process's share of the cores."""
        values = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.port),
            "NODE_RANK": "0",
            "LOCAL_RANK": str(self.rank),  # set, it keeps Lightning from starting processes itself
            "WORLD_SIZE": str(self.processes),
            "OMP_NUM_THREADS": str(self.threads),
        }
        before, threads = {name: os.environ.get(name) for name in values}, torch.get_num_threads()
        os.environ.update(values)
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


@contextmanager
def other_processes(work: Work, plain: Any, processes: int) -> Iterator[None]:
    """Keeps the other processes of a run at work, this one being the first; with one process it does nothing.

    They begin when every one of them is ready, and are ended with the block, whether or not they are done.

    Args:
        work: What they do.
        plain: Its first argument, plain values.
        processes: How many there are to be, this one included.

    Raises:
        ProcessFailedError: One of the others has ended before its time; what it had to say is on the screen.
    """
    if processes == 1:
        yield
        return
    with reserved_port() as port:
        threads = max(1, torch.get_num_threads() // processes)
        with _at_work(work, plain, [_Place(rank, processes, port, threads) for rank in range(processes)]):
            yield


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port on which this program can listen, and which the system gives to no other one in the meantime.

    The other processes take seconds to start. Nobody is given a port that is bound; and since the socket that holds it
    does not listen and both allow reuse, as PyTorch's does, it can still listen there. It does so at all addresses
    of the machine, so the port is held at all: held at one, it could be that of a connection from another.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("", 0))
        yield held.getsockname()[1]


@contextmanager
def _at_work(work: Work, plain: Any, places: list[_Place]) -> Iterator[None]:
    """Starts those after the first, and ends them with the block."""
    others: list[SpawnProcess] = []
    over = threading.Event()
    try:
        started = [_start(work, plain, place) for place in places[1:]]
        others += [process for process, _ in started]
        for process, ready in started:
            _await(process, ready)
        threading.Thread(target=_watch, args=(others, over), daemon=True).start()
        with places[0].taken():
            yield
    except RuntimeError as error:  # a broken connection: by whose fault?
        failed = _failure(others)
        if failed is None:
            raise
        raise failed from error
    finally:
        over.set()
        for process in others:
            process.kill()
            process.join()
        if torch.distributed.is_initialized():  # or what this process does next would wait for the others
            torch.distributed.destroy_process_group()


def _start(work: Work, plain: Any, place: _Place) -> tuple[SpawnProcess, Connection]:
    """Starts a process; the connection says when it is ready."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_live, args=(work, plain, place, sender), name=f"process {place.rank + 1}")
    with _ctrl_c_ignored():
        process.start()
    sender.close()
    return process, receiver


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal, and is for the first to answer; a process inherits this setting."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _await(process: SpawnProcess, ready: Connection) -> None:
    """Waits until a process is ready.

    Raises:
        ProcessFailedError: It ended instead.
    """
    try:
        ready.recv()
    except EOFError:
        process.join()
        raise ProcessFailedError(_obituary(process)) from None


def _watch(others: list[SpawnProcess], over: threading.Event) -> None:
    """Ends this process when another has failed and what waits for it does not notice, as on GPUs it may not."""
    wait([process.sentinel for process in others])
    if not over.wait(_NOTICED):
        tell(f"error: {_failure(others)}", error=True)
        os._exit(1)


def _failure(others: list[SpawnProcess]) -> ProcessFailedError | None:
    """The error of a process that has failed, if one has."""
    ended = wait([process.sentinel for process in others], timeout=1)
    for process in others:
        if process.sentinel in ended:
            process.join()  # its end can be seen before its status
    failed = [process for process in others if process.exitcode]
    return ProcessFailedError(_obituary(failed[0])) if failed else None


def _obituary(process: SpawnProcess) -> str:
    code = process.exitcode or 0
    how = f"was ended by signal {-code} (9: perhaps for want of memory)" if code < 0 else "failed, see above"
    return f"{process.name} of this run {how}; ckpt_path=<the run folder> goes on from the last saved epoch"


def _live(work: Work, plain: Any, place: _Place, ready: Connection) -> None:
    """The life of another process: it prints nothing but what it died of."""
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    name, screen = multiprocessing.current_process().name, sys.stderr
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere), place.taken():
        warnings.simplefilter("ignore")  # the first process says the same
        logging.disable()
        try:
            work(plain, lambda: ready.send(True))
        except UserError as error:
            print(as_lines(f"error in {name}: {error}"), file=screen)
            sys.exit(1)


def _end_with_the_first() -> None:
    """Waiting for a process that was killed would never end."""
    first = multiprocessing.parent_process()
    assert first is not None
    first.join()
    os._exit(1)
