"""Several probes in one table: how often each verdict was given, and what was left of the AUROC on average.

``summary.json`` holds, with ``schema`` 1: ``runs`` (``ckpt``, ``folder``, ``synthetic``, ``verdict``), ``checks`` (by
check, how often each verdict was given), ``alterations`` (by name ``words``, ``mean``, ``low``, ``high``, ``from``,
``to``, ``runs``) and ``command``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

from cxrlab.checks.base import Verdict
from cxrlab.files import write_json
from cxrlab.reports.documents import write_document


def summarise_probes(probes: Mapping[str, Mapping[str, Any]], command: str = "") -> dict[str, Any]:
    """The numbers of several probes together.

    Args:
        probes: Contents of ``probe.json`` by the folder that holds it.
        command: What was typed.

    Returns:
        The contents of ``summary.json``.
    """
    checks: dict[str, dict[str, int]] = {}
    aurocs: dict[str, list[float]] = {}
    words: dict[str, str] = {}
    for probe in probes.values():
        for line in probe["verdicts"]:
            given = checks.setdefault(line["check"], {str(verdict): 0 for verdict in Verdict})
            given[line["verdict"]] += 1
        for row in probe["rows"]:
            if row["how"] == "tried" and row["auroc"]["value"] is not None:
                words[row["name"]] = row["words"]
                aurocs.setdefault(row["name"], []).append(row["auroc"]["value"])
    return {
        "schema": 1,
        "synthetic": any(probe["synthetic"] for probe in probes.values()),
        "runs": [
            {"ckpt": probe["ckpt"], "folder": folder, "synthetic": probe["synthetic"], "verdict": probe["verdict"]}
            for folder, probe in probes.items()
        ],
        "checks": checks,
        "alterations": {name: {"words": words[name], **_spread(values)} for name, values in aurocs.items()},
        "command": command,
    }


def write_summary(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Writes ``summary.md``, ``summary.html`` and ``summary.json``; returns the path of the page.

    Raises:
        OSError: The folder cannot be written.
    """
    runs = summary["runs"]
    context = {
        "check_header": check_header(),
        "checks": [(name, *given.values()) for name, given in summary["checks"].items()],
        "auroc_header": AUROC_HEADER,
        "aurocs": auroc_rows(summary),
        "models": [(run["verdict"], run["ckpt"], f"{Path(run['folder']).name}/probe.html") for run in runs],
        "command": summary["command"],
    }
    title = f"{'SYNTHETIC: ' if summary['synthetic'] else ''}{len(runs)} models probed"
    page = write_document(folder, "summary", "probes", title, context)
    write_json(folder / "summary.json", dict(summary))
    return page


AUROC_HEADER = ("Images", "Models", "AUROC, mean", "Range")


def check_header() -> tuple[str, ...]:
    """Header of the table of verdicts."""
    return ("Check", *(str(verdict) for verdict in Verdict))


def auroc_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the table of AUROCs."""
    rows: list[tuple[str, ...]] = []
    for each in summary["alterations"].values():
        limits = "[no interval]" if each["low"] is None else f"[{each['low']:.3f}, {each['high']:.3f}]"
        span = f"{each['from']:.3f} to {each['to']:.3f}"
        rows.append((each["words"], str(each["runs"]), f"{each['mean']:.3f} {limits}", span))
    return rows


def _spread(values: Sequence[float]) -> dict[str, Any]:
    mean, n = float(np.mean(values)), len(values)
    error = float(np.std(values, ddof=1)) / n**0.5 if n > 1 else 0.0
    half = float(student.ppf(0.975, n - 1)) * error if error else None
    return {
        "mean": mean,
        "low": None if half is None else max(0.0, mean - half),
        "high": None if half is None else min(1.0, mean + half),
        "from": min(values),
        "to": max(values),
        "runs": n,
    }
