from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, open_dict
from rich import reconfigure

from cxrlab.config import compose
from cxrlab.errors import ConfigError
from cxrlab.files import write_json, write_text
from cxrlab.sweep import locate, sweep
from cxrlab.sweeps.state import note_begin


def make(folder: Path) -> Path:
    note_begin(folder, 1, ["seed=0,"])
    job = folder / "0_seed-0"
    write_text(job / "config.yaml", "{monitor: val/auroc, monitor_mode: max, trainer: {max_epochs: 2}}")
    write_text(job / "overrides.yaml", "['seed=0']")
    write_text(job / "metrics.csv", "epoch,val/auroc,seconds\n1,0.75,3\n2,0.5,4\n")
    write_json(job / "metrics.json", {"status": "finished"})
    return folder


def composed(*overrides: str) -> DictConfig:
    config = compose("sweep", overrides, "")
    with open_dict(config):
        del config["output_dir"]  # nothing is written
    return config


@pytest.mark.parametrize("watch", ["true", "false"])
def test_jobs_are_listed_until_all_are_over(watch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reconfigure(width=120)
    make(tmp_path)
    rows, objects = sweep(composed(f"sweep={tmp_path}", f"watch={watch}"))
    assert rows[0]["best"] == 0.75
    assert objects["sweep"].is_over
    output = capsys.readouterr().out
    assert "finished" in output
    assert "1 of 1 jobs finished, best val/auroc 0.7500 (seed=0)" in output


def test_the_newest_sweep_below_a_folder_is_meant(tmp_path: Path) -> None:
    make(tmp_path / "old")
    new = make(tmp_path / "new")
    assert locate(str(tmp_path)) == new


def test_wrong_values_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no sweep, which holds sweep\.json"):
        sweep(composed(f"sweep={tmp_path}"))
    with pytest.raises(ConfigError, match="every must be a number in"):
        sweep(composed(f"sweep={tmp_path}", "every=0"))
