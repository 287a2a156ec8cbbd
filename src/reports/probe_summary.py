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

from cxrlab.checks.base import Table, Verdict
from cxrlab.evaluation.estimate import Estimate
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
    models = [(run["verdict"], run["ckpt"], f"{Path(run['folder']).name}/probe.html") for run in runs]
    context = {"tables": summary_tables(summary), "models": models, "command": summary["command"]}
    title = f"{'SYNTHETIC: ' if summary['synthetic'] else ''}{len(runs)} models probed"
    page = write_document(folder, "summary", "probes", title, context)
    write_json(folder / "summary.json", dict(summary))
    return page


def summary_tables(summary: Mapping[str, Any]) -> list[Table]:
    """How often each verdict was given, and what was left of the AUROC; for a page or a terminal."""
    verdicts = [(name, *map(str, given.values())) for name, given in summary["checks"].items()]
    aurocs = []
    for each in summary["alterations"].values():
        mean = Estimate(each["mean"], each["low"], each["high"], "Student's t")
        aurocs.append((each["words"], str(each["runs"]), str(mean), f"{each['from']:.3f} to {each['to']:.3f}"))
    return [
        Table("How often each verdict was given", ("Check", *map(str, Verdict)), verdicts),
        Table("AUROC on altered images", ("Images", "Models", "AUROC, mean", "Range"), aurocs),
    ]


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
