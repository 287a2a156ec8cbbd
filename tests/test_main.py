"""The verbs of ``cxrlab``."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cxrlab.__main__ import main, programs

ROOT = Path(__file__).resolve().parents[1]


def cxrlab(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cxrlab", *words], cwd=folder, capture_output=True, text=True)


def test_the_verbs_are_the_installed_commands() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert {f"cxrlab-{name}" for name in programs()} == set(scripts) - {"cxrlab"}


def test_every_verb_says_what_it_does() -> None:
    for name, purpose in programs().items():
        assert purpose[:1].isupper(), name
        assert "``" not in purpose, name


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_verb_they_are_listed(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["cxrlab", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"cxrlab {name}" in printed for name in programs())


def test_a_misspelt_verb_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cxrlab", "trian", "seed=1"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    assert "did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.slow
def test_a_verb_is_its_program(tmp_path: Path) -> None:
    done = cxrlab("cache", f"folder={tmp_path}", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"empty    {tmp_path}" in done.stdout
    done = cxrlab("train", "lr=0.1", folder=tmp_path)
    assert done.returncode == 1
    assert "did you mean 'optimizer.lr'?" in done.stderr
    assert list(tmp_path.iterdir()) == []
