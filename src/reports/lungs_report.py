"""The page of a training that finds lungs: how well, on whom, and what it looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from cxrlab.console import DISCLAIMER
from cxrlab.evaluation.estimate import mean
from cxrlab.figures import contact_sheet, save
from cxrlab.reports.markdown import flow_table, markdown_table
from cxrlab.reports.page import write_pages
from cxrlab.untrusted import read_table

TRUE, PREDICTED = (255, 210, 0), (0, 200, 255)
"""RGB of the contours of the given and of the predicted mask."""
_SIDE = 300  # pixels of the longer side of a film in an overlay
_MACHINE_MADE = (
    "The masks of Cohen's collection (`annotations/lungVAE-masks`) were drawn by another network (Selvan et al., "
    "arXiv:2005.10052), not by a radiologist, and fill in what a white lung hides: Dice says how far two "
    "programs agree."
)


class Overlay(NamedTuple):
    """A film (H, W) uint8, the given and the predicted mask (H, W) bool, and their Dice."""

    image: npt.NDArray[np.uint8]
    true: npt.NDArray[np.bool_]
    predicted: npt.NDArray[np.bool_]
    dice: float


def write_lungs_report(
    folder: Path,
    metrics: Mapping[str, Any],
    found: pd.DataFrame,
    shown: Mapping[str, Sequence[Overlay]],
    flow: pd.DataFrame,
) -> Path:
    """Writes ``report.md``, ``report.html`` and ``figures/`` of a finished training.

    Args:
        folder: Of the run; ``history/`` is read.
        metrics: As in ``metrics.json``.
        found: One row per held-out image, with ``source``, ``view``, ``person``, ``dice``, ``iou``.
        shown: ``drawn`` (by lot) and ``worst`` overlays.
        flow: The flow of cases.

    Returns:
        The path of ``report.html``.

    Raises:
        OSError: The folder cannot be written.
    """
    figures = {
        "dice": _histogram(found),
        "drawn": _sheet(shown["drawn"]),
        "worst": _sheet(shown["worst"]),
        "curves": _curves(folder / "history"),
    }
    for name, figure in figures.items():
        save(figure, folder / "figures" / f"{name}.png")
    mark = "SYNTHETIC " if metrics["synthetic"] else ""
    parts = [*_head(metrics, mark), *_results(metrics, found), *_pictures(shown, mark), *_method(metrics, flow)]
    return write_pages(folder, "report", "\n\n".join(parts) + "\n", f"{mark}Lungs")[1]


def _head(metrics: Mapping[str, Any], mark: str) -> list[str]:
    lines = [f"# {mark}Lungs: how well they are found"]
    if mark:
        lines += ["**SYNTHETIC: the films were drawn by a program. Nothing below says anything about patients.**"]
    else:
        lines += [f"- **WARNING:** {_MACHINE_MADE}"]
    return [*lines, DISCLAIMER]


def _results(metrics: Mapping[str, Any], found: pd.DataFrame) -> list[str]:
    header = ("Masks of", "Images", "People", "Dice", "IoU", "Median Dice", "Worst", "Dice below 0.8", "Lungs' share")
    rows = [
        (
            "synthetic (drawn)" if source == "synthetic" else source,
            each["images"],
            each["people"],
            str(each["dice"]),
            str(each["iou"]),
            f"{each['median_dice']:.3f}",
            f"{each['worst_dice']:.3f}",
            f"{each['below_0.8']} of {each['images']}",
            f"{each['share'].value:.3f} (given: {each['true_share'].value:.3f})",
        )
        for source, each in metrics["held_out"].items()
    ]
    method = next(iter(metrics["held_out"].values()))["dice"].method
    text = (
        f"Every image was segmented once by a network that had seen no image of that person ({metrics['folds']} folds "
        f"by person). Means over images; intervals: {method}. The share is that of the film's area."
    )
    return [
        "## Held-out people",
        text,
        markdown_table(rows, header),
        "By view, since a bedside film (AP) is harder than one of an upright patient (PA):",
        markdown_table(_by_view(found), ("Masks of", "View", "Images", "People", "Dice")),
        "![Dice of each held-out image](figures/dice.png)",
    ]


def _by_view(found: pd.DataFrame) -> list[tuple[object, ...]]:
    groups = found.assign(view=found["view"].replace("", "not recorded")).groupby(["source", "view"], sort=True)
    return [
        (source, view, len(rows), rows["person"].nunique(), str(mean(rows["dice"], rows["person"])))
        for (source, view), rows in groups
    ]


def _pictures(shown: Mapping[str, Sequence[Overlay]], mark: str) -> list[str]:
    key = "yellow: the given mask, blue: the predicted one; the number is their Dice"
    return [
        "## What it looks like",
        f"![{mark}{len(shown['drawn'])} held-out films drawn by lot; {key}](figures/drawn.png)",
        f"![{mark}The {len(shown['worst'])} worst held-out films; {key}](figures/worst.png)",
    ]


def _method(metrics: Mapping[str, Any], flow: pd.DataFrame) -> list[str]:
    how = (
        f"{metrics['epochs']} epochs for every fold and for the final network, which learned from all "
        f"{metrics['images']} images of {metrics['people']} people and is what `lungs.ckpt` holds; nothing was chosen "
        "on held-out images. Its own Dice cannot be measured on these images: the table above, of networks that saw "
        "fewer, stands for it. Predicted masks keep their two largest parts, without holes."
    )
    files = (
        f"Images and masks: fingerprint `{metrics['fingerprint'][:12]}`; weights: `{metrics['weights'][:12]}`. Every "
        "image with its fold, Dice and IoU: [masks.csv](masks.csv)."
    )
    purpose = (
        "What it is for: measuring, and `data.mask=lungs`, always with predicted masks for every image of every class. "
        "Children, side views and CT were not learned from. On films that were learned from, in Cohen's collection "
        "mostly of COVID-19, the final network does a little better than the table says; and a white lung tends to be "
        "found smaller than it is, so that the outline itself may tell something of the disease."
    )
    curves = "![Loss and Dice of every epoch](figures/curves.png)"
    return ["## How it was trained", how, curves, flow_table(flow), files, purpose]


def _sheet(overlays: Sequence[Overlay]) -> Figure:
    images = [_drawn(each) for each in overlays]
    return contact_sheet(images, [f"{each.dice:.2f}" for each in overlays], columns=5, tile=_SIDE + 6)


def _drawn(overlay: Overlay) -> npt.NDArray[np.uint8]:
    """A film with the contours of both masks, RGB."""
    height, width = overlay.image.shape
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = cv2.cvtColor(cv2.resize(overlay.image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2RGB)
    for mask, colour in ((overlay.true, TRUE), (overlay.predicted, PREDICTED)):
        small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, colour, 1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def _histogram(found: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    low = min(0.7, float(np.floor(found["dice"].min() * 20) / 20))
    bins = np.linspace(low, 1, 1 + round((1 - low) / 0.01))
    parts = [(str(source), rows["dice"]) for source, rows in found.groupby("source", sort=True)]
    axes.hist([part for _, part in parts], bins=list(bins), label=[name for name, _ in parts], stacked=True)
    axes.set(xlabel="Dice of a held-out image", ylabel="images", xlim=(low, 1))
    axes.legend(frameon=False, loc="upper left")
    return figure


def _curves(folder: Path) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, 2)
    histories = {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
    for axes, name in zip(panels, ("loss", "dice"), strict=True):
        for training, table in histories.items():
            label = training if training == "final" else None
            colour = "black" if training == "final" else "C0"
            axes.plot(table["epoch"], table[f"train/{name}"], color=colour, lw=1, label=label)
            if f"val/{name}" in table:
                axes.plot(table["epoch"], table[f"val/{name}"], color="C1", lw=1)
        axes.plot([], [], color="C0", label="folds, training (augmented)")
        axes.plot([], [], color="C1", label="folds, held out")
        axes.set(
            xlabel="epoch", ylabel={"loss": "loss (cross-entropy + 1 - Dice)", "dice": "Dice (network's size)"}[name]
        )
    panels[1].legend(frameon=False)
    return figure
