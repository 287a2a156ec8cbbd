"""The images behind DarkCovidNet: COVID-19 films cut from Cohen's collection, and films of NIH ChestX-ray8."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cxrlab.console import command
from cxrlab.datamodules.manifest import COLUMNS
from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.cohen import FACTS, SAME_PERSON, read_metadata
from cxrlab.datamodules.sources.metadata import GET_ANY, how_to_get, is_list
from cxrlab.errors import DataError, check_choice
from cxrlab.reading.image import SUFFIXES

POSITIVE = "Covid-19"
NEGATIVES = {"No_findings": "No Finding", "Pneumonia": "Pneumonia"}
"""The folders of NIH films and what is on them, in the words of that collection."""

_NIH_NAME = re.compile(r"^(\d+)_\d+\.")


class DarkCovidNetSource(Source):
    """``root/Covid-19``, ``root/No_findings`` and ``root/Pneumonia``, joined with Cohen's metadata where it is at hand.

    Ozturk et al., Computers in Biology and Medicine 121 (2020) 103792; https://github.com/muhammedtalo/COVID-19. The
    COVID-19 films carry the file names of the collection that they were taken from (Cohen et al., arXiv:2003.11597),
    which gives their finding, view, age, sex and patient, with the ids of the sources ``cohen`` and ``paper``
    (``cohen-46``). The others are named as in NIH ChestX-ray8 (Wang et al., CVPR 2017), where the number before the
    underscore is the patient (``nih-00001280``); their views, ages and sexes are not published with the films. The
    manifest has ``collection`` (``cohen`` or ``nih``) and what :class:`~cxrlab.datamodules.CohenSource` tells of films.

    Args:
        root: The folder that holds the class folders; ``~`` is expanded.
        negatives: Which folders are Negative: ``No_findings``, ``Pneumonia`` or both. The other is left out.
        metadata: Cohen's ``metadata.csv``. Where it is ``None`` or no such file, a note says that the patients of the
            COVID-19 films are unknown.

    Raises:
        ValueError: ``negatives`` names no folder, or another.
    """

    name = "darkcovidnet"
    claim = "COVID-19"

    def __init__(self, root: str, negatives: Sequence[str] = ("No_findings",), metadata: str | None = None) -> None:
        if not is_list(negatives) or not negatives:
            raise ValueError(f"negatives must be a list of {', '.join(NEGATIVES)}, got {negatives!r}")
        for folder in negatives:
            check_choice("negatives", folder, NEGATIVES)
        self.root = Path(str(root)).expanduser()
        self.negatives = tuple(negatives)
        self.metadata = None if metadata is None else Path(str(metadata)).expanduser()
        self.begin()

    def manifest(self) -> pd.DataFrame:
        """Lists the images of the class folders."""
        self.begin()
        used = [POSITIVE, *self.negatives]
        files = pd.concat([self._films(folder, folder in used) for folder in (POSITIVE, *NEGATIVES)], ignore_index=True)
        files = files.join(pd.concat([self._covid(files), self._nih(files)]))
        files = self.flow.start(files, f"image files in {', '.join(files['folder'].unique())}")
        files = self.flow.keep(files, files["folder"].isin(used), f"in a folder other than {', '.join(used)}")
        files = files.assign(label=(files["folder"] == POSITIVE).astype(int), split="", source=self.name)
        return files[[*COLUMNS, "collection", *(fact for fact in FACTS if fact not in COLUMNS)]]

    def _films(self, name: str, used: bool) -> pd.DataFrame:
        """Path, name and folder of the images in a class folder, in alphabetical order."""
        folder = self.root / name
        try:
            names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        except FileNotFoundError:
            names = []
        except OSError as error:
            raise DataError(f"{folder}: the folder cannot be listed ({error.strerror})") from None
        images = [name for name in names if Path(name).suffix.lower() in SUFFIXES]
        if used and not images:
            what = "no image in it" if folder.is_dir() else "no such folder"
            raise DataError(f"{folder.absolute()}: {what}; {how_to_get(self.name)}; {GET_ANY}")
        if used and len(images) < len(names):
            others = len(names) - len(images)
            self.notes.append(f"{folder}: {others} file(s) whose names are no image's were not used")
        paths = [str((folder / image).absolute()) for image in images]
        return pd.DataFrame({"path": paths, "file": images, "folder": name}, dtype=str)

    def _covid(self, files: pd.DataFrame) -> pd.DataFrame:
        """What Cohen's metadata, where it is at hand, says of the COVID-19 films; with the index of the files."""
        rows, why = pd.DataFrame(columns=list(FACTS), dtype=str).astype({"age": float}), ""
        if self.metadata is None:
            why = "data.source.metadata names Cohen's metadata.csv"
        elif not self.metadata.is_file():
            why = f"{self.metadata} is missing; `{command('download', 'data=cohen')}` gets it"
        else:
            why = f"their names are not in {self.metadata}"
            rows = read_metadata(self.metadata, SAME_PERSON, "data.source.metadata=null goes without")
            rows = rows.drop_duplicates("file").set_index("file")[list(FACTS)]
        names = files.loc[files["folder"] == POSITIVE, "file"]
        known = rows.reindex(names).set_axis(names.index)
        unknown = int(known["patient_id"].isna().sum())
        if unknown:
            self.notes.append(
                f"{self.name}: finding, view and patient of {unknown} of the {len(names)} COVID-19 images are unknown, "
                f"so that patients in more than one split are NOT CHECKED for those ({why})"
            )
        known["finding"] = known["finding"].fillna(self.claim)  # the folder's word
        ages = known.pop("age").astype(float)
        return known.fillna("").assign(age=ages, collection="cohen")

    def _nih(self, files: pd.DataFrame) -> pd.DataFrame:
        """What is known of the NIH films, with the index of the files."""
        films = files[files["folder"] != POSITIVE]
        found = films["file"].str.extract(_NIH_NAME)[0]
        unknown = int(found[films["folder"].isin(self.negatives)].isna().sum())
        if unknown:
            self.notes.append(
                f"{self.name}: {unknown} NIH image(s) are not named as in that collection (00001280_004.png), so that "
                "patients in more than one split are NOT CHECKED for those"
            )
        known = pd.DataFrame("", index=films.index, columns=list(FACTS), dtype=str)
        known["patient_id"] = ("nih-" + found).fillna("")
        known["finding"] = films["folder"].map(NEGATIVES)
        return known.assign(age=float("nan"), collection="nih")
