"""What published collections have in common: the table beside their images, and the command that gets them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlab.console import command
from cxrlab.datamodules import spellings
from cxrlab.datamodules.manifest import COLUMNS
from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.sheet import read_sheet
from cxrlab.errors import DataError, did_you_mean

ADULT = 18
"""Years: from this age on a patient counts as an adult."""
GET_ANY = "data=synthetic needs no files at all"


def how_to_get(name: str) -> str:
    """What to type where a collection is missing: the command that gets ``data=name``, and how to use another copy."""
    return f"`{command('download', data=name)}` gets the set, data.source.root=/path/to/it names a copy elsewhere"


def is_list(value: object) -> bool:
    """Whether a value of the configuration is a list, which a text is not."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def read_table(path: Path, columns: Iterable[str], remedy: str) -> pd.DataFrame:
    """Reads a table of at least one row, whose columns get names in lower case.

    Args:
        path: The file.
        columns: What has to be there, in lower case.
        remedy: What to type where the file is missing or something else.

    Raises:
        DataError: Names the file and what is wrong with it: missing, unreadable, no such table.
    """
    try:
        sheet = read_sheet(path, columns, remedy)
    except DataError as error:
        raise (error if remedy in str(error) else DataError(f"{error}; or: {remedy}")) from None
    header = [name.lower() for name in sheet.header]
    named = [name for name in header if name]
    missing = [column for column in columns if column not in header]
    if missing:
        found = f"{', '.join(named) or 'none'}{did_you_mean(missing[0], named)}"
        raise DataError(f"{path}: the column(s) {', '.join(missing)} are missing; found {found}; {remedy}")
    if not sheet.cells:
        raise DataError(f"{path}: a header and no rows; {remedy}")
    return replace(sheet, header=header).frame()


def read_people(path: Path, columns: Iterable[str], more: Iterable[str], remedy: str) -> pd.DataFrame:
    """As :func:`read_table`, with the columns ``more``, empty where absent, and with what people are known by.

    These are ``age`` in years (NaN where unknown), ``sex`` in its usual spelling and ``population``.
    """
    rows = read_table(path, columns, remedy)
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *more])), fill_value="")
    rows["age"] = spellings.ages(rows["age"])
    rows["sex"] = spellings.each(rows["sex"], spellings.sex)
    return rows.assign(population=populations(rows["age"]))


def populations(ages: pd.Series[float]) -> pd.Series[str]:
    """``adult`` from :data:`ADULT` years on, ``child`` below, empty where the age is unknown."""
    return pd.Series(np.select([ages >= ADULT, ages < ADULT], ["adult", "child"], ""), ages.index)


class MetadataSource(Source):
    """A collection whose ``root/metadata.csv`` says what is on the files in ``root/images``.

    Args:
        root: The folder of the collection; ``~`` is expanded.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(str(root)).expanduser()
        self.table = self.root / "metadata.csv"
        self.begin()

    @property
    def remedy(self) -> str:
        """What to type where something is missing."""
        return f"{how_to_get(self.name)}; {GET_ANY}"

    def check_root(self) -> None:
        """Forgets an earlier listing, and ends this one where the folder is missing."""
        if not self.root.is_dir():
            raise DataError(f"{self.root.absolute()}: no such folder; {self.remedy}")
        self.begin()

    def with_files(self, rows: pd.DataFrame, names: pd.Series[str], more: Sequence[str]) -> pd.DataFrame:
        """The manifest: every file once, as it is listed first; a file that is listed with both labels not at all.

        A name whose suffix is in another case on disk (``.PNG`` for ``.png``) is found, too. A file that is not there
        keeps the path under which it was sought: whoever reads it gets an error or skips it, as the user chose.

        Args:
            rows: With the columns of a manifest but for ``path``, ``split`` and ``source``.
            names: Of each row's file.
            more: The columns to keep beside those of a manifest and ``collection``.

        Raises:
            DataError: The folder ``images`` is missing or cannot be listed, or none of the files is in it.
        """
        folder = self.root / "images"
        try:
            there = sorted(file.name for file in folder.iterdir())
        except FileNotFoundError:
            what = f"no such folder, where {self.table.name} has its images"
            raise DataError(f"{folder.absolute()}: {what}; {self.remedy}") from None
        except OSError as error:
            raise DataError(f"{folder}: the folder cannot be listed ({error.strerror}); {self.remedy}") from None
        exact, alike = set(there), {_small_suffix(name): name for name in reversed(there)}
        found = [name if name in exact else alike.get(_small_suffix(name)) for name in names]
        absent = len({name for name, file in zip(names, found, strict=True) if file is None})
        if absent and not any(found):
            raise DataError(
                f"{folder.absolute()}: none of the {absent} images that {self.table} lists is there, the first being "
                f"{names.iloc[0]}; {self.remedy}"
            )
        if absent:
            self.notes.append(
                f"{self.name}: {absent} of the {names.nunique()} images listed are not in {folder}; reading them is an "
                "error, unless data.on_error=skip leaves them out"
            )
        paths = [str((folder / (file or name)).absolute()) for name, file in zip(names, found, strict=True)]
        rows = rows.assign(path=paths, source=self.name, split="", collection=self.name)
        contradictory = rows.groupby("path")["label"].transform("nunique") > 1
        rows = self.flow.keep(rows, ~contradictory, "the file is listed as Positive and as Negative")
        rows = self.flow.keep(rows, ~rows["path"].duplicated(), "the file is listed already")
        known = rows[rows["patient_id"] != ""]
        both = int((known.groupby("patient_id")["label"].nunique() > 1).sum())
        if both:
            self.notes.append(f"{self.name}: {both} patient(s) have Negative and Positive images")
        return rows[[*COLUMNS, "collection", *(column for column in more if column not in COLUMNS)]]


def _small_suffix(name: str) -> str:
    return name.removesuffix(suffix := Path(name).suffix) + suffix.lower()
