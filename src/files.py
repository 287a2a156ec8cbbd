"""Files: written so that nobody ever meets half of one, and known by their bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_AT = r"(?:^|(?<=[;\t\r\n]))"  # where a spreadsheet may see the start of a cell, whatever separates its cells
_FORMULA = re.compile(_AT + r"(?='*[=+@\t\r-])")
_GUARDED = re.compile(_AT + r"'(?='*[=+@\t\r-])")
_UNFINISHED = ".part"
_NUMBER = re.compile(r"[+-]?(?:\d[\d.,]*(?:[eE][+-]?\d+)?)?")


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file under another name in the same folder and moves it into place when it is whole and on disk.

    Args:
        path: Where the file is to stand; its folder is made where needed.
        write: Called with the open binary file.

    Raises:
        OSError: The folder cannot be written, or the disk is full; a file already at ``path`` is then untouched.
    """
    path = Path(path)
    name, raw = None, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=_UNFINISHED)
        raw = _Raw(handle, "wb")
        with io.BufferedWriter(raw) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp's 0600 would keep colleagues from reading a shared run folder
        Path(name).replace(path)
    except BaseException as error:
        if name is not None:
            Path(name).unlink(missing_ok=True)
        cause = raw.failure if raw is not None and raw.failure is not None else error
        if isinstance(cause, OSError) and cause.errno is not None:
            raise OSError(cause.errno, cause.strerror, str(path)) from error
        raise


class _Raw(io.FileIO):
    """Keeps the error of a write: a library (PyTorch's, for one) may tell of a full disk in words of its own."""

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            self.failure = error
            raise


def remove_leftovers(folder: Path) -> None:
    """Removes what :func:`write_atomically` left of unfinished files in a folder, and in those right below it.

    Nobody may be writing there; see :func:`cxrlab.locks.claimed`.
    """
    for depth in ("", "*/"):
        for leftover in folder.glob(f"{depth}.*.????????{_UNFINISHED}"):
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Writes strict JSON atomically, dataclasses by their fields; ``NaN`` is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=asdict) + "\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table as UTF-8 CSV, atomically; text that a spreadsheet would take for a formula gets a ``'`` before it.

    Numbers stay numbers, and :func:`from_csv` gives back the text as it was.
    """
    table = _each_text(table, _guarded)
    text = table.to_csv(index=False)
    if "\r" in text:  # which the csv module leaves bare, and every reader takes for the end of a row
        text = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    write_text(path, text)


def from_csv(table: pd.DataFrame) -> pd.DataFrame:
    """The table that :func:`write_csv` was given, from the cells that were read of its file."""
    return _each_text(table, lambda text: _GUARDED.sub("", text))


def _guarded(text: str) -> str:
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub("'", text)


def _each_text(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The table with its texts changed, those of the header as well; the same object where there is none to change."""
    changed = table.rename(columns=lambda name: change(name) if isinstance(name, str) else name)
    for number, kind in enumerate(table.dtypes):
        if str(kind) in ("object", "str", "string", "category"):
            cells = [change(cell) if isinstance(cell, str) else cell for cell in table.iloc[:, number]]
            changed.isetitem(number, cells)
    return changed


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal: the same wherever the file lies.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
