from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import pytest
import torch

from cxrlab.callbacks import Checkpoints


class FakeTrainer(SimpleNamespace):
    max_epochs = max_steps = -1  # no end
    global_step = 0
    strategy = SimpleNamespace(broadcast=lambda value: value)
    now = writing = 0.0  # the time, and what writing a checkpoint takes, in seconds

    def save_checkpoint(self, path: Path, weights_only: bool = False) -> None:
        self.saved.append((path.name, weights_only))
        self.now += self.writing


def after_epochs(checkpoints: Checkpoints, scores: list[float], **trainer_state: Any) -> list[Any]:
    trainer = FakeTrainer(**{"saved": [], "should_stop": False, **trainer_state})
    with mock.patch("time.monotonic", side_effect=lambda: trainer.now):
        for epoch, score in enumerate(scores):
            trainer.now += 1.0
            trainer.current_epoch, trainer.callback_metrics = epoch, {"val/loss": score}
            checkpoints.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    saved: list[Any] = trainer.saved
    return saved


def test_the_best_weights_are_written_before_the_state_that_calls_them_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints()
    checkpoints.folder = tmp_path
    best, last = ("best.ckpt", True), ("last.ckpt", False)
    assert after_epochs(checkpoints, [0.5, 0.6, 0.4]) == [best, last, last, best, last]
    assert checkpoints.describe() == "best (epoch 3 of 3, by val/loss)"


def test_mode_max_and_a_tie_keeps_the_earlier(tmp_path: Path) -> None:
    checkpoints = Checkpoints(mode="max")
    checkpoints.folder = tmp_path
    after_epochs(checkpoints, [0.5, 0.7, 0.7])
    assert checkpoints.best_epoch == 2


@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_chooses_nothing_and_a_number_beats_it(mode: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(mode=mode)
    checkpoints.folder = tmp_path
    assert after_epochs(checkpoints, [float("nan")] * 2) == [("last.ckpt", False)] * 2
    assert checkpoints.path() is None
    after_epochs(checkpoints, [float("nan"), 0.9, float("nan")])
    assert checkpoints.best_epoch == 2


def test_last_writes_no_best(tmp_path: Path) -> None:
    checkpoints = Checkpoints(weights="last")
    checkpoints.folder = tmp_path
    assert after_epochs(checkpoints, [0.5, 0.4]) == [("last.ckpt", False)] * 2
    assert checkpoints.path() == tmp_path / "last.ckpt"


def test_state_round_trip_and_a_stopped_run_stays_stopped(tmp_path: Path) -> None:
    first, second = Checkpoints(), Checkpoints()
    first.folder = second.folder = tmp_path
    trainer = FakeTrainer(saved=[], should_stop=True, current_epoch=4, callback_metrics={"val/loss": 0.3})
    first.on_train_epoch_end(trainer, None)  # type: ignore[arg-type]
    second.load_state_dict(first.state_dict())
    fresh = FakeTrainer(should_stop=False)
    second.on_fit_start(fresh, None)  # type: ignore[arg-type]
    assert fresh.should_stop
    assert second.path() == tmp_path / "best.ckpt"
    assert second.state_dict() == first.state_dict()


def test_a_best_that_is_newer_than_the_state_is_called_by_its_own_epoch(tmp_path: Path) -> None:
    checkpoints = Checkpoints()
    checkpoints.folder = tmp_path
    checkpoints.load_state_dict({"best_score": 0.5, "best_epoch": 2, "epochs": 3, "should_stop": False})
    torch.save({"epoch": 4, "state_dict": {}}, tmp_path / "best.ckpt")  # of the fifth; killed before its state was due
    checkpoints.on_fit_start(FakeTrainer(should_stop=False), None)  # type: ignore[arg-type]
    assert checkpoints.describe() == "best (epoch 5 of 5, by val/loss)"
    after_epochs(checkpoints, [0.4])
    assert checkpoints.best_epoch == 1  # the file's, and better than the state's


def test_nothing_to_evaluate_before_the_first_epoch_is_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints()
    checkpoints.folder = tmp_path
    assert checkpoints.path() is None


def written_states(folder: Path, writing: float, time_share: float = 0.02, **trainer_state: Any) -> int:
    """How many of six epochs, a second each, leave their state when writing takes so many seconds."""
    checkpoints = Checkpoints(weights="last", time_share=time_share)
    checkpoints.folder = folder
    return len(after_epochs(checkpoints, [0.5] * 6, writing=writing, **trainer_state))


def test_a_slow_disk_costs_a_killed_run_epochs_and_not_every_run_its_time(tmp_path: Path) -> None:
    assert written_states(tmp_path, writing=0.001) == 6
    assert written_states(tmp_path, writing=60) == 1  # the first
    assert written_states(tmp_path, writing=60, should_stop=True) == 6
    assert written_states(tmp_path, writing=60, max_epochs=6) == 2  # and the last
    assert written_states(tmp_path, writing=1, time_share=1) == 6


def test_a_state_that_was_not_written_is_not_called_the_one_that_was(tmp_path: Path) -> None:
    checkpoints = Checkpoints(weights="last")
    checkpoints.folder = tmp_path
    assert len(after_epochs(checkpoints, [0.5, 0.4, 0.3], writing=1e9)) == 1
    assert checkpoints.describe() == "last (epoch 1)"


@pytest.mark.parametrize("share", [0, 1.5, "all"])
def test_a_share_is_a_share(share: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="time_share"):
        Checkpoints(time_share=share)


@pytest.mark.parametrize(("argument", "value"), [("mode", "up"), ("weights", "newest")])
def test_choices_are_checked(argument: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be one of"):
        Checkpoints(**cast(Any, {argument: value}))
