"""Which of the listed images take part: filters, each of which says how many images it removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules import spellings
from cxrlab.datamodules.flow import Flow
from cxrlab.errors import DataError, check_choice, check_range, did_you_mean


@dataclass(frozen=True)
class Selection:
    """Filters, in the order in which they are applied.

    Attributes:
        views: Views that are kept (``[PA]``), in any usual spelling; an image of unknown view is kept only by ``None``,
            which keeps all.
        min_age: Years, at least 0: younger patients are left out, and those of an impossible age; those of unknown age
            stay.
        limit_per_patient: Up to so many images of a patient, at least 1, the first in the manifest's order.
        balance: Leave out images of the larger class until both have equally many, in every split that the source has;
            images that are not a patient's first go first, at random among these.
        seed: Of that draw.

    Raises:
        ValueError: Names the value that is out of range.
    """

    views: Sequence[str] | None = None
    min_age: float | None = None
    limit_per_patient: int | None = None
    balance: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.views is not None:
            listed = not isinstance(self.views, str) and isinstance(self.views, Sequence) and len(self.views) > 0
            if not listed or not all(isinstance(view, str) and view for view in self.views):
                raise ValueError(f"views must be a list of views such as [PA] or [PA, AP], or null, got {self.views!r}")
        if self.min_age is not None:
            check_range("min_age", self.min_age, 0, 150)
        if self.limit_per_patient is not None:
            check_range("limit_per_patient", self.limit_per_patient, 1, integer=True)
        check_choice("balance", self.balance, (True, False))

    def apply(self, manifest: pd.DataFrame, flow: Flow) -> pd.DataFrame:
        """Returns the rows that are kept, with a clean index.

        Args:
            manifest: As the source lists it, checked.
            flow: Gets a step for every filter that is on.

        Raises:
            DataError: A filter asks for what the source does not know, or for a view that no image has.
        """
        if self.views is not None:
            manifest = _of_views(manifest, self.views, flow)
        if self.min_age is not None:
            manifest = _of_age(manifest, self.min_age, flow)
        most = self.limit_per_patient
        if most is not None:
            if (manifest["patient_id"] == "").all():
                raise DataError(f"data.limit_per_patient={most}: {flow.source} knows no patient; leave it out")
            reason = f"more than {most} of one patient (the first are kept)"
            manifest = flow.keep(manifest, _occurrence(manifest) < most, reason)
        if self.balance:
            counts = manifest.groupby("split")["label"].value_counts().unstack(fill_value=0)
            order = pd.DataFrame({"occurrence": _occurrence(manifest)})
            order["chance"] = np.random.default_rng(self.seed).random(len(manifest))
            ranked = order.sort_values(["occurrence", "chance"]).index
            place = manifest.loc[ranked].groupby(["split", "label"]).cumcount().reindex(manifest.index)
            kept = place < manifest["split"].map(counts.min(axis=1))
            manifest = flow.keep(manifest, kept, "more than the smaller class has (data.balance)")
        if manifest.empty:
            last = flow.steps[-1]
            raise DataError(f"{flow.source}: no image is left after the step {last.step!r}; loosen that filter")
        return manifest.reset_index(drop=True)


def _of_views(manifest: pd.DataFrame, wanted: Sequence[str], flow: Flow) -> pd.DataFrame:
    views = spellings.each(manifest["view"], spellings.view)
    known = views[views != ""].value_counts()
    for view in wanted:
        if spellings.view(view) not in known.index:
            there = ", ".join(f"{name} ({count})" for name, count in known.items()) or "none: no view is known"
            raise DataError(
                f"data.views=[{','.join(wanted)}]: no image of {flow.source} has the view {view!r}; there are {there}"
                + did_you_mean(view, known.index)
            )
    unknown = int((views == "").sum())
    reason = f"view is not {' or '.join(wanted)}" + (f" ({unknown} of them of unknown view)" if unknown else "")
    return flow.keep(manifest, views.isin([spellings.view(view) for view in wanted]), reason)


def _of_age(manifest: pd.DataFrame, least: float, flow: Flow) -> pd.DataFrame:
    if mf.ages(manifest).isna().all():
        raise DataError(f"data.min_age={least}: {flow.source} knows no age; leave data.min_age out")
    wrong = spellings.no_ages(manifest["age"])
    if len(wrong):  # it may be a child's, so that it does not stay as an unknown age does
        told = ", ".join(spellings.shown(wrong))
        kept = pd.Series(~manifest.index.isin(wrong.index), manifest.index)
        manifest = flow.keep(manifest, kept, f"age is none that a person can have: {told}")
    ages = mf.ages(manifest)
    reason = f"younger than {least:g} years ({int(ages.isna().sum())} of unknown age stay)"
    return flow.keep(manifest, ~(ages < least), reason)


def _occurrence(manifest: pd.DataFrame) -> pd.Series[int]:
    """How many images of the same patient stand above each row; unknown patients have one image each."""
    return manifest.groupby(mf.people(manifest)).cumcount()
