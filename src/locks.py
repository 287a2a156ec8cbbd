"""A folder that a program writes to belongs to one process at a time."""

from __future__ import annotations

import errno
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cxrlab.console import one_line, short, tell
from cxrlab.errors import ConfigError
from cxrlab.files import remove_leftovers

_NAME, _HOLDER = ".lock", ".lock.holder"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_PATIENCE = 2.0  # seconds: whoever only looks whether a folder is in use is gone by then


@contextmanager
def claimed(folder: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Keeps every other process out of a folder; the claim ends with the process, even if that is killed.

    Half-written files that a killed process left there are removed.

    Args:
        folder: Of the run, or of what a program writes.
        wait: Whether to wait for a process that is in it.

    Raises:
        ConfigError: Another process is in it, and nobody is to wait; or nothing can be locked or written there.
    """
    folder = Path(folder)
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        if not wait:
            raise ConfigError(
                f"{short(folder)}: {_holder(folder)} is at this run; wait until it is over, or end that process"
            ) from None
        tell(f"{short(folder)}: {_holder(folder)} is at this job, the same sweep for example; waiting (Ctrl-C ends it)")
        lock.acquire(poll_interval=1.0)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        raise ConfigError(
            f"{short(folder)}: its file system has no locks, so that nothing would keep two processes out of the "
            f"folder ({error}); hydra.run.dir=… chooses one on another disk"
        ) from None
    try:
        remove_leftovers(folder)
        with suppress(OSError):  # a full disk is reported by what has to be written
            here = f"process {os.getpid()} on {platform.node()}, since {time.strftime('%Y-%m-%d %H:%M')},"
            (folder / _HOLDER).write_text(here, encoding="utf-8")
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        return one_line((folder / _HOLDER).read_bytes()[:200].decode(errors="replace")) or "another process"
    except OSError:
        return "another process"


def is_claimed(folder: Path) -> bool:
    """Whether a process is in a folder now."""
    if not (folder / _NAME).is_file():
        return False
    lock = FileLock(folder / _NAME)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False
