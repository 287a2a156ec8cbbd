"""The paper's Kaggle set and what is known about each film: datamodules/sources/paper.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources import PaperSource
from cxrlab.datamodules.sources.cohen import SAME_PERSON, read_metadata
from cxrlab.datamodules.sources.paper import provenance_file
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
    assert list(known.columns) == ["file", "finding", "patient_id", "view", "collection", "age", "sex", "licence"]
    assert len(known) == known["file"].nunique() == 188
    assert known.loc[known["patient_id"] == "", "finding"].tolist() == ["MERS"]  # in no metadata; its name says it
    assert (known["finding"] != "").all()


def test_films_are_joined_by_name(copied_names: Path) -> None:
    known = pd.read_csv(provenance_file(), dtype=str, keep_default_na=False).set_index("file")
    table = PaperSource(str(copied_names)).manifest()
    assert len(table) == 188
    for column in known.columns:
        expected = [known.at[Path(path).name, column] for path in table["path"]]
        written = table[column] if column != "age" else table["age"].map(lambda age: "" if age != age else f"{age:.0f}")
        assert written.tolist() == expected


def test_children_and_adults_are_told_apart(copied_names: Path) -> None:
    table = PaperSource(str(copied_names)).manifest()
    children = table[table["collection"] == "kermany"]
    assert (len(children), set(children["population"]), set(children["label"])) == (94, {"child"}, {0})
    others = table[table["collection"] == "cohen"]
    assert (others["age"].count(), others["age"].min(), others["age"].max()) == (75, 25, 87)
    assert (others["population"] == "adult").tolist() == others["age"].notna().tolist()
    assert set(others["sex"]) == {"M", "F", ""}


def test_the_flow_is_the_list(copied_names: Path) -> None:
    source = PaperSource(str(copied_names))
    table = source.manifest()
    people = table.loc[table["patient_id"] != "", "patient_id"].nunique() + 1
    assert source.flow.table().values.tolist() == [["paper", "image files listed", 0, 188, people]]


def test_a_set_that_differs_is_noted(copied_names: Path) -> None:
    normal = sorted((copied_names / "train/NORMAL").iterdir())
    normal[0].unlink()
    normal[1].unlink()
    (copied_names / "train/NORMAL/mine.png").touch()
    (copied_names / "train/NORMAL/readme.txt").touch()
    source = PaperSource(str(copied_names))
    table = source.manifest()
    assert len(table) == 187
    mine = table[table["path"].str.endswith("mine.png")]
    assert mine[["finding", "patient_id", "view"]].values.tolist() == [[""] * 3]
    assert source.notes[0] == f"{copied_names / 'train/NORMAL'}: 1 file(s) whose names are no image's were not used"
    assert source.notes[2] == (
        "paper: not the published set: 2 of its 188 files are missing here, and 1 others are present, whose findings "
        "and patients are unknown"
    )


def test_a_missing_or_foreign_set_is_refused_with_how_to_get_it(copied_names: Path) -> None:
    with pytest.raises(DataError) as caught:
        PaperSource(str(copied_names / "none")).manifest()
    assert str(caught.value).startswith(f"{copied_names / 'none'}: no such folder; `cxrlab-download data=paper` gets")
    assert all(part in str(caught.value) for part in ("data.source.root=", "data=synthetic"))
    shutil.rmtree(copied_names / "test/PNEUMONIA")
    with pytest.raises(DataError, match="the class folder 'PNEUMONIA' is missing"):
        PaperSource(str(copied_names)).manifest()


def test_the_real_set_holds_the_published_counts(paper_root: Path) -> None:
    source = PaperSource(str(paper_root))
    table = mf.check(source.manifest(), source.name)
    assert table.groupby(["split", "label"]).size().tolist() == [20, 20, 74, 74]  # test, then train
    unchecked = "1 image(s) of unknown patients, nor for children (the negatives) with several case numbers"
    assert source.notes == [f"paper: patients in more than one split are NOT CHECKED for {unchecked}"]


def test_people_of_the_real_set(paper_root: Path) -> None:
    table = PaperSource(str(paper_root)).manifest()
    assert mf.leaks(table) == []
    positives = table[table["label"] == 1]
    for split, findings in FINDINGS.items():
        assert positives.loc[positives["split"] == split, "finding"].value_counts().to_dict() == findings
    assert positives.loc[positives["split"] == "test", "patient_id"].nunique() == 9
    # The only person with two ids is in the test split alone.
    merged = table[table["patient_id"].isin({f"cohen-{patient}" for pair in SAME_PERSON for patient in pair})]
    assert merged[["patient_id", "split"]].values.tolist() == [["cohen-30", "test"]] * 4


def test_the_resource_follows_from_the_metadata_of_the_positives_collection(cohen_root: Path) -> None:
    known = pd.read_csv(provenance_file(), dtype=str, keep_default_na=False).set_index("file")
    rows = read_metadata(cohen_root / "metadata.csv", SAME_PERSON, "").drop_duplicates("file").set_index("file")
    positives = known[known["collection"] == "cohen"]
    unlisted = positives[~positives.index.isin(rows.index)]
    known_of_them = unlisted[["finding", "age", "sex", "licence"]].values.tolist()
    assert known_of_them == [["MERS", "", "", ""], ["COVID-19", "", "", ""], ["COVID-19", "", "", ""]]
    listed = positives.drop(unlisted.index)
    assert len(listed) == 91
    rows = rows.loc[listed.index]
    for column in ("finding", "patient_id", "view", "sex", "licence"):
        assert listed[column].tolist() == rows[column].tolist(), column
    assert pd.to_numeric(listed["age"]).fillna(-1).tolist() == rows["age"].fillna(-1).tolist()
