"""A matrix of trained recipes and places as files: a page, figures, JSON and CSV; and a table for the terminal.

``matrix.json`` holds a :class:`Matrix` as plain values, with ``schema`` 1, ``command`` and ``seconds``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table as TerminalTable
from rich.text import Text

from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures import Point, Row, Square, forest, heat_map, save
from cxrlab.files import write_csv, write_json
from cxrlab.reports.documents import by_method, strong, write_document
from cxrlab.reports.sections import duration

_METRICS = ("auroc", "sensitivity", "specificity")


@dataclass(frozen=True)
class RowFacts:
    """What was trained: what it is, its seeds, the images and patients of its training, and its run folders."""

    name: str
    what: str
    seeds: Sequence[str]
    images: int | None
    patients: int | None
    runs: Sequence[str]


@dataclass(frozen=True)
class ColumnFacts:
    """A place: what it is, what Positive is said to mean there, and what else is to be known of it."""

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

    @property
    def where(self) -> str:
        """The column, and whether it is the row's own."""
        return f"{self.column} (internal)" if self.internal else self.column

    @property
    def lung_free_auroc(self) -> float | None:
        """Of the best that sees no lung; ``None`` where there is none."""
        value: float | None = self.lung_free[self.best]["auroc"].value if self.best else None
        return value


@dataclass(frozen=True)
class Matrix:
    """Everything that a page tells.

    Attributes:
        images: Which of each column, ``all`` or ``test``.
        synthetic: Whether any images were drawn by a program.
        rows: What was trained.
        columns: The places that it was tested on.
        cells: Those that could be counted.
        drops: ``row``, ``internal`` and ``external`` (columns), and ``drop`` with its interval.
        pairs: ``column``, ``own`` and ``other`` (rows), ``n``, and ``difference`` of AUROCs on the same images.
        failures: What could not be trained or scored, and why.
        notes: What could not be checked.
    """

    images: str
    synthetic: bool
    rows: Sequence[RowFacts]
    columns: Sequence[ColumnFacts]
    cells: Sequence[Cell]
    drops: Sequence[Mapping[str, Any]]
    pairs: Sequence[Mapping[str, Any]]
    failures: Sequence[str]
    notes: Sequence[str]

    @property
    def mark(self) -> str:
        """Before what drawn images gave."""
        return "SYNTHETIC: " if self.synthetic else ""

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
    known = [each for each in matrix.drops if each["drop"].value is not None]
    with_edges = [cell for cell in matrix.cells if cell.lung_free]
    edges = with_edges[0].lung_free if with_edges else {}
    context = {
        "matrix": matrix,
        "cells": [_line(cell) for cell in matrix.cells],
        "methods_of_cells": sorted(
            {cell.numbers["auroc"].method.partition(" (")[0] for cell in matrix.cells if not cell.numbers["undefined"]}
        ),
        "small": [
            f"{cell.row} on {cell.column}{method.rpartition(';')[2].partition(':')[0]}"
            for cell in matrix.cells
            if "too narrow" in (method := cell.numbers["auroc"].method)
        ],
        "worst": max(known, key=lambda each: each["drop"].value, default=None),
        "certain": sum(each["drop"].above(0) for each in known),
        "known": len(known),
        "drops": [(each["row"], each["internal"], each["external"], _signed(each["drop"])) for each in matrix.drops],
        "drop_methods": by_method("falls", {f"{each['row']} to {each['external']}": each["drop"] for each in known}),
        "heads": [name if found["lung_free"] else f"{name} (perhaps some lung)" for name, found in edges.items()],
        "lung_free": [_without_lungs(cell, edges) for cell in with_edges],
        "seen": [(name, found["sees"]) for name, found in edges.items()],
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
    page = write_document(folder, "matrix", "matrix", f"{matrix.mark}Trained here, tested there", context)
    plain = {"schema": 1, **asdict(matrix), "command": command, "seconds": round(seconds, 3)}
    write_json(folder / "matrix.json", plain)
    write_csv(folder / "matrix.csv", _as_table(matrix))
    return page


def terminal_matrix(matrix: Matrix) -> TerminalTable:
    """AUROC of every cell with interval and n; own held-out images are bold."""
    title = Text(f"{matrix.mark}AUROC, mean over seeds (bold: own held-out images)")
    table = TerminalTable(title=title, box=box.SIMPLE_HEAD)
    table.add_column("trained on", overflow="fold")
    for column in matrix.columns:
        table.add_column(Text(f"on {column.name}"), overflow="fold")
    for row in matrix.rows:
        shown = [Text(row.name)]
        for column in matrix.columns:
            cell = matrix.cell(row.name, column.name)
            if cell is None:
                shown.append(Text("failed", style="red"))
            elif cell.numbers["undefined"]:
                shown.append(Text(cell.numbers["auroc"].method))
            else:
                told = f"{cell.numbers['auroc']} n={cell.numbers['n']}".replace(" [", "\n[").replace(" n", "\nn")
                shown.append(Text(told, style="bold" if cell.internal else ""))
        table.add_row(*shown)
    return table


def _line(cell: Cell) -> tuple[object, ...]:
    numbers = cell.numbers
    auroc = numbers["auroc"]
    spread = f"; {min(auroc.seeds):.3f} to {max(auroc.seeds):.3f}" if len(auroc.seeds) > 1 else ""
    return (
        cell.row,
        cell.where,
        auroc.method if auroc.value is None else f"{auroc}{spread}",
        f"{numbers['n']} ({numbers['n_positive']}), {numbers['n_patients']}",
        *(numbers[metric] for metric in _METRICS[1:]),
    )


def _without_lungs(cell: Cell, names: Iterable[str]) -> tuple[object, ...]:
    """Classifiers without a lung in one cell, the one that was best on the training images in bold."""
    best = cell.lung_free[cell.best]["auroc"] if cell.best else None
    shown = []
    for name in names:
        value = f"{cell.lung_free[name]['auroc'].value:.2f}"
        shown.append(strong(value) if name == cell.best else value)
    return cell.row, cell.where, cell.numbers["auroc"], best, *shown


def _in_common(cell: Cell) -> tuple[object, ...]:
    counts = [cell.shared[key] if cell.shared["checked"] else "NOT CHECKED" for key in ("films", "patients", "removed")]
    return cell.row, cell.where, cell.shared["images"], *counts, cell.numbers["n"]


def _signed(estimate: Estimate) -> str:
    return estimate.method if estimate.value is None else f"{estimate:+.3f}"


def _draw(folder: Path, matrix: Matrix) -> None:
    squares = {}
    for cell in matrix.cells:
        square = Square(cell.numbers["auroc"], cell.numbers["n"], cell.internal, cell.lung_free_auroc)
        squares[cell.row, cell.column] = square
    names = [row.name for row in matrix.rows], [column.name for column in matrix.columns]
    save(heat_map(*names, squares, f"{matrix.mark}AUROC"), folder / "figures" / "matrix.png")
    if matrix.drops:
        falls = []
        for each in matrix.drops:
            told = f"{each['drop']:+.2f}"
            falls.append(Row(f"on {each['external']}", [Point(each["drop"])], f"trained on {each['row']}", told))
        title = f"{matrix.mark}AUROC lost elsewhere"
        save(forest(falls, title, metric="AUROC at home less elsewhere", chance=0), folder / "figures" / "drop.png")


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
        row |= {"lung_free": cell.best, "lung_free_auroc": cell.lung_free_auroc, "undefined": cell.numbers["undefined"]}
        rows.append(row)
    return pd.DataFrame(rows)
