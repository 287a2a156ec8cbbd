"""Whole runs: what they leave behind, and that everything a user can choose can be run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests import programs
from tests.training import ONE_STEP, QUICK, ROOT, options, trained

from cxrlab.config import compose
from cxrlab.errors import ConfigError
from cxrlab.evaluate import evaluate
from cxrlab.runs import RunFolder, load_checkpoint, load_model
from cxrlab.steps.assembly import assemble
from cxrlab.train import train

METRICS = {"accuracy", "sensitivity", "specificity", "ppv", "npv", "f1", "auroc", "ap"}


@pytest.fixture(scope="module")
def finished(finished_run: Path) -> tuple[RunFolder, dict[str, Any]]:
    run = RunFolder(finished_run)
    return run, run.results()


def test_run_folder_is_complete(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    run, _ = finished
    names = {path.name for path in run.path.iterdir()}
    files = {"config.yaml", "overrides.yaml", "environment.json", "network.json", "manifest.csv", "metrics.csv"}
    files |= {"flow.csv", "metrics.json", "predictions.csv", "report.md", "report.html"}
    files |= {"baselines.csv", "baselines.json", "model_card.md"}
    assert {name for name in names if not name.startswith("events.out.")} == files | {"figures", "checkpoints"}
    assert [path.name for path in run.checkpoints.iterdir()] == ["model.ckpt"]
    assert yaml.safe_load(run.overrides.read_text()) == QUICK
    assert run.saved_config().data.source.n_train == 40


def test_metrics_json(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    run, _ = finished
    metrics = json.loads(run.metrics.read_text())
    assert metrics["status"] == "finished"
    assert metrics["synthetic"] is True
    assert metrics["weights"].startswith("best (epoch ")
    assert len(metrics["epoch_seconds"]) == 2
    assert metrics["wall_seconds"] >= sum(metrics["epoch_seconds"]) > 0
    assert metrics["peak_memory_mb"] > 50
    for split in ("val", "test"):
        (tn, fp), (fn, tp) = metrics[split]["confusion_matrix"]
        assert tn + fp + fn + tp == metrics[split]["n"]
        assert metrics[split]["accuracy"]["value"] == pytest.approx((tn + tp) / metrics[split]["n"])
        for name in METRICS:
            estimate = metrics[split][name]
            assert set(estimate) == {"value", "low", "high", "method"}
            assert estimate["value"] is None or estimate["low"] <= estimate["value"] <= estimate["high"]


def test_predictions_are_the_manifest_with_scores(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    run, metrics = finished
    manifest, predictions = pd.read_csv(run.manifest), pd.read_csv(run.predictions)
    assert set(manifest["split"]) == {"train", "val", "test"}
    assert manifest["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    held_out = manifest[manifest["split"] != "train"].reset_index(drop=True)
    pd.testing.assert_frame_equal(predictions.drop(columns="score"), held_out)
    test = predictions[predictions["split"] == "test"]
    right = ((test["score"] >= 0.5) == (test["label"] == 1)).sum()
    assert right / len(test) == metrics["test"]["accuracy"].value


def test_patients_are_in_one_split(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    manifest = pd.read_csv(finished[0].manifest)
    assert manifest.groupby("patient_id")["split"].nunique().max() == 1


def test_environment(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    facts = json.loads(finished[0].environment.read_text())
    assert facts["device"] == "cpu"
    assert facts["precision"] == "32-true"
    assert facts["seed"] == 0
    assert facts["packages"]["torch"]
    assert facts["parameters"] == sum(tensor.numel() for tensor in load_model(finished[0].path).network.parameters())


def test_history_has_one_row_per_epoch(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    history = pd.read_csv(finished[0].history)
    assert list(history["epoch"]) == [1, 2]
    assert {"train/loss", "train/auroc", "val/loss", "val/accuracy", "lr", "seconds"} <= set(history.columns)


def test_report_says_synthetic_before_any_number(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    report = (finished[0].path / "report.md").read_text()
    head = report[:600]
    assert "SYNTHETIC" in head
    assert "not a medical device" in head


def test_tensorboards_own_reader_finds_everything(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    events = EventAccumulator(str(finished[0].path), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    scalars = {f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "accuracy", "auroc", "ap")}
    assert scalars <= set(tags["scalars"])
    assert len(events.Scalars("train/loss")) == 2
    figures = {f"{split}/{name}" for split in ("val", "test") for name in ("confusion_matrix", "roc", "pr")}
    assert figures | {"train/images"} <= set(tags["images"])
    assert tags["graph"]
    names = {node.name for node in graph_of(events).node}
    assert any("conv2d_2" in name for name in names)


def graph_of(events: EventAccumulator) -> Any:
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = GraphDef()
    graph.ParseFromString(events.Graph().SerializeToString())
    return graph


def test_hparams_have_real_metrics(finished: tuple[RunFolder, dict[str, Any]]) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    run, metrics = finished
    events = EventAccumulator(str(run.path))
    events.Reload()
    found = {}
    for tag, content in events.PluginTagToContent("hparams").items():
        found[tag] = HParamsPluginData.FromString(content)
    varied = found["_hparams_/session_start_info"].session_start_info.hparams
    assert varied["data.image_size"].number_value == 32
    assert varied["model.dropout"].string_value == "[0.25, 0.25, 0.5]"
    assert varied["model"].string_value == "PaperCNN"
    experiment = found["_hparams_/experiment"].experiment
    columns = [info.name for info in experiment.hparam_infos]
    first = {info.name for info in experiment.hparam_infos if info.differs}  # by which TensorBoard sorts them
    assert first == {each.partition("=")[0] for each in QUICK} & {*columns}
    assert {"model", "data.image_size"} <= first
    assert not [each for each in columns if "target" in each or "/" in varied[each].string_value]
    shown = {info.name.tag for info in experiment.metric_infos}
    assert {"test/accuracy", "val/auroc"} <= shown
    last = events.Scalars("test/accuracy")[-1].value
    assert last == pytest.approx(metrics["test"]["accuracy"].value)


def test_evaluate_gives_the_numbers_of_the_training(finished: tuple[RunFolder, dict[str, Any]], tmp_path: Path) -> None:
    run, metrics = finished
    evaluated, _ = evaluate(compose("evaluate", [f"ckpt_path={run.path}", "accelerator=cpu"], tmp_path / "evaluation"))
    assert evaluated["test"] == metrics["test"]
    scores = [
        pd.read_csv(folder / "predictions.csv").query("split == 'test'")
        for folder in (run.path, tmp_path / "evaluation")
    ]
    assert list(scores[0]["score"]) == list(scores[1]["score"])
    assert "evaluated images are" not in json.dumps(evaluated["warnings"])


@pytest.mark.slow
def test_evaluate_counts_images_that_were_trained_on(
    finished: tuple[RunFolder, dict[str, Any]], tmp_path: Path
) -> None:
    overrides = [f"ckpt_path={finished[0].path}", "accelerator=cpu", "split=all"]
    evaluated, _ = evaluate(compose("evaluate", overrides, tmp_path / "evaluation"))
    trained = (pd.read_csv(finished[0].manifest)["split"] == "train").sum()
    known = len(pd.read_csv(finished[0].manifest).query("split != 'test'"))
    assert trained < known
    (said,) = [warning for warning in evaluated["warnings"] if "known to the model" in warning]
    assert said.startswith(f"{known} of 56 evaluated images are known to the model: {known} show films")
    assert "They are counted, as split=… was asked for" in said
    assert evaluated["test"]["n"] == 56


@pytest.mark.slow
def test_evaluate_takes_all_images_of_a_fold_of_a_cross_validation(tmp_path: Path) -> None:
    run, _ = trained(tmp_path / "run", "data.folds=3", "data.fold=1", "trainer.max_epochs=1", "logger=none")
    command = [f"ckpt_path={tmp_path / 'run'}", "accelerator=cpu"]
    again, _ = evaluate(compose("evaluate", command, tmp_path / "again"))
    assert again["test"] == run["test"]
    everything, _ = evaluate(compose("evaluate", [*command, "split=all"], tmp_path / "all"))
    assert everything["test"]["n"] == 56


@pytest.mark.slow
def test_evaluate_takes_a_set_without_splits_of_one_class(
    finished: tuple[RunFolder, dict[str, Any]], class_folders: Callable[..., Path], tmp_path: Path
) -> None:
    root = class_folders({"PNEUMONIA": 5, "NORMAL": 1})
    (root / "NORMAL" / "NORMAL_000.png").write_bytes(b"not an image")
    overrides = [
        f"ckpt_path={finished[0].path}",
        "accelerator=cpu",
        "split=all",
        "data=folder",
        f"data.source.root={root}",
        "data.source.labels={NORMAL: 0, PNEUMONIA: 1}",
        "data.on_error=skip",
    ]
    evaluated, _ = evaluate(compose("evaluate", overrides, tmp_path / "evaluation"))
    assert evaluated["test"]["n"] == 5
    assert evaluated["test"]["auroc"].value is None
    assert any(warning.startswith("left out: ") for warning in evaluated["warnings"])


def test_checkpoint_is_self_sufficient(finished: tuple[RunFolder, dict[str, Any]], tmp_path: Path) -> None:
    alone = tmp_path / "moved.ckpt"
    alone.write_bytes((finished[0].checkpoints / "model.ckpt").read_bytes())
    model = load_model(alone)
    size = {"height": 32, "width": 32, "channels": 3}
    assert model.metadata["preprocessing"] == size | {"fit": "squeeze", "contrast": "none", "border": 0.0}
    assert model.metadata["labels"] == {"Negative": 0, "Positive": 1}
    assert model.metadata["threshold"] == 0.5
    assert len(model.metadata["data"]["fingerprint"]) == 64
    assert "optimizer_states" not in load_checkpoint(alone)


def test_a_seed_is_a_run(finished: tuple[RunFolder, dict[str, Any]], tmp_path: Path) -> None:
    again, _ = trained(tmp_path / "again")
    trained(tmp_path / "other", "seed=1")
    history = pd.read_csv(finished[0].history).drop(columns="seconds")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "again" / "metrics.csv").drop(columns="seconds"), history)
    assert again["test"] == finished[1]["test"]
    assert again == RunFolder(tmp_path / "again").results()
    assert not pd.read_csv(tmp_path / "other" / "metrics.csv")["train/loss"].equals(history["train/loss"])
    same_split = [pd.read_csv(folder / "manifest.csv")["split"] for folder in (tmp_path / "other", finished[0].path)]
    assert same_split[0].equals(same_split[1])


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create:UserWarning"
)  # torch: more workers than cores, on purpose
def test_losses_do_not_depend_on_workers(tmp_path: Path) -> None:
    histories = []
    for number, (workers, persistent) in enumerate([(0, False), (2, False), (3, True)]):
        overrides = ["augment=strong", f"data.num_workers={workers}", f"data.persistent_workers={persistent}"]
        trained(tmp_path / str(number), *overrides, "trainer.max_epochs=3")
        histories.append(pd.read_csv(tmp_path / str(number) / "metrics.csv")["train/loss"])
    for history in histories[1:]:
        assert list(history) == list(histories[0])
    assert histories[0].nunique() == 3


@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_every_optimizer_takes_a_step(optimizer: str, tmp_path: Path) -> None:
    _, objects = trained(tmp_path / "run", f"optimizer={optimizer}", *ONE_STEP, "optimizer.lr=0.01")
    before = trained(tmp_path / "before", f"optimizer={optimizer}", *ONE_STEP, "optimizer.lr=1e-30")[1]["module"]
    assert any(not torch.equal(a, b) for a, b in zip(objects["module"].parameters(), before.parameters(), strict=True))


@pytest.mark.parametrize("scheduler", options("scheduler"))
def test_every_scheduler_keeps_or_lowers_the_learning_rate(scheduler: str, tmp_path: Path) -> None:
    trained(tmp_path / "run", "optimizer=sgd", f"scheduler={scheduler}", *ONE_STEP, "trainer.max_epochs=2")
    history = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert (history["lr"].iloc[1] < history["lr"].iloc[0]) == (scheduler == "cosine")


FAMILIES = {  # of networks, by what their checkpoints must keep: every other model is built in test_model_configs.py
    "paper_cnn_batchnorm": 32,  # running statistics
    "mobilenet_v3_large": 32,  # of torchvision, whose name is an argument
    "darkcovidnet": 64,
    "logistic": 32,  # no convolution
}


@pytest.mark.parametrize("model", FAMILIES)
def test_a_checkpoint_brings_back_the_network(model: str, tmp_path: Path) -> None:
    size = f"data.image_size={FAMILIES[model]}"
    metrics, objects = trained(tmp_path / "run", f"model={model}", size, "optimizer=sgd", *ONE_STEP)
    assert metrics["status"] == "finished"
    loaded = load_model(tmp_path / "run").network.state_dict()
    for name, tensor in objects["module"].network.state_dict().items():
        assert tensor.equal(loaded[name])


NOT_ON_EVERY_MACHINE = {"gpu", "mps", "ddp"}
"""Trainers that are refused, by one key, where their devices are not."""
TASKS_OF_THEIR_OWN = {"gate", "gate_net", "lungs", "lung_unet"}
"""Data and networks of experiment=gate and experiment=lungs: steps/test_gate.py and steps/test_lungs.py train them."""
NEEDED = {
    "folder": ["data.source.root=films", "data.source.labels={neg: 0, pos: 1}"],
    "manifest": ["data.source.path=films.csv"],
}
"""What an option cannot do without, as a user has to type it, too."""
GROUPS = [
    *(path.relative_to(ROOT / "conf").as_posix() for path in (ROOT / "conf").glob("*") if path.is_dir()),
    "data/source",
]
OPTIONS = [
    (group, option)
    for group in sorted({*GROUPS} - {"hydra", "experiment", "__pycache__"})  # experiments: test_experiments.py
    for option in options(group)
    if option not in TASKS_OF_THEIR_OWN
]


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_every_option_can_be_built(group: str, option: str, tmp_path: Path) -> None:
    """At its full size, without memory for weights, and without its data, which constructors do not read."""
    if group == "callbacks" and option in compose("train", [], tmp_path).callbacks:
        pytest.skip("a part of callbacks=default, with which it is built")
    data = ["data=folder"] if group == "data/source" else []
    config = compose("train", ["trainer=cpu", *data, f"{group}={option}", *NEEDED.get(option, [])], tmp_path)
    refused = pytest.raises(ConfigError) if option in NOT_ON_EVERY_MACHINE and not devices(option) else nullcontext()
    with refused as error, torch.device("meta"):
        assert isinstance(assemble(config).trainer, pl.Trainer)
    if error is not None:
        assert {key.partition(".")[0] for key in error.value.keys} == {"trainer"}


def devices(trainer: str) -> bool:
    """Whether this machine has what a trainer of :data:`NOT_ON_EVERY_MACHINE` asks for."""
    if trainer == "mps":
        return torch.backends.mps.is_available()
    return torch.cuda.device_count() >= (2 if trainer == "ddp" else 1)


CHOICES = [
    "augment=strong",
    "data.channels=1",
    "data.num_workers=1",
    "data={folds: 2, fold: 1}",
    "debug=quick",
    "decision=calibrated",
    "loss=balanced",
    "trainer.accumulate_grad_batches=2",
    "trainer.precision=bf16-mixed",
    *(
        pytest.param(choice, marks=pytest.mark.slow)
        for choice in (
            "callbacks=early_stopping",
            "data.image_size=[48,32]",
            "data.source.shortcut=marker",
            "decision=screening",
            "loss.class_weights=[1,3]",
            "loss.label_smoothing=0.1",
            "trainer.gradient_clip_val=1.0",
            "trainer.precision=64-true",
            "trainer.precision=auto",
            "weights=last",
        )
    ),
]
"""What is more than an argument of a constructor: it changes the way of a run."""


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_that_changes_the_way_of_a_run(choice: str, tmp_path: Path) -> None:
    metrics, _ = trained(tmp_path / "run", *ONE_STEP, choice)
    assert metrics["status"] == "finished"
    assert metrics["test"]["n"] > 0


@pytest.mark.slow
def test_the_papers_experiment_on_its_own_images(paper_root: Path, tmp_path: Path) -> None:
    small = ["model=paper_cnn_small", "data.image_size=32", "trainer.max_epochs=1", "trainer=cpu"]
    overrides = ["experiment=paper", f"data.source.root={paper_root}", *small]
    metrics, objects = train(compose("train", overrides, tmp_path / "run"), overrides)
    assert metrics["val"] == metrics["test"]
    assert metrics["test"]["n"] == 40
    assert metrics["weights"] == "last (epoch 1)"
    assert any("validation was the test set" in warning for warning in metrics["warnings"])
    assert len(pd.read_csv(tmp_path / "run" / "predictions.csv")) == 40
    config = objects["run"].saved_config()
    assert (config.data.val, config.data.batch_size, config.weights, config.optimizer.eps) == ("test", 32, "last", 1e-7)


def test_early_stopping_stops_and_a_sweep_can_keep_no_weights(tmp_path: Path) -> None:
    overrides = [
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=1",
        "callbacks.early_stopping.min_delta=10",
        "keep_weights=false",
        "trainer.max_epochs=9",
    ]
    metrics, objects = trained(tmp_path / "run", *overrides)
    assert metrics["epochs"] == 2
    assert list(objects["run"].checkpoints.iterdir()) == []


def test_best_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    trained(tmp_path / "run", "trainer.max_epochs=6", "optimizer.lr=0.01", "logger=none")
    run = RunFolder(tmp_path / "run")
    history = pd.read_csv(run.history)
    best = int(history["epoch"].iloc[int(history["val/loss"].argmin())])
    assert run.results()["weights"] == f"best (epoch {best} of 6, by val/loss)"
    shorter, _ = trained(
        tmp_path / "shorter", f"trainer.max_epochs={best}", "optimizer.lr=0.01", "logger=none", "weights=last"
    )
    assert shorter["test"] == run.results()["test"]


@pytest.mark.slow
def test_a_sweep_leaves_complete_folders_where_they_are_looked_for(tmp_path: Path) -> None:
    swept = ["seed=0,1"]
    command = [sys.executable, str(ROOT / "train.py"), "-m", *QUICK, "trainer.max_epochs=1", *swept]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    folders = sorted(path for path in tmp_path.glob("runs/paper_cnn_small/*/*") if path.is_dir())
    assert len(folders) == 2
    for folder in folders:
        assert RunFolder(folder).status() == "finished"
        assert "=" not in folder.name
    assert {RunFolder(folder).saved_config().seed for folder in folders} == {0, 1}
    # A folder's name can be typed as it stands.
    status, _, errors = programs.run("evaluate", f"ckpt_path={folders[0]}", f"hydra.run.dir={tmp_path / 'evaluation'}")
    assert status == 0, errors


@pytest.mark.slow
@pytest.mark.parametrize("program", [["train.py"], ["src/train.py"], ["-m", "cxrlab.train"]], ids=" ".join)
def test_ways_to_start_the_same_program(program: list[str], tmp_path: Path) -> None:
    command = [
        sys.executable,
        *(str(ROOT / part) if part.endswith(".py") else part for part in program),
        "--cfg",
        "job",
    ]
    result = subprocess.run([*command, "seed=5"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "seed: 5" in result.stdout


@pytest.mark.gpu
def test_a_gpu_run(tmp_path: Path) -> None:
    metrics, _ = trained(tmp_path / "run", "trainer=gpu", "trainer.precision=16-mixed")
    assert metrics["status"] == "finished"
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["device"] == "cuda"
