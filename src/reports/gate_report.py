"""The page of a training of a gate: how often it is wrong, on whom, and what those pictures look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxrlab.evaluation.estimate import Mean
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
    figures = _figures(folder, table, metrics["limits"], shown)
    mark, held_out = "SYNTHETIC " if metrics["synthetic"] else "", metrics["held_out"]
    counts = pd.crosstab(table["kind"], table["said"])
    context = {
        **metrics,
        "mark": mark,
        "figures": figures,
        "shares": [
            ("frontal films refused", *_cells(held_out["false_refusal"])),
            ("frontal films in doubt", *_cells(held_out["in_doubt"])),
            ("others accepted", *_cells(held_out["false_acceptance"])),
        ],
        "verdicts": (
            *("Pictures", "People", "accept", "warn", "refuse"),
            *("Accepted [95 %]", "Warned [95 %]", "Refused [95 %]"),
        ),
        "kinds": _verdicts(held_out["kinds"]),
        "collections": _verdicts(held_out["collections"]),
        "names": tuple(f"called {each}" for each in counts.columns),
        "called": [(kind, *counts.loc[kind].tolist()) for kind in counts.index],
        "flow": flow,
    }
    return write_document(folder, "report", "gate", f"{mark}Gate", context)


def _verdicts(parts: Mapping[str, Any]) -> list[tuple[object, ...]]:
    keys = ("images", "people", "accept", "warn", "refuse", "accepted", "warned", "refused")
    return [(name, *(each[key] for key in keys)) for name, each in parts.items()]


def _cells(each: Mean) -> tuple[object, ...]:
    return f"{each.count} of {each.n}", each.n_patients, each, each.method


def _figures(folder: Path, table: pd.DataFrame, limits: Mapping[str, float], shown: Mapping[str, Shown]) -> list[str]:
    """Draws everything; returns the names of what could be drawn."""
    kinds = sorted(set(table["kind"]), key=lambda kind: (kind != "frontal", kind))
    parts = {kind: table.loc[table["kind"] == kind, "p_frontal"] for kind in kinds}
    lines = {"refused below": limits["refuse_below"], "accepted from": limits["accept_from"]}
    words = ("probability of a frontal film", "pictures")
    histories = {path.stem: read_table(path) for path in sorted((folder / "history").glob("*.csv"))}
    drawn = {
        name: contact_sheet([image for image, _ in each], [mark for _, mark in each], columns=5, tile=250)
        for name, each in shown.items()
        if each
    }
    drawn["probabilities"] = stacked_histogram(parts, np.linspace(0, 1, 41), words, lines, logarithmic=True)
    drawn["curves"] = fold_curves(histories, {"loss": "loss (augmented)", "accuracy": "named rightly (augmented)"})
    for name, figure in drawn.items():
        save(figure, folder / "figures" / f"{name}.png")
    return [*drawn]
