"""Several sources as one data set."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.sources.base import Source
from cxrlab.errors import DataError
from cxrlab.words import first_few


class ConcatSource(Source):
    """One manifest of several sources, whose ``source`` column keeps the name of each.

    Patient ids stay as they are, so that a person in two collections is one person where both sources know it. A file
    that two sources list is taken once; two files with the same film inside are found when they are read, see
    ``duplicates`` of :class:`cxrlab.datamodules.ChestXRayDataModule`.

    Args:
        sources: At least two, under any keys; their names must differ.

    Raises:
        ValueError: There are fewer than two sources, or two of one name.
    """

    def __init__(self, sources: Mapping[str, Source]) -> None:
        if not isinstance(sources, Mapping) or len(sources) < 2 or None in sources.values():
            named = ", ".join(sources) if isinstance(sources, Mapping) else repr(sources)
            raise ValueError(f"sources must be at least two sources by name, none of them empty, got {named or 'none'}")
        self.sources = dict(sources)
        keys: dict[str, str] = {}
        for key, source in self.sources.items():
            if source.name in keys:
                raise ValueError(
                    f"sources must have different names, got {source.name!r} for {keys[source.name]} and {key}; take "
                    f"another set for one of them, or name it where it takes a name: data.source.sources.{key}.name=…"
                )
            keys[source.name] = key
        self.name = "+".join(keys)
        self.synthetic = any(source.synthetic for source in self.sources.values())
        claims = {source.claim for source in self.sources.values()}
        self.claim = claims.pop() if len(claims) == 1 else ""
        self.begin()

    def manifest(self) -> pd.DataFrame:
        """Lists the images of all sources, in the order of the sources; two must not disagree on a file of both."""
        tables = self._listed()
        self.notes = self._own_notes()
        table = joined(tables)
        self.flow.start(table, f"images of {len(tables)} sources together")
        table = self._each_file_once(table)
        claims = {source.name: source.claim or "nothing stated" for source in self.sources.values()}
        if len(set(claims.values())) > 1:
            told = ", ".join(f"{claim} ({name})" for name, claim in claims.items())
            self.notes.append(f"{self.name}: Positive does not mean the same in every source: {told}")
        has_split = {self.sources[key].name: bool((table["split"] != "").any()) for key, table in tables.items()}
        without, others = (
            ", ".join(name for name, has in has_split.items() if has == wanted) for wanted in (False, True)
        )
        if without and others:
            self.notes.append(
                f"{self.name}: no split comes with {without}: unless data.resplit=true draws all splits by patient, "
                f"all of its images are training images beside the test images of {others}"
            )
        return table.reset_index(drop=True)

    def _listed(self) -> dict[str, pd.DataFrame]:
        """The manifest of each source; no two hold images of one source name. Begins the flow with theirs."""
        tables: dict[str, pd.DataFrame] = {}
        owner: dict[str, str] = {}
        for key, source in self.sources.items():
            try:
                tables[key] = mf.check(source.manifest(), source.name)
            except DataError as error:
                raise DataError(self._own(key, str(error))) from None
        for key, table in tables.items():
            for name in sorted(set(table["source"])):
                if owner.setdefault(name, key) != key:
                    raise DataError(
                        f"data.source.sources.{key}: its images say that they are of source {name!r}, as those of "
                        f"data.source.sources.{owner[name]} do; give one another name in its column source"
                    )
        sources = self.sources.values()
        self.synthetic = any(source.synthetic for source in sources)  # some know only once they were listed
        self.flow = Flow(self.name, [step for source in sources for step in source.flow.steps])
        return tables

    def _own_notes(self) -> list[str]:
        return [self._own(key, note) for key, source in self.sources.items() for note in source.notes]

    def _own(self, key: str, told: str) -> str:
        """What a source says, which words its hints as if it were the only one, and may leave out its name."""
        hinted = told.replace("data.source.", f"data.source.sources.{key}.")
        name = self.sources[key].name
        return hinted if hinted.startswith(f"{name}:") else f"{name}: {hinted}"

    def _each_file_once(self, table: pd.DataFrame) -> pd.DataFrame:
        """Drops what an earlier source lists already, where both say the same of it."""
        table = table.assign(_file=table["path"].map(os.path.realpath))
        groups = table.groupby("_file", sort=False)
        # A source that leaves the split open contradicts none.
        known = table["split"].where(table["split"] != "")
        contrary = (groups["label"].transform("nunique") > 1) | (known.groupby(table["_file"]).transform("nunique") > 1)
        if contrary.any():
            told = [f"{path}: {_said(rows)}" for path, rows in table[contrary].groupby("_file", sort=False)]
            head = f"{self.name}: on {len(told)} file(s), two sources disagree about label or split:"
            raise DataError("\n  ".join([head, *first_few(told, 5), "leave one of the sources out, or mend it"]))
        once = self.flow.keep(table, ~table["_file"].duplicated(), "file that an earlier source lists already")
        return once.drop(columns=["_file", "_key"])


def joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All rows, with their table's key as ``_key``; empty text where one lacks a column of text, else NaN."""
    table = pd.concat([own.assign(_key=key) for key, own in tables.items()], ignore_index=True)
    text = [column for column in table.columns if not pd.api.types.is_numeric_dtype(table[column])]
    return table.assign(**{column: table[column].fillna("") for column in text})


def _said(rows: pd.DataFrame) -> str:
    each = rows[["source", "label", "split"]].itertuples(index=False, name=None)
    return ", ".join(f"{mf.NAMES[label]} {split or 'without split'} ({source})" for source, label, split in each)
