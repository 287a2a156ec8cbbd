"""The manifest: everything about a data set that is not a pixel, as one table with one row per image.

A manifest is a :class:`pandas.DataFrame`. Its first columns are :data:`COLUMNS`; a source may add whatever else it knows
(age, licence, mask …). Splitting, training, evaluating and reporting take manifests and never ask where one came from.

==============  ===================================================================================
``path``        absolute path of the image file
``label``       0 Negative, 1 Positive
``patient_id``  one id per person, empty where the source does not know
``split``       ``train``, ``val``, ``test``, or empty where it is still to be drawn
``source``      name of the collection
``finding``     what the source says is on the film, empty where unknown
``view``        ``PA``, ``AP``, … , empty where unknown
``sha256``      of the file's bytes; added when the image is read
==============  ===================================================================================
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from cxrlab.errors import DataError
from cxrlab.files import write_text

COLUMNS = ("path", "label", "patient_id", "split", "source", "finding", "view")
LABELS = {"Negative": 0, "Positive": 1}
SPLITS = ("train", "val", "test")


def check(manifest: pd.DataFrame, name: str) -> pd.DataFrame:
    """Checks the columns and values of a manifest and returns it with a clean index and plain types.

    Args:
        manifest: One row per image, at least the columns of :data:`COLUMNS`.
        name: What to call the manifest in an error.

    Raises:
        DataError: Names the missing column, or the first row that is wrong and what was expected there.
    """
    missing = [column for column in COLUMNS if column not in manifest.columns]
    if missing:
        raise DataError(f"{name}: the manifest lacks the column(s) {', '.join(missing)}; needed are {', '.join(COLUMNS)}")
    if manifest.empty:
        raise DataError(f"{name}: the manifest holds no image")
    manifest = manifest.reset_index(drop=True)
    rest = [column for column in manifest.columns if column not in COLUMNS]
    manifest = manifest[[*COLUMNS, *rest]].copy()
    for column in COLUMNS:
        if column != "label":
            manifest[column] = manifest[column].fillna("").astype(str)
    _check_values(manifest, "label", set(LABELS.values()), name)
    _check_values(manifest, "split", {*SPLITS, ""}, name)
    twice = manifest["path"].duplicated()
    if twice.any():
        row = int(twice.idxmax())
        raise DataError(f"{name}: row {row + 1} lists {manifest.at[row, 'path']} a second time; each image once, please")
    manifest["label"] = manifest["label"].astype(int)
    return manifest


def _check_values(manifest: pd.DataFrame, column: str, allowed: set[object], name: str) -> None:
    wrong = ~manifest[column].isin(list(allowed))
    if wrong.any():
        row = int(wrong.idxmax())
        expected = ", ".join(repr(value) for value in sorted(allowed, key=str))
        raise DataError(f"{name}: row {row + 1}: {column} is {manifest.at[row, column]!r}, expected one of {expected}")


def people(manifest: pd.DataFrame) -> pd.Series:
    """One key per person, shape (rows,): the patient id, or the image itself where the patient is unknown."""
    return manifest["patient_id"].where(manifest["patient_id"] != "", "image:" + manifest["path"])


def leaks(manifest: pd.DataFrame) -> list[str]:
    """Finds what stands in more than one split: the same patient, or the same file under any name.

    Returns:
        One sentence per leaking patient or file, empty when the splits are clean.
    """
    found = []
    known = manifest[manifest["patient_id"] != ""]
    for patient, rows in known.groupby("patient_id"):
        if rows["split"].nunique() > 1:
            found.append(f"patient {patient} is in {_where(rows)}")
    if "sha256" in manifest.columns:
        for _, rows in manifest.groupby("sha256"):
            if rows["split"].nunique() > 1:
                found.append(f"the same file is in {_where(rows)}")
    return found


def _where(rows: pd.DataFrame) -> str:
    return " and ".join(f"{split} ({Path(group['path'].iloc[0]).name})" for split, group in rows.groupby("split"))


def fingerprint(manifest: pd.DataFrame) -> str:
    """SHA-256 over what a training sees: the bytes of each image, its label and its split, in any order of rows."""
    lines = sorted(f"{row.sha256} {row.label} {row.split}" for row in manifest.itertuples())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write(manifest: pd.DataFrame, path: Path) -> None:
    """Writes a manifest as UTF-8 CSV, all of it or nothing."""
    write_text(path, manifest.to_csv(index=False))


def read(path: Path) -> pd.DataFrame:
    """Reads a manifest written by :func:`write`.

    Raises:
        DataError: The file is missing, is no CSV, or is no manifest.
    """
    try:
        # Ids such as "007" are text, and an empty cell is an empty text rather than a missing number.
        table = pd.read_csv(path, dtype=dict.fromkeys((*COLUMNS, "sha256"), str) | {"label": int}, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; a manifest was expected there") from None
    except ValueError as error:
        raise DataError(f"{path}: not a manifest ({error})") from None
    return check(table, str(path))
