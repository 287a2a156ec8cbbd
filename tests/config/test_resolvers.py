from __future__ import annotations

import re
from pathlib import Path

import pytest

from cxrlab.config import resolvers


def test_a_run_is_named_after_its_experiment_or_its_model() -> None:
    assert resolvers.run_name({"experiment": None, "model": "paper_cnn"}) == "paper_cnn"
    assert resolvers.run_name({"experiment": "paper", "model": "paper_cnn"}) == "paper"


def test_a_continued_run_keeps_its_folder(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()
    assert resolvers.run_dir(None, "fresh") == "fresh"
    assert resolvers.run_dir(str(run), "fresh") == str(run)
    assert resolvers.run_dir(f"{run}/checkpoints/last.ckpt", "fresh") == str(run)


def test_a_mistyped_checkpoint_names_no_folder_to_write_to(tmp_path: Path) -> None:
    assert resolvers.run_dir(str(tmp_path / "rnu"), "fresh") == "fresh"
    assert resolvers.run_dir(str(tmp_path), "fresh") == "fresh"


def test_job_folders_are_short_and_safe() -> None:
    overrides = ["model.dropout=[0,0,0]", "data.image_size=128", "+trainer.precision=32-true"]
    assert resolvers.job_folder(3, overrides) == "3_dropout-0-0-0_image_size-128_precision-32-true"
    assert resolvers.job_folder(1, ["experiment=seeds"]) == "1"
    long = resolvers.job_folder(0, [f"key{number}=value" for number in range(50)])
    assert len(long) <= 100


def test_a_prediction_is_found_again_by_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    typed = ["ckpt_path=runs/a", "input=/data/my scans/"]
    folder = resolvers.predict_dir(typed)
    assert re.fullmatch(r"my-scans_[0-9a-f]{8}", folder)
    assert resolvers.predict_dir([*reversed(typed), "batch_size=4", "json=true", "accelerator=cpu"]) == folder
    assert resolvers.predict_dir([*typed, "gate=none"]) != folder
    assert resolvers.predict_dir(["ckpt_path=runs/b", typed[1]]) != folder
    monkeypatch.chdir(tmp_path)
    assert resolvers.predict_dir(typed) != folder  # relative paths mean other files there


@pytest.mark.parametrize("given", ["[a.png,b.png]", "'../x;rm -rf $HOME'", "", "/", "scans/**/*.dcm"])
def test_the_folder_of_a_prediction_is_one_plain_name(given: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9-]{1,40}_[0-9a-f]{8}", resolvers.predict_dir([f"input={given}"]))
