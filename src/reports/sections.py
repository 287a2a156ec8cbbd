"""Sections of findings as parts of a page, of a JSON file and of a terminal: what audits and probes have in common."""

from __future__ import annotations

import itertools
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table as TerminalTable
from rich.text import Text

from cxrlab import figures
from cxrlab.checks.base import Finding, Picture, Section, Table, Verdict
from cxrlab.console import one_line
from cxrlab.reports.markdown import Markdown, markdown_table, plain

_NARROW = 5.2  # inches; figures up to this width stand side by side where there is room
_COLOURS = {
    Verdict.FAIL: "bold red",
    Verdict.WARN: "yellow",
    Verdict.NOT_CHECKED: "cyan",
    Verdict.PASS: "green",
}


class Line(NamedTuple):
    """A finding with the title of its section."""

    section: str
    finding: Finding


def verdict_lines(sections: Sequence[Section]) -> list[Line]:
    """All findings, the most serious first, within a verdict the weightiest first."""
    order = list(Verdict)
    lines = [Line(section.title, finding) for section in sections for finding in section.findings]
    return sorted(lines, key=lambda line: (order.index(line.finding.verdict), -line.finding.weight))


def worst(sections: Sequence[Section]) -> Verdict:
    """The most serious verdict of all findings; NOT CHECKED where there is none."""
    lines = verdict_lines(sections)
    return lines[0].finding.verdict if lines else Verdict.NOT_CHECKED


def terminal_table(sections: Sequence[Section], title: str = "") -> TerminalTable:
    """The verdict table for a terminal or a pipe: evidence is wrapped, never cut; colours only where they are shown.

    Args:
        sections: What was found.
        title: Above the table.
    """
    table = TerminalTable(title=Text(title) if title else None, box=box.SIMPLE_HEAD)
    table.add_column("verdict", no_wrap=True)
    table.add_column("check: evidence", overflow="fold")
    for _, finding in verdict_lines(sections):
        said = Text.assemble((one_line(finding.check), "bold"), ": ", one_line(finding.evidence))
        table.add_row(Text(str(finding.verdict), style=_COLOURS[finding.verdict]), said)
    return table


def counted(lines: Sequence[Line]) -> str:
    """The worst verdict, and how many findings have each: ``**FAIL**: 2 FAIL, 1 PASS.``."""
    verdict = lines[0].finding.verdict if lines else Verdict.NOT_CHECKED
    found = ", ".join(f"{count} {name}" for name, count in counts(lines).items() if count)
    return f"**{verdict}**: {found or 'nothing was checked'}."


def verdict_table(lines: Sequence[Line]) -> str:
    """The verdicts of a page, as its first section."""
    rows = [
        (_emphasised(line.finding.verdict), line.finding.check, line.finding.evidence, line.section) for line in lines
    ]
    return "## Verdicts\n\n" + markdown_table(rows, ("Verdict", "Check", "Evidence", "Section"))


def _emphasised(verdict: Verdict) -> Markdown:
    return Markdown(f"**{verdict}**" if verdict in (Verdict.FAIL, Verdict.WARN) else verdict)


def section_text(section: Section, files: Mapping[str, str]) -> str:
    """A section of the page.

    Args:
        section: What was found.
        files: Of the pictures, by name, see :func:`draw`.
    """
    parts = [f"## {plain(section.title)}", _said(section.findings), *section.text]
    parts += [table_text(table) for table in section.tables]
    parts += _figures(section.pictures, files)
    return "\n\n".join(part for part in parts if part)


def _said(findings: Sequence[Finding]) -> str:
    """The verdicts of a section in a line, the evidence standing in the table at the top."""
    lines = []
    for verdict in Verdict:
        names = [plain(finding.check) for finding in findings if finding.verdict is verdict]
        if names:
            lines.append(f"{_emphasised(verdict)}: {'; '.join(names)}.")
    return " ".join(lines)


def table_text(table: Table) -> str:
    """A table with its caption."""
    return f"**{plain(table.caption)}**\n\n" + markdown_table(table.rows, table.header)


def _figures(pictures: Sequence[Picture], files: Mapping[str, str]) -> Iterator[str]:
    """Links to figures; narrow ones that follow each other are one paragraph, which is one row of the page."""
    for narrow, together in itertools.groupby(pictures, lambda picture: picture.figure.get_figwidth() <= _NARROW):
        links = [f"![{plain(picture.caption)}]({files[picture.name]})" for picture in together]
        if narrow:
            yield "\n".join(links)
        else:
            yield from links


def duration(seconds: float) -> str:
    """``12.3 s`` or ``2 min 3 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def draw(folder: Path, sections: Iterable[Section]) -> dict[str, str]:
    """Saves all pictures; returns their files, relative to the folder, by name."""
    files: dict[str, str] = {}
    for section in sections:
        for picture in section.pictures:
            if picture.name in files:
                raise ValueError(f"two pictures are called {picture.name!r}; the second is in section {section.title}")
            files[picture.name] = f"figures/{picture.name}.png"
            figures.save(picture.figure, folder / files[picture.name])
    return files


def verdicts_as_json(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """Every finding as plain values, in the order given."""
    return [
        {
            "verdict": str(finding.verdict),
            "check": finding.check,
            "evidence": finding.evidence,
            "weight": round(float(finding.weight), 6),
            "section": section,
        }
        for section, finding in lines
    ]


def sections_as_json(sections: Iterable[Section], files: Mapping[str, str]) -> list[dict[str, Any]]:
    """Title, numbers and pictures of each section as plain values."""
    return [
        {
            "title": section.title,
            "facts": section.facts,
            "pictures": [{"file": files[one.name], "caption": one.caption} for one in section.pictures],
        }
        for section in sections
    ]


def counts(lines: Iterable[Line]) -> dict[str, int]:
    """How many findings have each verdict."""
    verdicts = [line.finding.verdict for line in lines]
    return {str(verdict): verdicts.count(verdict) for verdict in Verdict}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    found = {"Python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
