"""The COVID-19 image data collection of Cohen et al., by its ``metadata.csv``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from cxrlab.datamodules import spellings
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.manifest import COLUMNS
from cxrlab.datamodules.sources.metadata import (
    absent_note,
    both_labels_note,
    how_to_get,
    is_list,
    listed_once,
    locate,
    populations,
    read_table,
)
from cxrlab.errors import DataError, check_choice, did_you_mean

SAME_PERSON = ((30, 31), (78, 201), (97, 178), (137, 202), (192, 196), (193, 195))
"""Patient ids of the collection (state of June 2020) that are one person.

Each pair was found by image: one radiograph is listed under both ids, at two sizes or crops, because a case was
published at two sites (30 and 31 at Radiopaedia twice; 78, 137 and 201, 202 at the site of the Italian radiologists'
society, SIRM; 97 at Radiopaedia and 178 at Eurorad; 192, 193 and 195, 196 on two pages of the Radiology Assistant).
They agree in sex, and in age to within five years, as far as these are recorded.
"""

MODALITIES = ("X-ray", "CT")
VIEWS = ("PA", "AP", "AP Supine", "AP Erect", "L", "Axial", "Coronal")
"""The collection's words, by its SCHEMA.md and, for ``AP Erect``, its later releases."""

FACTS = ("patient_id", "finding", "view", "age", "sex", "population", "licence", "location", "date", "offset")
"""The columns of :func:`read_metadata` that describe an image, wherever a copy of it lies."""

_UNLABELLED = ("", "todo", "unknown")
_NEEDED = ("patientid", "finding", "view", "modality", "folder", "filename")
_MORE = ("offset", "sex", "age", "date", "location", "license", "url")


class CohenSource:
    """``root/metadata.csv`` and ``root/images``: adults with COVID-19 or other pneumonia, from journals and the web.

    Cohen, Morrison, Dao: COVID-19 image data collection, arXiv:2003.11597. An image is Positive where its finding
    contains ``positive_if``: the words changed over time (``COVID-19``, ``COVID-19, ARDS``,
    ``Pneumonia/Viral/COVID-19``), this part of them did not. Left out, each as a step of :attr:`flow`: what is no image
    of this modality and view, images that nobody has labelled yet, and films with No Finding of people who have a
    positive image, too: whether such a film, taken before or after, shows the disease is not recorded.

    People who are listed under several ids get one: those of ``merge``, and those who share a file. Ids read
    ``cohen-46``.

    Args:
        root: The folder of the collection; ``~`` is expanded.
        positive_if: What the finding of a Positive contains, letter by letter.
        views: The views that count, of :data:`VIEWS`; by default all frontal ones.
        modality: ``X-ray`` or ``CT``.
        merge: Groups of patient ids that are one person, by default :data:`SAME_PERSON`; an empty list merges none.

    Raises:
        ValueError: For an argument that is none of these.
    """

    name = "cohen"
    synthetic = False

    def __init__(
        self,
        root: str,
        positive_if: str = "COVID-19",
        views: Sequence[str] = ("PA", "AP", "AP Supine", "AP Erect"),
        modality: str = "X-ray",
        merge: Sequence[Sequence[int | str]] = SAME_PERSON,
    ) -> None:
        if not isinstance(positive_if, str) or not positive_if.strip():
            raise ValueError(f"positive_if must be a text that findings of Positives contain, got {positive_if!r}")
        if not is_list(views) or not views:
            raise ValueError(f"views must be a list such as [PA, AP], got {views!r}")
        for view in views:
            check_choice("views", view, VIEWS)
        check_choice("modality", modality, MODALITIES)
        self.root = Path(str(root)).expanduser()
        self.positive_if = positive_if
        self.views = tuple(views)
        self.modality = modality
        self.merge = _groups(merge)
        self.claim = positive_if
        self.notes: list[str] = []
        self.flow = Flow(self.name)

    def manifest(self) -> pd.DataFrame:
        """Lists the images that are labelled, of the wanted modality and view.

        Returns:
            One row per image in the order of the metadata, the columns of the manifest and ``collection``, ``age``
            (years, NaN where unknown), ``sex``, ``population`` (by age), ``licence``, ``location``, ``date``,
            ``offset`` (days since the first symptoms or the admission, as text) and ``url``, empty where unknown.

        Raises:
            DataError: The folder, its metadata or all of its images are missing, the metadata is another table, or no
                image or every image is Positive.
        """
        remedy = how_to_get(self.name)
        if not self.root.is_dir():
            raise DataError(f"{self.root.absolute()}: no such folder; {remedy}")
        table = self.root / "metadata.csv"
        rows = read_metadata(table, self.merge, remedy)
        self.flow, self.notes = Flow(self.name), merge_notes(self.name, rows, self.merge)
        rows = rows.assign(label=rows["finding"].str.contains(self.positive_if, regex=False).astype(int))
        ill = set(rows.loc[rows["label"] == 1, "patient_id"]) - {""}  # by an image of any view, or by CT
        rows = self._labelled(self._chosen(rows), ill)
        self._check_classes(rows, table)
        rows["path"], absent = locate(self.root / "images", rows["file"].tolist(), table, remedy)
        self.notes += absent_note(self.name, absent, rows["file"].nunique(), self.root / "images")
        rows = listed_once(self.flow, rows)
        self.notes += both_labels_note(self.name, rows)
        rows = rows.assign(source=self.name, split="", collection=self.name)
        return rows[[*COLUMNS, "collection", *(fact for fact in FACTS if fact not in COLUMNS), "url"]]

    def _chosen(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of the wanted modality and views."""
        rows = self.flow.start(rows, "rows of metadata.csv")
        rows = self.flow.keep(rows, rows["modality"] == self.modality, f"modality is not {self.modality}")
        rows = self.flow.keep(rows, rows["view"].isin(self.views), f"view is none of {', '.join(self.views)}")
        in_images = (rows["folder"] == "images") & (rows["file"] != "")
        return self.flow.keep(rows, in_images, "no file in the folder images")

    def _labelled(self, rows: pd.DataFrame, ill: Collection[str]) -> pd.DataFrame:
        """The rows with a label that can be believed; ``ill`` are the patients with a positive image."""
        unlabelled = rows["finding"].str.lower().isin(_UNLABELLED)
        rows = self.flow.keep(rows, ~unlabelled, "not labelled (finding is blank, todo or unknown)")
        ambiguous = (rows["finding"].str.lower() == "no finding") & rows["patient_id"].isin(list(ill))
        return self.flow.keep(rows, ~ambiguous, f"No Finding in a patient who has images of {self.positive_if}, too")

    def _check_classes(self, rows: pd.DataFrame, table: Path) -> None:
        if rows["label"].nunique() == 2:
            return
        findings = rows["finding"].value_counts()
        found = ", ".join(f"{finding} ({count})" for finding, count in findings.items()) or "none"
        raise DataError(
            f"{table}: {'every' if len(rows) and rows['label'].all() else 'no'} finding of the {len(rows)} images left "
            f"contains data.source.positive_if={self.positive_if!r}, so that a class is empty; found {found}"
            f"{did_you_mean(self.positive_if, findings.index)}"
        )


def read_metadata(table: Path, merge: Sequence[Sequence[int | str]], remedy: str) -> pd.DataFrame:
    """Reads ``metadata.csv`` of the collection, of any date, with one patient id per person.

    Args:
        table: The file.
        merge: Groups of patient ids that are one person.
        remedy: What to type where the file is missing.

    Returns:
        One row per line with ``file``, ``folder``, ``modality``, ``url``, ``patientid`` (as written) and the columns of
        :data:`FACTS`: ``patient_id`` is ``cohen-`` and the first id of the person.

    Raises:
        DataError: The file is missing or another table.
    """
    rows = read_table(table, _NEEDED, remedy)
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *_MORE])), fill_value="")
    rows = rows.rename(columns={"filename": "file", "license": "licence"})
    rows["age"] = spellings.ages(rows["age"])
    rows["sex"] = spellings.each(rows["sex"], spellings.sex)
    rows["population"] = populations(rows["age"])
    listed_twice = rows[rows["file"] != ""].groupby("file")["patientid"].unique()
    first = _first_ids([*_groups(merge), *listed_twice[listed_twice.str.len() > 1]])
    people = rows["patientid"].map(lambda patient: first.get(patient, patient))
    rows["patient_id"] = ("cohen-" + people).where(people != "", "")
    return rows[["file", "folder", "modality", "url", "patientid", *FACTS]]


def merge_notes(source: str, rows: pd.DataFrame, merge: Sequence[Sequence[str]]) -> list[str]:
    """Notes on the ids that were made one, and on ids to be merged that no row has."""
    people = rows[rows["patient_id"] != ""].groupby("patient_id", sort=False)["patientid"].unique()
    merged = [" = ".join(sorted(ids, key=_order)) for ids in people if len(ids) > 1]
    notes = [f"{source}: patient ids that are one person were made one: {', '.join(merged)}"] if merged else []
    unknown = sorted({patient for group in merge for patient in group} - set(rows["patientid"]), key=_order)
    if unknown:
        notes.append(f"{source}: no row has the patient id(s) {', '.join(unknown)} that were to be merged")
    return notes


def _groups(merge: Sequence[Sequence[int | str]]) -> tuple[tuple[str, ...], ...]:
    if not is_list(merge) or not all(is_list(group) and len(group) > 1 for group in merge):
        raise ValueError(f"merge must be a list of groups of ids such as [[30, 31], [78, 201]], got {merge!r}")
    return tuple(tuple(str(patient) for patient in group) for group in merge)


def _first_ids(groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """For each id of a group the first id of its person; groups that share an id are one person."""
    people: list[set[str]] = []
    for group in groups:
        touched = [person for person in people if person & set(group)]
        people = [person for person in people if person not in touched] + [set(group).union(*touched)]
    return {patient: min(person, key=_order) for person in people for patient in person}


def _order(patient: str) -> tuple[bool, int, str]:
    """Numbers in their order, then everything else (311a)."""
    return (not patient.isdigit(), len(patient), patient)
