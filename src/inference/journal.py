"""What was said of each file, kept as it is said: a killed run loses nothing, and goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd

from cxrlab.errors import ConfigError
from cxrlab.files import write_csv, write_json, write_text
from cxrlab.inference.prediction import COLUMNS, Prediction

JOURNAL, TABLE, SETTINGS = "predictions.jsonl", "predictions.csv", "settings.json"
_SIZE, _MODIFIED = "bytes", "modified"


class Journal:
    """The rows of one folder of predictions.

    One line of JSON per file is written as soon as it is known; the table is made of them at the end. Lines of an
    earlier run are taken over where the file has not changed since; a line that a kill cut off is not.

    Args:
        folder: Of the predictions; made where needed.
        settings: What decides the rows, as plain values: fingerprints of model and gate, precision, saliency.
        more: Columns beside those of :class:`Prediction`.

    Attributes:
        path: The journal.
        table: The CSV that is made of it.

    Raises:
        ConfigError: The folder holds rows that were made under other settings; names them.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], more: Sequence[str] = ()) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self.table = folder / TABLE
        self._settings = dict(settings)
        self._columns = [*COLUMNS, *more]
        self._rows: dict[str, dict[str, Any]] = {}
        self._file: Any = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_settings()
        self._rows = self._read()
        # Whole lines only: what a kill cut off would spoil the line that follows.
        write_text(self.path, "".join(map(_line, self._rows.values())))
        self._file = self.path.open("a", encoding="utf-8", errors="surrogateescape")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _check_settings(self) -> None:
        path = self.folder / SETTINGS
        if not path.is_file():
            write_json(path, self._settings)
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = None
        if before != self._settings:
            found = before if isinstance(before, dict) else {}
            other = [key for key, value in self._settings.items() if found.get(key) != value]
            raise ConfigError(
                f"{self.folder}: holds predictions that were made with another {', '.join(other) or 'setting'}; "
                "hydra.run.dir=… chooses another folder"
            )

    def _read(self) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        if not self.path.is_file():
            return rows
        for line in self.path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and set(self._columns) <= set(row):
                rows[str(row["file"])] = row
        return rows

    def done(self, file: str) -> bool:
        """Whether a file was looked at before, and has not changed since."""
        row, stamp = self._rows.get(file, {}), _stamp(file)
        return stamp is not None and stamp == (row.get(_SIZE), row.get(_MODIFIED))

    def add(self, prediction: Prediction, more: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Keeps what was said of a file.

        Args:
            prediction: The row.
            more: Values of the further columns.

        Returns:
            The row as plain values.
        """
        row = prediction.as_dict() | dict(more or {})
        size, modified = _stamp(prediction.file) or (None, None)
        kept = row | {_SIZE: size, _MODIFIED: modified}
        self._rows[prediction.file] = kept
        self._file.write(_line(kept))
        self._file.flush()
        return row

    def write_table(self, files: Sequence[str], *, nameless: bool = False) -> pd.DataFrame:
        """Writes the rows of these files that are known, in their order, as CSV; returns them.

        Args:
            files: As they were named.
            nameless: Each is known by its SHA-256 instead, or where its bytes could not be read by its place.
        """
        rows = []
        for number, file in enumerate(files, 1):
            if (row := self._rows.get(file)) is not None:
                rows.append({**row, "file": row["sha256"] or f"file {number} of the list"} if nameless else row)
        table = pd.DataFrame(rows, columns=self._columns)
        named = table.assign(file=[_shown(file) for file in table["file"]])
        write_csv(self.table, named)
        return table

    def forget(self) -> None:
        """Removes the journal, in which files stand by their names; nothing can go on with it then."""
        self.path.unlink()


def _shown(file: str) -> str:
    """A name for one cell: no formula of a spreadsheet, and what is no text (bytes of another encoding) spelt out."""
    file = f"./{file}" if file.startswith(("=", "+", "-", "@")) else file
    return file.encode(errors="backslashreplace").decode()


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _stamp(file: str) -> tuple[int, int] | None:
    """By what a file is known to be the one that was looked at: size in bytes, and change in nanoseconds."""
    try:
        found = Path(file).stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns
