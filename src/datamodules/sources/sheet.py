"""Reading a table that somebody wrote: CSV in every dialect of spreadsheets, compressed by gzip, or an Excel workbook.

The file is untrusted. Every cell is text, no formula is computed, and all of it is bounded: :data:`MOST_BYTES`
as it lies on disk and unpacked, :data:`MOST_CELLS`, and :data:`LONGEST_CELL`.
"""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import re
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab.errors import DataError
from cxrlab.files import from_csv
from cxrlab.imports import need
from cxrlab.words import first_few

MOST_BYTES = 256 * 2**20  # PadChest's table, the largest of a public set, has about 100 million
MOST_CELLS = 20_000_000  # PadChest's has 6 million
LONGEST_CELL = 131_072  # letters; the csv module's own limit
_WORKBOOK_BYTES = 100 * 2**20  # unpacked; reading XML takes about a second for each million bytes of it
_DELIMITERS = (",", ";", "\t", "|")

_UNPACK = "unpack it, and name the file inside"
_SAVE = "save the sheet as 'CSV UTF-8'"
_MAGIC = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls), or one with a password", f"save it as .xlsx, or {_SAVE}"),
    (b"BZh", "compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ", "compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"PAR1", "a Parquet file", "save the table as CSV"),
    (b"ARROW1", "a Feather file", "save the table as CSV"),
    (b"SQLite format 3", "a database", "save the table as CSV"),
    (b"\x89HDF", "an HDF5 file", "save the table as CSV"),
    (b"\x80", "a pickle, which is never opened", "save the table as CSV"),
    (b"%PDF", "a PDF", "save the table as CSV"),
    (b"\x89PNG", "an image", "name a table that lists images"),
    (b"\xff\xd8\xff", "an image", "name a table that lists images"),
    (b"version https://git-lfs", "a pointer of Git LFS", "type `git lfs pull` where it lies"),
    (b"<", "a web page or XML", "save the table as CSV"),
    (b"{", "JSON", "save the table as CSV"),
)


_Row = tuple[int, list[str]]  # its number, counted from 1, and its cells


@dataclass(frozen=True)
class Sheet:
    """A table of text.

    Attributes:
        path: Of the file.
        header: The names of the columns, without blanks around them; empty where a column has none.
        numbers: For each row the number that a spreadsheet shows beside it; the header is row 1.
        cells: For each row as many cells as the header has, without blanks around them; empty rows are left out.
        notes: What was not read.
    """

    path: Path
    header: list[str]
    numbers: list[int]
    cells: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def frame(self) -> pd.DataFrame:
        """The columns that have a name, as text, the first of those with the same one; index 0 to n - 1."""
        places: dict[str, int] = {}
        for place, name in enumerate(self.header):
            if name:
                places.setdefault(name, place)
        table = pd.DataFrame(
            {name: [cells[place] for cells in self.cells] for name, place in places.items()}, dtype=str
        )
        return from_csv(table)  # a manifest that this program wrote has guarded cells


def read_sheet(path: Path, needed: Iterable[str], remedy: str, names: Sequence[str] | None = None) -> Sheet:
    """Reads a table, whatever separates its cells.

    Args:
        path: CSV, TSV or text, perhaps ``.gz``, in UTF-8 or UTF-16; or ``.xlsx``, of which the first sheet is read that
            has the needed columns. The content tells which, never the name.
        needed: Names of columns, in any letter case, by which the separator and the sheet are found.
        remedy: What to type where the file is missing or something else.
        names: Of the columns, where the file has no header: its first row is then the first of the data.

    Raises:
        DataError: Names the file and what is wrong with it: missing, too large, no table, rows of another width.
        MissingLibraryError: It is a workbook, and the extra ``excel`` is not installed.
    """
    data = _bytes(path, remedy)
    wanted = [name.strip().casefold() for name in needed]
    notes: list[str] = []
    if data.startswith(b"PK\x03\x04"):
        rows = _of_workbook(path, data, wanted, notes)
    else:
        rows = _of_text(path, _decoded(path, data), wanted, names)
    return _sheet(path, rows, names, notes)


def _bytes(path: Path, remedy: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: no file that holds a table; {remedy}")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"{path.absolute()}: no such file; {remedy}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{path}: cannot be read ({reason}); `chmod u+r` it, or: {remedy}") from None
    if data.startswith(b"\x1f\x8b"):
        try:  # all members, at most one byte more than the limit
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: damaged or cut off (gzip: {error}); get it again") from None
    if len(data) > MOST_BYTES:
        raise DataError(f"{path}: a table of more than {MOST_BYTES:,} bytes (unpacked); split it, or leave columns out")
    for magic, what, hint in _MAGIC:
        if data.startswith(magic):
            raise DataError(f"{path}: {what}, no CSV file; {hint}")
    return data


def _decoded(path: Path, data: bytes) -> str:
    encoding = "utf-8-sig"
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        encoding = "utf-32"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif data[1:400:2].count(0) > 0.4 * len(data[1:400:2]):  # every second byte: UTF-16 without a mark at its head
        encoding = "utf-16-le"
    elif data[:400:2].count(0) > 0.4 * len(data[:400:2]) > 0:
        encoding = "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        row = data[: error.start].count(b"\n") + 1
        hint = "save it as 'CSV UTF-8'; a file of an older Windows program: `iconv -f windows-1252 -t utf-8 old > new`"
        what = encoding.upper().removesuffix("-SIG")
        raise DataError(f"{path}: not {what} (byte 0x{data[error.start]:02x} in line {row}); {hint}") from None
    if "\0" in text:
        row = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}: holds zero bytes (the first in line {row}), so that it is no text; {_SAVE}")
    return text


def _of_text(path: Path, text: str, wanted: list[str], names: Sequence[str] | None) -> Iterator[_Row]:
    fixed = re.match(r"\s*\"?sep=(.)\"?\r?\n?", text, re.IGNORECASE)  # Excel's own line: it shows none of it
    if fixed:
        text = text[fixed.end() :]
    heads = {delimiter: _head(_records(text, delimiter)) for delimiter in ([fixed[1]] if fixed else _DELIMITERS)}
    if not fixed and all(len(head) < 2 for head in heads.values()):  # nothing but blanks is left to separate by
        heads[" "] = _head(_records(text, " "))

    def fits(delimiter: str) -> tuple[bool, int, int]:
        head = [name.casefold() for name in heads[delimiter]]
        return names is not None and len(head) == len(names), sum(name in head for name in wanted), len(head)

    number = 0
    try:
        for number, cells in _records(text, max(heads, key=fits)):
            yield number, cells
    except csv.Error as error:
        raise DataError(f"{path}: no table from row {number + 1} on ({error}); mend the row there") from None


def _records(text: str, delimiter: str) -> Iterator[_Row]:
    lines: Iterable[str] = io.StringIO(text, newline="")
    if delimiter == " ":
        lines = (line.strip() + "\n" for line in lines)
    return enumerate(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True), 1)


def _head(rows: Iterator[_Row]) -> list[str]:
    """The cells of the first row that has any; none where the separator makes no sense of them."""
    try:
        return next(([cell.strip() for cell in cells] for _, cells in rows if any(cells)), [])
    except csv.Error:
        return []


def _of_workbook(path: Path, data: bytes, wanted: list[str], notes: list[str]) -> Iterator[_Row]:
    """Rows of the sheet that has most of the wanted columns, of these the first."""
    try:
        members = {member.filename: member.file_size for member in zipfile.ZipFile(io.BytesIO(data)).infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path}: a damaged ZIP archive or Excel workbook ({error}); get it again") from None
    if "xl/workbook.bin" in members or "mimetype" in members:
        raise DataError(f"{path}: a spreadsheet that is not read (.xlsb, .ods); save it as .xlsx, or {_SAVE}")
    if "xl/workbook.xml" not in members:
        raise DataError(f"{path}: a ZIP archive, no CSV file; {_UNPACK}")
    if sum(members.values()) > _WORKBOOK_BYTES:
        raise DataError(f"{path}: a workbook of more than {_WORKBOOK_BYTES:,} bytes (unpacked); {_SAVE}")
    need("defusedxml", f"{path}: an Excel workbook", _SAVE)  # openpyxl then refuses entities, which unfold endlessly
    openpyxl = need("openpyxl", f"{path}: an Excel workbook", _SAVE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and checks that are not understood, and not needed
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
            heads = {sheet: head for sheet in book.worksheets if (head := _head(_cells(sheet)))}
            if not heads:
                return
            best = max(heads, key=lambda sheet: sum(name.casefold() in wanted for name in heads[sheet]))
            if len(heads) > 1:
                others = ", ".join(repr(sheet.title) for sheet in heads if sheet is not best)
                notes.append(f"of {path.name} the sheet {best.title!r} is read, not {others}")
            yield from _cells(best)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - openpyxl states none of the many errors that a damaged workbook raises
        cause = error.__cause__ or error
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
        raise DataError(f"{path}: a damaged Excel workbook ({reason}); {_SAVE}") from None


def _cells(sheet: Any) -> Iterator[_Row]:
    sheet.reset_dimensions()  # what the file says of its size need not be so
    for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
        yield number, [_as_text(value) for value in row]


def _as_text(value: object) -> str:
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        value = value.date()
    return "" if value is None else str(value).strip()


def _sheet(path: Path, rows: Iterator[_Row], names: Sequence[str] | None, notes: list[str]) -> Sheet:
    header = [str(name).strip() for name in names or []] or _head(rows)
    width, total = len(header), 0
    sheet = Sheet(path, header, [], [], notes)
    wrong = []
    for number, cells in rows:
        cells = [cell.strip() for cell in cells]
        total += max(len(cells), width)
        if total > MOST_CELLS:
            raise DataError(f"{path}: a table of more than {MOST_CELLS:,} cells; split it, or leave columns out")
        if any(cells[width:]):
            wrong.append(
                f"row {number}: {len(cells)} cell(s), but {'data.source.header' if names else 'row 1'} names "
                f"{width} column(s); quote cells that hold a separator"
            )
        elif any(cells):
            sheet.numbers.append(number)
            sheet.cells.append(cells[:width] + [""] * (width - len(cells)))
    refuse(path, wrong)
    return sheet


def refuse(path: Path, wrong: list[str], hints: Sequence[str] = ()) -> None:
    """Raises one error for all mistakes in a table's rows, where there are any.

    Raises:
        DataError: Lists the first mistakes, counts the rest, and ends with the hints.
    """
    if wrong:
        head = f"{path}: {len(wrong)} mistake(s), rows counted as in a spreadsheet (the header is row 1):"
        raise DataError("\n  ".join([head, *first_few(wrong, 20), *hints]))
