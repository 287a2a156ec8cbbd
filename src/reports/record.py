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
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import CheckpointError
from cxrlab.evaluation.decision import Decided
from cxrlab.evaluation.estimate import Estimate, revived
from cxrlab.evaluation.statistics import METRICS
from cxrlab.files import from_csv
from cxrlab.untrusted import mapping as mapping  # for its users
from cxrlab.untrusted import read_json, read_table, read_yaml

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
EVALUATED = ("test", "val")
_REQUIRED = ("config.yaml", "environment.json", "manifest.csv", "metrics.json")
_SECTION: dict[str, Any] = dict.fromkeys(
    ("n", "n_patients", "n_positive", "n_negative", "threshold", "confusion_matrix", *METRICS), object
)
_BESIDE: dict[str, Any] = {"accuracy": Estimate, "auroc": Estimate}  # what is told of each baseline
_BESIDE |= dict.fromkeys(("right", "n", "only_network", "only_baseline", "p"), (int, float))
_TEXT_COLUMNS = ("path", "patient_id", "split", "source", "finding", "view", "sha256", "film", "known")


@dataclass(frozen=True)
class RunRecord:
    """The files of a run folder, each by its name; ``None`` or empty where one is not there.

    Attributes:
        manifest: Every image of the run.
        history: ``metrics.csv``, one row per epoch.
        predictions: Manifest rows with ``score``. Of a calibrated model ``score`` is the calibrated probability, to
            which its threshold belongs, and ``uncalibrated`` the network's own score.
        flow: What the source lists and which step removed what.
        baselines: ``baselines.csv``, the test rows with one column of scores per trivial baseline.
        overrides: What was typed.
        beside: ``baselines.json``, of each trivial baseline its summary on the test images, see
            :func:`cxrlab.reports.baselines.compare`.
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
    def data(self) -> dict[str, Any]:
        """The configuration of the images."""
        return mapping(self.config.get("data"))

    @property
    def val_is_test(self) -> bool:
        """Whether the test images served as validation."""
        return self.data.get("val") == "test"

    @property
    def unfinished(self) -> str | None:
        """Why a run has no end, in a sentence that begins with INTERRUPTED, DIVERGED or NOT FINISHED."""
        status, epochs = self.metrics.get("status"), self.metrics.get("epochs", "not recorded")
        if status == "finished":
            return None
        why = f"{'INTERRUPTED' if status == 'interrupted' else 'NOT FINISHED'}: the training stopped before its end"
        why = f"DIVERGED: {self.metrics.get('diverged')}" if status == "diverged" else why
        return f"{why} (epochs completed: {epochs})."

    @property
    def synthetic(self) -> bool:
        """Whether the images were drawn by a program."""
        return bool(self.metrics.get("synthetic"))

    @property
    def mark(self) -> str:
        """Before titles of figures that show drawn images; else empty."""
        return "SYNTHETIC " if self.synthetic else ""

    @property
    def labels_are_collections(self) -> bool:
        """Whether Positive means another collection, and no disease (``data=which_collection``)."""
        return str(mapping(self.data.get("source")).get("_target_") or "").endswith(".WhichCollectionSource")

    @property
    def evaluation(self) -> dict[str, Any]:
        """On what a trained model was evaluated, and on what it was trained; empty for a training."""
        return mapping(self.metrics.get("evaluation"))

    @property
    def of_the_paper(self) -> bool:
        """Whether every image is of the paper's Kaggle set."""
        return "source" in self.manifest and bool(len(self.manifest)) and set(self.manifest["source"]) == {"paper"}

    @property
    def changed_by(self) -> str:
        """The options that changed images after they were read, as typed; empty where none did."""
        found = {key: self.data.get(key) for key in ("mask", "alter")}
        return ", ".join(f"data.{key}={value}" for key, value in found.items() if value not in (None, "none"))

    @property
    def preprocessing(self) -> Preprocessing:
        """How the run prepared its images."""
        defaults = {"image_size": 224, "channels": 3, "fit": "squeeze", "contrast": "none", "border": 0.0}
        return Preprocessing.create(*(self.data.get(key, default) for key, default in defaults.items()))

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
        """Brier score and ECE, by name, of what the split's images are called by; empty where not recorded."""
        found = mapping(mapping(self.metrics.get("decision")).get(split))
        found = mapping(found.get("calibrated")) or mapping(found.get("uncalibrated"))
        return {name: found[key] for name, key in (("Brier score", "brier"), ("ECE", "ece")) if key in found}

    @property
    def model(self) -> str:
        """What the network is called: torchvision's name, or the class."""
        model = mapping(self.config.get("model"))
        target = str(model.get("_target_") or "").rpartition(".")[2]
        return str(model.get("name") or target or "model not recorded")


def read_run(folder: Path) -> RunRecord:
    """Reads a run folder.

    Required: ``config.yaml``, ``environment.json``, ``manifest.csv``, ``metrics.json``; the rest is read where present.

    Raises:
        CheckpointError: A required file is missing or a file cannot be read; names file and folder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no run folder: give the folder that holds config.yaml and metrics.json")
    manifest = _read(folder, "manifest.csv", ("path", "label", "patient_id", "split"))
    metrics, beside = mapping(_read(folder, "metrics.json")), mapping(_read(folder, "baselines.json"))
    sections = [("metrics.json", split, metrics[split], _SECTION) for split in EVALUATED if metrics.get(split)]
    sections += [("baselines.json", name, each, _BESIDE) for name, each in beside.items()]
    for file, name, section, kinds in sections:
        there = mapping(section)
        lacking = [key for key, kind in kinds.items() if key not in there or not isinstance(there[key], kind)]
        if lacking:
            raise _unreadable(folder, file, f"{name} lacks {', '.join(lacking)}")
    listed = _read(folder, "overrides.yaml")
    return RunRecord(
        folder=folder,
        config=mapping(_read(folder, "config.yaml")),
        environment=mapping(_read(folder, "environment.json")),
        metrics=metrics,
        manifest=manifest,
        history=_read(folder, "metrics.csv", ("epoch",)),
        predictions=_read(folder, "predictions.csv", ("label", "split", "score")),
        flow=_read(folder, "flow.csv", FLOW),
        baselines=_read(folder, "baselines.csv", ("path", "label")),
        network=mapping(_read(folder, "network.json")),
        overrides=[str(item) for item in listed] if isinstance(listed, list) else [],
        beside=beside,
    )


def find_runs(patterns: Sequence[str]) -> list[Path]:
    """Returns the run folders that patterns mean, each once, in the order of their names and numbers.

    A pattern is a run folder, a folder above some, or of glob; in that ``**`` stands for any number of folders.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        text = os.path.expanduser(pattern)  # noqa: PTH111 - a pattern, and not yet a path
        for match in [text] if Path(text).is_dir() else glob.glob(text, recursive=True):  # noqa: PTH207 - may be absolute
            for path in (path for mark in ("config.yaml", "metrics.json") for path in Path(match).rglob(mark)):
                found.setdefault(path.parent.resolve(), path.parent)

    def in_counting_order(path: Path) -> list[tuple[int, str]]:  # job 10 of a sweep after job 9
        return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", str(path))]

    return sorted(found.values(), key=in_counting_order)


def _read(folder: Path, name: str, columns: Sequence[str] = ()) -> Any:
    """What a file holds; ``None`` where it need not be there, and is not there or is an empty table."""
    path = folder / name
    if not path.is_file() and name in _REQUIRED:
        raise CheckpointError(
            f"{name} is missing from the run folder {folder}: a report needs config.yaml, environment.json, "
            "manifest.csv and metrics.json; give a folder that a training run wrote, or train again"
        )
    if not path.is_file():
        return None
    try:
        if not columns:
            return revived(read_json(path)) if path.suffix == ".json" else read_yaml(path)
        table = _table(path, columns)
    except (OSError, ValueError) as error:
        raise _unreadable(folder, name, str(error)) from error
    return table if len(table) or name in _REQUIRED else None


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Reads a table; text columns stay text, so that patient '007' is not patient 7 and 'None' is a name."""
    options: dict[str, Any] = {}
    if "label" in columns:  # a table of images
        options = {"dtype": dict.fromkeys(_TEXT_COLUMNS, str), "keep_default_na": False}
    try:
        table = from_csv(read_table(path, **options))
    except pd.errors.EmptyDataError:
        table = pd.DataFrame(columns=list(columns))
    absent = [column for column in columns if column not in table]
    if absent:
        raise ValueError(f"no column {', '.join(absent)}")
    numbers = ["label", "score", "calibrated"] if "score" in columns else ["label"]
    for column in [name for name in numbers if name in table]:
        table[column] = pd.to_numeric(table[column])
        if table[column].isna().any():
            raise ValueError(f"empty cells in column {column}")
    if "calibrated" in table and "score" in columns:
        table = table.rename(columns={"score": "uncalibrated", "calibrated": "score"})
    return table


def _unreadable(folder: Path, name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{name} in the run folder {folder} cannot be read ({reason}): restore the file as the run wrote it, "
        "or train again"
    )
