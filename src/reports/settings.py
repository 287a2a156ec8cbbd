"""Run folders, found, read and grouped into settings: runs that differ in nothing but seed and fold."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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


class Repeat(NamedTuple):
    """One seed (``None``: an evaluation): a run, or one per fold, and the scored images, in one order for all."""

    seed: int | None
    runs: list[RunRecord]
    rows: pd.DataFrame


@dataclass(frozen=True)
class Setting:
    """What several runs have in common.

    Attributes:
        name: The keys in which it differs from the other settings.
        repeats: One per seed, at least one.
        threshold: Score from which an image is called Positive.
        rows: The images, as the manifest describes them.
        labels: Shape (images,): 0 Negative, 1 Positive.
        people: Shape (images,): one key per person.
        scores: Shape (seeds, images): probability of Positive.
    """

    name: str
    repeats: list[Repeat]
    threshold: float
    rows: pd.DataFrame
    labels: npt.NDArray[np.int64]
    people: npt.NDArray[Any]
    scores: npt.NDArray[np.float64]

    @property
    def runs(self) -> list[RunRecord]:
        """Every run of every seed."""
        return [run for repeat in self.repeats for run in repeat.runs]

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


class Gathered(NamedTuple):
    """At least one setting, all with the same images; and folders that are not compared, each with the reason."""

    settings: list[Setting]
    left_out: list[tuple[Path, str]]


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
    left_out: list[tuple[Path, str]] = []
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for folder in find_runs(patterns):
        try:
            record = _read(folder, split)
        except CheckpointError as error:
            left_out.append((folder, str(error)))
        else:
            checkpoint = evaluated_checkpoint(record)
            identity = checkpoint or json.dumps(_defining(record), sort_keys=True, default=str)
            groups[str(identity)].append(record)
    if not groups:
        given = f"{key}={', '.join(patterns)}"
        if not left_out:
            example = f"type for example {key}='runs/seeds/**', with the quotes, or a folder"
            raise DataError(f"{given}: no run folder (with config.yaml and metrics.json) there; {example}")
        reasons = "\n".join(f"  {folder}: {reason}" for folder, reason in left_out)
        raise DataError(
            f"{given}: none of {len(left_out)} run folder(s) can be compared; give finished runs:\n{reasons}"
        )
    names = _names([group[0] for group in groups.values()])
    settings = [_setting(name, group, split, left_out) for name, group in zip(names, groups.values(), strict=True)]
    _check_same_images([repeat for setting in settings for repeat in setting.repeats], split)
    return Gathered(settings, left_out)


def fold_of(record: RunRecord) -> int | None:
    """The number of the fold that a run tested on, from 0; ``None`` where there are no folds."""
    return _whole(record.config.get("data"), "fold")


def images(rows: pd.DataFrame) -> Counter[tuple[str, int]]:
    """Images by their bytes, or where those are not known by their paths, and labels."""
    key = "sha256" if "sha256" in rows else "path"
    return Counter(zip(rows[key], rows["label"], strict=True))


def evaluated_checkpoint(record: RunRecord) -> Path | None:
    """The run folder or file whose weights an evaluation scored; ``None`` for a training."""
    given = record.config.get("ckpt_path")
    if not given or "optimizer" in record.config:
        return None
    path = Path(given)
    return path.parent.parent if path.parent.name == "checkpoints" else path


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


def _setting(name: str, records: Sequence[RunRecord], split: str, left_out: list[tuple[Path, str]]) -> Setting:
    """Sorts runs by seed and fold. Of several runs of a seed only the last is kept: they are not independent."""
    # The seed of an evaluation changes nothing, and an evaluation of one fold's network stands alone.
    trained = evaluated_checkpoint(records[0]) is None
    folds = _whole(records[0].config.get("data"), "folds") if trained else None
    by_seed: dict[int | None, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_seed[_whole(record.config, "seed") if trained else None].append(record)
    repeats = []
    for seed, runs in sorted(by_seed.items(), key=lambda item: -1 if item[0] is None else item[0]):
        if folds is None:
            left_out += [(run.folder, f"same setting and seed as {runs[-1].folder}") for run in runs[:-1]]
            runs = runs[-1:]
        else:
            _check_folds(f"{name}, seed {seed}", folds, Counter(map(fold_of, runs)))
        runs = sorted(runs, key=lambda run: fold_of(run) or 0)
        rows = pd.concat([run.scored(split) for run in runs])
        rows = rows.sort_values(["sha256", "label", "path"], kind="stable").reset_index(drop=True)
        repeats.append(Repeat(seed, runs, rows))
    thresholds = sorted({float(run.metrics[split]["threshold"]) for repeat in repeats for run in repeat.runs})
    if len(thresholds) > 1:
        raise DataError(
            f"{name}: its runs call images Positive from different scores on ({thresholds}); compare them apart"
        )
    rows = repeats[0].rows
    labels, scores = rows["label"].to_numpy(np.int64), [each.rows["score"].to_numpy(np.float64) for each in repeats]
    return Setting(name, repeats, thresholds[0], rows, labels, mf.people(rows).to_numpy(), np.stack(scores))


def _whole(node: Any, key: str) -> int | None:
    """A whole number of a configuration; ``None`` where there is none."""
    value = mapping(node).get(key)
    return value if isinstance(value, int) else None


def _check_folds(name: str, folds: int, counts: Counter[int | None]) -> None:
    missing = [fold for fold in range(folds) if not counts[fold]]
    twice = [fold for fold, times in counts.items() if times > 1]
    wrong = [f"missing: {', '.join(map(str, missing))}"] if missing else []
    wrong += [f"more than once: {', '.join(map(str, twice))}"] if twice else []
    if wrong:
        raise DataError(
            f"{name}: of {folds} folds (data.fold=0 to {folds - 1}) each has to be there once; "
            f"{'; '.join(wrong)}; train what is missing, or give runs=… without this setting"
        )


def _check_same_images(repeats: Sequence[Repeat], split: str) -> None:
    """Refuses runs whose images or labels are not those of the first."""
    first = repeats[0]
    expected = images(first.rows)
    for repeat in repeats[1:]:
        found = images(repeat.rows)
        own, other = found - expected, expected - found
        if not own and not other:
            continue
        sha256, label = next(iter(own or other))
        table = (repeat if own else first).rows
        file = table.loc[(table["sha256"] == sha256) & (table["label"] == label), "path"].iloc[0]
        raise DataError(
            f"{repeat.runs[0].folder}: its {split} images are not those of {first.runs[0].folder}: "
            f"{own.total()} of its {found.total()} are not among the {expected.total()} there with the same label, and "
            f"{other.total()} of those are not among its own (for example {file}). Runs on different images cannot be "
            "told apart by their numbers; compare either group separately: runs=… with its folders only"
        )


def _defining(record: RunRecord) -> dict[str, Any]:
    """What defines a training: the keys of its configuration, flat, and its images."""
    flat = {
        key: value
        for key, value in _flatten(record.config)
        if value is not None and not any(f"{key}.".startswith(f"{free}.") for free in NOT_DEFINING)
    }
    if _whole(record.config.get("data"), "folds") is None and "sha256" in record.manifest:
        flat[IMAGES] = mf.fingerprint(record.manifest)[:8]
    return flat


def _flatten(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted keys and values; a node with ``_target_`` also yields its own key, with the class as value.

    A list of such nodes yields its classes under its own key, ``HorizontalFlip+Affine``.
    """
    if isinstance(node, Mapping):
        if "_target_" in node:
            network = node.get("name") if key == "model" else None  # torchvision's models share a class
            yield key, str(network or _class(node))
        for name, value in node.items():
            yield from _flatten(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list) and any(isinstance(item, Mapping) for item in node):
        yield key, "+".join(map(_class, node))
        for number, item in enumerate(node):
            yield from _flatten(item, f"{key}.{number}")
    else:
        yield key, node


def _class(node: Any) -> str:
    return str(mapping(node).get("_target_")).rpartition(".")[2]


def _names(records: Sequence[RunRecord]) -> list[str]:
    """Names settings, each given by one of its runs, by what tells them apart."""
    paths = [evaluated_checkpoint(record) for record in records]
    trainings = [record for record, path in zip(records, paths, strict=True) if path is None]
    by_keys, prefix = iter(_names_by_keys(trainings)), "evaluation of " if trainings else ""
    # The last parts of the checkpoints' paths, as many as it takes to tell them apart.
    parts = {path: path.parts for path in paths if path}
    last = next(last for last in itertools.count(1) if len({each[-last:] for each in parts.values()}) == len(parts))
    return [next(by_keys) if path is None else f"{prefix}{'/'.join(parts[path][-last:])}" for path in paths]


def _names_by_keys(records: Sequence[RunRecord]) -> list[str]:
    if len(records) == 1:
        chosen = [item.partition("=")[2] for item in records[0].overrides if item.startswith("experiment=")]
        return [chosen[0] if chosen else records[0].model]
    flats = [_defining(record) for record in records]
    keys = [_telling(flat, flats) for flat in flats]
    names = _spelt(flats, keys)
    return names if len(set(names)) == len(names) else _spelt(flats, [[*each, IMAGES] for each in keys])


def _telling(flat: dict[str, Any], flats: Sequence[dict[str, Any]]) -> list[str]:
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


def _follows(key: str, other: str, flats: Sequence[dict[str, Any]]) -> bool:
    """Whether a key is another's interpolation: ``model.image_size`` always has the value of ``data.image_size``."""
    last, kept = key.rpartition(".")[2], other.rpartition(".")[2]
    alike = last.endswith(kept) or kept.endswith(last)
    return alike and all(flat.get(key) in (None, flat.get(other)) for flat in flats)


def _spelt(flats: Sequence[dict[str, Any]], keys: Sequence[Sequence[str]]) -> list[str]:
    """``model=resnet18 lr=0.001``; a key is shortened to its last part where no other ends in it."""
    last = {key: key.rpartition(".")[2] for each in keys for key in each}
    ends = Counter(last.values())
    short = {key: end if ends[end] == 1 and end != "_target_" else key for key, end in last.items()}
    return [
        " ".join(f"{short[key]}={_value(flat.get(key))}" for key in each)
        for flat, each in zip(flats, keys, strict=True)
    ]


def _value(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
