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
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from PIL import Image

from cxrlab.evaluation import figures

ESTIMATE = {"value": 0.91, "low": 0.8, "high": 0.97, "method": "patient bootstrap"}
LABELS = np.repeat([0, 1], [12, 8])
SCORES = np.clip(0.3 + 0.4 * LABELS + np.random.default_rng(0).normal(0, 0.2, 20), 0, 1)


PAPER: list[figures.Layer] = [
    ("conv2d", "Conv2D", (None, 222, 222, 32), 896),
    ("conv2d_1", "Conv2D", (None, 220, 220, 64), 18_496),
    ("max_pooling2d", "MaxPooling2D", (None, 110, 110, 64), 0),
    ("dropout", "Dropout", (None, 110, 110, 64), 0),
    ("conv2d_2", "Conv2D", (None, 108, 108, 128), 73_856),
    ("max_pooling2d_1", "MaxPooling2D", (None, 54, 54, 128), 0),
    ("dropout_1", "Dropout", (None, 54, 54, 128), 0),
    ("flatten", "Flatten", (None, 373_248), 0),
    ("dense", "Dense", (None, 64), 23_887_936),
    ("dropout_2", "Dropout", (None, 64), 0),
    ("dense_1", "Dense", (None, 1), 65),
]
LONG_NAMES: list[figures.Layer] = [
    ("batch_normalization_2", "BatchNormalization", (None, 1022, 1022, 256), 512),
    ("global_average_pooling2d", "GlobalAveragePooling2D", (None, 2048), 0),
    ("heads", "NonDynamicallyQuantizableLinear", (), 123_456_789),
    ("encoder.layers.encoder_layer_11.self_attention", "MultiheadAttention", (None, 197, 768), 2_362_368),
]


def texts(axes: Axes) -> str:
    legend = axes.get_legend() or next(iter(axes.figure.legends), None)
    parts = [axes.get_title(), *(item.get_text() for item in axes.texts)]
    return "\n".join(parts + ([item.get_text() for item in legend.get_texts()] if legend else []))


def drawn_texts(figure: Figure) -> dict[Text, Bbox]:
    """Every text that is not empty, ticks left out, with its place in pixels once all is laid out."""
    figure.draw_without_rendering()
    found = [item for item in figure.findobj(Text) if item.get_text() and not isinstance(item, Annotation)]
    ticks = {id(item) for axes in figure.axes for item in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    hidden = {id(item) for axes in figure.axes if not axes.axison for item in (axes.xaxis.label, axes.yaxis.label)}
    return {item: item.get_window_extent() for item in found if id(item) not in ticks | hidden}


def check_texts(figure: Figure) -> None:
    """Nothing is cut off at the edge, and no text lies on another."""
    places = drawn_texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    for item, place in places.items():
        assert place.x0 >= 0, item
        assert place.y0 >= 0, item
        assert place.x1 <= width, item
        assert place.y1 <= height, item
    items = list(places)
    for number, item in enumerate(items):
        for other in items[:number]:
            overlap = Bbox.intersection(places[item], places[other])
            assert overlap is None or min(overlap.width, overlap.height) < 2, (item, other)


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
    figure.draw_without_rendering()
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


def test_network_diagram_of_the_papers_network() -> None:
    figure = figures.network_diagram(PAPER, "Paper's network")
    (axes,) = figure.axes
    written = [item.get_text() for item in axes.texts if item.get_text()]
    assert written[:4] == ["Conv2D", "conv2d", "222 x 222 x 32", "896 params"]
    assert written[4:8] == ["Conv2D", "conv2d_1", "220 x 220 x 64", "18,496 params"]
    assert written.count("23,887,936 params") == 1
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert len(boxes) == 11
    colours = [to_hex(box.get_edgecolor()).upper() for box in boxes]
    assert colours[:4] == [figures.BLUE, figures.BLUE, figures.GREEN, figures.GREY]
    assert colours[7:9] == [figures.PURPLE, figures.ORANGE]
    assert texts(axes).endswith("convolution\npooling\ndropout\ndense\nother")
    assert figure.get_suptitle() == "Paper's network"
    assert figure.get_size_inches()[0] * figure.dpi == pytest.approx(1008)


@pytest.mark.parametrize(
    ("rows", "lines"),
    [(PAPER, [6, 5]), (PAPER[:1], [1]), (PAPER[:7], [4, 3]), ((PAPER + LONG_NAMES) * 2, [6] * 5)],
)
def test_network_diagram_is_laid_out(rows: list[figures.Layer], lines: list[int]) -> None:
    """Lines of at most six; every text inside its own box; an arrow from each box that ends at the next one's edge."""
    figure = figures.network_diagram(rows, "A network")
    check_texts(figure)
    (axes,) = figure.axes
    boxes = [patch.get_bbox() for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    heights = sorted({round(box.y0 + box.height / 2, 6) for box in boxes}, reverse=True)
    assert [sum(abs(box.y0 + box.height / 2 - y) < 1e-3 for box in boxes) for y in heights] == lines
    pixels = [box.transformed(axes.transData) for box in boxes]
    for item, place in drawn_texts(figure).items():
        if item in axes.texts:
            assert sum(box.x0 <= place.x0 and place.x1 <= box.x1 and box.y0 <= place.y0 and place.y1 <= box.y1
                       for box in pixels) == 1, item  # fmt: skip
    arrows = [item for item in axes.texts if isinstance(item, Annotation)]
    assert len(arrows) == len(rows) - 1
    for arrow, box in zip(arrows, boxes[1:], strict=True):
        assert isinstance(arrow.arrow_patch, FancyArrowPatch)
        x, y = arrow.xy
        on_the_left = x == pytest.approx(box.x0) and y == pytest.approx(box.y0 + box.height / 2)
        on_top = x == pytest.approx(box.x0 + box.width / 2) and y == pytest.approx(box.y1)
        assert on_the_left or on_top


def test_network_diagram_of_odd_rows() -> None:
    rows: list[figures.Layer] = [
        ("a", "_DenseBlock", (), 0),
        ("b", "Conv2dNormActivation", (None, None, 7), 5),
        ("c", "Linear", (None, 3), 1),
    ]
    (axes,) = figures.network_diagram(rows, "$5").axes
    written = [item.get_text() for item in axes.texts]
    assert "no tensor" in written
    assert "? x 7" in written
    assert texts(axes).endswith("convolution\ndense\nother")
    with pytest.raises(ValueError, match="rows must hold at least one layer"):
        figures.network_diagram([], "nothing")


def test_before_and_after() -> None:
    sizes = [(300, 400), (2000, 900), (30, 40), (50, 50), (64, 96)]
    originals = [np.full((*size, 3), 40 * number, np.uint8) for number, size in enumerate(sizes)]
    processed = np.full((5, 24, 24, 1), 77, np.uint8)
    captions = [f"image {number}" for number in range(5)]
    figure = figures.before_after(originals, processed, captions, "What is done to images")
    assert len(figure.axes) == 10
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert [0 if array is None else int(array.flat[0]) for array in shown] == [0, 77, 40, 77, 80, 77, 120, 77, 160, 77]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ["image 0\n400 x 300", "24 x 24", "image 1\n900 x 2000", "24 x 24"]
    check_texts(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for box, (height, width) in zip(boxes[::2], sizes, strict=True):
        assert box.height / box.width == pytest.approx(height / width, abs=0.02)
    for above, below in zip(boxes[::2], boxes[1::2], strict=True):
        assert above.y0 > below.y1
    assert len({round(box.y1) for box in boxes[:8:2]}) == 1
    named = [axes for axes in figure.axes if axes.texts]
    assert [axes.texts[0].get_text() for axes in named] == ["in the file", "what the network sees"] * 2


def test_large_originals_are_made_smaller_before_they_are_drawn() -> None:
    figure = figures.before_after([np.zeros((1500, 2000, 1), np.uint8)], np.zeros((1, 8, 8, 3), np.uint8), ["a"], "b")
    array = figure.axes[0].images[0].get_array()
    assert array is not None
    assert array.shape == (384, 512)
    assert figure.axes[0].get_title() == "a\n2000 x 1500"


def test_before_and_after_refuses() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="originals must be as many as processed, got 2 for 1"):
        figures.before_after([image, image], image[None], ["a"], "b")
    with pytest.raises(ValueError, match="originals must be uint8"):
        figures.before_after([image[0]], image[None], ["a"], "b")
    with pytest.raises(ValueError, match="processed must be uint8"):
        figures.before_after([image], image, ["a"], "b")
    with pytest.raises(ValueError, match="captions must hold one text per image, got 0 for 1"):
        figures.before_after([image], image[None], [], "b")


def test_image_grid_keeps_line_breaks_and_wraps_within_them() -> None:
    images = np.zeros((5, 8, 8, 1), dtype=np.uint8)
    captions = ["score 0.734\nNo Finding\nkermany-NORMAL2-IM-0120", "a", "true finding: Streptococcus\nb\nc", "d", "e"]
    figure = figures.image_grid(images, captions)
    assert figure.axes[0].get_title() == captions[0]
    assert figure.axes[2].get_title() == "true finding:\nStreptococcus\nb\nc"
    check_texts(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for item, place in drawn_texts(figure).items():
        for box in boxes:
            overlap = Bbox.intersection(place, box)
            assert overlap is None or min(overlap.width, overlap.height) < 1, item


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (4, 3), (6, 1)])
def test_image_grid(count: int, channels: int) -> None:
    images = np.zeros((count, 8, 10, channels), dtype=np.uint8)
    figure = figures.image_grid(images, [f"image_{i} $5" for i in range(count)])
    assert len(figure.axes) == count
    assert figure.axes[0].get_title() == "image_0 $5"
    figure.draw_without_rendering()


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
