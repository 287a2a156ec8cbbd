"""Auditing: from what is typed to the page, on drawn and on real images; audit.py."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from tests import programs

from cxrlab import audit as program
from cxrlab.audit import audit
from cxrlab.checks import Section, Verdict, confounders
from cxrlab.config import compose
from cxrlab.errors import ConfigError

SMALL = ["data.source.n_train=60", "data.source.n_test=24", "data.source.size=128"]
ClassFolders = Callable[..., Path]


def audited(typed: list[str], folder: Path) -> dict[str, Any]:
    audit(compose("audit", typed, folder), typed)
    found: dict[str, Any] = json.loads((folder / "audit.json").read_text())
    return found


def verdicts(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """By check: verdict and evidence."""
    return {row["check"]: (row["verdict"], row["evidence"]) for row in found["verdicts"]}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audit of phantoms without a shortcut."""
    folder = tmp_path_factory.mktemp("clean")
    audited(SMALL, folder)
    return folder


@pytest.mark.slow
def test_an_audit_leaves_its_page_its_numbers_and_what_it_looked_at(clean: Path) -> None:
    names = {path.name for path in clean.iterdir()}
    assert {"audit.html", "audit.md", "audit.json", "manifest.csv", "flow.csv", "settings.yaml", "figures"} <= names
    manifest = pd.read_csv(clean / "manifest.csv")
    assert len(manifest) == 84
    assert manifest["film"].nunique() == 84
    assert set(manifest["split"]) == {"train", "test"}
    flow = pd.read_csv(clean / "flow.csv")
    assert flow["images"].iloc[-1] == 84
    assert "SYNTHETIC" in (clean / "audit.md").read_text().splitlines()[0]


@pytest.mark.slow
def test_verdicts_come_most_serious_first(clean: Path) -> None:
    found = json.loads((clean / "audit.json").read_text())
    order = ["FAIL", "WARN", "NOT CHECKED", "PASS"]
    places = [order.index(row["verdict"]) for row in found["verdicts"]]
    assert places == sorted(places)
    assert all(row["evidence"] and "\n" not in row["evidence"] for row in found["verdicts"])


@pytest.mark.slow
def test_an_audit_is_not_written_over(clean: Path) -> None:
    with pytest.raises(ConfigError, match="holds an audit already"):
        audited(SMALL, clean)


def test_a_leak_and_an_unreadable_file_are_findings(class_folders: ClassFolders, tmp_path: Path) -> None:
    root = class_folders({"train/NORMAL": 12, "train/PNEUMONIA": 12, "test/NORMAL": 6, "test/PNEUMONIA": 6})
    shutil.copy(root / "train/NORMAL/NORMAL_000.png", root / "test/NORMAL/copy.png")
    (root / "train/NORMAL/NORMAL_001.png").write_bytes(b"no image")
    typed = ["data=folder", f"data.source.root={root}", "data.source.labels={NORMAL: 0, PNEUMONIA: 1}"]
    found = audited(typed, tmp_path / "audit")
    text = (tmp_path / "audit/audit.md").read_text()
    assert "copy.png" in text
    assert "NORMAL_001.png" in text
    flow = pd.read_csv(tmp_path / "audit/flow.csv")
    assert flow[["removed", "images"]].iloc[-1].tolist() == [1, 36]
    assert any(row["verdict"] == "FAIL" and "test" in row["evidence"] for row in found["verdicts"])


@pytest.mark.slow
def test_an_audit_ends_with_the_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, errors = programs.run("audit", *SMALL, "data.source.shortcut=border", "strict=true")
    assert status == program.FAILED, errors
    assert errors == ""
    last = printed.splitlines()[-1]
    assert last.startswith("audit")
    assert last.endswith("audit.html")
    page = tmp_path / last.split(maxsplit=1)[1]
    assert page.is_file()
    assert page.parent.parent.name == "synthetic"
    assert "FAIL" in printed
    assert "PASS" in printed


@pytest.mark.slow
def test_a_second_audit_reads_no_image(
    class_folders: ClassFolders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = class_folders({"train/NORMAL": 12, "train/PNEUMONIA": 12, "test/NORMAL": 6, "test/PNEUMONIA": 6})
    typed = ["data=folder", f"data.source.root={root}", "data.source.labels={NORMAL: 0, PNEUMONIA: 1}"]
    first = audited(typed, tmp_path / "1")
    monkeypatch.setattr("cxrlab.datamodules.cache.read_image", lambda path: pytest.fail(f"{path} was read"))
    second = audited(typed, tmp_path / "2")
    assert second["verdicts"] == first["verdicts"]


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        audited(["seed=-1", "strict=maybe", "data.views=PA", "data.duplicates=dorp"], tmp_path)
    message = str(caught.value)
    assert "seed" in message
    assert "strict" in message
    assert not (tmp_path / "audit.json").exists()


@pytest.fixture(scope="module")
def paper(paper_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Section]]:
    """The audit of the paper's images: its folder, and the sections by title."""
    folder, typed = tmp_path_factory.mktemp("paper"), [f"data.source.root={paper_root}", "data=paper"]
    return folder, {section.title: section for section in audit(compose("audit", typed, folder), typed)["sections"]}


@pytest.mark.slow
def test_the_papers_set(paper: tuple[Path, dict[str, Section]]) -> None:
    found = json.loads((paper[0] / "audit.json").read_text())
    told = "\n".join(f"{row['verdict']} {row['check']}: {row['evidence']}" for row in found["verdicts"])
    text = (paper[0] / "audit.md").read_text()
    assert found["verdicts"][0]["verdict"] == "FAIL"
    assert "11 SARS" in told or "SARS 11" in told
    assert "Streptococcus 5" in told or "5 Streptococcus" in told
    assert "4 of 20" in told
    assert "40 of 40" in text
    assert "near-duplicate" in text


@pytest.mark.slow
def test_the_papers_images_need_no_lung(paper: tuple[Path, dict[str, Section]]) -> None:
    section = paper[1][confounders.TITLE]
    found = {finding.check.removeprefix("label told by the "): finding for finding in section.findings}
    assert found["edges of the images"].verdict is Verdict.FAIL
    assert "left strip and one threshold 40" in found["edges of the images"].evidence
    inputs = section.facts["inputs"]
    right = {name: one["test"]["right"] for name, one in inputs.items()}
    assert right["corners"] == 39
    assert 37 <= right["frame"] <= 39
    assert 37 <= right["wide_frame"] <= 39
    assert 38 <= right["thumbnail"] <= 40
    assert section.facts["strips"]["left"]["test"] == (40, 40)
    assert inputs["size"]["cv_auroc"].value == pytest.approx(0.83, abs=0.03)
    assert inputs["wide_frame"]["cv_auroc"].value == pytest.approx(0.97, abs=0.02)
    assert 0.45 < inputs["frame"]["permuted"]["mean"] < 0.55


@pytest.mark.slow
def test_one_image_in_two_collections_is_found_although_it_was_cropped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    films = [cv2.GaussianBlur(rng.integers(0, 256, (400, 400), dtype=np.uint8), (0, 0), 3) for _ in range(24)]
    rows = []
    for name, part in (("a", films[:16]), ("b", [film[20:380, 10:390] for film in films[:3]] + films[16:])):
        for number, film in enumerate(part):
            path = tmp_path / f"{name}{number}.png"
            cv2.imwrite(str(path), cv2.equalizeHist(film))
            rows.append((name, path.name, number % 2))
    for name in ("a", "b"):
        table = pd.DataFrame([row[1:] for row in rows if row[0] == name], columns=["path", "label"])
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    typed = ["data=concat", "data/source@data.source.sources.first=manifest"]
    typed += ["data/source@data.source.sources.second=manifest"]
    for slot, name in (("first", "a"), ("second", "b")):
        typed += [f"data.source.sources.{slot}.path={tmp_path / name}.csv", f"data.source.sources.{slot}.name={name}"]
    found = audited(typed, tmp_path / "audit")
    pairs = pd.read_csv(tmp_path / "audit/manifest.csv").groupby("film").size()
    assert (pairs == 2).sum() == 3
    assert any("3" in row["evidence"] and "film" in row["check"] + row["evidence"] for row in found["verdicts"])
