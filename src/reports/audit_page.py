"""An audit as files: a page for people, JSON for programs; and its verdicts for the terminal.

``audit.json`` holds, with ``schema`` 1:

==============  ====================================================================================================
``name``        of the data set; ``synthetic``, whether a program drew it; ``claim``, what Positive is said to mean
``verdict``     the worst of all: FAIL, WARN, NOT CHECKED or PASS; ``counts``, how many findings have each
``images``      that were audited; ``patients``, an image of an unknown patient being one; ``splits``, images in each
``verdicts``    every finding, in the order of the page: ``verdict``, ``check``, ``evidence``, ``weight``, ``section``
``sections``    in the same order: ``title``, ``facts`` (the numbers behind it), ``pictures`` (``file``, ``caption``)
``flow``        the flow of cases, in order: ``source``, ``step``, ``removed``, ``images``, ``patients``
``problems``    why files could not be read, by path; ``notes``, what source and split have to say
``fingerprint`` over the bytes of all files, their labels and splits, as a run's; empty where a file was not hashed
``seed``        of every draw; ``seconds``, what the audit took; ``command``, what was typed, if known
``versions``    of Python, of this package and of those that read and count
==============  ====================================================================================================
"""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.table import Table as TerminalTable
from rich.text import Text

from cxrlab.checks.base import Case, Finding, Picture, Section, Table, Verdict
from cxrlab.checks.counting import plural, splits
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.manifest import people
from cxrlab.evaluation import figures
from cxrlab.files import write_json
from cxrlab.reports.markdown import DISCLAIMER, MOST, inline, markdown_table
from cxrlab.reports.page import write_pages

PACKAGES = (
    "cxrlab",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "statsmodels",
    "opencv-python-headless",
    "pillow",
    "pydicom",
)
_NARROW = 5.2  # inches; figures up to this width stand side by side where there is room
_COLOURS = {
    Verdict.FAIL: "bold red",
    Verdict.WARN: "yellow",
    Verdict.NOT_CHECKED: "cyan",
    Verdict.PASS: "green",
}
_MEANING = {
    Verdict.FAIL: "A number measured on this test set says little about the disease; what failed comes first below.",
    Verdict.WARN: "Nothing fails, yet a number measured on this test set should be told with the warnings below.",
    Verdict.NOT_CHECKED: "Nothing wrong was found in what could be checked; the rest is open.",
    Verdict.PASS: "Nothing wrong was found. That the labels are right, and that other hospitals agree, is not shown.",
}


class Line(NamedTuple):
    """A finding with the title of its section."""

    section: str
    finding: Finding


def write_audit(folder: Path, case: Case, sections: Sequence[Section], seconds: float, command: str = "") -> Path:
    """Writes ``audit.md``, ``audit.html``, ``audit.json`` and ``figures/*.png``.

    Args:
        folder: Where; made if need be, files of these names in it are replaced.
        case: The data set that was audited.
        sections: What was found, in the order of the page, the check-list last.
        seconds: What the audit took.
        command: What was typed, for the record.

    Returns:
        The path of ``audit.html``.

    Raises:
        ValueError: If two pictures share a name.
        OSError: The folder cannot be written.
    """
    files = _draw(folder, sections)
    lines = verdict_lines(sections)
    title = f"{'SYNTHETIC: ' if case.synthetic else ''}Audit of {_one_line(case.name)}"
    parts = [_head(case, lines, title), _verdicts(lines), _flow(case)]
    parts += [_section(section, files) for section in sections]
    parts.append(_repeat(case, seconds, command))
    # A file name that is not UTF-8 reaches Python as text that cannot be written.
    text = ("\n\n".join(part for part in parts if part) + "\n").encode(errors="replace").decode()
    _, page = write_pages(folder, "audit", text, title)
    write_json(folder / "audit.json", _as_json(case, sections, lines, files, seconds, command))
    return page


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
    table = TerminalTable(title=Text(_printable(title)) if title else None, box=box.SIMPLE_HEAD)
    table.add_column("verdict", no_wrap=True)
    table.add_column("check: evidence", overflow="fold")
    for _, finding in verdict_lines(sections):
        said = Text.assemble((_one_line(finding.check), "bold"), ": ", _one_line(finding.evidence))
        table.add_row(Text(str(finding.verdict), style=_COLOURS[finding.verdict]), said)
    return table


def plain(text: object) -> str:
    """Text as Markdown that shows it as it is, on one line: names of files and patients may hold anything.

    Only what Markdown would take for markup is escaped, so that the Markdown file stays readable too.
    """
    line = _one_line(str(text))
    line = re.sub(r"([\\`*])", r"\\\1", line)
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|~(?=~)|(?<=~)~", r"\\\g<0>", line)
    # A link or a picture needs ](, ][ or ]:, and the caption of a picture ends at a bracket that nothing opened.
    if re.search(r"\][(\[:]", line) or not _balanced(line):
        line = re.sub(r"([\[\]])", r"\\\1", line)
    return re.sub(r"^([#>+-])(?=\s|$)|^(\d+)([.)])(?=\s|$)", _at_start, line)


def _at_start(found: re.Match[str]) -> str:
    """A mark that would begin a heading, a quotation or a list, escaped."""
    return f"\\{found[1]}" if found[1] else f"{found[2]}\\{found[3]}"


def _balanced(line: str) -> bool:
    depths = itertools.accumulate((character == "[") - (character == "]") for character in line)
    deepest = list(depths)
    return not deepest or (min(deepest) >= 0 and deepest[-1] == 0)


def _one_line(text: str) -> str:
    return _printable(inline(text))


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor or turn the direction of writing."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


# The page -----------------------------------------------------------------------------------------------------------


def _head(case: Case, lines: Sequence[Line], title: str) -> str:
    parts = [f"# {plain(title)}"]
    if case.synthetic:
        parts.append("**SYNTHETIC: the images were drawn by a program. Nothing below says anything about patients.**")
    verdict = lines[0].finding.verdict if lines else Verdict.NOT_CHECKED
    counts = ", ".join(f"{count} {name}" for name, count in _counts(lines).items() if count)
    where = ", ".join(f"{split} {count}" for split, count in _sizes(case).items())
    size = f"{plural(len(case.manifest), 'image')} of {plural(people(case.manifest).nunique(), 'patient')} ({where})"
    gone = f"; {plural(len(case.problems), 'file')} could not be read" if case.problems else ""
    claim = f" Positive is said to mean {plain(case.claim)}." if case.claim else ""
    parts += [f"**{verdict}**: {counts or 'nothing was checked'}.", _MEANING[verdict], f"{size}{gone}.{claim}"]
    return "\n\n".join([*parts, DISCLAIMER])


def _verdicts(lines: Sequence[Line]) -> str:
    rows = [
        (
            _emphasised(line.finding.verdict),
            plain(line.finding.check),
            plain(line.finding.evidence),
            plain(line.section),
        )
        for line in lines
    ]
    return "## Verdicts\n\n" + markdown_table(rows, ("Verdict", "Check", "Evidence", "Section"))


def _emphasised(verdict: Verdict) -> str:
    return f"**{verdict}**" if verdict in (Verdict.FAIL, Verdict.WARN) else str(verdict)


def _flow(case: Case) -> str:
    steps = case.flow.steps
    if not steps:
        return "## Flow of cases\n\nNOT CHECKED: the source keeps no flow of cases."
    rows = [(plain(step.source), plain(step.step), step.removed or None, step.images, step.patients) for step in steps]
    parts = ["## Flow of cases", "What each step removed, and what was left. " + _adds_up(case)]
    parts.append(markdown_table(rows, ("Source", "Step", "Removed", "Images left", "Patients left")))
    if case.notes:
        parts.append("\n".join(f"- {plain(note)}" for note in case.notes))
    return "\n\n".join(parts)


def _adds_up(case: Case) -> str:
    """Whether every image that was listed is either audited or removed by one step."""
    wrong = [
        f"{after.step} ({after.source})"
        for before, after in itertools.pairwise(case.flow.steps)
        if after.removed and before.images - after.removed != after.images
    ]
    last = case.flow.steps[-1].images
    if wrong:
        return f"**It does not add up** at: {plain(', '.join(wrong[:MOST]))}."
    if last != len(case.manifest):
        unread = f"; {plural(len(case.problems), 'file')} could not be read" if case.problems else ""
        return f"The last line counts {plural(last, 'image')}, and {len(case.manifest)} were audited{unread}."
    return f"It adds up to the {plural(last, 'image')} that were audited."


def _section(section: Section, files: dict[str, str]) -> str:
    parts = [f"## {plain(section.title)}", _said(section.findings), *section.text]
    parts += [_table(table) for table in section.tables]
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


def _table(table: Table) -> str:
    rows = [[None if cell is None else plain(cell) for cell in row] for row in table.rows]
    return f"**{plain(table.caption)}**\n\n" + markdown_table(rows, [plain(name) for name in table.header])


def _figures(pictures: Sequence[Picture], files: dict[str, str]) -> Iterator[str]:
    """Links to figures; narrow ones that follow each other are one paragraph, which is one row of the page."""
    for narrow, together in itertools.groupby(pictures, lambda picture: picture.figure.get_figwidth() <= _NARROW):
        links = [f"![{plain(picture.caption)}]({files[picture.name]})" for picture in together]
        if narrow:
            yield "\n".join(links)
        else:
            yield from links


def _repeat(case: Case, seconds: float, command: str) -> str:
    fingerprint = _fingerprint(case)
    packages = ", ".join(f"{name} {found}" for name, found in _versions().items())
    text = (
        f"Every draw follows from the seed {case.seed}: the same files give the same page. "
        + (f"Fingerprint of files, labels and splits: `{fingerprint}`. " if fingerprint else "")
        + "The numbers stand in [audit.json](audit.json) too. "
        f"This audit took {_duration(seconds)}, with {packages}."
    )
    parts = ["## How to repeat it", text]
    if command:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", command)), default=0))
        parts.append(f"{fence}\n{_printable(command)}\n{fence}")
    return "\n\n".join(parts)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


# Files --------------------------------------------------------------------------------------------------------------


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


def _as_json(
    case: Case, sections: Sequence[Section], lines: Sequence[Line], files: dict[str, str], seconds: float, command: str
) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": case.name,
        "synthetic": case.synthetic,
        "claim": case.claim,
        "verdict": str(worst(sections)),
        "counts": _counts(lines),
        "images": len(case.manifest),
        "patients": int(people(case.manifest).nunique()),
        "splits": _sizes(case),
        "verdicts": [
            {
                "verdict": str(finding.verdict),
                "check": finding.check,
                "evidence": finding.evidence,
                "weight": round(float(finding.weight), 6),
                "section": section,
            }
            for section, finding in lines
        ],
        "sections": [
            {
                "title": section.title,
                "facts": section.facts,
                "pictures": [{"file": files[one.name], "caption": one.caption} for one in section.pictures],
            }
            for section in sections
        ],
        "flow": [vars(step) for step in case.flow.steps],
        "problems": case.problems,
        "notes": list(case.notes),
        "fingerprint": _fingerprint(case),
        "seed": case.seed,
        "seconds": round(seconds, 3),
        "command": command,
        "versions": _versions(),
    }


def _counts(lines: Iterable[Line]) -> dict[str, int]:
    verdicts = [line.finding.verdict for line in lines]
    return {str(verdict): verdicts.count(verdict) for verdict in Verdict}


def _fingerprint(case: Case) -> str:
    hashed = "sha256" in case.manifest.columns and bool((case.manifest["sha256"] != "").all())
    return mf.fingerprint(case.manifest) if hashed else ""


def _sizes(case: Case) -> dict[str, int]:
    return {split: int((case.manifest["split"] == split).sum()) for split in splits(case.manifest)}


def _versions() -> dict[str, str]:
    """Of Python and of the packages that are installed; those that are not are left out."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
