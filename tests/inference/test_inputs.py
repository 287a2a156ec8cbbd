"""Which files input=… means: inference/inputs.py."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cxrlab.errors import DataError
from cxrlab.inference import list_inputs


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    for name in ("b.png", "a.JPG", "sub/c.dcm", "sub/IM000001", "notes.txt", "sub/more.txt", "x.csv", ".hidden.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(folder: Path, paths: list[str]) -> list[str]:
    return [str(Path(path).relative_to(folder)) for path in paths]


def test_a_folder_is_gone_through_and_what_is_left_out_is_counted(scans: Path) -> None:
    found = list_inputs(str(scans))
    assert names(scans, found.paths) == ["a.JPG", "b.png", "sub/IM000001", "sub/c.dcm"]
    assert found.left_out == {".txt": 2, ".csv": 1}


def test_a_file_is_taken_whatever_its_name(scans: Path) -> None:
    assert list_inputs(str(scans / "notes.txt")).paths == [str(scans / "notes.txt")]


def test_patterns_and_lists_give_every_file_once(scans: Path) -> None:
    found = list_inputs([f"{scans}/**/*.dcm", str(scans / "b.png"), str(scans)])
    assert names(scans, found.paths) == ["sub/c.dcm", "b.png", "a.JPG", "sub/IM000001"]


def test_a_name_with_the_characters_of_a_pattern_is_a_file_where_it_is_one(scans: Path) -> None:
    odd = scans / "film[1].png"
    odd.write_bytes(b"x")
    assert list_inputs(str(odd)).paths == [str(odd)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_lists_paths_relative_to_its_own_folder(separator: str, scans: Path) -> None:
    absolute = str(scans / "b.png")
    lines = [f"path{separator}note", f"sub/c.dcm{separator}first", f'"{absolute}"{separator}second', f"{separator}none"]
    (scans / "list.csv").write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    assert list_inputs(str(scans / "list.csv")).paths == [str(scans / "sub/c.dcm"), absolute]


@pytest.mark.parametrize("suffix", [".csv.gz", ".tsv", ".CSV"])
def test_a_table_may_be_packed_or_of_tabs(suffix: str, scans: Path) -> None:
    data = b"path\tnote\nsub/c.dcm\tfirst\n"
    (scans / f"list{suffix}").write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert list_inputs(str(scans / f"list{suffix}")).paths == [str(scans / "sub/c.dcm")]


@pytest.fixture
def deep(scans: Path) -> Iterator[Path]:
    """1,500 folders in each other, with a file in the last; pytest could not remove them again."""
    with contextlib.chdir(scans):
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        Path("deep.png").write_bytes(b"x")
        yield scans
        Path("deep.png").unlink()
        for _ in range(1500):
            os.chdir("..")
            Path("d").rmdir()


def test_folders_of_any_depth_are_gone_through(deep: Path) -> None:
    for given in (str(deep), f"{deep}/**/*.png"):
        assert any(path.endswith("/d/deep.png") for path in list_inputs(given).paths)


def test_a_folder_that_cannot_be_listed_stands_in_the_list(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may list everything
    for given in (str(scans), f"{scans}/**/*.png"):
        assert str(scans / "sub") in list_inputs(given).paths


def test_pipes_and_sockets_stand_in_the_list(scans: Path) -> None:
    os.mkfifo(scans / "pipe.png")
    assert list_inputs(str(scans / "pipe.png")).paths == [str(scans / "pipe.png")]
    assert str(scans / "pipe.png") in list_inputs(str(scans)).paths


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_impossible_names_are_no_file(name: str) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        list_inputs(name)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.png", ["b.png"]),
        ("**/c.*", ["sub/c.dcm"]),
        ("**", ["a.JPG", "b.png", "notes.txt", "x.csv", "sub/IM000001", "sub/c.dcm", "sub/more.txt"]),
        ("**/sub/**/[ac]*", ["sub/c.dcm"]),
        ("**/**/*.txt", ["notes.txt", "sub/more.txt"]),
        ("s?b/**/I*", ["sub/IM000001"]),
        ("**/.hidden*", [".hidden.png"]),
    ],
)
def test_a_pattern_with_two_stars_goes_into_folders(scans: Path, pattern: str, expected: list[str]) -> None:
    (scans / "sub" / "again").symlink_to(scans)
    (scans / "sub" / "here").symlink_to(".")
    assert sorted(names(scans, list_inputs(f"{scans}/{pattern}").paths)) == sorted(expected)


def test_a_link_that_leads_in_circles_ends(scans: Path) -> None:
    (scans / "again").symlink_to(scans)
    assert len(list_inputs(str(scans)).paths) == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("scan", r"no such file or folder; did you mean 'scans'\?"),
        ("*.tif", "no image file there"),
        ("empty", "no image file there"),
        ("only_text", r"no image file there \(1 \.txt left out\)"),
        ("wrong.csv", r"no column `path` \(there are: file, x\)"),
        ("binary.csv", "no column `path`"),
        ("gone", "a link to a file that is not there"),
        ("a\0b", "no such file or folder"),
    ],
)
def test_what_is_no_input(given: str, says: str, scans: Path, tmp_path: Path) -> None:
    for folder in ("empty", "only_text"):
        (tmp_path / folder).mkdir()
    (tmp_path / "only_text" / "a.txt").write_text("x")
    (tmp_path / "wrong.csv").write_text("file,x\n1,2\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\0\x81" * 50)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=says):
        list_inputs(str(tmp_path / given))
