"""The programs, started as a user does but in the process of the tests: most of a short run is Python's start."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
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
