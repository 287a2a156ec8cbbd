"""Sweeps that are killed and repeated, as real processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from cxrlab.locks import is_claimed
from cxrlab.runs import RunFolder
from cxrlab.sweeps.job import is_over
from cxrlab.sweeps.state import Sweep

JOBS = 3
EPOCHS = 3
SETTINGS = [
    "model=paper_cnn_small",
    "data.image_size=32",
    "data.source.size=64",
    "data.batch_size=16",
    "data.source.n_train=40",
    "data.source.n_test=12",
    "trainer=cpu",
    f"trainer.max_epochs={EPOCHS}",
    "logger=none",
    "keep_weights=false",
]


def start(folder: Path, output: Path, *arguments: str) -> subprocess.Popen[str]:
    seeds = ",".join(map(str, range(JOBS)))
    command = [sys.executable, "-m", "cxrlab.train", "-m", f"seed={seeds}", *SETTINGS, f"hydra.sweep.dir={folder}"]
    with output.open("a") as file:  # no pipe, which processes that outlive a killed parent would keep open
        return subprocess.Popen([*command, *arguments], stdout=file, stderr=file, text=True)


def finished(folder: Path) -> dict[Path, int]:
    """The jobs that are over, and when they were."""
    jobs = [RunFolder(path) for path in folder.glob("[0-9]*")]
    return {job.path: job.metrics.stat().st_mtime_ns for job in jobs if is_over(job)}


def begun(folder: Path) -> set[Path]:
    """The jobs that are in their epochs."""
    return {path.parent for path in folder.glob("[0-9]*/metrics.csv")}


def kill(process: subprocess.Popen[str], folder: Path, wanted: int) -> None:
    """Ends a sweep for good when so many jobs are over, and in the midst of another one."""
    deadline = time.monotonic() + 240
    while len(finished(folder)) < wanted or begun(folder) <= finished(folder).keys():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "kills"), [("basic", 2), ("joblib", 1)])
def test_a_killed_sweep_runs_every_job_once(launcher: str, kills: int, tmp_path: Path) -> None:
    if launcher == "joblib":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="NOT CHECKED: the extra sweeps is missing")
    folder, output = tmp_path / "sweep", tmp_path / "output.txt"
    arguments = [f"hydra/launcher={launcher}"] + (["hydra.launcher.n_jobs=2"] if launcher == "joblib" else [])
    over: dict[Path, int] = {}
    for wanted in range(1, kills + 1):
        kill(start(folder, output, *arguments), folder, wanted)
        over = finished(folder) | over  # the earlier times count
    process = start(folder, output, *arguments)
    assert process.wait(timeout=300) == 0, output.read_text(encoding="utf-8")
    assert output.read_text(encoding="utf-8").count("continued: ") == kills
    assert "finished before" in output.read_text(encoding="utf-8")

    after = finished(folder)
    assert len(after) == JOBS
    assert {path: after[path] for path in over} == over  # nobody has touched what was finished
    for path in after:
        run = RunFolder(path)
        assert list(pd.read_csv(run.history)["epoch"]) == [*range(1, EPOCHS + 1)]
        assert not is_claimed(path)
    assert Counter(RunFolder(path).saved_config().seed for path in after) == Counter(range(JOBS))
    assert Sweep.read(folder).summary().startswith(f"{JOBS} of {JOBS} jobs finished")
