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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cxrlab.checks.base import Case, Section, Verdict
from cxrlab.checks.counting import splits
from cxrlab.console import DISCLAIMER, one_line
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.manifest import people
from cxrlab.files import write_json
from cxrlab.reports.markdown import code_block, markdown_table, plain
from cxrlab.reports.page import write_pages
from cxrlab.reports.sections import (
    Line,
    counted,
    counts,
    draw,
    duration,
    section_text,
    sections_as_json,
    verdict_lines,
    verdict_table,
    verdicts_as_json,
    versions,
    worst,
)
from cxrlab.words import MOST, plural

PACKAGES = (
    "cxrlab",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "opencv-python-headless",
    "pillow",
    "pydicom",
)
_MEANING = {
    Verdict.FAIL: "A number measured on this test set says little about the disease; what failed comes first below.",
    Verdict.WARN: "Nothing fails, yet a number measured on this test set should be told with the warnings below.",
    Verdict.NOT_CHECKED: "Nothing wrong was found in what could be checked; the rest is open.",
    Verdict.PASS: "Nothing wrong was found. That the labels are right, and that other hospitals agree, is not shown.",
}


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
    files = draw(folder, sections)
    lines = verdict_lines(sections)
    title = f"{'SYNTHETIC: ' if case.synthetic else ''}Audit of {one_line(case.name)}"
    parts = [_head(case, lines, title), verdict_table(lines), _flow(case)]
    parts += [section_text(section, files) for section in sections]
    parts.append(_repeat(case, seconds, command))
    # A file name that is not UTF-8 reaches Python as text that cannot be written.
    text = ("\n\n".join(part for part in parts if part) + "\n").encode(errors="replace").decode()
    _, page = write_pages(folder, "audit", text, title)
    write_json(folder / "audit.json", _as_json(case, sections, lines, files, seconds, command))
    return page


# The page -----------------------------------------------------------------------------------------------------------


def _head(case: Case, lines: Sequence[Line], title: str) -> str:
    parts = [f"# {plain(title)}"]
    if case.synthetic:
        parts.append("**SYNTHETIC: the images were drawn by a program. Nothing below says anything about patients.**")
    verdict = lines[0].finding.verdict if lines else Verdict.NOT_CHECKED
    where = ", ".join(f"{split} {count}" for split, count in _sizes(case).items())
    size = f"{plural(len(case.manifest), 'image')} of {plural(people(case.manifest).nunique(), 'patient')} ({where})"
    gone = f"; {plural(len(case.problems), 'file')} could not be read" if case.problems else ""
    claim = f" Positive is said to mean {plain(case.claim)}." if case.claim else ""
    parts += [counted(lines), _MEANING[verdict], f"{size}{gone}.{claim}"]
    return "\n\n".join([*parts, DISCLAIMER])


def _flow(case: Case) -> str:
    steps = case.flow.steps
    if not steps:
        return "## Flow of cases\n\nNOT CHECKED: the source keeps no flow of cases."
    rows = [(step.source, step.step, step.removed or None, step.images, step.patients) for step in steps]
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


def _repeat(case: Case, seconds: float, command: str) -> str:
    fingerprint = _fingerprint(case)
    packages = ", ".join(f"{name} {found}" for name, found in versions(PACKAGES).items())
    text = (
        f"Every draw follows from the seed {case.seed}: the same files give the same page. "
        + (f"Fingerprint of files, labels and splits: `{fingerprint}`. " if fingerprint else "")
        + "The numbers stand in [audit.json](audit.json) too. "
        f"This audit took {duration(seconds)}, with {packages}."
    )
    parts = ["## How to repeat it", text]
    if command:
        parts.append(code_block(command))
    return "\n\n".join(parts)


# Files --------------------------------------------------------------------------------------------------------------


def _as_json(
    case: Case, sections: Sequence[Section], lines: Sequence[Line], files: dict[str, str], seconds: float, command: str
) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": case.name,
        "synthetic": case.synthetic,
        "claim": case.claim,
        "verdict": str(worst(sections)),
        "counts": counts(lines),
        "images": len(case.manifest),
        "patients": int(people(case.manifest).nunique()),
        "splits": _sizes(case),
        "verdicts": verdicts_as_json(lines),
        "sections": sections_as_json(sections, files),
        "flow": [vars(step) for step in case.flow.steps],
        "problems": case.problems,
        "notes": list(case.notes),
        "fingerprint": _fingerprint(case),
        "seed": case.seed,
        "seconds": round(seconds, 3),
        "command": command,
        "versions": versions(PACKAGES),
    }


def _fingerprint(case: Case) -> str:
    hashed = "sha256" in case.manifest.columns and bool((case.manifest["sha256"] != "").all())
    return mf.fingerprint(case.manifest) if hashed else ""


def _sizes(case: Case) -> dict[str, int]:
    return {split: int((case.manifest["split"] == split).sum()) for split in splits(case.manifest)}
