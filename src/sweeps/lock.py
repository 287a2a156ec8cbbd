"""A run folder belongs to one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cxrlab.console import tell
from cxrlab.errors import ConfigError

_NAME = ".lock"
_PATIENCE = 2.0  # seconds: whoever only looks whether a folder is in use is gone by then


@contextmanager
def claimed(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps every other process out of a run folder; the claim ends with the process, even if that is killed.

    Args:
        folder: Of the run.
        wait: Whether to wait for a process that is in it.

    Raises:
        ConfigError: Another process is in it, and nobody is to wait.
    """
    folder = Path(folder)
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        if not wait:
            raise ConfigError(
                f"{folder}: another process is at this run; wait until it is over, or end that process"
            ) from None
        waits = f"{folder}: another process is at this job, the same sweep for example; waiting (Ctrl-C gives up)"
        tell(waits)
        lock.acquire(poll_interval=1.0)
    try:
        yield
    finally:
        lock.release()


def is_claimed(folder: Path) -> bool:
    """Whether a process is in a run folder now."""
    if not (folder / _NAME).is_file():
        return False
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False
