"""What could make a run's numbers look better than they are: said above the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cxrlab.checks.columns import CATEGORIES, STRONG, Properties, Test, corrected
from cxrlab.checks.counting import several
from cxrlab.reports.markdown import LABELS
from cxrlab.reports.record import EVALUATED, RunRecord, mapping
from cxrlab.words import MOST, plural, tally

SPLITS = ("train", "val", "test")
_APART = "it cannot be told apart from the disease."


def warnings(record: RunRecord) -> list[str]:
    """The run's own warnings, then those that config, manifest and files add."""
    own = [str(warning) for warning in record.metrics.get("warnings") or []]
    same = [text for split in EVALUATED if (section := record.section(split)) and (text := one_answer(section))][:1]
    added = [*_of_config(record, own), *_of_overlap(record)]
    if not record.labels_are_collections:  # else the label is the source, whatever the films show
        added += [*_of_findings(record), *_of_confounding(record)]
    return same + own + added + _of_mismatch(record)


def one_answer(section: Mapping[str, Any]) -> str:
    """Says that a network calls every image the same although both labels are there; empty where it does not.

    Args:
        section: The metrics of one split.
    """
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    if (tn + fn and fp + tp) or not section["n_positive"] or not section["n_negative"]:
        return ""
    called = LABELS[int(tp + fp > 0)]
    return (
        f"ONE ANSWER FOR EVERYBODY: the network calls all {section['n']} images {called} (threshold "
        f"{section['threshold']:.3g}), the {section['n_positive']} Positive and the {section['n_negative']} Negative"
    )


def label_is_not_the_disease(record: RunRecord) -> bool:
    """Whether the run's labels stand for something else as well, or instead: a collection, an age, another finding."""
    permuted = mapping(record.config.get("data")).get("permute_labels") is not None
    return bool(record.labels_are_collections or permuted or _of_findings(record) or _of_confounding(record))


def shared(manifest: pd.DataFrame, column: str) -> list[str]:
    """The values of a column that occur in more than one split."""
    if column not in manifest:
        return []
    known = manifest[(manifest[column] != "") & manifest["split"].isin(SPLITS)]
    splits = known.groupby(column)["split"].nunique()
    return [str(value) for value in splits.index[splits > 1]]


def _of_config(record: RunRecord, own: Sequence[str]) -> list[str]:
    said = " ".join(own).lower()
    found = []
    if record.val_is_test and "test" not in said:
        found.append(
            "Validation was the test set (data.val=test): curves, early stopping and chosen weights have seen the test "
            "images, and no independent test exists."
        )
    if mapping(record.config.get("data")).get("allow_leak") and "allow_leak" not in said:
        found.append("data.allow_leak=true: the same patients or images may lie in training and test.")
    return found


def _of_overlap(record: RunRecord) -> list[str]:
    found = []
    for column, what in (("patient_id", "patient"), ("sha256", "image file"), ("film", "film")):
        values = shared(record.manifest, column)
        if values:
            shown = ", ".join(values[:3]) + (", …" if len(values) > 3 else "")
            found.append(
                f"{plural(len(values), what)} in more than one split ({shown}): a leak that inflates the numbers below."
            )
    return found


def _of_findings(record: RunRecord) -> list[str]:
    """Says where a label of the test split is made of findings that the same label never had in training."""
    if "finding" not in record.manifest:
        return []
    found = []
    for label, name in LABELS.items():
        train, test = (
            part.loc[part["label"] == label, "finding"] for part in (record.rows("train"), record.rows("test"))
        )
        single = several(test)
        single = single[~single.isin(set(several(train))) & (single != "")]
        new = test[test.index.isin(single.index)]
        if len(train) and len(new):
            found.append(
                f"{len(new)} of {len(test)} {name} test images show a finding that no {name} training image has "
                f"({tally(single)}): the label does not mean the same in training and test."
            )
    return found


def _of_confounding(record: RunRecord) -> list[str]:
    """Says which properties alone tell the labels of the run's images apart, or nearly; as an audit finds them."""
    rows = record.manifest[record.manifest["split"].isin(EVALUATED if record.evaluation else SPLITS)]
    if rows["label"].nunique() < 2:
        return []
    known = Properties(rows.reset_index(drop=True), seed=0)
    tests = {test.what: test for test in corrected(list(known.label_tests()))}
    found = {column: text for column in (*CATEGORIES, *known.further) if (text := _alone(known, column, tests))}
    for column, test in tests.items():
        if column not in found and test.clear and test.found.strength >= STRONG:
            found[column] = f"The {column} nearly gives the label away ({test.detail}; {test.numbers()}): {_APART}"
    said = {"population": ("age",), "collection": ("licence", "location")}  # what follows from another
    gone = {each for column, those in said.items() if column in found for each in those}
    return [text for column, text in found.items() if column not in gone]


def _alone(known: Properties, column: str, tests: Mapping[str, Test]) -> str:
    """Says that every value of a property stands under one label only; empty where it does not, or by chance."""
    test = tests.get(column)
    values = known.values(column)
    there = known.known(column)
    labels, values = known.manifest["label"][there], values[there]
    if values.dtype.kind == "f" or values.nunique() > MOST or labels.nunique() < 2:
        return ""
    by_chance = not test.clear if test is not None else column not in ("collection", "view")
    if by_chance or (labels.groupby(values).nunique() > 1).any():
        return ""
    sides = "; ".join(f"{name}: {tally(values[labels == key])}" for key, name in LABELS.items())
    named = column in known.manifest and (known.manifest[column] != "").any()
    return (
        f"The {column if named or column != 'collection' else 'source'} alone gives the label away ({sides}): {_APART}"
    )


def _of_mismatch(record: RunRecord) -> list[str]:
    found = []
    for split in EVALUATED:
        section, rows = record.section(split), record.scored(split)
        if section and rows is not None and len(rows) != section.get("n"):
            found.append(
                f"predictions.csv holds {len(rows)} {split} rows but metrics.json was computed from "
                f"{section.get('n')}: the figures and the numbers below do not belong together."
            )
    return found
