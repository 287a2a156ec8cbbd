"""What is kept on disk of image files: datamodules/shelf.py."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest

from cxrlab.datamodules import films
from cxrlab.datamodules.cache import shelf
from cxrlab.datamodules.cache.shelf import Shelf, key_of, version_of
from cxrlab.reading import image as reading


def test_what_is_kept_is_fetched_by_any_shelf_of_that_version(tmp_path: Path) -> None:
    first = Shelf(tmp_path, "v1")
    assert first.fetch("abc") is None
    first.keep("abc", b"measured")
    assert Shelf(tmp_path, "v1").fetch("abc") == b"measured"
    assert Shelf(tmp_path, "v2").fetch("abc") is None
    assert first.notes == []


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:6] + b"X" + data[7:]])
def test_what_is_damaged_is_not_there(tmp_path: Path, damage: object) -> None:
    kept = Shelf(tmp_path, "v1")
    kept.keep("abc", b"measured")
    (file,) = (path for path in tmp_path.rglob("abc") if path.is_file())
    assert callable(damage)
    file.write_bytes(damage(file.read_bytes()))
    assert kept.fetch("abc") is None
    kept.keep("abc", b"again")
    assert kept.fetch("abc") == b"again"


def test_a_folder_that_cannot_be_written_is_noted_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    kept = Shelf(tmp_path / "file", "v1")
    kept.keep("abc", b"measured")
    kept.keep("def", b"measured")
    (note,) = kept.notes
    assert f"could not be kept in {tmp_path / 'file' / 'v1'}" in note
    assert "CXRLAB_CACHE" in note


def test_a_key_belongs_to_one_state_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    assert key_of(str(file)) is None
    assert key_of("a\0b") is None
    file.write_bytes(b"123")
    os.utime(file, ns=(1, 1))
    before = key_of(str(file))
    assert before is not None
    assert key_of(str(file)) == before
    os.utime(file, ns=(1, 2))
    assert key_of(str(file)) != before
    os.utime(file, ns=(1, 1))
    file.write_bytes(b"1234")
    os.utime(file, ns=(1, 1))
    assert key_of(str(file)) != before


def test_a_version_belongs_to_code_layout_and_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {version_of((reading,), "x"), version_of((reading, films), "x"), version_of((reading,), "y")}
    monkeypatch.setattr(cv2, "__version__", "0.0")
    versions.add(version_of((reading,), "x"))
    assert len(versions) == 4
    assert all(len(version) == 16 for version in versions)
    assert version_of((shelf,), "x") == version_of((shelf,), "x")
