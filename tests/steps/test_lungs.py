"""Training the lung segmenter on phantoms: what it leaves behind, how it is loaded, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests import programs
from tests.training import without_pages

from cxrlab.audit import audit
from cxrlab.config import compose
from cxrlab.errors import CheckpointError, ConfigError
from cxrlab.evaluate import evaluate
from cxrlab.evaluation.overlap import dice
from cxrlab.reading.image import read_image
from cxrlab.runs.auxiliary import load_segmenter
from cxrlab.train import train

ROOT = Path(__file__).parents[2]
QUICK = [
    "experiment=lungs",
    "data.cohen=false",
    "data.phantoms=24",
    "data.folds=2",
    "data.image_size=32",
    "data.batch_size=2",
    "model.channels=[8,16,16]",
    "optimizer.lr=0.01",
    "trainer=cpu",
    "trainer.max_epochs=8",
]


def run_training(folder: Path, *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return train(compose("train", [*QUICK, *overrides], folder), [*QUICK, *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lungs") / "run"
    run_training(folder)
    return folder


@pytest.mark.slow
def test_what_a_run_leaves_behind(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    files = {"config.yaml", "overrides.yaml", "metrics.json", "masks.csv", "flow.csv", "lungs.ckpt"}
    assert names == files | {"report.md", "report.html", "figures", "history", "fold_1", "fold_2", "final"}
    assert {path.stem for path in (finished / "history").iterdir()} == {"fold_1", "fold_2", "final"}
    curves = EventAccumulator(str(finished / "fold_1"))
    curves.Reload()
    assert {"train/loss", "train/dice", "val/loss", "val/dice"} <= set(curves.Tags()["scalars"])


@pytest.mark.slow
def test_it_learns_and_every_image_is_measured_once_held_out(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    table = pd.read_csv(finished / "masks.csv")
    held_out = metrics["held_out"]["synthetic"]
    assert metrics["status"] == "finished"
    assert metrics["synthetic"] is True
    assert len(table) == held_out["images"] == 24
    assert held_out["people"] == table["person"].nunique() < 24
    assert held_out["dice"]["value"] == pytest.approx(table["dice"].mean())
    assert held_out["dice"]["low"] < held_out["dice"]["value"] < held_out["dice"]["high"]
    everything_lung = 2 * table["true_share"] / (1 + table["true_share"])
    assert table["dice"].mean() > everything_lung.mean() + 0.15
    assert (table["iou"] <= table["dice"]).all()


@pytest.mark.slow
def test_the_page_says_synthetic_and_shows_both_sheets(finished: Path) -> None:
    text, page = (finished / "report.md").read_text(), (finished / "report.html").read_text()
    assert text.startswith("# SYNTHETIC Lungs")
    assert "[" in text.partition("synthetic (drawn)")[2].partition("\n")[0]  # the interval
    for name in ("dice", "drawn", "worst", "curves"):
        assert (finished / "figures" / f"{name}.png").stat().st_size > 1000
    assert page.count("<figure>") == 4


@pytest.mark.slow
def test_what_is_loaded_finds_lungs(finished: Path) -> None:
    segment = load_segmenter(str(finished))
    assert segment.path == finished / "lungs.ckpt"
    assert segment.trained_on == ("synthetic",)
    assert segment.size == 32
    assert segment.fingerprint == json.loads((finished / "metrics.json").read_text())["weights"]
    table = pd.read_csv(finished / "masks.csv").head(6)
    images = np.stack([read_image(path).pixels for path in table["path"]])
    true = [read_image(path).pixels[..., 0] > 127 for path in table["mask"]]
    masks = segment(images)
    assert np.mean([dice(mask, each) for mask, each in zip(masks, true, strict=True)]) > 0.6


@pytest.mark.slow
def test_the_newest_finished_run_of_a_folder(finished: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new", "newer_but_interrupted")):
        shutil.copytree(finished, tmp_path / name)
        os.utime(tmp_path / name / "lungs.ckpt", (1e9 + number, 1e9 + number))
    (tmp_path / "newer_but_interrupted" / "metrics.json").write_text('{"status": "interrupted"}')
    assert load_segmenter(str(tmp_path)).path == tmp_path / "new" / "lungs.ckpt"
    assert load_segmenter(str(tmp_path / "old" / "lungs.ckpt")).path.parent.name == "old"


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    short = ["trainer.max_epochs=1", "data.phantoms=6", "logger=none"]
    found = [run_training(tmp_path / name, *short, f"seed={seed}")[0] for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert found[0]["weights"] == found[1]["weights"] != found[2]["weights"]


def test_nothing_there_says_what_to_type(tmp_path: Path) -> None:
    for lungs in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(CheckpointError, match=r"cxrlab-train experiment=lungs"):
            load_segmenter(str(lungs))


@pytest.mark.slow
def test_a_strangers_file_is_data_and_never_code(finished: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {}, "lungs": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(CheckpointError, match="refused"):
        load_segmenter(str(tmp_path / "trap.ckpt"))
    assert not (tmp_path / "ran").exists()

    good = torch.load(finished / "lungs.ckpt", weights_only=True)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"state_dict": good["state_dict"]}, "holds no lung segmenter"),
        (good | {"lungs": good["lungs"] | {"format": 2}}, "format 1"),
        (good | {"lungs": good["lungs"] | {"channels": [4, 8]}}, "its weights do not fit"),
        (good | {"lungs": good["lungs"] | {"channels": [1024] * 99}}, "2 to 6 whole numbers"),
        (good | {"lungs": good["lungs"] | {"image_size": 10**9}}, "image_size must be"),
        (good | {"lungs": good["lungs"] | {"image_size": 33}}, "multiple of 4"),
        (good | {"state_dict": {k: v.half() for k, v in good["state_dict"].items()}}, "float32"),
        (good | {"state_dict": 3}, "its state_dict must hold weights by name"),
    ]
    for checkpoint, message in wrong:
        torch.save(checkpoint, tmp_path / "wrong.ckpt")
        with pytest.raises(CheckpointError, match=message):
            load_segmenter(str(tmp_path / "wrong.ckpt"))
    (tmp_path / "cut.ckpt").write_bytes((finished / "lungs.ckpt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cut off"):
        load_segmenter(str(tmp_path / "cut.ckpt"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment=light", "augment=light: not read by task=segment"),
        ("weights=last", "weights=last: not read"),
        ("lungs=runs/x", "lungs=runs/x: not read"),
        ("data=synthetic", "needs data=lungs, as in experiment=lungs"),
        ("model=logistic", "needs model=lung_unet, as in experiment=lungs"),
        ("data.image_size=34", "must be a multiple of 4, got 34"),
        ("trainer.max_epochs=0", "max_epochs"),
        ("+data.fold=3", "data.fold"),
        ("ckpt_path=runs/lungs/x", "is not continued: repeat its command"),
    ],
)
def test_what_is_not_read_is_refused(override: str, message: str, tmp_path: Path) -> None:
    words = [each for each in QUICK if not override.startswith(("data=", "model=")) or each.startswith("experiment")]
    config = compose("train", [*words, override], tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        train(config, [*words, override])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten_and_not_continued(finished: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run already"):
        run_training(finished)
    config = compose("train", [f"ckpt_path={finished}"], finished)
    with pytest.raises(ConfigError, match="is not continued"):
        train(config, [f"ckpt_path={finished}"])


@pytest.mark.parametrize("option", ["data=lungs", "model=lung_unet"])
def test_masks_are_no_labels(option: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="segments lungs and calls no image Positive; it is for experiment=lungs only"
    ):
        train(compose("train", [option, "trainer=cpu"], tmp_path / "run"), [option])
    if option.startswith("data"):
        with pytest.raises(ConfigError, match="it is for experiment=lungs only"):
            audit(compose("audit", [option], tmp_path / "audit"), [option])


@pytest.mark.slow
def test_from_the_command_line_and_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train.py"), *QUICK, "logger=none", f"hydra.run.dir={tmp_path / 'run'}"]
    endless = [*command, "trainer.max_epochs=100000"]
    with subprocess.Popen(
        endless, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=programs.heed_ctrl_c
    ) as running:
        history = tmp_path / "run" / "history" / "fold_1.csv"
        while running.poll() is None and not history.exists():
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        try:
            said = running.communicate(timeout=60)[0]
        finally:
            running.kill()  # or leaving the block would wait for it
    assert running.returncode == 130, said
    assert "interrupted: no lungs.ckpt was written" in said
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] == "interrupted"
    with pytest.raises(CheckpointError, match="no finished run"):
        load_segmenter(str(tmp_path))


CLASSIFIER = [
    *("trainer=cpu", "trainer.max_epochs=1", "model=logistic", "logger=none", "data.image_size=32"),
    *("data.source.n_train=40", "data.source.n_test=16", "data.source.size=64"),
]


def classified(folder: Path, *typed: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with without_pages():
        return train(compose("train", [*CLASSIFIER, *typed], folder), [*CLASSIFIER, *typed])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a classifier that sees whole images."""
    folder = tmp_path_factory.mktemp("classifier") / "run"
    classified(folder)
    return folder / "checkpoints" / "model.ckpt"


def evaluated(folder: Path, *typed: str) -> dict[str, Any]:
    command = [*typed, "accelerator=cpu"]
    with without_pages():
        return evaluate(compose("evaluate", command, folder), command)[1]


@pytest.mark.slow
def test_a_classifier_of_lungs_sees_lungs_only_in_training_and_afterwards(finished: Path, tmp_path: Path) -> None:
    metrics, objects = classified(tmp_path / "run", "data.mask=lungs", f"lungs={finished}")
    pixels, lungs = objects["datamodule"].pixels[:], objects["datamodule"].lungs
    assert lungs.any(axis=(1, 2)).all()
    assert not pixels[~lungs].any()
    assert pixels[lungs].mean() > 30
    again = evaluated(tmp_path / "again", f"ckpt_path={tmp_path / 'run'}", f"lungs={finished}")
    np.testing.assert_array_equal(again["datamodule"].pixels, pixels)
    assert again["run"].results()["test"] == metrics["test"]


@pytest.mark.slow
def test_other_weights_find_other_lungs_and_are_refused(finished: Path, tmp_path: Path) -> None:
    classified(tmp_path / "run", "data.mask=lungs", f"lungs={finished}")
    checkpoint = torch.load(finished / "lungs.ckpt", weights_only=True)
    checkpoint["state_dict"] = {
        name: value + 1 if value.is_floating_point() else value for name, value in checkpoint["state_dict"].items()
    }
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"lungs that weights [0-9a-f]{12} found, and lungs=.*other\.ckpt has"):
        evaluated(tmp_path / "again", f"ckpt_path={tmp_path / 'run'}", f"lungs={tmp_path / 'other.ckpt'}")


@pytest.mark.slow
def test_images_are_altered_in_an_evaluation_as_they_were_in_training(tmp_path: Path) -> None:
    classified(tmp_path / "run", "data.alter=centre_black_50")
    others = [f"ckpt_path={tmp_path / 'run'}", "data=synthetic", "data.source.n_train=40", "data.source.n_test=16"]
    as_trained = evaluated(tmp_path / "altered", *others, "data.source.size=64")["datamodule"]
    intact = evaluated(tmp_path / "intact", *others, "data.source.size=64", "data.alter=none")["datamodule"]
    assert not as_trained.pixels[:][:, 8:24, 8:24].any()
    assert intact.pixels[:][:, 8:24, 8:24].any()


@pytest.mark.slow
@pytest.mark.parametrize("data", ["films", ["films"], None])
def test_a_strangers_checkpoint_whose_data_are_no_node_is_refused(data: Any, plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "strange.ckpt"
    checkpoint = torch.load(plain, weights_only=True)
    checkpoint["cxrlab"]["config"]["data"] = data
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=r"its config\.data must be a mapping"):
        evaluated(tmp_path / "new", f"ckpt_path={path}", "data=synthetic")
