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
from cxrlab.evaluation.estimate import Estimate, SeedMean
from cxrlab.figures import Point, Row, Square, heat_map
from cxrlab.files import write_csv, write_json
from cxrlab.reports.documents import write_document
from cxrlab.reports.markdown import Markdown, plain
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
    heads, lung_free, seen = _without_lungs(matrix)
    context = {
        "matrix": matrix,
        "cells": [_line(cell) for cell in matrix.cells],
        "methods": _methods(matrix),
        "small": _small(matrix),
        "drops": [
            (each["row"], each["internal"], each["external"], _signed(each["drop"]), each["drop"].method)
            for each in matrix.drops
        ],
        "heads": heads,
        "lung_free": lung_free,
        "seen": seen,
        "pairs": [
            (each["column"], each["own"], each["other"], each["n"], _signed(each["difference"]))
            for each in matrix.pairs
        ],
        "shared": [_in_common(cell) for cell in matrix.cells],
        "rows": [
            (each.name, each.what, ", ".join(each.seeds), each.images, each.patients, ", ".join(each.runs))
            for each in matrix.rows
        ],
        "took": duration(seconds),
        "command": command,
    }
    page = write_document(folder, "matrix", "matrix", title, context)
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


def _line(cell: Cell) -> tuple[object, ...]:
    numbers = cell.numbers
    reason, auroc = numbers["undefined"], numbers["auroc"]
    spread = f"; {min(auroc.seeds):.3f} to {max(auroc.seeds):.3f}" if len(auroc.seeds) > 1 else ""
    return (
        Markdown(f"**{plain(cell.row)}**") if cell.internal else cell.row,
        Markdown(f"**{plain(cell.column)}** (internal)") if cell.internal else cell.column,
        f"{numbers['n']} ({numbers['n_positive']}), {numbers['n_patients']}",
        f"undefined: {reason}" if reason else f"{auroc}{spread}",
        *(numbers[metric] for metric in _METRICS[1:]),
    )


def _methods(matrix: Matrix) -> list[str]:
    """What the intervals are."""
    cells = [cell for cell in matrix.cells if not cell.numbers["undefined"]]
    return sorted({cell.numbers["auroc"].method.partition(" (")[0] for cell in cells})


def _small(matrix: Matrix) -> list[str]:
    """Cells with too few patients for a bootstrap, and how many."""
    return [
        f"{cell.row} on {cell.column}{method.rpartition(';')[2].partition(':')[0]}"
        for cell in matrix.cells
        if "too narrow" in (method := cell.numbers["auroc"].method)
    ]


def _without_lungs(matrix: Matrix) -> tuple[tuple[str, ...], list[tuple[object, ...]], list[tuple[str, str]]]:
    """Classifiers without a lung on the same cells: their names, a row for each cell, and what each one sees."""
    cells = [cell for cell in matrix.cells if cell.lung_free]
    if not cells:
        return (), [], []
    first = cells[0].lung_free
    rows = []
    for cell in cells:
        values = {name: f"{found['auroc'].value:.2f}" for name, found in cell.lung_free.items()}
        shown = [Markdown(f"**{values[name]}**") if name == cell.best else values[name] for name in first]
        best = cell.lung_free[cell.best]["auroc"] if cell.best else None
        rows.append((cell.row, _where(cell), cell.numbers["auroc"], best, *shown))
    heads = tuple(name if found["lung_free"] else f"{name} (perhaps some lung)" for name, found in first.items())
    return heads, rows, [(name, found["sees"]) for name, found in first.items()]


def _in_common(cell: Cell) -> tuple[object, ...]:
    counts = [cell.shared[key] if cell.shared["checked"] else "NOT CHECKED" for key in ("films", "patients", "removed")]
    return cell.row, _where(cell), cell.shared["images"], *counts, cell.numbers["n"]


def _where(cell: Cell) -> str:
    return f"{cell.column} (internal)" if cell.internal else cell.column


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
        note = "Line: interval over patients; dots: seeds; drop: own minus other place, with its interval."
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
