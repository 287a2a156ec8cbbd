"""A decision from training to evaluation: fitted once, on validation images, and carried by the checkpoint."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.training import without_pages

from cxrlab.config import compose
from cxrlab.errors import CheckpointError, ConfigError
from cxrlab.evaluate import evaluate
from cxrlab.evaluation import summarise
from cxrlab.models.classifier import METADATA
from cxrlab.runs import RunFolder, load_model
from cxrlab.train import train

QUICK = [
    "trainer=cpu",
    "trainer.max_epochs=4",
    "model=logistic",
    "optimizer.lr=0.05",
    "data.image_size=32",
    "data.source.n_train=120",
    "data.source.n_test=40",
    "data.source.size=64",
    "data.source.shortcut=brightness",
    "data.source.shortcut_strength=0.6",
    "data.source.opacity=0.3",
    "data.val=0.4",
]


def run_training(folder: Path, *overrides: str) -> tuple[RunFolder, dict[str, Any]]:
    metrics, objects = train(compose("train", [*QUICK, *overrides], folder), [*QUICK, *overrides])
    return objects["run"], metrics


def run_evaluation(folder: Path, ckpt_path: Path, *overrides: str, pages: bool = False) -> dict[str, Any]:
    command = [f"ckpt_path={ckpt_path}", "accelerator=cpu", *overrides]
    with nullcontext() if pages else without_pages():
        return evaluate(compose("evaluate", command, folder), command)[0]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    """Finished with decision=calibrated."""
    return run_training(tmp_path_factory.mktemp("calibrated") / "run", "decision=calibrated", "decision.prevalence=0.1")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    """The same training without a decision."""
    return run_training(tmp_path_factory.mktemp("fixed") / "run", "logger=none")


Run = tuple[RunFolder, dict[str, Any]]


def test_the_checkpoint_holds_what_was_fitted_to_validation_images(calibrated: Run) -> None:
    run, metrics = calibrated
    model, decision = load_model(run.path), metrics["decision"]
    assert model.metadata["calibration"] == decision["calibration"]
    assert decision["calibration"]["kind"] == "temperature"
    assert model.threshold == decision["threshold"] != 0.5
    assert "Youden" in model.metadata["threshold_rule"]
    assert decision["fitted_on"]["images"] == metrics["val"]["n"]
    table = pd.read_csv(run.predictions)
    # But for the last digits, which pandas 3.0 may read otherwise.
    np.testing.assert_allclose(model.calibrate(table["score"]), table["calibrated"], rtol=1e-12)
    assert not np.allclose(table["score"], table["calibrated"])


def test_the_metrics_are_those_of_calibrated_probabilities_at_the_threshold(calibrated: Run) -> None:
    run, metrics = calibrated
    table = pd.read_csv(run.predictions).query("split == 'test'")
    called = table["calibrated"] >= metrics["decision"]["threshold"]
    (tn, fp), (fn, tp) = metrics["test"]["confusion_matrix"]
    assert metrics["test"]["threshold"] == metrics["decision"]["threshold"]
    assert (tp, fp) == ((called & (table["label"] == 1)).sum(), (called & (table["label"] == 0)).sum())
    assert tn + fn == (~called).sum()


def test_temperature_leaves_the_auroc_of_a_training_as_it_was(calibrated: Run, fixed: Run) -> None:
    for split in ("val", "test"):
        assert calibrated[1][split]["auroc"] == fixed[1][split]["auroc"]
        assert calibrated[1][split]["ap"] == fixed[1][split]["ap"]


def test_without_a_decision_results_are_those_of_scores_at_one_half(fixed: Run) -> None:
    run, metrics = fixed
    table = pd.read_csv(run.predictions).query("split == 'test'")
    assert "calibrated" not in table
    people = table["patient_id"].to_numpy()
    assert metrics["test"] == summarise(table["label"], table["score"], people, threshold=0.5)
    decision = metrics["decision"]
    assert (decision["calibration"], decision["threshold"], decision["fitted_on"]) == (None, 0.5, None)
    assert not any("fitted" in warning for warning in metrics["warnings"])


def test_evaluation_gives_exactly_the_numbers_of_the_training(calibrated: Run, tmp_path: Path) -> None:
    run, metrics = calibrated
    evaluated = run_evaluation(tmp_path / "again", run.path)
    assert evaluated["test"] == metrics["test"]
    assert evaluated["decision"] == {key: value for key, value in metrics["decision"].items() if key != "val"}
    few = [warning for warning in evaluated["warnings"] if "few validation images" in warning]
    assert few == [warning for warning in metrics["warnings"] if "few validation images" in warning] != []


@pytest.mark.slow
def test_another_prevalence_changes_predictive_values_only(calibrated: Run, tmp_path: Path) -> None:
    run, metrics = calibrated
    rare = run_evaluation(tmp_path / "rare", run.path, "prevalence=0.01", pages=True)
    assert rare["test"] == metrics["test"]
    ours, theirs = metrics["decision"]["test"], rare["decision"]["test"]
    assert theirs["ppv"].value < ours["ppv"].value
    assert theirs["curve"] == ours["curve"]
    assert "| PPV | " in (tmp_path / "rare" / "report.md").read_text()
    with pytest.raises(ConfigError, match="prevalence must be a number in"):
        run_evaluation(tmp_path / "wrong", run.path, "prevalence=3")


def test_the_report_says_how_it_was_decided(calibrated: Run, fixed: Run) -> None:
    text = (calibrated[0].path / "report.md").read_text()
    assert "few validation images" in text[text.index("## Cautions") :].partition("\n## ")[0]
    section = text[text.index("## Decision") : text.index("## Data")]
    assert "Youden" in section
    assert "10 bins of equal width" in section
    assert "At a prevalence of 0.1" in section
    for name in ("test_before_calibration", "test_after_calibration", "test_decision_curve"):
        assert f"(figures/{name}.png)" in section
        assert (calibrated[0].path / "figures" / f"{name}.png").stat().st_size > 10_000
    plain = (fixed[0].path / "report.md").read_text()
    assert "Calibration: none" in plain
    assert "PPV and NPV elsewhere: NOT CHECKED" in plain


def test_tensorboard_shows_the_decisions_own_accuracy(calibrated: Run) -> None:
    events = EventAccumulator(str(calibrated[0].path))
    events.Reload()
    last = events.Scalars("test/accuracy")[-1].value
    assert last == pytest.approx(calibrated[1]["test"]["accuracy"].value)


def changed(run: RunFolder, path: Path, **changes: Any) -> Path:
    """The run's checkpoint with other metadata; a value of ``...`` removes the key."""
    checkpoint = torch.load(run.checkpoints / "model.ckpt", weights_only=True)
    metadata = checkpoint[METADATA] | changes
    checkpoint[METADATA] = {key: value for key, value in metadata.items() if value is not ...}
    torch.save(checkpoint, path)
    return path


def test_a_checkpoint_older_than_decisions_is_used_as_before(fixed: Run, tmp_path: Path) -> None:
    run, metrics = fixed
    gone = dict.fromkeys(("calibration", "threshold_rule", "prevalence", "fitted_on"), ...)
    old = changed(run, tmp_path / "old.ckpt", **gone)
    assert load_model(old).threshold == 0.5
    assert load_model(old).calibrate([0.25]).tolist() == [0.25]
    assert run_evaluation(tmp_path / "old", old)["test"] == metrics["test"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration": {"kind": "temperature", "temperature": float("nan")}}, "temperature must be a number"),
        ({"calibration": {"kind": "isotonic", "scores": [0.1, 0.2], "values": [0.9, 0.1]}}, "values must never fall"),
        ({"calibration": {"kind": "platt", "slope": -1.0, "intercept": 0.0}}, "slope must be a number"),
        ({"calibration": "temperature"}, "calibration must be a dict"),
        ({"threshold": "0.5"}, "threshold must be a number"),
    ],
)
def test_a_strangers_decision_is_refused(changes: dict[str, Any], message: str, fixed: Run, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"stranger\.ckpt: refused: .*{message}"):
        load_model(changed(fixed[0], tmp_path / "stranger.ckpt", **changes))


@pytest.mark.parametrize("overrides", [["decision=calibrated"], ["decision.threshold=youden"]])
def test_nothing_is_fitted_to_test_images(overrides: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decision: .*data\.val=0\.15 holds some out"):
        run_training(tmp_path / "run", "data.val=test", *overrides)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_number_needs_no_validation_images(tmp_path: Path) -> None:
    with without_pages():
        run, metrics = run_training(tmp_path / "run", "data.val=test", "decision.threshold=0.3", "logger=none")
    assert metrics["test"]["threshold"] == load_model(run.path).threshold == 0.3
