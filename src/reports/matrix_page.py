"""A matrix of trained recipes and places as files: a page, figures, JSON and CSV; and a table for the terminal.

``matrix.json`` holds a :class:`Matrix` as plain values, with ``schema`` 1, ``command`` and ``seconds``.
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

from cxrlab.evaluation.estimate import Estimate
from cxrlab.figures import Point, Row, Square, forest, heat_map, save
from cxrlab.files import write_csv, write_json
from cxrlab.reports.documents import by_method, strong, write_document
from cxrlab.reports.sections import duration

_COMMON = ("films", "patients", "removed")


@dataclass(frozen=True)
class Cell:
    """One row on one column, by their names.

    Attributes:
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
    def lung_free_auroc(self) -> Any:
        """Of the best that sees no lung; ``None`` where there is none."""
        return self.lung_free[self.best]["auroc"].value if self.best else None


@dataclass(frozen=True)
class Matrix:
    """Everything that a page tells.

    Attributes:
        images: Which of each column, ``all`` or ``test``.
        synthetic: Whether any images were drawn by a program.
        rows: What was trained: ``name``, ``what`` it is, its ``seeds``, how many ``images`` and ``patients`` it was
            trained on (``None``: unknown), and its ``runs`` (folders).
        columns: The places: ``name``, ``what`` it is, ``claim`` (what Positive is said to mean there), ``notes`` and
            ``synthetic``.
        cells: Those that could be counted.
        drops: ``row``, ``internal`` and ``external`` (columns), and ``drop`` with its interval.
        pairs: ``column``, ``own`` and ``other`` (rows), ``n``, and ``difference`` of AUROCs on the same images.
        failures: What could not be trained or scored, and why.
        notes: What could not be checked.
    """

    images: str
    synthetic: bool
    rows: Sequence[Mapping[str, Any]]
    columns: Sequence[Mapping[str, Any]]
    cells: Sequence[Cell]
    drops: Sequence[Mapping[str, Any]]
    pairs: Sequence[Mapping[str, Any]]
    failures: Sequence[str]
    notes: Sequence[str]

    @property
    def mark(self) -> str:
        """Before what drawn images gave."""
        return "SYNTHETIC: " if self.synthetic else ""


def write_matrix(folder: Path, matrix: Matrix, seconds: float, command: str = "") -> Path:
    """Writes ``matrix.md``, ``.html``, ``.json``, ``.csv`` and ``figures/*.png``; returns the path of the page."""
    _draw(folder, matrix)
    known = [each for each in matrix.drops if each["drop"].value is not None]
    context = {
        "matrix": matrix,
        "worst": max(known, key=lambda each: each["drop"].value, default=None),
        "certain": sum(each["drop"].above(0) for each in known),
        "known": len(known),
        "drop_methods": by_method("falls", {f"{each['row']} to {each['external']}": each["drop"] for each in known}),
        **{name: [[*map(_told, row.values())] for row in getattr(matrix, name)] for name in ("rows", "drops", "pairs")},
        **_cells(matrix),
        "took": duration(seconds),
        "command": command,
    }
    page = write_document(folder, "matrix", "matrix", f"{matrix.mark}Trained here, tested there", context)
    plain = {"schema": 1, **asdict(matrix), "command": command, "seconds": round(seconds, 3)}
    write_json(folder / "matrix.json", plain)
    write_csv(folder / "matrix.csv", pd.DataFrame([_as_row(cell) for cell in matrix.cells]))
    return page


def terminal_matrix(matrix: Matrix) -> TerminalTable:
    """AUROC of every cell with interval and n; own held-out images are bold."""
    title = Text(f"{matrix.mark}AUROC, mean over seeds (bold: own held-out images)")
    table = TerminalTable("trained on", title=title, box=box.SIMPLE_HEAD)
    for column in matrix.columns:
        table.add_column(Text(f"on {column['name']}"), overflow="fold")
    table.columns[0].overflow = "fold"
    cells = {(cell.row, cell.column): cell for cell in matrix.cells}
    for row in matrix.rows:
        shown = [Text(row["name"])]
        for column in matrix.columns:
            cell = cells.get((row["name"], column["name"]))
            if cell is None:
                shown.append(Text("failed", style="red"))
            elif cell.numbers["undefined"]:
                shown.append(Text(cell.numbers["auroc"].method))
            else:
                told = f"{cell.numbers['auroc']} n={cell.numbers['n']}".replace(" [", "\n[").replace(" n", "\nn")
                shown.append(Text(told, style="bold" if cell.internal else ""))
        table.add_row(*shown)
    return table


def _cells(matrix: Matrix) -> dict[str, Any]:
    """Three tables with a row for each cell, and what is said of their numbers."""
    edges = next((cell.lung_free for cell in matrix.cells if cell.lung_free), {})
    cells, shared, lung_free, small = [], [], [], []
    for cell in matrix.cells:
        numbers, auroc = cell.numbers, cell.numbers["auroc"]
        place = (cell.row, f"{cell.column} (internal)" if cell.internal else cell.column)
        told = auroc.method if auroc.value is None else f"{auroc}"
        if len(auroc.seeds) > 1:
            told += f"; {min(auroc.seeds):.3f} to {max(auroc.seeds):.3f}"
        counts = f"{numbers['n']} ({numbers['n_positive']}), {numbers['n_patients']}"
        cells.append((*place, told, counts, numbers["sensitivity"], numbers["specificity"]))
        common = (cell.shared[key] if cell.shared["checked"] else "NOT CHECKED" for key in _COMMON)
        shared.append((*place, cell.shared["images"], *common, numbers["n"]))
        if cell.lung_free:
            shown = {name: f"{cell.lung_free[name]['auroc'].value:.2f}" for name in edges}
            bold = (strong(value) if name == cell.best else value for name, value in shown.items())
            best = cell.lung_free[cell.best]["auroc"] if cell.best else None
            lung_free.append((*place, auroc, best, *bold))
        if "too narrow" in auroc.method:
            small.append(f"{cell.row} on {cell.column}{auroc.method.rpartition(';')[2].partition(':')[0]}")
    defined = (cell.numbers["auroc"].method for cell in matrix.cells if not cell.numbers["undefined"])
    return {
        "cells": cells,
        "methods_of_cells": sorted({method.partition(" (")[0] for method in defined}),
        "small": small,
        "shared": shared,
        "lung_free": lung_free,
        "heads": [name if found["lung_free"] else f"{name} (perhaps some lung)" for name, found in edges.items()],
        "seen": [(name, found["sees"]) for name, found in edges.items()],
    }


def _told(value: object) -> object:
    """A cell of a table: a list as words, a difference with its sign."""
    if isinstance(value, Estimate):
        return value.method if value.value is None else f"{value:+.3f}"
    return ", ".join(value) if isinstance(value, list) else value


def _draw(folder: Path, matrix: Matrix) -> None:
    squares = {
        (cell.row, cell.column): Square(cell.numbers["auroc"], cell.numbers["n"], cell.internal, cell.lung_free_auroc)
        for cell in matrix.cells
    }
    names = [row["name"] for row in matrix.rows], [column["name"] for column in matrix.columns]
    save(heat_map(*names, squares, f"{matrix.mark}AUROC"), folder / "figures" / "matrix.png")
    if matrix.drops:
        falls = [
            Row(f"on {each['external']}", [Point(each["drop"])], f"trained on {each['row']}", f"{each['drop']:+.2f}")
            for each in matrix.drops
        ]
        title, metric = f"{matrix.mark}AUROC lost elsewhere", "AUROC at home less elsewhere"
        save(forest(falls, title, metric=metric, chance=0), folder / "figures" / "drop.png")


def _as_row(cell: Cell) -> dict[str, Any]:
    """A line of ``matrix.csv``, numbers unrounded."""
    row: dict[str, Any] = {"row": cell.row, "column": cell.column, "internal": cell.internal}
    row |= {key: cell.numbers[key] for key in ("n", "n_positive", "n_negative", "n_patients")}
    row |= {f"shared_{key}": cell.shared[key] for key in ("images", *_COMMON)}
    for metric in ("auroc", "sensitivity", "specificity"):
        found = cell.numbers[metric]
        row |= {f"{metric}_{key}": getattr(found, key) for key in ("value", "low", "high")}
        row |= {f"{metric}_min": min(found.seeds, default=None), f"{metric}_max": max(found.seeds, default=None)}
    row |= {"lung_free": cell.best, "lung_free_auroc": cell.lung_free_auroc}
    return row | {"undefined": cell.numbers["undefined"]}
