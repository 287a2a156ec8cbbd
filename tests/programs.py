"""The programs, started as a user does but in the process of the tests: most of a short run is Python's start.

:func:`ended` starts one in a process of its own, since it does not live to its end.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch


def script(program: str) -> str:
    """The file that is typed, from the repository's folder."""
    return "train.py" if program == "train" else f"src/{program}.py"


def run(program: str, *arguments: str) -> tuple[int, str, str]:
    """Runs a program's ``main`` in this process: exit status, stdout, stderr. What passes through it is raised."""
    status: Any = 0
    printed, errors = io.StringIO(), io.StringIO()
    with _state_restored(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        sys.argv = [script(program), *arguments]
        try:
            importlib.import_module(f"cxrlab.{program}").main()
        except SystemExit as end:
            status = end.code
    return int(status or 0), printed.getvalue(), errors.getvalue()


_ENDED = """
import importlib, os, pkgutil, sys

signal, program, called, left, file = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
module = importlib.import_module(f"cxrlab.{program}")
sys.argv[:6] = [module.__file__]
owner, _, name = called.rpartition(".")
owner = pkgutil.resolve_name(owner)
function = getattr(owner, name)

def counted(*arguments, **named):
    global left
    if not file or os.path.basename(arguments[-1]) == file:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal)
    return function(*arguments, **named)

setattr(owner, name, counted)
module.main()
"""


def ended(
    how: signal.Signals, program: str, called: str, number: int, *arguments: str, file: str = ""
) -> tuple[int, str]:
    """Exit status and output of a program in a process of its own, which a signal reaches at a certain moment.

    Args:
        how: The signal.
        program: Name of the program.
        called: Function or method by its full name, as in ``pathlib.Path.replace``; its calls are counted where it is
            looked up when it is called, not where ``from pathlib import …`` has taken it along.
        number: The signal comes before this call, counted from 1.
        arguments: What is typed after the program's name.
        file: Counts only calls whose last argument is a file of this name.
    """
    done = subprocess.run(
        [sys.executable, "-c", _ENDED, str(int(how)), program, called, str(number), file, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=heed_ctrl_c,
    )
    return done.returncode, done.stdout


def heed_ctrl_c() -> None:
    """For ``preexec_fn``: a job that a shell has put into the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def _state_restored() -> Iterator[None]:
    """Puts back what a program may change for its own process: logging, environment, torch's settings."""
    loggers = [logging.getLogger(name) for name in (None, "pytorch_lightning", "lightning.fabric", "cxrlab")]
    states = [(each.handlers[:], each.level, each.propagate) for each in loggers]
    deterministic = torch.are_deterministic_algorithms_enabled()
    memory = torch.utils.deterministic
    fills: bool = memory.fill_uninitialized_memory  # type: ignore[attr-defined]
    # Hydra configures logging anew, which closes every handler there is; that of absl closes pytest's stderr with it.
    handlers_made: list[Any] = []
    others_hidden = mock.patch.object(logging, "_handlerList", handlers_made)
    with mock.patch.object(sys, "argv", sys.argv), mock.patch.dict(os.environ), others_hidden:
        try:
            yield
        finally:
            logging.shutdown(handlers_made)
            for each, (handlers, level, propagate) in zip(loggers, states, strict=True):
                each.handlers[:], each.propagate = handlers, propagate
                each.setLevel(level)
            torch.use_deterministic_algorithms(deterministic)
            memory.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
