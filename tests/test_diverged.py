"""Trainings whose numbers leave their range: what is said, what is kept, and that nothing is made of NaN."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from tests import programs
from tests.training import without_pages
from torch import Tensor

from cxrlab.callbacks import Checkpoints
from cxrlab.config import compose
from cxrlab.errors import DivergedError
from cxrlab.models import ClassifierModule
from cxrlab.runs import RunFolder, load_model
from cxrlab.steps.results import loss_warnings
from cxrlab.train import train

TINY = [
    "trainer=cpu",
    "trainer.max_epochs=3",
    "model=logistic",
    "data.image_size=32",
    "data.batch_size=8",
    "data.val=0.15",
    "data.source.n_train=40",
    "data.source.n_test=16",
    "data.source.size=64",
    "optimizer=sgd",
    "logger=none",
]
Step = Callable[..., tuple[Tensor, Tensor]]


def run_training(folder: Path, *overrides: str) -> dict[str, Any]:
    typed = [*TINY, *overrides]
    return train(compose("train", typed, folder), typed)[0]


def diverge(folder: Path, *overrides: str, pages: bool = False) -> tuple[str, dict[str, Any]]:
    """Trains until it diverges; returns what is said, and ``metrics.json``. The pages are looked at if written."""
    with nullcontext() if pages else without_pages(), pytest.raises(DivergedError) as caught:
        run_training(folder, *overrides)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["status"] == "diverged"
    assert metrics["diverged"] in str(caught.value)
    for name in ("report.md", "model_card.md") if pages else ():
        assert "**DIVERGED: the training diverged" in (folder / name).read_text(encoding="utf-8").partition("\n## ")[0]
    return str(caught.value), metrics


def planted(monkeypatch: pytest.MonkeyPatch, change: Callable[[int, Tensor], Tensor]) -> None:
    """Changes the loss of training steps; they are counted from 1."""
    whole: Step = ClassifierModule._step
    steps = 0

    def step(self: ClassifierModule, batch: dict[str, Any], split: str, network: Any) -> tuple[Tensor, Tensor]:
        nonlocal steps
        loss, scores = whole(self, batch, split, network)
        steps += split == "train"
        return (change(steps, loss) if split == "train" else loss), scores

    monkeypatch.setattr(ClassifierModule, "_step", step)


@pytest.mark.parametrize("weights", ["best", "last"])
def test_what_came_before_a_planted_nan_is_kept_and_said(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, lambda step, loss: loss * (float("nan") if step == 12 else 1))
    monkeypatch.setattr(Checkpoints, "_is_due", lambda *_: True)  # else a slow disk skips some last.ckpt
    said, metrics = diverge(tmp_path / "run", f"weights={weights}", "optimizer.lr=0.001", pages=weights == "best")

    assert "the loss of epoch 3, step 2 of 5, is nan" in said
    assert "optimizer.lr=0.0001, now 0.001" in said
    assert "trainer.gradient_clip_val=1" in said
    assert metrics["weights"].startswith(f"{weights} (epoch 2")
    assert metrics["weights"] in said
    run = RunFolder(tmp_path / "run")
    assert [path.name for path in run.checkpoints.iterdir()] == ["model.ckpt"]
    network = load_model(run.path).network
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    assert list(pd.read_csv(run.history)["epoch"]) == [1, 2]
    assert metrics["test"]["n"] == 16


@pytest.mark.slow
def test_a_run_that_diverged_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, lambda step, loss: loss * (float("inf") if step == 1 else 1))
    said, metrics = diverge(tmp_path / "run", pages=True)
    assert "No split was evaluated" in (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "the loss of epoch 1, step 1 of 5, is inf" in said
    assert "no epoch had a good end" in said
    assert metrics["weights"] is None
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))
    with pytest.raises(DivergedError, match=r"cannot go on: .*; begin a new run with a lower rate"):
        run_training(tmp_path / "run", f"ckpt_path={tmp_path / 'run'}")


@pytest.mark.parametrize(
    ("rate", "model"), [("1e20", "paper_cnn_small"), ("1e38", "logistic"), ("1e38", "paper_cnn_batchnorm")]
)
def test_absurd_rates_end_in_the_first_epoch(rate: str, model: str, tmp_path: Path) -> None:
    said, metrics = diverge(tmp_path / "run", f"model={model}", f"optimizer.lr={rate}")
    assert "epoch 1" in said
    assert "optimizer.lr=0.001, now 1e+" in said
    assert metrics["weights"] is None


@pytest.mark.slow
def test_a_huge_loss_that_is_a_number_is_a_warning(tmp_path: Path) -> None:
    metrics = run_training(tmp_path / "run", "optimizer.lr=1e9", "trainer.max_epochs=1")
    assert metrics["status"] == "finished"
    assert metrics["warnings"][0].startswith("the training diverged: the mean loss of epoch 1 is ")
    for name in ("report.md", "model_card.md"):
        text = (tmp_path / "run" / name).read_text(encoding="utf-8")
        assert "WARNING:** the training diverged" in text
    assert loss_warnings([{"train/loss": 1.2}]) == loss_warnings([]) == []


@pytest.mark.slow
def test_weights_are_looked_at_before_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step of an epoch breaks them, so that no loss has seen it."""

    class _Infinite(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, loss: Tensor) -> Tensor:
            return loss * 0

        @staticmethod
        def backward(context: Any, gradient: Tensor) -> Tensor:
            return gradient * float("inf")

    planted(monkeypatch, lambda step, loss: loss + _Infinite.apply(loss) if step == 5 else loss)
    said, metrics = diverge(tmp_path / "run")
    assert "after epoch 1, network." in said
    assert "holds NaN or infinity" in said
    assert metrics["weights"] is None


def test_float16_overflow_names_the_other_precisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, where float16 is not trained in: the loss leaves its range, and the trainer says 16-mixed."""
    planted(monkeypatch, lambda step, loss: (loss * 1e5).half().float())
    monkeypatch.setattr("pytorch_lightning.Trainer.precision", "16-mixed")
    said, _ = diverge(tmp_path / "run")
    assert "begin a new run with trainer.precision=bf16-mixed or 32-true, since float16" in said


@pytest.mark.slow
def test_jobs_of_a_sweep_fail_alone(tmp_path: Path) -> None:
    words = [*TINY, "optimizer.lr=1e38,0.001", f"hydra.sweep.dir={tmp_path / 'sweep'}", "trainer.max_epochs=1"]
    with without_pages():
        status, printed, errors = programs.run("train", "-m", *words)
    assert status == 1
    assert "error in job 0: " in errors
    assert "the training diverged" in errors
    assert "Traceback" not in printed + errors
    states = [json.loads(path.read_text()) for path in sorted((tmp_path / "sweep").glob("*/metrics.json"))]
    assert [state["status"] for state in states] == ["diverged", "finished"]
