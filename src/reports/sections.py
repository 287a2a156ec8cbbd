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
from cxrlab.checks.base import Finding, Picture, Section, Verdict
from cxrlab.console import one_line
from cxrlab.reports.markdown import Markdown

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


def counted(lines: Sequence[Line]) -> Markdown:
    """The worst verdict, and how many findings have each: ``**FAIL**: 2 FAIL, 1 PASS.``."""
    verdict = lines[0].finding.verdict if lines else Verdict.NOT_CHECKED
    found = ", ".join(f"{count} {name}" for name, count in counts(lines).items() if count)
    return Markdown(f"**{verdict}**: {found or 'nothing was checked'}.")


def verdict_rows(lines: Sequence[Line]) -> list[tuple[object, ...]]:
    """The verdicts of a page as rows of its first table."""
    return [(emphasised(each.verdict), each.check, each.evidence, section) for section, each in lines]


def emphasised(verdict: Verdict) -> Markdown:
    """Bold where something is wrong."""
    return Markdown(f"**{verdict}**" if verdict in (Verdict.FAIL, Verdict.WARN) else verdict)


def by_verdict(findings: Sequence[Finding]) -> list[tuple[Verdict, list[str]]]:
    """The checks of a section by their verdicts, the most serious first."""
    found = [(verdict, [each.check for each in findings if each.verdict is verdict]) for verdict in Verdict]
    return [(verdict, names) for verdict, names in found if names]


def in_rows(pictures: Sequence[Picture]) -> Iterator[list[Picture]]:
    """Pictures that stand side by side where there is room: narrow ones that follow each other."""
    for narrow, group in itertools.groupby(pictures, lambda picture: picture.figure.get_figwidth() <= _NARROW):
        together = [*group]
        yield from [together] if narrow else [[each] for each in together]


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


def package_versions(packages: Iterable[str]) -> str:
    """The same in words: ``Python 3.12.1, numpy 2.3.0``."""
    return ", ".join(f"{name} {found}" for name, found in versions(packages).items())
