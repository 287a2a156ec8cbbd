from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig

from cxrlab.config import plugins, resolvers, sweep_folder


def composed(*overrides: str) -> DictConfig:
    plugins.register()
    resolvers.register()
    with initialize_config_module("cxrlab.conf", version_base="1.3"):
        return compose("train", overrides=[*overrides], return_hydra_config=True)


@pytest.fixture(autouse=True)
def code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_folder, "code_digest", lambda: "code")


def test_the_same_sweep_finds_its_folder_again(tmp_path: Path) -> None:
    above = str(tmp_path)
    new = Path(sweep_folder.sweep_dir(above, composed("model.dense_units=8")))
    assert new.parent == tmp_path
    new.mkdir()
    assert sweep_folder.sweep_dir(above, composed("model.dense_units=8")) == str(new)
    assert sweep_folder.sweep_dir(above, composed("model.dense_units=9")) != str(new)


@pytest.mark.parametrize(
    "override",
    ["data.num_workers=3", "keep_weights=false", "hydra/launcher=joblib", "hydra.sweeper.max_batch_size=2"],
)
def test_what_changes_no_number_changes_no_fingerprint(override: str) -> None:
    assert sweep_folder.fingerprint(composed(override)) == sweep_folder.fingerprint(composed())


@pytest.mark.parametrize("override", ["seed=1", "model=logistic", "hydra/sweeper=optuna", "experiment=seeds"])
def test_what_changes_a_number_changes_the_fingerprint(override: str) -> None:
    assert sweep_folder.fingerprint(composed(override)) != sweep_folder.fingerprint(composed())


def test_a_search_may_be_made_longer() -> None:
    search = ["hparams_search=paper_cnn"]
    longer = composed(*search, "hydra.sweeper.n_trials=80")
    assert longer.hydra.sweeper.n_trials == 80
    assert sweep_folder.fingerprint(longer) == sweep_folder.fingerprint(composed(*search))


def test_an_edited_source_file_is_another_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "a.py").write_text("1")
    first = sweep_folder.code_digest(tmp_path)
    (tmp_path / "a.py").write_text("2")
    assert sweep_folder.code_digest(tmp_path) != first


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm"])
def test_launchers_compose_whether_or_not_they_are_installed(launcher: str) -> None:
    config = composed(f"hydra/launcher={launcher}", "trainer=cpu")
    assert "hydra_plugins" in config.hydra.launcher._target_
    if launcher == "joblib":
        assert config.hydra.launcher.n_jobs >= 1


def test_a_search_follows_the_monitor() -> None:
    search = composed("hparams_search=paper_cnn", "monitor=val/auroc", "monitor_mode=max")
    assert search.hydra.sweeper.direction == "maximize"
    assert search.data.val == 0.15
