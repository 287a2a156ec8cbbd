"""The classification report: precision, recall and F1 of both classes with their averages, from a confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

ROWS = ("Negative", "Positive", "Accuracy", "Macro Avg", "Weighted Avg")
"""The rows of a classification report, named as in the paper's Table I."""

Row = tuple[float, float, float, int]


def classification_report(matrix: Sequence[Sequence[int]]) -> dict[str, Row]:
    """Returns precision, recall, F1 and support per row of :data:`ROWS`.

    The numbers are those of scikit-learn's ``classification_report`` with ``zero_division=0``. Accuracy stands in all
    three columns of its row.

    Args:
        matrix: ``[[tn, fp], [fn, tp]]``, counts of images, at least one in all.

    Raises:
        ValueError: There is no image.
    """
    (tn, fp), (fn, tp) = matrix
    total = tn + fp + fn + tp
    if not total:
        raise ValueError(f"matrix must hold at least one image, got {matrix!r}")
    negative = (*_precision_recall_f1(tn, fn, fp), tn + fp)
    positive = (*_precision_recall_f1(tp, fp, fn), fn + tp)
    accuracy = (tn + tp) / total
    macro = [(first + second) / 2 for first, second in zip(negative[:3], positive[:3], strict=True)]
    weighted = [
        (first * negative[3] + second * positive[3]) / total
        for first, second in zip(negative[:3], positive[:3], strict=True)
    ]
    return {
        "Negative": negative,
        "Positive": positive,
        "Accuracy": (accuracy, accuracy, accuracy, total),
        "Macro Avg": (macro[0], macro[1], macro[2], total),
        "Weighted Avg": (weighted[0], weighted[1], weighted[2], total),
    }


def _precision_recall_f1(hits: int, false_alarms: int, missed: int) -> tuple[float, float, float]:
    """Of one class; 0 where undefined."""
    called, there = hits + false_alarms, hits + missed
    return (
        hits / called if called else 0.0,
        hits / there if there else 0.0,
        2 * hits / (called + there) if called + there else 0.0,
    )
