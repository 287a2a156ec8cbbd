"""Several sources as one data set."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.sources.base import Source
from cxrlab.errors import DataError

_SHOWN = 5


class ConcatSource:
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
        self.notes: list[str] = []
        self.flow = Flow(self.name)

    @property
    def synthetic(self) -> bool:
        """Whether any part is; some tell only once they have been listed."""
        return any(source.synthetic for source in self.sources.values())

    @property
    def claim(self) -> str:
        """What Positive is said to mean by all of them, or nothing."""
        claims = {source.claim for source in self.sources.values()}
        return claims.pop() if len(claims) == 1 else ""

    def manifest(self) -> pd.DataFrame:
        """Lists the images of all sources, in the order of the sources.

        Raises:
            DataError: A source cannot be listed, or two do not agree on a file that both list.
        """
        tables = {key: self._listed(key) for key in self.sources}
        sources = self.sources.values()
        self.flow = Flow(self.name, [step for source in sources for step in source.flow.steps])
        self.notes = [self._own(key, note) for key, source in self.sources.items() for note in source.notes]
        table = filled(pd.concat(tables.values(), ignore_index=True))
        self._check_names(tables)
        self.flow.start(table, f"images of {len(tables)} sources together")
        table = self._each_file_once(table)
        self.notes += self._differences(tables)
        return table.reset_index(drop=True)

    def _listed(self, key: str) -> pd.DataFrame:
        source = self.sources[key]
        try:
            return mf.check(source.manifest(), source.name)
        except DataError as error:
            raise DataError(self._own(key, str(error))) from None

    def _own(self, key: str, told: str) -> str:
        """What a source says, which words its hints as if it were the only one, and may leave out its name."""
        hinted = told.replace("data.source.", f"data.source.sources.{key}.")
        name = self.sources[key].name
        return hinted if hinted.startswith(f"{name}:") else f"{name}: {hinted}"

    def _check_names(self, tables: Mapping[str, pd.DataFrame]) -> None:
        owner: dict[str, str] = {}
        for key, table in tables.items():
            for name in sorted(set(table["source"])):
                if owner.setdefault(name, key) != key:
                    raise DataError(
                        f"data.source.sources.{key}: its images say that they are of source {name!r}, as those of "
                        f"data.source.sources.{owner[name]} do; give one another name in its column source"
                    )

    def _each_file_once(self, table: pd.DataFrame) -> pd.DataFrame:
        """Drops what an earlier source lists already, where both say the same of it."""
        table = table.assign(_file=table["path"].map(os.path.realpath))
        groups = table.groupby("_file", sort=False)
        # A source that leaves the split open contradicts none.
        known = table["split"].where(table["split"] != "")
        contrary = (groups["label"].transform("nunique") > 1) | (known.groupby(table["_file"]).transform("nunique") > 1)
        if contrary.any():
            files = table[contrary].groupby("_file", sort=False)
            told = [f"{path}: {_said(rows)}" for path, rows in files]
            more = [f"… and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
            head = f"{self.name}: on {len(told)} file(s), two sources disagree about label or split:"
            raise DataError("\n  ".join([head, *told[:_SHOWN], *more, "leave one of the sources out, or mend it"]))
        once = self.flow.keep(table, ~table["_file"].duplicated(), "file that an earlier source lists already")
        return once.drop(columns="_file")

    def _differences(self, tables: Mapping[str, pd.DataFrame]) -> list[str]:
        notes = []
        claims = {source.name: source.claim or "nothing stated" for source in self.sources.values()}
        if len(set(claims.values())) > 1:
            listed = ", ".join(f"{claim} ({name})" for name, claim in claims.items())
            notes.append(f"{self.name}: Positive does not mean the same in every source: {listed}")
        has_split = {self.sources[key].name: bool((table["split"] != "").any()) for key, table in tables.items()}
        if any(has_split.values()) and not all(has_split.values()):
            without = ", ".join(name for name, has in has_split.items() if not has)
            others = ", ".join(name for name, has in has_split.items() if has)
            notes.append(
                f"{self.name}: no split comes with {without}: unless data.resplit=true draws all splits by patient, "
                f"all of its images are training images beside the test images of {others}"
            )
        return notes


def filled(table: pd.DataFrame) -> pd.DataFrame:
    """Empty text where a source lacks a column of text; numbers stay missing numbers."""
    text = [column for column in table.columns if not pd.api.types.is_numeric_dtype(table[column])]
    return table.assign(**{column: table[column].fillna("") for column in text})


def _said(rows: pd.DataFrame) -> str:
    words = {label: name for name, label in mf.LABELS.items()}
    each = rows[["source", "label", "split"]].itertuples(index=False, name=None)
    return ", ".join(f"{words[label]} {split or 'without split'} ({source})" for source, label, split in each)
