"""An audit as files: a page for people, JSON for programs; and its verdicts for the terminal.

``audit.json`` holds, with ``schema`` 1:

==============  ====================================================================================================
``name``        of the data set; ``synthetic``, whether a program drew it; ``claim``, what Positive is said to mean
``verdict``     the worst of all: FAIL, WARN, NOT CHECKED or PASS; ``counts``, how many findings have each
``images``      that were audited; ``patients``, an image of an unknown patient being one; ``splits``, images in each
``verdicts``    every finding, in the order of the page: ``verdict``, ``check``, ``evidence``, ``weight``, ``section``
``sections``    in the same order: ``title``, ``facts`` (the numbers), ``pictures`` (``file``, ``caption``, ``files``)
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

from cxrlab.checks.base import Case, Section, Verdict
from cxrlab.checks.counting import splits
from cxrlab.console import one_line
from cxrlab.datamodules import manifest as mf
from cxrlab.reports.sections import write_findings
from cxrlab.words import MOST, listed, plural

PACKAGES = ("cxrlab", "numpy", "pandas", "scipy", "scikit-learn", "opencv-python-headless", "pillow", "pydicom")
_MEANING = {
    Verdict.FAIL: "a number measured on this test set says little about the disease",
    Verdict.WARN: "nothing fails, but a number measured on this test set needs the warnings below beside it",
    Verdict.NOT_CHECKED: "nothing wrong was found in what could be checked, and the rest is open",
    Verdict.PASS: "nothing wrong was found, which does not show that the labels are right or other hospitals agree",
}


def write_audit(folder: Path, case: Case, sections: Sequence[Section], seconds: float, command: str = "") -> Path:
    """Writes ``audit.md``, ``audit.html``, ``audit.json`` and ``figures/*.png``; returns the path of the page.

    The sections are shown in the order in which they are given: the check-list comes last.

    Raises:
        ValueError: If two pictures share a name.
        OSError: The folder cannot be written.
    """
    manifest = case.manifest
    hashed = "sha256" in manifest.columns and bool((manifest["sha256"] != "").all())
    sizes = {split: int((manifest["split"] == split).sum()) for split in splits(manifest)}
    record = {
        "name": case.name,
        "synthetic": case.synthetic,
        "claim": case.claim,
        "images": len(manifest),
        "patients": int(mf.people(manifest).nunique()),
        "splits": sizes,
        "flow": [vars(step) for step in case.flow.steps],
        "problems": case.problems,
        "notes": list(case.notes),
        "fingerprint": mf.fingerprint(manifest) if hashed else "",
        "seed": case.seed,
        "seconds": seconds,
        "command": command,
    }
    context = {
        "sizes": ", ".join(f"{split} {count}" for split, count in sizes.items()),
        "steps": case.flow.table(),
        "sums": _adds_up(case) if case.flow.steps else "",
    }
    title = f"{'SYNTHETIC: ' if case.synthetic else ''}Audit of {one_line(case.name)}"
    return write_findings(folder, "audit", title, sections, _MEANING, PACKAGES, record, **context)


def _adds_up(case: Case) -> str:
    """Whether every image that was listed is either audited or removed by one step."""
    wrong = [
        f"{after.step} ({after.source})"
        for before, after in itertools.pairwise(case.flow.steps)
        if after.removed and before.images - after.removed != after.images
    ]
    last = case.flow.steps[-1].images
    if wrong:
        return f"WARNING: the flow does not add up at {listed(wrong, MOST)}."
    if last != len(case.manifest):
        unread = f"; {plural(len(case.problems), 'file')} could not be read" if case.problems else ""
        return f"The last line counts {plural(last, 'image')}, and {len(case.manifest)} were audited{unread}."
    return f"The flow adds up to the {plural(last, 'image')} that were audited."
