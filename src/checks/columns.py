"""The columns of a manifest, compared between the labels: whatever tells them apart, a network can use.

One set of tests for an audit and for the cautions above a run's result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cxrlab.checks.base import NOT_CHECKED, PASS, Verdict
from cxrlab.checks.counting import as_text
from cxrlab.datamodules.manifest import COLUMNS, NAMES, ages, people
from cxrlab.evaluation.association import ONE_VALUE, Association, of_categories, of_numbers, smallest_found
from cxrlab.evaluation.paired import holm
from cxrlab.words import p_value, tally

FEWEST = 5
"""Patients of either group below which nothing is tested."""

STRONG = 0.5
"""Cramér's V, or an AUROC's distance from 0.5 times two, from which an association of the labels is a FAIL."""

ALPHA = 0.05
CATEGORIES = ("collection", "population", "view", "sex", "device", "licence", "location")

_ADULT = 18  # years
_RECORDED = ("view", "sex", "device", "licence", "location", "age")  # as the source has them; the others are derived
_OURS = {*COLUMNS, *CATEGORIES, "age", "study_id", "sha256", "film", "known", "own_label"}
_OURS |= {"score", "calibrated", "uncalibrated", "called"}  # a table of predictions may be audited
_NAMED = 4  # values of a property in a line of evidence
_FEW = 8  # numbers or dates of up to so many values are categories
_DATES = ("%Y-%m-%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S")


@dataclass(frozen=True)
class Test:
    """One test of association.

    Attributes:
        what: The column.
        asked: ``value``, or ``known``: whether it is recorded at all.
        between: The two groups, in words.
        found: Effect and p value.
        detail: The values of either group, in words.
        patients: Of either group.
        p_holm: The p value, corrected for all tests once all are known.
    """

    what: str
    asked: str
    between: str
    found: Association
    detail: str
    patients: tuple[int, int]
    p_holm: float = 1.0

    @property
    def clear(self) -> bool:
        """Whether it is beyond chance."""
        return self.p_holm < ALPHA

    def numbers(self) -> str:
        """Effect, corrected p value and n, in words."""
        found = self.found
        return f"{found.measure} = {found.effect:.2f}, {p_value(self.p_holm)} (Holm), n = {found.n} patients"


class Properties:
    """What is known of every image beside its pixels and its label.

    Args:
        manifest: With the columns of a manifest and any others.
        seed: Of Monte Carlo draws.
        header: What the files' headers say: ``device`` and ``view``, in the manifest's order; ``None`` if unread.
    """

    def __init__(self, manifest: pd.DataFrame, seed: int, header: pd.DataFrame | None = None) -> None:
        self.manifest, self.seed, self.header = manifest, seed, header
        self.people = people(manifest)
        self.further = {
            str(name): values
            for name in manifest.columns
            if name not in _OURS and (values := _comparable(as_text(manifest[name]), self.people)) is not None
        }
        """Columns that the project does not know by name and that can be compared: text (categories) or numbers."""

    def values(self, column: str) -> pd.Series[Any]:
        """A property of every image: a number, NaN where unknown; or text, empty where unknown.

        A device or view that the manifest lacks is taken from the file's header; a population from the age.
        """
        manifest = self.manifest
        if column == "age":
            return ages(manifest)
        if column in self.further:
            return self.further[column]
        found = as_text(manifest[column]) if column in manifest else pd.Series("", manifest.index, dtype=object)
        if column == "collection":
            return found.where(found != "", manifest["source"])
        if column == "population":
            years = ages(manifest)
            by_age = np.where(years.isna(), "", np.where(years < _ADULT, "child", "adult"))
            return found.where(found != "", pd.Series(by_age, index=manifest.index))
        if column in ("device", "view") and self.header is not None:
            header = pd.Series(self.header[column].to_numpy(), index=manifest.index).fillna("").astype(str)
            return found.where(found != "", header)
        return found

    def known(self, column: str) -> pd.Series[bool]:
        """Where it is known, shape (rows,)."""
        values = self.values(column)
        return values.notna() if values.dtype.kind == "f" else values != ""

    def label_tests(self) -> Iterator[Test]:
        """Compares every property between the labels."""
        everybody = pd.Series(True, self.manifest.index)
        for column in (*CATEGORIES, "age", *self.further):
            if column == "collection" and self.values(column).nunique() < 2:
                continue
            yield from self._value_test(column, everybody, self.manifest["label"] == 1, ("Negative", "Positive"))

    def known_tests(self) -> Iterator[Test]:
        """Compares between the labels whether a property is recorded at all."""
        for column in _RECORDED:
            known = self.known(column)
            if not known.any() or known.all():
                continue
            table = pd.DataFrame({"who": self.people, "positive": self.manifest["label"] == 1, "known": known})
            table = table.groupby(["who", "positive"])["known"].any().reset_index()
            positive = table["positive"].to_numpy(bool)
            patients = int(positive.sum()), int((~positive).sum())
            if min(patients) >= FEWEST:
                found = of_categories(positive, np.where(table["known"], "known", "unknown"), self.seed)
                counts = [table["known"][of].sum() for of in (positive, ~positive)]
                detail = f"{counts[0]} of {patients[0]} Positive and {counts[1]} of {patients[1]} Negative patients"
                yield Test(column, "known", "Positive / Negative", found, detail, patients)

    def split_tests(self) -> Iterator[Test]:
        """Compares every property that the project knows between test and training, within either label."""
        for label, name in NAMES.items():
            rows, test = self.manifest["label"] == label, self.manifest["split"] == "test"
            for column in (*CATEGORIES, "age"):
                found = self._value_test(column, rows, test, (f"{name} training", f"{name} test"))
                yield from (each for each in found if each.found.method != ONE_VALUE)

    def _value_test(
        self, column: str, rows: pd.Series[bool], group: pd.Series[bool], names: tuple[str, str]
    ) -> Iterator[Test]:
        """Compares a property of some images between those outside and those in a group, unless either are too few.

        Of a patient the commonest value counts, or the median of numbers.
        """
        values = self.values(column)
        table = pd.DataFrame({"who": self.people, "group": group.where(rows), "value": values})[self.known(column)]
        numbers = values.dtype.kind == "f"
        if numbers:
            table = table.groupby(["who", "group"], sort=True)["value"].median().reset_index()
        else:
            table = table.groupby(["who", "group", "value"], sort=True).size().reset_index(name="count")
            table = table.sort_values("count", ascending=False, kind="stable").drop_duplicates(["who", "group"])
            table = table.sort_index()
        inside = table["group"].astype(bool).to_numpy()
        patients = int(inside.sum()), int((~inside).sum())
        if min(patients) < FEWEST:
            return
        sides = [(names[1], table["value"][inside]), (names[0], table["value"][~inside])]
        if numbers:
            found = of_numbers(inside, table["value"].to_numpy(np.float64))
            form, unit = (".0f", " years") if column == "age" else (".6g", "")
            spread = []
            for name, own in sides:
                low, middle, high = (f"{each:{form}}" for each in own.quantile([0.25, 0.5, 0.75]))
                spread.append(f"{name}: median {middle}{unit} (quartiles {low} to {high}), {len(own)} patients")
        else:
            found = of_categories(inside, table["value"].to_numpy(str), self.seed)
            spread = [f"{name}: {tally(own, _NAMED)}" for name, own in sides]
        yield Test(column, "value", f"{names[1]} / {names[0]}", found, "; ".join(spread), patients)


def corrected(tests: Sequence[Test]) -> list[Test]:
    """All tests, their p values corrected for as many of them as could have shown a difference (Holm)."""
    found = holm([None if test.found.method == ONE_VALUE else test.found.p for test in tests])
    return [replace(test, p_holm=1.0 if p is None else p) for test, p in zip(tests, found, strict=True)]


def pass_of(patients: Sequence[int], measure: str = "V") -> tuple[Verdict, str]:
    """What it is worth that nothing was found: PASS, or NOT CHECKED where even a strong association would be missed.

    Args:
        patients: Of either group.
        measure: See :func:`cxrlab.evaluation.association.smallest_found`.

    Returns:
        The verdict, and a sentence with the effect that so many patients would show.
    """
    smallest = smallest_found(np.repeat([True, False], patients), measure)
    effect = f"a difference in shares of {smallest:.2f}"
    if measure == "AUROC":
        effect = f"an AUROC of {0.5 + smallest / 2:.2f}"
    said = f"So many patients would show {effect} four times in five."
    return NOT_CHECKED if smallest > STRONG else PASS, said


def _comparable(values: pd.Series[Any], who: pd.Series[Any]) -> pd.Series[Any] | None:
    """A column as categories (text) or as numbers; ``None`` where it holds one value, or names and texts."""
    known = values != ""
    distinct, patients = values[known].nunique(), who[known].nunique()
    if distinct < 2:
        return None
    if distinct > _FEW:
        numbers = pd.to_numeric(values[known], errors="coerce")
        whole = numbers.notna().all() and (numbers % 1 == 0).all()
        if (dates := _dates(values[known])) is not None:
            numbers = dates
        elif whole and distinct == int(known.sum()):
            return None  # running numbers of images
        if numbers.notna().all() and np.isfinite(numbers).all():
            return numbers.reindex(values.index).astype(float)
    return values if distinct <= max(2, patients / 2) else None


def _dates(values: pd.Series[Any]) -> pd.Series[float] | None:
    """Days since 1970, where all values are dates of one format."""
    if not values.map(lambda text: bool(re.match(r"\d", text))).all():
        return None
    for form in _DATES:
        found = pd.to_datetime(values, format=form, errors="coerce")
        if found.notna().all() and found.dt.year.between(1900, 2100).all():
            return (found - pd.Timestamp(1970, 1, 1)) / pd.Timedelta(days=1)
    return None
