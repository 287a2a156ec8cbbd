"""What report, model card and page tell of a run in the same words."""

from __future__ import annotations

from typing import Any

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.manifest import NAMES as LABELS
from cxrlab.reports.markdown import NOT_RECORDED
from cxrlab.reports.record import RunRecord
from cxrlab.words import plural, tally

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
MAPS = "figures/saliency.png"
"""Drawn once, by the training; it stays when a report is written again."""
DEPENDS = "do the maps depend on what was learned"
"""The check with randomised weights, by its name in probe.json; a map that did not pass it is no evidence."""


def known(value: Any) -> str:
    """The value as text, or that it was not recorded."""
    return NOT_RECORDED if value is None or value == "" else str(value)


def tallied(part: pd.DataFrame, column: str) -> str:
    """Counts of a column's values, or that none was recorded."""
    if column not in part or not (part[column] != "").any():
        return NOT_RECORDED
    return tally(part[column])


def patients(part: pd.DataFrame) -> str:
    """``12`` or ``12 + 3 images of unknown patients``."""
    named = part["patient_id"][part["patient_id"] != ""]
    unknown = len(part) - len(named)
    return f"{named.nunique()}" + (f" + {plural(unknown, 'image')} of unknown patients" if unknown else "")


def ages(part: pd.DataFrame) -> str:
    """``31 to 41, median 36 (6 known)``."""
    found = mf.ages(part).dropna()
    if found.empty:
        return NOT_RECORDED
    return f"{found.min():g} to {found.max():g}, median {found.median():g} ({len(found)} known)"


def by_split(record: RunRecord) -> list[tuple[str, str, pd.DataFrame]]:
    """The images of each split and label that has some: both names, and the rows of the manifest."""
    return [
        (title, name, part[part["label"] == label])
        for split, title in SPLITS.items()
        for label, name in LABELS.items()
        if len(part := record.rows(split))
    ]


def findings(record: RunRecord) -> str:
    """What the labels are made of: the findings that the data set gives, never what it is called."""
    train = record.rows("train")
    column = "source" if record.labels_are_collections else "finding"
    return "; ".join(f"{name}: {tallied(train[train['label'] == label], column)}" for label, name in LABELS.items())
