"""Cohen's collection by its metadata.csv: datamodules/sources/cohen.py, and reading tables: metadata.py."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxrlab.config import build, compose
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules import spellings
from cxrlab.datamodules.sources.cohen import SAME_PERSON, CohenSource, read_metadata
from cxrlab.datamodules.sources.metadata import populations, read_table
from cxrlab.errors import DataError

COLUMNS = (
    "patientid", "offset", "sex", "age", "finding", "view", "modality", "date", "location", "folder", "filename", "url",
    "license", "clinical_notes",
)  # fmt: skip
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes metadata.csv with one row per ``(patient, finding, file)`` or with whatever else is given, and the files.

    The header ends in a comma, as in the published file; listing reads no pixel, so that the files are empty.
    """

    def write(*rows: tuple[str, str, str] | dict[str, str], missing: tuple[str, ...] = ()) -> Path:
        (tmp_path / "images").mkdir(exist_ok=True)
        usual = {"view": "PA", "modality": "X-ray", "folder": "images", "clinical_notes": '"fever, cough"'}
        lines = [",".join(COLUMNS) + ","]
        for row in rows:
            values = row if isinstance(row, dict) else dict(zip(("patientid", "finding", "filename"), row, strict=True))
            values = usual | values
            lines.append(",".join(values.get(column, "") for column in COLUMNS) + ",")
            name = values["filename"]
            if name and name not in missing:
                (tmp_path / "images" / name).touch()
        (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path

    return write


def table_of(root: Path, **arguments: Any) -> tuple[pd.DataFrame, CohenSource]:
    source = CohenSource(str(root), **arguments)
    return mf.check(source.manifest(), source.name), source


def names(table: pd.DataFrame) -> list[str]:
    return [Path(path).name for path in table["path"]]


def refused(root: Path, **arguments: Any) -> str:
    with pytest.raises(DataError) as caught:
        CohenSource(str(root), **arguments).manifest()
    return str(caught.value)


def removed(source: CohenSource) -> dict[str, int]:
    return {step.step: step.removed for step in source.flow.steps if step.removed}


# --- labels and the flow --------------------------------------------------------------------------------------------


def test_a_row_becomes_a_row_of_the_manifest(make: Make) -> None:
    root = make(
        {
            "patientid": "7", "offset": "3", "sex": "F", "age": "61", "finding": '"COVID-19, ARDS"',
            "filename": "a.jpg", "date": '"January 22, 2020"', "location": '"Here, There"',
            "url": "https://x.org", "license": "CC BY",
        },
        ("8", "SARS", "b.png"),
    )  # fmt: skip
    table, source = table_of(root)
    first, second = table.to_dict("records")
    assert first == {
        "path": str(root / "images/a.jpg"), "label": 1, "patient_id": "cohen-7", "split": "", "source": "cohen",
        "finding": "COVID-19, ARDS", "view": "PA", "collection": "cohen", "age": 61.0, "sex": "F",
        "population": "adult", "licence": "CC BY", "location": "Here, There", "date": "January 22, 2020",
        "offset": "3", "url": "https://x.org",
    }  # fmt: skip
    assert (second["label"], second["sex"], second["population"], second["licence"]) == (0, "", "", "")
    assert second["age"] != second["age"]
    assert (source.claim, source.synthetic) == ("COVID-19", False)


def test_positive_is_what_contains_the_text(make: Make) -> None:
    findings = ["COVID-19", "Pneumonia/Viral/COVID-19", "Pneumonia/Viral/SARS", "Pneumonia", "No Finding", "SARS"]
    root = make(*((str(number), finding, f"{number}.jpg") for number, finding in enumerate(findings)))
    table, source = table_of(root)
    assert (table["label"].tolist(), source.claim) == ([1, 1, 0, 0, 0, 0], "COVID-19")
    table, source = table_of(root, positive_if="SARS")
    assert (table["label"].tolist(), source.claim) == ([0, 0, 1, 0, 0, 1], "SARS")


def test_every_row_is_in_the_manifest_or_in_one_step(make: Make) -> None:
    root = make(
        ("1", "COVID-19", "a.jpg"),
        ("2", "SARS", "b.jpg"),
        {"patientid": "3", "finding": "COVID-19", "filename": "c.jpg", "modality": "CT", "view": "Axial"},
        {"patientid": "4", "finding": "COVID-19", "filename": "d.jpg", "view": "L"},
        {"patientid": "5", "finding": "COVID-19", "filename": "e.nii.gz", "folder": "volumes"},
        {"patientid": "5", "finding": "COVID-19", "filename": ""},
        ("6", "todo", "f.jpg"),
        ("7", "", "g.jpg"),
        ("8", "Unknown", "h.jpg"),
        ("1", "No Finding", "i.jpg"),
        ("3", "No Finding", "j.jpg"),  # a CT says that this patient is ill
        ("9", "No Finding", "k.jpg"),
        ("2", "SARS", "b.jpg"),
        ("10", "SARS", "l.jpg"),
        ("10", "COVID-19", "l.jpg"),
    )
    table, source = table_of(root)
    assert names(table) == ["a.jpg", "b.jpg", "k.jpg"]
    assert removed(source) == {
        "modality is not X-ray": 1,
        "view is none of PA, AP, AP Supine, AP Erect": 1,
        "no file in the folder images": 2,
        "not labelled (finding is blank, todo or unknown)": 3,
        "No Finding in a patient who has images of COVID-19, too": 2,
        "the file is listed as Positive and as Negative": 2,
        "the file is listed already": 1,
    }
    first, last = source.flow.steps[0], source.flow.steps[-1]
    assert (first.step, first.removed, first.images, first.patients) == ("rows of metadata.csv", 0, 15, 10)
    assert (last.images, last.patients) == (3, 3)
    assert first.images - sum(step.removed for step in source.flow.steps) == len(table)


def test_views_and_modality_are_the_users_choice(make: Make) -> None:
    rows = [
        {"patientid": str(number), "finding": finding, "filename": f"{number}.jpg", "modality": modality, "view": view}
        for number, (finding, modality, view) in enumerate(
            [("COVID-19", "X-ray", "L"), ("SARS", "X-ray", "L"), ("COVID-19", "CT", "Axial"), ("SARS", "CT", "Axial")]
        )
    ]
    root = make(*rows)
    assert names(table_of(root, views=["L"])[0]) == ["0.jpg", "1.jpg"]
    assert names(table_of(root, views=["Axial"], modality="CT")[0]) == ["2.jpg", "3.jpg"]


# --- people ---------------------------------------------------------------------------------------------------------


def test_ids_of_one_person_become_one(make: Make) -> None:
    ids = ("31", "30", "311a", "311b", "3", "2", "10")
    root = make(*((each, "SARS" if "311" in each else "COVID-19", f"{each}.jpg") for each in ids))
    table, source = table_of(root)
    assert table["patient_id"].tolist()[:4] == ["cohen-30", "cohen-30", "cohen-311a", "cohen-311b"]
    assert source.notes[0] == "cohen: patient ids that are one person were made one: 30 = 31"
    notes, steps = list(source.notes), list(source.flow.steps)
    source.manifest()
    assert (source.notes, source.flow.steps) == (notes, steps)  # a second listing says the same
    # Groups that share an id are one person, and an id that no row has is noted.
    table, source = table_of(root, merge=[[10, "3"], [2, 3], ["2", "3x"]])
    assert table["patient_id"].tolist()[4:] == ["cohen-2"] * 3
    assert source.notes[1] == "cohen: no row has the patient id(s) 3x that were to be merged"


def test_a_file_under_two_ids_makes_them_one_even_if_no_merging_is_asked_for(make: Make) -> None:
    root = make(
        ("339", "COVID-19", "a.jpg"), ("285", "COVID-19", "a.jpg"), ("339", "COVID-19", "b.jpg"), ("1", "SARS", "c.jpg")
    )
    table, source = table_of(root, merge=[])
    assert table[["patient_id"]].assign(file=names(table)).values.tolist() == [
        ["cohen-285", "a.jpg"], ["cohen-285", "b.jpg"], ["cohen-1", "c.jpg"],
    ]  # fmt: skip
    assert source.notes == ["cohen: patient ids that are one person were made one: 285 = 339"]


def test_what_is_known_of_a_person_under_another_id_counts(make: Make) -> None:
    root = make(("78", "COVID-19", "a.jpg"), ("201", "No Finding", "b.jpg"), ("2", "SARS", "c.jpg"))
    assert names(table_of(root)[0]) == ["a.jpg", "c.jpg"]
    assert names(table_of(root, merge=[])[0]) == ["a.jpg", "b.jpg", "c.jpg"]


def test_patients_with_both_labels_and_no_id_are_told(make: Make) -> None:
    root = make(("5", "COVID-19", "a.jpg"), ("5", "ARDS", "b.jpg"), ("", "SARS", "c.jpg"), ("", "No Finding", "d.jpg"))
    table, source = table_of(root, merge=[])
    assert source.notes == ["cohen: 1 patient(s) have Negative and Positive images"]
    assert table["patient_id"].tolist() == ["cohen-5", "cohen-5", "", ""]


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_listed_file_that_is_not_there_stays_in_the_manifest_and_is_noted(make: Make) -> None:
    root = make(("1", "COVID-19", "a.JPG"), ("2", "SARS", "b.png"), ("3", "SARS", "c.png"), missing=("c.png",))
    (root / "images/a.JPG").rename(root / "images/a.jpg")  # a suffix in another case is the same file
    (root / "images/b.PNG").touch()  # the exact name wins
    table, source = table_of(root, merge=[])
    assert names(table) == ["a.jpg", "b.png", "c.png"]
    (note,) = source.notes
    assert note.startswith(f"cohen: 1 of the 3 images listed are not in {root / 'images'}; reading them is an error, ")
    assert note.endswith("unless data.on_error=skip leaves them out")


@pytest.mark.parametrize(
    ("spoil", "begins"),
    [
        (lambda root: root.rename(root.parent / "elsewhere"), "{root}: no such folder"),
        (lambda root: (root / "metadata.csv").unlink(), "{root}/metadata.csv: no such file"),
        (
            lambda root: [file.unlink() for file in (root / "images").iterdir()],
            "{root}/images: none of the 2 images that {root}/metadata.csv lists is there, the first being a.jpg",
        ),
        (
            lambda root: shutil.rmtree(root / "images"),
            "{root}/images: no such folder, where metadata.csv has its images",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_gets_it(
    make: Make, spoil: Callable[[Path], object], begins: str
) -> None:
    root = make(("1", "COVID-19", "a.jpg"), ("2", "SARS", "b.jpg"))
    spoil(root)
    message = refused(root)
    assert message.startswith(begins.format(root=root))
    assert "`cxrlab-download data=cohen` gets the set, data.source.root=/path/to/it names a copy elsewhere" in message


HEADER = "patientid,finding,view,modality,folder,filename\n"


def test_a_foreign_table_is_refused(tmp_path: Path) -> None:
    for content, expected in (
        ("", r"the column\(s\) patientid, finding, view, modality, folder, filename are missing; found none"),
        (HEADER.replace("finding", "findings"), "finding are missing; found patientid, .*; did you mean 'findings'"),
        (HEADER + "\n", "a header and no rows"),
        (HEADER + "1,ill, sick,PA,X-ray,images,a.jpg\n", r"row 2: 7 cell\(s\), but row 1 names 6 column"),
        (HEADER + '1,"ill"ish,PA,X-ray,images,a.jpg\n', "no table from row 2 on"),
        (HEADER + "1,ill\u00e9,PA,X-ray,images,a.jpg\n", r"not UTF-8 \(byte 0xe9 in line 2\)"),
    ):
        (tmp_path / "metadata.csv").write_text(content, encoding="latin-1")
        message = refused(tmp_path)
        assert message.startswith(f"{tmp_path}/metadata.csv: ")
        assert re.search(expected, message)
        assert "cxrlab-download data=cohen" in message


def test_a_class_without_images_is_an_error(make: Make) -> None:
    root = make(("1", "COVID-19", "a.jpg"), ("1", "COVID-19", "b.jpg"), ("2", "SARS", "c.jpg"))
    assert refused(root, positive_if="Covid-19") == (
        f"{root}/metadata.csv: no finding of the 3 images left contains data.source.positive_if='Covid-19', so that a "
        "class is empty; found COVID-19 (2), SARS (1); did you mean 'COVID-19'?"
    )
    assert "every finding of the 1 images left contains" in refused(make(("1", "SARS", "a.jpg")), positive_if="S")


def test_bad_arguments_are_named() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"positive_if": " "}, "positive_if must be a text"),
        ({"views": "PA"}, r"views must be a list such as \[PA, AP\], got 'PA'"),
        ({"views": []}, "views must be a list"),
        ({"views": 5}, "views must be a list"),
        ({"views": ["AP supine"]}, "views must be one of PA, AP, AP Supine.*did you mean 'AP Supine'"),
        ({"modality": "Xray"}, "modality must be one of X-ray, CT"),
        *(({"merge": merge}, "merge must be a list of groups") for merge in ("30=31", [30, 31], [[30]], None)),
    ]
    for arguments, message in wrong:
        with pytest.raises(ValueError, match=message):
            CohenSource("nowhere", **arguments)


# --- tables ---------------------------------------------------------------------------------------------------------


def test_a_table_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_bytes('\ufeffID, Note ,\r\n007,"a, b\nc",spilt\r\n\r\n NA \r\n'.encode())
    table = read_table(file, ["id", "note"], "")
    assert table.to_dict("list") == {"id": ["007", "NA"], "note": ["a, b\nc", ""]}


def test_ages_and_populations_are_what_they_can_be() -> None:
    ages = spellings.ages(pd.Series(["12", "17.5", "18", "", "elderly", "200", "-1"]))
    assert ages.fillna(-9).tolist() == [12, 17.5, 18, -9, -9, -9, -9]
    assert populations(ages).tolist() == ["child", "child", "adult", "", "", "", ""]


# --- the real collection --------------------------------------------------------------------------------------------


def test_the_real_metadata_gives_the_known_counts(cohen_root: Path) -> None:
    table, source = table_of(cohen_root)
    assert removed(source) == {
        "modality is not X-ray": 84,
        "view is none of PA, AP, AP Supine, AP Erect": 97,
        "not labelled (finding is blank, todo or unknown)": 28,
        "No Finding in a patient who has images of COVID-19, too": 14,
        "the file is listed already": 4,
    }
    assert source.flow.steps[0].images == 751
    assert table["label"].value_counts().to_dict() == {1: 434, 0: 90}
    adults = table[~(table["age"] < 18)]
    assert adults["label"].value_counts().to_dict() == {1: 433, 0: 90}
    assert adults.groupby("label")["patient_id"].nunique().to_dict() == {0: 51, 1: 256}
    assert adults.groupby(["view", "label"]).size().to_dict() == {
        ("PA", 1): 216, ("PA", 0): 72, ("AP", 1): 95, ("AP", 0): 9, ("AP Supine", 1): 122, ("AP Supine", 0): 9,
    }  # fmt: skip
    assert adults["finding"].value_counts()[["COVID-19, ARDS", "Pneumocystis", "No Finding"]].tolist() == [12, 13, 5]
    assert source.notes[0] == (
        "cohen: patient ids that are one person were made one: 30 = 31, 78 = 201, 97 = 178, 137 = 202, 192 = 196, "
        "193 = 195, 285 = 339, 287 = 340"
    )


def test_the_people_who_are_one_agree_in_what_is_recorded(cohen_root: Path) -> None:
    rows = read_metadata(cohen_root / "metadata.csv", [], "").groupby("patientid").first()
    for first, second in SAME_PERSON:
        one, other = rows.loc[str(first)], rows.loc[str(second)]
        assert len({one["sex"], other["sex"]} - {""}) <= 1
        assert not abs(one["age"] - other["age"]) > 5


def test_the_config_says_what_the_class_does(tmp_path: Path) -> None:
    usual, chosen = CohenSource("nowhere"), build(compose("train", ["data=cohen"], tmp_path).data.source)
    for name in ("positive_if", "views", "modality", "merge"):
        assert getattr(chosen, name) == getattr(usual, name)
    assert chosen.root.name == "covid-chestxray-dataset"
