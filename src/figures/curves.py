"""Figures of a classifier's answers and of its training."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import brier_score_loss, precision_recall_curve, roc_curve

from cxrlab.evaluation.calibration import expected_calibration_error, reliability
from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures.canvas import BLUE, CLASSES, DPI, GREY, ORANGE, WIDTH, tidy


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


def intervals(estimates: Mapping[str, Estimate], title: str) -> Figure:
    """Draws a few metrics of one set of images below each other, as wide as the other figures of a classifier.

    Args:
        estimates: By name, from top to bottom; one without value is said to be undefined.
        title: Of the figure.
    """
    figure, axes = _figure(f"{title}: 95 % intervals", 4.6, 4.2)
    for place, estimate in enumerate(estimates.values()):
        if estimate.value is None:
            axes.text(0.5, place, "undefined", ha="center", va="center", color=GREY)
            continue
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [place, place], color=BLUE, linewidth=3, solid_capstyle="butt")
        axes.plot([estimate.value], [place], "s", color=BLUE, markersize=8)
        axes.text(0.0, place - 0.22, str(estimate), va="bottom", fontsize=9)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2, zorder=1)  # guessing, where classes are equally large
    axes.set_yticks(range(len(estimates)), [*estimates])
    axes.set_ylim(len(estimates) - 0.4, -0.7)
    axes.set_xlim(-0.02, 1.02)
    tidy(axes, grid="x")
    return figure


def roc(labels: npt.ArrayLike, scores: npt.ArrayLike, estimate: Estimate, title: str) -> Figure:
    """Draws the receiver operating characteristic.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), probability of Positive in [0, 1].
        estimate: Of the AUROC.
        title: First line of the title; n is added.
    """
    y, s = np.asarray(labels), np.asarray(scores)
    figure, axes = _figure(_titled(title, y.size, int(y.sum())), 4.6, 4.4)
    if _both_classes(axes, y):
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="chance")
        rate, sensitivity, _ = roc_curve(y, s, drop_intermediate=False)
        axes.plot(rate, sensitivity, color=BLUE, linewidth=2, label=f"AUROC {estimate}", clip_on=False)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    return _unit_square(figure, axes)


def precision_recall(labels: npt.ArrayLike, scores: npt.ArrayLike, estimate: Estimate, title: str) -> Figure:
    """Draws precision (PPV) against recall (sensitivity), with the prevalence as the line of chance.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), probability of Positive in [0, 1].
        estimate: Of the AP.
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
        legend = f"AP {estimate}"
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


def fold_curves(histories: Mapping[str, pd.DataFrame], panels: Mapping[str, str]) -> Figure:
    """Draws the trainings of a cross-validation and the one on all images, one panel below the other.

    Args:
        histories: One row per epoch with ``epoch``, ``train/<name>`` and, of folds, perhaps ``val/<name>``; by the name
            of the training, ``final`` being the one on all images.
        panels: What to write above the panel of each ``<name>``.
    """
    figure = Figure(figsize=(WIDTH, 1.6 * len(panels)), dpi=DPI, layout="constrained")
    for position, (name, words) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(len(panels), 1, position)
        for training, history in histories.items():
            colour, label = ("black", "all images") if training == "final" else (BLUE, "folds")
            axes.plot(history["epoch"], history[f"train/{name}"], color=colour, linewidth=1, label=label)
            if f"val/{name}" in history:
                axes.plot(history["epoch"], history[f"val/{name}"], color=ORANGE, linewidth=1, label="held out")
        axes.set_xlabel("epoch" if position == len(panels) else "")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_title(words, fontsize=9, parse_math=False)
        lines, labels = axes.get_legend_handles_labels()
        once = dict(zip(labels, lines, strict=True))
        axes.legend(once.values(), once.keys(), frameon=False, fontsize=9)
        tidy(axes)
    return figure


def stacked_histogram(
    parts: Mapping[str, npt.ArrayLike],
    bins: npt.ArrayLike,
    words: tuple[str, str],
    lines: Mapping[str, float] | None = None,
    *,
    logarithmic: bool = False,
) -> Figure:
    """Draws how values are spread, the parts on top of each other.

    Args:
        parts: Values by the name of each part.
        bins: Edges, rising.
        words: What is written on the axes.
        lines: Values to be marked, by what they are.
        logarithmic: Whether large counts are squeezed, from 10 on.
    """
    figure, axes = _figure("", WIDTH, 3.2)
    colours = list(itertools.islice(itertools.cycle(mpl.color_sequences["petroff10"]), len(parts)))
    axes.hist([*parts.values()], np.asarray(bins).tolist(), color=colours, label=[*parts], stacked=True)
    for (name, value), style in zip((lines or {}).items(), (":", "--"), strict=False):
        axes.axvline(value, color="black", linewidth=1, linestyle=style, label=name)
    if logarithmic:
        axes.set_yscale("symlog", linthresh=10)
    axes.set_xlabel(words[0])
    axes.set_ylabel(words[1])
    tidy(axes, grid=None)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
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
    tidy(axes, grid=None)
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
    brier, ece = brier_score_loss(labels, scores, labels=[0, 1]), expected_calibration_error(labels, scores)
    label = f"ten bins, 95 % Wilson (Brier {brier:.3f}, ECE {ece:.3f})"
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
        tidy(axes)
    return figure


def decision_curve(curve: Mapping[str, Any], threshold: float, title: str) -> Figure:
    """Draws a decision curve.

    Args:
        curve: As :func:`cxrlab.evaluation.decision_curve.decision_curve` gives it.
        threshold: The one at which the model calls images Positive.
        title: First line of the title; the prevalence is added.
    """
    drawn = Figure(figsize=(5.4, 4.2), dpi=DPI, layout="constrained")
    axes = drawn.add_subplot()
    axes.set_title(f"{title}\n(at these images' {curve['prevalence']:.0%} Positive)", fontsize=11, parse_math=False)
    at = curve["thresholds"]
    axes.axhline(0, color="black", linewidth=1.2, label="treat nobody")
    axes.plot(at, curve["treat_all"], color=GREY, linestyle=":", linewidth=1.6, label="treat everybody")
    axes.fill_between(
        at, curve["low"], curve["high"], color=BLUE, alpha=0.2, linewidth=0, label="95 % at each, by patient"
    )
    axes.plot(at, curve["model"], color=BLUE, linewidth=2, label="act on the score")
    axes.axvline(threshold, color=ORANGE, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}")
    top = max(curve["prevalence"], *curve["high"])
    axes.set_ylim(-0.15 * top - 0.01, 1.08 * top + 0.01)  # below, it only says that acting does harm
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability from which on one would act")
    axes.set_ylabel("net benefit per image")
    tidy(axes)
    drawn.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    return drawn


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


def _unit_square(figure: Figure, axes: Axes) -> Figure:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    tidy(axes)
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
    tidy(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if not drawn:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color=GREY, transform=axes.transAxes)
        return
    axes.legend(frameon=False, fontsize=9)
    if metric == "accuracy":
        axes.set_ylim(top=1.02)
    else:
        axes.set_ylim(bottom=0)
