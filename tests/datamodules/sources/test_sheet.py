"""Tables in every dialect that people have, and what is no table: datamodules/sources/sheet.py."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from cxrlab.datamodules.sources import sheet as module
from cxrlab.datamodules.sources.sheet import read_sheet
from cxrlab.errors import DataError, UserError

ROWS = [["path", "label", "note"], ["a.png", "0", "x, y; z"], ["b.png", "1", 'say "so"']]
NEEDED = ("path", "label")


def written(folder: Path, data: bytes, name: str = "films.csv") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def as_csv(**options: Any) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows(ROWS)
    return text.getvalue()


def workbook(rows: list[list[Any]], *, before: dict[str, list[list[Any]]] | None = None) -> bytes:
    book = openpyxl.Workbook()
    book.remove(book["Sheet"])
    for title, content in {**(before or {}), "films": rows}.items():
        page = book.create_sheet(title)
        for row in content:
            page.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_sheet(path, NEEDED, "look elsewhere", **options)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_dialects_of_spreadsheets(tmp_path: Path, delimiter: str, newline: str, encoding: str) -> None:
    path = written(tmp_path, as_csv(delimiter=delimiter, lineterminator=newline).encode(encoding))
    sheet = read_sheet(path, NEEDED, "")
    assert [sheet.header, *sheet.cells] == ROWS
    assert sheet.numbers == [2, 3]


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_excels_line_about_the_separator_is_no_row(tmp_path: Path, first: str) -> None:
    path = written(tmp_path, f"{first}\r\npath;label;share\r\na.png;0;1,5\r\n".encode())
    sheet = read_sheet(path, NEEDED, "")
    assert sheet.cells == [["a.png", "0", "1,5"]]
    assert sheet.numbers == [2]


def test_blanks_and_line_breaks_in_cells_and_empty_rows(tmp_path: Path) -> None:
    path = written(tmp_path, 'path , label\u00a0,\n\n" a.png",0 ,\n,,\n"b.png\nb",1,\n'.encode())
    sheet = read_sheet(path, NEEDED, "")
    assert sheet.header == ["path", "label", ""]
    assert sheet.cells == [["a.png", "0", ""], ["b.png\nb", "1", ""]]
    assert sheet.numbers == [3, 5]


def test_separated_by_blanks_without_a_header(tmp_path: Path) -> None:
    path = written(tmp_path, b"pat0  a.png normal base \npat1 b.png COVID  base\n", "train.txt")
    sheet = read_sheet(path, NEEDED, "", ["patient", "path", "label", "source"])
    assert sheet.cells == [["pat0", "a.png", "normal", "base"], ["pat1", "b.png", "COVID", "base"]]
    assert sheet.numbers == [1, 2]


def test_compressed_by_gzip_whatever_the_name(tmp_path: Path) -> None:
    data = as_csv().encode()
    several = gzip.compress(data[:20]) + gzip.compress(data[20:])
    for content, name in ((gzip.compress(data), "films.csv.gz"), (several, "films.csv")):
        assert read_sheet(written(tmp_path, content, name), NEEDED, "").cells == ROWS[1:]


def test_a_workbook_is_read_as_text(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["path", "label", "id", "age", "seen", "ill"],
        ["a.png", 0, "007", 45.5, datetime.date(2020, 3, 1), True],
        [None] * 6,
        ["b.png", 1, 12, None, None, False],
    ]
    sheet = read_sheet(written(tmp_path, workbook(rows), "films.xlsx"), NEEDED, "")
    assert sheet.cells == [
        ["a.png", "0", "007", "45.5", "2020-03-01", "True"],
        ["b.png", "1", "12", "", "", "False"],
    ]
    assert sheet.numbers == [2, 4]
    assert sheet.notes == []


def test_the_sheet_with_the_needed_columns_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    data = workbook(ROWS, before={"About": [["written by"], ["somebody"]], "Empty": []})
    sheet = read_sheet(written(tmp_path, data, "films.xlsx"), NEEDED, "")
    assert sheet.cells == ROWS[1:]
    assert sheet.notes == ["of films.xlsx the sheet 'films' is read, not 'About'"]


def test_a_workbook_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = written(tmp_path, workbook(ROWS), "films.xlsx")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"films.xlsx: an Excel workbook needs openpyxl.*cxrlab\[excel\].*'CSV UTF-8'"):
        read_sheet(films, NEEDED, "")


NO_TABLES = {
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Excel workbook (.xls), or one with a password",
    b"BZh91AY": "compressed by bzip2, no CSV file; unpack it",
    b"\xfd7zXZ\0": "compressed by xz",
    b"PAR1": "a Parquet file",
    b"\x80\x04\x95": "a pickle, which is never opened",
    b"\x89PNG\r\n": "an image",
    b"<html><table>": "a web page or XML",
    b'{"path": 1}': "JSON",
    b"version https://git-lfs.github.com/spec/v1\n": "a pointer of Git LFS, no CSV file; type `git lfs pull`",
    b"path,label\na.png,M\xfcller\n": "not UTF-8 (byte 0xfc in line 2); save it as 'CSV UTF-8'",
    b"path,label\na.png\0,1\n": "holds zero bytes (the first in line 2)",
    b'path,label\n"a.png,0\n': "no table from row 2 on (unexpected end of data)",
    b"path,label\na.png," + b"x" * 200_000: "field larger than field limit",
    gzip.compress(b"path,label\n" * 99, mtime=0)[:-9]: "damaged or cut off (gzip",
    b"\x1f\x8bnothing": "damaged or cut off (gzip",
    b"PK\x03\x04nothing": "a damaged ZIP archive or Excel workbook",
}


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    for data, message in NO_TABLES.items():
        assert message in refused(written(tmp_path, data))


def test_archives_and_other_workbooks(tmp_path: Path) -> None:
    def archive(*names: str) -> Path:
        with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
            for name in names:
                file.writestr(name, "<x/>")
        return tmp_path / "x.zip"

    assert "a ZIP archive, no CSV file; unpack it" in refused(archive("films.csv"))
    assert "a spreadsheet that is not read (.xlsb, .ods)" in refused(archive("mimetype", "content.xml"))
    assert "a damaged Excel workbook" in refused(archive("[Content_Types].xml", "xl/workbook.xml"))


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    assert "no such file; look elsewhere" in refused(tmp_path / "none.csv")
    assert "no file that holds a table; look elsewhere" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    assert "no file that holds a table" in refused(tmp_path / "pipe.csv")


def test_bombs_are_refused_before_they_unfold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100_000)
    assert "more than 100,000 bytes" in refused(written(tmp_path, gzip.compress(b"a,b\n" * 1_000_000), "a.gz"))
    assert "more than 100,000 bytes" in refused(written(tmp_path, b"a,b\n" * 50_000))
    monkeypatch.setattr(module, "_WORKBOOK_BYTES", 10_000)
    big = workbook([["path", "label"], *[["a.png", 1]] * 1000])
    assert "a workbook of more than 10,000 bytes (unpacked)" in refused(written(tmp_path, big, "a.xlsx"))
    monkeypatch.setattr(module, "MOST_CELLS", 1000)
    assert "more than 1,000 cells" in refused(written(tmp_path, b"path,label,,,,,,,\n" + b"a,b\n" * 200))


def test_a_workbook_whose_one_cell_lies_far_out_stays_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CELLS", 100_000)
    book = openpyxl.Workbook()
    page = book.worksheets[0]
    page["A1"], page["B1"] = "path", "label"
    for row in range(2, 40):
        page.cell(row, 16_384, "far")
    book.save(tmp_path / "far.xlsx")
    assert "more than 100,000 cells" in refused(tmp_path / "far.xlsx")


def test_entities_of_a_workbook_are_never_unfolded(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>'
    source = zipfile.ZipFile(io.BytesIO(workbook(ROWS)))
    with zipfile.ZipFile(tmp_path / "bomb.xlsx", "w") as file:
        for name in source.namelist():
            text = source.read(name).decode()
            if name.endswith("sheet1.xml"):
                text = bomb + text.replace(
                    "</sheetData>", '<row r="9"><c r="A9" t="str"><v>&b;</v></c></row></sheetData>'
                )
            file.writestr(name, text)
    assert "a damaged Excel workbook (EntitiesForbidden" in refused(tmp_path / "bomb.xlsx")
