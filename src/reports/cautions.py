"""What report, model card and page tell of a run in the same words: its images, and what flatters its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cxrlab.checks.columns import CATEGORIES, STRONG, Properties, corrected
from cxrlab.checks.counting import several
from cxrlab.datamodules import manifest as mf
from cxrlab.reports.documents import NOT_RECORDED
from cxrlab.reports.record import EVALUATED, SPLITS, RunRecord
from cxrlab.words import MOST, plural, tally

MAPS = "figures/saliency.png"  # drawn once, by the training; it stays when a report is written again
DEPENDS = "do the maps depend on what was learned"
"""The check with randomised weights, by its name in probe.json; a map that did not pass it is no evidence."""


def tallied(part: pd.DataFrame, column: str) -> str:
    """Counts of a column's values, of ages their range; or that none was recorded."""
    if column == "age":
        ages = mf.ages(part).dropna()
        span = f"{ages.min():g} to {ages.max():g}, median {ages.median():g} ({len(ages)} known)"
        return span if len(ages) else NOT_RECORDED
    there = column in part and (part[column] != "").any()
    return tally(part[column]) if there else NOT_RECORDED


def by_split(record: RunRecord, columns: Sequence[str]) -> list[tuple[object, ...]]:
    """Split, label, images, patients, and the columns tallied, of each split and label that has some."""
    rows: list[tuple[object, ...]] = []
    for split, title in SPLITS.items():
        part = record.rows(split)
        for label, name in mf.NAMES.items() if len(part) else ():
            those = part[part["label"] == label]
            named = those["patient_id"][those["patient_id"] != ""]
            unknown = len(those) - len(named)
            patients = f"{named.nunique()}" + (f" + {plural(unknown, 'image')} of unknown patients" if unknown else "")
            rows.append((title, name, len(those), patients, *(tallied(those, column) for column in columns)))
    return rows


def findings(record: RunRecord) -> str:
    """What the labels are made of: the findings that the data set gives, never what it is called."""
    train = record.rows("train")
    column = "source" if record.labels_are_collections else "finding"
    return "; ".join(f"{name}: {tallied(train[train['label'] == label], column)}" for label, name in mf.NAMES.items())


def warnings(record: RunRecord) -> list[str]:
    """The run's own warnings, then those that config, manifest and files add."""
    own = [str(warning) for warning in record.metrics.get("warnings") or []]
    said = " ".join(own).lower()
    sections = {split: section for split in EVALUATED if (section := record.section(split))}
    found = [text for section in sections.values() if (text := one_answer(section))][:1] + own
    if record.val_is_test and "test" not in said:
        found.append(
            "Validation was the test set (data.val=test): curves, early stopping and chosen weights have seen the test "
            "images, and no independent test exists."
        )
    if record.data.get("allow_leak") and "allow_leak" not in said:
        found.append("data.allow_leak=true: the same patients or images may lie in training and test.")
    for column, what in (("patient_id", "patient"), ("sha256", "image file"), ("film", "film")):
        if values := shared(record.manifest, column):
            shown = ", ".join(values[:3]) + (", …" if len(values) > 3 else "")
            found.append(
                f"{plural(len(values), what)} in more than one split ({shown}): a leak that inflates the numbers below."
            )
    found += beside_the_disease(record)
    for split, section in sections.items():
        rows = record.scored(split)
        if rows is not None and len(rows) != section["n"]:
            found.append(
                f"predictions.csv holds {len(rows)} {split} rows but metrics.json was computed from "
                f"{section['n']}: the figures and the numbers below do not belong together."
            )
    return found


def one_answer(section: Mapping[str, Any]) -> str:
    """Says by a split's metrics that a network calls every image the same though both labels are there; else empty."""
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    if (tn + fn and fp + tp) or not section["n_positive"] or not section["n_negative"]:
        return ""
    called = mf.NAMES[int(tp + fp > 0)]
    return (
        f"ONE ANSWER FOR EVERYBODY: the network calls all {section['n']} images {called} (threshold "
        f"{section['threshold']:.3g}), the {section['n_positive']} Positive and the {section['n_negative']} Negative"
    )


def shared(manifest: pd.DataFrame, column: str) -> list[str]:
    """The values of a column that occur in more than one split."""
    if column not in manifest:
        return []
    there = manifest[(manifest[column] != "") & manifest["split"].isin(list(SPLITS))]
    splits = there.groupby(column)["split"].nunique()
    return [str(value) for value in splits.index[splits > 1]]


def beside_the_disease(record: RunRecord) -> list[str]:
    """Says what the labels stand for as well, or instead: another finding, a collection, an age."""
    if record.labels_are_collections:  # then the label is the source, whatever the films show
        return []
    train, test = record.rows("train"), record.rows("test")
    found = []
    for label, name in mf.NAMES.items() if "finding" in record.manifest else ():
        trained, tested = (part.loc[part["label"] == label, "finding"] for part in (train, test))
        single = several(tested)
        single = single[~single.isin(set(several(trained))) & (single != "")]
        new = tested[tested.index.isin(single.index)]
        if len(trained) and len(new):
            found.append(
                f"{len(new)} of {len(tested)} {name} test images show a finding that no {name} training image has "
                f"({tally(single)}): the label does not mean the same in training and test."
            )
    return found + _confounding(record)


def _confounding(record: RunRecord) -> list[str]:
    """Says which properties alone tell the labels of the run's images apart, or nearly; as an audit finds them."""
    rows = record.manifest[record.manifest["split"].isin(list(EVALUATED if record.evaluation else SPLITS))]
    if rows["label"].nunique() < 2:
        return []
    properties = Properties(rows.reset_index(drop=True), seed=0)
    tests = {test.what: test for test in corrected(list(properties.label_tests()))}
    found, end = {}, "it cannot be told apart from the disease."
    for column in (*CATEGORIES, *properties.further):
        there = properties.known(column)
        labels, values = properties.manifest["label"][there], properties.values(column)[there]
        by_chance = not tests[column].clear if column in tests else column not in ("collection", "view")
        if by_chance or values.dtype.kind == "f" or values.nunique() > MOST or labels.nunique() < 2:
            continue
        if (labels.groupby(values).nunique() == 1).all():  # every value stands under one label only
            sides = "; ".join(f"{name}: {tally(values[labels == key])}" for key, name in mf.NAMES.items())
            unnamed = column == "collection" and not (rows.get(column, pd.Series("")) != "").any()
            found[column] = f"The {'source' if unnamed else column} alone gives the label away ({sides}): {end}"
    for column, test in tests.items():
        if column not in found and test.clear and test.found.strength >= STRONG:
            found[column] = f"The {column} nearly gives the label away ({test.detail}; {test.numbers()}): {end}"
    follow = {"population": ("age",), "collection": ("licence", "location")}  # what follows from another
    gone = {each for column in found for each in follow.get(column, ())}
    return [text for column, text in found.items() if column not in gone]
