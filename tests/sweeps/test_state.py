from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cxrlab.errors import ConfigError
from cxrlab.files import write_json, write_text
from cxrlab.locks import claimed
from cxrlab.sweeps.state import FAILED, Sweep, note_begin


def add_job(folder: Path, seed: int, losses: list[float], status: str | None = None, val: str = "0.15") -> Path:
    job = folder / f"{seed}_seed-{seed}"
    config = f"{{monitor: val/loss, monitor_mode: min, trainer: {{max_epochs: 3}}, data: {{val: {val}}}}}"
    write_text(job / "config.yaml", config)
    write_text(job / "overrides.yaml", json.dumps([f"seed={seed}", "keep_weights=False"]))
    rows = [f"{epoch},{loss},1.5" for epoch, loss in enumerate(losses, 1)]
    write_text(job / "metrics.csv", "\n".join(["epoch,val/loss,seconds", *rows]))
    if status:
        write_json(job / "metrics.json", {"status": status})
    return job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    note_begin(tmp_path, 6, ["seed=0,1,2,3,4,5", "keep_weights=false"])
    return tmp_path


def test_the_files_tell_how_far_every_job_is(folder: Path) -> None:
    add_job(folder, 0, [0.7, 0.5, 0.6], "finished")
    write_text(add_job(folder, 1, [0.4]) / FAILED, "no")
    add_job(folder, 2, [0.9, float("nan")], "interrupted")
    add_job(folder, 3, [])
    running = add_job(folder, 4, [0.8])
    with claimed(running):
        sweep = Sweep.read(folder)
    assert [job.status for job in sweep.jobs] == ["finished", "failed", "interrupted", "stopped", "running"]
    assert [job.best for job in sweep.jobs] == [0.5, 0.4, 0.9, None, 0.8]
    assert [job.epoch for job in sweep.jobs] == [3, 1, 2, 0, 1]
    assert sweep.jobs[0].epochs == 3
    assert sweep.jobs[0].seconds == 4.5
    assert not sweep.is_over
    assert [job.status for job in Sweep.read(folder).jobs][-1] == "stopped"


def test_the_summary_says_what_is_over_what_is_best_and_what_is_left(folder: Path) -> None:
    began = Sweep.read(folder).began
    for seed, loss in ((0, 0.5), (1, 0.4)):
        job = add_job(folder, seed, [loss], "finished")
        os.utime(job / "metrics.json", (began + 1, began + 1))
    write_text(add_job(folder, 2, [0.6]) / FAILED, "no")
    summary = Sweep.read(folder).summary(now=began + 600)
    # Two in ten minutes, three to go.
    assert summary == "2 of 6 jobs finished (1 failed), best val/loss 0.4000 (seed=1), about 15 min left"


def test_jobs_of_an_earlier_start_say_nothing_of_the_pace(folder: Path) -> None:
    job = add_job(folder, 0, [0.5], "finished")
    began = Sweep.read(folder).began
    os.utime(job / "metrics.json", (began - 60, began - 60))
    assert Sweep.read(folder).seconds_left(began + 5) is None


def test_test_images_that_are_validated_on_are_told(folder: Path) -> None:
    add_job(folder, 0, [0.5], "finished", val="test")
    assert "(seed=0; its validation images are its test images)" in Sweep.read(folder).summary()


def test_what_is_no_sweep_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the folder of a sweep"):
        Sweep.read(tmp_path / "nothing")
