"""Comparing real runs: from what is typed to the files, and what is said when it cannot be done."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.training import QUICK, without_pages

from cxrlab import compare as program
from cxrlab.compare import compare
from cxrlab.config import compose
from cxrlab.errors import ConfigError, DataError
from cxrlab.evaluate import evaluate
from cxrlab.train import train

ONE_EPOCH = [*QUICK, "trainer.max_epochs=1", "logger=none"]
SETTINGS = ("[0,0,0]", "[0.25,0.25,0.5]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds without dropout, one with."""
    folder = tmp_path_factory.mktemp("runs")
    for number, (dropout, seed) in enumerate([(SETTINGS[0], 0), (SETTINGS[0], 1), (SETTINGS[1], 0)]):
        overrides = [*ONE_EPOCH, f"model.dropout={dropout}", f"seed={seed}"]
        with without_pages():
            train(compose("train", overrides, folder / str(number)), overrides)
    return folder


def run_comparison(runs: Path | str, folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    typed = [f"runs={runs}", "resamples=200"]
    return compare(compose("compare", typed, folder), typed)


def test_runs_become_settings(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, objects = run_comparison(f"{runs}/**", tmp_path)
    assert list(table["setting"]) == [f"dropout={each}" for each in SETTINGS]
    assert list(table["seeds"]) == [2, 1]
    assert table["synthetic"].all()
    assert list(table["parameters"]) == [24497, 24497]
    assert table["validation_mean"].notna().all()
    assert set(objects["paths"]) >= {"comparison.md", "comparison.html", "pairs.csv"}
    text = (tmp_path / "comparison.md").read_text()
    assert text.startswith("# SYNTHETIC: Comparison of 2 settings (3 runs)")
    assert "Best on the validation images: **dropout=" in text
    assert "cxrlab-compare" in text
    printed = capsys.readouterr().out
    assert "SYNTHETIC test images" in printed
    assert f"{tmp_path / 'comparison.html'}" in printed


@pytest.mark.slow
def test_an_evaluation_stands_beside_its_training(runs: Path, tmp_path: Path) -> None:
    with without_pages():
        evaluate(compose("evaluate", [f"ckpt_path={runs / '2'}", "accelerator=cpu"], tmp_path / "evaluation"))
    table, _ = run_comparison(f"[{tmp_path}/evaluation,{runs}/2]", tmp_path / "out")
    assert sorted(table["setting"]) == ["PaperCNN", "evaluation of 2"]
    assert table["accuracy_mean"].nunique() == 1


@pytest.mark.slow
def test_other_test_images_are_refused(runs: Path, tmp_path: Path) -> None:
    overrides = [*ONE_EPOCH, "data.source.seed=7"]
    with without_pages():
        train(compose("train", overrides, tmp_path / "other"), overrides)
    with pytest.raises(DataError, match=r"its test images are not those of .* 16 of its 16 are not among the 16 there"):
        run_comparison(f"[{runs},{tmp_path}/other]", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ([], "runs: must be set; add runs=... to the command"),
        (["runs=3"], "runs: must be a folder, a pattern, or a list of these, got 3"),
        (["runs=[]"], "runs: must be a folder, a pattern, or a list of these, got []"),
        (["runs=x", "split=train"], "split must be one of test, val, got 'train'"),
        (["runs=x", "confidence=95"], "confidence must be a number in (0, 1), got 95"),
        (["runs=x", "resamples=many"], "resamples must be a whole number in [100, inf), got 'many'"),
        (["runs=x", "seed=-1"], "seed must be a whole number in [0, inf), got -1"),
        (["runs=x", "reference=3"], "reference: must be the name of a setting, or null for all pairs, got 3"),
        (["runs=x", "+references=y"], "references: unknown key; did you mean 'reference'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_typed_wrong_is_said(typed: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compare(compose("compare", typed, tmp_path / "out"), typed)
    assert says in str(caught.value)


def typed_in(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Runs the program as from a shell that stands in a folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
    program.main()


def test_the_command_line(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").symlink_to(runs)
    reference = f'reference="dropout={SETTINGS[1]}"'
    typed_in(tmp_path, monkeypatch, "runs=runs/**", "resamples=100", "hydra.run.dir=elsewhere/out", reference)
    assert f"## Paired differences from dropout={SETTINGS[1]}" in (tmp_path / "elsewhere/out/comparison.md").read_text()
    assert "elsewhere/out/comparison.csv" in capsys.readouterr().out


def test_a_mistake_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        typed_in(tmp_path, monkeypatch, "runs=nowhere/**")
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert re.search(r"error: runs=nowhere/\*\*: no run folder", error)
    assert "Traceback" not in error
