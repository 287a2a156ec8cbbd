"""Processes that are started, fail and are ended: steps/processes.py."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import torch

from cxrlab.errors import DataError
from cxrlab.steps.processes import ProcessFailedError, other_processes, reserved_port

Ready = Callable[[], None]


def connect() -> int:
    torch.distributed.init_process_group(
        "gloo", rank=int(os.environ["LOCAL_RANK"]), world_size=2, timeout=timedelta(seconds=60)
    )
    return torch.distributed.get_rank()


def total(value: int) -> int:
    summed = torch.tensor(value)
    torch.distributed.all_reduce(summed)
    return int(summed)


def add(plain: Any, ready: Ready) -> None:
    print("nobody reads this")
    ready()
    connect()
    total(plain["value"])
    total(torch.get_num_threads())


def refuse(plain: Any, ready: Ready) -> None:
    raise DataError("the film is missing")


def die(plain: Any, ready: Ready) -> None:
    ready()
    connect()
    os.kill(os.getpid(), signal.SIGKILL)


def test_one_process_starts_no_other() -> None:
    with other_processes(refuse, {}, 1):
        assert "LOCAL_RANK" not in os.environ


@pytest.mark.slow
def test_two_compute_together_and_nothing_stays_behind(capfd: pytest.CaptureFixture[str]) -> None:
    before, threads = dict(os.environ), torch.get_num_threads()
    with other_processes(add, {"value": 30}, 2):
        assert connect() == 0
        assert total(12) == 42
        assert total(torch.get_num_threads()) == 2 * max(1, threads // 2)
    assert not torch.distributed.is_initialized()
    assert (dict(os.environ), torch.get_num_threads()) == (before, threads)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_mistake_in_another_process_is_told_and_nobody_waits(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(ProcessFailedError, match=r"process 2 of this run failed, see above; ckpt_path="),
        other_processes(refuse, {}, 2),
    ):
        pytest.fail("it was never ready")
    assert capfd.readouterr().err == "error in process 2: the film is missing\n"


@pytest.mark.slow
def test_a_killed_process_ends_what_waits_for_it() -> None:
    def wait_for_it() -> None:
        with other_processes(die, {}, 2):
            connect()
            total(1)

    with pytest.raises(ProcessFailedError, match=r"process 2 of this run was ended by signal 9"):
        wait_for_it()


def test_nobody_else_is_given_the_port_at_which_processes_meet() -> None:
    with reserved_port() as port, socket.socket() as another:
        for address in ("127.0.0.1", "127.0.0.2"):  # whichever address a connection of somebody else begins at
            with pytest.raises(OSError, match=r"in use|can't assign"):  # the second is none of a Mac's
                another.bind((address, port))
        store = torch.distributed.TCPStore("127.0.0.1", port, 1, is_master=True)  # type: ignore[attr-defined]
        store.set("met", "yes")
        assert store.get("met") == b"yes"
