"""The page of a training that finds lungs: how well, on whom, and what it looks like."""

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
        shown: ``drawn`` (sampled at random) and ``worst`` overlays.
        flow: The flow of cases.

    Returns:
        The path of ``report.html``.

    Raises:
        OSError: The folder cannot be written.
    """
    least = min(0.7, float(np.floor(found["dice"].min() * 20) / 20))
    dice = {str(source): rows["dice"] for source, rows in found.groupby("source", sort=True)}
    histories = {path.stem: read_table(path) for path in sorted((folder / "history").glob("*.csv"))}
    drawn = {name: _sheet(overlays) for name, overlays in shown.items()}
    drawn["dice"] = stacked_histogram(dice, np.arange(least, 1.005, 0.01), ("Dice of a held-out image", "images"))
    drawn["curves"] = fold_curves(
        histories, {"loss": "loss (cross-entropy + 1 - Dice)", "dice": "Dice (network's size)"}
    )
    for name, figure in drawn.items():
        save(figure, folder / "figures" / f"{name}.png")
    mark, held_out = "SYNTHETIC " if metrics["synthetic"] else "", metrics["held_out"]
    groups = found.assign(view=found["view"].replace("", "not recorded")).groupby(["source", "view"], sort=True)
    context = {
        **metrics,
        "mark": mark,
        "dices": {source: each["dice"] for source, each in held_out.items()},
        "collections": [_collection(source, each) for source, each in held_out.items()],
        "views": [
            (source, view, len(rows), rows["person"].nunique(), mean(rows["dice"], rows["person"]))
            for (source, view), rows in groups
        ],
        "drawn": len(shown["drawn"]),
        "worst": len(shown["worst"]),
        "flow": flow,
    }
    return write_document(folder, "report", "lungs", f"{mark}Lungs", context)


def _collection(source: str, each: Mapping[str, Any]) -> tuple[object, ...]:
    name = "synthetic (drawn)" if source == "synthetic" else source
    below = f"{each['below_0.8']} of {each['images']}"
    share = f"{each['share'].value:.3f} (given: {each['true_share'].value:.3f})"
    spread = (f"{each[key]:.3f}" for key in ("median_dice", "worst_dice"))
    return name, each["images"], each["people"], each["dice"], each["iou"], *spread, below, share


def _sheet(overlays: Sequence[Overlay]) -> Figure:
    return contact_sheet(
        [_drawn(each) for each in overlays], [f"{each.dice:.2f}" for each in overlays], columns=5, tile=150
    )


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
