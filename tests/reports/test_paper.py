"""The paper's own numbers against each other, and its labels against the findings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact
from sklearn.metrics import classification_report

from cxrlab.reports.paper import (
    FIG_9,
    PRINTED,
    TABLE_I,
    contradicted,
    fewest_alike,
    matrices_of_table_one,
    true_labels,
)


def test_only_two_matrices_give_table_one() -> None:
    assert PRINTED == 13
    assert matrices_of_table_one() == [((20, 1), (0, 19)), ((21, 1), (0, 18))]
    assert matrices_of_table_one(38) == []  # a fifth of all 188 images


def test_the_text_on_fig_nine_contradicts_five_numbers() -> None:
    assert contradicted(FIG_9)[0] == "Negative F1 0.97 (printed: 0.98)"
    assert len(contradicted(FIG_9)) == 5


def test_scikit_learn_prints_table_one_for_21_and_19() -> None:
    """The same claim without our own formulas and formats."""
    truth, called = [0] * 21 + [1] * 19, [0] * 20 + [1] * 20
    report = classification_report(truth, called, target_names=["Negative", "Positive"])
    printed = {line.split()[0]: line.split()[-4:-1] for line in report.splitlines() if line}
    for row, name in zip(TABLE_I, ("Negative", "Positive", "accuracy", "macro", "weighted"), strict=True):
        assert printed[name][-1] == TABLE_I[row][2]
        assert row == "Accuracy" or tuple(printed[name]) == TABLE_I[row]


def test_true_labels() -> None:
    rows = pd.DataFrame({"finding": ["COVID-19", "COVID-19, ARDS", "SARS", "", "No Finding"]})
    np.testing.assert_array_equal(true_labels(rows), [1, 1, 0, 0, 0])


def test_runs_that_do_not_differ_from_the_paper() -> None:
    assert fisher_exact([[32, 8], [39, 1]]).pvalue < 0.05 < fisher_exact([[33, 7], [39, 1]]).pvalue
    assert fewest_alike() == 33
