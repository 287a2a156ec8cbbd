"""The COVID-19 image data collection of Cohen et al., by its ``metadata.csv``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from cxrlab.datamodules.sources.metadata import MetadataSource, is_list, read_people
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


class CohenSource(MetadataSource):
    """``root/metadata.csv`` and ``root/images``: adults with COVID-19 or other pneumonia, from journals and the web.

    Cohen, Morrison, Dao: COVID-19 image data collection, arXiv:2003.11597. An image is Positive where its finding
    contains ``positive_if``: the words changed over time (``COVID-19``, ``COVID-19, ARDS``,
    ``Pneumonia/Viral/COVID-19``), this part of them did not. Left out, each as a step of :attr:`flow`: what is no image
    of this modality and view, images that nobody has labelled yet, and films with No Finding of people who have a
    positive image, too: whether such a film, taken before or after, shows the disease is not recorded.

    People who are listed under several ids get one: those of ``merge``, and those who share a file. Ids read
    ``cohen-46``. The manifest has ``age`` (years, NaN where unknown), ``sex``, ``population`` (by age), ``licence``,
    ``location``, ``date``, ``offset`` (days since the first symptoms or the admission, as text) and ``url``.

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

    def __init__(
        self,
        root: str,
        positive_if: str = "COVID-19",
        views: Sequence[str] = ("PA", "AP", "AP Supine", "AP Erect"),
        modality: str = "X-ray",
        merge: Sequence[Sequence[int | str]] = SAME_PERSON,
    ) -> None:
        super().__init__(root)
        if not isinstance(positive_if, str) or not positive_if.strip():
            raise ValueError(f"positive_if must be a text that findings of Positives contain, got {positive_if!r}")
        if not is_list(views) or not views:
            raise ValueError(f"views must be a list such as [PA, AP], got {views!r}")
        for view in views:
            check_choice("views", view, VIEWS)
        check_choice("modality", modality, MODALITIES)
        self.positive_if = self.claim = positive_if
        self.views = tuple(views)
        self.modality = modality
        self.merge = _groups(merge)

    def manifest(self) -> pd.DataFrame:
        """Lists the images that are labelled, of the wanted modality and view, in the order of the metadata."""
        self.check_root()
        rows = read_metadata(self.table, self.merge, self.remedy)
        self._note_merged(rows)
        rows["label"] = rows["finding"].str.contains(self.positive_if, regex=False).astype(int)
        ill = set(rows.loc[rows["label"] == 1, "patient_id"]) - {""}  # by an image of any view, or by CT
        rows = self.flow.start(rows, "rows of metadata.csv")
        rows = self.flow.keep(rows, rows["modality"] == self.modality, f"modality is not {self.modality}")
        rows = self.flow.keep(rows, rows["view"].isin(self.views), f"view is none of {', '.join(self.views)}")
        in_images = (rows["folder"] == "images") & (rows["file"] != "")
        rows = self.flow.keep(rows, in_images, "no file in the folder images")
        unlabelled = rows["finding"].str.lower().isin(_UNLABELLED)
        rows = self.flow.keep(rows, ~unlabelled, "not labelled (finding is blank, todo or unknown)")
        ambiguous = (rows["finding"].str.lower() == "no finding") & rows["patient_id"].isin(list(ill))
        rows = self.flow.keep(rows, ~ambiguous, f"No Finding in a patient who has images of {self.positive_if}, too")
        if rows["label"].nunique() < 2:
            findings = rows["finding"].value_counts()
            found = ", ".join(f"{finding} ({count})" for finding, count in findings.items()) or "none"
            raise DataError(
                f"{self.table}: {'every' if len(rows) and rows['label'].all() else 'no'} finding of the {len(rows)} "
                f"images left contains data.source.positive_if={self.positive_if!r}, so that a class is empty; found "
                f"{found}{did_you_mean(self.positive_if, findings.index)}"
            )
        return self.with_files(rows, rows["file"], [*FACTS, "url"])

    def _note_merged(self, rows: pd.DataFrame) -> None:
        """Notes the ids that were made one, and ids to be merged that no row has."""
        people = rows[rows["patient_id"] != ""].groupby("patient_id", sort=False)["patientid"].unique()
        merged = [" = ".join(sorted(ids, key=_order)) for ids in people if len(ids) > 1]
        if merged:
            self.notes.append(f"{self.name}: patient ids that are one person were made one: {', '.join(merged)}")
        unknown = sorted({patient for group in self.merge for patient in group} - set(rows["patientid"]), key=_order)
        if unknown:
            self.notes.append(f"{self.name}: no row has the patient id(s) {', '.join(unknown)} that were to be merged")


def read_metadata(table: Path, merge: Sequence[Sequence[int | str]], remedy: str) -> pd.DataFrame:
    """Reads ``metadata.csv`` of the collection, of any date, with one patient id per person.

    Args:
        table: The file.
        merge: Groups of patient ids that are one person.
        remedy: What to type where the file is missing or another table, which is an error.

    Returns:
        One row per line with ``file``, ``folder``, ``modality``, ``url``, ``patientid`` (as written) and the columns of
        :data:`FACTS`: ``patient_id`` is ``cohen-`` and the first id of the person.
    """
    rows = read_people(table, _NEEDED, _MORE, remedy).rename(columns={"filename": "file", "license": "licence"})
    listed_twice = rows[rows["file"] != ""].groupby("file")["patientid"].unique()
    first = _first_ids([*_groups(merge), *listed_twice[listed_twice.str.len() > 1]])
    people = rows["patientid"].map(lambda patient: first.get(patient, patient))
    rows["patient_id"] = ("cohen-" + people).where(people != "", "")
    return rows[["file", "folder", "modality", "url", "patientid", *FACTS]]


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
