from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from cxrlab.errors import CheckpointError, ConfigError
from cxrlab.runs import RunFolder

CONFIG = {
    "seed": 0,
    "weights": "best",
    "ckpt_path": None,
    "keep_weights": True,
    "model": {"dropout": [0.25, 0.25, 0.5]},
    "trainer": {"max_epochs": 20},
}


def config(folder: Path, **changes: object) -> DictConfig:
    return OmegaConf.create({**CONFIG, "output_dir": str(folder), **changes})


def begun(folder: Path, *overrides: str) -> RunFolder:
    run = RunFolder(folder)
    run.begin(config(folder), overrides)
    return run


def test_a_second_run_does_not_overwrite_the_first(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "seed=0")
    before = run.config.read_bytes()
    with pytest.raises(ConfigError, match=r"holds a run already.*hydra.run.dir=.*ckpt_path="):
        RunFolder(run.path).begin(config(run.path, seed=1), ["seed=1"])
    assert run.config.read_bytes() == before


def test_what_was_typed_is_known_again(tmp_path: Path) -> None:
    begun(tmp_path / "run", "seed=0", "model.dropout=[0.25,0.25,0.5]")
    assert RunFolder(tmp_path / "run").typed() == ["seed=0", "model.dropout=[0.25,0.25,0.5]"]


def test_a_run_is_found_by_folder_and_by_checkpoint_file(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    run.checkpoints.mkdir()
    (run.checkpoints / "last.ckpt").touch()
    assert RunFolder.of(run.path).path == run.path
    assert RunFolder.of(run.checkpoints / "last.ckpt").path == run.path


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "no such file or folder"), (".", "config.yaml is not in it")]
)
def test_what_is_no_run_is_said_to_be_none(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        RunFolder.of(tmp_path / name)


def test_resuming_takes_the_runs_own_configuration(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "seed=0")
    today = config(run.path, seed=7, ckpt_path=str(run.path), trainer={"max_epochs": 30})
    resumed = run.resume_config(today, [f"ckpt_path={run.path}", "trainer.max_epochs=30"])
    assert resumed.seed == 0
    assert resumed.trainer.max_epochs == 30
    assert resumed.ckpt_path == str(run.path)


def test_resuming_refuses_what_would_change_the_numbers(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "seed=0")
    today = config(run.path, seed=7, model={"dropout": [0, 0, 0]})
    with pytest.raises(ConfigError) as caught:
        run.resume_config(today, ["seed=7", "model.dropout=[0,0,0]", "trainer.max_epochs=20"])
    assert "seed=7" in str(caught.value)
    assert "model.dropout=[0,0,0]" in str(caught.value)
    assert "trainer.max_epochs=20" not in str(caught.value)


def test_resuming_elsewhere_is_refused(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    with pytest.raises(ConfigError, match="its own folder"):
        run.resume_config(config(tmp_path / "other"), [])


def test_weights_are_the_best_or_the_last(tmp_path: Path) -> None:
    run = begun(tmp_path / "run")
    with pytest.raises(CheckpointError, match="has finished no epoch yet"):
        run.weights()
    run.checkpoints.mkdir()
    for name in ("last.ckpt", "best.ckpt", "model.ckpt"):
        (run.checkpoints / name).touch()
        assert run.weights().name == name
