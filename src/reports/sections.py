"""Sections of findings as a page, as JSON and on a terminal: what audits and probes have in common."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table as TerminalTable
from rich.text import Text

from cxrlab import figures
from cxrlab.checks.base import Finding, Picture, Section, Verdict
from cxrlab.console import one_line
from cxrlab.files import write_json
from cxrlab.reports.documents import link, write_document
from cxrlab.reports.markdown import Markdown, markdown_table, strong

_MOST = 4  # pictures at the top of a page
_BAD = (Verdict.FAIL, Verdict.WARN)
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


def write_findings(
    folder: Path,
    stem: str,
    title: str,
    sections: Sequence[Section],
    meaning: Mapping[Verdict, str],
    packages: Iterable[str],
    record: Mapping[str, Any],
    **context: Any,
) -> Path:
    """Writes ``<stem>.md``, ``<stem>.html``, ``<stem>.json`` and ``figures/*.png``.

    Args:
        folder: Where; made if need be, files of these names in it are replaced.
        stem: Name of the files and of the template.
        title: Of the page.
        sections: What was found, in the order of the page.
        meaning: What each verdict says of the whole.
        packages: Whose versions are recorded.
        record: What the JSON file holds beside verdicts and sections; ``synthetic``, ``seed``, ``seconds``, ``command``
            and ``fingerprint`` are on the page, too.
        context: What the template needs beside that.

    Returns:
        The path of the page.

    Raises:
        ValueError: If two pictures share a name.
        OSError: The folder cannot be written.
    """
    lines, found = verdict_lines(sections), worst(sections)
    files = _draw(folder, sections)
    headings = {each.title: f"{each.title}: {worst([each])}" if each.findings else each.title for each in sections}
    shown, used = _convincing(sections), _versions(packages)
    verdicts = [line.finding.verdict for line in lines]
    counts = {str(verdict): verdicts.count(verdict) for verdict in Verdict}
    reason = lines[0].finding.said if found in _BAD else ""
    passed = [line for line in lines if line.finding.verdict is Verdict.PASS]
    open_ = [line for line in lines if line.finding.verdict is Verdict.NOT_CHECKED]
    ours = {
        "verdict": found,
        "meaning": meaning[found],
        "reason": _clause(reason),
        "answers": [(text, headings[name]) for text, name in _answers(sections, found) if text != reason],
        "open": [_linked(line, headings) for line in open_],
        "shown": shown,
        "files": files,
        "counts": ", ".join(f"{count} {name}" for name, count in counts.items() if count),
        "verdicts": _verdict_table([line for line in lines if line not in passed], headings),
        "passed": len(passed),
        "passed_verdicts": _verdict_table(passed, headings),
        "headings": headings,
        "sections": [(section, _evidence(section)) for section in sections],
        "took": duration(record["seconds"]),
        "packages": ", ".join(f"{name} {number}" for name, number in used.items()),
    }
    page = write_document(folder, stem, stem, title, {**record, **context, **ours})
    said = {"verdict": str(found), "counts": counts, "verdicts": [_as_json(line) for line in lines]}
    written = [
        {
            "title": section.title,
            "facts": section.facts,
            "pictures": [
                {"file": files[one.name], "caption": one.caption, "files": one.files} for one in section.pictures
            ],
        }
        for section in sections
    ]
    seconds = round(record["seconds"], 3)
    whole = {"schema": 1, **record, **said, "sections": written, "seconds": seconds, "versions": used}
    write_json(folder / f"{stem}.json", whole)
    return page


def duration(seconds: float) -> str:
    """``12.3 s`` or ``2 min 3 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _linked(line: Line, headings: Mapping[str, str]) -> Markdown:
    """The name of a check, as a link to its section."""
    return link(headings[line.section], line.finding.check)


def _emphasised(verdict: Verdict) -> Markdown:
    """Bold where something is wrong."""
    return strong(verdict) if verdict in _BAD else Markdown(verdict)


def _verdict_table(lines: Iterable[Line], headings: Mapping[str, str]) -> Markdown:
    rows = [(_emphasised(line.finding.verdict), line.finding.said, _linked(line, headings)) for line in lines]
    return markdown_table(rows, ("Verdict", "What was found", "Check"))


def _evidence(section: Section) -> Markdown:
    """Everything that is known about the findings of a section, the most serious first; empty without findings."""
    rows = [(_emphasised(each.verdict), each.check, each.evidence) for _, each in verdict_lines([section])]
    return markdown_table(rows, ("Verdict", "Check", "Evidence")) if rows else Markdown()


def _clause(sentence: str) -> str:
    """A sentence as a part of another one: with a small letter, unless an abbreviation begins it, and no full stop."""
    start = sentence[:1].lower() if sentence[1:2].islower() or sentence[1:2] == " " else sentence[:1]
    return start + sentence[1:].removesuffix(".")


def _answers(sections: Sequence[Section], verdict: Verdict) -> list[tuple[str, str]]:
    """What each section has to say at the top: its own answer, or its weightiest finding if it decides the verdict."""
    found = []
    for section in sections:
        lines = verdict_lines([section])
        decides = bool(lines) and verdict in _BAD and lines[0].finding.verdict is verdict
        found.append((section.answer or (lines[0].finding.said if decides else ""), section.title))
    return [each for each in found if each[0]]


def _convincing(sections: Sequence[Section]) -> list[Picture]:
    """Up to four pictures: the first one of each section, the weightiest findings first and no findings last."""
    order = list(dict.fromkeys(line.section for line in verdict_lines(sections)))
    there = [each for each in sections if each.pictures]
    there.sort(key=lambda section: order.index(section.title) if section.findings else len(order))
    return [each.pictures[0] for each in there][:_MOST] if len(there) > 1 else [*there[0].pictures[:2]] if there else []


def _draw(folder: Path, sections: Iterable[Section]) -> dict[str, str]:
    """Saves all pictures; returns their files, relative to the folder, by name."""
    files: dict[str, str] = {}
    for section in sections:
        for picture in section.pictures:
            if picture.name in files:
                raise ValueError(f"two pictures are called {picture.name!r}; the second is in section {section.title}")
            files[picture.name] = f"figures/{picture.name}.png"
            figures.save(picture.figure, folder / files[picture.name])
    return files


def _as_json(line: Line) -> dict[str, Any]:
    """A finding as plain values."""
    section, found = line
    weight = round(float(found.weight), 6)
    said = {"verdict": str(found.verdict), "check": found.check, "evidence": found.evidence}
    return {**said, "weight": weight, "section": section}


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Of Python and of those packages that are installed."""
    found = {"Python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
