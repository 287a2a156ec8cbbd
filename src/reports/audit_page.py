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
from cxrlab.console import one_line
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.manifest import people
from cxrlab.files import write_json
from cxrlab.reports.documents import write_document
from cxrlab.reports.markdown import plain
from cxrlab.reports.sections import (
    Line,
    counts,
    draw,
    duration,
    package_versions,
    sections_as_json,
    verdict_lines,
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
    context = {
        "synthetic": case.synthetic,
        "lines": lines,
        "meaning": _MEANING[worst(sections)],
        "size": _size(case),
        "claim": case.claim,
        "steps": [
            (each.source, each.step, each.removed or None, each.images, each.patients) for each in case.flow.steps
        ],
        "adds_up": _adds_up(case) if case.flow.steps else "",
        "notes": case.notes if case.flow.steps else (),
        "sections": sections,
        "files": files,
        "seed": case.seed,
        "fingerprint": _fingerprint(case),
        "took": duration(seconds),
        "packages": package_versions(PACKAGES),
        "command": command,
    }
    page = write_document(folder, "audit", "audit", title, context)
    write_json(folder / "audit.json", _as_json(case, sections, lines, files, seconds, command))
    return page


# The page -----------------------------------------------------------------------------------------------------------


def _size(case: Case) -> str:
    where = ", ".join(f"{split} {count}" for split, count in _sizes(case).items())
    size = f"{plural(len(case.manifest), 'image')} of {plural(people(case.manifest).nunique(), 'patient')} ({where})"
    return f"{size}; {plural(len(case.problems), 'file')} could not be read" if case.problems else size


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
