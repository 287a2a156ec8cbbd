"""The page of a training of a gate: how often it is wrong, on whom, and what those pictures look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from cxrlab.console import DISCLAIMER
from cxrlab.evaluation.estimate import Mean
from cxrlab.figures import contact_sheet, save
from cxrlab.reports.markdown import flow_table, markdown_table
from cxrlab.reports.page import write_pages
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
    figures = {name: _sheet(pictures) for name, pictures in shown.items() if pictures}
    figures |= {"probabilities": _histogram(table, metrics["limits"]), "curves": _curves(folder / "history")}
    for name, figure in figures.items():
        save(figure, folder / "figures" / f"{name}.png")
    mark = "SYNTHETIC " if metrics["synthetic"] else ""
    parts = [*_head(mark), *_results(metrics), *_names(table), *_seen(figures, mark), *_method(metrics, flow)]
    return write_pages(folder, "report", "\n\n".join(parts) + "\n", f"{mark}Gate")[1]


def _head(mark: str) -> list[str]:
    lines = [f"# {mark}Gate: is this a frontal chest film at all?"]
    if mark:
        lines += ["**SYNTHETIC: the films were drawn by a program. Nothing below says anything about patients.**"]
    return [*lines, DISCLAIMER]


def _results(metrics: Mapping[str, Any]) -> list[str]:
    held_out = metrics["held_out"]
    left_out = held_out["left_out"]
    unseen = (
        f"Frontal films of {', '.join(left_out)} were each judged by a network that had seen no frontal film of that "
        "collection, with limits chosen on the other collections; everything else by one that had seen no picture of "
        f"that person or source ({metrics['folds']} folds)."
        if left_out
        else "Every picture was judged once by a network that had seen no picture of that person, with limits chosen "
        f"on the other folds ({metrics['folds']} folds by person). Frontal films of another collection: NOT CHECKED."
    )
    text = (
        f"{unseen} Inverted and turned films are made of the frontal ones. Pictures that a rule refuses (colour, "
        "blank, too small) count as refused."
    )
    rows = [
        ("frontal films refused", *_cells(held_out["false_refusal"])),
        ("frontal films in doubt", *_cells(held_out["in_doubt"])),
        ("others accepted", *_cells(held_out["false_acceptance"])),
    ]
    return [
        "## Held-out people",
        text,
        markdown_table(rows, ("Share of", "Pictures", "People", "Share [95 %]", "Interval")),
        "What became of each kind. Accepted is right for frontal films only.",
        markdown_table(_verdicts(held_out["kinds"]), ("Kind", *_VERDICTS)),
        "Frontal films by collection. Warned about or refused is wrong for all of them.",
        markdown_table(_verdicts(held_out["collections"]), ("Collection", *_VERDICTS)),
    ]


_VERDICTS = (
    *("Pictures", "People", "accept", "warn", "refuse"),
    *("Accepted [95 %]", "Warned [95 %]", "Refused [95 %]"),
)


def _verdicts(parts: Mapping[str, Any]) -> list[tuple[object, ...]]:
    return [
        (
            name,
            each["images"],
            each["people"],
            each["accept"],
            each["warn"],
            each["refuse"],
            str(each["accepted"]),
            str(each["warned"]),
            str(each["refused"]),
        )
        for name, each in parts.items()
    ]


def _cells(each: Mean) -> tuple[object, ...]:
    return f"{each.count} of {each.n}", each.n_patients, each, each.method


def _names(table: pd.DataFrame) -> list[str]:
    """What each kind was called, which is what the reason goes by."""
    counts = pd.crosstab(table["kind"], table["said"])
    rows = [(kind, *counts.loc[kind].tolist()) for kind in counts.index]
    return ["## What they were called", markdown_table(rows, ("Kind", *(f"called {each}" for each in counts.columns)))]


def _seen(figures: Mapping[str, Any], mark: str) -> list[str]:
    words = {
        "least": f"{mark}Frontal films that look least like it: kind, probability of a frontal film, verdict",
        "most": f"{mark}Other pictures that look most like a frontal film",
    }
    lines = [f"![{text}](figures/{name}.png)" for name, text in words.items() if name in figures]
    return ["## What it looks like", *lines, "![Probability of a frontal film, held out](figures/probabilities.png)"]


def _method(metrics: Mapping[str, Any], flow: pd.DataFrame) -> list[str]:
    limits = metrics["limits"]
    how = (
        f"{metrics['epochs']} epochs for every fold and for the final network, which learned from everything and is "
        f"what `gate.ckpt` holds. It refuses below a probability of {limits['refuse_below']:.4f} and accepts from "
        f"{limits['accept_from']:.4f} on, limits that all held-out probabilities together give, the worst "
        "collection deciding. Its own rates cannot be measured on these pictures: the tables above, of networks that "
        "saw fewer, stand for them."
    )
    files = (
        f"Pictures: fingerprint `{metrics['fingerprint'][:12]}`; gate: `{metrics['gate'][:12]}`. Every picture with "
        "its fold, probabilities and verdict: [gate.csv](gate.csv)."
    )
    purpose = (
        "What it cannot do: tell a mirrored film, an X-ray of another part of the body (none was learned from), or a "
        "film of a child from one of an adult; say whether a film is good enough to be read. A picture of a kind that "
        "nobody thought of may be accepted."
    )
    return [
        "## How it was trained",
        how,
        "![Loss of every epoch](figures/curves.png)",
        flow_table(flow),
        files,
        purpose,
    ]


def _sheet(shown: Shown) -> Figure:
    return contact_sheet([image for image, _ in shown], [mark for _, mark in shown], columns=5, tile=250)


def _histogram(table: pd.DataFrame, limits: Mapping[str, float]) -> Figure:
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.add_subplot()
    kinds = sorted(set(table["kind"]), key=lambda kind: (kind != "frontal", kind))
    parts = [table.loc[table["kind"] == kind, "p_frontal"] for kind in kinds]
    axes.hist(parts, bins=list(np.linspace(0, 1, 41)), label=kinds, stacked=True)
    for name, value in limits.items():
        axes.axvline(value, color="black", lw=1, ls="--" if name == "accept_from" else ":")
    axes.set(xlabel="probability of a frontal film (dotted: refused below, dashed: accepted from)", ylabel="pictures")
    axes.set_yscale("symlog", linthresh=10)
    axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    return figure


def _curves(folder: Path) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    panels = figure.subplots(1, 2)
    histories = {path.stem: read_table(path) for path in sorted(folder.glob("*.csv"))}
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        for training, history in histories.items():
            final = training == "final"
            label = "final" if final else "folds" if training == "fold_1" else None
            axes.plot(history["epoch"], history[f"train/{name}"], color="black" if final else "C0", lw=1, label=label)
        axes.set(xlabel="epoch", ylabel={"loss": "loss (augmented)", "accuracy": "named rightly (augmented)"}[name])
        axes.legend(frameon=False)
    return figure
