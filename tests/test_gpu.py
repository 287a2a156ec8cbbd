"""What a GPU adds; every test here needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from cxrlab.config import compose
from cxrlab.runs import RunFolder, load_checkpoint
from cxrlab.train import train

pytestmark = pytest.mark.gpu
SETTINGS = [
    "model=paper_cnn_small",
    "model.dropout=[0,0,0]",
    "data.image_size=32",
    "data.batch_size=8",
    "data.source.n_train=40",
    "data.source.n_test=16",
    "data.source.size=64",
    "trainer.max_epochs=1",
    "logger=none",
]


def run(folder: Path, *overrides: str) -> tuple[pd.DataFrame, dict[str, torch.Tensor]]:
    typed = [*SETTINGS, *overrides]
    train(compose("train", typed, folder), typed)
    state: dict[str, torch.Tensor] = load_checkpoint(RunFolder(folder).weights())["state_dict"]
    return pd.read_csv(RunFolder(folder).history).drop(columns="seconds"), state


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], **tolerance: Any) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].cpu(), tensor.cpu(), **tolerance)


def test_a_step_is_the_cpus(tmp_path: Path) -> None:
    step = ["optimizer=sgd", "trainer.limit_train_batches=1"]  # Adam's first step is a sign: nothing to compare
    _, expected = run(tmp_path / "cpu", "trainer=cpu", *step)
    _, found = run(tmp_path / "gpu", "trainer=gpu", "trainer.precision=bf16-mixed", *step)
    assert_close(found, expected, rtol=0, atol=2e-3)


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    settings = ["trainer=gpu", "trainer.precision=bf16-mixed", "model.dropout=[0.25,0.25,0.5]"]
    (first, weights), (again, others) = (run(tmp_path / name, *settings) for name in ("first", "again"))
    pd.testing.assert_frame_equal(first, again)
    assert_close(weights, others, rtol=0, atol=0)


def test_pixels_on_the_device_change_nothing(tmp_path: Path) -> None:
    (travelled, weights), (stayed, others) = (
        run(tmp_path / name, "trainer=gpu", f"data.on_device={name}") for name in ("false", "true")
    )
    pd.testing.assert_frame_equal(travelled, stayed)
    assert_close(weights, others, rtol=0, atol=0)


def test_compiled_steps_are_close_and_leave_the_checkpoints_keys(tmp_path: Path) -> None:
    (plain, weights), (compiled, others) = (
        run(tmp_path / name, "trainer=gpu", f"compile={name}") for name in ("false", "true")
    )
    pd.testing.assert_frame_equal(plain, compiled, rtol=0, atol=0.05)
    assert_close(others, weights, rtol=0, atol=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NOT CHECKED: fewer than two CUDA devices here")
def test_two_gpus_give_the_numbers_of_one(tmp_path: Path) -> None:
    (one, weights), (two, others) = (
        run(tmp_path / "one", "trainer=gpu"),
        run(tmp_path / "two", "trainer=ddp", "trainer.devices=2"),
    )
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=1e-4)
    assert_close(others, weights, rtol=0, atol=1e-4)
