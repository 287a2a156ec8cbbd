"""The report of one run, built from the files of its folder and the images that its manifest names.

It opens with the result and its pictures; what could make a number look better than it is follows at once. Part of that
the run wrote down itself (``warnings`` in ``metrics.json``); part is read here from the manifest, which says what each
label is made of. A run folder holds no patient's image until its report is drawn: images are read again from where the
manifest found them; those that have moved or changed since are said to be missing, and nothing else fails.
"""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab import figures
from cxrlab.console import command
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.alterations import Alteration
from cxrlab.datamodules.pixels import ImageRows
from cxrlab.errors import DataError
from cxrlab.evaluation import METRICS, thresholds
from cxrlab.figures import CLASSES
from cxrlab.reading.image import read_image
from cxrlab.reports import baselines, paper
from cxrlab.reports.cautions import MAPS, beside_the_disease, by_split, one_answer, shared, warnings
from cxrlab.reports.documents import NAMES, NOT_RECORDED, Markdown, known, plain, strong, write_document
from cxrlab.reports.record import EVALUATED, SPLITS, RunRecord, mapping, read_run
from cxrlab.words import plural

_FIRST = ("accuracy", "sensitivity", "specificity", "auroc")  # whose intervals are drawn on top
_SAMPLES = 2  # of each class
_WORST = 8
_OVERLAPS = {"patient_id": "Patients", "sha256": "Byte-identical files", "film": "Films (near-duplicates)"}


def write_report(run_dir: Path, images: ImageRows | None = None) -> Path:
    """Writes ``report.md``, ``report.html`` and ``figures/*.png`` into a run folder.

    Whatever is absent, the images included, the report says so, but for the four files that
    :func:`~cxrlab.reports.record.read_run` requires. It keeps trivial baselines, see :mod:`cxrlab.reports.baselines`.

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
        "curves": _curves(record),
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
        "mistakes": mistakes(record, split, section["threshold"]),
        "beside": rows,
        # Of two that are right equally often, the one that is harder to tell from the network.
        "best": max(beside, key=lambda each: (each["right"], each["p"]), default=None),
        "described": [f"{name}: {text}" for name, text in described.items()],
        "fitted": len(record.rows("train")) or record.evaluation.get("training_images"),
    }


def _metrics(record: RunRecord, split: str) -> dict[str, Any]:
    """The numbers of one split, and how their intervals came about."""
    section = record.section(split)
    found = {"name": split, "title": SPLITS[split], "section": section}
    if section is None:
        return found
    matrix = zip(CLASSES, section["confusion_matrix"], strict=True)
    return found | {
        "figures": _charts(record, split, section),
        "confusion": [(strong(name), *counts) for name, counts in matrix],
        "estimates": {NAMES[name]: section[name] for name in METRICS} | record.calibration(split),
        "report": paper.classification(record) if split == "test" else None,
    }


def _decision(record: RunRecord) -> dict[str, Any]:
    """Calibration, threshold, predictive values and decision curve; nothing of it where nothing was evaluated."""
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
            title = f"{mark}: {name} calibration"
            labels, scores = rows["label"].to_numpy(dtype=np.int64), rows[column].to_numpy(dtype=np.float64)
            figure = figures.calibration(labels, scores, title)
            reliability.append(_drawn(record, figure, f"{first}_{name}_calibration", title))
    other_labels = record.labels_are_collections or record.data.get("permute_labels") is not None
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
        "benefit": _drawn(record, figure, f"{first}_decision_curve", f"{mark}: decision curve"),
        "not_the_disease": other_labels or bool(beside_the_disease(record)),
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
        "samples": samples(record),
    }


def _about(record: RunRecord) -> dict[str, str]:
    environment, metrics = record.environment, record.metrics
    device, precision, cpu, cores = (known(environment.get(key)) for key in ("device", "precision", "cpu", "cores"))
    seconds = metrics.get("epoch_seconds")
    return {
        "Status": f"{metrics.get('status', NOT_RECORDED)}, {metrics.get('epochs', NOT_RECORDED)} epochs",
        "Weights evaluated": metrics.get("weights") or NOT_RECORDED,
        "Model": record.model,
        "Parameters": known(environment.get("parameters"), ",d"),
        "Seed": known(environment.get("seed", record.config.get("seed"))),
        "Device, precision": f"{device}, {precision}",
        "Machine": f"{cpu}, {cores} cores, GPU: {environment.get('gpu') or 'none'}",
        "Seconds per epoch (median)": f"{statistics.median(seconds):.2f}" if seconds else NOT_RECORDED,
        "Wall-clock seconds": known(metrics.get("wall_seconds"), ".1f"),
        "Peak memory": f"{known(metrics.get('peak_memory_mb'), ',.0f')} MB",
        "Started": known(environment.get("started")),
        "Python": known(environment.get("python")),
        "Packages": ", ".join(f"{k} {v}" for k, v in mapping(environment.get("packages")).items()) or NOT_RECORDED,
        "Git commit": known(environment.get("git_commit")),
        "Overrides": " ".join(record.overrides) or "none",
    }


# -------------------------------------------------------------------------------------------------------- the figures


def _drawn(record: RunRecord, figure: figures.Figure, name: str, caption: str) -> Markdown:
    """Saves a figure into the run folder, as ``figures/<name>.png``; returns what shows it."""
    path = f"figures/{name}.png"
    figures.save(figure, record.folder / path)
    return Markdown(f"![{plain(caption)}]({path})")


def _curves(record: RunRecord) -> Markdown:
    """Loss and accuracy of every epoch."""
    if record.history is None:
        return Markdown("No learning curves: metrics.csv holds no finished epoch.")
    title = f"{record.mark}Learning curves"
    name = "validation (= test images)" if record.val_is_test else "validation"
    figure = figures.learning_curves(record.history, title=title, validation=name)
    return _drawn(record, figure, "learning_curves", title + paper.figure_name(record, "Fig. 7 and 8"))


def _charts(record: RunRecord, split: str, section: dict[str, Any]) -> dict[str, Markdown]:
    """Draws what the files allow of a split with these metrics: the ``main`` figures, and ``more``."""
    title, rows = f"{record.mark}{SPLITS[split]}", record.scored(split)
    found = {
        "intervals": figures.intervals({NAMES[name]: section[name] for name in _FIRST}, title),
        "confusion_matrix": figures.confusion_matrix(section["confusion_matrix"], f"{title}: confusion matrix"),
    }
    if rows is not None and len(rows):
        y, s = rows["label"].to_numpy(dtype=np.int64), rows["score"].to_numpy(dtype=np.float64)
        threshold = float(section["threshold"])
        found["roc"] = figures.roc(y, s, section["auroc"], f"{title}: ROC")
        found["precision_recall"] = figures.precision_recall(y, s, section["ap"], f"{title}: precision-recall")
        found["calibration"] = figures.calibration(y, s, f"{title}: calibration")
        found["scores"] = figures.score_distribution(y, s, threshold, f"{title}: scores by true label")
    shown = []
    for name, figure in found.items():
        caption = f"{title}: {'ROC' if name == 'roc' else name.replace('_', ' ')}"
        caption += paper.figure_name(record, "Fig. 9") if name == "confusion_matrix" else ""
        shown.append(_drawn(record, figure, f"{split}_{name}", caption))
    return {"main": Markdown("\n".join(shown[:3])), "more": Markdown("\n".join(shown[3:]))}


def samples(record: RunRecord) -> Markdown:
    """Training images of either class as their files have them and as the network sees them (the paper's Fig. 1, 3)."""
    train = record.rows("train")
    which, among = ("Training images", train) if len(train) else ("Images", record.manifest)
    rows = pd.concat([among[among["label"] == label].head(_SAMPLES) for label in (0, 1)])
    originals, reason = _originals(rows)
    if originals is None:
        return plain(f"No sample images: {reason}.")
    seen, note = _as_seen(record, originals)
    captions = [f"{mf.NAMES[bool(row.label == 1)]}\n{Path(str(row.path)).name}" for row in rows.itertuples()]
    title = f"{record.mark}{which} as stored, and as the network sees them{note}"
    figure = figures.before_after(originals, seen, captions, title)
    return _drawn(record, figure, "samples", title + paper.figure_name(record, "Fig. 1 and 3"))


def mistakes(record: RunRecord, split: str, threshold: float) -> Markdown:
    """The wrong calls, worst first; where all are right, those nearest to the threshold."""
    rows = record.scored(split)
    if rows is None or not len(rows):
        return Markdown("No image to show: predictions.csv is absent or empty.")
    distance = (rows["score"] - threshold).abs()
    wrong = (rows["score"] >= threshold) != (rows["label"] == 1)
    if wrong.any():
        shown = rows.loc[distance[wrong].sort_values(ascending=False, kind="stable").index[:_WORST]]
        title = f"{record.mark}Worst mistakes: {len(shown)} of {int(wrong.sum())} wrong {split} images"
    else:
        shown = rows.loc[distance.sort_values(kind="stable").index[: _WORST // 2]]
        title = f"{record.mark}No {split} image was called wrongly; the {len(shown)} nearest to the threshold"
    originals, reason = _originals(shown)
    if originals is None:
        return plain(f"{title}. Not shown: {reason}.")
    images, note = _as_seen(record, originals)
    captions = [
        f"{mf.NAMES[bool(row['label'] == 1)]}, score {row['score']:.3f}\n{known(row.get('finding'))}\n"
        f"patient {known(row['patient_id'])}"
        for _, row in shown.iterrows()
    ]
    return _drawn(record, figures.image_grid(images, captions), "mistakes", title + note)


def _originals(rows: pd.DataFrame) -> tuple[list[npt.NDArray[np.uint8]] | None, str]:
    """The images of rows, or ``None`` and why they cannot be shown."""
    found = []
    for row in rows.itertuples():
        try:
            image = read_image(str(row.path))
        except DataError as error:
            return None, str(error).partition(";")[0]
        if image.sha256 != getattr(row, "sha256", image.sha256):
            return None, f"{row.path} has changed since the run"
        found.append(image.pixels)
    return found, ""


def _as_seen(record: RunRecord, originals: list[npt.NDArray[np.uint8]]) -> tuple[npt.NDArray[np.uint8], str]:
    """Images as the network saw them; and, where a few images do not tell what it saw, a note to say so."""
    prepared = record.preprocessing
    images = np.stack([prepared.apply(image) for image in originals])
    alteration = Alteration.parse(record.data.get("alter", "none"))
    if record.data.get("mask") or alteration.needs_lungs or alteration.kind in ("shuffle", "histogram"):
        return images, f" (before {record.changed_by})"
    return alteration.apply(images), ""


def _network(record: RunRecord) -> dict[str, Any]:
    """The network as a picture (the paper's Fig. 5 and 6); its layers as text stand in the record."""
    if not record.network:
        return {"network": None}
    rows = [(row["name"], row["type"], tuple(row["output_shape"]), row["params"]) for row in record.network["rows"]]
    title = f"{record.network['model']}: {record.network['total']:,} parameters"
    picture = _drawn(record, figures.network_diagram(rows, title), "network", title)
    return {"network": picture, "layers_are": paper.figure_name(record, "Fig. 5 and 6")}


def _maps(record: RunRecord) -> Markdown | None:
    """What the training drew of where the network looks; ``None`` for a run without maps."""
    chosen = mapping(record.config.get("saliency")).get("_target_")
    if not chosen or not (record.folder / MAPS).is_file():
        return None
    which, method = "SYNTHETIC test" if record.synthetic else "Test", str(chosen).rpartition(".")[2]
    caption = plain(f"{which} images, and below each its map of evidence for Positive ({method})")
    return Markdown(f"![{caption}]({MAPS})")
