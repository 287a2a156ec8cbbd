"""Runs that several tests of reports tell of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cxrlab.datamodules import FolderSource
from cxrlab.datamodules.pixels import read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.reports.record import RunRecord


@pytest.fixture
def record(class_folders: Callable[..., Path], tmp_path: Path) -> RunRecord:
    """Twelve training and six test images; the scores get two test images wrong, one of them badly."""
    root = class_folders(
        {f"{split}/{name}": n for split, n in (("train", 6), ("test", 3)) for name in ("NORMAL", "PNEUMONIA")}
    )
    manifest = FolderSource(str(root), {"NORMAL": 0, "PNEUMONIA": 1}).manifest()
    manifest["sha256"] = read_all(list(manifest["path"]), Preprocessing.create(16)).sha256
    test = manifest[manifest["split"] == "test"].reset_index(drop=True)
    scores = {0: [0.1, 0.2, 0.6], 1: [0.05, 0.8, 0.9]}
    test["score"] = [scores[label].pop(0) for label in test["label"]]
    return RunRecord(tmp_path / "run", {"data": {"image_size": 16}}, {}, {}, manifest, None, test, None, None, {}, [])


def altered(record: RunRecord, **data: Any) -> RunRecord:
    return replace(record, config={"data": {"image_size": 16, **data}})
