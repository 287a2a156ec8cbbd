"""Actualmed's collection by its metadata.csv, in the published layout: datamodules/sources/actualmed.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxrlab.config import build, compose
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources.actualmed import ActualmedSource
from cxrlab.errors import DataError

HEADER = (
    "patientid,offset,sex,age,finding,survival,temperature,pO2 saturation,view,modality,imagename,"
    "artifacts/distortion,notes"
)
CR, DX = "CR.1.2.840.113564.1722810170.{}.1003000225002.png", "DX.1.2.840.113564.1722810162.{}.1203801020003.png"
OTHER = "CR.1.2.840.113564.192168196.{}.1203801020003.png"
NOTES = {"COVID-19": "", "No finding": "Negative (covid-19 viral infection is excluded)", "": "Inconclusive"}
Row = tuple[str, str, str, str]
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes metadata.csv with one row per (patient, finding, view, file name) and an empty file for each."""

    def write(*rows: Row, missing: tuple[str, ...] = ()) -> Path:
        (tmp_path / "images").mkdir(exist_ok=True)
        lines = [HEADER]
        for patient, finding, view, name in rows:
            note = f"{NOTES.get(finding, '')}, date taken (YYYYMMDD): 20200401"
            lines.append(f'{patient},,,,{finding},,,,{view},X-ray,{name},,"{note}"')
            if name and name not in missing:
                (tmp_path / "images" / name).touch()
        (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
        return tmp_path

    return write


def table_of(root: Path) -> tuple[pd.DataFrame, ActualmedSource]:
    source = ActualmedSource(str(root))
    return mf.check(source.manifest(), source.name), source


def test_rows_become_rows_of_the_manifest(make: Make) -> None:
    covid, healthy = CR.format("20200401023421700123"), DX.format("202004010234217001")
    root = make(("ANON1", "COVID-19", "AP", covid), ("ANON2", "No finding", "PA", healthy))
    table, source = table_of(root)
    first, second = table.drop(columns="age").to_dict("records")
    assert first == {
        "path": str(root / "images" / covid), "label": 1, "patient_id": "actualmed-ANON1", "split": "",
        "source": "actualmed", "finding": "COVID-19", "view": "AP", "collection": "actualmed", "sex": "",
        "population": "", "device": "CR 1722810170", "date": "20200401", "offset": "",
    }  # fmt: skip
    assert (second["label"], second["finding"], second["device"]) == (0, "No finding", "DX 1722810162")
    assert table["age"].isna().all()
    assert (source.claim, source.synthetic) == ("COVID-19", False)


def test_inconclusive_and_foreign_rows_are_steps_of_the_flow(make: Make) -> None:
    root = make(
        ("ANON1", "COVID-19", "AP", "a.png"),
        ("ANON2", "No finding", "PA", "b.png"),
        ("ANON3", "", "PA", "c.png"),
        ("ANON3", "", "PA", "d.png"),
        ("ANON4", "Influenza", "PA", "e.png"),
        ("ANON5", "COVID-19", "PA", ""),
        ("ANON1", "COVID-19", "AP", "a.png"),
        ("ANON6", "COVID-19", "AP", "f.png"),
        ("ANON6", "No finding", "AP", "f.png"),
    )
    table, source = table_of(root)
    assert [Path(path).name for path in table["path"]] == ["a.png", "b.png"]
    assert table["device"].tolist() == ["", ""]  # not named as the collection names its files
    assert [(step.step, step.removed, step.images, step.patients) for step in source.flow.steps] == [
        ("rows of metadata.csv", 0, 9, 6),
        ("no file (imagename is blank)", 1, 8, 5),
        ("inconclusive (finding is blank)", 2, 6, 4),
        ("finding is neither COVID-19 nor No finding", 1, 5, 3),
        ("the file is listed as Positive and as Negative", 2, 3, 2),
        ("the file is listed already", 1, 2, 2),
    ]


def test_patients_with_both_labels_are_kept_and_noted_and_so_is_what_the_view_says(make: Make) -> None:
    root = make(
        ("ANON1", "COVID-19", "AP", OTHER.format("20200401023421700123")),
        ("ANON1", "No finding", "PA", "b.png"),
        ("ANON2", "COVID-19", "AP", "c.png"),
        ("ANON3", "No finding", "AP", "d.png"),
    )
    table, source = table_of(root)
    assert table["patient_id"].tolist() == [f"actualmed-ANON{number}" for number in (1, 1, 2, 3)]
    assert table["device"][0] == "CR 192168196"
    assert source.notes == [
        "actualmed: 1 patient(s) have Negative and Positive images",
        "actualmed: Positive are 2 of 3 AP and 0 of 1 PA images",
    ]
    source.manifest()
    assert len(source.notes) == 2


def test_one_class_only_is_an_error(make: Make) -> None:
    root = make(("1", "COVID-19", "PA", "a.png"), ("2", "todo", "PA", "b.png"))
    with pytest.raises(DataError, match=r"must hold COVID-19 and No finding, both; found COVID-19 \(1\), todo \(1\)"):
        ActualmedSource(str(root)).manifest()


@pytest.mark.parametrize("what", ["", "metadata.csv", "images"])
def test_what_is_missing_is_named_with_the_command_that_gets_it(tmp_path: Path, make: Make, what: str) -> None:
    root = tmp_path / "nowhere"
    if what:
        root = make(("1", "COVID-19", "PA", "a.png"), ("2", "No finding", "PA", "b.png"), missing=("a.png", "b.png"))
    if what == "metadata.csv":
        (root / what).unlink()
    with pytest.raises(DataError) as caught:
        ActualmedSource(str(root)).manifest()
    assert str(caught.value).startswith(f"{root / what}: no")
    assert "`cxrlab-download data=actualmed` gets the set" in str(caught.value)


def test_a_foreign_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("patientid,finding,view,filename\n1,COVID-19,PA,a.png\n")
    with pytest.raises(DataError, match=r"the column\(s\) imagename are missing; found patientid, finding, view, file"):
        ActualmedSource(str(tmp_path)).manifest()


def test_the_config_names_the_repositorys_folder(tmp_path: Path) -> None:
    source = build(compose("train", ["data=actualmed"], tmp_path).data.source)
    assert source.root.name == "Actualmed-COVID-chestxray-dataset"
