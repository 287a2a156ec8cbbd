"""Training a gate, on phantoms: what it leaves behind, what it refuses, how it is loaded, and what is not read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from cxrlab.audit import audit
from cxrlab.config import compose
from cxrlab.datamodules import SyntheticSource
from cxrlab.errors import CheckpointError, ConfigError, DivergedError
from cxrlab.evaluate import evaluate
from cxrlab.models.gate import ACCEPT, KINDS, REFUSE, VERDICTS
from cxrlab.reading.image import read_image
from cxrlab.runs.auxiliary import load_gate
from cxrlab.runs.folder import GATE
from cxrlab.train import train

QUICK = [
    "experiment=gate",
    "data.cohen=false",
    "data.photographs=false",
    "data.phantoms=30",
    "data.drawn=30",
    "data.folds=2",
    "data.image_size=32",
    "data.epoch_images=400",
    "data.batch_size=16",
    "model.channels=[8,16,16]",
    "model.dropout=0",
    "optimizer.lr=0.01",
    "trainer=cpu",
    "trainer.max_epochs=6",
]


def run_training(folder: Path, *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return train(compose("train", [*QUICK, *overrides], folder), [*QUICK, *overrides])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate") / "run"
    run_training(folder)
    return folder


@pytest.mark.slow
def test_what_a_run_leaves_behind(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    files = {"config.yaml", "overrides.yaml", "metrics.json", "gate.csv", "flow.csv", "gate.ckpt"}
    assert names == files | {"report.md", "report.html", "figures", "history", "fold_1", "fold_2", "final"}
    assert {path.stem for path in (finished / "history").iterdir()} == {"fold_1", "fold_2", "final"}
    assert {path.stem for path in (finished / "figures").iterdir()} == {"least", "most", "probabilities", "curves"}


@pytest.mark.slow
def test_every_picture_is_judged_once_held_out_and_the_counts_are_those_of_the_table(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    table = pd.read_csv(finished / "gate.csv")
    held_out = metrics["held_out"]
    assert metrics["status"] == "finished"
    assert metrics["task"] == "gate"
    assert metrics["synthetic"] is True
    assert len(table) == metrics["images"] == 30 * 5 + 60
    assert table[[f"p_{kind}" for kind in KINDS]].sum(axis=1).to_numpy() == pytest.approx(1)
    assert set(table["verdict"]) <= set(VERDICTS)
    for kind, rows in table.groupby("kind"):
        assert held_out["kinds"][kind]["images"] == len(rows)
        for verdict in VERDICTS:
            assert held_out["kinds"][kind][verdict] == (rows["verdict"] == verdict).sum()
    films, others = table[table["kind"] == "frontal"], table[table["kind"] != "frontal"]
    assert held_out["false_refusal"]["value"] == pytest.approx((films["verdict"] == REFUSE).mean())
    assert held_out["false_acceptance"]["value"] == pytest.approx((others["verdict"] == ACCEPT).mean())
    assert held_out["false_refusal"]["n_patients"] == films["person"].nunique() < len(films)
    assert held_out["false_refusal"]["low"] <= held_out["false_refusal"]["value"] <= held_out["false_refusal"]["high"]
    assert held_out["collections"].keys() == {"synthetic"}
    assert held_out["collections"]["synthetic"]["warned"]["value"] == pytest.approx((films["verdict"] == "warn").mean())
    assert held_out["left_out"] == []  # there is one collection only
    assert "of another collection: NOT CHECKED" in (finished / "report.md").read_text()


@pytest.mark.slow
def test_it_learns(finished: Path) -> None:
    held_out = json.loads((finished / "metrics.json").read_text())["held_out"]
    assert held_out["false_refusal"]["value"] < 0.1
    assert held_out["false_acceptance"]["value"] < 0.05
    assert held_out["kinds"]["turned_90"]["refused"]["value"] > 0.9


@pytest.mark.slow
def test_the_page_says_synthetic_and_what_it_cannot_do(finished: Path) -> None:
    text, page = (finished / "report.md").read_text(), (finished / "report.html").read_text()
    assert text.startswith("# SYNTHETIC Gate")
    assert "What it cannot do" in text
    assert page.count("<figure>") == 4
    row = next(line for line in text.splitlines() if line.startswith("| frontal films refused"))
    assert "of 30 |" in row
    assert "[" in row


@pytest.mark.slow
def test_what_is_loaded_judges_phantoms_it_has_never_seen(finished: Path, cache: Path) -> None:
    gate = load_gate(str(finished))
    assert gate.fingerprint == json.loads((finished / "metrics.json").read_text())["gate"]
    assert gate.synthetic
    assert gate.trained_on == ("drawn", "synthetic")
    assert gate.held_out["false_refusal"]["n_patients"] > 1
    source = SyntheticSource(str(cache), n_train=20, n_test=2, size=200, seed=7)
    films = [read_image(path).pixels for path in source.manifest().query("split == 'train'")["path"]]
    upright = [each.verdict for each in gate(films)]
    turned = [each.verdict for each in gate([np.ascontiguousarray(np.rot90(film)) for film in films])]
    inverted = [each.verdict for each in gate([255 - film for film in films])]
    assert upright.count(REFUSE) <= 2
    assert turned.count(ACCEPT) + inverted.count(ACCEPT) <= 2
    assert turned.count(REFUSE) > 15


@pytest.mark.slow
def test_photographs_are_refused_and_phantoms_are_not(tmp_path: Path) -> None:
    pytest.importorskip("skimage", reason="NOT CHECKED: scikit-image, of the extra gate, is not installed")
    metrics, objects = run_training(tmp_path / "run", "data.photographs=true", "logger=none")
    held_out = metrics["held_out"]
    assert held_out["kinds"]["photograph"]["accepted"].value < 0.05
    assert held_out["false_refusal"].value < 0.15
    sample = Path(pytest.importorskip("matplotlib").get_data_path(), "sample_data", "grace_hopper.jpg")
    if sample.is_file():
        colour = read_image(sample).pixels
        grey = np.repeat(cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2).astype(np.uint8)
        first, second = objects["gate"]([colour, grey])
        assert first.verdict == REFUSE
        assert second.verdict != ACCEPT


def test_a_training_that_diverges_leaves_no_gate(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"the training diverged: .* epoch 1.*; begin a new run with a lower rate"):
        run_training(tmp_path / "run", "optimizer.lr=1e30")
    assert not (tmp_path / "run" / GATE).exists()
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.mark.slow
def test_the_newest_finished_run_of_a_folder(finished: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("old", "new", "newer_but_interrupted")):
        shutil.copytree(finished, tmp_path / name)
        os.utime(tmp_path / name / "gate.ckpt", (1e9 + number, 1e9 + number))
    (tmp_path / "newer_but_interrupted" / "metrics.json").write_text('{"status": "interrupted"}')
    checkpoint = torch.load(tmp_path / "new" / "gate.ckpt", weights_only=True)
    checkpoint["gate"]["sources"] = ["new"]
    torch.save(checkpoint, tmp_path / "new" / "gate.ckpt")
    os.utime(tmp_path / "new" / "gate.ckpt", (1e9 + 1, 1e9 + 1))
    assert load_gate(str(tmp_path)).trained_on == ("new",)
    assert load_gate(str(tmp_path / "old" / "gate.ckpt")).trained_on == ("drawn", "synthetic")


def test_the_same_seed_gives_the_same_gate(tmp_path: Path) -> None:
    small = ["trainer.max_epochs=1", "data.phantoms=6", "data.drawn=4", "data.epoch_images=32", "logger=none"]
    found = [run_training(tmp_path / name, *small, f"seed={seed}")[0] for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert found[0]["gate"] == found[1]["gate"] != found[2]["gate"]
    assert found[0]["fingerprint"] == found[1]["fingerprint"] != found[2]["fingerprint"]
    assert found[0]["held_out"] == found[1]["held_out"]


def test_nothing_there_says_what_to_type(tmp_path: Path) -> None:
    for gate in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(CheckpointError, match=r"cxrlab-train experiment=gate"):
            load_gate(str(gate))


@pytest.mark.slow
def test_a_strangers_file_is_data_and_never_code(finished: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {}, "gate": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(CheckpointError, match="refused"):
        load_gate(str(tmp_path / "trap.ckpt"))
    assert not (tmp_path / "ran").exists()
    good = torch.load(finished / "gate.ckpt", weights_only=True)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"state_dict": {}}, "holds no trained gate"),
        ({"state_dict": {}, "gate": {}}, "holds no trained gate"),
        (good | {"gate": good["gate"] | {"format": 2}}, "format must be 1"),
    ]
    for checkpoint, message in wrong:
        torch.save(checkpoint, tmp_path / "wrong.ckpt")
        with pytest.raises(CheckpointError, match=message):
            load_gate(str(tmp_path / "wrong.ckpt"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment=light", "augment=light: not read by task=gate"),
        ("weights=last", "weights=last: not read"),
        ("data=synthetic", "needs data=gate, as in experiment=gate"),
        ("model=logistic", "needs model=gate_net, as in experiment=gate"),
        ("model.kinds=3", "model.kinds: must be 10, got 3"),
        ("limits.false_refusal=0.6", "false_refusal must be a number in"),
        ("+limits.else=0.6", "limits.else: no such key"),
        ("~limits", "limits: task=gate needs"),
        ("trainer.max_epochs=0", "max_epochs"),
        ("+data.fold=3", "data.fold"),
        ("ckpt_path=runs/gate/x", "is not continued: repeat its command"),
    ],
)
def test_what_is_not_read_is_refused(override: str, message: str, tmp_path: Path) -> None:
    group = override.partition("=")[0]
    words = [each for each in QUICK if group not in ("data", "model") or not each.startswith(f"{group}.")]
    config = compose("train", [*words, override], tmp_path / "run")
    with pytest.raises(ConfigError, match=message):
        train(config, [*words, override])
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_finished_run_is_not_overwritten_not_continued_and_scores_nothing(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds a run already"):
        run_training(finished)
    with pytest.raises(ConfigError, match="is not continued"):
        train(compose("train", [f"ckpt_path={finished}"], finished), [f"ckpt_path={finished}"])
    typed = [f"ckpt_path={finished}", "accelerator=cpu"]
    with pytest.raises(CheckpointError, match=r"a run of experiment=gate.*it is for gate="):
        evaluate(compose("evaluate", typed, tmp_path / "run"), typed)


@pytest.mark.parametrize("option", ["data=gate", "model=gate_net"])
def test_kinds_of_pictures_are_no_labels(option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="calls none Positive; it is for experiment=gate only"):
        train(compose("train", [option, "trainer=cpu"], tmp_path / "run"), [option])
    if option.startswith("data"):
        with pytest.raises(ConfigError, match="it is for experiment=gate only"):
            audit(compose("audit", [option], tmp_path / "audit"), [option])
