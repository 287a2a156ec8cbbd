"""Trivial baselines beside a run: from which images, and what is kept of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import pandas as pd
import pytest
from tests.reports.conftest import altered

from cxrlab.datamodules.pixels import read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.evaluation import summarise
from cxrlab.evaluation.estimate import revived
from cxrlab.reports import baselines, run_report
from cxrlab.reports.record import RunRecord


def test_baselines_are_fitted_on_training_images_and_kept_and_then_need_no_image(record: RunRecord) -> None:
    table, reason = baselines.scores(record)
    assert reason == ""
    assert table is not None
    assert list(table["split"]) == ["test"] * 6
    assert list(table["majority"]) == [0.5] * 6
    assert list(table["left_strip"] >= 0.5) == list(table["label"] == 1)  # the positives of the fixture are brighter
    kept = pd.read_csv(record.folder / "baselines.csv")
    assert list(kept["thumbnail_8x8"]) == pytest.approx(list(table["thumbnail_8x8"]))
    images = read_all(list(record.manifest["path"]), Preprocessing.create(16)).images
    for path in record.manifest["path"]:
        Path(path).unlink()
    assert baselines.scores(replace(record, baselines=table))[0] is table
    at_hand, _ = baselines.scores(record, images)
    assert at_hand is not None
    pd.testing.assert_frame_equal(at_hand, table)


@pytest.mark.parametrize("what", ["missing", "changed"])
def test_other_images_are_not_used(record: RunRecord, what: str) -> None:
    path = Path(record.manifest["path"][0])
    if what == "missing":
        path.unlink()
    else:
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(path), 255 - image)
    table, reason = baselines.scores(record)
    assert table is None
    assert reason == f"1 of 18 images are missing or changed since the run, such as {path}"
    assert str(path) in run_report.samples(record).replace("\\_", "_")
    assert not (record.folder / "baselines.csv").exists()


def test_what_cannot_be_read_again_gives_no_baselines(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(run: RunRecord) -> str:
        table, said = baselines.scores(run)
        assert table is None
        return said

    only_test = replace(record, manifest=record.rows("test"))
    assert reason(only_test).startswith("the manifest holds no training images")
    assert reason(altered(record, alter="tiny_8")) == (
        "the run trained on altered images (data.alter=tiny_8), and its baselines.csv is not there"
    )
    unhashed = replace(record, manifest=record.manifest.drop(columns="sha256"))
    assert reason(unhashed).startswith("the manifest holds no sha256")
    monkeypatch.setattr(baselines, "MOST_IMAGES", 17)
    assert reason(record) == "18 images would have to be read again (at most 17 are)"


def test_summaries_are_kept_for_all_who_tell_of_the_run(record: RunRecord) -> None:
    rows = record.predictions
    assert rows is not None
    section = summarise(rows["label"], rows["score"], rows["path"], resamples=200)
    run = replace(record, metrics={"test": section})
    found, reason = baselines.compare(run)
    assert reason == ""
    strip = found.beside["left_strip"]
    assert (strip["right"], strip["n"], strip["only_network"], strip["only_baseline"]) == (6, 6, 0, 2)
    kept = revived(json.loads((record.folder / "baselines.json").read_text()))
    assert kept == found.beside
    assert baselines.compare(replace(run, metrics={})) == (replace(run, metrics={}), "no test image was evaluated")
