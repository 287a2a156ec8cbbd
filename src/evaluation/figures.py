"""Figures of a run, drawn with matplotlib's object interface: no pyplot, no global state, safe in threads.

Every function returns a :class:`matplotlib.figure.Figure` that nothing else holds on to. Colours are those of M. Okabe
and K. Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from cxrlab.files import write_atomically

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#707070"
CLASSES = ("Negative", "Positive")
DPI = 120


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


def image_grid(images: npt.NDArray[np.uint8], captions: Sequence[str]) -> Figure:
    """Draws images in rows of at most four, each under its caption.

    Args:
        images: Shape (n, height, width, channels), uint8, channels 1 (grey) or 3 (RGB), n at least 1.
        captions: n short texts; long ones are wrapped.

    Raises:
        ValueError: If shape, dtype or the number of captions is wrong.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ValueError(
            "images must be uint8 of shape (n, height, width, 1 or 3) with n at least 1, "
            f"got {images.dtype} of shape {images.shape}"
        )
    if len(captions) != len(images):
        raise ValueError(f"captions must hold one text per image, got {len(captions)} for {len(images)} images")
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.25 * rows), dpi=DPI, layout="constrained")
    for position, (image, caption) in enumerate(zip(images, captions, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, position)
        axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(textwrap.fill(caption, 26), fontsize=8, parse_math=False)
        axes.set_axis_off()
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
