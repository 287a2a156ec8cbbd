"""Every argument of Lightning's Trainer works or is refused with what to type instead."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
from tests.training import without_pages

from cxrlab.config import Problems, compose
from cxrlab.errors import ConfigError
from cxrlab.steps.assembly import assemble
from cxrlab.steps.trainer_keys import ARGUMENTS, check_sees_all, check_trainer, seen
from cxrlab.train import train

DEFAULTS = {name: each.default for name, each in inspect.signature(pl.Trainer).parameters.items()}
TINY = [
    *("trainer=cpu", "trainer.max_epochs=2", "model=logistic", "data.image_size=32", "data.batch_size=4"),
    *("data.source.n_train=20", "data.source.n_test=8", "data.source.size=64", "logger=none"),
    "data.val=0.15",
]
OTHER = {"logger": True, "callbacks": [], "plugins": [], "max_time": "00:01:00:00", "overfit_batches": 2}
"""Values for which another than the default has a type of its own."""


def problems_of(**trainer: Any) -> list[str]:
    problems = Problems()
    check_trainer({"max_epochs": 1, **trainer}, problems)
    return problems.lines


def test_every_argument_of_this_lightning_is_decided() -> None:
    assert set(ARGUMENTS) == set(DEFAULTS)


@pytest.mark.parametrize("name", [name for name, rule in ARGUMENTS.items() if isinstance(rule, str)])
def test_what_is_refused_says_why_and_what_to_type(name: str) -> None:
    default = DEFAULTS[name]
    value = OTHER.get(name, not default if isinstance(default, bool) else 7)
    (line,) = problems_of(**{name: value})
    assert line.startswith(f"trainer.{name}: refused: ")
    assert "; " in line
    assert problems_of(**{name: default}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_epochs", 0),
        ("max_epochs", 2.5),
        ("min_epochs", 0),
        ("accumulate_grad_batches", 0),
        ("gradient_clip_val", -1.0),
        ("gradient_clip_val", float("nan")),
        ("gradient_clip_val", float("inf")),
        ("gradient_clip_algorithm", "mean"),
        ("deterministic", "yes"),
        ("benchmark", "no"),
        ("inference_mode", 3),
        ("log_every_n_steps", 0),
        ("num_sanity_val_steps", -2),
        ("limit_train_batches", 0),
        ("limit_train_batches", True),
        ("limit_train_batches", 1.5),
        ("limit_train_batches", float("nan")),
        ("limit_train_batches", "all"),
        ("limit_val_batches", 0.0),
        ("limit_val_batches", -3),
    ],
)
def test_values_out_of_range_are_named(name: str, value: Any) -> None:
    (line,) = problems_of(**{name: value})
    assert line.startswith(f"trainer.{name} must be ")
    assert repr(value) in line


def test_values_in_range_and_unknown_names_pass() -> None:
    taken = {"min_epochs": 2, "gradient_clip_val": 0.5, "gradient_clip_algorithm": "value", "deterministic": "warn"}
    assert problems_of(**taken, limit_train_batches=1.0, limit_val_batches=3, benchmark=None, fast=True) == []


def test_batches_are_divided_once() -> None:
    assert "use_distributed_sampler: must be false" in problems_of(strategy="ddp", use_distributed_sampler=True)[0]
    assert problems_of(strategy="ddp", use_distributed_sampler=False) == []


def test_all_mistakes_are_told_at_once_before_any_data(tmp_path: Path) -> None:
    typed = [*TINY, "data=manifest", "data.source.path=none.csv", "+trainer.max_steps=3", "trainer.limit_val_batches=0"]
    typed = [each for each in typed if "n_t" not in each and "source.size" not in each]
    with pytest.raises(ConfigError, match=r"(?s)2 problems.*limit_val_batches must be a share.*max_steps: refused"):
        assemble(compose("train", typed, tmp_path))


def of_labels(train: list[int], val: list[int], batch_size: int = 4) -> Any:
    rows = {"train": np.arange(len(train)), "val": len(train) + np.arange(len(val))}
    manifest = pd.DataFrame({"label": [*train, *val]})
    return SimpleNamespace(rows=rows.__getitem__, manifest=manifest, batch_size=batch_size)


def limited(train: Any = 1.0, val: Any = 1.0) -> Any:
    return SimpleNamespace(limit_train_batches=train, limit_val_batches=val)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, []),
        ({"train": 5, "val": 9}, []),
        ({"train": 1}, ["each epoch trained on 4 of 17 images only (trainer.limit_train_batches=1)"]),
        ({"train": 0.5}, ["each epoch trained on 8 of 17 images only (trainer.limit_train_batches=0.5)"]),
        ({"val": 0.5}, ["each epoch was validated on 4 of 6 images only (trainer.limit_val_batches=0.5)"]),
    ],
)
def test_a_part_of_the_images_is_counted(limits: dict[str, Any], expected: list[str]) -> None:
    assert seen(limited(**limits), of_labels([0, 1] * 8 + [1], [0, 1] * 3), "val/loss") == expected


@pytest.mark.parametrize(("limits", "where"), [({"train": 0.1}, "train"), ({"val": 0.4}, "val")])
def test_less_than_a_batch_is_refused(limits: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.limit_{where}_batches: 0\.\d of \d batches is less than one"):
        seen(limited(**limits), of_labels([0, 1] * 8 + [1], [0, 1] * 3), "val/loss")


@pytest.mark.parametrize(
    ("monitor", "labels", "missing"),
    [("auroc", [0, 0], "Positive"), ("ap", [0, 0], "Positive"), ("specificity", [1, 1], "Negative")],
)
def test_an_epoch_is_not_chosen_by_what_is_undefined(monitor: str, labels: list[int], missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"monitor=val/{monitor}: not defined, since none of the 2 .* is {missing}"):
        seen(limited(), of_labels([0, 1], labels), f"val/{monitor}")
    assert seen(limited(), of_labels([0, 1], labels), "val/loss") == []
    assert seen(limited(), of_labels([0, 1], [0, 1]), f"val/{monitor}") == []


def test_an_epoch_is_not_chosen_by_what_a_part_leaves_undefined() -> None:
    with pytest.raises(ConfigError, match="none of the 4 validation images is Positive"):
        seen(limited(val=1), of_labels([0, 1], [0, 0, 0, 0, 1, 1]), "val/auroc")


def test_a_gate_and_lungs_see_all_their_images() -> None:
    problems = Problems()
    check_sees_all({"limit_train_batches": 2, "limit_val_batches": 1}, "a gate", problems)
    assert [line.partition(":")[0] for line in problems.lines] == [
        "trainer.limit_train_batches",
        "trainer.limit_val_batches",
    ]
    check_sees_all({"limit_train_batches": 1.0}, "a gate", whole := Problems())
    assert whole.lines == []


@pytest.mark.slow
def test_a_run_that_saw_a_part_says_so_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = [*TINY, "trainer.limit_train_batches=1", "trainer.num_sanity_val_steps=1"]
    metrics, _ = train(compose("train", typed, tmp_path / "run"), typed)
    said = "each epoch trained on 4 of 16 images only (trainer.limit_train_batches=1)"
    assert metrics["warnings"][0] == said
    assert f"WARNING  {said}" in capsys.readouterr().out
    report, card = ((tmp_path / "run" / name).read_text(encoding="utf-8") for name in ("report.md", "model_card.md"))
    assert "trained on 4 of 16 images" in report.partition("\n## Cautions\n")[2].partition("\n## ")[0]
    assert "trained on 4 of 16 images" in card.partition("\n## ")[0]


def test_what_is_taken_works(tmp_path: Path) -> None:
    others = {"min_epochs": 2, "benchmark": "false", "inference_mode": "false", "use_distributed_sampler": "false"}
    own = {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0, "deterministic": "warn", "log_every_n_steps": 3}
    own |= {"num_sanity_val_steps": -1, "enable_model_summary": "true", "limit_val_batches": 3}
    typed = [*TINY, "callbacks=early_stopping", "callbacks.early_stopping.patience=1"]
    typed += ["callbacks.early_stopping.min_delta=10", "trainer.max_epochs=4", "optimizer=sgd"]
    typed += [f"+trainer.{key}={value}" for key, value in others.items()]
    typed += ["+trainer.gradient_clip_algorithm=value", *(f"trainer.{key}={value}" for key, value in own.items())]
    with without_pages():
        metrics, objects = train(compose("train", typed, tmp_path / "run"), typed)
    assert metrics["status"] == "finished"
    assert metrics["epochs"] == 2
    assert objects["trainer"].global_step == 4  # of four batches an epoch, in pairs
