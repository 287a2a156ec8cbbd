"""Every option of the group `data`, from what is typed to a trained network: on the real sets, or in their layouts."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from tests.training import without_pages

from cxrlab.config import compose
from cxrlab.datamodules import manifest as mf
from cxrlab.evaluate import evaluate
from cxrlab.reading.image import read_image
from cxrlab.train import train

QUICK = ["model=paper_cnn_small", "data.image_size=32", "trainer=cpu", "trainer.max_epochs=1", "logger=none"]
FOLDERS = {"cohen": "covid-chestxray-dataset", "darkcovidnet": "darkcovidnet", "paper": "xray_dataset_covid19"}
ClassFolders = Callable[..., Path]


def trained(folder: Path, *typed: str, pages: bool = False) -> tuple[dict[str, Any], Any]:
    """Metrics and the manifest's data module of a short run, whose report is looked at if it is written."""
    overrides = [*QUICK, *typed]
    with nullcontext() if pages else without_pages():
        metrics, objects = train(compose("train", overrides, folder / "run"), overrides)
    assert np.isfinite(metrics["test"]["auroc"].value)
    flow = objects["datamodule"].flow.table()
    assert flow["images"].iloc[-1] == len(objects["datamodule"].manifest)
    assert (folder / "run" / "flow.csv").is_file()
    if pages:
        assert "Flow of cases" in (folder / "run" / "report.md").read_text()
    return metrics, objects["datamodule"]


def real(name: str) -> str:
    data = Path(os.environ.get("CXRLAB_DATA") or Path(__file__).parents[1] / "data")
    if not (data / FOLDERS[name]).is_dir():
        pytest.skip(f"NOT CHECKED: {data / FOLDERS[name]} is missing; set CXRLAB_DATA to the folder that holds it")
    return str(data / FOLDERS[name])


def picture(path: Path, number: int) -> None:
    """Files that differ, smooth enough to be taken for films."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(pixels, (64, 48), interpolation=cv2.INTER_CUBIC))


@pytest.mark.slow
def test_cohen_of_one_view_and_one_film_per_patient(tmp_path: Path) -> None:
    typed = [f"data.source.root={real('cohen')}", "data.views=[PA]", "data.min_age=18", "data.limit_per_patient=1"]
    metrics, datamodule = trained(tmp_path, "data=cohen", "data.on_error=skip", *typed)
    table = datamodule.manifest
    assert set(table["view"]) == {"PA"}
    assert not table["patient_id"].duplicated().any()
    assert mf.leaks(table) == []
    assert any("left out" in warning for warning in metrics["warnings"])
    steps = datamodule.flow.table()
    assert steps["images"].iloc[0] == 751
    assert steps["images"].iloc[0] - steps["removed"].sum() == len(table)


@pytest.mark.slow
def test_darkcovidnet_balanced(tmp_path: Path) -> None:
    _, datamodule = trained(
        tmp_path, "data=darkcovidnet", f"data.source.root={real('darkcovidnet')}", "data.balance=true"
    )
    assert datamodule.manifest["label"].value_counts().tolist() == [124, 124]


@pytest.mark.slow
def test_concat_drops_shared_films_when_asked(tmp_path: Path) -> None:
    roots = [
        f"data.source.sources.first.root={real('paper')}",
        f"data.source.sources.second.root={real('darkcovidnet')}",
    ]
    _, datamodule = trained(tmp_path, "data=concat", "data.duplicates=drop", "data.resplit=true", *roots)
    assert set(datamodule.manifest["source"]) == {"paper", "darkcovidnet"}
    assert not datamodule.manifest["film"].duplicated().any()


@pytest.mark.slow
def test_which_collection_tells_collections_and_no_disease(tmp_path: Path) -> None:
    roots = [
        f"data.source.sources.first.root={real('darkcovidnet')}",
        f"data.source.sources.first.metadata={real('cohen')}/metadata.csv",
        f"data.source.sources.second.root={real('cohen')}",
    ]
    typed = ["data.on_error=skip", "data.limit_per_patient=1", *roots]
    metrics, datamodule = trained(tmp_path, "data=which_collection", *typed, pages=True)
    table = datamodule.manifest
    assert table.groupby("label")["source"].unique().map(list).to_dict() == {0: ["darkcovidnet"], 1: ["cohen"]}
    assert not table["finding"].str.contains("COVID-19").any()
    assert mf.leaks(table) == []
    said = " ".join(metrics["warnings"])
    assert "the label is the collection, not a disease: Positive means an image of cohen" in said
    card = (tmp_path / "run" / "model_card.md").read_text()
    assert "telling any disease" in card
    assert "cannot be told apart from the disease" not in card + (tmp_path / "run" / "report.md").read_text()


@pytest.mark.slow
def test_kermany(tmp_path: Path) -> None:
    number = 0
    for split, count in (("train", 12), ("val", 2), ("test", 4)):
        for _ in range(count):
            for name in (f"NORMAL/IM-{number:04}-0001.jpeg", f"PNEUMONIA/person{number}_bacteria_{number}.jpeg"):
                picture(tmp_path / "set" / split / name, 2 * number + name.startswith("P"))
            number += 1
    _, datamodule = trained(tmp_path, "data=kermany", f"data.source.root={tmp_path / 'set'}", pages=True)
    assert datamodule.manifest.groupby("split").size().to_dict() == {"test": 8, "train": 24, "val": 4}
    assert set(datamodule.manifest["population"]) == {"child"}


@pytest.mark.slow
def test_actualmed(tmp_path: Path) -> None:
    rows = []
    for number in range(30):
        finding = ("COVID-19", "No finding", "")[number % 3]
        rows.append({"patientid": f"ANON{number}", "finding": finding, "view": "PA", "imagename": f"DX.{number}.png"})
        picture(tmp_path / "set" / "images" / f"DX.{number}.png", number)
    columns = ["patientid", "offset", "sex", "age", "finding", "survival", "view", "modality", "imagename", "notes"]
    table = pd.DataFrame(rows).reindex(columns=columns).assign(modality="X-ray")
    table.to_csv(tmp_path / "set" / "metadata.csv", index=False)
    _, datamodule = trained(tmp_path, "data=actualmed", f"data.source.root={tmp_path / 'set'}")
    assert datamodule.manifest["label"].value_counts().tolist() == [10, 10]


@pytest.mark.slow
def test_a_table_of_ones_own_and_the_manifest_of_a_run(tmp_path: Path) -> None:
    for number in range(24):
        picture(tmp_path / "films" / f"{number}.png", number)
    labels = ["Negative", "Negative", "Positive", "Positive"] * 6  # of twelve patients
    columns = {
        "path": [f"films/{n}.png" for n in range(24)],
        "label": labels,
        "patient_id": [n // 2 for n in range(24)],
    }
    pd.DataFrame(columns).to_csv(tmp_path / "mine.csv", index=False)
    _, first = trained(tmp_path, "data=manifest", f"data.source.path={tmp_path / 'mine.csv'}")
    written = tmp_path / "run" / "manifest.csv"
    _, again = trained(tmp_path / "again", "data=manifest", f"data.source.path={written}")
    assert mf.fingerprint(again.manifest) == mf.fingerprint(first.manifest)


@pytest.mark.slow
def test_preprocessing_reaches_the_network_and_travels_with_the_weights(tmp_path: Path) -> None:
    small = ["data.source.n_train=16", "data.source.n_test=8", "data.source.size=64"]
    options = ["data.fit=pad", "data.contrast=histeq", "data.border=0.1"]
    metrics, changed = trained(tmp_path, *small, *options)
    plain = changed.source.manifest()["path"].map(lambda path: cv2.resize(read_image(path).pixels, (32, 32))).tolist()
    assert changed.pixels.shape == (24, 32, 32, 3)
    assert (changed.pixels[:] != np.stack(plain)).any()
    typed = [f"ckpt_path={tmp_path / 'run'}", "accelerator=cpu"]
    with without_pages():
        again, objects = evaluate(compose("evaluate", typed, tmp_path / "evaluated"), typed)
    assert objects["datamodule"].preprocessing == changed.preprocessing
    assert again["test"]["auroc"] == metrics["test"]["auroc"]
