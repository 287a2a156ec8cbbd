"""What several steps do together, for programs in Python: ``cxrlab.run_audit`` and ``cxrlab.metrics``."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxrlab.checks import Case, Section
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.datamodules import manifest as mf
from cxrlab.errors import ConfigError, DataError, did_you_mean
from cxrlab.evaluation.statistics import METRICS, summarise
from cxrlab.files import write_csv
from cxrlab.models.gate import Gate
from cxrlab.reports.audit_page import write_audit
from cxrlab.reports.sections import verdict_lines, worst
from cxrlab.steps.examine import examine, open_case


class Audit(NamedTuple):
    """An audit of a data set.

    Attributes:
        case: What was audited: the manifest with its splits, the measurements, the flow of cases.
        sections: What was found, in the order of the page.
        page: ``audit.html``; ``audit.json`` and ``audit.md`` are beside it.
    """

    case: Case
    sections: list[Section]
    page: Path

    @property
    def verdict(self) -> str:
        """The worst of all verdicts: FAIL, WARN, NOT CHECKED or PASS."""
        return str(worst(self.sections))

    def findings(self) -> pd.DataFrame:
        """One row per finding, the most serious first, columns ``verdict``, ``check``, ``evidence``, ``section``."""
        rows = [
            (str(finding.verdict), finding.check, finding.evidence, section)
            for section, finding in verdict_lines(self.sections)
        ]
        return pd.DataFrame(rows, columns=["verdict", "check", "evidence", "section"])


def run_audit(
    datamodule: ChestXRayDataModule, folder: str | os.PathLike[str], *, seed: int = 0, gate: Gate | None = None
) -> Audit:
    """Audits a data set, and writes a page about it, as ``src/audit.py`` does.

    Args:
        datamodule: Names the images and how they are split. It is not changed, and need not be set up.
        folder: Where ``audit.html``, ``audit.json``, ``audit.md``, ``figures/``, ``manifest.csv`` and ``flow.csv`` are
            written; made if need be.
        seed: Of every draw of the checks, at least 0.
        gate: Judges whether images are frontal chest films; ``None``: that is not checked.

    Raises:
        ConfigError: The folder holds an audit already.
        DataError: The data set has no image, or a class without any.
    """
    began = time.monotonic()
    folder = Path(folder).expanduser()
    if (folder / "audit.json").exists():
        raise ConfigError(f"{folder}: holds an audit already; choose another folder")
    case = open_case(copy.copy(datamodule), seed, gate)  # a copy, whose flow of cases is that of the audit
    return audit_case(case, folder, began)


def audit_case(
    case: Case, folder: Path, began: float, again: str = "", step: Callable[[str], None] = lambda name: None
) -> Audit:
    """Looks at a data set whose images are measured, and writes the page about it.

    Args:
        case: The data set.
        folder: Of the page.
        began: When the audit began, as ``time.monotonic`` has it.
        again: The command that repeats it; empty where there is none.
        step: Is told what begins.
    """
    # Before it is looked at, so that a killed audit leaves what it was about.
    mf.write(case.manifest, folder / "manifest.csv")
    write_csv(folder / "flow.csv", case.flow.table())
    sections = examine(case, step)
    step("writing the page")
    return Audit(case, sections, write_audit(folder, case, sections, time.monotonic() - began, again))


def metrics(predictions: pd.DataFrame, *, threshold: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """Returns every metric of a table of predictions with its 95 % interval.

    Args:
        predictions: One row per image: ``label`` (0 Negative, 1 Positive) and ``score`` (in [0, 1]). Images are
            resampled by ``patient_id``; without it, or where it is empty, each image counts as a patient of its own. A
            run's ``predictions.csv`` is such a table, once one ``split`` is chosen.
        threshold: An image is called Positive when its score is at least this, in [0, 1].
        seed: Of the bootstrap, at least 0.

    Returns:
        One row per metric, named in the index: ``value``, ``low`` and ``high`` (NaN where undefined), ``images`` and
        ``patients`` (how many there are in all), ``method`` (of the interval, or why there is none).

    Raises:
        DataError: A column is missing.
        ValueError: A label, a score or an argument is out of range.
    """
    for column in ("label", "score"):
        if column not in predictions:
            near = did_you_mean(column, map(str, predictions.columns))
            raise DataError(f"metrics: the table of predictions has no column {column!r}{near}")
    table = predictions.reset_index(drop=True)
    keys = pd.DataFrame({"path": table.index.astype(str), "patient_id": ""})
    known = table.columns.intersection(["path", "patient_id", "sha256", "film"])
    keys[known] = table[known].fillna("").astype(str)
    found = summarise(table["label"], table["score"], mf.people(keys).to_numpy(), threshold=threshold, seed=seed)
    rows = [{**asdict(found[name]), "images": found["n"], "patients": found["n_patients"]} for name in METRICS]
    columns = ["value", "low", "high", "images", "patients", "method"]
    return pd.DataFrame(rows, index=pd.Index(METRICS, name="metric"))[columns].astype(
        {"value": float, "low": float, "high": float}
    )
