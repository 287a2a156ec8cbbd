"""Two collections with the collection as the label: can a network tell where a film comes from, disease apart?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.concat import ConcatSource, filled
from cxrlab.errors import DataError, check_choice

KEEPS = ("negative", "positive", "all")
_FINDINGS = 4  # that a note names; the rest is counted


class WhichCollectionSource(ConcatSource):
    """Films of one label from two collections, labelled 0 for the first and 1 for the second.

    L. Maguolo and L. Nanni, Inf Fusion 2021;76:1-7, and E. Tartaglione et al., Int J Environ Res Public Health
    2020;17:6933: where each class of a data set comes from a collection of its own, a network that tells the
    collections apart has its answer without the disease. How well it can is what a training on this source measures;
    0.5 is the AUROC of one that cannot.

    An image, or a patient, of both collections has no single label: all of these images are left out. Films that are
    copied from one into the other are found when they are read, see ``duplicates`` of
    :class:`cxrlab.datamodules.ChestXRayDataModule`. The manifest keeps each collection's own label as ``own_label``.

    Args:
        sources: Exactly two, under any keys; their names must differ.
        keep: Which images take part, by the label of their own collection: ``negative``, ``positive`` or ``all``.

    Raises:
        ValueError: There are not two sources, they have one name, or ``keep`` is none of these.
    """

    def __init__(self, sources: Mapping[str, Source], keep: str = "negative") -> None:
        super().__init__(sources)
        if len(self.sources) != 2:
            raise ValueError(f"sources must be two, whose images are told apart, got {', '.join(self.sources)}")
        check_choice("keep", keep, KEEPS)
        self.keep = keep
        self.first, self.second = (source.name for source in self.sources.values())
        self.name = f"{self.first} or {self.second}"
        self.flow = Flow(self.name)

    @property
    def claim(self) -> str:
        """Nothing: Positive is no disease here."""
        return ""

    def manifest(self) -> pd.DataFrame:
        """Lists the images of both sources that are kept, the first source's before the second's.

        Raises:
            DataError: A source cannot be listed, or no image of one is left.
        """
        tables = {key: self._listed(key) for key in self.sources}
        self._check_names(tables)
        sources = self.sources.values()
        self.flow = Flow(self.name, [step for source in sources for step in source.flow.steps])
        table = filled(pd.concat([own.assign(_second=n) for n, own in enumerate(tables.values())], ignore_index=True))
        self.flow.start(table, "images of 2 sources together")
        if self.keep != "all":
            label, other = (0, "Positive") if self.keep == "negative" else (1, "Negative")
            table = self.flow.keep(table, table["label"] == label, f"{other} in its own collection")
        table = self._of_one_collection(table)
        table = table.assign(own_label=table["label"].map(mf.NAMES), label=table["_second"]).drop(columns="_second")
        table = table.reset_index(drop=True)
        self._check_both(table)
        own = [self._own(key, note) for key, source in self.sources.items() for note in source.notes]
        self.notes = [self._meaning(), self._content(table), *own]
        return table

    def _of_one_collection(self, table: pd.DataFrame) -> pd.DataFrame:
        """Leaves out files and patients that both collections have."""
        shared = _in_both(table, table["path"].map(os.path.realpath))
        table = self.flow.keep(table, ~shared, "file that both collections list")
        shared = _in_both(table, table["patient_id"]) & (table["patient_id"] != "")
        return self.flow.keep(table, ~shared, "patient of both collections")

    def _check_both(self, table: pd.DataFrame) -> None:
        for label, name in enumerate((self.first, self.second)):
            if not (table["label"] == label).any():
                steps = "; ".join(f"{step.step}: {step.removed}" for step in self.flow.steps[-3:] if step.removed)
                raise DataError(
                    f"{self.name}: no image of {name} is left (removed: {steps}); take another pair, or other "
                    f"images of it: data.source.keep is {self.keep}, of {', '.join(KEEPS)}"
                )

    def _meaning(self) -> str:
        whose = "" if self.keep == "all" else f", all of them {self.keep.capitalize()} there"
        return (
            f"{self.name}: the label is the collection, not a disease: Positive means an image of {self.second}, "
            f"Negative one of {self.first}{whose} (data.source.keep={self.keep})"
        )

    def _content(self, table: pd.DataFrame) -> str:
        shown = [
            f"{name}: {_counted(table.loc[table['label'] == label, 'finding'])}"
            for label, name in enumerate((self.first, self.second))
        ]
        return (
            f"{self.name}: what the films show, by collection ({'; '.join(shown)}), may tell them apart as well as how "
            "they were made"
        )


def _in_both(table: pd.DataFrame, key: pd.Series[Any]) -> pd.Series[bool]:
    """Whether a row's key occurs in both collections."""
    return table["_second"].groupby(key).transform("nunique") > 1


def _counted(findings: pd.Series[str]) -> str:
    counts = findings.replace("", "not stated").value_counts()
    named = [f"{finding} {count}" for finding, count in counts.iloc[:_FINDINGS].items()]
    rest = counts.iloc[_FINDINGS:]
    return ", ".join([*named, *([f"{len(rest)} others {rest.sum()}"] if len(rest) else [])])
