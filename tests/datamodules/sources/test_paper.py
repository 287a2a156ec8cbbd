"""The paper's Kaggle set and what is known about each film: datamodules/sources/paper.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources import PaperSource
from cxrlab.datamodules.sources.paper import KAGGLE, provenance_file
from cxrlab.errors import DataError

FINDINGS = {
    "train": {"COVID-19": 68, "ARDS": 3, "Pneumocystis": 1, "MERS": 1, "No Finding": 1},
    "test": {"SARS": 11, "Streptococcus": 5, "COVID-19": 4},
}


@pytest.fixture
def copied_names(tmp_path: Path) -> Path:
    """The set's layout, with the names of its films and nothing in them: listing reads no pixel."""
    known = pd.read_csv(provenance_file(), dtype=str, keep_default_na=False)
    for number, row in enumerate(known.itertuples()):
        split = "test" if number % 5 == 0 else "train"
        folder = tmp_path / split / ("NORMAL" if str(row.patient_id).startswith("kermany") else "PNEUMONIA")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(row.file)).touch()
    return tmp_path


def test_the_resource_knows_188_films_by_name() -> None:
    known = pd.read_csv(provenance_file(), dtype=str, keep_default_na=False)
    assert list(known.columns) == ["file", "finding", "patient_id", "view"]
    assert len(known) == known["file"].nunique() == 188
    assert known.loc[known["patient_id"] == "", "finding"].tolist() == ["MERS"]  # in no metadata; its name says it
    assert (known["finding"] != "").all()


def test_films_are_joined_by_name(copied_names: Path) -> None:
    known = pd.read_csv(provenance_file(), dtype=str, keep_default_na=False).set_index("file")
    table = PaperSource(str(copied_names)).manifest()
    assert len(table) == 188
    for column in known.columns:
        assert table[column].tolist() == [known.at[Path(path).name, column] for path in table["path"]]


def test_a_set_that_differs_is_noted(copied_names: Path) -> None:
    normal = sorted((copied_names / "train/NORMAL").iterdir())
    normal[0].unlink()
    normal[1].unlink()
    (copied_names / "train/NORMAL/mine.png").touch()
    (copied_names / "train/NORMAL/readme.txt").touch()
    source = PaperSource(str(copied_names))
    table = source.manifest()
    assert len(table) == 187
    assert table.loc[table["path"].str.endswith("mine.png"), ["finding", "patient_id", "view"]].values.tolist() == [
        [""] * 3
    ]
    assert source.notes[0] == f"{copied_names / 'train/NORMAL'}: 1 file(s) whose names are no image's were not used"
    assert source.notes[2] == (
        "paper: not the published set: 2 of its 188 files are missing here, and 1 others are present, whose findings "
        "and patients are unknown"
    )


def test_a_missing_set_says_where_it_was_sought_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        PaperSource(str(tmp_path / "data/xray_dataset_covid19")).manifest()
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'data/xray_dataset_covid19'}: no such folder; ")
    for part in ("pip install kagglehub", f"dataset_download('{KAGGLE}')", "data.source.root=", "data=synthetic"):
        assert part in message


def test_a_foreign_layout_is_refused(copied_names: Path) -> None:
    shutil.rmtree(copied_names / "test/PNEUMONIA")
    with pytest.raises(DataError, match="the class folder 'PNEUMONIA' is missing"):
        PaperSource(str(copied_names)).manifest()


def test_the_real_set_holds_the_published_counts(paper_root: Path) -> None:
    source = PaperSource(str(paper_root))
    table = mf.check(source.manifest(), source.name)
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 20,
        ("test", 1): 20,
        ("train", 0): 74,
        ("train", 1): 74,
    }
    unchecked = "1 image(s) of unknown patients, nor for children (the negatives) with several case numbers"
    assert source.notes == [f"paper: patients in more than one split are NOT CHECKED for {unchecked}"]


@pytest.mark.parametrize("split", FINDINGS)
def test_the_real_positives_are_only_partly_covid(paper_root: Path, split: str) -> None:
    table = PaperSource(str(paper_root)).manifest()
    positives = table[(table["split"] == split) & (table["label"] == 1)]
    assert positives["finding"].value_counts().to_dict() == FINDINGS[split]


def test_the_real_test_positives_are_of_nine_patients(paper_root: Path) -> None:
    table = PaperSource(str(paper_root)).manifest()
    test = table[table["split"] == "test"]
    assert test.loc[test["label"] == 1, "patient_id"].nunique() == 9


def test_no_patient_of_the_real_set_is_in_both_splits(paper_root: Path) -> None:
    assert mf.leaks(PaperSource(str(paper_root)).manifest()) == []
