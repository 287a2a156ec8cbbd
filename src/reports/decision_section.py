"""The section of a run's report on its decision: calibration, threshold, predictive values, decision curve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cxrlab import figures
from cxrlab.errors import CheckpointError
from cxrlab.evaluation import decision_curve
from cxrlab.evaluation.decision import Decided
from cxrlab.reports.cautions import label_is_not_the_disease
from cxrlab.reports.markdown import markdown_table, plain
from cxrlab.reports.record import EVALUATED, RunRecord, mapping
from cxrlab.words import plural

_SPLITS = {"val": "Validation", "test": "Test"}


def section(record: RunRecord) -> str:
    """The section as Markdown; draws its figures into the run folder. Empty for runs that are older than decisions."""
    found = mapping(record.metrics.get("decision"))
    splits = [split for split in EVALUATED if record.section(split) and split in found]
    if not splits:
        return ""
    try:
        decided = Decided.from_dict(found)
    except ValueError as error:
        hint = "restore the file as the run wrote it, or train again"
        raise CheckpointError(f"{record.folder / 'metrics.json'}: its decision is none ({error}); {hint}") from None
    parts = ["## Decision", _threshold(decided), _calibration(record, decided, found, splits)]
    parts += [_predictive_values(decided, found, splits), _curve(record, decided, found[splits[0]], splits[0])]
    return "\n\n".join(part for part in parts if part)


def _threshold(decided: Decided) -> str:
    fitted_on = decided.fitted_on
    what = "calibrated probability" if decided.calibrated else "score"
    spread = ""
    if fitted_on is not None and fitted_on["threshold_low"] is not None:
        spread = (
            f" (between {fitted_on['threshold_low']:.3g} and {fitted_on['threshold_high']:.3g} in 95 % of resamples of "
            "these patients)"
        )
    line = f"Positive from a {what} of **{decided.threshold:.3g}** on{spread}: {plain(decided.rule)}."
    if fitted_on is None:
        return line
    whose = f"{plural(fitted_on['images'], 'validation image')} of {plural(fitted_on['patients'], 'patient')}"
    return f"{line}\n\nFitted on {whose}; validation numbers are therefore better than those of new images would be."


def _calibration(record: RunRecord, decided: Decided, found: Mapping[str, Any], splits: list[str]) -> str:
    """Brier score and calibration error before and after, and the two reliability diagrams."""
    if not decided.calibrated:
        return "Calibration: none; scores are the network's own, and what they are worth stands under Metrics."
    rows = [
        (_SPLITS[split], name, *(str(found[split][when][key]) for when in ("uncalibrated", "calibrated")), *rest)
        for split in splits
        for name, key in (("Brier score", "brier"), ("ECE", "ece"))
        for rest in [(str(found[split]["calibrated"]["ece_if_calibrated"]) if key == "ece" else None,)]
    ]
    header = (
        "Split",
        "Measure",
        "Before [low, high]",
        "After [low, high]",
        "After, of a perfectly calibrated classifier",
    )
    method = (
        f"ECE: {plain(found[splits[0]]['uncalibrated']['ece'].method)}. An error inside the last column's range is "
        "no sign of miscalibration."
    )
    lines = [f"Calibration: {decided.calibration.words()}.", markdown_table(rows, header), method]
    return "\n\n".join([*lines, *_reliability(record, splits[0])])


def _reliability(record: RunRecord, split: str) -> list[str]:
    rows = record.scored(split)
    if rows is None or "uncalibrated" not in rows or not len(rows):
        return ["No reliability diagrams: predictions.csv is absent or holds no calibrated probabilities."]
    labels, drawn = rows["label"].to_numpy(dtype=np.int64), []
    for name, column in (("before", "uncalibrated"), ("after", "score")):
        title = f"{'SYNTHETIC ' if record.synthetic else ''}{_SPLITS[split]}: {name} calibration"
        path = f"figures/{split}_{name}_calibration.png"
        figures.save(figures.calibration(labels, rows[column].to_numpy(dtype=np.float64), title), record.folder / path)
        drawn.append(f"![{title}]({path})")
    return drawn


def _predictive_values(decided: Decided, found: Mapping[str, Any], splits: list[str]) -> str:
    if decided.prevalence is None:
        return (
            "PPV and NPV elsewhere: NOT CHECKED, as no prevalence was stated (`decision.prevalence=0.05`; of a trained "
            "model `src/evaluate.py … prevalence=0.05`). Those under Metrics hold for these images' share of Positive."
        )
    rows = [
        (_SPLITS[split], name.upper(), str(found[split][name]), found[split][name].method)
        for split in splits
        for name in ("ppv", "npv")
    ]
    head = f"At a prevalence of {decided.prevalence:.3g}, if sensitivity and specificity are the same there as here:"
    return f"{head}\n\n" + markdown_table(rows, ("Split", "Measure", "Value [low, high]", "Method"))


def _curve(record: RunRecord, decided: Decided, found: Mapping[str, Any], split: str) -> str:
    curve = found["curve"]
    title = f"{'SYNTHETIC ' if record.synthetic else ''}{_SPLITS[split]}: decision curve"
    path = f"figures/{split}_decision_curve.png"
    figures.save(figures.decision_curve(curve, decided.threshold, title), record.folder / path)
    useful = decision_curve.useful_thresholds(curve)
    if useful is None:
        said = "Whether acting on the score is better than treating everybody or nobody was not recorded"
    elif not useful:
        said = "At no threshold is acting on the score shown to be better than treating everybody or nobody"
    else:
        where = f"{useful[0]:.2f} to {useful[-1]:.2f}" if len(useful) > 1 else f"{useful[0]:.2f}"
        said = (
            f"At {len(useful)} of {plural(len(curve['thresholds']), 'threshold')} ({where}) acting on the score is "
            "better than treating everybody or nobody, by a 95 % band that holds for all thresholds together"
        )
    method = (
        f"net benefit (Vickers and Elkin 2006) at these images' {curve['prevalence']:.0%} Positive; "
        f"{plain(curve['method'])}"
    )
    trust = (
        "" if decided.calibrated else " The scores are not calibrated: a threshold is then no probability of disease."
    )
    if label_is_not_the_disease(record):
        trust += " The benefit is that of telling these labels apart: the label is not the disease, see the warnings."
    return f"{said} ({method}).{trust}\n\n![{title}]({path})"
