"""Children's chest X-rays of Kermany et al., as Kaggle has them: pneumonia, bacterial or viral, against normal."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.manifest import SPLITS
from cxrlab.datamodules.sources.folder import FolderSource, globs
from cxrlab.datamodules.sources.metadata import how_to_get

_NESTED = "chest_xray"  # Kaggle's archive has a folder of this name, and a second copy of everything in one inside it
_BY_SERIES = re.compile(r"person(?P<number>\d+)_(?P<series>bacteria|virus)_\d+", re.IGNORECASE)
_BY_CASE = re.compile(r"(?P<case>(NORMAL2-)?IM-\d+)-\d+", re.IGNORECASE)
_BY_PATIENT = re.compile(r"(?P<disease>bacteria|virus|normal)-(?P<patient>\d+)-\d+", re.IGNORECASE)
_FINDINGS = {"bacteria": "bacterial pneumonia", "virus": "viral pneumonia", "normal": "Normal"}


class KermanySource(FolderSource):
    """``root/{train,val,test}/{NORMAL,PNEUMONIA}`` of Kaggle's ``paultimothymooney/chest-xray-pneumonia``.

    5,856 films of children, described by their authors as 1 to 5 years old, anterior-posterior, from one hospital in
    Guangzhou (Kermany et al., doi:10.1016/j.cell.2018.02.010; data: doi:10.17632/rscbjbr9sj, CC BY 4.0).

    Patients are not listed anywhere; they are read from file names, and partly assumed:

    * ``person123_bacteria_456``: person 123 of the bacterial series. Numbers of the two series are taken for two
      countings: both begin at 1, both rise with their own image numbers, and most numbers occur in both, although few
      children would have had both kinds. Within a series one number is one child, whatever the split.
    * ``IM-0115-0001`` and ``NORMAL2-IM-0001-0001``: a case number of either series stands in for a child.
    * ``BACTERIA-1008087-0001``: the names of the authors' own later release, disease, patient and image.

    Args:
        root: The folder that holds ``train`` and ``test``, or one above it; ``~`` is expanded.
    """

    def __init__(self, root: str) -> None:
        remedy = f"{how_to_get('kermany')} (the folder that holds train/ and test/)"
        labels = {"NORMAL": 0, "PNEUMONIA": 1}
        super().__init__(root, labels, name="kermany", how_to_get=remedy, claim="pneumonia")
        self._given = self.root

    def manifest(self) -> pd.DataFrame:
        """Lists the images with the finding and the patient that their names tell."""
        candidates = (self._given, self._given / _NESTED, self._given / _NESTED / _NESTED)
        found = (one for one in candidates if any((one / split).is_dir() for split in SPLITS))
        self.root = next(found, self._given)
        copy = self.root / _NESTED
        self.exclude = globs("exclude", [_NESTED] if copy.is_dir() else [])
        table = self.files()
        told = [_told_by(Path(path).stem) for path in table["path"]]
        folders = table["finding"].map({"NORMAL": "Normal", "PNEUMONIA": "pneumonia"})
        table["finding"] = [finding or default for (finding, _), default in zip(told, folders, strict=True)]
        table["patient_id"] = [f"kermany-{patient}" if patient else "" for _, patient in told]
        if self.exclude:
            self.notes.insert(0, f"kermany: the second copy in {copy} was not used")
        self._note_assumptions(table["patient_id"])
        table = table.assign(view="AP", collection="kermany", population="child", licence="CC BY 4.0")
        self.flow = Flow(self.name)  # anew: now the patients are known, and the copy is no step
        return self.flow.start(table, "image files listed")

    def _note_assumptions(self, patients: pd.Series[str]) -> None:
        numbers = (set(patients.str.extract(rf"^kermany-{name}-(\d+)$")[0].dropna()) for name in ("bacteria", "virus"))
        both = len(set.intersection(*numbers))
        cases = patients[patients.str.contains("IM-", regex=False)].nunique()
        if both or cases:
            self.notes.append(
                "kermany: patients are read from file names; NOT CHECKED, since the set does not tell: whether the "
                f"{both} person number(s) that occur in the bacterial and in the viral series are one child or two "
                f"(two are assumed), and whether the {cases} case number(s) of normal films are as many children"
            )
        unknown = int((patients == "").sum())
        if unknown:
            self.notes.append(
                f"kermany: the names of {unknown} of {len(patients)} images are not the set's and tell no patient, so "
                "that patients in more than one split are NOT CHECKED for those"
            )


def _told_by(stem: str) -> tuple[str, str]:
    """Finding and patient of a file name without its suffix; either is empty where the name does not tell."""
    if found := _BY_SERIES.match(stem):
        series = found["series"].lower()
        return _FINDINGS[series], f"{series}-{int(found['number'])}"
    if found := _BY_CASE.match(stem):
        return _FINDINGS["normal"], found["case"].upper()
    if found := _BY_PATIENT.match(stem):
        return _FINDINGS[found["disease"].lower()], found["patient"]
    return "", ""
