"""The classification report equals scikit-learn's, whatever the confusion matrix."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import classification_report as sklearn_report

from cxrlab.evaluation.classification import ROWS, classification_report

MATRICES = [
    [[19, 1], [0, 20]],
    [[20, 1], [0, 19]],
    [[20, 0], [1, 19]],
    [[0, 20], [0, 20]],
    [[7, 0], [0, 0]],
    [[0, 0], [3, 0]],
    *np.random.default_rng(0).integers(0, 30, (40, 2, 2)).tolist(),
]


@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_equals_scikit_learn(matrix: list[list[int]]) -> None:
    (tn, fp), (fn, tp) = matrix
    truth = [0] * (tn + fp) + [1] * (fn + tp)
    called = [0] * tn + [1] * fp + [0] * fn + [1] * tp
    expected = sklearn_report(truth, called, labels=[0, 1], output_dict=True, zero_division=0)
    report = classification_report(matrix)
    assert tuple(report) == ROWS
    for row, name in (
        ("Negative", "0"),
        ("Positive", "1"),
        ("Macro Avg", "macro avg"),
        ("Weighted Avg", "weighted avg"),
    ):
        theirs = [expected[name][key] for key in ("precision", "recall", "f1-score", "support")]
        assert report[row] == pytest.approx(theirs, abs=1e-12)
    right = sum(a == b for a, b in zip(truth, called, strict=True)) / len(truth)
    assert report["Accuracy"] == pytest.approx((right, right, right, len(truth)))


def test_no_image() -> None:
    with pytest.raises(ValueError, match="matrix must hold at least one image"):
        classification_report([[0, 0], [0, 0]])
