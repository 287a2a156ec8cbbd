"""Words and tables of reports, in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.evaluation.statistics import METRICS

NOT_RECORDED = "not recorded"
LABELS = mf.NAMES
NAMES = {name: name.upper() if name in ("ppv", "npv", "auroc", "ap", "f1") else name.capitalize() for name in METRICS}
MOST = 8
"""Up to this many values (findings, sources, views) are listed by name; the rest is counted together."""


def markdown_table(rows: Iterable[Sequence[object]], header: Sequence[str]) -> str:
    """Returns a Markdown table; pipes and line breaks in cells are escaped, ``None`` is an empty cell.

    Args:
        rows: Cells, each row as long as the header.
        header: Names of the columns.

    Raises:
        ValueError: If a row is not as long as the header.
    """
    lines = [_row(header), _row(["---"] * len(header))]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a table row must have {len(header)} cells ({', '.join(header)}), got {list(row)!r}")
        lines.append(_row(row))
    return "\n".join(lines)


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(inline("" if cell is None else str(cell)).replace("|", "\\|") for cell in cells) + " |"


def flow_table(flow: pd.DataFrame) -> str:
    """The flow of cases, see :mod:`cxrlab.datamodules.flow`, as a Markdown table."""
    columns = ("source", "step", "removed", "images", "patients")
    header = ("Source", "Step", "Images removed", "Images left", "Patients left")
    return markdown_table(([row[column] for column in columns] for row in flow.to_dict("records")), header)


def interval(estimate: Mapping[str, Any]) -> str:
    """``0.975 [0.871, 0.996]``; says what is undefined or has no interval."""
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    if value is None:
        return "undefined"
    if low is None and high is None:
        return f"{value:.3f} [no interval]"
    return f"{value:.3f} [{'?' if low is None else f'{low:.3f}'}, {'?' if high is None else f'{high:.3f}'}]"


def tally(values: pd.Series[Any]) -> str:
    """Counts of values, commonest first: ``SARS 11, Streptococcus 5``."""
    counts = values.replace("", "not stated").value_counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    shown = [f"{value} {count}" for value, count in ordered[:MOST]]
    rest = ordered[MOST:]
    return ", ".join(shown + ([f"{len(rest)} others {sum(count for _, count in rest)}"] if rest else []))


def count(n: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def number(value: Any, form: str) -> str:
    """The value in a format, or that it was not recorded."""
    return NOT_RECORDED if value is None else format(value, form)


def median(values: Sequence[float] | None) -> str:
    """The median with two decimals, or that it was not recorded."""
    return f"{statistics.median(values):.2f}" if values else NOT_RECORDED


def or_not_recorded(value: Any) -> str:
    """The value as text, or that it was not recorded."""
    return NOT_RECORDED if value is None or value == "" else str(value)


def inline(text: str) -> str:
    """The text on one line."""
    return " ".join(text.split())
