"""The section of a run's report on its decision: calibration, threshold, predictive values, decision curve."""

from __future__ import annotations

from typing import Any

import numpy as np

from cxrlab import figures
from cxrlab.evaluation import thresholds
from cxrlab.reports.cautions import label_is_not_the_disease
from cxrlab.reports.facts import SPLITS
from cxrlab.reports.pictures import Picture, drawn
from cxrlab.reports.record import EVALUATED, RunRecord, mapping


def section(record: RunRecord) -> dict[str, Any] | None:
    """Values for the template; draws its figures into the run folder. ``None`` where nothing was evaluated.

    Raises:
        CheckpointError: What ``metrics.json`` says about the decision is none.
    """
    decided, found = record.decided, mapping(record.metrics.get("decision"))
    splits = [split for split in EVALUATED if record.section(split) and split in found]
    if decided is None or not splits:
        return None
    first, names = splits[0], (("Brier score", "brier"), ("ECE", "ece"))
    curve = found[first]["curve"]
    title = f"{'SYNTHETIC ' if record.synthetic else ''}{SPLITS[first]}: decision curve"
    figure = figures.decision_curve(curve, decided.threshold, title)
    calibration = [
        (SPLITS[split], name, before[key], after[key], after["ece_if_calibrated"] if key == "ece" else None)
        for split in splits
        for before, after in [(found[split]["uncalibrated"], found[split]["calibrated"])]
        for name, key in names
        if decided.calibrated
    ]
    values = {
        f"{SPLITS[split]}, {name.upper()}": found[split][name]
        for split in splits
        for name in ("ppv", "npv")
        if decided.prevalence is not None
    }
    return {
        "decided": decided,
        "calibration": calibration,
        "ece": {"ECE": found[first]["uncalibrated"]["ece"]},
        "reliability": _reliability(record, first) if decided.calibrated else [],
        "predictive": values,
        "curve": curve,
        "useful": thresholds.useful_thresholds(curve),
        "picture": drawn(record, figure, f"{first}_decision_curve", title),
        "not_the_disease": label_is_not_the_disease(record),
    }


def _reliability(record: RunRecord, split: str) -> list[Picture]:
    """Before and after calibration; empty where ``predictions.csv`` holds no calibrated probabilities."""
    rows = record.scored(split)
    if rows is None or "uncalibrated" not in rows or not len(rows):
        return []
    labels = rows["label"].to_numpy(dtype=np.int64)
    pictures = []
    for name, column in (("before", "uncalibrated"), ("after", "score")):
        title = f"{'SYNTHETIC ' if record.synthetic else ''}{SPLITS[split]}: {name} calibration"
        figure = figures.calibration(labels, rows[column].to_numpy(dtype=np.float64), title)
        pictures.append(drawn(record, figure, f"{split}_{name}_calibration", title))
    return pictures
