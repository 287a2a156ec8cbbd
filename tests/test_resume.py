"""Kills real runs at random files that they write, resumes them, and compares the weights bit for bit.

``CXRLAB_KILLS=20 pytest tests/test_resume.py -k killed`` kills twenty times instead of two.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import torch
from tests import programs

from cxrlab.datamodules.flow import Flow
from cxrlab.errors import DataError
from cxrlab.models import PaperCNN
from cxrlab.models.layer_table import layer_table
from cxrlab.runs import RunFolder, load_checkpoint, load_model

MOVED = "pathlib.Path.replace"
"""How a file that is whole comes to its place."""
KILLS = int(os.environ.get("CXRLAB_KILLS", "2"))
SETTINGS = [
    "model=paper_cnn",
    "model.dense_units=32",
    "data.image_size=32",
    "data.source.size=64",
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


def finish(*arguments: str) -> str:
    status, printed, errors = programs.run("train", *arguments)
    assert status == 0, errors
    return printed


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A finished run, and how many files it moved to their places."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    with mock.patch.object(Path, "replace", autospec=True, side_effect=Path.replace) as replace:
        finish(*SETTINGS, f"hydra.run.dir={folder}")
    return folder, replace.call_count


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
def test_killed_runs_end_bit_identical(uninterrupted: tuple[Path, int], tmp_path: Path) -> None:
    whole, files = uninterrupted
    moments = random.Random(0)
    kills, number, epochs = 0, 0, set[int]()
    while kills < KILLS:
        number += 1
        folder = tmp_path / str(number)
        status = -signal.SIGKILL
        while status and kills < KILLS:
            # From its first file to its last, in three starts on average; one that has fewer left to write ends well.
            moment = moments.randint(1, files * 2 // 3)
            status, output = programs.ended(signal.SIGKILL, "train", MOVED, moment, *begin_or_go_on(folder))
            assert status in (0, -signal.SIGKILL), output
            if status:
                kills += 1
                assert_readable(folder)
                history = RunFolder(folder).history
                epochs.add(len(pd.read_csv(history)) if history.exists() else 0)
        if status:
            finish(*begin_or_go_on(folder))
        assert_same_run(folder, whole)
    print(f"{kills} kills over {number} runs, after epochs {sorted(epochs)}: all bit-identical")


def begin_or_go_on(folder: Path) -> list[str]:
    return [*SETTINGS, f"{'ckpt_path' if RunFolder(folder).config.exists() else 'hydra.run.dir'}={folder}"]


@pytest.mark.slow
def test_ctrl_c_writes_what_there_is_and_can_be_continued(uninterrupted: tuple[Path, int], tmp_path: Path) -> None:
    whole, _ = uninterrupted
    folder = tmp_path / "run"
    begin, history = begin_or_go_on(folder), RunFolder(folder).history.name
    status, output = programs.ended(signal.SIGINT, "train", MOVED, 4, *begin, file=history)
    assert status == 130, output
    assert "python train.py ckpt_path=" in output
    run = RunFolder(folder)
    assert run.status() == "interrupted"
    assert 2 <= run.results()["epochs"] < 8
    assert "INTERRUPTED" in (folder / "report.md").read_text(encoding="utf-8")
    assert run.results()["test"]["n"] == 20

    output = finish(f"ckpt_path={folder}")  # the run's own configuration: nothing else needs to be typed
    assert "continued" in output
    assert_same_run(folder, whole)
    assert not (run.checkpoints / "last.ckpt").exists()

    output = finish(f"ckpt_path={folder}")
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
