"""The files of a run folder, read and checked, for everything that reports on runs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab.datamodules.flow import COLUMNS as FLOW
from cxrlab.errors import CheckpointError
from cxrlab.evaluation.decision import Decided
from cxrlab.evaluation.estimate import Estimate, revived
from cxrlab.evaluation.statistics import METRICS
from cxrlab.files import from_csv
from cxrlab.untrusted import mapping as mapping  # for its users
from cxrlab.untrusted import read_json, read_table, read_yaml

EVALUATED = ("test", "val")
_SECTION_KEYS = ("n", "n_patients", "n_positive", "n_negative", "threshold", "confusion_matrix", *METRICS)
_TEXT_COLUMNS = ("path", "patient_id", "split", "source", "finding", "view", "sha256", "film", "known")
_BESIDE = ("right", "n", "only_network", "only_baseline", "p")  # numbers that are told of each baseline
_TABLES_OF_IMAGES = ("manifest.csv", "predictions.csv", "baselines.csv")


@dataclass(frozen=True)
class RunRecord:
    """The files of a run folder.

    Attributes:
        folder: The run folder.
        config: ``config.yaml``.
        environment: ``environment.json``.
        metrics: ``metrics.json``.
        manifest: ``manifest.csv``, every image of the run.
        history: ``metrics.csv``, one row per epoch; ``None`` before the first is over.
        predictions: ``predictions.csv``, manifest rows with ``score``; ``None`` where nothing was scored. Of a
            calibrated model ``score`` is the calibrated probability, to which its threshold belongs, and
            ``uncalibrated`` the network's own score.
        flow: ``flow.csv``, what the source lists and which step removed what; ``None`` where it was not recorded.
        baselines: ``baselines.csv``, the test rows with one column of scores per trivial baseline; ``None`` where they
            were not computed.
        network: ``network.json``, the layers of the network; empty where it was not recorded.
        overrides: What was typed.
        beside: ``baselines.json``, of each trivial baseline its summary on the test images, see
            :func:`cxrlab.reports.baselines.compare`; empty where there is none.
    """

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    manifest: pd.DataFrame
    history: pd.DataFrame | None
    predictions: pd.DataFrame | None
    flow: pd.DataFrame | None
    baselines: pd.DataFrame | None
    network: dict[str, Any]
    overrides: list[str]
    beside: dict[str, Any] = field(default_factory=dict)

    @property
    def val_is_test(self) -> bool:
        """Whether the test images served as validation."""
        return mapping(self.config.get("data")).get("val") == "test"

    @property
    def unfinished(self) -> str | None:
        """Why a run has no end, in a sentence that begins with INTERRUPTED, DIVERGED or NOT FINISHED."""
        status, epochs = self.metrics.get("status"), self.metrics.get("epochs", "not recorded")
        if status == "finished":
            return None
        if status == "diverged":
            return f"DIVERGED: {self.metrics.get('diverged')} (epochs completed: {epochs})."
        state = "INTERRUPTED" if status == "interrupted" else "NOT FINISHED"
        return f"{state}: the training stopped before its end (epochs completed: {epochs})."

    @property
    def synthetic(self) -> bool:
        """Whether the images were drawn by a program."""
        return bool(self.metrics.get("synthetic"))

    @property
    def labels_are_collections(self) -> bool:
        """Whether Positive means another collection, and no disease (``data=which_collection``)."""
        source = mapping(mapping(self.config.get("data")).get("source"))
        return str(source.get("_target_") or "").endswith(".WhichCollectionSource")

    @property
    def evaluation(self) -> dict[str, Any]:
        """On what a trained model was evaluated, and on what it was trained; empty for a training."""
        return mapping(self.metrics.get("evaluation"))

    @property
    def of_the_paper(self) -> bool:
        """Whether every image is of the paper's Kaggle set."""
        return "source" in self.manifest and bool(len(self.manifest)) and set(self.manifest["source"]) == {"paper"}

    def rows(self, split: str) -> pd.DataFrame:
        """The manifest rows of one split."""
        return self.manifest[self.manifest["split"] == split]

    def scored(self, split: str) -> pd.DataFrame | None:
        """The predictions of one split, ``None`` where there are none at all."""
        return None if self.predictions is None else self.predictions[self.predictions["split"] == split]

    def section(self, split: str) -> dict[str, Any] | None:
        """The metrics of one split; ``None`` if it was not evaluated or repeats the test images."""
        found = self.metrics.get(split)
        return None if not found or (split == "val" and self.val_is_test) else dict(found)

    @property
    def decided(self) -> Decided | None:
        """How scores become calls; ``None`` where nothing was evaluated.

        Raises:
            CheckpointError: What ``metrics.json`` says about it is none.
        """
        found = mapping(self.metrics.get("decision"))
        try:
            return Decided.from_dict(found) if found else None
        except ValueError as error:
            hint = "restore the file as the run wrote it, or train again"
            raise CheckpointError(f"{self.folder / 'metrics.json'}: its decision is none ({error}); {hint}") from None

    def calibration(self, split: str) -> dict[str, Estimate]:
        """Brier score and calibration error of what the split's images are called by; empty where not recorded."""
        found = mapping(mapping(self.metrics.get("decision")).get(split))
        return mapping(found.get("calibrated")) or mapping(found.get("uncalibrated"))

    @property
    def model(self) -> str:
        """What the network is called: torchvision's name, or the class."""
        model = mapping(self.config.get("model"))
        target = str(model.get("_target_") or "").rpartition(".")[2]
        return str(model.get("name") or target or "model not recorded")


def read_run(folder: Path) -> RunRecord:
    """Reads a run folder.

    Required: ``config.yaml``, ``environment.json``, ``manifest.csv``, ``metrics.json``; the rest is read where present.

    Args:
        folder: Of a finished or interrupted run.

    Raises:
        CheckpointError: A required file is missing or a file cannot be read; names file and folder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no run folder: give the folder that holds config.yaml and metrics.json")
    manifest = _csv(folder, "manifest.csv", ("path", "label", "patient_id", "split"))
    assert manifest is not None
    metrics = mapping(_parsed(folder, "metrics.json"))
    for split in EVALUATED:
        absent = [key for key in _SECTION_KEYS if metrics.get(split) and key not in mapping(metrics[split])]
        if absent:
            raise _unreadable(folder, "metrics.json", f"{split} lacks {', '.join(absent)}")
    listed = _parsed(folder, "overrides.yaml", required=False)
    return RunRecord(
        folder=folder,
        config=mapping(_parsed(folder, "config.yaml")),
        environment=mapping(_parsed(folder, "environment.json")),
        metrics=metrics,
        manifest=manifest,
        history=_unless_empty(_csv(folder, "metrics.csv", ("epoch",), required=False)),
        predictions=_unless_empty(_predictions(folder)),
        flow=_unless_empty(_csv(folder, "flow.csv", FLOW, required=False)),
        baselines=_unless_empty(_csv(folder, "baselines.csv", ("path", "label"), required=False)),
        network=mapping(_parsed(folder, "network.json", required=False)),
        overrides=[str(item) for item in listed] if isinstance(listed, list) else [],
        beside=_beside(folder),
    )


def find_runs(patterns: Sequence[str]) -> list[Path]:
    """Returns the run folders that patterns mean, each once, in the order of their names and numbers.

    Args:
        patterns: Run folders, folders above some, or glob patterns; ``**`` stands for any number of folders.
    """
    marks = ("config.yaml", "metrics.json")
    found: dict[Path, Path] = {}
    for pattern in patterns:
        text = os.path.expanduser(pattern)  # noqa: PTH111 - a pattern, and not yet a path
        for match in [text] if Path(text).is_dir() else glob.glob(text, recursive=True):  # noqa: PTH207 - may be absolute
            for path in (path for mark in marks for path in Path(match).rglob(mark)):
                found.setdefault(path.parent.resolve(), path.parent)
    return sorted(found.values(), key=_in_counting_order)


def _in_counting_order(path: Path) -> list[tuple[int, str]]:
    """Sorts job 10 of a sweep after job 9."""
    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", str(path))]


def _unless_empty(table: pd.DataFrame | None) -> pd.DataFrame | None:
    return table if table is not None and len(table) else None


def _path(folder: Path, name: str, required: bool) -> Path | None:
    path = folder / name
    if path.is_file():
        return path
    if not required:
        return None
    raise CheckpointError(
        f"{name} is missing from the run folder {folder}: a report needs config.yaml, environment.json, manifest.csv "
        "and metrics.json; give a folder that a training run wrote, or train again"
    )


def _parsed(folder: Path, name: str, *, required: bool = True) -> Any:
    path = _path(folder, name, required)
    try:
        return None if path is None else revived(read_json(path)) if name.endswith(".json") else read_yaml(path)
    except (OSError, ValueError) as error:
        raise _unreadable(folder, name, str(error)) from error


def _csv(folder: Path, name: str, columns: Sequence[str], *, required: bool = True) -> pd.DataFrame | None:
    """Reads a table; text columns stay text, so that patient '007' is not patient 7 and 'None' is a name."""
    if _path(folder, name, required) is None:
        return None
    options: dict[str, Any] = {}
    if name in _TABLES_OF_IMAGES:
        options = {"dtype": dict.fromkeys(_TEXT_COLUMNS, str), "keep_default_na": False}
    try:
        table = from_csv(read_table(folder / name, **options))
        for column in {"label", "score"} & set(columns) & set(table.columns):
            table[column] = pd.to_numeric(table[column])
            if table[column].isna().any():
                raise ValueError(f"empty cells in column {column}")
    except pd.errors.EmptyDataError:
        table = pd.DataFrame(columns=list(columns))
    except (OSError, ValueError) as error:
        raise _unreadable(folder, name, str(error)) from error
    absent = [column for column in columns if column not in table]
    if absent:
        raise _unreadable(folder, name, f"no column {', '.join(absent)}")
    return table


def _predictions(folder: Path) -> pd.DataFrame | None:
    table = _csv(folder, "predictions.csv", ("label", "split", "score"), required=False)
    if table is None or "calibrated" not in table:
        return table
    table = table.rename(columns={"score": "uncalibrated", "calibrated": "score"})
    try:
        return table.assign(score=pd.to_numeric(table["score"]))
    except ValueError as error:
        raise _unreadable(folder, "predictions.csv", str(error)) from error


def _beside(folder: Path) -> dict[str, Any]:
    """The summaries of baselines, each with all that is told of it."""
    found = mapping(_parsed(folder, "baselines.json", required=False))
    for name, each in found.items():
        wrong = [
            key
            for kind, keys in ((Estimate, ("accuracy", "auroc")), ((int, float), _BESIDE))
            for key in keys
            if not isinstance(mapping(each).get(key), kind)
        ]
        if wrong:
            raise _unreadable(folder, "baselines.json", f"{name} lacks {', '.join(wrong)}")
    return found


def _unreadable(folder: Path, name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{name} in the run folder {folder} cannot be read ({reason}): restore the file as the run wrote it, "
        "or train again"
    )
