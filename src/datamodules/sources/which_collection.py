"""Two collections with the collection as the label: can a network tell where a film comes from, disease apart?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources.base import Source
from cxrlab.datamodules.sources.concat import ConcatSource, joined
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
        self.names = [source.name for source in self.sources.values()]
        self.name = " or ".join(self.names)
        self.claim = ""  # Positive is no disease here
        self.begin()

    def manifest(self) -> pd.DataFrame:
        """Lists the images of both sources that are kept, the first source's before the second's.

        Raises:
            DataError: A source cannot be listed, or no image of one is left.
        """
        table = joined(self._listed())
        table["_second"] = (table["_key"] != next(iter(self.sources))).astype(int)
        self.flow.start(table, "images of 2 sources together")
        if self.keep != "all":
            label, other = (0, "Positive") if self.keep == "negative" else (1, "Negative")
            table = self.flow.keep(table, table["label"] == label, f"{other} in its own collection")
        files = table["path"].map(os.path.realpath)
        table = self.flow.keep(table, ~_in_both(table, files), "file that both collections list")
        shared = _in_both(table, table["patient_id"]) & (table["patient_id"] != "")
        table = self.flow.keep(table, ~shared, "patient of both collections")
        table = table.assign(own_label=table["label"].map(mf.NAMES), label=table["_second"])
        table = table.drop(columns=["_second", "_key"]).reset_index(drop=True)
        findings = []
        for label, name in enumerate(self.names):
            rows = table[table["label"] == label]
            if rows.empty:
                steps = "; ".join(f"{step.step}: {step.removed}" for step in self.flow.steps[-3:] if step.removed)
                raise DataError(
                    f"{self.name}: no image of {name} is left (removed: {steps}); take another pair, or other "
                    f"images of it: data.source.keep is {self.keep}, of {', '.join(KEEPS)}"
                )
            findings.append(f"{name}: {_counted(rows['finding'])}")
        whose = "" if self.keep == "all" else f", all of them {self.keep.capitalize()} there"
        meaning = (
            f"the label is the collection, not a disease: Positive means an image of {self.names[1]}, Negative one of "
            f"{self.names[0]}{whose} (data.source.keep={self.keep})"
        )
        content = f"what the films show, by collection ({'; '.join(findings)}), may tell them apart as well as how they"
        self.notes = [f"{self.name}: {meaning}", f"{self.name}: {content} were made", *self._own_notes()]
        return table


def _in_both(table: pd.DataFrame, key: pd.Series[Any]) -> pd.Series[bool]:
    """Whether a row's key occurs in both collections."""
    return table["_second"].groupby(key).transform("nunique") > 1


def _counted(findings: pd.Series[str]) -> str:
    counts = findings.replace("", "not stated").value_counts()
    named = [f"{finding} {count}" for finding, count in counts.iloc[:_FINDINGS].items()]
    rest = counts.iloc[_FINDINGS:]
    return ", ".join([*named, *([f"{len(rest)} others {rest.sum()}"] if len(rest) else [])])
