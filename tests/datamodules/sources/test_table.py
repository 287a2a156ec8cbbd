"""A CSV file becomes a manifest: datamodules/sources/table.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources import ManifestSource, SyntheticSource
from cxrlab.errors import DataError

Write = Callable[..., Path]
LEFT_OUT = (
    "  Without a known label are {}: data.source.labels='{{word: 1, another: 0}}' says what words mean (unknown: "
    "empty, nan, …); data.source.others=drop leaves such rows out"
)
GOOD = "path,label\na.png,0\nb.png,1\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes ``images.csv`` beside the (empty) image ``a.png`` and returns its path."""

    def make(text: str, encoding: str = "utf-8") -> Path:
        (tmp_path / "a.png").touch()
        file = tmp_path / "images.csv"
        file.write_bytes(text.encode(encoding))
        return file

    return make


def listed(file: Path, **options: Any) -> pd.DataFrame:
    return ManifestSource(str(file), **options).manifest()


def refused(file: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        listed(file, **options)
    return str(caught.value)


def test_two_columns_are_enough(write: Write, tmp_path: Path) -> None:
    source = ManifestSource(str(write(GOOD)), name="mine")
    table = mf.check(source.manifest(), "mine")
    assert table["path"].tolist() == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    assert table["label"].tolist() == [0, 1]
    assert set(table["source"]) == {"mine"}
    assert {tuple(set(table[column])) for column in ("patient_id", "split", "finding", "view")} == {("",)}
    (note,) = source.notes
    assert note == (
        "mine: the patient of 2 of 2 images is unknown, so that patients in more than one split are NOT CHECKED for "
        "those (column patient_id)"
    )
    assert source.flow.table().to_dict("records") == [
        {"source": "mine", "step": "rows of images.csv", "removed": 0, "images": 2, "patients": 2}
    ]


def test_everything_else_is_kept_as_text(write: Write) -> None:
    text = "age,path,label,patient_id,split,source,finding,view,mask\n063,a.png,0,007,test,ward,Normal,PA,m.png\n"
    table = listed(write(text + 'NA,b.png,1,07,train,,"COVID-19, ARDS",AP,\n'))
    assert list(table.columns) == [*mf.COLUMNS, "age", "mask"]
    assert table["patient_id"].tolist() == ["007", "07"]
    assert table["age"].tolist() == ["063", "NA"]
    assert table["finding"].tolist() == ["Normal", "COVID-19, ARDS"]
    assert table["source"].tolist() == ["ward", "manifest"]
    assert table["mask"].tolist() == ["m.png", ""]


@pytest.mark.parametrize(
    "words",
    ["0 1", "Negative Positive", "NEGATIVE positive", "0.0 1.0", "0,0 1,00", "FALSE True", "no YES", "neg pos", "n y"],
)
def test_labels_as_people_and_programs_write_them(write: Write, words: str) -> None:
    negative, positive = words.split()
    assert listed(write(f'path,label\na.png,"{negative}"\nb.png,"{positive} "\n'))["label"].tolist() == [0, 1]


def test_what_spreadsheets_write(write: Write) -> None:
    text = 'path;label;patient_id\r\na.png;0;"Müller"\r\n;;\r\n"b.png";1;007\r\n'
    assert listed(write(text, "utf-8-sig"))["patient_id"].tolist() == ["Müller", "007"]  # an empty row is none


def test_paths_begin_at_the_file_or_at_root(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").touch()
    file = write(f"path,label\na.png,0\n./x/../b.png,1\n{tmp_path}/c.png,1\n")
    assert listed(file)["path"].tolist() == [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    assert listed(file, root=str(other))["path"].tolist()[:2] == [str(other / "a.png"), str(other / "b.png")]
    monkeypatch.chdir(tmp_path)
    assert listed(Path("images.csv"))["path"].tolist()[0] == str(tmp_path / "a.png")


def test_the_manifest_of_a_run_can_be_fed_back(write: Write, tmp_path: Path) -> None:
    before = listed(write("path,label,patient_id,split,age\na.png,0,007,train,\nb.png,1,8,test,61.5\n"), name="ward")
    before = before.assign(sha256="0" * 64)
    mf.write(before, tmp_path / "manifest.csv")
    pd.testing.assert_frame_equal(listed(tmp_path / "manifest.csv"), before)
    phantoms = SyntheticSource(str(tmp_path), n_train=4, n_test=2, size=64).manifest()
    mf.write(phantoms, tmp_path / "manifest.csv")
    source = ManifestSource(str(tmp_path / "manifest.csv"))
    assert not source.synthetic
    assert source.manifest()["path"].tolist() == phantoms["path"].tolist()
    assert source.synthetic  # phantoms stay so


def test_mistakes_are_told_together_with_the_rows_of_a_spreadsheet(write: Write, tmp_path: Path) -> None:
    text = 'path,label,split,finding\na.png,0,train,"two\nlines"\n,1,\n\nb.png,postive,\nc.png,,tst1\n'
    assert refused(write(text)).splitlines() == [
        f"{tmp_path / 'images.csv'}: 4 mistake(s), rows counted as in a spreadsheet (the header is row 1):",
        "  row 3: path is empty, expected the path of an image file",
        "  row 5: label is 'postive', expected 0, 1, Negative or Positive; did you mean 'Positive'?",
        "  row 6: label is '', expected 0, 1, Negative or Positive",
        "  row 6: split is 'tst1', expected train, val, test or nothing; did you mean 'test'?",
        LEFT_OUT.format("'postive' (1), '' (1)"),
    ]
    lines = refused(write("path,label\n" + "".join(f"{number}.png,x\n" for number in range(30)))).splitlines()
    assert (len(lines), lines[-2]) == (23, "  … and 10 more")
    assert lines[-1].startswith("  Without a known label are 'x' (30): data.source.labels=")


def test_rows_that_are_too_wide_are_named_unless_the_rest_is_empty(write: Write) -> None:
    message = refused(write("path,label,age\na.png,0,45,5\nb.png,1,4\nc.png,1,,\n"))
    assert "1 mistake(s)" in message
    assert "row 2: 4 cell(s), but row 1 names 3 column(s); quote cells that hold a separator" in message
    assert listed(write("path,label,age\na.png,0\nb.png,1,45,,\n"))["age"].tolist() == ["", "45"]


def test_what_is_no_such_table(write: Write) -> None:
    for text, message in (
        ("", "row 1 must name the columns path and label .* found nothing"),
        ("file,labels\na.png,0\n", "found file, labels; type 'data.source.columns={path: file, label: labels}'"),
        ("Path;Label\na.png;0\n", "found Path, Label; type 'data.source.columns={path: Path, label: Label}'"),
        ("path,label,label\na.png,0,0\n", "row 1 names the column.s. label more than once"),
        ("path,label\n", "lists no image"),
    ):
        with pytest.raises(DataError, match=message):
            listed(write(text))


def test_unknown_findings_matter_where_something_is_claimed(write: Write) -> None:
    file = write("path,label,patient_id,finding,split\na.png,0,x,Normal,\nb.png,1,y,,test\n")
    source = ManifestSource(str(file), claim="COVID-19")
    source.manifest()
    finding, split = source.notes
    assert finding == (
        "manifest: the finding of 1 of 2 images is unknown, so that Positive meaning COVID-19 is NOT CHECKED for those "
        "(column finding)"
    )
    assert split == "manifest: 1 of 2 images name no split and are taken as training images"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    message = f"{tmp_path / 'none.csv'}: no such file; data.source.path=/path/to/images.csv names another"
    assert refused(tmp_path / "none.csv").startswith(message)
    assert "must name a CSV file (data=folder takes folders)" in refused(tmp_path)


def test_no_image_there_says_where_it_was_looked_for(write: Write, tmp_path: Path) -> None:
    file = write(GOOD)
    (tmp_path / "a.png").unlink()
    assert refused(file) == (
        f"{file}: none of its 2 images is there, the first would be {tmp_path / 'a.png'}; relative paths begin at "
        f"{tmp_path}: data.source.root=/path/to/images names another folder"
    )


@pytest.mark.parametrize("word", ["-1", "-1.0", "uncertain", "nan", "", "2", "01"])
def test_what_is_neither_is_named_with_how_to_leave_it_out(write: Write, word: str) -> None:
    file = write(f"path,label\na.png,0\nb.png,1\nc.png,{word}\n")
    assert f"row 4: label is {word!r}" in refused(file)
    assert LEFT_OUT.format(f"{word!r} (1)") in refused(file)
    source = ManifestSource(str(file), others="drop")
    assert source.manifest()["label"].tolist() == [0, 1]
    assert source.flow.steps[1].step == f"label is none of data.source.labels: {word!r} (1)"
    assert source.flow.steps[1].removed == 1


def test_the_users_own_columns_and_labels(write: Write) -> None:
    file = write("Image Index;Finding Labels;Patient ID\na.png;No Finding;1\nb.png;Edema|Pneumonia;2\nc.png;Edema;3\n")
    columns = {"path": "Image Index", "label": "Finding Labels", "patient_id": "Patient ID"}
    labels = {"no finding": 0, "Pneumonia": 1}
    message = refused(file, columns=columns, labels=labels)
    assert "row 4: label is 'Edema', expected no finding, pneumonia" in message
    table = listed(file, columns=columns, labels=labels, others="drop")
    assert list(table.columns) == list(mf.COLUMNS)
    assert table["label"].tolist() == [0, 1]
    assert table["finding"].tolist() == ["No Finding", "Edema|Pneumonia"]
    assert table["patient_id"].tolist() == ["1", "2"]
    assert (
        "data.source.columns takes label from 'Findings'; found Image Index, Finding Labels, Patient ID; did you"
        in (refused(file, columns={**columns, "label": "Findings"}))
    )
    hint = 'type \'data.source.columns={path: "Image Index", label: "Finding Labels"}\', or name them there'
    assert hint in refused(file)


def test_labels_of_several_findings_and_of_none(write: Write) -> None:
    file = write("path,label\nc.png,edema|mass\na.png,mass|x\nb.png,edema\n")
    source = ManifestSource(str(file), labels={"edema": 0, "mass": 1}, others="drop")
    assert source.manifest()["label"].tolist() == [1, 0]
    assert source.flow.steps[1].step.endswith("'edema|mass' (1)")  # they disagree
    file = write("path,label\na.png,1.0\nb.png,\nc.png,-1.0\nd.png,0.0\ne.png,nan\n")
    assert listed(file, labels={1: 1, 0: 0, -1: 1, "unknown": 0})["label"].tolist() == [1, 0, 1, 0, 0]


def test_a_file_without_a_header(write: Write) -> None:
    file = write("p0 a.png normal base\np1 b.png COVID base\n")
    message = refused(file)
    assert "That looks like a row of data, without a header: type data.source.header='[…, path, …, …]'" in message
    table = listed(file, header=["patient_id", "path", "label", "source"], labels={"normal": 0, "covid": 1})
    assert table[["patient_id", "label", "source"]].to_numpy().tolist() == [["p0", 0, "base"], ["p1", 1, "base"]]


def test_a_column_that_another_stands_in_for_is_said(write: Write) -> None:
    source = ManifestSource(str(write("path,label,own\na.png,5,0\nb.png,6,1\n")), columns={"label": "own"})
    assert source.manifest()["label"].tolist() == [0, 1]
    assert source.notes[0] == "manifest: data.source.columns is used for label, not the file's own"


UNKNOWN = ["nan", "NA", "None", "unknown", "-", "n/a", "?", "#N/A", "NULL", "-1", "Anonymous", "0"]


@pytest.mark.parametrize("word", UNKNOWN)
def test_a_word_for_unknown_is_no_patient(write: Write, word: str) -> None:
    rows = "".join(f"{row}.png,{row % 2},{word if row < 20 else row}\n" for row in range(24))
    source = ManifestSource(str(write("path,label,patient_id\n" + rows.replace("0.png", "a.png", 1))))
    assert mf.people(mf.check(source.manifest(), "x")).nunique() == 24
    assert any("the patient of 20 of 24 images is unknown" in note and "NOT CHECKED" in note for note in source.notes)


def test_one_person_has_one_id(write: Write) -> None:
    ids = ["12.0", "12", "P7", "p7 ", "007", "7", "0", "1.23457E+11"]
    rows = "".join(f"{row or 'a'}.png,{row % 2},{who}\n" for row, who in enumerate(ids))
    source = ManifestSource(str(write("path,label,patient_id\n" + rows)))
    assert source.manifest()["patient_id"].tolist() == ["12", "12", "P7", "P7", "007", "7", "0", "1.23457E+11"]
    assert any("1 patient id(s) such as 1.23E+11 were rounded" in note for note in source.notes)
    floats = write("path,label,patient_id\na.png,0,12.0\nb.png,1,12\nc.png,1,3.0\n")
    assert listed(floats)["patient_id"].tolist() == ["12", "12", "3"]
    rows = "".join(f"{row or 'a'}.png,{row % 2},{'ward7' if row < 20 else row}\n" for row in range(24))
    source = ManifestSource(str(write("path,label,patient_id\n" + rows)))  # an id on most films is asked about
    assert source.manifest()["patient_id"].nunique() == 5
    assert source.notes[0].startswith("manifest: 20 of 24 images are of the patient 'ward7', who counts as one person")


def test_splits_views_and_sexes_get_their_usual_names_and_impossible_ages_are_named(write: Write) -> None:
    text = ",path,label,split,view,sex,age\n,a.png,0,Training,pa,Female,060Y\n,b.png,1,valid,AP_horizontal,M,411Y\n"
    source = ManifestSource(str(write(text + ",c.png,1,TEST,nan,1,\n")))
    table = source.manifest()
    assert list(table.columns) == [*mf.COLUMNS, "sex", "age"]
    assert table["split"].tolist() == ["train", "val", "test"]
    assert table["view"].tolist() == ["PA", "AP Supine", ""]
    assert table["sex"].tolist() == ["F", "M", "1"]
    assert table["age"].tolist() == ["060Y", "411Y", ""]
    for note in (
        "1 column(s) of images.csv without a name were left out",
        "column split: 'TEST' as test, 'Training' as train, 'valid' as val",
        "1 age(s) are none that a person can have and count as unknown: '411Y' (1)",
    ):
        assert f"manifest: {note}" in source.notes


@pytest.mark.parametrize(
    ("change", "typed"),
    [
        ("CheXpert-v1.0-small/{}", "data.source.strip_prefix=CheXpert-v1.0-small/"),
        ("/mnt/elsewhere/{}", "data.source.strip_prefix=/mnt/elsewhere/"),
        ("~/{}", "'data.source.strip_prefix=\"~/\"'"),
        ("https://example.org/x/{}", "'data.source.strip_prefix=\"https://example.org/x/\"'"),
        ("D:\\scans\\{}", "'data.source.strip_prefix=\"D:/scans/\"'"),
        ("My Data/{}", "'data.source.strip_prefix=\"My Data/\"'"),
    ],
)
def test_a_prefix_that_is_not_there_is_found(write: Write, tmp_path: Path, change: str, typed: str) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/p0.png").touch()
    paths = ["f/p0.png", "f/p1.png"]
    if "\\" in change:
        paths = [path.replace("/", "\\") for path in paths]
    file = write("path,label\n" + "".join(f"{change.format(path)},{row}\n" for row, path in enumerate(paths)))
    assert f"; but {tmp_path / 'f/p0.png'} is there: type {typed}" in refused(file)
    prefix = typed.partition("=")[2].strip("'\"")
    assert listed(file, strip_prefix=prefix)["path"].tolist() == [
        str(tmp_path / path) for path in ("f/p0.png", "f/p1.png")
    ]


@pytest.mark.parametrize("written", ["f/p0.PNG", "F/P0.png", "f/p%30.png", "x/f/p0.Png"])
def test_other_letters_of_a_path_are_shown(write: Write, tmp_path: Path, written: str) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/p0.png").touch()
    message = refused(write(f"path,label\n{written},0\nb.png,1\n"), root=str(tmp_path))
    assert f"; but {tmp_path / 'f/p0.png'} is there, which the table calls " in message
    assert ("type data.source.strip_prefix=x/" in message) == written.startswith("x/")
    backslashes = listed(write("path,label\nf\\p0.png,0\nf\\p1.png,1\n"))["path"]
    assert backslashes.tolist() == [str(tmp_path / f"f/p{row}.png") for row in range(2)]


def test_another_root_is_found_above_and_below(write: Write, tmp_path: Path) -> None:
    file = write("path,label\np0.png,0\np1.png,1\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/p0.png").touch()
    assert f"type data.source.root={tmp_path / 'images'}" in refused(file)
    assert listed(file, root=str(tmp_path / "images"))["path"].tolist()[0] == str(tmp_path / "images/p0.png")
    (tmp_path / "p1.png").touch()
    (tmp_path / "images/p0.png").unlink()
    assert f"type data.source.root={tmp_path}" in refused(file, root=str(tmp_path / "images"))


def test_a_file_in_several_rows_is_refused_with_what_its_rows_say(write: Write, tmp_path: Path) -> None:
    message = refused(write("path,label\na.png,0\nb.png,1\na.png,1\nx/../b.png,1\n"))
    assert f"row 4: lists {tmp_path / 'a.png'} a second time (first in row 2) with another label, 1; leave" in message
    assert f"row 5: lists {tmp_path / 'b.png'} a second time (first in row 3) with the same label" in message
    assert "2 file(s) are listed several times, 1 of them with both labels: data.source.duplicates=any" in message


@pytest.mark.parametrize(
    ("rule", "labels", "removed"),
    [("any", [1, 1, 1, 0], [5]), ("majority", [1, 0, 0], [5, 1])],
    ids=["any", "majority"],
)
def test_one_row_per_box_or_reader_is_merged(write: Write, rule: str, labels: list[int], removed: list[int]) -> None:
    rows = ["a,1,x", "a,0,", "a,1,y", "b,0,x", "b,0,x", "b,1,x", "c,0,z", "c,1,", "d,0,"]  # c is a tie
    text = "".join(row.replace(",", ".png,", 1) + "\n" for row in rows)
    source = ManifestSource(str(write("path,label,finding\n" + text)), duplicates=rule)
    table = source.manifest()
    assert table["label"].tolist() == labels
    assert table["finding"].tolist()[:2] == ["x|y", "x"]
    told = "3 file(s) are listed several times, 3 of them with both labels"
    assert source.flow.steps[1].step == f"further rows of one file (data.source.duplicates={rule}: {told})"
    assert [step.removed for step in source.flow.steps[1:]] == removed
    assert any(note.startswith(f"manifest: {told}") for note in source.notes)


def test_rows_of_one_file_that_contradict_each_other_are_never_merged(write: Write, tmp_path: Path) -> None:
    file = write("path,label,split,patient_id\na.png,0,train,1\na.png,0,test,2\n")
    message = refused(file, duplicates="any")
    assert f"row 3: split is 'test', but row 2 says 'train' for {tmp_path / 'a.png'}" in message
    assert "row 3: patient_id is '2', but row 2 says '1'" in message


def test_a_wrong_option_is_named() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"columns": ["path"]}, "columns must map"),
        *(({"labels": labels}, "labels must map words onto 0") for labels in ({"x": 2}, {})),
        ({"header": "path"}, "header must be a list"),
        ({"others": "skip"}, "others must be one of error, drop"),
        ({"duplicates": "all"}, "duplicates must be one of error, any, majority"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            ManifestSource("x.csv", **options)
