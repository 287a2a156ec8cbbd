"""The report of one run, built from the files of its folder and the images that its manifest names.

It opens with the result and its pictures; what could make a number look better than it is follows at once. Part of that
the run wrote down itself (``warnings`` in ``metrics.json``); part is read here from the manifest, which says what each
label is made of.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cxrlab import figures
from cxrlab.console import command
from cxrlab.datamodules.pixels import ImageRows
from cxrlab.evaluation import METRICS
from cxrlab.figures import CLASSES
from cxrlab.reports import baselines, decision_section, paper, pictures
from cxrlab.reports.cautions import one_answer, shared, warnings
from cxrlab.reports.documents import write_document
from cxrlab.reports.facts import MAPS, SPLITS, by_split, known, patients, tallied
from cxrlab.reports.markdown import NAMES, NOT_RECORDED, number, strong
from cxrlab.reports.pictures import Picture, drawn
from cxrlab.reports.record import EVALUATED, RunRecord, mapping, read_run
from cxrlab.words import plural

_LEVEL = 0.05  # of a p value, from which down the network is said to do better than a baseline
_FIRST = ("accuracy", "sensitivity", "specificity", "auroc")  # that are drawn on top


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
    split = next((name for name in EVALUATED if record.section(name)), None)
    threshold = (record.section(split) or {})["threshold"] if split else 0.0
    context = {
        "record": record,
        "synthetic": record.synthetic,
        "result": _result(record, split) if split else None,
        "warnings": warnings(record),
        "figures": _figures(record),
        "maps": _maps(record),
        "mistakes": pictures.mistakes(record, split, threshold, _mark(record)) if split else None,
        "baselines": _baselines(record) if record.section("test") else None,
        "without_baselines": without_baselines,
        "splits": [_metrics(record, split) for split in EVALUATED],
        "paper": paper.sections(record),
        "decision": decision_section.section(record),
        "data": _data(record),
        "network": _network(record),
        "about": _about(record),
        "command": known(record.environment.get("command")),
        "probe": command("probe", "ckpt_path=…", "saliency=…"),
    }
    return write_document(record.folder, "report", "report", _title(record), context).with_suffix(".md")


def _title(record: RunRecord) -> str:
    """Names both sets where a trained model was evaluated."""
    name, place = f"Report of {record.folder.resolve().name}", record.evaluation
    name = f"{name}: trained on {place['trained_on']}, evaluated on {place['evaluated_on']}" if place else name
    return f"{'SYNTHETIC: ' if record.synthetic else ''}{name} ({record.model})"


def _mark(record: RunRecord) -> str:
    return "SYNTHETIC " if record.synthetic else ""


def _result(record: RunRecord, split: str) -> dict[str, Any]:
    """What is said first."""
    section = record.section(split) or {}
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    return {
        **section,
        "where": f"{'synthetic ' if record.synthetic else ''}{split}",
        "split": split,
        "right": tn + tp,
        "missed": fn,
        "false_alarms": fp,
        "commoner": max(section["n_positive"], section["n_negative"]),
        "one_answer": one_answer(section),
    }


# ------------------------------------------------------------------------------------------------------- the numbers


def _baselines(record: RunRecord) -> dict[str, Any]:
    """How far methods get that see no lung in detail, and whether the network can be told from the best of them."""
    section = record.section("test") or {}
    (tn, _), (_, tp) = section["confusion_matrix"]
    right, n = tn + tp, section["n"]
    named = {name.replace("_", " "): each for name, each in record.beside.items()}
    # Of two that are right equally often, the one that is harder to tell from the network.
    best = max(named, key=lambda name: (named[name]["right"], named[name]["p"]), default="")
    rows: list[tuple[object, ...]] = [
        (strong(f"{record.model} (this run)"), f"{right} of {n}", section["accuracy"], section["auroc"], "")
    ]
    for name, each in named.items():
        paired = f"{each['only_network']} / {each['only_baseline']}, p = {each['p']:.3g}"
        rows.append((name, f"{each['right']} of {each['n']}", each["accuracy"], each["auroc"], paired))
    return {
        "rows": rows,
        "described": {name.replace("_", " "): text for name, text in baselines.KNOWN.items() if name in record.beside},
        "own": section,
        "right": right,
        "n": n,
        "best": best,
        "best_found": named.get(best),
        "better": bool(best) and right > named[best]["right"],
        "told_apart": bool(best) and named[best]["p"] < _LEVEL,
        "fitted": len(record.rows("train")) or record.evaluation.get("training_images"),
    }


def _metrics(record: RunRecord, split: str) -> dict[str, Any]:
    """The numbers of one split, and how their intervals came about."""
    section = record.section(split)
    found = {NAMES[name]: section[name] for name in METRICS} if section else {}
    calibration = record.calibration(split) if section else {}
    found |= {name: calibration[key] for name, key in (("Brier score", "brier"), ("ECE", "ece")) if key in calibration}
    return {
        "name": split,
        "title": SPLITS[split],
        "section": section,
        "confusion": [
            (strong(name), *counts) for name, counts in zip(CLASSES, section["confusion_matrix"], strict=True)
        ]
        if section
        else [],
        "estimates": found,
        "is_test": split == "val" and record.val_is_test,
        "report": paper.classification(record) if split == "test" and section else None,
    }


# ----------------------------------------------------------------------------------------------------------- the data


def _data(record: RunRecord) -> dict[str, Any]:
    images = [
        (title, name, len(part), patients(part), *(tallied(part, column) for column in ("finding", "source", "view")))
        for title, name, part in by_split(record)
    ]
    seen = Counter(record.manifest["known"]) if "known" in record.manifest else None
    return {
        "images": images,
        "unused": int((~record.manifest["split"].isin(list(SPLITS))).sum()),
        "seen": seen,
        "overlaps": [
            _overlap(record, column, what)
            for column, what in (
                ("patient_id", "Patients"),
                ("sha256", "Byte-identical files"),
                ("film", "Films (near-duplicates)"),
            )
        ],
        "flow": record.flow,
        "samples": pictures.samples(record, _mark(record)),
    }


def _overlap(record: RunRecord, column: str, what: str) -> str:
    if column not in record.manifest or (record.manifest[column] == "").all():
        return f"{what} in more than one split: NOT CHECKED (the manifest holds no {column})"
    blank = int((record.manifest[column] == "").sum())
    rest = f" (NOT CHECKED for {plural(blank, 'image')} without {column})" if blank else ""
    return f"{what} in more than one split, by {column}: {len(shared(record.manifest, column))}{rest}"


# -------------------------------------------------------------------------------------------------------- the figures


def _network(record: RunRecord) -> dict[str, Any] | None:
    """The network as a picture and as a table (the paper's Fig. 5 and 6)."""
    if not record.network:
        return None
    rows = [(row["name"], row["type"], tuple(row["output_shape"]), row["params"]) for row in record.network["rows"]]
    title = f"{record.network['model']}: {record.network['total']:,} parameters"
    figure = figures.network_diagram(rows, title)
    picture = drawn(record, figure, "network", title)
    return {"picture": picture, "caption": paper.figure_name(record, "Fig. 5 and 6"), "text": record.network["text"]}


def _maps(record: RunRecord) -> Picture | None:
    """What the training drew of where the network looks; ``None`` for a run without maps."""
    chosen = mapping(record.config.get("saliency")).get("_target_")
    if not chosen or not (record.folder / MAPS).is_file():
        return None
    method = str(chosen).rpartition(".")[2]
    mark = "SYNTHETIC test" if record.synthetic else "Test"
    return Picture(MAPS, f"{mark} images, and below each its map of evidence for Positive ({method})")


def _figures(record: RunRecord) -> dict[str, Picture]:
    """Draws what the files allow; by name, those of a split after it: ``test_roc``."""
    found = {}
    if record.history is not None:
        title = f"{_mark(record)}Learning curves"
        name = "validation (= test images)" if record.val_is_test else "validation"
        figure = figures.learning_curves(record.history, title=title, validation=name)
        found["curves"] = drawn(record, figure, "learning_curves", title + paper.figure_name(record, "Fig. 7 and 8"))
    for split in EVALUATED:
        title = f"{_mark(record)}{SPLITS[split]}"
        for name, figure in _split_figures(record, split, title).items():
            text = f"{title}: {'ROC' if name == 'roc' else name.replace('_', ' ')}"
            text += paper.figure_name(record, "Fig. 9") if name == "confusion_matrix" else ""
            found[f"{split}_{name}"] = drawn(record, figure, f"{split}_{name}", text)
    return found


def _split_figures(record: RunRecord, split: str, title: str) -> dict[str, figures.Figure]:
    section, rows = record.section(split), record.scored(split)
    if not section:
        return {}
    matrix = section["confusion_matrix"]
    found = {
        "intervals": figures.intervals({NAMES[name]: section[name] for name in _FIRST}, title),
        "confusion_matrix": figures.confusion_matrix(matrix, f"{title}: confusion matrix"),
    }
    if rows is not None and len(rows):
        y, s = rows["label"].to_numpy(dtype=np.int64), rows["score"].to_numpy(dtype=np.float64)
        found["roc"] = figures.roc(y, s, section["auroc"], f"{title}: ROC")
        found["precision_recall"] = figures.precision_recall(y, s, section["ap"], f"{title}: precision-recall")
        found["calibration"] = figures.calibration(y, s, f"{title}: calibration")
        threshold = float(section["threshold"])
        found["scores"] = figures.score_distribution(y, s, threshold, f"{title}: scores by true label")
    return found


# ------------------------------------------------------------------------------------------------------------ the run


def _about(record: RunRecord) -> Mapping[str, str]:
    environment, metrics = record.environment, record.metrics
    told = {key: known(value) for key, value in environment.items()}
    device, precision, cpu, cores = (told.get(key, NOT_RECORDED) for key in ("device", "precision", "cpu", "cores"))
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
