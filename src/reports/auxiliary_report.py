"""The reports of the lung segmenter and of the gate that keeps other pictures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.evaluation.estimate import mean
from cxrlab.figures import Figure, contact_sheet, fold_curves, save, stacked_histogram
from cxrlab.reports.documents import write_document
from cxrlab.untrusted import read_table

TRUE, PREDICTED = (255, 210, 0), (0, 200, 255)
"""RGB of the contours of the given and of the predicted mask."""
_SIDE = 144  # pixels of the longer side of a film in an overlay
Shown = Sequence[tuple[npt.NDArray[np.uint8], str]]
"""Pictures (h, w, 3), uint8, each with what is written into its corner."""


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
    """Writes ``report.md``, ``report.html`` and ``figures/`` of a finished training; returns the path of the page.

    ``history/`` in its folder is read. ``found`` holds a row per held-out image, with ``source``, ``view``, ``person``,
    ``dice`` and ``iou``; ``shown`` the overlays ``drawn`` (sampled at random) and ``worst``.
    """
    least = min(0.7, float(np.floor(found["dice"].min() * 20) / 20))
    dice = {str(source): rows["dice"] for source, rows in found.groupby("source", sort=True)}
    drawn = {
        name: contact_sheet(
            [_outlined(each) for each in overlays], [f"{each.dice:.2f}" for each in overlays], columns=5, tile=150
        )
        for name, overlays in shown.items()
    }
    drawn["dice"] = stacked_histogram(dice, np.arange(least, 1.005, 0.01), ("Dice of a held-out image", "images"))
    curves = {"loss": "loss (cross-entropy + 1 - Dice)", "dice": "Dice (network's size)"}
    collections = []
    for source, each in metrics["held_out"].items():
        name, below = (
            "synthetic (drawn)" if source == "synthetic" else source,
            f"{each['below_0.8']} of {each['images']}",
        )
        spread = (f"{each[key]:.3f}" for key in ("median_dice", "worst_dice"))
        share = f"{each['share'].value:.3f} (given: {each['true_share'].value:.3f})"
        collections.append((name, each["images"], each["people"], each["dice"], each["iou"], *spread, below, share))
    groups = found.assign(view=found["view"].replace("", "not recorded")).groupby(["source", "view"], sort=True)
    context = {
        "dices": {source: each["dice"] for source, each in metrics["held_out"].items()},
        "collections": collections,
        "views": [
            (source, view, len(rows), rows["person"].nunique(), mean(rows["dice"], rows["person"]))
            for (source, view), rows in groups
        ],
        "shown": {name: len(overlays) for name, overlays in shown.items()},
        "flow": flow,
    }
    return _write(folder, "lungs", metrics, drawn, curves, context)


def write_gate_report(
    folder: Path, metrics: Mapping[str, Any], table: pd.DataFrame, shown: Mapping[str, Shown], flow: pd.DataFrame
) -> Path:
    """Writes the same of a gate, see :func:`write_lungs_report`.

    ``table`` holds a row per held-out picture, with ``kind``, ``verdict``, ``said`` and ``p_frontal``; ``shown`` the
    frontal films that look ``least`` like it, and the other pictures that look ``most`` like it.
    """
    kinds = sorted(set(table["kind"]), key=lambda kind: (kind != "frontal", kind))
    parts = {kind: table.loc[table["kind"] == kind, "p_frontal"] for kind in kinds}
    limits = {"refused below": metrics["limits"]["refuse_below"], "accepted from": metrics["limits"]["accept_from"]}
    words = ("probability of a frontal film", "pictures")
    drawn = {
        # The kind on a line of its own, so that it fits into a narrow tile.
        name: contact_sheet([image for image, _ in each], [mark.replace(" ", "\n", 1) for _, mark in each], tile=170)
        for name, each in shown.items()
        if each
    }
    drawn["probabilities"] = stacked_histogram(parts, np.linspace(0, 1, 41), words, limits, logarithmic=True)
    curves = {"loss": "loss (augmented)", "accuracy": "named rightly (augmented)"}
    verdicts: dict[str, list[Any]] = {"kinds": [], "collections": []}
    for of, rows in verdicts.items():
        for name, each in metrics["held_out"][of].items():
            shares = (f"{each[key].count}: {each[key]}" for key in ("accepted", "warned", "refused"))
            rows.append((name, each["images"], each["people"], *shares))
    counts = pd.crosstab(table["kind"], table["said"])
    context = {
        **verdicts,
        "shown": {name: len(each) for name, each in shown.items()},
        "names": [f"called {each}" for each in counts.columns],
        "called": [(kind, *counts.loc[kind].tolist()) for kind in counts.index],
        "flow": flow,
    }
    return _write(folder, "gate", metrics, drawn, curves, context)


def _write(
    folder: Path,
    kind: str,
    metrics: Mapping[str, Any],
    drawn: dict[str, Figure],
    curves: dict[str, str],
    context: dict[str, Any],
) -> Path:
    histories = {path.stem: read_table(path) for path in sorted((folder / "history").glob("*.csv"))}
    for name, figure in {**drawn, "curves": fold_curves(histories, curves)}.items():
        save(figure, folder / "figures" / f"{name}.png")
    mark = "SYNTHETIC " if metrics["synthetic"] else ""
    return write_document(folder, "report", kind, f"{mark}{kind.capitalize()}", {**metrics, "mark": mark, **context})


def _outlined(overlay: Overlay) -> npt.NDArray[np.uint8]:
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
