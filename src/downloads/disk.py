"""Bytes on their way to the disk: how far they are, whether there is room, and what else may be wrong there."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import get_console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from cxrlab.errors import DataError

BLOCK = 1 << 20
"""Bytes read at a time."""


def in_words(count: int) -> str:
    """Returns a number of bytes for people: MB, or GB from one of them on."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def check_room(folder: Path, wanted: int, what: str) -> None:
    """Checks that there is room for so many bytes.

    Args:
        folder: On the disk in question.
        wanted: Bytes; 0 or fewer always fit.
        what: Needs them, for the message.

    Raises:
        DataError: There is not; says how much there is and what to do.
    """
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise DataError(
            f"{folder}: {in_words(free)} are free, and {what} needs {in_words(wanted)}; make room, or choose another "
            "folder with to=/some/folder"
        )


@contextmanager
def writing_to(parent: Path) -> Iterator[None]:
    """Says what goes wrong on this side of the network as a sentence: an OSError within becomes a DataError."""
    try:
        yield
    except OSError as error:
        where = error.filename or parent
        room = "make room there, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        hint = f"{room}choose another folder with to=/some/folder, and type the same again"
        raise DataError(f"{where}: cannot be written ({error.strerror or error}); {hint}") from None


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes; yields the function that moves it on."""
    columns: Sequence[Any] = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=get_console(), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
