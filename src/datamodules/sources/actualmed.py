"""The Actualmed COVID-19 chest X-ray collection, by its ``metadata.csv``."""

from __future__ import annotations

import pandas as pd

from cxrlab.datamodules.sources.metadata import MetadataSource, read_people
from cxrlab.errors import DataError

POSITIVE, NEGATIVE = "COVID-19", "No finding"

_NEEDED = ("patientid", "finding", "view", "imagename")
_MORE = ("offset", "sex", "age", "notes")
_DEVICE = r"^([A-Z]{2})\.(?:\d+\.)*?(\d+)\.\d{14,}"
_DATE = r"date taken \(YYYYMMDD\): (\d{8})"


class ActualmedSource(MetadataSource):
    """``root/metadata.csv`` and ``root/images``: COVID-19 and COVID-19 excluded, from one provider in spring 2020.

    https://github.com/agchung/Actualmed-COVID-chestxray-dataset. Images without a finding are inconclusive by the
    collection's notes and left out. Patients keep their id whatever their images' labels: ``actualmed-ANON196``.

    Files are named by DICOM modality and instance UID,
    ``CR.1.2.840.113564.1722810170.20200313090023421700.1003000225002``: what stands before the time stamp tells the
    machines apart and is given as the ``device``, ``CR 1722810170``. The manifest has ``age`` (years, NaN where
    unknown), ``sex``, ``population`` (by age), ``date`` (YYYYMMDD) and ``offset`` (as text) as well.
    """

    name = "actualmed"
    claim = POSITIVE

    def manifest(self) -> pd.DataFrame:
        """Lists the images with a finding, in the order of the metadata."""
        self.check_root()
        rows = read_people(self.table, _NEEDED, _MORE, self.remedy)
        rows["patient_id"] = ("actualmed-" + rows["patientid"]).where(rows["patientid"] != "", "")
        device = rows["imagename"].str.extract(_DEVICE)
        rows["device"] = (device[0] + " " + device[1]).fillna("")
        rows["date"] = rows["notes"].str.extract(_DATE)[0].fillna("")
        rows = self.flow.start(rows, "rows of metadata.csv")
        rows = self.flow.keep(rows, rows["imagename"] != "", "no file (imagename is blank)")
        rows = self.flow.keep(rows, rows["finding"] != "", "inconclusive (finding is blank)")
        found = rows["finding"].value_counts()
        rows = rows.assign(label=rows["finding"].str.lower().map({POSITIVE.lower(): 1, NEGATIVE.lower(): 0}))
        rows = self.flow.keep(rows, rows["label"].notna(), f"finding is neither {POSITIVE} nor {NEGATIVE}")
        if rows["label"].nunique() < 2:
            counts = ", ".join(f"{finding} ({count})" for finding, count in found.items()) or "none"
            raise DataError(f"{self.table}: the findings must hold {POSITIVE} and {NEGATIVE}, both; found {counts}")
        more = ["age", "sex", "population", "device", "date", "offset"]
        rows = self.with_files(rows.astype({"label": int}), rows["imagename"], more)
        views = rows[rows["view"] != ""].groupby("view")["label"].agg(["sum", "size"])
        if len(views) > 1:
            shares = " and ".join(f"{row['sum']} of {row['size']} {view}" for view, row in views.iterrows())
            self.notes.append(f"{self.name}: Positive are {shares} images")
        return rows
