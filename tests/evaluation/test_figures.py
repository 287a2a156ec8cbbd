"""Figures hold what they should, are saved as real PNG files, and leave matplotlib's global state alone."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from cxrlab.evaluation import figures

ESTIMATE = {"value": 0.91, "low": 0.8, "high": 0.97, "method": "patient bootstrap"}
LABELS = np.repeat([0, 1], [12, 8])
SCORES = np.clip(0.3 + 0.4 * LABELS + np.random.default_rng(0).normal(0, 0.2, 20), 0, 1)


def texts(axes: Axes) -> str:
    legend = axes.get_legend() or next(iter(axes.figure.legends), None)
    parts = [axes.get_title(), *(item.get_text() for item in axes.texts)]
    return "\n".join(parts + ([item.get_text() for item in legend.get_texts()] if legend else []))


def history(epochs: int) -> pd.DataFrame:
    columns = ("train/loss", "val/loss", "train/accuracy", "val/accuracy")
    return pd.DataFrame({"epoch": range(1, epochs + 1)} | {name: np.linspace(0.7, 0.3, epochs) for name in columns})


def test_confusion_matrix() -> None:
    (axes,) = figures.confusion_matrix([[19, 1], [0, 20]], "Test").axes
    assert axes.get_title() == "Test\n(n = 40)"
    assert [item.get_text() for item in axes.texts] == ["19", "95%", "1", "5%", "0", "0%", "20", "100%"]


def test_confusion_matrix_without_one_class() -> None:
    (axes,) = figures.confusion_matrix([[0, 0], [1, 3]], "Test").axes
    assert "no images" in texts(axes)
    for wrong in ([[1, 2, 3]], [[1, -1], [0, 0]]):
        with pytest.raises(ValueError, match="matrix must be"):
            figures.confusion_matrix(wrong, "Test")


def test_roc_and_precision_recall() -> None:
    (axes,) = figures.roc(LABELS, SCORES, ESTIMATE, "Test").axes
    assert "n = 20: 8 Positive, 12 Negative" in axes.get_title()
    assert "AUROC 0.910 [0.800, 0.970]" in texts(axes)
    x, y = axes.lines[-1].get_xdata(), axes.lines[-1].get_ydata()
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    (axes,) = figures.precision_recall(LABELS, SCORES, ESTIMATE, "Test").axes
    assert "AP 0.910" in texts(axes)
    assert "prevalence 0.40" in texts(axes)


def test_curves_of_one_class_say_that_they_are_undefined() -> None:
    nothing = {"value": None, "low": None, "high": None, "method": "undefined: no negative images"}
    for draw in (figures.roc, figures.precision_recall):
        (axes,) = draw(np.ones(5, dtype=int), np.linspace(0, 1, 5), nothing, "Test").axes
        assert "undefined" in texts(axes)


def test_learning_curves() -> None:
    figure = figures.learning_curves(history(20), title="SYNTHETIC", validation="test images")
    assert figure.get_suptitle() == "SYNTHETIC (20 epochs)"
    loss, accuracy = figure.axes
    assert "test images" in texts(loss)
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy")
    assert len(loss.lines) == len(accuracy.lines) == 2
    figure.canvas.draw()
    assert all(float(tick).is_integer() for tick in loss.get_xticks())


def test_learning_curves_with_gaps() -> None:
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


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (4, 3), (6, 1)])
def test_image_grid(count: int, channels: int) -> None:
    images = np.zeros((count, 8, 10, channels), dtype=np.uint8)
    figure = figures.image_grid(images, [f"image_{i} $5" for i in range(count)])
    assert len(figure.axes) == count
    assert figure.axes[0].get_title() == "image_0 $5"
    figure.canvas.draw()


def test_image_grid_refuses() -> None:
    for wrong in (np.zeros((1, 4, 4, 2), np.uint8), np.zeros((4, 4, 1), np.uint8), np.zeros((1, 4, 4, 1))):
        with pytest.raises(ValueError, match="images must be uint8 of shape"):
            figures.image_grid(wrong, ["a"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 2 for 1 images"):
        figures.image_grid(np.zeros((1, 4, 4, 1), np.uint8), ["a", "b"])


def test_save_writes_whole_png_files(tmp_path: Path) -> None:
    path = figures.save(figures.roc(LABELS, SCORES, ESTIMATE, "Test"), tmp_path / "deep" / "roc.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 400 < image.width < 900
    first = path.read_bytes()
    assert figures.save(figures.roc(LABELS, SCORES, ESTIMATE, "Test"), path).read_bytes() == first
    assert [item.name for item in path.parent.iterdir()] == ["roc.png"]


def test_threads_draw_what_one_thread_draws(tmp_path: Path) -> None:
    def draw(number: int) -> bytes:
        figure: Figure = figures.confusion_matrix([[number, 1], [2, 3]], f"Test {number}")
        return figures.save(figure, tmp_path / f"{number}.png").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(6)))
    assert together == [draw(number) for number in range(6)]


def test_neither_pyplot_nor_torch_is_imported() -> None:
    code = (
        "import sys, cxrlab.evaluation; print({'matplotlib.pyplot', 'torch', 'lightning', 'hydra'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
