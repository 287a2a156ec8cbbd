"""Figures of a classifier's answers and of its training.

Where a function takes them, ``labels`` have shape (n,), 0 or 1, ``scores`` shape (n,) with the probability of Positive
in [0, 1], and ``title`` is the first line of the title, to which n is added.
"""

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
from cxrlab.figures.canvas import BLUE, CLASSES, GREY, ORANGE, WIDTH, blank, framed, tidy


def confusion_matrix(matrix: Sequence[Sequence[int]] | npt.NDArray[Any], title: str) -> Figure:
    """Draws a confusion matrix, ``[[tn, fp], [fn, tp]]``, with counts and the share of each true class.

    Raises:
        ValueError: If the matrix is not 2x2 or holds a negative count.
    """
    counts = np.asarray(matrix, dtype=float)
    if counts.shape != (2, 2) or (counts < 0).any():
        raise ValueError(f"matrix must be [[tn, fp], [fn, tp]] with counts from 0, got {matrix!r}")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    figure, axes = framed(f"{textwrap.fill(title, 48)}\n(n = {int(counts.sum())})", 4.6, 4.2)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(2, 2):
        share = f"{shares[row, column]:.0%}" if totals[row, 0] else "no images"
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row - 0.06, f"{counts[row, column]:.0f}", ha="center", va="center", fontsize=20, color=colour)
        axes.text(column, row + 0.2, share, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks([0, 1], [f"called\n{name}" for name in CLASSES])
    axes.set_yticks([0, 1], [f"{name}\n(n = {total:.0f})" for name, total in zip(CLASSES, totals[:, 0], strict=True)])
    axes.set_ylabel("true label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def intervals(estimates: Mapping[str, Estimate], title: str) -> Figure:
    """Draws a few metrics of one set of images, by name from top to bottom; one without value is called undefined."""
    figure, axes = framed(f"{title}: 95 % intervals", 4.6, 4.2)
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
    axes.set(ylim=(len(estimates) - 0.4, -0.7), xlim=(-0.02, 1.02))
    tidy(axes, grid="x")
    return figure


def roc(labels: npt.ArrayLike, scores: npt.ArrayLike, estimate: Estimate, title: str) -> Figure:
    """Draws the receiver operating characteristic with its AUROC; says so where only one class is present."""
    figure, axes, both = _unit_square(labels, title)
    if both:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="chance")
        rate, sensitivity, _ = roc_curve(labels, scores, drop_intermediate=False)
        axes.plot(rate, sensitivity, color=BLUE, linewidth=2, label=f"AUROC {estimate}", clip_on=False)
        axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    return figure


def precision_recall(labels: npt.ArrayLike, scores: npt.ArrayLike, estimate: Estimate, title: str) -> Figure:
    """Draws precision (PPV) against recall (sensitivity) with the AP; the line of chance is the prevalence."""
    figure, axes, both = _unit_square(labels, title)
    if both:
        prevalence = float(np.mean(np.asarray(labels)))
        chance = f"chance (prevalence {prevalence:.2f})"
        axes.axhline(prevalence, color=GREY, linestyle=":", linewidth=1.2, label=chance)
        precision, recall, _ = precision_recall_curve(labels, scores)
        start = int(np.flatnonzero(recall == 1)[-1])  # thresholds below the last positive add no recall
        drawn = (recall[start:], precision[start:])
        axes.step(*drawn, where="post", color=BLUE, linewidth=2, label=f"AP {estimate}", clip_on=False)
        axes.legend(loc="lower left", frameon=False, fontsize=9)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (PPV)")
    return figure


def learning_curves(history: pd.DataFrame, *, title: str = "Learning curves", validation: str = "validation") -> Figure:
    """Draws loss and accuracy per epoch, training and validation, or says that none was recorded.

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
    figure, count = blank(8.2, 3.6), history["epoch"].nunique()
    figure.suptitle(f"{title} ({count} epoch{'s' * (count != 1)})", fontsize=11)
    stages = (("train", "training", BLUE, "o-"), ("val", validation, ORANGE, "s--"))
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for stage, label, colour, style in stages:
            column = f"{stage}/{metric}"
            if column in history and history[column].notna().any():
                known = history[["epoch", column]].dropna()
                axes.plot(known["epoch"], known[column], style, color=colour, markersize=3.5, label=label)
        axes.set(xlabel="epoch", ylabel=metric)
        tidy(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if not axes.lines:
            axes.text(0.5, 0.5, "not recorded", ha="center", va="center", color=GREY, transform=axes.transAxes)
            continue
        axes.legend(frameon=False, fontsize=9)
        axes.set_ylim(**({"top": 1.02} if metric == "accuracy" else {"bottom": 0}))
    return figure


def fold_curves(histories: Mapping[str, pd.DataFrame], panels: Mapping[str, str]) -> Figure:
    """Draws the trainings of a cross-validation and the one on all images, which is called ``final``.

    Histories have one row per epoch with ``epoch``, ``train/<name>`` and, of folds, perhaps ``val/<name>``; panels lie
    below each other and say what to write above that of each ``<name>``.
    """
    figure = blank(WIDTH, 1.6 * len(panels))
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
    figure, axes = framed("", WIDTH, 3.2)
    colours = list(itertools.islice(itertools.cycle(mpl.color_sequences["petroff10"]), len(parts)))
    axes.hist([*parts.values()], np.asarray(bins).tolist(), color=colours, label=[*parts], stacked=True)
    for (name, value), style in zip((lines or {}).items(), (":", "--"), strict=False):
        axes.axvline(value, color="black", linewidth=1, linestyle=style, label=name)
    if logarithmic:
        axes.set_yscale("symlog", linthresh=10)
    axes.set(xlabel=words[0], ylabel=words[1])
    tidy(axes, grid=None)
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=3)
    return figure


def score_distribution(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, title: str) -> Figure:
    """Draws how the scores of each class are spread over [0, 1], in bins of 0.05, with the decision threshold."""
    y, s = np.asarray(labels), np.asarray(scores, dtype=float)
    figure, axes = framed(_titled(title, y), 5.2, 3.8)
    for label, colour, hatch in ((0, BLUE, "///"), (1, ORANGE, "...")):
        name = f"{CLASSES[label]} (n = {int((y == label).sum())})"
        bins = np.linspace(0, 1, 21).tolist()
        axes.hist(s[y == label], bins, color=colour, alpha=0.35, hatch=hatch, edgecolor=colour, label=name)
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2, label=f"threshold {threshold:g}")
    axes.set(xlim=(-0.02, 1.02), xlabel="score (probability of Positive)", ylabel="images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    tidy(axes, grid=None)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    return figure


def calibration(labels: npt.ArrayLike, scores: npt.ArrayLike, title: str) -> Figure:
    """Draws the share of positives against the mean score in ten bins of equal width, and how many images each holds.

    Bars are 95 % Wilson intervals with the images taken as independent.

    Raises:
        ValueError: If the arrays are empty, not equally long, or hold anything else.
    """
    bins, figure = reliability(labels, scores), blank(4.8, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.set_title(_titled(title, np.asarray(labels)), fontsize=11, parse_math=False)
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="perfectly calibrated")
    share = np.array([row.share_positive for row in bins])
    reach = np.abs(np.array([(row.wilson_low, row.wilson_high) for row in bins]).T - share)
    brier, ece = brier_score_loss(labels, scores, labels=[0, 1]), expected_calibration_error(labels, scores)
    label, means = f"ten bins, 95 % Wilson (Brier {brier:.3f}, ECE {ece:.3f})", [row.mean_score for row in bins]
    upper.errorbar(means, share, reach, fmt="o", color=BLUE, capsize=3, label=label, clip_on=False)
    upper.set(ylabel="share that is Positive", ylim=(-0.02, 1.02))
    figure.legend(frameon=False, fontsize=9, loc="outside lower center")
    bars = lower.bar([row.low for row in bins], [row.n for row in bins], 0.1, align="edge", color=BLUE, edgecolor="w")
    lower.bar_label(bars, fontsize=8, padding=1)
    lower.margins(y=0.25)
    lower.set(xlim=(-0.02, 1.02), xlabel="score (probability of Positive)", ylabel="images")
    lower.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    tidy(upper)
    tidy(lower)
    return figure


def decision_curve(curve: Mapping[str, Any], threshold: float, title: str) -> Figure:
    """Draws what :func:`cxrlab.evaluation.thresholds.decision_curve` gives, and the model's threshold."""
    figure, axes = framed(f"{title}\n(at these images' {curve['prevalence']:.0%} Positive)", 5.4, 4.2)
    at = curve["thresholds"]
    axes.axhline(0, color="black", linewidth=1.2, label="treat nobody")
    axes.plot(at, curve["treat_all"], color=GREY, linestyle=":", linewidth=1.6, label="treat everybody")
    label = "95 % at each, by patient"
    axes.fill_between(at, curve["low"], curve["high"], color=BLUE, alpha=0.2, linewidth=0, label=label)
    axes.plot(at, curve["model"], color=BLUE, linewidth=2, label="act on the score")
    axes.axvline(threshold, color=ORANGE, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}")
    top = max(curve["prevalence"], *curve["high"])
    axes.set_ylim(-0.15 * top - 0.01, 1.08 * top + 0.01)  # below, it only says that acting does harm
    axes.set(xlim=(0, 1), xlabel="probability from which on one would act", ylabel="net benefit per image")
    tidy(axes)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    return figure


def _titled(title: str, labels: npt.NDArray[Any]) -> str:
    positive = int(labels.sum())
    return f"{textwrap.fill(title, 48)}\n(n = {labels.size}: {positive} Positive, {labels.size - positive} Negative)"


def _unit_square(labels: npt.ArrayLike, title: str) -> tuple[Figure, Axes, bool]:
    """A square frame, and whether both classes occur; where they do not, it says that a curve is undefined."""
    y = np.asarray(labels)
    figure, axes = framed(_titled(title, y), 4.6, 4.4)
    both = np.unique(y).size == 2
    if not both:
        said = "undefined: only one class present"
        axes.text(0.5, 0.5, said, ha="center", va="center", color=GREY, backgroundcolor="w")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    tidy(axes)
    return figure, axes, both
