"""Run folders, found, read and grouped into settings: runs that differ in nothing but seed and fold."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.errors import CheckpointError, DataError
from cxrlab.reports.record import RunRecord, find_runs, mapping, read_run

NOT_DEFINING = (
    *("seed", "output_dir", "ckpt_path", "keep_weights", "logger", "callbacks.progress", "callbacks.figures"),
    *("data.seed", "data.fold", "data.num_workers", "data.persistent_workers", "data.cache", "data.source.root"),
)
"""Keys in which runs of one setting may differ: they do not say how a network is trained, or where files lie."""
IMAGES = "images"
"""Stands among a setting's keys for the images themselves, which may differ where every key is the same."""

LeftOut = tuple[Path, str]
"""A folder that is not compared, and why."""
Flat = dict[str, Any]


@dataclass(frozen=True)
class Repeat:
    """One seed of a setting: a run, or the runs of all folds, so that every image is scored once.

    Attributes:
        seed: Of the runs; ``None`` for an evaluation.
        runs: One, or one per fold.
        rows: The scored images, in an order that is the same for every repeat of a comparison.
    """

    seed: int | None
    runs: tuple[RunRecord, ...]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Setting:
    """What several runs have in common.

    Attributes:
        name: The keys in which it differs from the other settings.
        repeats: One per seed, at least one.
        threshold: Score from which an image is called Positive.
    """

    name: str
    repeats: tuple[Repeat, ...]
    threshold: float

    @property
    def runs(self) -> list[RunRecord]:
        """Every run of every seed."""
        return [run for repeat in self.repeats for run in repeat.runs]

    @property
    def rows(self) -> pd.DataFrame:
        """The images, as the manifest describes them."""
        return self.repeats[0].rows

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Shape (images,): 0 Negative, 1 Positive."""
        return self.rows["label"].to_numpy(dtype=np.int64)

    @cached_property
    def people(self) -> npt.NDArray[Any]:
        """Shape (images,): one key per person."""
        return mf.people(self.rows).to_numpy()

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """Shape (seeds, images): probability of Positive."""
        return np.stack([repeat.rows["score"].to_numpy(dtype=np.float64) for repeat in self.repeats])

    @property
    def ensemble(self) -> npt.NDArray[np.float64]:
        """Shape (images,): the mean score of all seeds."""
        return np.asarray(self.scores.mean(axis=0))

    def right(
        self, scores: npt.NDArray[np.float64], labels: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.bool_]:
        """Whether scores of these images, shape (…, images), are on the right side of the threshold.

        Args:
            scores: Probabilities of Positive.
            labels: Others than the images' own.
        """
        return np.asarray((scores >= self.threshold) == (self.labels if labels is None else labels))


@dataclass(frozen=True)
class Gathered:
    """What was found.

    Attributes:
        settings: At least one, all with the same images.
        left_out: Folders that are not compared, each with the reason.
    """

    settings: list[Setting]
    left_out: list[LeftOut]


def gather(runs: str | Sequence[str], split: str = "test", key: str = "runs") -> Gathered:
    """Reads run folders and groups them into settings.

    Args:
        runs: A run folder, a folder above some, a pattern (``**`` for any depth), or several of these.
        split: Whose predictions are compared, ``test`` or ``val``.
        key: Under which they were typed, for errors.

    Raises:
        DataError: There is nothing to compare, folds are missing, or the images are not the same everywhere.
    """
    patterns = [runs] if isinstance(runs, str) else list(runs)
    left_out: list[LeftOut] = []
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for folder in find_runs(patterns):
        try:
            record = _read(folder, split)
        except CheckpointError as error:
            left_out.append((folder, str(error)))
        else:
            groups[_identity(record)].append(record)
    if not groups:
        raise DataError(_nothing(patterns, left_out, key))
    names = _names([group[0] for group in groups.values()])
    settings = [_setting(name, group, split, left_out) for name, group in zip(names, groups.values(), strict=True)]
    _check_same_images(settings, split)
    return Gathered(settings, left_out)


# ------------------------------------------------------------------------------------------------- what can be compared


def _read(folder: Path, split: str) -> RunRecord:
    """Reads a run that has come to its end.

    Raises:
        CheckpointError: Why it cannot be compared.
    """
    if not (folder / "metrics.json").is_file():
        raise CheckpointError("no metrics.json: the run has not finished")
    record = read_run(folder)
    status = record.metrics.get("status")
    if status != "finished":
        raise CheckpointError(f"the run is {status or 'of no known status'}, not finished")
    rows, section = record.scored(split), record.metrics.get(split)
    if split == "val" and record.val_is_test:
        raise CheckpointError("its validation images are its test images: split=test compares them")
    if rows is None or not len(rows) or not section:
        raise CheckpointError(f"it holds no predictions of {split} images")
    if "sha256" not in rows:
        raise CheckpointError("predictions.csv holds no sha256, by which images are recognised")
    if len(rows) != section["n"]:
        raise CheckpointError(f"predictions.csv holds {len(rows)} {split} images, metrics.json {section['n']}")
    return record


def _nothing(patterns: Sequence[str], left_out: Sequence[LeftOut], key: str) -> str:
    given = f"{key}={', '.join(patterns)}"
    if not left_out:
        example = f"type for example {key}='runs/seeds/**', with the quotes, or a folder"
        return f"{given}: no run folder (with config.yaml and metrics.json) there; {example}"
    reasons = "\n".join(f"  {folder}: {reason}" for folder, reason in left_out)
    return f"{given}: none of {len(left_out)} run folder(s) can be compared; give finished runs:\n{reasons}"


def _setting(name: str, records: Sequence[RunRecord], split: str, left_out: list[LeftOut]) -> Setting:
    """Sorts runs by seed and fold. Of several runs of a seed only the last is kept: they are not independent."""
    by_seed: dict[int | None, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_seed[_seed(record)].append(record)
    repeats = []
    for seed, runs in sorted(by_seed.items(), key=lambda item: -1 if item[0] is None else item[0]):
        folds = _folds(runs[0])
        if folds is None:
            left_out += [(run.folder, f"same setting and seed as {runs[-1].folder}") for run in runs[:-1]]
            runs = runs[-1:]
        else:
            _check_folds(f"{name}, seed {seed}", folds, Counter(map(fold_of, runs)))
        runs = sorted(runs, key=lambda run: fold_of(run) or 0)
        rows = pd.concat([table for run in runs if (table := run.scored(split)) is not None])
        rows = rows.sort_values(["sha256", "label", "path"], kind="stable").reset_index(drop=True)
        repeats.append(Repeat(seed, tuple(runs), rows))
    found = sorted({float(run.metrics[split]["threshold"]) for repeat in repeats for run in repeat.runs})
    if len(found) > 1:
        raise DataError(f"{name}: its runs call images Positive from different scores on ({found}); compare them apart")
    return Setting(name, tuple(repeats), found[0])


def _seed(record: RunRecord) -> int | None:
    """The seed of a training; an evaluation's changes nothing."""
    seed = record.config.get("seed")
    return seed if isinstance(seed, int) and evaluated_checkpoint(record) is None else None


def _folds(record: RunRecord) -> int | None:
    """How many folds belong together; an evaluation of one fold's network stands alone."""
    folds = mapping(record.config.get("data")).get("folds")
    return folds if isinstance(folds, int) and evaluated_checkpoint(record) is None else None


def fold_of(record: RunRecord) -> int | None:
    """The number of the fold that a run tested on, from 0; ``None`` where there are no folds."""
    fold = mapping(record.config.get("data")).get("fold")
    return fold if isinstance(fold, int) else None


def _check_folds(name: str, folds: int, counts: Counter[int | None]) -> None:
    missing = [fold for fold in range(folds) if not counts[fold]]
    twice = [fold for fold, times in counts.items() if times > 1]
    if missing or twice:
        which = [f"missing: {', '.join(map(str, missing))}"] if missing else []
        which += [f"more than once: {', '.join(map(str, twice))}"] if twice else []
        raise DataError(
            f"{name}: of {folds} folds (data.fold=0 to {folds - 1}) each has to be there once; "
            f"{'; '.join(which)}; train what is missing, or give runs=… without this setting"
        )


def _check_same_images(settings: Sequence[Setting], split: str) -> None:
    """Refuses runs whose images or labels are not those of the first."""
    repeats = [repeat for setting in settings for repeat in setting.repeats]
    first = repeats[0]
    expected = images(first.rows)
    for repeat in repeats[1:]:
        found = images(repeat.rows)
        if found == expected:
            continue
        own, other = found - expected, expected - found
        example = next(iter(own or other))
        table = (repeat if own else first).rows
        file = table.loc[(table["sha256"] == example[0]) & (table["label"] == example[1]), "path"].iloc[0]
        raise DataError(
            f"{repeat.runs[0].folder}: its {split} images are not those of {first.runs[0].folder}: "
            f"{own.total()} of its {found.total()} are not among the {expected.total()} there with the same label, and "
            f"{other.total()} of those are not among its own (for example {file}). Runs on different images cannot be "
            "told apart by their numbers; compare either group separately: runs=… with its folders only"
        )


def images(rows: pd.DataFrame) -> Counter[tuple[str, int]]:
    """Images by their bytes, or where those are not known by their paths, and labels."""
    key = "sha256" if "sha256" in rows else "path"
    return Counter(zip(rows[key], rows["label"], strict=True))


# --------------------------------------------------------------------------------------------- what makes a setting one


def _identity(record: RunRecord) -> str:
    checkpoint = evaluated_checkpoint(record)
    return f"checkpoint {checkpoint}" if checkpoint else json.dumps(_defining(record), sort_keys=True, default=str)


def evaluated_checkpoint(record: RunRecord) -> Path | None:
    """The run folder or file whose weights an evaluation scored; ``None`` for a training."""
    given = record.config.get("ckpt_path")
    if not given or "optimizer" in record.config:
        return None
    path = Path(given)
    return path.parent.parent if path.parent.name == "checkpoints" else path


def _defining(record: RunRecord) -> Flat:
    """What defines a training: the keys of its configuration, flat, and its images."""
    flat = {
        key: value
        for key, value in _flatten(record.config)
        if value is not None and not any(f"{key}.".startswith(f"{free}.") for free in NOT_DEFINING)
    }
    if _folds(record) is None and "sha256" in record.manifest:
        flat[IMAGES] = mf.fingerprint(record.manifest)[:8]
    return flat


def _flatten(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and values; a node with ``_target_`` also yields its own key, with the class as value.

    A list of such nodes yields its classes under its own key, ``HorizontalFlip+Affine``.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, _class(node, key)
        for name, value in node.items():
            yield from _flatten(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        yield key, "+".join(_class(item, "") for item in node)
        for number, item in enumerate(node):
            yield from _flatten(item, f"{key}.{number}")
    else:
        yield key, node


def _class(node: Any, key: str) -> str:
    """The last part of what a node names; of torchvision's models, which share a class, the name of the network."""
    target = str(mapping(node).get("_target_")).rpartition(".")[2]
    return str(mapping(node).get("name") or target) if key == "model" else target


# ------------------------------------------------------------------------------------------------------------- its name


def _names(records: Sequence[RunRecord]) -> list[str]:
    """Names settings, each given by one of its runs, by what tells them apart."""
    paths = [evaluated_checkpoint(record) for record in records]
    trainings = [record for record, path in zip(records, paths, strict=True) if path is None]
    prefix = "evaluation of " if trainings else ""
    by_keys, by_path = iter(_names_by_keys(trainings)), iter(_shortest([path for path in paths if path]))
    return [next(by_keys) if path is None else f"{prefix}{next(by_path)}" for path in paths]


def _names_by_keys(records: Sequence[RunRecord]) -> list[str]:
    if len(records) == 1:
        chosen = [item.partition("=")[2] for item in records[0].overrides if item.startswith("experiment=")]
        return [chosen[0] if chosen else records[0].model]
    flats = [_defining(record) for record in records]
    shown = [_telling(flat, flats) for flat in flats]
    names = [_spelt(flat, keys, shown) for flat, keys in zip(flats, shown, strict=True)]
    if len(set(names)) == len(names):
        return names
    shown = [[*keys, IMAGES] for keys in shown]
    return [_spelt(flat, keys, shown) for flat, keys in zip(flats, shown, strict=True)]


def _telling(flat: Flat, flats: Sequence[Flat]) -> list[str]:
    """The keys that tell a setting from others whose node is of the same class, without those that follow another."""
    every = dict.fromkeys(key for each in flats for key in each if key != IMAGES)
    keys: list[str] = []
    for key in every:
        above = [key.rsplit(".", parts)[0] for parts in range(1, key.count(".") + 1)]
        owner = next((each for each in above if each in every), None)  # the closest node of some class
        alike = [each for each in flats if owner is None or each.get(owner) == flat.get(owner)]
        differs = any(each.get(key) != flat.get(key) for each in alike)
        if differs and not any(_follows(key, kept, flats) for kept in keys):
            keys.append(key)
    return keys


def _follows(key: str, other: str, flats: Sequence[Flat]) -> bool:
    """Whether a key is another's interpolation: ``model.image_size`` always has the value of ``data.image_size``."""
    last, kept = key.rpartition(".")[2], other.rpartition(".")[2]
    alike = last.endswith(kept) or kept.endswith(last)
    return alike and all(flat.get(key) in (None, flat.get(other)) for flat in flats)


def _spelt(flat: Flat, keys: Sequence[str], shown: Sequence[Sequence[str]]) -> str:
    """``model=resnet18 lr=0.001``; a key is shortened to its last part where no other ends in it."""
    every = {key for each in shown for key in each}
    ends = Counter(key.rpartition(".")[2] for key in every)
    parts = []
    for key in keys:
        last = key.rpartition(".")[2]
        parts.append(f"{last if ends[last] == 1 and last != '_target_' else key}={_value(flat.get(key))}")
    return " ".join(parts)


def _value(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shortest(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as it takes to tell them apart."""
    for count in range(1, max((len(path.parts) for path in paths), default=0) + 1):
        names = ["/".join(path.parts[-count:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
