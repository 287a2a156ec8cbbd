"""How the checks count people and images, and what they show of long lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import fisher_exact

from cxrlab.checks.base import Table
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.manifest import people
from cxrlab.words import file_name, p_value

LABELS = mf.NAMES
_ROWS = 30  # of a table


def splits(manifest: pd.DataFrame) -> list[str]:
    """The splits that hold an image, in the order train, val, test."""
    return [split for split in mf.SPLITS if (manifest["split"] == split).any()]


def groups(manifest: pd.DataFrame) -> Iterator[tuple[str, int, npt.NDArray[np.intp]]]:
    """Every split that holds an image with either label, Positive first, and the positions of its rows."""
    for split in splits(manifest):
        for label in LABELS:
            yield split, label, np.flatnonzero((manifest["split"] == split) & (manifest["label"] == label))


def sizes(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Counts of each split and label, Positive first.

    Returns:
        Dicts of plain values: ``split``, ``label`` (its name), ``images``, ``patients`` (an image of an unknown patient
        counts as one), ``films``, ``most_of_one_patient`` (images) and ``design_effect``: images per independent image
        if all images of a patient agree, (sum of squared images per patient) / (images), ``None`` without images.
    """
    table = manifest.assign(who=people(manifest))
    found = []
    for split, label, rows in groups(table):
        here = table.iloc[rows]
        each = here["who"].value_counts()
        found.append(
            {
                "split": split,
                "label": LABELS[label],
                "images": len(here),
                "patients": len(each),
                "films": int(here["film"].nunique()),
                "most_of_one_patient": int(each.max()) if len(each) else 0,
                "design_effect": float((each**2).sum() / len(here)) if len(here) else None,
            }
        )
    return found


def by_label(labels: Iterable[int]) -> str:
    """How many images have either label: ``3 Positive, 0 Negative``."""
    found = list(labels)
    return ", ".join(f"{found.count(label)} {name}" for label, name in LABELS.items())


def spread_sample(manifest: pd.DataFrame, rows: npt.NDArray[np.intp], seed: Sequence[int], most: int) -> list[int]:
    """Rows drawn so that nobody is drawn twice while somebody else is not, in the manifest's order."""
    mixed = np.random.default_rng(seed).permutation(rows)
    persons = people(manifest).iloc[mixed]
    turn = persons.groupby(persons).cumcount().to_numpy()
    return sorted(mixed[np.argsort(turn, kind="stable")][:most].tolist())


def placed(manifest: pd.DataFrame, row: int) -> tuple[str, str]:
    """The file name of an image, and its split and label: ``train Positive``."""
    path, split, label = manifest[["path", "split", "label"]].iloc[row]
    return file_name(path), f"{split} {LABELS[label]}"


def uneven_loss(kept: pd.DataFrame, lost: pd.DataFrame) -> tuple[float, str, list[int]]:
    """Whether images are missing more often under one label than under the other.

    Args:
        kept: Manifest of the images that are used.
        lost: Of those that could not be read.

    Returns:
        p of Fisher's exact test, a patient being lost who has no image left; the counts, in
        words; and the patients of either label.
    """
    table = pd.concat([kept.assign(lost=False), lost.assign(lost=True)], ignore_index=True).astype({"lost": bool})
    who = table["patient_id"].where(table["patient_id"] != "", "image:" + table["path"])
    patients = table.groupby([table["label"], who])["lost"].all()
    counts, said = [], []
    for label, name in LABELS.items():
        images, persons = table.loc[table["label"] == label, "lost"], patients.loc[[label]]
        counts.append([int(persons.sum()), int((~persons).sum())])
        said.append(f"{images.sum()} of {len(images)} {name} images ({persons.sum()} of {len(persons)} patients)")
    p = float(fisher_exact(counts).pvalue)
    return p, f"{' and '.join(said)}; Fisher's exact test by patient, {p_value(p)}", [sum(each) for each in counts]


def several(findings: pd.Series[Any]) -> pd.Series[Any]:
    """Each of the findings of an image on a row of its own, ``Effusion|Mass`` being two; the index repeats."""
    return findings.astype(str).str.split("|").explode().str.strip()


def short_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of at most 30 rows, whose caption says how many there are."""
    if len(rows) > _ROWS:
        caption = f"{caption} (the first {_ROWS} of {len(rows)})"
    return Table(caption, header, rows[:_ROWS])
