"""Sweeps through the plugins, as real processes; each test says so where its extra is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests import programs

from cxrlab.runs import RunFolder

SETTINGS = [
    "model=paper_cnn_small",
    "data.image_size=32",
    "data.source.size=64",
    "data.batch_size=16",
    "data.source.n_train=40",
    "data.source.n_test=12",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "logger=none",
    "keep_weights=false",
]


def searched(*arguments: str) -> str:
    """What a sweep prints in a process of its own: an old optuna warns while it is imported, which is an error here."""
    command = [sys.executable, "-m", "cxrlab.train", "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def written(folder: Path) -> dict[str, int]:
    """When each finished job of a sweep wrote its results."""
    jobs = [RunFolder(path) for path in folder.glob("[0-9]*")]
    return {job.path.name: job.metrics.stat().st_mtime_ns for job in jobs if job.status() == "finished"}


@pytest.mark.slow
def test_submitit_runs_each_job_in_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_submitit_launcher", reason="NOT CHECKED: the extra sweeps is not installed"
    )
    sweep = ["seed=0,1", "hydra/launcher=submitit_local", f"hydra.sweep.dir={tmp_path}/sweep"]
    status, _, errors = programs.run("train", "-m", *SETTINGS, "trainer.max_epochs=1", *sweep)
    assert status == 0, errors
    assert len(written(tmp_path / "sweep")) == 2
    said = [path.read_text(encoding="utf-8") for path in (tmp_path / "sweep" / ".submitit").glob("*/*_log.out")]
    assert sum("2 of 2 jobs finished" in text for text in said) >= 1


@pytest.mark.slow
def test_a_search_that_is_repeated_and_made_longer_runs_only_what_is_new(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="NOT CHECKED: the extra optuna is not installed")
    search = [
        *SETTINGS,
        "hydra/sweeper=optuna",
        "+hydra.sweeper.params={optimizer.lr: 'tag(log, interval(0.0001, 0.01))', model.dense_units: 'choice(4, 8)'}",
        "hydra.sweeper.sampler.n_startup_trials=1",
        f"hydra.sweep.dir={tmp_path}/sweep",
    ]
    searched("hydra.sweeper.n_trials=2", *search)
    before = written(tmp_path / "sweep")
    longer = searched("hydra.sweeper.n_trials=3", *search)
    after = written(tmp_path / "sweep")
    assert longer.count("finished before") == len(before) == 2
    assert len(after) == 3
    assert {name: after[name] for name in before} == before
    assert "3 of 3 jobs finished, best val/loss" in longer
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text(encoding="utf-8"))
    assert f"optimizer.lr={best['best_params']['optimizer.lr']}" in longer.splitlines()[-1]


@pytest.mark.slow
def test_without_its_plugin_a_launcher_ends_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").touch()  # hides what is installed
    command = [sys.executable, "-m", "cxrlab.train", "-m", "seed=0,1", "hydra/launcher=joblib", "trainer=cpu"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    arguments = [*command, f"hydra.sweep.dir={tmp_path}/sweep"]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    told = "error: hydra/launcher needs hydra-joblib-launcher, which is not installed: type "
    assert done.stderr == f"{told}`pip install 'cxrlab[sweeps]'`\n"
