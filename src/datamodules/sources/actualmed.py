"""The Actualmed COVID-19 chest X-ray collection, by its ``metadata.csv``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxrlab.datamodules import spellings
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.manifest import COLUMNS
from cxrlab.datamodules.sources.metadata import (
    absent_note,
    both_labels_note,
    how_to_get,
    listed_once,
    locate,
    populations,
    read_table,
)
from cxrlab.errors import DataError

POSITIVE, NEGATIVE = "COVID-19", "No finding"

_NEEDED = ("patientid", "finding", "view", "imagename")
_MORE = ("offset", "sex", "age", "notes")
_DEVICE = r"^([A-Z]{2})\.(?:\d+\.)*?(\d+)\.\d{14,}"
_DATE = r"date taken \(YYYYMMDD\): (\d{8})"


class ActualmedSource:
    """``root/metadata.csv`` and ``root/images``: COVID-19 and COVID-19 excluded, from one provider in spring 2020.

    https://github.com/agchung/Actualmed-COVID-chestxray-dataset. Images without a finding are inconclusive by the
    collection's notes and left out. Patients keep their id whatever their images' labels: ``actualmed-ANON196``.

    Files are named by DICOM modality and instance UID,
    ``CR.1.2.840.113564.1722810170.20200313090023421700.1003000225002``: what stands before the time stamp tells the
    machines apart and is given as the device, ``CR 1722810170``.

    Args:
        root: The folder of the collection; ``~`` is expanded.
    """

    name = "actualmed"
    synthetic = False
    claim = POSITIVE

    def __init__(self, root: str) -> None:
        self.root = Path(str(root)).expanduser()
        self.notes: list[str] = []
        self.flow = Flow(self.name)

    def manifest(self) -> pd.DataFrame:
        """Lists the images with a finding.

        Returns:
            One row per image in the order of the metadata, the columns of the manifest and ``collection``, ``age``
            (years, NaN where unknown), ``sex``, ``population`` (by age), ``device``, ``date`` (YYYYMMDD) and ``offset``
            (as text), empty where unknown.

        Raises:
            DataError: The folder, its metadata or all of its images are missing, or the metadata is another table or
                without both findings.
        """
        remedy = how_to_get(self.name)
        if not self.root.is_dir():
            raise DataError(f"{self.root.absolute()}: no such folder; {remedy}")
        table = self.root / "metadata.csv"
        self.flow, self.notes = Flow(self.name), []
        rows = self._labelled(_read(table, remedy), table)
        rows["path"], absent = locate(self.root / "images", rows["imagename"].tolist(), table, remedy)
        self.notes += absent_note(self.name, absent, rows["imagename"].nunique(), self.root / "images")
        rows = listed_once(self.flow, rows)
        self.notes += both_labels_note(self.name, rows) + self._view_note(rows)
        rows = rows.assign(source=self.name, split="", collection=self.name)
        more = ["collection", "age", "sex", "population", "device", "date", "offset"]
        return rows[[*COLUMNS, *more]]

    def _labelled(self, rows: pd.DataFrame, table: Path) -> pd.DataFrame:
        rows = self.flow.start(rows, "rows of metadata.csv")
        rows = self.flow.keep(rows, rows["imagename"] != "", "no file (imagename is blank)")
        rows = self.flow.keep(rows, rows["finding"] != "", "inconclusive (finding is blank)")
        words = {POSITIVE.lower(): 1, NEGATIVE.lower(): 0}
        found = rows["finding"].value_counts()
        rows = rows.assign(label=rows["finding"].str.lower().map(words))
        rows = self.flow.keep(rows, rows["label"].notna(), f"finding is neither {POSITIVE} nor {NEGATIVE}")
        if rows["label"].nunique() < 2:
            counts = ", ".join(f"{finding} ({count})" for finding, count in found.items()) or "none"
            raise DataError(f"{table}: the findings must hold {POSITIVE} and {NEGATIVE}, both; found {counts}")
        return rows.astype({"label": int})

    def _view_note(self, rows: pd.DataFrame) -> list[str]:
        """How many images of each view are Positive, where there are several views."""
        views = rows[rows["view"] != ""].groupby("view")["label"].agg(["sum", "size"])
        shares = [f"{row['sum']} of {row['size']} {view}" for view, row in views.iterrows()]
        return [f"{self.name}: Positive are {' and '.join(shares)} images"] if len(shares) > 1 else []


def _read(table: Path, remedy: str) -> pd.DataFrame:
    rows = read_table(table, _NEEDED, remedy)
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *_MORE])), fill_value="")
    rows["patient_id"] = ("actualmed-" + rows["patientid"]).where(rows["patientid"] != "", "")
    rows["age"] = spellings.ages(rows["age"])
    rows["sex"] = spellings.each(rows["sex"], spellings.sex)
    rows["population"] = populations(rows["age"])
    device = rows["imagename"].str.extract(_DEVICE)
    rows["device"] = (device[0] + " " + device[1]).fillna("")
    rows["date"] = rows["notes"].str.extract(_DATE)[0].fillna("")
    return rows
