"""From what is typed to the rows and columns of a matrix, or to one error that names everything wrong with it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.config.compose import group_options
from cxrlab.errors import check_choice, check_range, did_you_mean
from cxrlab.evaluation.estimate import Resampling

_OF_DATA = re.compile(r"[+~]{0,2}data[=./@]")
_NAME = re.compile(r"[\w.+-]+")  # it names folders


@dataclass(frozen=True)
class Row:
    """What is trained, or is there already.

    Attributes:
        name: As it is called on the page.
        data: Overrides that choose its images; ``None`` for models that are there.
        checkpoints: Run folders or ``.ckpt`` files, one per seed; empty for what is to be trained.
    """

    name: str
    data: tuple[str, ...] | None
    checkpoints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A place that is tested on: its name, and the overrides that choose its images."""

    name: str
    data: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Everything that was asked for, checked.

    Attributes:
        seeds: Of every training.
        recipe: Overrides of ``train.py`` for every training.
        images: ``all`` or ``test``: which of a column's.
        accelerator: To score with.
        lungs: See ``conf/train.yaml``.
        trusted: Packages whose networks a checkpoint may name.
        how: Of the intervals.
        runs: Folder of what is kept between matrices.
    """

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    seeds: tuple[int, ...]
    recipe: tuple[str, ...]
    images: str
    accelerator: str
    lungs: str
    trusted: tuple[str, ...]
    how: Resampling
    runs: Path


def plan_matrix(config: DictConfig) -> Plan:
    """Checks a configuration; no data are touched.

    Args:
        config: As composed from ``conf/matrix.yaml``.

    Raises:
        ConfigError: Lists every problem.
    """
    problems = Problems()
    check_names(config, keys_of("matrix"), problems)
    problems.raise_if_any()
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    options = {name: (f"data={name}",) for name in group_options("data")} | _sets(plain["sets"], problems)
    models = {name: _paths(name, each, problems) for name, each in _named("models", plain["models"], problems).items()}
    rows = _rows(_listed("train", plain["train"], problems), options, models, problems)
    names = _listed("test", plain["test"], problems) if plain["test"] else [row.name for row in rows if row.data]
    for name in names:
        if name not in options:
            problems.add("test", f"{name!r} is no set{_known(name, [*options])}")
    for key, given in (("train", [row.name for row in rows]), ("test", [name for name in names if name in options])):
        for name in sorted({name for name in given if given.count(name) > 1}):
            hint = "`sets` gives the same images with other options another name"
            problems.add(key, f"{name!r} stands there twice; {hint}")
    if rows and not names:
        problems.add("test", "name a set: none of the rows is one")
    seeds = plain["seeds"] if isinstance(plain["seeds"], list) else [plain["seeds"]]
    with problems.guard("seeds"):
        if not seeds or len({*map(str, seeds)}) < len(seeds):
            raise ValueError(f"must be whole numbers, each once, such as [0, 1, 2], got {plain['seeds']!r}")
        for seed in seeds:
            check_range("seeds", seed, 0, 2**32 - 1, integer=True)
    recipe = _overrides("recipe", plain["recipe"], problems)
    with problems.guard("images"):
        check_choice("images", plain["images"], ("all", "test"))
    how = Resampling()
    with problems.guard("resamples"):
        how = Resampling(plain["resamples"], plain["seed"], plain["confidence"])
    problems.raise_if_any()
    return Plan(
        rows=tuple(rows),
        columns=tuple(Column(name, options[name]) for name in names),
        seeds=tuple(seeds),
        recipe=recipe,
        images=plain["images"],
        accelerator=plain["accelerator"],
        lungs=str(plain["lungs"]),
        trusted=tuple(plain["trusted"]),
        how=how,
        runs=Path(plain["runs"]).expanduser(),
    )


def _rows(
    names: Sequence[str],
    options: Mapping[str, tuple[str, ...]],
    models: Mapping[str, tuple[str, ...]],
    problems: Problems,
) -> list[Row]:
    rows = []
    for name in names:
        if name in models:
            rows.append(Row(name, None, models[name]))
        elif name in options:
            rows.append(Row(name, options[name]))
        elif "/" in name or name.endswith(".ckpt") or Path(name).expanduser().exists():
            rows.append(Row(name, None, (name,)))
        else:
            known = _known(name, [*options, *models])
            problems.add("train", f"{name!r} is no set, no name of `models` and no run folder{known}")
    return rows


def _overrides(key: str, value: Any, problems: Problems) -> tuple[str, ...]:
    """Overrides from one line of text, or from a list."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            problems.add(key, f"not a line of overrides ({error}), got {value!r}")
            return ()
    if not isinstance(value, Sequence) or not all(isinstance(each, str) and "=" in each for each in value):
        problems.add(key, f'must be overrides such as "model=paper_cnn trainer.max_epochs=5", or a list, got {value!r}')
        return ()
    return tuple(value)


def _named(key: str, value: Any, problems: Problems) -> dict[str, Any]:
    """A dict with names as keys; anything else is a problem."""
    if value is not None and not isinstance(value, Mapping):
        problems.add(key, f"must be names with what they stand for, {{mine: …}}, got {value!r}")
        return {}
    for name in value or {}:
        if not _NAME.fullmatch(str(name)):
            problems.add(f"{key}.{name}", "a name consists of letters, digits, dots, + and -")
    return {str(name): each for name, each in (value or {}).items()}


def _sets(value: Any, problems: Problems) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, each in _named("sets", value, problems).items():
        overrides = found[name] = _overrides(f"sets.{name}", each, problems)
        for override in overrides:
            if not _OF_DATA.match(override):
                problems.add(f"sets.{name}", f"{override!r} is no option of data; `recipe` has those of the training")
        if overrides and not any(override.startswith("data=") for override in overrides):
            problems.add(f"sets.{name}", f"lacks data=…; there are {', '.join(group_options('data'))}")
    return found


def _paths(name: str, value: Any, problems: Problems) -> tuple[str, ...]:
    """The checkpoints of a model."""
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, Sequence) or not paths or not all(isinstance(path, str) and path for path in paths):
        problems.add(f"models.{name}", f"must be a run folder or .ckpt file, or a list of these, got {value!r}")
        return ()
    return tuple(paths)


def _listed(key: str, value: Any, problems: Problems) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) and name for name in names):
        problems.add(key, f"must be a list of names, such as [paper, cohen], got {value!r}")
        return []
    return list(names)


def _known(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known) or f"; there are {', '.join(known)}, and `sets` takes names of your own"
