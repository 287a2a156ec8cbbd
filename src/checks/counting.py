"""How the checks count people and images, and what they show of long lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import fisher_exact

from cxrlab.checks.base import Finding, Table, Verdict
from cxrlab.datamodules.manifest import NAMES, SPLITS, people
from cxrlab.evaluation.estimate import Bools
from cxrlab.words import file_name, p_value

_ROWS = 30  # of a table


def as_text(values: pd.Series[Any]) -> pd.Series[Any]:
    """A column as text, empty where unknown."""
    return values.astype(object).where(values.notna(), "").astype(str).str.strip()


def splits(manifest: pd.DataFrame) -> list[str]:
    """The splits that hold an image, in the order train, val, test."""
    return [split for split in SPLITS if (manifest["split"] == split).any()]


def groups(manifest: pd.DataFrame) -> Iterator[tuple[str, int, npt.NDArray[np.intp]]]:
    """Every split that holds an image with either label, Positive first, and the positions of its rows."""
    for split in splits(manifest):
        for label in NAMES:
            yield split, label, np.flatnonzero((manifest["split"] == split) & (manifest["label"] == label))


def sizes(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Counts of each split and label, Positive first, as plain values.

    Returns:
        Among others ``patients`` (an image of an unknown patient counts as one), ``most_of_one_patient`` (images) and
        ``design_effect``: images per independent image if all images of a patient agree, (sum of squared images per
        patient) / (images), ``None`` without images.
    """
    found, persons = [], people(manifest)
    for split, label, rows in groups(manifest):
        each = persons.iloc[rows].value_counts()
        found.append(
            {
                "split": split,
                "label": NAMES[label],
                "images": len(rows),
                "patients": len(each),
                "films": int(manifest["film"].iloc[rows].nunique()),
                "most_of_one_patient": int(each.max()) if len(each) else 0,
                "design_effect": float((each**2).sum() / len(rows)) if len(rows) else None,
            }
        )
    return found


def by_label(labels: Iterable[int]) -> str:
    """How many images have either label: ``3 Positive, 0 Negative``."""
    found = list(labels)
    return ", ".join(f"{found.count(label)} {name}" for label, name in NAMES.items())


def spread_sample(manifest: pd.DataFrame, rows: npt.NDArray[np.intp], seed: Sequence[int], most: int) -> list[int]:
    """Rows drawn so that nobody is drawn twice while somebody else is not, in the manifest's order."""
    mixed = np.random.default_rng(seed).permutation(rows)
    persons = people(manifest).iloc[mixed]
    turn = persons.groupby(persons).cumcount().to_numpy()
    return sorted(mixed[np.argsort(turn, kind="stable")][:most].tolist())


def placed(manifest: pd.DataFrame, row: int) -> tuple[str, str]:
    """The file name of an image, and its split and label: ``train Positive``."""
    path, split, label = manifest[["path", "split", "label"]].iloc[row]
    return file_name(path), f"{split} {NAMES[label]}"


class Counts(NamedTuple):
    """How many patients (by at least one image) and images of (Negative, Positive) have something."""

    what: str
    """The property."""
    value: str
    patients: tuple[int, int]
    of_patients: tuple[int, int]
    images: tuple[int, int]
    of_images: tuple[int, int]
    p: float
    """Of Fisher's exact test by patient."""

    @classmethod
    def of(cls, what: str, value: str, has: Bools, labels: pd.Series[int], persons: pd.Series[Any]) -> Self:
        """Counts the images that have the value; ``has``, their labels and their patients have shape (images,)."""
        negative, positive = ((labels == label).to_numpy() for label in (0, 1))
        patients = (persons[negative & has].nunique(), persons[positive & has].nunique())
        of_patients = (persons[negative].nunique(), persons[positive].nunique())
        table = [[count, whole - count] for count, whole in zip(patients, of_patients, strict=True)]
        images = (int((negative & has).sum()), int((positive & has).sum()))
        of_images = (int(negative.sum()), int(positive.sum()))
        return cls(what, value, patients, of_patients, images, of_images, float(fisher_exact(table).pvalue))

    @property
    def shares(self) -> tuple[float, float]:
        """Of the patients of either class."""
        return self.patients[0] / self.of_patients[0], self.patients[1] / self.of_patients[1]

    @property
    def apart(self) -> float:
        """Difference of the shares."""
        return round(abs(self.shares[1] - self.shares[0]), 9)  # a value and its opposite are equally far apart

    def finding(self, check: str, verdict: Verdict, details: str) -> Finding:
        """Says how often either class has the value."""
        tested = f"Fisher's exact test by patient: {p_value(self.p)}"
        return Finding(check, verdict, f"{self.value}: found in {self}.", self.apart, f"{tested}{details}")

    def __str__(self) -> str:
        return " and ".join(
            f"{self.images[label]} of {self.of_images[label]} {name} images "
            f"({self.patients[label]} of {self.of_patients[label]} patients)"
            for label, name in NAMES.items()
        )


def uneven_loss(kept: pd.DataFrame, lost: pd.DataFrame) -> tuple[float, str, tuple[int, int]]:
    """Whether images are missing more often under one label than under the other.

    Args:
        kept: Manifest of the images that are used.
        lost: Of those that could not be read.

    Returns:
        p of Fisher's exact test, a patient being lost who has no image left; the counts, in words; and the patients of
        Positive and of Negative.
    """
    table = pd.concat([kept, lost], ignore_index=True)
    who = table["patient_id"].where(table["patient_id"] != "", "image:" + table["path"])
    left = Counts.of("image", "readable", np.arange(len(table)) < len(kept), table["label"], who)
    patients = (left.of_patients[0] - left.patients[0], left.of_patients[1] - left.patients[1])
    images = (left.of_images[0] - left.images[0], left.of_images[1] - left.images[1])
    said = f"{left._replace(patients=patients, images=images)}; Fisher's exact test by patient, {p_value(left.p)}"
    return left.p, said, left.of_patients[::-1]


def several(findings: pd.Series[Any]) -> pd.Series[Any]:
    """Each of the findings of an image on a row of its own, ``Effusion|Mass`` being two; the index repeats."""
    return findings.astype(str).str.split("|").explode().str.strip()


def short_table(caption: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of at most 30 rows, whose caption says how many there are."""
    if len(rows) > _ROWS:
        caption = f"{caption} (the first {_ROWS} of {len(rows)})"
    return Table(caption, header, rows[:_ROWS])
