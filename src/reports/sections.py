"""Sections of findings as a page, as JSON and on a terminal: what audits and probes have in common."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table as TerminalTable
from rich.text import Text

from cxrlab import figures
from cxrlab.checks.base import Finding, Section, Verdict
from cxrlab.console import one_line
from cxrlab.files import write_json
from cxrlab.reports.documents import Markdown, link, markdown_table, strong, write_document

_MOST = 4  # pictures at the top of a page
_BAD = (Verdict.FAIL, Verdict.WARN)
_EMPHASISED = {verdict: strong(verdict) if verdict in _BAD else Markdown(verdict) for verdict in Verdict}
_COLOURS = dict(zip(Verdict, ("bold red", "yellow", "cyan", "green"), strict=True))  # the most serious first


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
    """The verdict table for a terminal or a pipe: evidence is wrapped, never cut; colours only where they are shown."""
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
    lines, found, used = verdict_lines(sections), worst(sections), {"Python": platform.python_version()}
    for name in packages:
        with suppress(PackageNotFoundError):
            used[name] = version(name)
    files: dict[str, str] = {}
    for section in sections:
        for picture in section.pictures:
            if picture.name in files:
                raise ValueError(f"two pictures are called {picture.name!r}; the second is in section {section.title}")
            files[picture.name] = f"figures/{picture.name}.png"
            figures.save(picture.figure, folder / files[picture.name])
    counts = {str(verdict): sum(line.finding.verdict is verdict for line in lines) for verdict in Verdict}
    record = {**record, "verdict": str(found), "counts": counts}
    ours = {
        **_page(sections),
        "verdict": found,
        "meaning": meaning[found],
        "files": files,
        "counts": ", ".join(f"{count} {name}" for name, count in counts.items() if count),
        "took": duration(record["seconds"]),
        "packages": ", ".join(f"{name} {number}" for name, number in used.items()),
    }
    page = write_document(folder, stem, stem, title, {**record, **context, **ours})
    verdicts = [
        {
            "verdict": str(each.verdict),
            "check": each.check,
            "evidence": each.evidence,
            "weight": round(float(each.weight), 6),
            "section": section,
        }
        for section, each in lines
    ]
    written = []
    for section in sections:
        pictures = [{"file": files[one.name], "caption": one.caption, "files": one.files} for one in section.pictures]
        written.append({"title": section.title, "facts": section.facts, "pictures": pictures})
    whole = {"schema": 1, **record, "verdicts": verdicts, "sections": written}
    write_json(folder / f"{stem}.json", whole | {"seconds": round(record["seconds"], 3), "versions": used})
    return page


def duration(seconds: float) -> str:
    """``12.3 s`` or ``2 min 3 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _page(sections: Sequence[Section]) -> dict[str, Any]:
    """What the page says: at the top the reason, answers, open checks and telling pictures; then all findings."""
    lines, found = verdict_lines(sections), worst(sections)
    headings = {each.title: f"{each.title}: {worst([each])}" if each.findings else each.title for each in sections}
    reason = lines[0].finding.said if found in _BAD else ""
    answers, evidence = [], []
    for section in sections:
        own = [finding for _, finding in verdict_lines([section])]
        decides = bool(own) and found in _BAD and own[0].verdict is found
        answer = section.answer or (own[0].said if decides else "")
        answers += [(answer, headings[section.title])] if answer and answer != reason else []
        rows = [(_EMPHASISED[each.verdict], each.check, each.evidence) for each in own]
        evidence.append(markdown_table(rows, ("Verdict", "Check", "Evidence")) if rows else Markdown())

    def table(passed: bool) -> Markdown:
        those = [line for line in lines if (line.finding.verdict is Verdict.PASS) is passed]
        rows = [(_EMPHASISED[each.verdict], each.said, link(headings[title], each.check)) for title, each in those]
        return markdown_table(rows, ("Verdict", "What was found", "Check"))

    # The first picture of each section, the weightiest findings first and no findings last.
    order = list(dict.fromkeys(line.section for line in lines))
    there = [each for each in sections if each.pictures]
    there.sort(key=lambda section: order.index(section.title) if section.findings else len(order))
    shown = [each.pictures[0] for each in there[:_MOST]] if len(there) != 1 else list(there[0].pictures[:2])
    # As a part of another sentence: with a small letter, unless an abbreviation begins it, and no full stop.
    start = reason[:1].lower() if reason[1:2].islower() or reason[1:2] == " " else reason[:1]
    return {
        "reason": start + reason[1:].removesuffix("."),
        "answers": answers,
        "open": [link(headings[title], each.check) for title, each in lines if each.verdict is Verdict.NOT_CHECKED],
        "shown": shown,
        "verdicts": table(passed=False),
        "passed": sum(line.finding.verdict is Verdict.PASS for line in lines),
        "passed_verdicts": table(passed=True),
        "headings": headings,
        "sections": list(zip(sections, evidence, strict=True)),
    }
