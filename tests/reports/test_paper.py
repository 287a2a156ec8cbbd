"""The paper's own numbers against each other, and its labels against the findings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import fisher_exact
from sklearn.metrics import classification_report as sklearn_report

from cxrlab.reports import paper
from cxrlab.reports.paper import (
    FIG_9,
    PRINTED,
    TABLE_I,
    candidate,
    matrices_of_table_one,
    table_one_against_fig_nine,
    true_labels,
)


def test_only_two_matrices_give_table_one() -> None:
    assert PRINTED == 13
    assert matrices_of_table_one() == [((20, 1), (0, 19)), ((21, 1), (0, 18))]
    assert matrices_of_table_one(38) == []  # a fifth of all 188 images


def test_the_text_on_fig_nine_contradicts_five_numbers() -> None:
    found = candidate(FIG_9)
    assert found.matches == 8
    assert found.contradicted[0] == "Negative F1 0.97 (printed: 0.98)"
    assert len(found.contradicted) == 5


def test_scikit_learn_prints_table_one_for_21_and_19() -> None:
    """The same claim without our own formulas and formats."""
    truth, called = [0] * 21 + [1] * 19, [0] * 20 + [1] * 20
    lines = [line.split() for line in sklearn_report(truth, called, target_names=["Negative", "Positive"]).splitlines()]
    printed = {line[0]: line[-4:-1] for line in lines if line}
    for row, name in (
        ("Negative", "Negative"),
        ("Positive", "Positive"),
        ("Macro Avg", "macro"),
        ("Weighted Avg", "weighted"),
    ):
        assert tuple(printed[name]) == TABLE_I[row]
    assert printed["accuracy"][-1] == TABLE_I["Accuracy"][2]


def test_the_section_shows_both() -> None:
    rows = table_one_against_fig_nine()["rows"]
    assert ("Fig. 9's four values, rearranged", "20, 1, 0, 19", "21/19", "13 of 13") in rows
    assert ("text on Fig. 9", "19, 1, 0, 20", "20/20", "8 of 13") in rows


def test_true_labels() -> None:
    rows = pd.DataFrame({"finding": ["COVID-19", "COVID-19, ARDS", "SARS", "", "No Finding"]})
    np.testing.assert_array_equal(true_labels(rows), [1, 1, 0, 0, 0])


def test_runs_that_do_not_differ_from_the_paper() -> None:
    assert fisher_exact([[32, 8], [39, 1]]).pvalue < 0.05 < fisher_exact([[33, 7], [39, 1]]).pvalue
    assert paper._fewest_alike() == 33
