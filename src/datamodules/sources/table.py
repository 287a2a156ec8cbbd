"""A table that lists images: the user's own, a public set's, or the ``manifest.csv`` of a run."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab.console import override
from cxrlab.datamodules import spellings
from cxrlab.datamodules.manifest import COLUMNS, LABELS, SPLITS
from cxrlab.datamodules.sources import where
from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.metadata import GET_ANY, is_list
from cxrlab.datamodules.sources.sheet import Sheet, read_sheet, refuse
from cxrlab.datamodules.sources.synthetic import SyntheticSource
from cxrlab.errors import DataError, check_choice, did_you_mean
from cxrlab.reading.image import SUFFIXES

NEEDED = ("path", "label")
"""The columns that a table must have; the others of a manifest may be missing."""
_MEANT = {
    "path": ("path", "file", "image", "dicom", "name"),
    "label": ("label", "diagnos", "finding", "class", "target", "categor"),
}
_MANY = 10  # films of one patient: from so many on, and three times as many as any other's, it is asked about


class ManifestSource(Source):
    """Any table with a row per image: CSV in any dialect, perhaps compressed by gzip, or an Excel workbook.

    ``path`` and ``label`` are needed, in columns of these names or of those in ``columns``: a path is relative to the
    file's folder (or to ``root``), a label is 0, 1, ``Negative``, ``Positive`` or another usual word for these, or what
    ``labels`` says. ``patient_id``, ``split``, ``source``, ``finding`` and ``view`` may be missing or empty; words such
    as ``nan`` and ``unknown`` count as empty. All other columns are kept, as text: ``007`` stays what it is.

    Args:
        path: The file; ``~`` is expanded.
        root: The folder that relative paths begin at; the file's own where ``None``.
        name: What the manifest's ``source`` column says where the file says nothing.
        claim: What Positive is said to mean, as a piece of text that a finding then contains; empty where nothing is
            claimed.
        synthetic: Whether a program drew the images; always so where the file is the manifest of ``data=synthetic``.
        columns: The manifest's columns by the file's own names, for example ``{path: Image Index, label: diagnosis}``.
        labels: What the cells of the label column mean, for example ``{covid: 1, normal: 0}``, in any letter case; the
            key ``unknown`` is whatever is empty or says so. A cell with several findings, joined by ``|``, means what
            those of them mean that are named, if they agree. The words become the findings where there are none.
        others: Rows whose label none of these says: ``error``, or ``drop`` as a step of the flow.
        header: The names of the columns, in order, where the file has no row of names.
        strip_prefix: A text that is taken away where a path begins with it.
        duplicates: A file that is listed several times, once for each box or reader: ``error``, or merged to one row,
            Positive if ``any`` row says so or if the ``majority`` does (a tie is then left out, as a step of the flow).

    Raises:
        ValueError: Names the argument that is none of these.
    """

    def __init__(
        self,
        path: str,
        root: str | None = None,
        name: str = "manifest",
        claim: str = "",
        synthetic: bool = False,
        columns: Mapping[str, str] | None = None,
        labels: Mapping[Any, int] | None = None,
        others: str = "error",
        header: Sequence[str] | None = None,
        strip_prefix: str | None = None,
        duplicates: str = "error",
    ) -> None:
        if columns is not None and not (isinstance(columns, Mapping) and all(columns.values())):
            raise ValueError(f"columns must map columns of the manifest onto the file's own, got {columns!r}")
        if labels is not None and not (isinstance(labels, Mapping) and labels and set(labels.values()) <= {0, 1}):
            raise ValueError(f"labels must map words onto 0 (Negative) and 1 (Positive), got {labels!r}")
        if header is not None and not (is_list(header) and header):
            raise ValueError(f"header must be a list of names such as [path, label], got {header!r}")
        check_choice("others", others, ("error", "drop"))
        check_choice("duplicates", duplicates, ("error", "any", "majority"))
        self.path = Path(str(path)).expanduser()
        self.root = None if root is None else Path(str(root)).expanduser()
        self.name = name
        self.claim = claim
        self.synthetic = synthetic
        self.columns = {str(column): str(own) for column, own in (columns or {}).items()}
        self.labels = None  # by word; an empty one stands for every word for "unknown"
        if labels is not None:
            keyed = {"" if word is None else spellings.key(word): int(label) for word, label in labels.items()}
            self.labels = {"" if word == "unknown" else word: label for word, label in keyed.items()}
        self.others = others
        self.header = None if header is None else [str(column) for column in header]
        self.strip_prefix = where.slashes(str(strip_prefix or ""))
        self.duplicates = duplicates
        self.begin()

    def manifest(self) -> pd.DataFrame:
        """Reads the file.

        Raises:
            DataError: The file is missing, is no such table, lists no image that is there, or has wrong rows; these are
                listed with their numbers, of which the header is 1, as in a spreadsheet.
        """
        self.begin()
        if self.path.is_dir():
            hint = "data.source.path=… must name a CSV file (data=folder takes folders)"
            raise DataError(f"{self.path}: a folder; {hint}")
        needed = [self.columns.get(column, column) for column in NEEDED]
        remedy = f"data.source.path=/path/to/images.csv names another; {GET_ANY}"
        table = self._named(read_sheet(self.path, needed, remedy, self.header))
        given = table["path"]
        for column in COLUMNS:
            if column not in table:
                table[column] = ""
        self._normalise(table)
        root = (self.root or self.path.parent).absolute()
        table["path"] = [self._place(path, root) for path in given]
        table = self._labelled(self.flow.start(table, f"rows of {self.path.name}"))
        # One file that is there is enough: others are missing when they are read, where they can be skipped.
        paths = table["path"]
        if not any(os.path.lexists(path) for path in paths):
            raise DataError(
                f"{self.path}: none of its {len(paths)} images is there, the first would be {paths.iloc[0]}; relative "
                f"paths begin at {root}"
                + (where.hint(given[paths.index], root) or ": data.source.root=/path/to/images names another folder")
            )
        table = self._merged(table).reset_index(drop=True)
        table["label"] = table["label"].astype(int)
        table["source"] = table["source"].replace("", self.name)
        self.synthetic = self.synthetic or SyntheticSource.name in set(table["source"])
        self._note_unknown(table)
        return table[[*COLUMNS, *(column for column in table.columns if column not in COLUMNS)]]

    def _named(self, sheet: Sheet) -> pd.DataFrame:
        """The table with the manifest's names of columns; index: the numbers of the rows.

        Raises:
            DataError: Columns are missing or named twice; says what to type where they have other names, or none.
        """
        header = [name for name in sheet.header if name]
        found = ", ".join(header)
        for column, own in self.columns.items():
            if own not in header:
                near = did_you_mean(own, header)
                raise DataError(f"{self.path}: data.source.columns takes {column} from {own!r}; found {found}{near}")
        missing = [column for column in NEEDED if column not in self.columns and column not in header]
        if missing:
            raise DataError(
                f"{self.path}: row 1 must name the columns {' and '.join(NEEDED)} (separated by commas, semicolons, "
                f"tabs or blanks); found {found or 'nothing'}{self._other_names(header, missing)}"
            )
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise DataError(f"{self.path}: row 1 names the column(s) {', '.join(twice)} more than once; rename one")
        if not sheet.cells:
            raise DataError(f"{self.path}: lists no image; add a row for each below the header")
        self.notes += [f"{self.name}: {note}" for note in sheet.notes]
        nameless = sheet.header.count("")
        if nameless:
            self.notes.append(f"{self.name}: {nameless} column(s) of {self.path.name} without a name were left out")
        table = sheet.frame().set_axis(sheet.numbers)
        hidden = [column for column in self.columns if column in table and self.columns[column] != column]
        if hidden:
            self.notes.append(f"{self.name}: data.source.columns is used for {', '.join(hidden)}, not the file's own")
        taken = {column: table[own] for column, own in self.columns.items()}
        return table.drop(columns=[*hidden, *set(self.columns.values())]).assign(**taken)

    def _other_names(self, header: list[str], missing: list[str]) -> str:
        """What to type where the needed columns are missing: names for columns without any, or the file's own names."""
        if any(Path(name).suffix.lower() in SUFFIXES for name in header):
            named = ["path" if Path(name).suffix.lower() in SUFFIXES else "…" for name in header]
            return (
                f". That looks like a row of data, without a header: type data.source.header='[{', '.join(named)}]' "
                "with a name for each column (path, label, patient_id, …)"
            )
        close = {}
        for column in missing:  # names that mean the column, the likeliest first
            like = [name for name in header if name.casefold() == column]
            like += difflib.get_close_matches(column, header)
            like += [name for word in _MEANT[column] for name in header if word in name.casefold()]
            close[column] = like[0] if like else "…"
        return f"; type {override('data.source.columns', {**self.columns, **close})}, or name them there"

    def _normalise(self, table: pd.DataFrame) -> None:
        """Splits, views, sexes and ids in their usual spelling, see :mod:`cxrlab.datamodules.spellings`."""
        table["patient_id"] = self._people(spellings.patients(table["patient_id"]))
        table["view"] = spellings.each(table["view"], spellings.view)
        if "sex" in table:
            table["sex"] = spellings.each(table["sex"], spellings.sex)
        for column in ("split", "source", "finding"):
            table[column] = table[column].where(~spellings.each(table[column], spellings.is_unknown).astype(bool), "")
        splits = spellings.each(table["split"], lambda text: spellings.split(text) or text)
        read = {f"{own!r} as {split}" for own, split in zip(table["split"], splits, strict=True) if own != split}
        if read:
            self.notes.append(f"{self.name}: column split: {', '.join(sorted(read))}")
        table["split"] = splits

    def _people(self, ids: pd.Series) -> pd.Series:
        """The ids; asks about one that stands on so many images that it may mean "unknown", which a 0 then does."""
        counts = ids[ids != ""].value_counts()
        if counts.empty or counts.iloc[0] < max(_MANY, 3 * counts.iloc[1:2].sum()):
            return ids
        who = str(counts.index[0])
        said = f"{self.name}: {counts.iloc[0]} of {len(ids)} images are of the patient {who!r}"
        if who.strip("0"):
            self.notes.append(
                f"{said}, who counts as one person; if it means that the patient is unknown, leave it empty"
            )
            return ids
        self.notes.append(f"{said}, which is taken for unknown")
        return ids.replace(who, "")

    def _place(self, path: str, root: Path) -> str:
        """The absolute path; backslashes are separators where no file is called so."""
        if "\\" in path and not os.path.lexists(root / path):
            path = where.slashes(path)
        path = path.removeprefix(self.strip_prefix)
        return os.path.normpath(root / os.path.expanduser(path)) if path else ""  # noqa: PTH111 - may hold zero bytes

    def _labelled(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows with 0 or 1 for their labels; names every wrong row, or drops those of other labels."""
        words = table["label"]
        found = spellings.each(words, self._label)
        if self.labels is not None and (table["finding"] == "").all():
            table = table.assign(finding=words)
        told = ", ".join(spellings.shown(words[found.isna()]))
        if self.others == "drop" and told:
            table = self.flow.keep(table, found.notna(), f"label is none of data.source.labels: {told}")
            if table.empty:
                raise DataError(f"{self.path}: no row has a label of data.source.labels; found {told}")
        wrong = [
            f"row {number}: {what}"
            for number, path, label, split in zip(
                table.index, *(table[name] for name in (*NEEDED, "split")), strict=True
            )
            for what in self._mistakes(path, label, split)
        ]
        hint = (
            f"Without a known label are {told}: data.source.labels='{{word: 1, another: 0}}' says what words mean "
            "(unknown: empty, nan, …); data.source.others=drop leaves such rows out"
        )
        refuse(self.path, wrong, [hint] if told and self.others == "error" else [])
        return table.assign(label=found[table.index])

    def _label(self, text: object) -> int | None:
        if self.labels is None:
            return spellings.label(text)
        if (word := spellings.key(text)) in self.labels:
            return self.labels[word]
        if spellings.is_unknown(text):
            return self.labels.get("")
        parts = {self.labels[part] for part in map(spellings.key, str(text).split("|")) if part in self.labels}
        return parts.pop() if len(parts) == 1 else None

    def _mistakes(self, path: str, label: str, split: str) -> Iterator[str]:
        """What is wrong with one row; in most cases nothing."""
        if not path:
            yield "path is empty, expected the path of an image file"
        elif "\0" in path:
            yield f"path is {path!r}, which no file can be called"
        if self._label(label) is None:
            known = list(self.labels or LABELS)
            expected = ", ".join(word or "unknown" for word in known) if self.labels else f"0, 1, {' or '.join(known)}"
            yield f"label is {label!r}, expected {expected}{did_you_mean(label, known) if label else ''}"
        if split not in (*SPLITS, ""):
            yield f"split is {split!r}, expected {', '.join(SPLITS)} or nothing{did_you_mean(split, SPLITS)}"

    def _merged(self, table: pd.DataFrame) -> pd.DataFrame:
        """One row per file, where files are listed several times."""
        again = table["path"].duplicated()
        if not again.any():
            return table
        groups = table.groupby("path", sort=False)
        share = groups["label"].transform("mean")
        files = table.loc[again, "path"].nunique()
        both = table.loc[(share > 0) & (share < 1), "path"].nunique()
        told = f"{files} file(s) are listed several times, {both} of them with both labels"
        hint = (
            f"{told}: data.source.duplicates=any makes one row of each, Positive if one of its rows is, "
            "data.source.duplicates=majority asks them all"
        )
        every = self.duplicates == "error"
        refuse(self.path, list(_disagreements(table, every)), [hint] if every else [])
        several = table[table["path"].duplicated(keep=False)].groupby("path", sort=False)["finding"]
        findings = several.transform(lambda words: "|".join(dict.fromkeys(word for word in words if word)))
        label = (share > (0 if self.duplicates == "any" else 0.5)).astype(int)
        table = table.assign(finding=findings.reindex(table.index).fillna(table["finding"]), label=label)
        reason = f"further rows of one file (data.source.duplicates={self.duplicates}: {told})"
        merged = self.flow.keep(table, ~again, reason)
        tie = (share == 0.5) & (self.duplicates == "majority")
        if tie.any():
            merged = self.flow.keep(merged, ~tie[merged.index], "as many rows of the file say Positive as Negative")
        self.notes.append(f"{self.name}: {told}; of their other columns the first row counts")
        return merged

    def _note_unknown(self, table: pd.DataFrame) -> None:
        """Notes unknown patients, findings and splits, ages that nobody has, and ids that several people may share."""
        total = len(table)
        patients, findings, splits = (int((table[column] == "").sum()) for column in ("patient_id", "finding", "split"))
        ages = spellings.no_ages(table["age"]) if "age" in table else table["path"].head(0)
        rounded = int(table["patient_id"].str.fullmatch(r"\d[.,]\d+E\+\d+").sum())
        said = {
            f"the patient of {patients} of {total} images is unknown, so that patients in more than one split are NOT "
            "CHECKED for those (column patient_id)": patients,
            f"{len(ages)} age(s) are none that a person can have and count as unknown: "
            f"{', '.join(spellings.shown(ages))}": len(ages),
            f"{rounded} patient id(s) such as 1.23E+11 were rounded by a spreadsheet, so that people may share one; "
            "export the table again with that column as text": rounded,
            f"the finding of {findings} of {total} images is unknown, so that Positive meaning {self.claim} is NOT "
            "CHECKED for those (column finding)": findings and self.claim,
            f"{splits} of {total} images name no split and are taken as training images": 0 < splits < total,
        }
        self.notes += [f"{self.name}: {what}" for what, applies in said.items() if applies]


def _disagreements(table: pd.DataFrame, every: bool) -> Iterator[str]:
    """Rows that contradict the first row of their file about split or patient; with ``every`` all further rows."""
    facts = ["split", "patient_id", "label"]
    firsts = table.assign(number=table.index).groupby("path", sort=False)[["number", *facts]].transform("first")
    again = table["path"].duplicated()
    rows = zip(table.index[again], table[again].itertuples(), firsts[again].itertuples(), strict=True)
    for number, row, first in rows:
        for column in facts[:-1]:
            own, other = str(getattr(row, column)), str(getattr(first, column))
            if own != other:
                yield f"row {number}: {column} is {own!r}, but row {first.number} says {other!r} for {row.path}"
        if every:
            said = "the same label" if str(row.label) == str(first.label) else f"another label, {row.label}"
            where_first = f"(first in row {first.number})"
            yield f"row {number}: lists {row.path} a second time {where_first} with {said}; leave one out"
