"""Several processes train like one: ``trainer=ddp`` through the command line, on the CPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from tests import programs
from tests.training import without_pages

from cxrlab.runs import RunFolder, load_checkpoint

pytestmark = pytest.mark.slow
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
SETTINGS = [
    "model=paper_cnn_small",
    "data.image_size=32",
    "data.batch_size=17",  # of 35 images the last batch is one: fewer than processes
    "data.source.n_train=43",
    "data.source.n_test=17",
    "data.source.size=64",
    "loss=balanced",
    "augment=light",
    "trainer.max_epochs=3",
]


def typed(folder: Path, *arguments: str) -> list[str]:
    begun = RunFolder(folder).config.exists()
    return [*([f"ckpt_path={folder}"] if begun else [*SETTINGS, f"hydra.run.dir={folder}"]), *arguments]


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cxrlab.train", *typed(folder, *arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
        preexec_fn=programs.heed_ctrl_c,
    )


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == status, output
    return output


def run(folder: Path, *arguments: str) -> str:
    """The same without a process for the first of the processes."""
    with without_pages():
        status, printed, errors = programs.run("train", *typed(folder, *arguments))
    assert status == 0, errors
    return printed


def after_epoch(process: subprocess.Popen[str], epoch: int) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(f"epoch {epoch:>3}/"):
            return
    pytest.fail(f"the run ended with {process.wait()} before that:\n{''.join(said)}")


def others(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a run has started to train with it."""
    found = subprocess.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"], stdout=subprocess.PIPE, check=True)
    return [int(each) for each in found.stdout.split()]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "tfevents" not in path.name)


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(RunFolder(folder).history).drop(columns="seconds")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(RunFolder(folder).weights())["state_dict"]
    return state


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    """In float64, where what differs is rounding of sums in another order, and nothing else fits below 1e-12."""
    tolerance = 1e-12
    alike = ["model.dropout=[0,0,0]", "trainer.precision=64-true"]
    output = finish(start(tmp_path / "two", *TWO, *alike))
    status, _, errors = programs.run("train", *typed(tmp_path / "one", "trainer=cpu", *alike))
    assert status == 0, errors
    pd.testing.assert_frame_equal(history(tmp_path / "two"), history(tmp_path / "one"), rtol=0, atol=tolerance)
    two, one = weights(tmp_path / "two"), weights(tmp_path / "one")
    assert two.keys() == one.keys()
    for name, tensor in two.items():
        torch.testing.assert_close(tensor, one[name], rtol=0, atol=tolerance)
    scores, expected = (pd.read_csv(RunFolder(tmp_path / name).predictions) for name in ("two", "one"))
    pd.testing.assert_frame_equal(scores, expected, rtol=0, atol=tolerance)
    assert files(tmp_path / "two") == files(tmp_path / "one")
    assert output.count("epoch   2/3") == 1
    assert len([*(tmp_path / "two").rglob("*tfevents*")]) == len([*(tmp_path / "one").rglob("*tfevents*")])


def test_a_run_that_lost_a_process_goes_on_to_the_same_end(tmp_path: Path) -> None:
    epochs = "trainer.max_epochs=12"
    run(tmp_path / "whole", *TWO, epochs)
    process = start(tmp_path / "run", *TWO, epochs)
    after_epoch(process, 1)
    second = others(process)[0]
    after_epoch(process, 5)  # by then an earlier epoch's checkpoint is written
    os.kill(second, signal.SIGKILL)
    assert "error: process 2 of this run was ended by signal 9" in finish(process, status=1)
    assert "continued" in run(tmp_path / "run")
    pd.testing.assert_frame_equal(history(tmp_path / "run"), history(tmp_path / "whole"))
    resumed, whole = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_a_run_ends_all_of_its_processes(how: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path / "run", *TWO, "trainer.max_epochs=400")
    after_epoch(process, 1)
    if how == signal.SIGINT:  # from a terminal it reaches every process
        os.killpg(process.pid, how)
        assert "interrupted after epoch" in finish(process, status=130)
    else:
        process.send_signal(how)
        finish(process, status=-how)
    # Had a process outlived the first, reading what they print would not have come to an end.


def test_two_processes_diverge_with_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with without_pages():
        status, *said = programs.run("train", *typed(tmp_path / "two", *TWO, "optimizer.lr=1e38", "logger=none"))
    output = "".join([*said, *capfd.readouterr()])  # what another process says is not in what the program says
    assert status == 1
    assert output.count("the training diverged: ") == 1
    assert "Traceback" not in output
    assert RunFolder(tmp_path / "two").status() == "diverged"
