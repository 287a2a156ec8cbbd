"""Reading the metadata table that a collection publishes beside its images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrlab.console import command
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.sources.sheet import read_sheet
from cxrlab.errors import DataError, did_you_mean

ADULT = 18
"""Years: from this age on a patient counts as an adult."""


def how_to_get(name: str) -> str:
    """What to type where a collection is missing: the command that gets ``data=name``, and how to use another copy."""
    return (
        f"`{command('download', data=name)}` gets the set, data.source.root=/path/to/it names a copy elsewhere; "
        "data=synthetic needs no files at all"
    )


def is_list(value: object) -> bool:
    """Whether a value of the configuration is a list, which a text is not."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def read_table(path: Path, columns: Iterable[str], remedy: str) -> pd.DataFrame:
    """Reads a table by :func:`~cxrlab.datamodules.sources.sheet.read_sheet`; names of columns are in lower case.

    Args:
        path: The file.
        columns: What has to be there, in lower case.
        remedy: What to type where the file is missing or something else.

    Returns:
        One row per line of the table, index 0 to n - 1, at least one row.

    Raises:
        DataError: Names the file and what is wrong with it: missing, unreadable, no such table.
    """
    try:
        sheet = read_sheet(path, columns, remedy)
    except DataError as error:
        raise (error if remedy in str(error) else DataError(f"{error}; or: {remedy}")) from None
    header = [name.lower() for name in sheet.header]
    missing = [column for column in columns if column not in header]
    if missing:
        found = ", ".join(name for name in header if name) or "none"
        meant = did_you_mean(missing[0], [name for name in header if name])
        raise DataError(f"{path}: the column(s) {', '.join(missing)} are missing; found {found}{meant}; {remedy}")
    if not sheet.cells:
        raise DataError(f"{path}: a header and no rows; {remedy}")
    return replace(sheet, header=header).frame()


def locate(folder: Path, names: Sequence[str], table: Path, remedy: str) -> tuple[list[str], int]:
    """Finds the files that a table names.

    A name whose suffix is in another case there (``.PNG`` for ``.png``) is found, too. A file that is not there
    keeps the path under which it was sought: whoever reads it gets an error or skips it, as the user chose.

    Args:
        folder: Where the images are.
        names: Their names by the table.
        table: What named them, for the error.
        remedy: What to type where none is there.

    Returns:
        Absolute paths in the order of the names, and how many of the different names are not there.

    Raises:
        DataError: The folder is missing or cannot be listed, or none of the files is in it.
    """
    try:
        there = sorted(file.name for file in folder.iterdir())
    except FileNotFoundError:
        raise DataError(f"{folder.absolute()}: no such folder, where {table.name} has its images; {remedy}") from None
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed ({error.strerror}); {remedy}") from None
    exact, alike = set(there), {_small_suffix(name): name for name in reversed(there)}
    found = [name if name in exact else alike.get(_small_suffix(name)) for name in names]
    absent = len({name for name, file in zip(names, found, strict=True) if file is None})
    if absent and not any(found):
        raise DataError(
            f"{folder.absolute()}: none of the {absent} images that {table} lists is there, the first being "
            f"{names[0]}; {remedy}"
        )
    paths = [str((folder / (file or name)).absolute()) for name, file in zip(names, found, strict=True)]
    return paths, absent


def _small_suffix(name: str) -> str:
    return name.removesuffix(suffix := Path(name).suffix) + suffix.lower()


def listed_once(flow: Flow, rows: pd.DataFrame) -> pd.DataFrame:
    """Every file once, as it is listed first; a file that is listed with both labels not at all."""
    contradictory = rows.groupby("path")["label"].transform("nunique") > 1
    rows = flow.keep(rows, ~contradictory, "the file is listed as Positive and as Negative")
    return flow.keep(rows, ~rows["path"].duplicated(), "the file is listed already")


def absent_note(source: str, absent: int, listed: int, folder: Path) -> list[str]:
    """A note on files that are listed but not there, where there are any."""
    what = f"{source}: {absent} of the {listed} images listed are not in {folder}"
    return [f"{what}; reading them is an error, unless data.on_error=skip leaves them out"] if absent else []


def both_labels_note(source: str, manifest: pd.DataFrame) -> list[str]:
    """A note on patients with Negative and with Positive images, where there are any."""
    known = manifest[manifest["patient_id"] != ""]
    both = int((known.groupby("patient_id")["label"].nunique() > 1).sum())
    return [f"{source}: {both} patient(s) have Negative and Positive images"] if both else []


def populations(ages: pd.Series[float]) -> pd.Series[Any]:
    """``adult`` from :data:`ADULT` years on, ``child`` below, empty where the age is unknown."""
    names = np.select([ages >= ADULT, ages < ADULT], ["adult", "child"], "")
    return pd.Series(names, ages.index)
