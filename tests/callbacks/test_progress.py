from __future__ import annotations

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cxrlab import console
from cxrlab.callbacks import Checkpoints, Progress, TrainingBar, progress


def trainer(**state: Any) -> Any:
    common = {"is_global_zero": True, "max_epochs": 4, "num_training_batches": 10, "current_epoch": 0}
    return SimpleNamespace(**{**common, "callbacks": [], "callback_metrics": {}, **state})


@pytest.mark.parametrize(("weights", "marked"), [("best", [True, False, True]), ("last", [False] * 3)])
def test_the_best_epoch_so_far_is_marked(weights: str, marked: list[bool], capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints, lines = Checkpoints(weights=weights), Progress()
    for epoch, loss in enumerate([0.5, 0.6, 0.4]):
        now = trainer(current_epoch=epoch, callbacks=[lines, checkpoints], callback_metrics={"val/loss": loss})
        lines.on_train_epoch_start(now, None)  # type: ignore[arg-type]
        lines.on_train_epoch_end(now, None)  # type: ignore[arg-type]
        if checkpoints.is_best(now):
            checkpoints.best_score = loss  # which it notes when it has written the weights
    printed = capsys.readouterr().out.splitlines()
    assert [line.endswith("best so far") for line in printed] == marked
    assert [line[:21] for line in printed] == [f"epoch   {n}  val/loss" for n in ("1/4", "2/4", "3/4")]


def test_only_the_first_process_prints(capsys: pytest.CaptureFixture[str]) -> None:
    Progress().on_train_epoch_end(trainer(is_global_zero=False), None)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""


def test_the_bar_has_the_time_left_of_the_run_by_the_pace_since_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, clock = Console(file=io.StringIO(), force_terminal=True, width=120), [100.0]
    for module in (progress, console):
        monkeypatch.setattr(module, "get_console", lambda: screen)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    bar = TrainingBar()
    bar.on_train_start(trainer(current_epoch=2), None)  # type: ignore[arg-type]  # continued: 20 of 40 steps are done
    clock[0] += 10.0
    bar.on_train_batch_end(trainer(current_epoch=2), None, None, None, 4)  # type: ignore[arg-type]
    assert bar._bar is not None
    task = bar._bar.tasks[0]
    assert (task.description, task.completed, task.total) == ("epoch 3/4", 25, 40)
    assert task.fields["left"] == "30 s left"
    bar.on_exception(trainer(), None, KeyboardInterrupt())  # type: ignore[arg-type]
    assert bar._bar is None


def test_in_a_file_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    bar = TrainingBar()
    bar.on_train_start(trainer(), None)  # type: ignore[arg-type]
    bar.on_train_batch_end(trainer(), None, None, None, 0)  # type: ignore[arg-type]
    bar.on_train_end(trainer(), None)  # type: ignore[arg-type]
    assert capsys.readouterr().out == ""
