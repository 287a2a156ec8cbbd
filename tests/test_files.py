"""Files are whole or not there: files.py."""

from __future__ import annotations

import math
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import IO

import pandas as pd
import pytest

from cxrlab.files import from_csv, write_atomically, write_csv, write_json, write_text


def fail_half_way(file: IO[bytes]) -> None:
    file.write(b"half")
    raise RuntimeError("killed")


def test_writes_bytes_and_makes_the_folder(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a/b/c.bin", lambda file: file.write(b"\0\r\n"))
    assert (tmp_path / "a/b/c.bin").read_bytes() == b"\0\r\n"


def test_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a longer text")
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("before", [None, "old"], ids=["new", "existing"])
def test_a_failed_write_leaves_the_folder_as_it_was(tmp_path: Path, before: str | None) -> None:
    if before:
        (tmp_path / "file").write_text(before)
    with pytest.raises(RuntimeError, match="killed"):
        write_atomically(tmp_path / "file", fail_half_way)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == ({"file": before} if before else {})


def test_a_reader_never_meets_half_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    seen: list[str] = []

    def write(file: IO[bytes]) -> None:
        file.write(b"new")
        file.flush()
        seen.append((tmp_path / "file").read_text())

    write_atomically(tmp_path / "file", write)
    assert [*seen, (tmp_path / "file").read_text()] == ["old", "new"]


def test_colleagues_can_read_it(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_text_is_utf8_without_translation(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "Röntgen\r\n…\n")
    assert (tmp_path / "file").read_bytes() == "Röntgen\r\n…\n".encode()


def test_json_is_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"a": [1, None]})
    assert (tmp_path / "file").read_text() == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_refuses_what_json_cannot_hold(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "file", value)
    assert list(tmp_path.iterdir()) == []


CELLS = (
    *("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "a;=cmd", "a\n=cmd", "a\t=cmd", "'=1", "''=1"),
    "'",
    *(
        "=x.png",
        "-",
        "+",
        "-0.5",
        "+1,5e-3",
        "plain",
        "a, -b",
        "x=y",
        "",
        "it's",
        "007",
        "|=1",
        '"=1"',
        "=HYPERLINK(1)",
    ),
)


def test_no_cell_of_a_table_is_a_formula_and_all_come_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"=name": CELLS, "n": [-1.5] * len(CELLS), "-i": range(-3, len(CELLS) - 3)})
    write_csv(tmp_path / "a.csv", table)
    raw = pd.read_csv(tmp_path / "a.csv", keep_default_na=False, dtype={"'=name": str})
    assert list(raw.columns) == ["'=name", "n", "'-i"]
    for cell in raw["'=name"]:
        for start in re.split(r"[;\t\r\n]", cell):
            assert not start.startswith(("=", "+", "-", "@")) or cell in ("-", "+", "-0.5", "+1,5e-3")
    assert raw["n"].tolist() == table["n"].tolist()
    back = from_csv(raw)
    pd.testing.assert_frame_equal(back, table.astype({"=name": back["=name"].dtype}))


def test_a_full_disk_is_told_by_the_files_name_whatever_a_library_makes_of_it(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the disk: writing beyond it is an OSError as well."""
    program = """
import resource, signal, sys, pathlib, torch
from cxrlab.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = pathlib.Path(sys.argv[1])
write_atomically(path, lambda file: file.write(b"old"))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_atomically(path, lambda file: torch.save({"a": torch.zeros(100_000)}, file))
except OSError as error:
    print(type(error.__cause__).__name__, error.filename == str(path), path.read_bytes(), len([*path.parent.iterdir()]))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.ckpt")], capture_output=True, text=True)
    assert done.stdout == "RuntimeError True b'old' 1\n", done.stderr
