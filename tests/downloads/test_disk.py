"""A disk without room, and one that cannot be written."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.downloads.conftest import Server, below, get, refused

from cxrlab.downloads import unpacking


def test_no_room(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000))
    told = refused(lambda: get(tmp_path, server))
    assert told.startswith(f"{tmp_path}: 0.0 MB are free, and {server.url} needs 0.1 MB; make room, or choose another")


def test_a_disk_that_is_full_in_the_middle(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(unpacking, "_pour", full)
    told = refused(lambda: get(tmp_path, server))
    assert "cannot be written (No space left on device); make room there" in told
    assert below(tmp_path) == {f".covid-chestxray-dataset.zip.part{end}" for end in ("", ".json")}


def test_a_folder_that_is_a_file(tmp_path: Path, server: Server) -> None:
    (tmp_path / "data").touch()
    assert f"{tmp_path / 'data'}: cannot be written (File exists)" in refused(lambda: get(tmp_path / "data", server))
