from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cxrlab.callbacks import Checkpoints


class FakeTrainer(SimpleNamespace):
    strategy = SimpleNamespace(checkpoint_io=None)

    def save_checkpoint(self, path: Path, weights_only: bool = False) -> None:
        self.saved.append((path.name, weights_only))


def after_epochs(checkpoints: Checkpoints, scores: list[float]) -> list[Any]:
    trainer = FakeTrainer(saved=[], should_stop=False)
    for epoch, score in enumerate(scores):
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


def test_a_number_beats_nan(tmp_path: Path) -> None:
    checkpoints = Checkpoints()
    checkpoints.folder = tmp_path
    after_epochs(checkpoints, [float("nan"), 0.9])
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


def test_nothing_to_evaluate_before_the_first_epoch_is_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints()
    checkpoints.folder = tmp_path
    assert checkpoints.path() is None


@pytest.mark.parametrize(("argument", "value"), [("mode", "up"), ("weights", "newest")])
def test_choices_are_checked(argument: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be one of"):
        Checkpoints(**{argument: value})
