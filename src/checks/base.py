"""What every check of an audit takes and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.manifest import COLUMNS
from cxrlab.datamodules.measurements import Measurements
from cxrlab.figures import Figure
from cxrlab.words import file_name


class Verdict(StrEnum):
    """How serious a finding is, the most serious first."""

    FAIL = "FAIL"
    WARN = "WARN"
    NOT_CHECKED = "NOT CHECKED"
    PASS = "PASS"


FAIL, WARN, NOT_CHECKED, PASS = Verdict


@dataclass(frozen=True)
class Finding:
    """One line of the verdict table.

    Attributes:
        check: What was looked at, a few words: ``patients in several splits``.
        verdict: What came of it.
        said: One short, plain sentence with the number that matters most; it is all that the verdict table shows.
        weight: Orders findings of one verdict, the largest first; 0 to 1, for example an AUROC's distance from 0.5
            times two, or the share of images concerned.
        details: Sentences with the other numbers: what was counted, of how many, with the interval where there is one.
    """

    check: str
    verdict: Verdict
    said: str
    weight: float = 0.0
    details: str = ""

    @property
    def evidence(self) -> str:
        """Everything that is known, on one line."""
        return f"{self.said} {self.details}".rstrip()


def not_checked(said: str, *checks: str) -> list[Finding]:
    """Says of several checks why they are NOT CHECKED."""
    return [Finding(check, NOT_CHECKED, said) for check in checks]


@dataclass(frozen=True)
class Table:
    """A table of the page. Cells are shown as text; ``None`` is an empty cell."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True)
class Picture:
    """A figure of the page, stored as ``figures/<name>.png``.

    Attributes:
        name: Of the file, and unique on the page.
        caption: What to see.
        files: Which image is which, for a contact sheet; may be long.
    """

    name: str
    caption: str
    figure: Figure
    files: str = ""


@dataclass(frozen=True)
class Section:
    """What one check found.

    Attributes:
        text: Paragraphs in Markdown: first what was done, in a sentence or two; then the method and the rules.
        tables: Shown after the pictures.
        pictures: The one that shows most comes first; it may stand at the top of the page.
        facts: The numbers again for ``audit.json``: plain JSON values only, no NaN.
        answer: A plain sentence for the top of the page; without one the weightiest finding may stand there.
    """

    title: str
    findings: Sequence[Finding]
    text: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    answer: str = ""


@dataclass(frozen=True)
class Case:
    """The data set under audit.

    Attributes:
        synthetic: Whether its images are drawn by a program.
        claim: What Positive is said to mean (``COVID-19``): a text that findings contain; may be empty.
        manifest: One row per usable image, index 0 to n - 1; the columns of the manifest with ``sha256``, ``film`` and
            a ``split`` on every row: train, test and, where the source has one of its own, val; perhaps
            ``collection``, ``age`` (years), ``sex`` (M, F), ``population`` (child, adult), ``device``, ``licence``,
            ``location``, ``date``, each empty where unknown.
        measured: Of every image, in the manifest's order.
        pairs: Pairs of images that are one radiograph, columns ``first`` and ``second`` (rows of the manifest),
            ``same_file``, ``distance`` (of the hashes, bits of 256), ``inliers`` (places on which they agree) and
            ``mirrored``.
        drawn: Whether the split was drawn by this program (by patient), rather than given by the source.
        val_is_test: Whether validation uses the test images.
        problems: Why images could not be read, by path.
        notes: What the source and the splitting have to say.
        seed: Of every draw.
        cache: Folder in which what was worked out from image files is kept; ``None`` keeps nothing.
        lost: The listed rows that could not be read, with the columns of the manifest that the source knows.
        judged: What a gate says of every image, in the manifest's order, columns ``verdict`` (accept, warn, refuse) and
            ``kind``; ``None`` without a gate.
    """

    name: str
    synthetic: bool
    claim: str
    manifest: pd.DataFrame
    measured: Measurements
    pairs: pd.DataFrame
    drawn: bool
    val_is_test: bool
    flow: Flow
    problems: dict[str, str]
    notes: Sequence[str]
    seed: int
    cache: Path | None = None
    lost: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*COLUMNS]))
    judged: pd.DataFrame | None = None

    @property
    def one_class(self) -> bool:
        """Whether all images have one label."""
        return self.manifest["label"].nunique() < 2

    def file_name(self, row: int) -> str:
        """Of an image, without its folder."""
        return file_name(self.manifest["path"].iloc[row])
