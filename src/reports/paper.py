"""What the paper printed, what it contradicts, and how a run on its images stands beside it.

The paper: R. N. Kumoro, "COVID-19 Classification from Chest X-Ray Images using Convolutional Neural Network (CNN)".
Names of figures and tables are the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import fisher_exact
from sklearn.metrics import classification_report

from cxrlab.datamodules import manifest as mf
from cxrlab.evaluation import summarise
from cxrlab.evaluation.estimate import wilson
from cxrlab.reports.documents import known
from cxrlab.reports.record import RunRecord
from cxrlab.words import tally

Matrix = tuple[tuple[int, int], tuple[int, int]]

RIGHT, IMAGES = 39, 40
PARAMETERS = 23_981_249
FIG_9: Matrix = ((19, 1), (0, 20))
"""The confusion matrix ``[[tn, fp], [fn, tp]]`` that the text on Fig. 9 spells out."""
TABLE_I: dict[str, tuple[str | None, str | None, str]] = {
    "Negative": ("1.00", "0.95", "0.98"),
    "Positive": ("0.95", "1.00", "0.97"),
    "Accuracy": (None, None, "0.97"),
    "Macro Avg": ("0.97", "0.98", "0.97"),
    "Weighted Avg": ("0.98", "0.97", "0.98"),
}
"""Precision, recall and F1 as printed: 13 numbers."""
PRINTED = sum(cell is not None for row in TABLE_I.values() for cell in row)
TRUE_FINDING = "COVID-19"


def contradicted(matrix: Matrix) -> list[str]:
    """The numbers of Table I that a matrix does not give to two decimals: ``Positive F1 0.98 (printed: 0.97)``."""
    report = _classification(matrix)
    return [
        f"{row} {column} {value:.2f} (printed: {printed})"
        for row in TABLE_I
        for column, printed, value in zip(("precision", "recall", "F1"), TABLE_I[row], report[row][:3], strict=True)
        if printed is not None and f"{value:.2f}" != printed
    ]


def _classification(matrix: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """Precision, recall, F1 and images of each row of Table I; accuracy in the place of the first three of its row."""
    truth, called = (np.repeat(labels, np.ravel(matrix)) for labels in ([0, 0, 1, 1], [0, 1, 0, 1]))
    names = {"labels": [0, 1], "target_names": ["Negative", "Positive"]}
    found = classification_report(truth, called, **names, output_dict=True, zero_division=0)
    accuracy = float(found.pop("accuracy"))
    rows = {name.title(): [float(value) for value in row.values()] for name, row in found.items()}
    return rows | {"Accuracy": [accuracy] * 3 + [float(truth.size)]}


def matrices_of_table_one(images: int = IMAGES) -> list[Matrix]:
    """Every confusion matrix of so many images that gives all 13 numbers of Table I."""
    # The accuracy is cheap to compare, and rules out nearly every matrix.
    wrong = [n for n in range(images + 1) if f"{(images - n) / images:.2f}" == TABLE_I["Accuracy"][2]]
    found: list[Matrix] = [
        ((tn, fp), (n - fp, images - n - tn)) for n in wrong for fp in range(n + 1) for tn in range(images - n + 1)
    ]
    return sorted(matrix for matrix in found if not contradicted(matrix))


def table_one() -> list[tuple[str, ...]]:
    """Which confusion matrix Table I comes from: what it is, TN, FP, FN, TP, images, and how many numbers fit."""
    names = {FIG_9: "text on Fig. 9", ((20, 1), (0, 19)): "Fig. 9's four values, rearranged"}
    rows: list[tuple[str, ...]] = []
    for matrix in [*matrices_of_table_one(), FIG_9]:
        (tn, fp), (fn, tp) = matrix
        given = f"{PRINTED - len(contradicted(matrix))} of {PRINTED}"
        rows.append((names.get(matrix, ""), f"{tn}, {fp}, {fn}, {tp}", f"{tn + fp}/{fn + tp}", given))
    return rows


def true_labels(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Labels by what is on the film: 1 where ``finding`` names COVID-19, else 0; shape (rows,)."""
    return np.asarray(rows["finding"].str.contains(TRUE_FINDING, regex=False), dtype=np.int64)


def fewest_alike() -> int:
    """The fewest right of 40 that Fisher's exact test does not tell apart from the paper's 39 at the 5 % level."""
    tests = (fisher_exact([[n, IMAGES - n], [RIGHT, IMAGES - RIGHT]]) for n in range(IMAGES))
    return next(n for n, test in enumerate(tests) if test.pvalue >= 0.05)


def figure_name(record: RunRecord, name: str) -> str:
    """`` (the paper's Fig. 5)`` where the run is on the paper's images, else nothing."""
    return f" (the paper's {name})" if record.of_the_paper else ""


def classification(record: RunRecord) -> list[tuple[object, ...]]:
    """Table I of this run, beside the paper's where the images are the paper's: rows of five cells."""
    section = record.section("test")
    if section is None:
        return []
    report = _classification(section["confusion_matrix"])
    rows = []
    for row, printed in TABLE_I.items():
        values = [f"{value:.2f}" for value in report[row][:3]]
        cells = ["", "", values[2]] if row == "Accuracy" else values
        if record.of_the_paper:
            cells = [f"{cell} ({theirs})" if theirs else cell for cell, theirs in zip(cells, printed, strict=True)]
        rows.append((row, *cells, round(report[row][3])))
    return rows


def sections(record: RunRecord) -> dict[str, Any] | None:
    """Values for the sections on the paper; ``None`` for a run on other images."""
    if not record.of_the_paper:
        return None
    return {
        "beside": _beside_the_paper(record),
        "wilson": wilson(RIGHT, IMAGES),
        "fewest_alike": fewest_alike(),
        "findings": true_findings(record),
        "table_one": table_one(),
        "printed": PRINTED,
        "images": IMAGES,
        "contradicted": contradicted(FIG_9),
    }


def _beside_the_paper(record: RunRecord) -> list[tuple[str, ...]]:
    """Every number of the paper's that this run has too."""
    section = record.section("test")
    if section is None:
        return []
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    sizes = []
    for split in ("train", "test"):
        labels = record.rows(split)["label"]
        sizes.append(f"{len(labels)} ({len(labels) - int(labels.sum())} + {int(labels.sum())})")
    data = record.data
    return [
        ("Training images", "148 (74 + 74)", sizes[0], "II"),
        ("Test images", "40 (20 + 20), also used for validation", sizes[1], "II, IV.A"),
        ("Input", "224 x 224 x 3", f"{data.get('image_size')} px, {data.get('channels')} channels", "Fig. 6"),
        ("Parameters", f"{PARAMETERS:,}", known(record.environment.get("parameters"), ",d"), "Fig. 6"),
        ("Epochs, batch", "20, 32", f"{record.metrics.get('epochs')}, {data.get('batch_size')}", "III.B"),
        ("Right of the test images", f"{RIGHT} of {IMAGES}", f"{tn + tp} of {section['n']}", "Fig. 9"),
        ("Accuracy", "0.975 (abstract), 0.97 (Table I), 1.0 (IV.A)", str(section["accuracy"]), ""),
        ("Confusion matrix TN, FP, FN, TP", "19, 1, 0, 20", f"{tn}, {fp}, {fn}, {tp}", "Fig. 9"),
    ]


def true_findings(record: RunRecord) -> dict[str, Any] | None:
    """The same predictions, scored against what is on the films; ``None`` where there are none."""
    section, rows = record.section("test"), record.scored("test")
    if section is None or rows is None or not len(rows):
        return None
    people, truth = mf.people(rows), true_labels(rows)
    again = summarise(truth, rows["score"].to_numpy(), people.to_numpy(), threshold=section["threshold"])
    labelled = rows.loc[rows["label"] == 1, "finding"]
    counts: list[tuple[object, ...]] = []
    intervals: list[tuple[object, ...]] = []
    for name, part in (("as labelled", section), ("true finding", again)):
        (tn, fp), (fn, tp) = part["confusion_matrix"]
        parts = ((tn + tp, tn + fp + fn + tp), (tp, fn + tp), (tn, tn + fp), (tp, fp + tp))
        counts.append((name, *(f"{right} of {among}" for right, among in parts)))
        intervals.append((name, *(part[key] for key in ("accuracy", "sensitivity", "specificity", "ppv", "auroc"))))
    return {
        "labelled": len(labelled),
        "shown": tally(labelled),
        "again": again,
        "people": people[truth == 1].nunique(),
        "counts": counts,
        "intervals": intervals,
        "finding": TRUE_FINDING,
    }
