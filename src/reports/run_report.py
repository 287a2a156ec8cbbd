"""The report of one run, built from the files of its folder and the images that its manifest names.

It opens with the result and its pictures; what could make a number look better than it is follows at once. Part of that
the run wrote down itself (``warnings`` in ``metrics.json``); part is read here from the manifest, which says what each
label is made of.
"""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from cxrlab import figures
from cxrlab.console import command
from cxrlab.datamodules.pixels import ImageRows
from cxrlab.evaluation import METRICS, thresholds
from cxrlab.figures import CLASSES
from cxrlab.reports import baselines, paper, pictures
from cxrlab.reports.cautions import MAPS, beside_the_disease, by_split, known, one_answer, shared, warnings
from cxrlab.reports.documents import write_document
from cxrlab.reports.markdown import NAMES, NOT_RECORDED, Markdown, number, plain, strong
from cxrlab.reports.pictures import drawn
from cxrlab.reports.record import EVALUATED, SPLITS, RunRecord, mapping, read_run
from cxrlab.words import plural

_OVERLAPS = {"patient_id": "Patients", "sha256": "Byte-identical files", "film": "Films (near-duplicates)"}


def write_report(run_dir: Path, images: ImageRows | None = None) -> Path:
    """Writes ``report.md``, ``report.html`` and ``figures/*.png`` into a run folder.

    Required: ``config.yaml``, ``environment.json``, ``manifest.csv``, ``metrics.json``. Whatever else is absent, the
    images included, the report says so. The trivial baselines are kept in ``baselines.csv`` and ``baselines.json``.

    Args:
        run_dir: Folder of a finished or interrupted run.
        images: The manifest's images as the run read them, shape (rows, height, width, channels), for the trivial
            baselines; ``None`` reads them again.

    Returns:
        The path of ``report.md``.

    Raises:
        CheckpointError: If a required file is missing or a file cannot be read; names file and folder.
    """
    record, without_baselines = baselines.compare(read_run(Path(run_dir)), images)
    title, place = f"Report of {record.folder.resolve().name}", record.evaluation
    title += f": trained on {place['trained_on']}, evaluated on {place['evaluated_on']}" if place else ""
    context = {
        "record": record,
        "synthetic": record.synthetic,
        "warnings": warnings(record),
        "figures": pictures.charts(record),
        "maps": _maps(record),
        "without_baselines": without_baselines,
        "splits": [_metrics(record, split) for split in EVALUATED],
        "paper": paper.sections(record),
        "about": _about(record),
        "command": known(record.environment.get("command")),
        "probe": command("probe", "ckpt_path=…", "saliency=…"),
        **_result(record),
        **_decision(record),
        **_data(record),
        **_network(record),
    }
    title = f"{'SYNTHETIC: ' if record.synthetic else ''}{title} ({record.model})"
    return write_document(record.folder, "report", "report", title, context).with_suffix(".md")


# ------------------------------------------------------------------------------------------------------- the numbers


def _result(record: RunRecord) -> dict[str, Any]:
    """What is said first; and of test images how far methods get that see no lung in detail."""
    split = next((name for name in EVALUATED if record.section(name)), None)
    section = record.section(split) if split else None
    if split is None or section is None:
        return {"split": None, "section": None, "mistakes": None}
    (tn, _), (_, tp) = section["confusion_matrix"]
    own = (strong(f"{record.model} (this run)"), f"{tn + tp} of {section['n']}", section["accuracy"], section["auroc"])
    rows: list[tuple[object, ...]] = [(*own, "")]
    beside = [{"name": name.replace("_", " "), **each} for name, each in record.beside.items()]
    for each in beside:
        paired = f"{each['only_network']} / {each['only_baseline']}, p = {each['p']:.3g}"
        rows.append((each["name"], f"{each['right']} of {each['n']}", each["accuracy"], each["auroc"], paired))
    described = {name.replace("_", " "): text for name, text in baselines.KNOWN.items() if name in record.beside}
    return {
        "split": split,
        "section": section,
        "one_answer": one_answer(section),
        "mistakes": pictures.mistakes(record, split, section["threshold"]),
        "beside": rows,
        # Of two that are right equally often, the one that is harder to tell from the network.
        "best": max(beside, key=lambda each: (each["right"], each["p"]), default=None),
        "described": [f"{name}: {text}" for name, text in described.items()],
        "fitted": len(record.rows("train")) or record.evaluation.get("training_images"),
    }


def _metrics(record: RunRecord, split: str) -> dict[str, Any]:
    """The numbers of one split, and how their intervals came about."""
    section = record.section(split)
    found: dict[str, Any] = {"name": split, "title": SPLITS[split], "section": section}
    if section is None:
        return found | {"is_test": split == "val" and record.val_is_test}
    matrix = zip(CLASSES, section["confusion_matrix"], strict=True)
    return found | {
        "confusion": [(strong(name), *counts) for name, counts in matrix],
        "estimates": {NAMES[name]: section[name] for name in METRICS} | record.calibration(split),
        "report": paper.classification(record) if split == "test" else None,
    }


def _decision(record: RunRecord) -> dict[str, Any]:
    """Calibration, threshold, predictive values and decision curve; nothing of it where nothing was evaluated.

    Raises:
        CheckpointError: What ``metrics.json`` says about the decision is none.
    """
    decided, found = record.decided, mapping(record.metrics.get("decision"))
    splits = [split for split in EVALUATED if record.section(split) and split in found]
    if decided is None or not splits:
        return {"decided": None}
    first, calibration, reliability = splits[0], [], []
    predictive: dict[str, Any] = {}
    for split in splits:
        before, after, title = found[split]["uncalibrated"], found[split]["calibrated"], SPLITS[split]
        if decided.calibrated:
            calibration.append((title, "Brier score", before["brier"], after["brier"], None))
            calibration.append((title, "ECE", before["ece"], after["ece"], after["ece_if_calibrated"]))
        if decided.prevalence is not None:
            predictive |= {f"{title}, {name.upper()}": found[split][name] for name in ("ppv", "npv")}
    mark, rows = f"{record.mark}{SPLITS[first]}", record.scored(first)
    if decided.calibrated and rows is not None and "uncalibrated" in rows and len(rows):
        for name, column in (("before", "uncalibrated"), ("after", "score")):
            labels, scores = rows["label"].to_numpy(dtype=np.int64), rows[column].to_numpy(dtype=np.float64)
            title = f"{mark}: {name} calibration"
            figure = figures.calibration(labels, scores, title)
            reliability.append(drawn(record, figure, f"{first}_{name}_calibration", title))
    curve = found[first]["curve"]
    figure = figures.decision_curve(curve, decided.threshold, f"{mark}: decision curve")
    return {
        "decided": decided,
        "calibration": calibration,
        "ece": {"ECE": found[first]["uncalibrated"]["ece"]},
        "reliability": reliability,
        "predictive": predictive,
        "curve": curve,
        "useful": thresholds.useful_thresholds(curve),
        "benefit": drawn(record, figure, f"{first}_decision_curve", f"{mark}: decision curve"),
        "not_the_disease": record.labels_are_collections
        or record.data.get("permute_labels") is not None
        or bool(beside_the_disease(record)),
    }


# ----------------------------------------------------------------------------------------------------------- the data


def _data(record: RunRecord) -> dict[str, Any]:
    manifest = record.manifest
    overlaps = []
    for column, what in _OVERLAPS.items():
        if column not in manifest or (manifest[column] == "").all():
            overlaps.append(f"{what} in more than one split: NOT CHECKED (the manifest holds no {column})")
            continue
        blank = int((manifest[column] == "").sum())
        rest = f" (NOT CHECKED for {plural(blank, 'image')} without {column})" if blank else ""
        overlaps.append(f"{what} in more than one split, by {column}: {len(shared(manifest, column))}{rest}")
    return {
        "images": by_split(record, ("finding", "source", "view")),
        "unused": int((~manifest["split"].isin(list(SPLITS))).sum()),
        "seen": Counter(manifest["known"]) if "known" in manifest else None,
        "overlaps": overlaps,
        "samples": pictures.samples(record),
    }


def _network(record: RunRecord) -> dict[str, Any]:
    """The network as a picture (the paper's Fig. 5 and 6); its layers as text stand in the record."""
    if not record.network:
        return {"network": None}
    rows = [(row["name"], row["type"], tuple(row["output_shape"]), row["params"]) for row in record.network["rows"]]
    title = f"{record.network['model']}: {record.network['total']:,} parameters"
    picture = drawn(record, figures.network_diagram(rows, title), "network", title)
    return {"network": picture, "layers_are": paper.figure_name(record, "Fig. 5 and 6")}


def _maps(record: RunRecord) -> Markdown | None:
    """What the training drew of where the network looks; ``None`` for a run without maps."""
    chosen = mapping(record.config.get("saliency")).get("_target_")
    if not chosen or not (record.folder / MAPS).is_file():
        return None
    mark = "SYNTHETIC test" if record.synthetic else "Test"
    method = str(chosen).rpartition(".")[2]
    caption = plain(f"{mark} images, and below each its map of evidence for Positive ({method})")
    return Markdown(f"![{caption}]({MAPS})")


def _about(record: RunRecord) -> dict[str, str]:
    environment, metrics = record.environment, record.metrics
    device, precision, cpu, cores = (known(environment.get(key)) for key in ("device", "precision", "cpu", "cores"))
    seconds = metrics.get("epoch_seconds")
    return {
        "Status": f"{metrics.get('status', NOT_RECORDED)}, {metrics.get('epochs', NOT_RECORDED)} epochs",
        "Weights evaluated": metrics.get("weights") or NOT_RECORDED,
        "Model": record.model,
        "Parameters": number(environment.get("parameters"), ",d"),
        "Seed": known(environment.get("seed", record.config.get("seed"))),
        "Device, precision": f"{device}, {precision}",
        "Machine": f"{cpu}, {cores} cores, GPU: {environment.get('gpu') or 'none'}",
        "Seconds per epoch (median)": f"{statistics.median(seconds):.2f}" if seconds else NOT_RECORDED,
        "Wall-clock seconds": number(metrics.get("wall_seconds"), ".1f"),
        "Peak memory": f"{number(metrics.get('peak_memory_mb'), ',.0f')} MB",
        "Started": known(environment.get("started")),
        "Python": known(environment.get("python")),
        "Packages": ", ".join(f"{k} {v}" for k, v in mapping(environment.get("packages")).items()) or NOT_RECORDED,
        "Git commit": known(environment.get("git_commit")),
        "Overrides": " ".join(record.overrides) or "none",
    }
