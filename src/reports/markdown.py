"""Words and tables of reports, in Markdown: the one place where text of others becomes a part of a document."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from cxrlab.console import one_line, printable
from cxrlab.evaluation.statistics import METRICS

NOT_RECORDED = "not recorded"
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
    depths = [0, *itertools.accumulate((character == "[") - (character == "]") for character in line)]
    if re.search(r"\][(\[:]", line) or min(depths) < 0 or depths[-1]:
        line = re.sub(r"([\[\]])", r"\\\1", line)
    # A mark that would begin a heading, a quotation or a list; before it a number, if it is of a list.
    return Markdown(re.sub(r"^(?:(?=[#>+=-](?:\s|$|[=-]))|(\d+)(?=[.)](?:\s|$)))", r"\1\\", line))


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

    Raises:
        ValueError: If a row is not as long as the header.
    """
    lines = []
    for row in (header, *rows):
        if len(row) != len(header):
            raise ValueError(f"a table row must have {len(header)} cells ({', '.join(header)}), got {list(row)!r}")
        cells = (plain("" if cell is None else cell).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return Markdown("\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]]))


def flow_table(flow: pd.DataFrame) -> Markdown:
    """The flow of cases, see :mod:`cxrlab.datamodules.flow`, as a Markdown table."""
    rows = flow[["source", "step", "removed", "images", "patients"]].itertuples(index=False)
    return markdown_table(rows, ("Source", "Step", "Images removed", "Images left", "Patients left"))


def number(value: Any, form: str) -> str:
    """The value in a format, or that it was not recorded."""
    return NOT_RECORDED if value is None else format(value, form)
