"""What the paper printed, what it contradicts, and how a run on its images stands beside it.

The paper: R. N. Kumoro, "COVID-19 Classification from Chest X-Ray Images using Convolutional Neural Network (CNN)".
Names of figures and tables are the paper's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import fisher_exact
from sklearn.metrics import classification_report

from cxrlab.datamodules import manifest as mf
from cxrlab.evaluation import summarise
from cxrlab.evaluation.estimate import wilson
from cxrlab.reports.markdown import number
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


@dataclass(frozen=True)
class Candidate:
    """A confusion matrix and how many of Table I's numbers it gives.

    Attributes:
        matrix: ``[[tn, fp], [fn, tp]]``.
        matches: Of the 13.
        contradicted: Names of the numbers that it does not give, ``Positive F1 0.98 (printed: 0.97)``.
    """

    matrix: Matrix
    matches: int
    contradicted: tuple[str, ...]


def candidate(matrix: Matrix) -> Candidate:
    """Compares the classification report of a confusion matrix with Table I, both to two decimals."""
    report = _classification(matrix)
    wrong = [
        f"{row} {column} {value:.2f} (printed: {printed})"
        for row in TABLE_I
        for column, printed, value in zip(("precision", "recall", "F1"), TABLE_I[row], report[row][:3], strict=True)
        if printed is not None and f"{value:.2f}" != printed
    ]
    return Candidate(matrix, PRINTED - len(wrong), tuple(wrong))


def _classification(matrix: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """Precision, recall, F1 and images of each row of Table I; accuracy in the place of the first three of its row."""
    truth, called = (np.repeat(labels, np.ravel(matrix)) for labels in ([0, 0, 1, 1], [0, 1, 0, 1]))
    names = ("Negative", "Positive")
    found = classification_report(truth, called, labels=[0, 1], target_names=names, output_dict=True, zero_division=0)
    accuracy = float(found.pop("accuracy"))
    rows = {name.title(): [float(value) for value in row.values()] for name, row in found.items()}
    return rows | {"Accuracy": [accuracy] * 3 + [float(truth.size)]}


def matrices_of_table_one(images: int = IMAGES) -> list[Matrix]:
    """Every confusion matrix of so many images that gives all 13 numbers of Table I."""
    return [matrix for matrix in _matrices(images) if _accuracy_fits(matrix) and candidate(matrix).matches == PRINTED]


def _matrices(images: int) -> Iterator[Matrix]:
    for tn in range(images + 1):
        for fp in range(images + 1 - tn):
            for fn in range(images + 1 - tn - fp):
                yield (tn, fp), (fn, images - tn - fp - fn)


def _accuracy_fits(matrix: Matrix) -> bool:
    """Whether the one number that is cheap to compare agrees; it rules out nearly every matrix."""
    (tn, fp), (fn, tp) = matrix
    return f"{(tn + tp) / (tn + fp + fn + tp):.2f}" == TABLE_I["Accuracy"][2]


def true_labels(rows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Labels by what is on the film: 1 where ``finding`` names COVID-19, else 0; shape (rows,)."""
    return np.asarray(rows["finding"].str.contains(TRUE_FINDING, regex=False), dtype=np.int64)


def rescored(record: RunRecord) -> dict[str, Any] | None:
    """The run's test predictions, scored against the true findings, see :func:`cxrlab.evaluation.summarise`.

    Returns:
        ``None`` where there are no test predictions.
    """
    rows, section = record.scored("test"), record.section("test")
    if rows is None or section is None or not len(rows):
        return None
    people = mf.people(rows).to_numpy()
    return summarise(true_labels(rows), rows["score"].to_numpy(), people, threshold=section["threshold"])


# ------------------------------------------------------------------------------------------------------------ sections


def sections(record: RunRecord) -> dict[str, Any] | None:
    """Values for the sections on the paper; ``None`` for a run on other images."""
    if not record.of_the_paper:
        return None
    return {
        "beside": _beside_the_paper(record),
        "wilson": wilson(RIGHT, IMAGES),
        "fewest_alike": _fewest_alike(),
        "findings": _true_findings(record),
        "table_one": table_one_against_fig_nine(),
    }


def _beside_the_paper(record: RunRecord) -> list[tuple[str, ...]]:
    """Every number of the paper's that this run has too."""
    section = record.section("test")
    if section is None:
        return []
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    epochs = record.metrics.get("epochs")
    data = record.config.get("data") or {}
    size = data.get("image_size")
    return [
        ("Training images", "148 (74 + 74)", _sizes(record.rows("train")), "II"),
        ("Test images", "40 (20 + 20), also used for validation", _sizes(record.rows("test")), "II, IV.A"),
        ("Input", "224 x 224 x 3", f"{size} px, {data.get('channels')} channels", "Fig. 6"),
        ("Parameters", f"{PARAMETERS:,}", number(record.environment.get("parameters"), ",d"), "Fig. 6"),
        ("Epochs, batch", "20, 32", f"{epochs}, {data.get('batch_size')}", "III.B"),
        ("Right of the test images", f"{RIGHT} of {IMAGES}", f"{tn + tp} of {section['n']}", "Fig. 9"),
        ("Accuracy", "0.975 (abstract), 0.97 (Table I), 1.0 (IV.A)", str(section["accuracy"]), ""),
        ("Confusion matrix TN, FP, FN, TP", "19, 1, 0, 20", f"{tn}, {fp}, {fn}, {tp}", "Fig. 9"),
    ]


def _fewest_alike() -> int:
    """The fewest right of 40 that Fisher's exact test does not tell apart from the paper's 39 at the 5 % level."""
    theirs = [RIGHT, IMAGES - RIGHT]
    return next(n for n in range(IMAGES) if fisher_exact([[n, IMAGES - n], theirs]).pvalue >= 0.05)


def figure_name(record: RunRecord, name: str) -> str:
    """`` (the paper's Fig. 5)`` where the run is on the paper's images, else nothing."""
    return f" (the paper's {name})" if record.of_the_paper else ""


def _sizes(rows: pd.DataFrame) -> str:
    positive = int(rows["label"].sum())
    return f"{len(rows)} ({len(rows) - positive} + {positive})"


def _true_findings(record: RunRecord) -> dict[str, Any] | None:
    """The same predictions, scored against what is on the films."""
    again, section, rows = rescored(record), record.section("test"), record.scored("test")
    if again is None or section is None or rows is None:
        return None
    labelled = rows.loc[rows["label"] == 1, "finding"]
    both = (("as labelled", section), ("true finding", again))
    return {
        "labelled": len(labelled),
        "shown": tally(labelled),
        "again": again,
        "people": mf.people(rows[true_labels(rows) == 1]).nunique(),
        "counts": [(name, *_fractions(part["confusion_matrix"])) for name, part in both],
        "intervals": [
            (name, *(part[key] for key in ("accuracy", "sensitivity", "specificity", "ppv", "auroc")))
            for name, part in both
        ],
        "methods": {"Accuracy": again["accuracy"], "AUROC": again["auroc"]},
        "finding": TRUE_FINDING,
    }


def _fractions(matrix: list[list[int]]) -> list[str]:
    """Right of all, of the Positive, of the Negative, and of those called Positive."""
    (tn, fp), (fn, tp) = matrix
    parts = ((tn + tp, tn + fp + fn + tp), (tp, fn + tp), (tn, tn + fp), (tp, fp + tp))
    return [f"{right} of {among}" for right, among in parts]


def table_one_against_fig_nine() -> dict[str, Any]:
    """Which confusion matrix Table I was computed from, and that it is not the one of the text."""
    fitting = matrices_of_table_one()
    names = {FIG_9: "text on Fig. 9", ((20, 1), (0, 19)): "Fig. 9's four values, rearranged"}
    rows = []
    for matrix in [*fitting, FIG_9]:
        (tn, fp), (fn, tp) = matrix
        matches = f"{candidate(matrix).matches} of {PRINTED}"
        rows.append((names.get(matrix, ""), f"{tn}, {fp}, {fn}, {tp}", f"{tn + fp}/{fn + tp}", matches))
    text = candidate(FIG_9)
    return {"rows": rows, "printed": PRINTED, "images": IMAGES, "fitting": len(fitting), "text": text}


def classification(record: RunRecord) -> list[tuple[object, ...]]:
    """Table I of this run, beside the paper's where the images are the paper's: rows of five cells."""
    section = record.section("test")
    if section is None:
        return []
    report = _classification(section["confusion_matrix"])
    rows: list[tuple[object, ...]] = []
    for row in TABLE_I:
        *found, support = report[row]
        values = [None, None, found[2]] if row == "Accuracy" else found
        printed = TABLE_I[row] if record.of_the_paper else (None, None, None)
        rows.append((row, *map(_beside, values, printed), round(support)))
    return rows


def _beside(value: float | None, printed: str | None) -> str:
    own = "" if value is None else f"{value:.2f}"
    return f"{own} ({printed})" if printed else own
