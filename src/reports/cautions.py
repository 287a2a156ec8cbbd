"""What could make a run's numbers look better than they are: said above the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cxrlab.reports.markdown import LABELS, MOST, count, tally
from cxrlab.reports.record import EVALUATED, RunRecord, mapping

SPLITS = ("train", "val", "test")


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
                f"{count(len(values), what)} in more than one split ({shown}): a leak that inflates the numbers below."
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
        new = test[~test.isin(set(train)) & (test != "")]
        if len(train) and len(new):
            found.append(
                f"{len(new)} of {len(test)} {name} test images show a finding that no {name} training image has "
                f"({tally(new)}): the label does not mean the same in training and test."
            )
    return found


def _of_confounding(record: RunRecord) -> list[str]:
    """Says where the source or the view alone gives the label away."""
    found = []
    for column in ("source", "view"):
        if column not in record.manifest:
            continue
        known = record.manifest[record.manifest[column] != ""]
        few = known[column].nunique() <= MOST  # a value of its own for every image gives nothing away
        if few and known["label"].nunique() == 2 and (known.groupby(column)["label"].nunique() == 1).all():
            sides = "; ".join(
                f"{name}: {tally(known.loc[known['label'] == key, column])}" for key, name in LABELS.items()
            )
            found.append(
                f"The {column} alone gives the label away ({sides}): it cannot be told apart from the disease."
            )
    return found


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
