"""DarkCovidNet's images, joined with Cohen's metadata: datamodules/sources/darkcovidnet.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxrlab.config import build, compose
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources.darkcovidnet import DarkCovidNetSource
from cxrlab.datamodules.sources.paper import PaperSource
from cxrlab.errors import DataError

HEADER = "patientid,offset,sex,age,finding,view,modality,date,location,folder,filename,url,license\n"
ROWS = (
    '31,3,F,25,"COVID-19, ARDS",AP,X-ray,2020,Here,images,a.jpg,,CC BY\n'
    "30,,,,SARS,PA,X-ray,,,images,z.jpg,,\n"
    "46,,M,12,COVID-19,PA,X-ray,,,images,b.png,,\n"
)
FILES = (
    "Covid-19/a.jpg", "Covid-19/b.png", "Covid-19/new.jpeg", "No_findings/00001280_004.png",
    "No_findings/00001280_005.png", "Pneumonia/00000193_019.png",
)  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Empty files in the published layout: listing reads no pixel."""
    for name in FILES:
        file = tmp_path / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "set"


@pytest.fixture
def metadata(tmp_path: Path) -> str:
    (tmp_path / "metadata.csv").write_text(HEADER + ROWS)
    return str(tmp_path / "metadata.csv")


def table_of(root: Path, **arguments: Any) -> tuple[pd.DataFrame, DarkCovidNetSource]:
    source = DarkCovidNetSource(str(root), **arguments)
    return mf.check(source.manifest(), source.name), source


def test_covid_films_get_what_the_metadata_knows(root: Path, metadata: str) -> None:
    table, source = table_of(root, metadata=metadata)
    first, second, third = table[table["label"] == 1].to_dict("records")
    assert first == {
        "path": str(root / "Covid-19/a.jpg"), "label": 1, "patient_id": "cohen-30", "split": "",
        "source": "darkcovidnet", "finding": "COVID-19, ARDS", "view": "AP", "collection": "cohen", "age": 25.0,
        "sex": "F", "population": "adult", "licence": "CC BY", "location": "Here", "date": "2020", "offset": "3",
    }  # fmt: skip
    assert (second["patient_id"], second["population"]) == ("cohen-46", "child")
    assert [third[name] for name in ("finding", "patient_id", "view", "sex", "population")] == ["COVID-19", *[""] * 4]
    assert len(source.notes) == 1
    assert source.notes[0] == (
        "darkcovidnet: finding, view and patient of 1 of the 3 COVID-19 images are unknown, so that patients in more "
        f"than one split are NOT CHECKED for those (their names are not in {metadata})"
    )
    assert (source.claim, source.synthetic) == ("COVID-19", False)


def test_nih_films_get_their_patient_from_their_name(root: Path, metadata: str) -> None:
    table, _ = table_of(root, metadata=metadata)
    negatives = table[table["label"] == 0]
    assert negatives["patient_id"].tolist() == ["nih-00001280"] * 2
    assert negatives["finding"].tolist() == ["No Finding"] * 2
    assert set(negatives["collection"]) == {"nih"}
    assert (negatives[["view", "sex", "population", "licence"]] == "").all(axis=None)
    assert negatives["age"].isna().all()


def test_the_negatives_are_the_users_choice_and_the_rest_is_a_step_of_the_flow(root: Path, metadata: str) -> None:
    table, source = table_of(root, metadata=metadata, negatives=["Pneumonia"])
    assert table.loc[table["label"] == 0, ["patient_id", "finding"]].values.tolist() == [["nih-00000193", "Pneumonia"]]
    assert [(step.step, step.removed, step.images, step.patients) for step in source.flow.steps] == [
        ("image files in Covid-19, No_findings, Pneumonia", 0, 6, 5),
        ("in a folder other than Covid-19, Pneumonia", 2, 4, 4),
    ]
    table, source = table_of(root, metadata=metadata, negatives=["No_findings", "Pneumonia"])
    assert len(table) == 6
    assert [step.removed for step in source.flow.steps] == [0, 0]


@pytest.mark.parametrize("given", [False, True])
def test_without_the_metadata_the_patients_are_not_checked(root: Path, tmp_path: Path, given: bool) -> None:
    missing = str(tmp_path / "nowhere/metadata.csv") if given else None
    table, source = table_of(root, metadata=missing)
    positives = table[table["label"] == 1]
    assert positives["finding"].tolist() == ["COVID-19"] * 3
    assert (positives["patient_id"] == "").all()
    why = "data.source.metadata names Cohen's metadata.csv"
    if given:
        why = f"{missing} is missing; `cxrlab-download data=cohen` gets it"
    assert len(source.notes) == 1
    assert "of 3 of the 3 COVID-19 images are unknown" in source.notes[0]
    assert source.notes[0].endswith(f"({why})")


def test_strange_files_are_noted(root: Path, metadata: str) -> None:
    (root / "Covid-19/new.jpeg").unlink()
    (root / "Covid-19/readme.txt").touch()
    (root / "No_findings/.DS_Store").touch()
    (root / "No_findings/mine.png").touch()
    (root / "Pneumonia/other.txt").touch()  # of a folder that is not used
    table, source = table_of(root, metadata=metadata)
    assert source.notes[0] == f"{root / 'Covid-19'}: 1 file(s) whose names are no image's were not used"
    assert len(source.notes) == 2
    assert source.notes[1] == (
        "darkcovidnet: 1 NIH image(s) are not named as in that collection (00001280_004.png), so that patients in more "
        "than one split are NOT CHECKED for those"
    )
    assert table.loc[table["path"].str.endswith("mine.png"), "patient_id"].tolist() == [""]


def test_a_folder_that_is_not_used_may_be_missing(root: Path, metadata: str) -> None:
    (root / "Pneumonia/00000193_019.png").unlink()
    (root / "Pneumonia").rmdir()
    _, source = table_of(root, metadata=metadata)
    assert source.flow.steps[0].step == "image files in Covid-19, No_findings"


@pytest.mark.parametrize(("folder", "what"), [("Covid-19", "no such folder"), ("No_findings", "no image in it")])
def test_a_missing_or_empty_folder_is_named_with_the_command_that_gets_it(root: Path, folder: str, what: str) -> None:
    for file in (root / folder).iterdir():
        file.unlink()
    if what == "no such folder":
        (root / folder).rmdir()
    with pytest.raises(DataError) as caught:
        DarkCovidNetSource(str(root)).manifest()
    assert str(caught.value).startswith(f"{root / folder}: {what}; `cxrlab-download data=darkcovidnet` gets the set")


def test_another_table_as_metadata_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("a,b\n1,2\n")
    message = r"metadata.csv: the column\(s\) patientid, .*data.source.metadata=null goes without"
    with pytest.raises(DataError, match=message):
        DarkCovidNetSource(str(root), metadata=str(tmp_path / "metadata.csv")).manifest()


def test_bad_arguments_are_named() -> None:
    wrong: list[tuple[Any, str]] = [
        ("Pneumonia", "negatives must be a list of No_findings, Pneumonia, got 'Pneumonia'"),
        ([], "negatives must be a list"),
        (["No_finding"], "negatives must be one of No_findings, Pneumonia.*; did you mean 'No_findings'"),
    ]
    for negatives, message in wrong:
        with pytest.raises(ValueError, match=message):
            DarkCovidNetSource("nowhere", negatives)


def test_the_real_set_holds_the_known_counts(data_set: Callable[[str], Path], cohen_root: Path) -> None:
    metadata, both = str(cohen_root / "metadata.csv"), ["No_findings", "Pneumonia"]
    table, source = table_of(data_set("darkcovidnet"), metadata=metadata, negatives=both)
    covid = table[table["label"] == 1]
    assert covid["finding"].value_counts().to_dict() == {"COVID-19": 118, "COVID-19, ARDS": 6}
    assert covid["view"].value_counts().to_dict() == {"PA": 91, "AP": 17, "AP Supine": 16}
    assert table.groupby("finding").size()[["No Finding", "Pneumonia"]].tolist() == [250, 125]
    nih = table[table["collection"] == "nih"]
    assert nih.groupby("finding")["patient_id"].nunique().to_dict() == {"No Finding": 188, "Pneumonia": 118}
    assert nih["patient_id"].nunique() == 304
    assert source.notes == []


def test_its_patients_are_found_again_in_the_papers_set(
    data_set: Callable[[str], Path], cohen_root: Path, paper_root: Path
) -> None:
    here, _ = table_of(data_set("darkcovidnet"), metadata=str(cohen_root / "metadata.csv"))
    paper = PaperSource(str(paper_root)).manifest()
    names = {Path(path).name: patient for path, patient in zip(paper["path"], paper["patient_id"], strict=True)}
    shared = here[here["path"].map(lambda path: Path(path).name in names)]
    assert len(shared) == 69
    assert shared["patient_id"].tolist() == [names[Path(path).name] for path in shared["path"]]


def test_the_config_finds_both_collections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXRLAB_DATA", "/sets")
    source = build(compose("train", ["data=darkcovidnet"], tmp_path).data.source)
    assert source.root == Path("/sets/darkcovidnet")
    assert source.metadata == Path("/sets/covid-chestxray-dataset/metadata.csv")
