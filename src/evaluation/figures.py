"""Figures of a run, drawn with matplotlib's object interface: no pyplot, no global state, safe in threads.

Every function returns a :class:`matplotlib.figure.Figure` that nothing else holds on to. Colours are those of M. Okabe
and K. Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from cxrlab.evaluation.calibration import brier, expected_calibration_error, reliability
from cxrlab.files import write_atomically

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#707070"
GREEN, PURPLE = "#009E73", "#CC79A7"
CLASSES = ("Negative", "Positive")
DPI = 120

Layer = tuple[str, str, tuple[int | None, ...], int]
"""A row of :func:`network_diagram`: name, type, output shape with ``None`` for the batch, number of parameters."""

# Pattern in a layer's type, colour, and height of the box in inches; the first kind whose pattern is found counts.
_KINDS = {
    "convolution": (re.compile("conv", re.IGNORECASE), BLUE, 1.25),
    "pooling": (re.compile("pool", re.IGNORECASE), GREEN, 1.1),
    "dropout": (re.compile("drop", re.IGNORECASE), GREY, 0.92),
    "dense": (re.compile("^Dense$|Linear$"), ORANGE, 1.15),  # a _DenseBlock is none
    "other": (re.compile(""), PURPLE, 1.12),
}
_PAGE, _BOX, _GAP, _LINE = 8.4, 1.19, 0.22, 1.25  # inches: page, width of a box, arrow, line of boxes
_PER_LINE = 6  # boxes
_TEXT_LINE = 0.165  # inches from one line of text in a box to the next
_SHOWN = 512  # pixels; larger originals are made smaller before they are drawn, which matplotlib does slowly


def confusion_matrix(matrix: Sequence[Sequence[int]] | npt.NDArray[Any], title: str) -> Figure:
    """Draws a confusion matrix with counts and the share of each true class.

    Args:
        matrix: ``[[tn, fp], [fn, tp]]``, counts of images.
        title: First line of the title; n is added.

    Raises:
        ValueError: If the matrix is not 2x2 or holds a negative count.
    """
    counts = np.asarray(matrix, dtype=float)
    if counts.shape != (2, 2) or (counts < 0).any():
        raise ValueError(f"matrix must be [[tn, fp], [fn, tp]] with counts from 0, got {matrix!r}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    figure, axes = _figure(_titled(title, int(counts.sum())), 4.6, 4.2)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        share = f"{shares[row, column]:.0%}" if totals[row, 0] else "no images"
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row - 0.06, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=20, color=colour)
        axes.text(column, row + 0.2, share, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks([0, 1], [f"called\n{name}" for name in CLASSES])
    names = [f"{name}\n(n = {total:.0f})" for name, total in zip(CLASSES, totals[:, 0], strict=True)]
    axes.set_yticks([0, 1], names)
    axes.set_ylabel("true label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def roc(labels: npt.ArrayLike, scores: npt.ArrayLike, estimate: Mapping[str, Any], title: str) -> Figure:
    """Draws the receiver operating characteristic.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), probability of Positive in [0, 1].
        estimate: ``{"value", "low", "high", "method"}`` of the AUROC, as ``statistics.summarise`` gives it.
        title: First line of the title; n is added.
    """
    y, s = np.asarray(labels), np.asarray(scores)
    figure, axes = _figure(_titled(title, y.size, int(y.sum())), 4.6, 4.4)
    if _both_classes(axes, y):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="chance")
        rate, sensitivity, _ = roc_curve(y, s, drop_intermediate=False)
        axes.plot(rate, sensitivity, color=BLUE, linewidth=2, label=_legend("AUROC", estimate), clip_on=False)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    return _unit_square(figure, axes)


def precision_recall(labels: npt.ArrayLike, scores: npt.ArrayLike, estimate: Mapping[str, Any], title: str) -> Figure:
    """Draws precision (PPV) against recall (sensitivity), with the prevalence as the line of chance.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), probability of Positive in [0, 1].
        estimate: ``{"value", "low", "high", "method"}`` of the AP, as ``statistics.summarise`` gives it.
        title: First line of the title; n is added.
    """
    y, s = np.asarray(labels), np.asarray(scores)
    figure, axes = _figure(_titled(title, y.size, int(y.sum())), 4.6, 4.4)
    if _both_classes(axes, y):
        prevalence = float(y.mean())
        label = f"chance (prevalence {prevalence:.2f})"
        axes.axhline(prevalence, color=GREY, linestyle=":", linewidth=1.2, label=label)
        precision, recall, _ = precision_recall_curve(y, s)
        start = int(np.flatnonzero(recall == 1)[-1])  # thresholds below the last positive add no recall
        precision, recall = precision[start:], recall[start:]
        legend = _legend("AP", estimate)
        axes.step(recall, precision, where="post", color=BLUE, linewidth=2, label=legend, clip_on=False)
        axes.legend(loc="lower left", frameon=False, fontsize=9)
    axes.set_xlabel("recall (sensitivity)")
    axes.set_ylabel("precision (PPV)")
    return _unit_square(figure, axes)


def learning_curves(history: pd.DataFrame, *, title: str = "Learning curves", validation: str = "validation") -> Figure:
    """Draws loss and accuracy per epoch, training and validation.

    Args:
        history: One row per epoch with ``epoch`` and any of ``train/loss``, ``val/loss``, ``train/accuracy``,
            ``val/accuracy``; columns and values may be missing.
        title: Title; the number of epochs is added.
        validation: Name of the validation curve, for runs in which it is no validation set of its own.

    Raises:
        ValueError: If there is no column ``epoch``.
    """
    if "epoch" not in history:
        raise ValueError(f"history must have a column 'epoch', got {', '.join(map(str, history.columns)) or 'none'}")
    figure = Figure(figsize=(8.2, 3.6), dpi=DPI, layout="constrained")
    count = history["epoch"].nunique()
    figure.suptitle(f"{title} ({count} epoch{'s' * (count != 1)})", fontsize=11)
    for position, metric in enumerate(("loss", "accuracy"), start=1):
        axes = figure.add_subplot(1, 2, position)
        _curves(axes, history, metric, validation)
    return figure


def score_distribution(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, title: str) -> Figure:
    """Draws how the scores of each class are spread over [0, 1], in bins of 0.05, with the decision threshold.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), probability of Positive in [0, 1].
        threshold: Score from which an image is called Positive.
        title: First line of the title; n is added.
    """
    y, s = np.asarray(labels), np.asarray(scores, dtype=float)
    figure, axes = _figure(_titled(title, y.size, int(y.sum())), 5.2, 3.8)
    styles = ((0, BLUE, "///"), (1, ORANGE, "..."))
    for label, colour, hatch in styles:
        name = f"{CLASSES[label]} (n = {int((y == label).sum())})"
        bins = np.linspace(0, 1, 21).tolist()
        axes.hist(s[y == label], bins, color=colour, alpha=0.35, hatch=hatch, edgecolor=colour, label=name)
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2, label=f"threshold {threshold:g}")
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("score (probability of Positive)")
    axes.set_ylabel("images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    return figure


def calibration(labels: npt.ArrayLike, scores: npt.ArrayLike, title: str) -> Figure:
    """Draws the share of positives against the mean score in ten bins of equal width, and how many images each holds.

    Bars are 95 % Wilson intervals with the images taken as independent.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), probability of Positive in [0, 1].
        title: First line of the title; n is added.

    Raises:
        ValueError: If the arrays are empty, not equally long, or hold anything else.
    """
    bins = reliability(labels, scores)
    y = np.asarray(labels)
    figure = Figure(figsize=(4.8, 6), dpi=DPI, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.set_title(_titled(title, y.size, int(y.sum())), fontsize=11, parse_math=False)
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="perfectly calibrated")
    share = np.array([row.share_positive for row in bins])
    reach = np.abs(np.array([(row.wilson_low, row.wilson_high) for row in bins]).T - share)
    error = f"Brier {brier(labels, scores):.3f}, ECE {expected_calibration_error(labels, scores):.3f}"
    label = f"ten bins, 95 % Wilson ({error})"
    means = [row.mean_score for row in bins]
    upper.errorbar(means, share, reach, fmt="o", color=BLUE, capsize=3, label=label, clip_on=False)
    upper.set_ylabel("share that is Positive")
    upper.set_ylim(-0.02, 1.02)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center")
    bars = lower.bar([row.low for row in bins], [row.n for row in bins], 0.1, align="edge", color=BLUE, edgecolor="w")
    lower.bar_label(bars, fontsize=8, padding=1)
    lower.margins(y=0.25)
    lower.set_xlim(-0.02, 1.02)
    lower.set_xlabel("score (probability of Positive)")
    lower.set_ylabel("images")
    lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    for axes in (upper, lower):
        axes.grid(color="#e5e5e5", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def network_diagram(rows: Sequence[Layer], title: str) -> Figure:
    """Draws a network as boxes joined by arrows, at most six in a line, each with output shape and parameters.

    Colour and height tell the kind of a layer, by the name of its type. The figure is 1008 pixels wide.

    Args:
        rows: One layer or block after the other, at least one. Shapes are written without the batch; an empty one is a
            layer that gives no tensor.
        title: Title; long ones are wrapped.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("rows must hold at least one layer, got none")
    lines = -(-len(rows) // _PER_LINE)
    columns = -(-len(rows) // lines)
    heading = textwrap.fill(title, 90)
    top = 0.4 + 0.2 * heading.count("\n")
    height = top + lines * (_LINE + 2 * _GAP) - _GAP + 0.3
    figure = Figure(figsize=(_PAGE, height), dpi=DPI)
    figure.suptitle(heading, fontsize=11, y=1 - 0.12 / height, parse_math=False)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _PAGE), ylim=(0, height))  # in inches
    axes.set_axis_off()
    left = (_PAGE - (columns - 1) * (_BOX + _GAP)) / 2
    places = [
        (left + number % columns * (_BOX + _GAP), height - top - _LINE / 2 - number // columns * (_LINE + 2 * _GAP))
        for number in range(len(rows))
    ]
    for place, row in zip(places, rows, strict=True):
        _layer_box(axes, *place, row)
    for start, end, (_, layer_type, _, _) in zip(places, places[1:], rows[1:], strict=False):
        _arrow(axes, start, end, _KINDS[_kind(layer_type)][2])
    used = {_kind(row[1]) for row in rows}
    handles = [
        Patch(facecolor=_tint(colour), edgecolor=colour, label=kind)
        for kind, (_, colour, _) in _KINDS.items()
        if kind in used
    ]
    axes.legend(handles=handles, loc="lower center", ncols=len(handles), frameon=False, fontsize=9, borderaxespad=0.2)
    return figure


def image_grid(images: npt.NDArray[np.uint8], captions: Sequence[str]) -> Figure:
    """Draws images in rows of at most four, each under its caption.

    Args:
        images: Shape (n, height, width, channels), uint8, channels 1 (grey) or 3 (RGB), n at least 1.
        captions: n short texts; long ones are wrapped, and their own line breaks are kept.

    Raises:
        ValueError: If shape, dtype or the number of captions is wrong.
    """
    _check_images("images", images)
    _check_captions(captions, len(images))
    wrapped = [_wrapped(caption) for caption in captions]
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    height = _image_height(images) + _caption_height(wrapped)
    figure = Figure(figsize=(1.9 * columns, height * rows), dpi=DPI, layout="constrained")
    for position, (image, caption) in enumerate(zip(images, wrapped, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, position)
        _show(axes, image, caption)
    return figure


def before_after(
    originals: Sequence[npt.NDArray[np.uint8]], processed: npt.NDArray[np.uint8], captions: Sequence[str], title: str
) -> Figure:
    """Draws images as their files have them and, below each, as the network sees it; at most four side by side.

    Args:
        originals: n images of shape (any height, any width, channels), uint8, drawn with their own aspect ratio.
        processed: Shape (n, height, width, channels), uint8, channels 1 (grey) or 3 (RGB), n at least 1.
        captions: n short texts; the size of the original is added.
        title: Title; long ones are wrapped.

    Raises:
        ValueError: If a shape, a dtype or the number of originals or captions is wrong.
    """
    _check_images("processed", processed)
    _check_captions(captions, len(processed))
    if len(originals) != len(processed):
        raise ValueError(f"originals must be as many as processed, got {len(originals)} for {len(processed)}")
    for original in originals:
        _check_images("originals", original[None])
    wrapped = [
        _wrapped(f"{caption}\n{original.shape[1]} x {original.shape[0]}")
        for caption, original in zip(captions, originals, strict=True)
    ]
    columns = min(4, len(originals))
    lines = [range(start, min(start + columns, len(originals))) for start in range(0, len(originals), columns)]
    heights = []
    for line in lines:
        heights += [_image_height([originals[number] for number in line]) + _caption_height(wrapped)]
        heights += [_image_height(processed) + _caption_height([""])]
    heading = textwrap.fill(title, 22 * columns)
    height = sum(heights) + 0.2 + 0.2 * (heading.count("\n") + 1)
    figure = Figure(figsize=(1.9 * columns + 0.3, height), dpi=DPI, layout="constrained")
    figure.suptitle(heading, fontsize=11, parse_math=False)
    grid = figure.add_gridspec(2 * len(lines), columns, height_ratios=heights)
    size = f"{processed.shape[2]} x {processed.shape[1]}"
    for number, (original, image, caption) in enumerate(zip(originals, processed, wrapped, strict=True)):
        pair, column = divmod(number, columns)
        above, below = (figure.add_subplot(grid[2 * pair + row, column]) for row in (0, 1))
        _show(above, _shrunk(original), caption)
        _show(below, image, size)
        if not column:
            for axes, name in ((above, "in the file"), (below, "what the network sees")):
                axes.text(-0.06, 0.5, name, rotation=90, ha="right", va="center", fontsize=9, transform=axes.transAxes)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG, whole or not at all; the folder is made if need be. Returns the path.

    Raises:
        OSError: If the folder cannot be written.
    """
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None}))
    return path


def _figure(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=11, parse_math=False)
    return figure, axes


def _titled(title: str, n: int, positive: int | None = None) -> str:
    parts = f"n = {n}" if positive is None else f"n = {n}: {positive} Positive, {n - positive} Negative"
    return f"{textwrap.fill(title, 48)}\n({parts})"


def _both_classes(axes: Axes, labels: npt.NDArray[Any]) -> bool:
    """Returns whether both classes occur; writes into the axes that the curve is undefined if not."""
    if np.unique(labels).size == 2:
        return True
    axes.text(0.5, 0.5, "undefined: only one class present", ha="center", va="center", color=GREY, backgroundcolor="w")
    return False


def _legend(name: str, estimate: Mapping[str, Any]) -> str:
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    if value is None:
        return f"{name} undefined"
    interval = "no interval" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"
    return f"{name} {value:.3f} {interval}"


def _unit_square(figure: Figure, axes: Axes) -> Figure:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curves(axes: Axes, history: pd.DataFrame, metric: str, validation: str) -> None:
    """Draws one metric's training and validation curves, or says that none was recorded."""
    drawn = 0
    for stage, colour, marker, style in (("train", BLUE, "o", "-"), ("val", ORANGE, "s", "--")):
        column = f"{stage}/{metric}"
        if column in history and history[column].notna().any():
            known = history[["epoch", column]].dropna()
            label = "training" if stage == "train" else validation
            axes.plot(known["epoch"], known[column], style, color=colour, marker=marker, markersize=3.5, label=label)
            drawn += 1
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not drawn:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color=GREY, transform=axes.transAxes)
        return
    axes.legend(frameon=False, fontsize=9)
    if metric == "accuracy":
        axes.set_ylim(top=1.02)
    else:
        axes.set_ylim(bottom=0)


def _check_images(name: str, images: npt.NDArray[np.uint8]) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        raise ValueError(
            f"{name} must be uint8 of shape (n, height, width, 1 or 3) with n at least 1, "
            f"got {images.dtype} of shape {images.shape}"
        )


def _check_captions(captions: Sequence[str], n: int) -> None:
    if len(captions) != n:
        raise ValueError(f"captions must hold one text per image, got {len(captions)} for {n} images")


def _wrapped(caption: str) -> str:
    return "\n".join(textwrap.fill(line, 26) for line in caption.split("\n"))


def _caption_height(captions: Sequence[str]) -> float:
    """Returns the inches that the longest of wrapped captions takes, with the space around it."""
    return 0.15 + 0.145 * max(caption.count("\n") + 1 for caption in captions)


def _image_height(images: Iterable[npt.NDArray[np.uint8]]) -> float:
    """Returns the inches for a row of images 1.83 wide; very high ones are drawn smaller instead."""
    tallest = max(float(image.shape[0] / image.shape[1]) for image in images)
    return 1.83 * min(1.4, tallest)


def _show(axes: Axes, image: npt.NDArray[np.uint8], caption: str) -> None:
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(caption, fontsize=8, parse_math=False)
    axes.set_anchor("N")  # images of different shape hang from one line, and the layout knows where captions are
    axes.set_axis_off()


def _shrunk(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width, channels = image.shape
    scale = _SHOWN / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8).reshape(*size[::-1], channels)


def _kind(layer_type: str) -> str:
    return next(kind for kind, (pattern, _, _) in _KINDS.items() if pattern.search(layer_type))


def _tint(colour: str) -> tuple[float, float, float]:
    """Returns the colour mixed with white, light enough for black text."""
    red, green, blue = (1 - 0.2 * (1 - int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return red, green, blue


def _layer_box(axes: Axes, x: float, y: float, row: Layer) -> None:
    """Draws one layer around the point (x, y), with its texts one below the other."""
    name, layer_type, shape, params = row
    _, colour, height = _KINDS[_kind(layer_type)]
    corner = x - _BOX / 2, y - height / 2
    style = "round,pad=0,rounding_size=0.06"
    axes.add_patch(FancyBboxPatch(corner, _BOX, height, style, facecolor=_tint(colour), edgecolor=colour))
    size = " x ".join("?" if side is None else str(side) for side in shape[1:]) or "no tensor"
    texts: list[tuple[str, float, str]] = [(line, 9, "bold") for line in _broken(layer_type, 13)]
    texts += [(line, 8, "normal") for line in _broken(name, 16)]
    texts += [(size, 8.5, "normal"), (f"{params:,} params", 8, "normal")]
    for number, (text, font_size, weight) in enumerate(texts):
        at = y + _TEXT_LINE * ((len(texts) - 1) / 2 - number)
        axes.text(x, at, text, ha="center", va="center_baseline", fontsize=font_size, weight=weight, parse_math=False)


def _broken(name: str, letters: int) -> list[str]:
    """Breaks a name between its parts (``_``, ``.``, camel case) into at most two lines of so many letters."""
    lines = [""]
    for part in re.split(r"(?<=[._])|(?<=[a-z0-9])(?=[A-Z])", name):
        if lines[-1] and len(lines[-1] + part) > letters:
            lines.append("")
        lines[-1] += part
    if len(lines) > 2:
        lines = [lines[0], "".join(lines[1:])]
    return [line if len(line) <= letters else f"{line[: letters - 1]}…" for line in lines]


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], height: float) -> None:
    """Draws the arrow from the box around ``start`` to the one of the given height around ``end``."""
    style = {"arrowstyle": "-|>", "color": "black", "shrinkA": 0, "shrinkB": 0, "linewidth": 1}
    (x, y), (next_x, next_y) = start, end
    if y == next_y:
        axes.annotate("", (next_x - _BOX / 2, y), (x + _BOX / 2, y), arrowprops=style)
        return
    turn = next_y + _LINE / 2 + _GAP
    axes.plot([x, x, next_x], [y, turn, turn], color="black", linewidth=1, zorder=0)
    axes.annotate("", (next_x, next_y + height / 2), (next_x, turn), arrowprops=style)
