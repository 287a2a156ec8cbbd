"""Figures of answers and of trainings hold what they should."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Rectangle
from tests.figures.drawn import ESTIMATE, LABELS, SCORES, check_texts, texts

from cxrlab import figures
from cxrlab.evaluation.estimate import Estimate


def history(epochs: int) -> pd.DataFrame:
    columns = ("train/loss", "val/loss", "train/accuracy", "val/accuracy")
    return pd.DataFrame({"epoch": range(1, epochs + 1)} | {name: np.linspace(0.7, 0.3, epochs) for name in columns})


def test_confusion_matrix() -> None:
    (axes,) = figures.confusion_matrix([[19, 1], [0, 20]], "Test").axes
    assert axes.get_title() == "Test\n(n = 40)"
    assert [item.get_text() for item in axes.texts] == ["19", "95%", "1", "5%", "0", "0%", "20", "100%"]
    (without_negatives,) = figures.confusion_matrix([[0, 0], [1, 3]], "Test").axes
    assert "no images" in texts(without_negatives)
    for wrong in ([[1, 2, 3]], [[1, -1], [0, 0]]):
        with pytest.raises(ValueError, match="matrix must be"):
            figures.confusion_matrix(wrong, "Test")


def test_roc_and_precision_recall() -> None:
    (axes,) = figures.roc(LABELS, SCORES, ESTIMATE, "Test").axes
    assert "n = 20: 8 Positive, 12 Negative" in axes.get_title()
    assert "AUROC 0.910 [0.800, 0.970]" in texts(axes)
    assert (np.diff(axes.lines[-1].get_xydata(), axis=0) >= 0).all()
    (axes,) = figures.precision_recall(LABELS, SCORES, ESTIMATE, "Test").axes
    assert "AP 0.910" in texts(axes)
    assert "prevalence 0.40" in texts(axes)
    for draw in (figures.roc, figures.precision_recall):
        (axes,) = draw(np.ones(5, dtype=int), np.linspace(0, 1, 5), Estimate.undefined("no negatives"), "Test").axes
        assert "undefined" in texts(axes)


def test_intervals_are_drawn_and_told() -> None:
    found = {"AUROC": ESTIMATE, "PPV": Estimate.undefined("nothing called"), "AP": Estimate.bare(0.3, "no interval")}
    figure = figures.intervals(found, "Test")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["AUROC", "PPV", "AP"]
    assert "0.910 [0.800, 0.970]" in texts(axes)
    assert "undefined" in texts(axes)
    drawn = [np.ravel(line.get_xdata()).tolist() for line in axes.lines]
    assert drawn == [[0.8, 0.97], [0.91], [0.3], [0.5, 0.5]]
    check_texts(figure)


def test_learning_curves() -> None:
    figure = figures.learning_curves(history(20), title="SYNTHETIC", validation="test images")
    assert figure.get_suptitle() == "SYNTHETIC (20 epochs)"
    loss, accuracy = figure.axes
    assert "test images" in texts(loss)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    assert len(loss.lines) == len(accuracy.lines) == 2
    figure.draw_without_rendering()
    assert all(float(tick).is_integer() for tick in loss.get_xticks())
    table = history(3).drop(columns=["train/accuracy", "val/accuracy"])
    table["val/loss"] = [np.nan, 0.4, np.nan]
    loss, accuracy = figures.learning_curves(table).axes
    assert [np.size(line.get_xdata()) for line in loss.lines] == [3, 1]
    assert "not recorded" in texts(accuracy)
    with pytest.raises(ValueError, match="column 'epoch'"):
        figures.learning_curves(table.drop(columns="epoch"))


def test_score_distribution_counts_every_image() -> None:
    (axes,) = figures.score_distribution(LABELS, SCORES, 0.5, "Test").axes
    assert sum(patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)) == 20
    assert "threshold 0.5" in texts(axes)


def test_calibration_draws_a_point_per_bin_and_counts_every_image() -> None:
    labels, scores = [0, 0, 1, 1, 0, 1], [0.02, 0.08, 0.55, 0.95, 0.97, 1.0]
    figure = figures.calibration(labels, scores, "Test")
    upper, lower = figure.axes
    assert "n = 6: 3 Positive, 3 Negative" in upper.get_title()
    (points,) = [item for item in upper.containers if isinstance(item, ErrorbarContainer)]
    line, _, (bars,) = points.lines
    assert np.asarray(line.get_xydata()) == pytest.approx(np.array([[0.05, 0], [0.55, 1], [2.92 / 3, 2 / 3]]))
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    assert ends == pytest.approx(np.array([[0, 0.658], [0.207, 1], [0.208, 0.939]]), abs=1e-3)
    assert np.asarray(upper.lines[0].get_xydata()).tolist() == [[0, 0], [1, 1]]
    assert [patch.get_height() for patch in lower.patches if isinstance(patch, Rectangle)] == [2, 1, 3]
    assert [item.get_text() for item in lower.texts] == ["2", "1", "3"]
    assert "95 % Wilson (Brier 0.192, ECE 0.245)" in texts(upper)
    check_texts(figure)
    with pytest.raises(ValueError, match="scores must be finite"):
        figures.calibration([0, 1], [0.1, 1.1], "Test")


def test_fold_curves_draw_every_training_and_name_each_kind_once() -> None:
    table = pd.DataFrame({"epoch": [1, 2], "train/loss": [0.7, 0.5], "val/loss": [0.8, 0.6], "train/dice": [0.1, 0.4]})
    histories = {"fold_1": table, "fold_2": table + 0.1, "final": table.drop(columns="val/loss")}
    loss, dice = figures.fold_curves(histories, {"loss": "loss (made up)", "dice": "Dice"}).axes
    assert len(loss.lines) == 2 * 2 + 1
    assert len(dice.lines) == 3
    assert texts(loss).endswith("folds\nheld out\nall images")
    assert loss.get_title() == "loss (made up)"


def test_a_stacked_histogram_counts_every_value_and_marks_lines() -> None:
    parts, lines = {"film": [0.9, 0.95, 0.2], "drawing": [0.1, 0.15]}, {"refused below": 0.3, "accepted from": 0.8}
    figure = figures.stacked_histogram(parts, [0, 0.5, 1], ("probability", "pictures"), lines)
    (axes,) = figure.axes
    assert sum(patch.get_height() for patch in axes.patches if isinstance(patch, Rectangle)) == 5
    assert {str(line.get_label()) for line in axes.lines} == {*lines}
    assert {"film", "drawing"} <= {text.get_text() for text in figure.legends[0].get_texts()}
