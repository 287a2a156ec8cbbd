"""A CSV file that lists images: the user's own, or the ``manifest.csv`` of a run."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.manifest import COLUMNS, LABELS, SPLITS
from cxrlab.datamodules.sources.folder import GET_ANY
from cxrlab.datamodules.sources.synthetic import SyntheticSource
from cxrlab.errors import DataError, did_you_mean
from cxrlab.files import from_csv

NEEDED = ("path", "label")
"""The columns that a file must have; the others of a manifest may be missing."""
_DELIMITERS = (",", ";", "\t")
_LABELS = {str(label): label for label in LABELS.values()} | {name.lower(): label for name, label in LABELS.items()}
_SHOWN = 20  # wrong rows; the rest are counted


@dataclass(frozen=True)
class _Rows:
    """A header and its records, every one with the number that a spreadsheet shows beside it (the header is row 1)."""

    header: list[str]
    numbers: list[int]
    cells: list[list[str]]


class ManifestSource:
    """Any CSV file with a row per image; separated by commas, semicolons or tabs, in UTF-8.

    ``path`` and ``label`` are needed: a path is relative to the file's folder (or to ``root``), a label is 0, 1,
    ``Negative`` or ``Positive`` in any case. ``patient_id``, ``split``, ``source``, ``finding`` and ``view`` may be
    missing or empty. All other columns are kept, as text: an id such as ``007`` stays what it is.

    Args:
        path: The file; ``~`` is expanded.
        root: The folder that relative paths begin at; the file's own where ``None``.
        name: What the manifest's ``source`` column says where the file says nothing.
        claim: What Positive is said to mean, as a piece of text that a finding then contains; empty where nothing is
            claimed.
        synthetic: Whether a program drew the images; always so where the file is the manifest of ``data=synthetic``.
    """

    def __init__(
        self, path: str, root: str | None = None, name: str = "manifest", claim: str = "", synthetic: bool = False
    ) -> None:
        self.path = Path(str(path)).expanduser()
        self.root = None if root is None else Path(str(root)).expanduser()
        self.name = name
        self.claim = claim
        self.synthetic = synthetic
        self.notes: list[str] = []
        self.flow = Flow(name)

    def manifest(self) -> pd.DataFrame:
        """Reads the file.

        Raises:
            DataError: The file is missing, is no such table, lists no image that is there, or has wrong rows; these are
                listed with their numbers, of which the header is 1, as in a spreadsheet.
        """
        self.notes = []
        rows = self._read()
        table = from_csv(pd.DataFrame(rows.cells, columns=rows.header, dtype=str))
        table = self._without_nameless(table)
        for column in COLUMNS:
            table[column] = table[column].str.strip() if column in table else ""
        root = (self.root or self.path.parent).absolute()
        table["path"] = [os.path.normpath(root / path) if path else "" for path in table["path"]]
        self._check(table, rows.numbers)
        self._check_root(table["path"], root)
        table["label"] = table["label"].str.lower().map(_LABELS).astype(int)
        table["source"] = table["source"].replace("", self.name)
        self.synthetic = self.synthetic or SyntheticSource.name in set(table["source"])
        self.flow = Flow(self.name)
        self.flow.start(table, f"rows of {self.path.name}")
        self.notes += self._unknown(table)
        return table[[*COLUMNS, *(column for column in table.columns if column not in COLUMNS)]]

    def _read(self) -> _Rows:
        text = self._text()
        headers = {delimiter: _header(text, delimiter) for delimiter in _DELIMITERS}
        for delimiter, header in headers.items():
            if all(column in header for column in NEEDED):
                return self._parsed(text, delimiter)
        header = max(headers.values(), key=len)
        missing = [column for column in NEEDED if column not in header]
        hints = "".join(did_you_mean(column, header) for column in missing)
        found = ", ".join(header) or "nothing"
        raise DataError(
            f"{self.path}: row 1 must name the columns {' and '.join(NEEDED)} (separated by commas, semicolons or "
            f"tabs); found {found}{f'{hints} Rename it there' if hints else '; name them there'}"
        )

    def _text(self) -> str:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            hint = f"data.source.path=/path/to/images.csv names another; {GET_ANY}"
            raise DataError(f"{self.path.absolute()}: no such file; {hint}") from None
        except IsADirectoryError:
            raise DataError(
                f"{self.path}: a folder; data.source.path=… must name a CSV file (data=folder takes folders)"
            ) from None
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read ({error.strerror}); `chmod u+r` it, or ask its owner"
            ) from None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            row = data[: error.start].count(b"\n") + 1
            raise DataError(
                f"{self.path}: not UTF-8 (byte 0x{data[error.start]:02x} in line {row}); save it as 'CSV UTF-8'"
            ) from None

    def _parsed(self, text: str, delimiter: str) -> _Rows:
        rows = _Rows(_header(text, delimiter), [], [])
        number = 0
        try:
            for number, record in enumerate(_records(text, delimiter), 1):
                if number > 1 and any(record):  # an empty row is none, but counts where rows are numbered
                    rows.numbers.append(number)
                    rows.cells.append(record)
        except csv.Error as error:
            raise DataError(f"{self.path}: no table from row {number + 1} on ({error}); mend the row there") from None
        self._check_header(rows)
        return rows

    def _check_header(self, rows: _Rows) -> None:
        named = [name for name in rows.header if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise DataError(f"{self.path}: row 1 names the column(s) {', '.join(twice)} more than once; rename one")
        if not rows.cells:
            raise DataError(f"{self.path}: lists no image; add a row for each below the header")
        width = len(rows.header)
        wrong = [
            f"row {number}: {len(cells)} cell(s), but row 1 names {width} column(s); quote cells that hold a separator"
            for number, cells in zip(rows.numbers, rows.cells, strict=True)
            if len(cells) != width
        ]
        self._raise(wrong)

    def _without_nameless(self, table: pd.DataFrame) -> pd.DataFrame:
        nameless = [position for position, name in enumerate(table.columns) if not name]
        if nameless:
            self.notes.append(
                f"{self.name}: {len(nameless)} column(s) of {self.path.name} without a name were left out"
            )
        return table[[name for name in table.columns if name]].copy() if nameless else table

    def _check(self, table: pd.DataFrame, numbers: Sequence[int]) -> None:
        wrong: list[str] = []
        first: dict[str, int] = {}
        columns = (table["path"], table["label"], table["split"])
        for number, path, label, split in zip(numbers, *columns, strict=True):
            wrong += [f"row {number}: {what}" for what in _mistakes(path, label, split)]
            if path and first.setdefault(path, number) != number:
                wrong.append(f"row {number}: lists {path} a second time (first in row {first[path]}); leave one out")
        self._raise(wrong)

    def _raise(self, wrong: list[str]) -> None:
        if wrong:
            more = [f"… and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
            head = f"{self.path}: {len(wrong)} mistake(s), rows counted as in a spreadsheet (the header is row 1):"
            raise DataError("\n  ".join([head, *wrong[:_SHOWN], *more]))

    def _check_root(self, paths: pd.Series, root: Path) -> None:
        """One file that is there is enough: others are missing when they are read, where they can be skipped."""
        if not any(os.path.lexists(path) for path in paths):
            raise DataError(
                f"{self.path}: none of its {len(paths)} images is there, the first would be {paths.iloc[0]}; relative "
                f"paths begin at {root}: data.source.root=/path/to/images names another folder"
            )

    def _unknown(self, table: pd.DataFrame) -> Iterator[str]:
        total = len(table)
        patients, findings, splits = (int((table[column] == "").sum()) for column in ("patient_id", "finding", "split"))
        if patients:
            yield (
                f"{self.name}: the patient of {patients} of {total} images is unknown, so that patients in more than "
                "one split are NOT CHECKED for those (column patient_id)"
            )
        if findings and self.claim:
            yield (
                f"{self.name}: the finding of {findings} of {total} images is unknown, so that Positive meaning "
                f"{self.claim} is NOT CHECKED for those (column finding)"
            )
        if 0 < splits < total:
            yield f"{self.name}: {splits} of {total} images name no split and are taken as training images"


def _records(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)


def _header(text: str, delimiter: str) -> list[str]:
    """The names in row 1; none where this delimiter makes no sense of them."""
    try:
        return [name.strip() for name in next(_records(text, delimiter), [])]
    except csv.Error:
        return []


def _mistakes(path: str, label: str, split: str) -> Iterator[str]:
    """What is wrong with one row; in most cases nothing."""
    if not path:
        yield "path is empty, expected the path of an image file"
    elif "\0" in path:
        yield f"path is {path!r}, which no file can be called"
    if label.lower() not in _LABELS:
        yield f"label is {label!r}, expected 0, 1, {' or '.join(LABELS)}{did_you_mean(label, LABELS) if label else ''}"
    if split not in (*SPLITS, ""):
        yield f"split is {split!r}, expected {', '.join(SPLITS)} or nothing{did_you_mean(split, SPLITS)}"
