"""The flow of cases: what was listed, what each step removed and why, and what is left.

It is what CLAIM and STARD ask a study to draw: every image that a collection lists is either in the data set at the end
or in exactly one step that removed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

COLUMNS = ("source", "step", "removed", "images", "patients")


@dataclass(frozen=True)
class Step:
    """One line of the flow."""

    source: str  # name of the collection
    step: str  # what was done or, where images were removed, why: ``rows of metadata.csv``, ``no X-ray (modality)``
    removed: int  # images (rows) that it removed, at least 0
    images: int  # that are left after it
    patients: int  # that are left after it; images of unknown patients count as one patient each


class Flow:
    """Counts while a table of images becomes smaller.

    Args:
        source: Name of the collection.
        steps: Of earlier tables, where there are some.
    """

    def __init__(self, source: str, steps: Iterable[Step] = ()) -> None:
        self.source = source
        self.steps = list(steps)

    def start(self, table: pd.DataFrame, step: str) -> pd.DataFrame:
        """Notes with how many images it begins, and returns the table."""
        return self._noted(table, step, 0)

    def keep(self, table: pd.DataFrame, kept: pd.Series[bool], reason: str) -> pd.DataFrame:
        """Returns the rows that are kept, and notes how many were not; a step that removes nothing is noted, too.

        Args:
            table: One row per image, with a ``patient_id`` (empty where unknown).
            kept: One boolean per row.
            reason: Why the others are removed.
        """
        left = table[kept]
        return self._noted(left, reason, len(table) - len(left))

    def _noted(self, left: pd.DataFrame, step: str, removed: int) -> pd.DataFrame:
        known = left["patient_id"][left["patient_id"] != ""]
        patients = int(known.nunique()) + len(left) - len(known)
        self.steps.append(Step(self.source, step, removed, len(left), patients))
        return left

    def table(self) -> pd.DataFrame:
        """One row per step, with the columns of :data:`COLUMNS`."""
        return pd.DataFrame([vars(step) for step in self.steps], columns=list(COLUMNS))
