"""Composing without a command line, and within one."""

from __future__ import annotations

from pathlib import Path

import hydra

from cxrlab.config import compose
from cxrlab.config.compose import group_options


def test_options_are_those_a_user_may_name() -> None:
    found = group_options("data")
    assert {"paper", "cohen", "synthetic"} <= set(found)
    assert not any(name.startswith("_") for name in found)


def test_inside_an_entry_point_its_own_search_path_counts(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("answer: 42\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/mine.yaml").write_text("{}\n")
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        config = compose("train", [], tmp_path / "run")
        assert "mine" in group_options("data")
    assert config.answer == 42
    assert config.output_dir == str(tmp_path / "run")
