"""What needs no network, beside a run on its own test images: scores in ``baselines.csv``, summaries in a JSON file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.pixels import ImageRows, read_all
from cxrlab.evaluation import summarise
from cxrlab.evaluation.baselines import DESCRIPTIONS, trivial_scores
from cxrlab.evaluation.lung_free import INPUTS
from cxrlab.evaluation.paired import mcnemar
from cxrlab.files import write_json
from cxrlab.reports.record import RunRecord

SCORES, SUMMARIES = "baselines.csv", "baselines.json"
MOST_IMAGES = 5000
"""A report does not read more images than this again for its trivial baselines (some two minutes)."""
KNOWN = DESCRIPTIONS | {of.name: f"Logistic regression or one threshold; sees {of.sees}." for of in INPUTS.values()}
"""What each baseline is, by the name of its column."""


def compare(record: RunRecord, images: ImageRows | None = None) -> tuple[RunRecord, str]:
    """Summarises the trivial baselines of a run's test images, and keeps that for all who tell of the run.

    ``baselines.json`` holds of each baseline ``right`` (images), ``n``, ``accuracy``, ``auroc``, and, against the run
    itself, ``only_network``, ``only_baseline`` (images that only one of them has right) and ``p`` (exact McNemar).

    Args:
        record: The run.
        images: Those of the manifest's rows as the run read them, shape (rows, height, width, channels); ``None``
            reads them again where ``baselines.csv`` is not there yet.

    Returns:
        The record with them, and why there are none; empty where there are.
    """
    rows, section = record.scored("test"), record.section("test")
    if rows is None or section is None:
        return record, "no test image was evaluated"
    table, reason = scores(record, images)
    if table is None:
        return record, reason
    own = rows.set_index("path")["score"].reindex(table["path"]).to_numpy()
    labels, patients = table["label"].to_numpy(), mf.people(table).to_numpy()
    right = (own >= section["threshold"]) == (labels == 1)
    found: dict[str, dict[str, Any]] = {}
    for name in [name for name in KNOWN if name in table]:
        theirs = table[name].to_numpy(dtype=float)
        summary, test = summarise(labels, theirs, patients), mcnemar(right, (theirs >= 0.5) == (labels == 1))
        (tn, _), (_, tp) = summary["confusion_matrix"]
        found[name] = {"right": tn + tp, "n": summary["n"], "accuracy": summary["accuracy"], "auroc": summary["auroc"]}
        found[name] |= {"only_network": test["only_a"], "only_baseline": test["only_b"], "p": test["p"]}
    write_json(record.folder / SUMMARIES, found)
    return replace(record, baselines=table, beside=found), ""


def scores(record: RunRecord, images: ImageRows | None = None) -> tuple[pd.DataFrame | None, str]:
    """The trivial baselines' scores of the test images, from ``baselines.csv`` or from the images themselves.

    What is computed is written to ``baselines.csv``, so that comparing runs needs no image.

    Returns:
        The test rows with one column per baseline, or ``None`` and the reason why not.
    """
    if record.baselines is not None:
        return record.baselines, ""
    used = record.manifest["split"].isin(["train", "test"]).to_numpy()
    rows = record.manifest[used]
    if record.rows("train")["label"].nunique() < 2 or not len(record.rows("test")):
        reason = "the manifest holds no training images of both labels and test images"
        return None, f"{reason}; trained_on=… names the model's training" if record.evaluation else reason
    if images is not None:
        pixels = images.take(used)
    elif changed := record.changed_by:
        return None, f"the run trained on altered images ({changed}), and its {SCORES} is not there"
    elif len(rows) > MOST_IMAGES:
        return None, f"{len(rows)} images would have to be read again (at most {MOST_IMAGES} are)"
    elif "sha256" not in rows:
        return None, "the manifest holds no sha256, by which images that are read again are recognised"
    else:
        read = read_all(list(rows["path"]), record.preprocessing)
        gone = [path for path, old, new in zip(rows["path"], rows["sha256"], read.sha256, strict=True) if old != new]
        if gone:
            return None, f"{len(gone)} of {len(rows)} images are missing or changed since the run, such as {gone[0]}"
        pixels = read.images
    is_train, labels = (rows["split"] == "train").to_numpy(), rows["label"].to_numpy()
    found = trivial_scores(pixels.take(is_train), labels[is_train], pixels.take(~is_train))
    table = rows[~is_train].assign(**found).reset_index(drop=True)
    mf.write(table, record.folder / SCORES)
    return table, ""
