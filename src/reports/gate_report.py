"""The page of a training of a gate: how often it is wrong, on whom, and what those pictures look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.figures import contact_sheet, fold_curves, save, stacked_histogram
from cxrlab.reports.documents import write_document
from cxrlab.untrusted import read_table

Shown = Sequence[tuple[npt.NDArray[np.uint8], str]]
"""Pictures (h, w, 3), uint8, each with what is written into its corner."""


def write_gate_report(
    folder: Path, metrics: Mapping[str, Any], table: pd.DataFrame, shown: Mapping[str, Shown], flow: pd.DataFrame
) -> Path:
    """Writes ``report.md``, ``report.html`` and ``figures/`` of a finished training.

    Args:
        folder: Of the run; ``history/`` is read.
        metrics: As in ``metrics.json``.
        table: One row per held-out picture, with ``kind``, ``verdict``, ``said`` and ``p_frontal``.
        shown: ``least`` (frontal films that look least like it) and ``most`` (others that look most like it).
        flow: The flow of cases.

    Returns:
        The path of ``report.html``.

    Raises:
        OSError: The folder cannot be written.
    """
    kinds = sorted(set(table["kind"]), key=lambda kind: (kind != "frontal", kind))
    parts = {kind: table.loc[table["kind"] == kind, "p_frontal"] for kind in kinds}
    limits = {"refused below": metrics["limits"]["refuse_below"], "accepted from": metrics["limits"]["accept_from"]}
    words = ("probability of a frontal film", "pictures")
    histories = {path.stem: read_table(path) for path in sorted((folder / "history").glob("*.csv"))}
    drawn = {
        # The kind on a line of its own, so that it fits into a narrow tile.
        name: contact_sheet([image for image, _ in each], [mark.replace(" ", "\n", 1) for _, mark in each], tile=170)
        for name, each in shown.items()
        if each
    }
    drawn["probabilities"] = stacked_histogram(parts, np.linspace(0, 1, 41), words, limits, logarithmic=True)
    drawn["curves"] = fold_curves(histories, {"loss": "loss (augmented)", "accuracy": "named rightly (augmented)"})
    for name, figure in drawn.items():
        save(figure, folder / "figures" / f"{name}.png")
    counts = pd.crosstab(table["kind"], table["said"])
    context = {
        **metrics,
        "mark": "SYNTHETIC " if metrics["synthetic"] else "",
        "shown": {name: len(each) for name, each in shown.items()},
        "kinds": _verdicts(metrics["held_out"]["kinds"]),
        "collections": _verdicts(metrics["held_out"]["collections"]),
        "names": [f"called {each}" for each in counts.columns],
        "called": [(kind, *counts.loc[kind].tolist()) for kind in counts.index],
        "flow": flow,
    }
    return write_document(folder, "report", "gate", f"{context['mark']}Gate", context)


def _verdicts(parts: Mapping[str, Any]) -> list[tuple[object, ...]]:
    verdicts = ("accepted", "warned", "refused")
    return [
        (name, each["images"], each["people"], *(f"{each[verdict].count}: {each[verdict]}" for verdict in verdicts))
        for name, each in parts.items()
    ]
