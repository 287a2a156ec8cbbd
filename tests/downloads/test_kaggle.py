"""Collections on Kaggle, with something that stands in for kagglehub."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.downloads.conftest import archive, below, by_hand, refused

from cxrlab.downloads import COLLECTIONS, download

PAPER = COLLECTIONS["paper"]


@pytest.fixture
def kagglehub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stands in for kagglehub, whose cache holds the paper's set."""
    cached = tmp_path / "cache" / "versions" / "4"
    for name in ("train/NORMAL/a.jpeg", "test/PNEUMONIA/b.jpeg", "notes.txt"):
        (cached / "xray_dataset_covid19" / name).parent.mkdir(parents=True, exist_ok=True)
        (cached / "xray_dataset_covid19" / name).write_bytes(b"film")
    module = SimpleNamespace(asked=[], error=None)

    def dataset_download(handle: str) -> str:
        module.asked.append(handle)
        if module.error:
            raise module.error
        return str(cached)

    module.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", module)
    return module


def test_from_kaggle(kagglehub: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = download(PAPER, tmp_path / "data")
    assert kagglehub.asked == ["khoongweihao/covid19-xray-dataset-train-test-sets"]
    assert below(folder) == {"train/NORMAL/a.jpeg", "test/PNEUMONIA/b.jpeg", "download.json"}
    record = json.loads((folder / "download.json").read_text())
    assert (record["kaggle"], record["version"], record["files"]) == (PAPER.kaggle, "4", 2)
    assert record["sha256_checked"].startswith("NOT CHECKED")
    assert "NOT CHECKED: kagglehub hands over files" in capsys.readouterr().out


def test_what_kagglehub_says_is_passed_on(kagglehub: SimpleNamespace, tmp_path: Path) -> None:
    kagglehub.error = ConnectionError("no route\nto kaggle")
    told = refused(lambda: download(PAPER, tmp_path / "data"))
    assert (
        f"kagglehub could not fetch {PAPER.kaggle}: no route to kaggle. Or get its ZIP archive from {PAPER.page}"
        in told
    )
    assert list((tmp_path / "data").iterdir()) == []


def test_without_kagglehub_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    told = refused(lambda: download(PAPER, tmp_path))
    assert "needs kagglehub, which is not installed: type `pip install 'cxrlab[kaggle]'`, or get its ZIP" in told


def test_a_checksum_needs_an_archive(kagglehub: SimpleNamespace, tmp_path: Path) -> None:
    assert "sha256: belongs to an archive" in refused(lambda: download(PAPER, tmp_path, sha256="0" * 64))
    assert kagglehub.asked == []


def test_a_mirror_does_without_kaggle(kagglehub: SimpleNamespace, tmp_path: Path) -> None:
    by_hand(tmp_path, archive({"x/train/NORMAL/a.jpeg": b"", "x/test/NORMAL/b.jpeg": b""}), PAPER)
    assert kagglehub.asked == []
