"""What is typed for a matrix, and what is said about mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cxrlab.config import compose
from cxrlab.errors import ConfigError
from cxrlab.steps.matrix_plan import Plan, plan_matrix


def plan(folder: Path, *typed: str) -> Plan:
    return plan_matrix(compose("matrix", typed, folder))


def test_a_data_option_is_a_row_and_a_column(tmp_path: Path) -> None:
    found = plan(tmp_path, "train=[paper,cohen]", "seeds=[0,3]")
    assert [(row.name, row.data) for row in found.rows] == [("paper", ("data=paper",)), ("cohen", ("data=cohen",))]
    assert [column.name for column in found.columns] == ["paper", "cohen"]
    assert found.seeds == (0, 3)
    assert "model=paper_cnn" in found.recipe


def test_names_of_ones_own_come_before_data_options(tmp_path: Path) -> None:
    sets = "sets={cohen: 'data=cohen data.views=[PA]', b: ['data=synthetic', 'data.source.seed=1']}"
    found = plan(tmp_path, "train=[cohen]", "test=[cohen,b]", sets)
    assert found.rows[0].data == ("data=cohen", "data.views=[PA]")
    assert found.columns[1].data == ("data=synthetic", "data.source.seed=1")


def test_what_is_trained_already_is_a_row(tmp_path: Path) -> None:
    found = plan(tmp_path, f"train=[mine,{tmp_path}]", "test=paper", "models={mine: [runs/x, runs/y.ckpt]}")
    assert found.rows[0].checkpoints == ("runs/x", "runs/y.ckpt")
    assert found.rows[1].checkpoints == (str(tmp_path),)
    assert found.rows[0].data is None


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["train=[papre]"], r"'papre' is no set, .*did you mean 'paper'"),
        (["train=[paper]", "test=[chen]"], r"test: 'chen' is no set; did you mean 'cohen'"),
        (["train=[paper,cohen,paper]"], r"train: 'paper' stands there twice; `sets` gives"),
        (["train=[paper]", "test=[cohen,cohen]"], r"test: 'cohen' stands there twice"),
        (["train=[paper]", "seeds=[1,1]"], r"seeds: must be whole numbers, each once"),
        (["train=[paper]", "seeds=[-1]"], r"seeds must be a whole number in \[0, 4294967295\], got -1"),
        (["train=[paper]", "images=some"], r"images must be one of all, test"),
        (["train=[paper]", "recipe=fast"], r"recipe: must be overrides such as"),
        (["train=[paper]", "resamples=5"], r"resamples must be a whole number in \[100"),
        (["train=[a]", "sets={a: 'model=logistic'}"], r"'model=logistic' is no option of data"),
        (["train=[a]", "sets={a: 'data.views=[PA]'}"], r"sets.a: lacks data=…; there are actualmed, cohen"),
        (["train=[a]", "sets={a/b: 'data=paper'}"], r"sets.a/b: a name consists of"),
        (["train=[m]", "models={m: []}"], r"models.m: must be a run folder or .ckpt file"),
        (["train=[runs/x]"], r"test: name a set: none of the rows is one"),
        (["train=3"], r"train: must be a list of names"),
    ],
)
def test_a_mistake_ends_in_a_sentence(tmp_path: Path, typed: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan(tmp_path, *typed)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 problems"):
        plan(tmp_path, "train=[papre,paper]", "images=some", "seeds=[0,0]")
