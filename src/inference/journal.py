"""What is said of a file, and a journal of it: a killed run loses nothing, and goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import pandas as pd

from cxrlab.errors import ConfigError, DataError
from cxrlab.files import write_csv, write_json, write_text
from cxrlab.reading.image import read_bytes

NOT_JUDGED = "off"
UNREADABLE = "unreadable"
"""Kind of a file that is no image, or a damaged one."""


@dataclass(frozen=True)
class Prediction:
    """One row of ``predictions.csv``.

    Attributes:
        file: Path or name, as it was given; ``array 0`` for an array, by its place.
        sha256: Of the file's bytes, or of the array's; empty where they could not be read.
        verdict: The gate's, ``accept``, ``warn`` or ``refuse``; ``off`` where it was switched off.
        kind: What it looks like (``frontal``, ``lateral``, ``photograph``, …); ``unreadable`` where it is no image,
            ``no_radiograph`` where a DICOM header says so.
        reason: Why it is not simply accepted, in words; empty where it is.
        score: The network's, in [0, 1]; ``None`` where the file was refused.
        probability: The score after calibration, in [0, 1]; the score itself where nothing was calibrated.
        label: ``Positive`` where the probability is at least the threshold, else ``Negative``; empty where refused.
        threshold: In [0, 1].
        model: Fingerprint of weights, preprocessing and decision, SHA-256.
        gate: Fingerprint of the gate, SHA-256; empty where it knows rules only or was switched off.
    """

    file: str
    sha256: str
    verdict: str
    kind: str
    reason: str
    score: float | None
    probability: float | None
    label: str
    threshold: float
    model: str
    gate: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values by column."""
        return asdict(self)


COLUMNS = tuple(field.name for field in fields(Prediction))

JOURNAL, TABLE, SETTINGS = "predictions.jsonl", "predictions.csv", "settings.json"
_SIZE, _MODIFIED, DROPPED = "bytes", "modified", "dropped_tags"


class Journal:
    """The rows of one folder of predictions.

    One line of JSON per file is written as soon as it is known; the table is made of them at the end. Lines of an
    earlier run are taken over where the file has not changed since; a line that a kill cut off is not. Without names, a
    file is known by its SHA-256 from the first byte that is written; one whose bytes cannot be read is looked at again.

    Args:
        folder: Of the predictions; made where needed.
        settings: What decides the rows, as plain values: fingerprints of model and gate, precision, saliency.
        more: Columns beside those of :class:`Prediction`.
        nameless: Whether no name of a file may be written.

    Attributes:
        path: The journal.
        table: The CSV that is made of it.

    Raises:
        ConfigError: The folder holds rows that were made under other settings; names them.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], more: Sequence[str] = (), *, nameless: bool = False
    ) -> None:
        self.folder = folder
        self.path = folder / JOURNAL
        self.table = folder / TABLE
        self._settings = dict(settings)
        self._columns = [*COLUMNS, *more]
        self._nameless = nameless
        self._rows: dict[str, dict[str, Any]] = {}
        self._hashes: dict[str, str] = {}
        self._file: Any = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / SETTINGS
        if not path.is_file():
            write_json(path, self._settings)
        elif (before := _parsed(path.read_text(encoding="utf-8"))) != self._settings:
            other = [key for key, value in self._settings.items() if before.get(key) != value]
            raise ConfigError(
                f"{self.folder}: holds predictions that were made with another {', '.join(other) or 'setting'}; "
                "hydra.run.dir=… chooses another folder"
            )
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
                row = _parsed(line)
                named = self._nameless and row.get("file") != row.get("sha256")
                if set(self._columns) <= set(row) and not named:
                    self._rows[str(row["file"])] = row
        # Whole lines only: what a kill cut off would spoil the line that follows.
        write_text(self.path, "".join(map(_line, self._rows.values())))
        self._file = self.path.open("a", encoding="utf-8", errors="surrogateescape")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def done(self, file: str) -> bool:
        """Whether a file was looked at before, and has not changed since."""
        if self._nameless:
            return bool(self._rows) and self._key(file) in self._rows
        row, stamp = self._rows.get(file, {}), _stamp(file)
        return stamp is not None and stamp == (row.get(_SIZE), row.get(_MODIFIED))

    def _key(self, file: str) -> str:
        """What a row stands under: the name of its file, or the SHA-256 of its bytes where they can be read."""
        if self._nameless and file not in self._hashes:
            try:
                self._hashes[file] = hashlib.sha256(read_bytes(Path(file))).hexdigest()
            except DataError:
                self._hashes[file] = ""
        return self._hashes.get(file) or file

    def add(
        self, prediction: Prediction, more: Mapping[str, Any] | None = None, dropped: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Keeps what was said of a file.

        Args:
            prediction: The row.
            more: Values of the further columns.
            dropped: Keywords of the DICOM tags that the file has and nothing is told of.

        Returns:
            The row as plain values.
        """
        row = prediction.as_dict() | dict(more or {})
        if self._nameless:
            self._hashes[prediction.file] = prediction.sha256
            reason = prediction.reason
            for name in (prediction.file, Path(prediction.file).name):
                reason = reason.replace(name, "the file")
            row |= {"file": prediction.sha256, "reason": reason}
            kept = row | {DROPPED: list(dropped)}
        else:
            size, modified = _stamp(prediction.file) or (None, None)
            kept = row | {_SIZE: size, _MODIFIED: modified}
        self._rows[self._key(prediction.file)] = kept
        if row["file"]:
            self._file.write(_line(kept))
            self._file.flush()
        return row

    def known(self, files: Sequence[str]) -> list[dict[str, Any]]:
        """The rows of these files that are known, in their order; a file without name or hash is known by its place."""
        rows = ((number, self._rows.get(self._key(file))) for number, file in enumerate(files, 1))
        return [{**row, "file": row["file"] or f"file {number} of the list"} for number, row in rows if row is not None]

    def write_table(self, files: Sequence[str]) -> pd.DataFrame:
        """Writes the rows of these files that are known, in their order, as CSV; returns them."""
        table = pd.DataFrame(self.known(files), columns=self._columns)
        # No name is a formula of a spreadsheet, and what is no text (bytes of another encoding) is spelt out.
        safe = [f"./{file}" if file.startswith(("=", "+", "-", "@")) else file for file in table["file"]]
        write_csv(self.table, table.assign(file=[file.encode(errors="backslashreplace").decode() for file in safe]))
        return table


def _parsed(text: str) -> dict[str, Any]:
    """Some JSON as a mapping; an empty one where it is something else, or cut off."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _stamp(file: str) -> tuple[int, int] | None:
    """By what a file is known to be the one that was looked at: size in bytes, and change in nanoseconds."""
    try:
        found = Path(file).stat()
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns
