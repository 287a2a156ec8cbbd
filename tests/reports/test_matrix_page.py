"""The page of a matrix: what is told where something is missing."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from cxrlab.evaluation.estimate import Estimate, SeedMean
from cxrlab.reports.matrix_page import Cell, Matrix, terminal_matrix, write_matrix


def estimate(value: float | None, method: str = "patient bootstrap 95 % (2000 resamples)") -> SeedMean:
    if value is None:
        return SeedMean.undefined("no positive images")
    return SeedMean(value, value - 0.05, value + 0.05, method, (value - 0.01, value + 0.01))


def cell(row: str, column: str, value: float | None, *, checked: bool = True, internal: bool = False) -> Cell:
    counts = {"n": 30, "n_patients": 20, "n_positive": 10, "n_negative": 20}
    undefined = None if value is not None else "no positive images"
    metrics = {name: estimate(value) for name in ("auroc", "sensitivity", "specificity")}
    number = 7 if checked else None
    shared = {"images": 37, "films": number, "patients": number, "removed": number, "unread": 0, "checked": checked}
    corners = {"sees": "grey levels", "lung_free": True, "training": 0.9, "auroc": estimate(0.88)}
    known = {"corners": corners} if value is not None and checked else {}
    numbers = {**counts, "undefined": undefined, **metrics}
    return Cell(row, column, internal, shared, numbers, known, "corners" if known else "")


def row(*values: Any) -> dict[str, Any]:
    return dict(zip(("name", "what", "seeds", "images", "patients", "runs"), values, strict=True))


def column(*values: Any) -> dict[str, Any]:
    return dict(zip(("name", "what", "claim", "notes", "synthetic"), values, strict=True))


def made() -> Matrix:
    drop = Estimate(0.3, 0.2, 0.4, "MOVER")
    return Matrix(
        rows=[
            row("a", "data=a", ["0", "1"], 100, 80, ["runs/a"]),
            row("x|y", "trained before", ["?"], None, None, []),
        ],
        columns=[column("a", "data=a", "COVID-19", ["a note"], False), column("b", "data=b", "", [], False)],
        cells=[cell("a", "a", 0.9, internal=True), cell("a", "b", 0.6), cell("x|y", "b", None, checked=False)],
        drops=[{"row": "a", "internal": "a", "external": "b", "drop": drop}],
        pairs=[{"column": "a", "own": "a", "other": "x|y", "n": 30, "difference": drop}],
        failures=["x|y on a: out of memory"],
        notes=["x|y: on which images it was trained"],
        images="all",
        synthetic=False,
    )


def test_the_page_tells_every_number_and_what_is_missing(tmp_path: Path) -> None:
    page = write_matrix(tmp_path, made(), 3.0, "python src/matrix.py train='[a]'")
    text = (tmp_path / "matrix.md").read_text()
    assert page.read_text().count("<img ") == 2
    assert "falls most for what was trained on a and tested on b: by 0.300 [0.200, 0.400]." in text.partition("![")[0]
    assert "In 1 of 1 pair of places the fall is larger than chance" in text
    assert "| a | a (internal) | 0.900 [0.850, 0.950]; 0.890 to 0.910 | 30 (10), 20 |" in text
    assert "undefined: no positive images" in text
    assert "**WARNING**: not there: x|y on a: out of memory" in text
    assert "| x\\|y | b | 37 | NOT CHECKED | NOT CHECKED | NOT CHECKED | 30 |" in text
    assert "+0.300 [+0.200, +0.400]" in text
    assert "Positive is said to mean COVID-19" in text
    assert "what Positive means is not stated" in text
    assert "NOT CHECKED: x|y: on which images" in text
    assert "python src/matrix.py train='[a]'" in text


def test_numbers_stand_in_files_too(tmp_path: Path) -> None:
    write_matrix(tmp_path, made(), 3.0)
    found = json.loads((tmp_path / "matrix.json").read_text())
    assert found["schema"] == 1
    assert found["cells"][2]["numbers"]["auroc"]["value"] is None
    table = pd.read_csv(tmp_path / "matrix.csv")
    assert table["auroc_value"].tolist()[:2] == [0.9, 0.6]
    assert table["auroc_min"].iloc[0] == 0.89
    assert table["lung_free_auroc"].iloc[0] == 0.88
    assert table["undefined"].iloc[2] == "no positive images"


def test_drawn_images_are_marked_before_any_number(tmp_path: Path) -> None:
    write_matrix(tmp_path, dataclasses.replace(made(), synthetic=True), 3.0)
    text = (tmp_path / "matrix.md").read_text()
    assert text.startswith("# SYNTHETIC: ")
    assert "**SYNTHETIC: the images were drawn by a program." in text.partition("![")[0]


def test_the_terminal_shows_every_cell() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(terminal_matrix(made()))
    shown = console.export_text()
    for text in ("on a", "on b", "0.900", "[0.850, 0.950]", "n=30", "failed", "undefined: no positive images", "x|y"):
        assert text in shown


def test_the_first_sentence_says_where_nothing_falls_and_where_nothing_was_measured(tmp_path: Path) -> None:
    rise = Estimate(-0.1, -0.2, 0.05, "MOVER")
    matrix = dataclasses.replace(made(), drops=[{"row": "a", "internal": "a", "external": "b", "drop": rise}])
    write_matrix(tmp_path, matrix, 3.0)
    head = (tmp_path / "matrix.md").read_text().partition("![")[0]
    assert "The AUROC falls nowhere" in head
    assert "In 0 of 1 pair of places" in head
    write_matrix(tmp_path, dataclasses.replace(made(), drops=[]), 3.0)
    assert "No fall was measured" in (tmp_path / "matrix.md").read_text().partition("![")[0]
