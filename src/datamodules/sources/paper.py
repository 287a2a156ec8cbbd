"""The paper's Kaggle set, with what is known about each of its 188 files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pandas as pd

from cxrlab.datamodules import spellings
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.sources.folder import FolderSource
from cxrlab.datamodules.sources.metadata import how_to_get, populations


class PaperSource(FolderSource):
    """``root/train|test/NORMAL|PNEUMONIA``, joined by file name with what is known of each film.

    The folder names are the set's; the paper renamed them Negative and Positive COVID-19. What is really on each film
    stands in ``paper_provenance.csv``. The positives were taken from the collection of Cohen et al. (arXiv:2003.11597):
    finding, patient, view, age, sex and licence are those of the rows of its ``metadata.csv`` (June 2020) with the same
    file names, 91 of 94, patients that are listed twice being one as in
    :class:`~cxrlab.datamodules.sources.cohen.CohenSource` (31 is 30). Of the three others, two show a film of patient
    13 under another name and one says MERS in its name; their ages, sexes and licences stay empty. The negatives come
    from Kermany et al. (doi:10.17632/rscbjbr9sj, CC BY 4.0), who describe all patients as children of one to five years
    and give case numbers instead of patient ids; a case number stands in for a patient here.

    The manifest has ``collection`` (``cohen`` or ``kermany``), ``age`` (years, NaN where unknown), ``sex``, ``licence``
    and ``population`` (``child`` or ``adult``) as well, empty where unknown.

    Args:
        root: The folder that holds ``train`` and ``test``; ``~`` is expanded.
    """

    def __init__(self, root: str) -> None:
        remedy = f"{how_to_get('paper')} (the folder that holds train/ and test/)"
        super().__init__(root, {"NORMAL": 0, "PNEUMONIA": 1}, name="paper", how_to_get=remedy, claim="COVID-19")

    def manifest(self) -> pd.DataFrame:
        """Lists the images with their true findings."""
        files = self.files()
        known = pd.read_csv(provenance_file(), dtype=str, keep_default_na=False).set_index("file")
        names = files["path"].map(lambda path: Path(path).name)
        for column in known.columns:
            files[column] = names.map(known[column]).fillna("")
        files["age"] = spellings.ages(files["age"])
        files["population"] = populations(files["age"]).mask(files["collection"] == "kermany", "child")
        unknown = int((files["patient_id"] == "").sum())
        self.notes.append(
            f"paper: patients in more than one split are NOT CHECKED for {unknown} image(s) of unknown patients, nor "
            "for children (the negatives) with several case numbers"
        )
        strangers, missing = int((~names.isin(known.index)).sum()), int((~known.index.isin(names)).sum())
        if strangers or missing:
            self.notes.append(
                f"paper: not the published set: {missing} of its {len(known)} files are missing here, and {strangers} "
                "others are present, whose findings and patients are unknown"
            )
        self.flow = Flow(self.name)  # anew: now the patients are known
        return self.flow.start(files, "image files listed")


def provenance_file() -> Path:
    """The resource: one row per film of the set, 188, by file name."""
    return Path(str(resources.files("cxrlab.datamodules.sources") / "paper_provenance.csv"))
