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


@pytest.mark.parametrize("words", [("0", "1"), ("Negative", "Positive"), ("NEGATIVE", " positive ")], ids=str)
def test_labels_as_numbers_or_words(write: Write, words: tuple[str, str]) -> None:
    negative, positive = words
    assert listed(write(f"path,label\na.png,{negative}\nb.png,{positive}\n"))["label"].tolist() == [0, 1]


@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_what_spreadsheets_write(write: Write, separator: str, encoding: str, newline: str) -> None:
    text = 'path,label,patient_id\na.png,0,"Müller"\n,,\n"b.png",1,007\n'
    table = listed(write(text.replace(",", separator).replace("\n", newline), encoding))
    assert table["patient_id"].tolist() == ["Müller", "007"]  # an empty row is none


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
    again = listed(tmp_path / "manifest.csv")
    pd.testing.assert_frame_equal(again, before)


def test_phantoms_stay_synthetic_when_their_manifest_is_fed_back(tmp_path: Path) -> None:
    phantoms = SyntheticSource(str(tmp_path), n_train=4, n_test=2, size=64).manifest()
    mf.write(phantoms, tmp_path / "manifest.csv")
    source = ManifestSource(str(tmp_path / "manifest.csv"))
    assert not source.synthetic
    assert source.manifest()["path"].tolist() == phantoms["path"].tolist()
    assert source.synthetic
    assert ManifestSource("x.csv", synthetic=True).synthetic


def test_mistakes_are_told_together_with_the_rows_of_a_spreadsheet(write: Write, tmp_path: Path) -> None:
    text = "path,label,split\na.png,0,train\n,1,\n\nb.png,postive,\nc.png,,valid\nx/../a.png,1,\n"
    assert refused(write(text)).splitlines() == [
        f"{tmp_path / 'images.csv'}: 5 mistake(s), rows counted as in a spreadsheet (the header is row 1):",
        "  row 3: path is empty, expected the path of an image file",
        "  row 5: label is 'postive', expected 0, 1, Negative or Positive; did you mean 'Positive'?",
        "  row 6: label is '', expected 0, 1, Negative or Positive",
        "  row 6: split is 'valid', expected train, val, test or nothing; did you mean 'val'?",
        f"  row 7: lists {tmp_path / 'a.png'} a second time (first in row 2); leave one out",
    ]


def test_a_row_that_spans_lines_counts_once(write: Write) -> None:
    text = 'path,label,finding\na.png,0,"two\nlines"\nb.png,7,\n'
    assert "row 3: label is '7'" in refused(write(text))


def test_at_most_twenty_mistakes_are_shown(write: Write) -> None:
    lines = refused(write("path,label\n" + "".join(f"{number}.png,x\n" for number in range(30)))).splitlines()
    assert len(lines) == 22
    assert lines[0].endswith("rows counted as in a spreadsheet (the header is row 1):")
    assert lines[-1] == "  … and 10 more"


def test_rows_of_another_width_are_named(write: Write) -> None:
    message = refused(write("path,label\na.png,0,\nb.png,1\nc.png\n"))
    assert "row 2: 3 cell(s), but row 1 names 2 column(s)" in message
    assert "row 4: 1 cell(s)" in message
    assert "row 3" not in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "row 1 must name the columns path and label .* found nothing"),
        ("file,labels\na.png,0\n", "found file, labels; did you mean 'labels'"),
        ("Path;Label\na.png;0\n", "found Path, Label; did you mean 'Path'.*did you mean 'Label'"),
        ("path,label,label\na.png,0,0\n", "row 1 names the column.s. label more than once"),
        ("path,label\n", "lists no image"),
        ('path,label\n"a.png,0\n', r"no table from row 2 on \(unexpected end of data\)"),
    ],
)
def test_what_is_no_such_table(write: Write, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed(write(text))


def test_a_column_without_a_name_is_left_out_and_said(write: Write) -> None:
    source = ManifestSource(str(write(",path,label,patient_id\n0,a.png,0,x\n1,b.png,1,y\n")))
    assert list(source.manifest().columns) == list(mf.COLUMNS)
    assert source.notes == ["manifest: 1 column(s) of images.csv without a name were left out"]


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


def test_files_that_cannot_be_read(write: Write, tmp_path: Path) -> None:
    message = refused(tmp_path / "none.csv")
    assert message.startswith(
        f"{tmp_path / 'none.csv'}: no such file; data.source.path=/path/to/images.csv names another"
    )
    assert "must name a CSV file (data=folder takes folders)" in refused(tmp_path)
    file = write("path,label\na.png,0\nMüller.png,1\n", "latin-1")
    assert refused(file) == f"{file}: not UTF-8 (byte 0xfc in line 3); save it as 'CSV UTF-8'"
    assert "not UTF-8" in refused(write(GOOD, "utf-16"))


def test_no_image_there_says_where_it_was_looked_for(write: Write, tmp_path: Path) -> None:
    file = write(GOOD)
    (tmp_path / "a.png").unlink()
    assert refused(file) == (
        f"{file}: none of its 2 images is there, the first would be {tmp_path / 'a.png'}; relative paths begin at "
        f"{tmp_path}: data.source.root=/path/to/images names another folder"
    )
