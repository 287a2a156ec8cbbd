"""The paper's Kaggle set, with what is known about each of its 188 files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pandas as pd

from cxrlab.datamodules.sources.folder import FolderSource

KAGGLE = "khoongweihao/covid19-xray-dataset-train-test-sets"
"""The Kaggle handle of the set; 148 training and 40 test images."""


class PaperSource:
    """``root/train|test/NORMAL|PNEUMONIA``, joined by file name with finding, patient and view of each film.

    The folder names are the set's; the paper renamed them Negative and Positive COVID-19. What is really on each film
    stands in ``paper_provenance.csv``, found by joining the file names with the metadata of the collection that the
    positives were taken from (Cohen et al., arXiv:2003.11597). The negatives carry case numbers instead of patient
    ids (Kermany et al., doi:10.17632/rscbjbr9sj); a case number stands in for a patient here.

    Args:
        root: The folder that holds ``train`` and ``test``; ``~`` is expanded.
    """

    name = "paper"
    synthetic = False

    def __init__(self, root: str) -> None:
        how_to_get = (
            "get the paper's set with `pip install kagglehub` and "
            f"`python -c \"import kagglehub; print(kagglehub.dataset_download('{KAGGLE}'))\"`, then pass the folder "
            "that holds train/ and test/ as data.source.root=…, or as xray_dataset_covid19 below $CXRLAB_DATA"
        )
        self._folder = FolderSource(root, {"NORMAL": 0, "PNEUMONIA": 1}, name=self.name, how_to_get=how_to_get)
        self.notes: list[str] = []

    def manifest(self) -> pd.DataFrame:
        """Lists the images with their true findings.

        Raises:
            DataError: The folder is missing or laid out otherwise.
        """
        files = self._folder.files()
        known = pd.read_csv(provenance_file(), dtype=str, keep_default_na=False).set_index("file")
        names = files["path"].map(lambda path: Path(path).name)
        for column in known.columns:
            files[column] = names.map(known[column]).fillna("")
        self.notes = [*self._folder.notes, *self._notes(files["patient_id"], names, known)]
        return files

    def _notes(self, patients: pd.Series, names: pd.Series, known: pd.DataFrame) -> list[str]:
        unknown = int((patients == "").sum())
        unchecked = (
            f"{unknown} image(s) of unknown patients, nor for children (the negatives) with several case numbers"
        )
        notes = [f"paper: patients in more than one split are NOT CHECKED for {unchecked}"]
        strangers = int((~names.isin(known.index)).sum())
        missing = int((~known.index.isin(names)).sum())
        if strangers or missing:
            notes.append(
                f"paper: not the published set: {missing} of its {len(known)} files are missing here, and {strangers} "
                "others are present, whose findings and patients are unknown"
            )
        return notes


def provenance_file() -> Path:
    """The resource: file name, finding, patient id and view of the set's 188 films."""
    return Path(str(resources.files("cxrlab.datamodules.sources") / "paper_provenance.csv"))
