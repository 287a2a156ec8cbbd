from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from cxrlab.config import compose
from cxrlab.errors import ConfigError, DivergedError
from cxrlab.files import write_json, write_text
from cxrlab.runs import RunFolder
from cxrlab.sweeps import job
from cxrlab.sweeps.state import FAILED, best_monitored


class Training:
    """Stands for train(): notes what it was asked for, and finishes or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.ckpt_paths: list[str | None] = []

    def __call__(self, config: DictConfig, overrides: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        self.ckpt_paths.append(config.ckpt_path)
        run = RunFolder(config.output_dir)
        if not config.ckpt_path:
            run.begin(config, overrides)
        if self.error:
            raise self.error
        write_text(run.history, "epoch,val/loss,seconds\n1,0.7,1.0\n2,0.5,1.0\n3,0.6,1.0\n")
        write_text(run.path / "report.html", "")
        write_json(run.metrics, {"status": "finished"})
        return run.results(), {}


@pytest.fixture
def hydra(monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    """Hydra's node, as the sweep's process has it."""
    node = OmegaConf.create({"sweeper": {}, "launcher": {"_target_": "hydra.BasicLauncher"}, "job": {"num": 3}})
    monkeypatch.setattr(HydraConfig, "get", lambda: node)
    return node


def config_in(folder: Path, *overrides: str) -> DictConfig:
    config = compose("train", overrides, folder)
    with open_dict(config):
        config.output_dir = str(folder)
    return config


@pytest.mark.parametrize(("mode", "worst"), [("min", math.inf), ("max", -math.inf)])
def test_a_search_goes_on_after_a_training_that_diverged(
    mode: str, worst: float, hydra: DictConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_in(tmp_path, f"monitor_mode={mode}", "data.val=0.15")

    def diverging(config: DictConfig, overrides: Any) -> Any:
        write_json(tmp_path / "metrics.json", {"status": "diverged"})
        raise DivergedError("the training diverged")

    with pytest.raises(DivergedError):  # a job of a sweep fails, and Hydra goes on with the others
        job.run_job(config, [], diverging)
    hydra.sweeper = {"n_trials": 3}
    assert job.run_job(config, [], diverging) == ({"status": "diverged"}, worst)
    assert "job 3: the training diverged; the search takes this for the worst value" in capsys.readouterr().out
    assert (tmp_path / FAILED).read_text(encoding="utf-8") == "the training diverged\n"


def test_a_finished_job_is_taken_over(hydra: DictConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = Training()
    first = job.run_job(config_in(tmp_path), [], train)
    written = (tmp_path / "metrics.json").stat().st_mtime_ns
    again = job.run_job(config_in(tmp_path, "data.num_workers=2"), [], train)  # which changes no number
    assert again == first == ({"status": "finished"}, 0.5)
    assert train.ckpt_paths == [None]
    assert (tmp_path / "metrics.json").stat().st_mtime_ns == written
    assert "job 3: finished before" in capsys.readouterr().out


def test_a_job_that_was_stopped_goes_on_in_its_folder(hydra: DictConfig, tmp_path: Path) -> None:
    train = Training(RuntimeError("out of memory"))
    with pytest.raises(RuntimeError):
        job.run_job(config_in(tmp_path), [], train)
    assert (tmp_path / FAILED).read_text(encoding="utf-8") == "out of memory\n"
    train.error = None
    job.run_job(config_in(tmp_path), [], train)
    assert train.ckpt_paths == [None, str(tmp_path)]
    assert not (tmp_path / FAILED).exists()


def test_a_job_killed_before_its_last_files_is_finished_by_train(hydra: DictConfig, tmp_path: Path) -> None:
    train = Training()
    job.run_job(config_in(tmp_path), [], train)
    (tmp_path / "report.html").unlink()
    job.run_job(config_in(tmp_path), [], train)
    assert train.ckpt_paths == [None, str(tmp_path)]


def test_a_segmentation_begins_again(hydra: DictConfig, tmp_path: Path) -> None:
    train = Training(RuntimeError("killed"))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            job.run_job(config_in(tmp_path, "experiment=lungs"), [], train)
    assert train.ckpt_paths == [None, None]


def test_another_job_s_folder_is_refused_and_left_as_it_is(hydra: DictConfig, tmp_path: Path) -> None:
    train = Training()
    job.run_job(config_in(tmp_path), [], train)
    with pytest.raises(
        ConfigError, match=r"begun otherwise, in data\.seed, model\.dense_units, seed; hydra\.sweep\.dir="
    ):
        job.run_job(config_in(tmp_path, "seed=1", "model.dense_units=8"), [], train)
    assert not (tmp_path / FAILED).exists()
    assert train.ckpt_paths == [None]


def test_what_was_chosen_automatically_is_the_same_job(hydra: DictConfig, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.begin(config_in(tmp_path, "trainer.accelerator=cpu"), [])
    job.check_same(run, config_in(tmp_path, "trainer.accelerator=auto"))


def test_a_diverged_run_is_infinitely_bad(tmp_path: Path) -> None:
    for mode, worst in (("min", math.inf), ("max", -math.inf)):
        run = RunFolder(tmp_path / mode)
        run.begin(config_in(run.path, f"monitor_mode={mode}"), [])
        write_text(run.history, "epoch,val/loss,seconds\n1,nan,1.0\n")
        assert best_monitored(run) == worst


def test_jobs_that_run_at_once_use_one_device_each(hydra: DictConfig, tmp_path: Path) -> None:
    one_by_one, _ = job.run_job(config_in(tmp_path / "0", "trainer.devices=2"), [], Training())
    assert one_by_one == {"status": "finished"}
    hydra.launcher._target_ = "hydra_plugins.JoblibLauncher"
    with pytest.raises(ConfigError, match=r"trainer\.devices=2: jobs that run at once would train on the same devices"):
        job.run_job(config_in(tmp_path / "1", "trainer.devices=2"), [], Training())


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.val=test", "data.val=test: a search would choose the settings that suit the test images"),
        ("monitor=train/loss", "monitor=train/loss: a search optimises a validation metric"),
        ("experiment=lungs", "task=segment: a search optimises `monitor`"),
    ],
)
def test_a_search_never_sees_the_test_images(hydra: DictConfig, tmp_path: Path, override: str, sentence: str) -> None:
    job.check(config_in(tmp_path, override))  # in any other sweep it is allowed
    hydra.sweeper = {"n_trials": 2}
    with pytest.raises(ConfigError, match=sentence):
        job.check(config_in(tmp_path, override))
