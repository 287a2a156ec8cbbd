"""Kills real runs at random moments, resumes them, and compares the weights bit for bit.

``CXRLAB_KILLS=20 pytest tests/test_resume.py -k killed`` kills twenty times instead of three.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from cxrlab.datamodules.flow import Flow
from cxrlab.errors import DataError
from cxrlab.models import PaperCNN
from cxrlab.models.layer_table import layer_table
from cxrlab.runs import RunFolder, load_checkpoint, load_model

KILLS = int(os.environ.get("CXRLAB_KILLS", "3"))
SETTINGS = [
    "model=paper_cnn",
    "model.dense_units=32",
    "data.image_size=64",
    "data.batch_size=16",
    "data.source.n_train=60",
    "data.source.n_test=20",
    "augment=strong",
    "scheduler=plateau",
    "scheduler.patience=0",
    "callbacks=early_stopping",
    "callbacks.early_stopping.patience=50",
    "trainer=cpu",
    "trainer.max_epochs=8",
]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cxrlab.train", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heed_ctrl_c
    )


def heed_ctrl_c() -> None:
    """A job that a shell has put into the background ignores Ctrl-C, and so would what it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A finished run, and the seconds it took."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    began = time.monotonic()
    finish(start(*SETTINGS, f"hydra.run.dir={folder}"))
    return folder, time.monotonic() - began


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(RunFolder(folder).weights())["state_dict"]
    return state


def assert_same_run(resumed: Path, whole: Path) -> None:
    state, expected = weights(resumed), weights(whole)
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name
    ours, theirs = RunFolder(resumed), RunFolder(whole)
    histories = [pd.read_csv(run.history).drop(columns="seconds") for run in (ours, theirs)]
    assert histories[0].equals(histories[1])
    assert pd.read_csv(ours.predictions)["score"].equals(pd.read_csv(theirs.predictions)["score"])


def assert_readable(folder: Path) -> None:
    """Whatever stands in the folder after a kill can be read."""
    run = RunFolder(folder)
    if run.config.exists():
        assert run.saved_config().seed == 0
    for checkpoint in run.checkpoints.glob("*.ckpt"):
        assert load_model(checkpoint).metadata["labels"] == {"Negative": 0, "Positive": 1}
    if run.history.exists():
        assert len(pd.read_csv(run.history)) > 0
    if run.metrics.exists():
        assert run.status() == "finished"


@pytest.mark.slow
def test_killed_runs_end_bit_identical(uninterrupted: tuple[Path, float], tmp_path: Path) -> None:
    whole, seconds = uninterrupted
    moments = random.Random(0)
    kills, number, epochs = 0, 0, set[int]()
    while kills < KILLS:
        number += 1
        folder = tmp_path / str(number)
        for _ in range(50):
            begun = RunFolder(folder).config.exists()
            arguments = [*SETTINGS, f"ckpt_path={folder}"] if begun else [*SETTINGS, f"hydra.run.dir={folder}"]
            process = start(*arguments)
            # From within the imports, before the folder is claimed, to the last files of the run.
            time.sleep(moments.uniform(0.15, 1.05) * seconds)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            if process.returncode == 0:
                break
            kills += 1
            assert_readable(folder)
            epochs.add(len(pd.read_csv(RunFolder(folder).history)) if RunFolder(folder).history.exists() else 0)
            if kills >= KILLS:
                finish(
                    start(
                        *SETTINGS,
                        f"ckpt_path={folder}" if RunFolder(folder).config.exists() else f"hydra.run.dir={folder}",
                    )
                )
                break
        assert_same_run(folder, whole)
    print(f"{kills} kills over {number} runs, after epochs {sorted(epochs)}: all bit-identical")


@pytest.mark.slow
def test_ctrl_c_writes_what_there_is_and_can_be_continued(uninterrupted: tuple[Path, float], tmp_path: Path) -> None:
    whole, _ = uninterrupted
    folder = tmp_path / "run"
    process = start(*SETTINGS, f"hydra.run.dir={folder}")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch   3"):
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "python train.py ckpt_path=" in output
    run = RunFolder(folder)
    assert run.status() == "interrupted"
    assert run.results()["epochs"] >= 2
    assert "INTERRUPTED" in (folder / "report.md").read_text(encoding="utf-8")
    assert run.results()["test"]["n"] == 20

    output = finish(start(f"ckpt_path={folder}"))  # the run's own configuration: nothing else needs to be typed
    assert "continued" in output
    assert_same_run(folder, whole)
    assert not (run.checkpoints / "last.ckpt").exists()

    output = finish(start(f"ckpt_path={folder}"))
    assert "finished (8 epochs); nothing to do" in output


def test_a_run_is_not_continued_on_other_images(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    columns = ["path", "label", "patient_id", "split", "source", "finding", "view", "sha256"]
    rows = [[f"/{row}.png", row % 2, "", "train", "x", "", "", str(row)] for row in range(4)]
    manifest = pd.DataFrame(rows, columns=columns)
    run.record({}, layer_table(PaperCNN(image_size=32), (3, 32, 32)), manifest, Flow("x").table())
    run.check_same_data(manifest)
    with pytest.raises(DataError, match="have changed since this run was begun"):
        run.check_same_data(manifest.assign(sha256=["0", "1", "2", "9"]))
