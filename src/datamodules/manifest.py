"""The manifest: everything about a data set that is not a pixel, as one table with one row per image.

A manifest is a :class:`pandas.DataFrame`. Its first columns are :data:`COLUMNS`; a source may add whatever else it
knows (age, licence, mask …). Splitting, training, evaluating and reporting take manifests and never ask where one came
from.

==============  ===================================================================================
``path``        absolute path of the image file
``label``       0 Negative, 1 Positive
``patient_id``  one id per person, empty where the source does not know
``split``       ``train``, ``val``, ``test``, or empty where it is still to be drawn
``source``      name of the collection
``finding``     what the source says is on the film, empty where unknown
``view``        ``PA``, ``AP``, … , empty where unknown
``sha256``      of the file's bytes; added when the image is read
``film``        one key per radiograph: near-duplicates share it; added when the image is read
==============  ===================================================================================
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cxrlab.datamodules import spellings
from cxrlab.errors import DataError
from cxrlab.files import from_csv, write_csv
from cxrlab.untrusted import read_table

COLUMNS = ("path", "label", "patient_id", "split", "source", "finding", "view")
LABELS = {"Negative": 0, "Positive": 1}
NAMES = {1: "Positive", 0: "Negative"}
"""What a label is called, Positive first."""
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
        lack = ", ".join(missing)
        raise DataError(f"{name}: the manifest lacks the column(s) {lack}; needed are {', '.join(COLUMNS)}")
    if manifest.empty:
        raise DataError(f"{name}: the manifest holds no image")
    manifest = manifest[[*COLUMNS, *(column for column in manifest.columns if column not in COLUMNS)]]
    manifest = manifest.reset_index(drop=True)
    for column in COLUMNS:
        if column != "label":
            manifest[column] = manifest[column].fillna("").astype(str)
    path, label, split = (manifest[column] for column in ("path", "label", "split"))
    mistakes = {
        "{}: path is empty, expected the path of an image file": path == "",
        "{}: label is {label!r}, expected one of 0, 1": ~label.isin(list(LABELS.values())),
        "{}: split is {split!r}, expected one of '', 'test', 'train', 'val'": ~split.isin(["", *SPLITS]),
        "{} lists {path} a second time; leave it out": path.duplicated(),
    }
    for what, wrong in mistakes.items():
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            values = {column: manifest[column].tolist()[row] for column in ("path", "label", "split")}
            raise DataError(f"{name}: {what.format(f'row {row + 1}', **values)}")
    manifest["label"] = label.astype(int)
    return manifest


def people(manifest: pd.DataFrame) -> pd.Series:
    """One key per person, shape (rows,): the patient id, or the image itself where the patient is unknown.

    An image that was read is known by its bytes, so that copies of one film count as one person wherever they lie; and
    two ids that share a radiograph (column ``film``) are one person, known by the id that comes first in the alphabet.
    """
    image = manifest["path"]
    if "sha256" in manifest.columns:
        image = manifest["sha256"].where(manifest["sha256"] != "", image)
    keys = manifest["patient_id"].where(manifest["patient_id"] != "", "image:" + image)
    if "film" not in manifest.columns:
        return keys
    # All keys that are linked by films, over however many steps, get the first of them.
    person, names = pd.factorize(keys, sort=True)
    film, _ = pd.factorize(manifest["film"].where(manifest["film"] != "", keys))
    nodes = len(names) + film.max(initial=-1) + 1
    links = coo_array((np.ones(len(keys)), (person, len(names) + film)), shape=(nodes, nodes))
    group = connected_components(links, directed=False)[1][: len(names)]
    first = pd.Series(names).groupby(group).transform("min")
    return pd.Series(first.to_numpy()[person], keys.index, keys.dtype)


def deal_labels(manifest: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Permutes the labels between the people of each split: the negative control.

    Everyone gets the label of somebody of the same split (at times their own), on all their images.

    Args:
        manifest: With a split on every row; not changed.
        seed: Of the deal, at least 0.
    """
    rng, dealt, person = np.random.default_rng(seed), manifest.copy(), people(manifest)
    for _, rows in manifest.groupby("split", sort=True):
        own = rows.groupby(person[rows.index], sort=True)["label"].first()
        given = pd.Series(rng.permutation(own.to_numpy()), own.index)
        dealt.loc[rows.index, "label"] = person[rows.index].map(given).astype(int)
    return dealt


def ages(manifest: pd.DataFrame) -> pd.Series[float]:
    """Years, shape (rows,), NaN where unknown or impossible; see :func:`cxrlab.datamodules.spellings.ages`."""
    if "age" not in manifest.columns:
        return pd.Series(np.nan, manifest.index, float)
    return spellings.ages(manifest["age"])


def leaks(manifest: pd.DataFrame) -> list[str]:
    """One sentence per patient, file or film (in another copy) that is in more than one split."""
    found = []
    told = {"patient_id": "patient {}", "sha256": "the same file", "film": "the same film (a near-duplicate)"}
    for column, what in told.items():
        if column not in manifest.columns:
            continue
        known = manifest[manifest[column] != ""]
        # Counted for all groups at once: a loop over every patient of a large collection takes half a minute.
        straddling = known[known.groupby(column)["split"].transform("nunique") > 1]
        for key, rows in straddling.groupby(column):
            if column == "film" and rows["sha256"].nunique() < 2:
                continue  # a file in two splits is a film in two splits, and is told once
            by_split = rows.groupby("split")["path"].first()
            where = " and ".join(f"{split} ({Path(path).name})" for split, path in by_split.items())
            found.append(f"{what.format(str(key))} is in {where}")
    return found


def fingerprint(manifest: pd.DataFrame) -> str:
    """SHA-256 over what a training sees: the bytes of each image, its label and its split, in any order of rows."""
    lines = sorted(f"{row.sha256} {row.label} {row.split}" for row in manifest.itertuples())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def write(manifest: pd.DataFrame, path: Path) -> None:
    """Writes a manifest as UTF-8 CSV, all of it or nothing."""
    write_csv(path, manifest)


def read(path: Path) -> pd.DataFrame:
    """Reads a manifest written by :func:`write`.

    Raises:
        DataError: The file is missing, is no CSV, or is no manifest.
    """
    try:
        # Ids such as "007" are text, and an empty cell is an empty text rather than a missing number.
        dtype = dict.fromkeys((*COLUMNS, "sha256", "film"), str) | {"label": int}
        table = from_csv(read_table(path, dtype=dtype, keep_default_na=False))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; a manifest was expected there") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); a manifest was expected there") from None
    except ValueError as error:
        raise DataError(f"{path}: not a manifest ({error})") from None
    return check(table, str(path))
