"""A matrix of trained recipes and places as files: a page, figures, JSON and CSV; and a table for the terminal.

``matrix.json`` holds, with ``schema`` 1:

==============  ====================================================================================================
``synthetic``   whether any images were drawn by a program; ``images``, which of each column; ``command``; ``seconds``
``rows``        what was trained: ``name``, ``what`` it is, ``seeds``, ``images`` and ``patients`` of training, ``runs``
``columns``     the places: ``name``, ``what``, ``claim`` (what Positive is said to mean), ``notes``, ``synthetic``
``cells``       of each row and column: ``internal``, ``shared`` (what was removed), the numbers of
                :func:`cxrlab.evaluation.matrix.cell`, and ``lung_free``: classifiers that see no network's input
``drops``       ``row``, ``internal``, ``external`` (columns), ``drop`` with interval
``pairs``       ``column``, ``own``, ``other`` (rows), ``n``, ``difference`` of AUROCs on the same images
``failures``    what could not be trained or scored, and why; ``notes``
==============  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table as TerminalTable
from rich.text import Text

from cxrlab import figures
from cxrlab.console import DISCLAIMER
from cxrlab.evaluation.estimate import Estimate, SeedMean
from cxrlab.figures import Point, Row, Square, heat_map
from cxrlab.files import write_csv, write_json
from cxrlab.reports.markdown import Markdown, code, code_block, markdown_table, plain
from cxrlab.reports.page import write_pages
from cxrlab.reports.sections import duration
from cxrlab.words import plural

_METRICS = ("auroc", "sensitivity", "specificity")


@dataclass(frozen=True)
class RowFacts:
    """What was trained, see the module's table."""

    name: str
    what: str
    seeds: Sequence[str]
    images: int | None
    patients: int | None
    runs: Sequence[str]


@dataclass(frozen=True)
class ColumnFacts:
    """A place, see the module's table."""

    name: str
    what: str
    claim: str
    notes: Sequence[str]
    synthetic: bool


@dataclass(frozen=True)
class Cell:
    """One row on one column.

    Attributes:
        row: Its name.
        column: Its name.
        internal: Whether the column is the place that the row was trained on.
        shared: ``images`` listed in the column, ``films``, ``patients`` and ``removed`` that it has in common with the
            training images, and ``checked``: whether that could be looked for.
        numbers: See :func:`cxrlab.evaluation.matrix.cell`.
        lung_free: By name of a classifier: ``sees``, ``lung_free``, ``training`` (AUROC cross-validated there, or
            ``None``) and ``auroc`` in this cell.
        best: Which of them that see no lung did best on the training images; empty where none could be trained.
    """

    row: str
    column: str
    internal: bool
    shared: Mapping[str, Any]
    numbers: Mapping[str, Any]
    lung_free: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    best: str = ""


@dataclass(frozen=True)
class Matrix:
    """Everything that a page tells; the lists as in the module's table."""

    rows: Sequence[RowFacts]
    columns: Sequence[ColumnFacts]
    cells: Sequence[Cell]
    drops: Sequence[Mapping[str, Any]]
    pairs: Sequence[Mapping[str, Any]]
    failures: Sequence[str]
    notes: Sequence[str]
    images: str
    synthetic: bool

    def cell(self, row: str, column: str) -> Cell | None:
        """A cell, ``None`` where it failed."""
        return next((cell for cell in self.cells if (cell.row, cell.column) == (row, column)), None)

    def own(self, row: str) -> Cell | None:
        """The row on its own held-out images: on the column of its name, or else on one of the same source."""
        cells = [cell for cell in self.cells if cell.row == row and cell.internal]
        return next((cell for cell in cells if cell.column == row), cells[0] if cells else None)


def write_matrix(folder: Path, matrix: Matrix, seconds: float, command: str = "") -> Path:
    """Writes ``matrix.md``, ``matrix.html``, ``matrix.json``, ``matrix.csv`` and ``figures/*.png``.

    Args:
        folder: Where.
        matrix: What was found.
        seconds: What it took.
        command: What was typed, for the record.

    Returns:
        The path of ``matrix.html``.
    """
    _draw(folder, matrix)
    title = f"{_mark(matrix)}Trained here, tested there"
    parts = [_head(matrix, title), _table(matrix), _drops(matrix), _lung_free(matrix), _pairs(matrix), _shared(matrix)]
    parts += [_sets(matrix), _rows(matrix), _not_checked(matrix), _repeat(matrix, seconds, command)]
    _, page = write_pages(folder, "matrix", "\n\n".join(part for part in parts if part) + "\n", title)
    write_json(folder / "matrix.json", _as_json(matrix, seconds, command))
    write_csv(folder / "matrix.csv", _as_table(matrix))
    return page


def terminal_matrix(matrix: Matrix) -> TerminalTable:
    """AUROC of every cell with interval and n; own held-out images are bold."""
    title = Text(f"{_mark(matrix)}AUROC, mean over seeds (bold: own held-out images)")
    table = TerminalTable(title=title, box=box.SIMPLE_HEAD)
    table.add_column("trained on", overflow="fold")
    for column in matrix.columns:
        table.add_column(Text(f"on {column.name}"), overflow="fold")
    for row in matrix.rows:
        cells = [matrix.cell(row.name, column.name) for column in matrix.columns]
        table.add_row(Text(row.name), *(_terminal_cell(cell) for cell in cells))
    return table


def _terminal_cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text("failed", style="red")
    if cell.numbers["undefined"]:
        return Text(f"undefined: {cell.numbers['undefined']}")
    value, _, limits = str(cell.numbers["auroc"]).partition(" ")
    return Text(f"{value}\n{limits}\nn={cell.numbers['n']}", style="bold" if cell.internal else "")


# The page -----------------------------------------------------------------------------------------------------------


def _head(matrix: Matrix, title: str) -> str:
    parts = [f"# {plain(title)}"]
    if matrix.synthetic:
        parts.append("**SYNTHETIC: images were drawn by a program. What they give says nothing about patients.**")
    parts += [f"- **WARNING**: not there: {plain(failure)}" for failure in matrix.failures]
    which = "all images of a set" if matrix.images == "all" else "the test images of a set"
    parts.append(
        f"Each row was trained on one set; each column is {which}. Before anything is counted, every image of a person "
        "or a film that the row was trained or validated on is removed: what is left of a row's own set are its "
        "held-out test images (**internal**), everything else is **external**. Numbers are means over the seeds of a "
        "row, with intervals over patients; patients whom a set does not tell apart count as one per image."
    )
    parts.append("![AUROC of every row on every column](figures/matrix.png)")
    return "\n\n".join([*parts, DISCLAIMER])


def _table(matrix: Matrix) -> str:
    rows = []
    for cell in matrix.cells:
        numbers = cell.numbers
        reason = numbers["undefined"]
        auroc = f"undefined: {reason}" if reason else f"{numbers['auroc']}{_seeds(numbers['auroc'])}"
        size = f"{numbers['n']} ({numbers['n_positive']}), {numbers['n_patients']}"
        name = Markdown(f"**{plain(cell.row)}**") if cell.internal else cell.row
        column = Markdown(f"**{plain(cell.column)}** (internal)") if cell.internal else cell.column
        rows.append((name, column, size, auroc, *(str(numbers[metric]) for metric in _METRICS[1:])))
    header = (
        "Trained on",
        "Tested on",
        "Images (Positive), patients",
        "AUROC; range of seeds",
        "Sensitivity",
        "Specificity",
    )
    text = (
        "Sensitivity and specificity are at the threshold that came with the weights: nothing was chosen on a column."
    )
    return "\n\n".join(["## Every cell", markdown_table(rows, header), text, _methods(matrix)])


def _methods(matrix: Matrix) -> str:
    """What the intervals are, told once where all are alike."""
    found = sorted(
        {cell.numbers["auroc"].method.partition(" (")[0] for cell in matrix.cells if not cell.numbers["undefined"]}
    )
    small = [
        f"{plain(cell.row)} on {plain(cell.column)}{method.rpartition(';')[2].partition(':')[0]}"
        for cell in matrix.cells
        if "too narrow" in (method := cell.numbers["auroc"].method)
    ]
    said = f"Intervals of the AUROC: {'; '.join(found)}." if found else ""
    return f"{said} Too few patients: {'; '.join(small)}." if small else said


def _seeds(estimate: SeedMean) -> str:
    seeds = estimate.seeds
    return f"; {min(seeds):.3f} to {max(seeds):.3f}" if len(seeds) > 1 else ""


def _drops(matrix: Matrix) -> str:
    if not matrix.drops:
        return ""
    rows = [
        (
            each["row"],
            each["internal"],
            each["external"],
            _signed(each["drop"]),
            each["drop"].method,
        )
        for each in matrix.drops
    ]
    text = (
        "Internal less external AUROC, with both intervals put together. Sets differ in more than the "
        "hospital (see what Positive means in each, below): a drop mixes all of it."
    )
    return "\n\n".join(
        [
            "## What is lost elsewhere",
            text,
            "![AUROC on own held-out images and elsewhere](figures/drop.png)",
            markdown_table(rows, ("Trained on", "Internal", "External", "Drop", "Method")),
        ]
    )


def _lung_free(matrix: Matrix) -> str:
    cells = [cell for cell in matrix.cells if cell.lung_free]
    if not cells:
        return ""
    names = [*cells[0].lung_free]
    rows = []
    for cell in cells:
        numbers = cell.lung_free
        shown = [
            Markdown(f"**{numbers[name]['auroc'].value:.2f}**")
            if name == cell.best
            else f"{numbers[name]['auroc'].value:.2f}"
            for name in names
        ]
        best = str(numbers[cell.best]["auroc"]) if cell.best else None
        where = f"{cell.column} (internal)" if cell.internal else cell.column
        rows.append((cell.row, where, str(cell.numbers["auroc"]), best, *shown))
    heads = [name if cells[0].lung_free[name]["lung_free"] else f"{name} (perhaps some lung)" for name in names]
    seen = "\n".join(f"- {name}: {cells[0].lung_free[name]['sees']}" for name in names)
    text = (
        "AUROC of fixed classifiers, trained on the row's training images and tested on the cell's. Bold: the one that "
        "was best in cross-validation by patient on the training images, which is the one to hold the network against. "
        "Where it does as well as the network, the network's number says little about disease; where it does well "
        "inside and not elsewhere, the set has a shortcut of its own."
    )
    return "\n\n".join(
        [
            "## The same cells without a lung",
            text,
            markdown_table(rows, ("Trained on", "Tested on", "Network", "Best on training", *heads)),
            seen,
        ]
    )


def _pairs(matrix: Matrix) -> str:
    if not matrix.pairs:
        return ""
    rows = [
        (each["column"], each["own"], each["other"], each["n"], _signed(each["difference"])) for each in matrix.pairs
    ]
    text = (
        "AUROC of the model of the place less that of a model from elsewhere, on the place's held-out test images "
        "that neither was trained on; the same patients are resampled for both."
    )
    return "\n\n".join(
        [
            "## Trained here against trained elsewhere, on the same images",
            text,
            markdown_table(rows, ("Tested on", "Its own model", "Model from", "Images", "Difference")),
        ]
    )


def _shared(matrix: Matrix) -> str:
    rows = [
        (
            cell.row,
            f"{cell.column} (internal)" if cell.internal else cell.column,
            cell.shared["images"],
            *(
                [cell.shared[key] for key in ("films", "patients", "removed")]
                if cell.shared["checked"]
                else ["NOT CHECKED"] * 3
            ),
            cell.numbers["n"],
        )
        for cell in matrix.cells
    ]
    header = ("Trained on", "Tested on", "Images", "Films in common", "Patients in common", "Images removed", "Left")
    text = (
        "In common with the row's training and validation images: the same file, another copy or crop of the film "
        "(as an audit finds them), or the same patient, by id or through a film."
    )
    return "\n\n".join(["## Removed: patients and films that were trained on", text, markdown_table(rows, header)])


def _sets(matrix: Matrix) -> str:
    lines = []
    for column in matrix.columns:
        claim = (
            f"Positive is said to mean {plain(column.claim)}" if column.claim else "what Positive means is not stated"
        )
        mark = "SYNTHETIC, " if column.synthetic else ""
        lines.append(f"- **{plain(column.name)}** ({mark}{code(column.what)}): {claim}")
        lines += [f"  - {plain(note)}" for note in column.notes]
    return "\n\n".join(["## What the labels mean in each set", "\n".join(lines)])


def _rows(matrix: Matrix) -> str:
    rows = [
        (row.name, row.what, ", ".join(row.seeds), row.images, row.patients, ", ".join(row.runs)) for row in matrix.rows
    ]
    header = ("Row", "Recipe", "Seeds", "Images trained on (with validation)", "Patients", "Runs")
    return "\n\n".join(["## What was trained", markdown_table(rows, header)])


def _not_checked(matrix: Matrix) -> str:
    lines = [f"NOT CHECKED: {plain(note)}" for note in matrix.notes]
    lines.append("NOT CHECKED: patients whom their sets do not name are told apart by film only")
    return "\n\n".join(["## What was not checked", "\n".join(f"- {line}" for line in lines)])


def _repeat(matrix: Matrix, seconds: float, command: str) -> str:
    text = (
        f"The numbers stand in [matrix.json](matrix.json) and [matrix.csv](matrix.csv), too. This took "
        f"{duration(seconds)}; what was trained and scored is kept, and a second run only counts again."
    )
    return "\n\n".join(["## How to repeat it", text, code_block(command) if command else ""])


def _signed(estimate: Estimate) -> str:
    return estimate.method if estimate.value is None else f"{estimate:+.3f}"


def _mark(matrix: Matrix) -> str:
    return "SYNTHETIC: " if matrix.synthetic else ""


# Files --------------------------------------------------------------------------------------------------------------


def _draw(folder: Path, matrix: Matrix) -> None:
    rows, columns = [row.name for row in matrix.rows], [column.name for column in matrix.columns]
    squares = {(cell.row, cell.column): _as_square(cell) for cell in matrix.cells}
    title = f"{_mark(matrix)}AUROC, trained on each row, tested on each column"
    figures.save(heat_map(rows, columns, squares, title), folder / "figures" / "matrix.png")
    if matrix.drops:
        title = f"{_mark(matrix)}AUROC on own held-out images, and elsewhere"
        note = "Line: 95 % interval over patients; dots: seeds; drop: own minus other place, with its interval."
        figures.save(figures.forest(_falls(matrix), title, note), folder / "figures" / "drop.png")


def _as_square(cell: Cell) -> Square:
    best = cell.lung_free[cell.best]["auroc"].value if cell.best else None
    reason = cell.numbers["undefined"] or ""
    return Square(cell.numbers["auroc"], cell.numbers["n"], cell.internal, best, reason)


def _falls(matrix: Matrix) -> list[Row]:
    """What was trained on its own held-out images and, below, on those of every other place."""
    found = []
    for row in matrix.rows:
        drops = {each["external"]: each["drop"] for each in matrix.drops if each["row"] == row.name}
        own = matrix.own(row.name)
        if own is None or not drops:
            continue
        auroc = own.numbers["auroc"]
        found.append(Row("own held-out images", [[_seen(auroc)]], row.name, str(auroc)))
        for name, drop in drops.items():
            cell = matrix.cell(row.name, name)
            if cell is not None:
                auroc = cell.numbers["auroc"]
                told = f"{auroc}   drop {drop}"
                found.append(Row(f"on {name}", [[_seen(auroc, second=True)]], row.name, told))
    return found


def _seen(auroc: SeedMean, second: bool = False) -> Point:
    return Point(auroc, auroc.seeds if len(auroc.seeds) > 1 else (), second=second)


def _as_json(matrix: Matrix, seconds: float, command: str) -> dict[str, Any]:
    return {
        "schema": 1,
        "synthetic": matrix.synthetic,
        "images": matrix.images,
        "rows": [asdict(row) for row in matrix.rows],
        "columns": [asdict(column) for column in matrix.columns],
        "cells": [{**asdict(cell), "numbers": dict(cell.numbers)} for cell in matrix.cells],
        "drops": list(matrix.drops),
        "pairs": list(matrix.pairs),
        "failures": list(matrix.failures),
        "notes": list(matrix.notes),
        "command": command,
        "seconds": round(seconds, 3),
    }


def _as_table(matrix: Matrix) -> pd.DataFrame:
    """One line per cell, numbers unrounded."""
    rows = []
    for cell in matrix.cells:
        row: dict[str, Any] = {"row": cell.row, "column": cell.column, "internal": cell.internal}
        row |= {key: cell.numbers[key] for key in ("n", "n_positive", "n_negative", "n_patients")}
        row |= {f"shared_{key}": cell.shared[key] for key in ("images", "films", "patients", "removed")}
        for metric in _METRICS:
            row |= {f"{metric}_{key}": getattr(cell.numbers[metric], key) for key in ("value", "low", "high")}
            seeds = cell.numbers[metric].seeds
            row |= {f"{metric}_min": min(seeds, default=None), f"{metric}_max": max(seeds, default=None)}
        row |= {"lung_free": cell.best, "lung_free_auroc": _best_value(cell), "undefined": cell.numbers["undefined"]}
        rows.append(row)
    return pd.DataFrame(rows)


def _best_value(cell: Cell) -> float | None:
    return cell.lung_free[cell.best]["auroc"].value if cell.best else None


def summary(matrix: Matrix) -> str:
    """How much there is, in a line."""
    done = sum(not cell.numbers["undefined"] for cell in matrix.cells)
    return f"{plural(done, 'cell')} of {len(matrix.rows) * len(matrix.columns)}"
