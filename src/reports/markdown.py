"""Words and tables of reports, in Markdown: the one place where text of others becomes a part of a document."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from cxrlab.console import one_line, printable
from cxrlab.datamodules import manifest as mf
from cxrlab.evaluation.statistics import METRICS

NOT_RECORDED = "not recorded"
LABELS = mf.NAMES
NAMES = {name: name.upper() if name in ("ppv", "npv", "auroc", "ap", "f1") else name.capitalize() for name in METRICS}


class Markdown(str):
    """Text that is Markdown, as the program wrote it, so that nothing escapes it again."""


def plain(text: object) -> Markdown:
    """Text as Markdown that shows it as it is, on one line: names of files and patients may hold anything.

    Only what Markdown would take for markup is escaped, so that the Markdown file stays readable too.
    """
    if isinstance(text, Markdown):
        return text
    line = one_line(text)
    line = re.sub(r"([\\`*])", r"\\\1", line)
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|~(?=~)|(?<=~)~", r"\\\g<0>", line)
    # A link or a picture needs ](, ][ or ]:, and the caption of a picture ends at a bracket that nothing opened.
    if re.search(r"\][(\[:]", line) or not _balanced(line):
        line = re.sub(r"([\[\]])", r"\\\1", line)
    return Markdown(re.sub(r"^([#>+=-])(?=\s|$|[=-])|^(\d+)([.)])(?=\s|$)", _at_start, line))


def _at_start(found: re.Match[str]) -> str:
    """A mark that would begin a heading, a quotation or a list, escaped."""
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"


def _balanced(line: str) -> bool:
    depths = list(itertools.accumulate((character == "[") - (character == "]") for character in line))
    return not depths or (min(depths) >= 0 and depths[-1] == 0)


def code(text: object) -> Markdown:
    """Text as code within a line."""
    line = one_line(text) or " "
    fence = _fence(line, 1)
    return Markdown(f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}")


def strong(text: object) -> Markdown:
    """Text that stands out."""
    return Markdown(f"**{plain(text)}**")


def code_block(text: str, language: str = "") -> Markdown:
    """Lines as a block of code, whatever stands in them."""
    fence = _fence(text, 3)
    return Markdown(f"{fence}{language}\n{printable(text)}\n{fence}")


def _fence(text: str, shortest: int) -> str:
    return "`" * max(shortest, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))


def markdown_table(rows: Iterable[Sequence[object]], header: Sequence[str]) -> Markdown:
    """Returns a Markdown table; a cell that is no :class:`Markdown` is text, ``None`` is an empty cell.

    Args:
        rows: Cells, each row as long as the header.
        header: Names of the columns.

    Raises:
        ValueError: If a row is not as long as the header.
    """
    lines = [_row(header), "|" + " --- |" * len(header)]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a table row must have {len(header)} cells ({', '.join(header)}), got {list(row)!r}")
        lines.append(_row(row))
    return Markdown("\n".join(lines))


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(plain("" if cell is None else cell).replace("|", "\\|") for cell in cells) + " |"


def flow_table(flow: pd.DataFrame) -> Markdown:
    """The flow of cases, see :mod:`cxrlab.datamodules.flow`, as a Markdown table."""
    header = ("Source", "Step", "Images removed", "Images left", "Patients left")
    columns = ("source", "step", "removed", "images", "patients")
    return markdown_table(([row[column] for column in columns] for row in flow.to_dict("records")), header)


def number(value: Any, form: str) -> str:
    """The value in a format, or that it was not recorded."""
    return NOT_RECORDED if value is None else format(value, form)
