"""A comparison as files: a page for people, tables for programs, one figure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab import figures
from cxrlab.evaluation.baselines import DESCRIPTIONS
from cxrlab.evaluation.estimate import wilson
from cxrlab.files import write_csv
from cxrlab.reports.cautions import warnings
from cxrlab.reports.comparison import Comparison, against_baselines, aurocs, best_by_validation, n_right
from cxrlab.reports.documents import write_document
from cxrlab.reports.markdown import NOT_RECORDED, Markdown, number, plain
from cxrlab.reports.paper import TRUE_FINDING, true_labels
from cxrlab.reports.record import RunRecord
from cxrlab.reports.settings import evaluated_checkpoint
from cxrlab.words import plural

FIGURE = "figures/comparison.png"
LEVEL = 0.05
"""Below this an unadjusted p value against a baseline is counted."""


def write_comparison(comparison: Comparison, folder: Path, command: str = "") -> dict[str, Path]:
    """Writes ``comparison.md``, ``.html`` and ``.csv``, ``pairs.csv``, ``runs.csv`` and the figure.

    Args:
        comparison: What to write.
        folder: Where; made if need be, files of these names in it are replaced.
        command: What was typed, for the record.

    Returns:
        The paths, by the name of the file.

    Raises:
        OSError: The folder cannot be written.
    """
    tables = {"comparison.csv": comparison.table, "pairs.csv": comparison.pairs, "runs.csv": comparison.runs}
    for name, table in tables.items():
        write_csv(folder / name, table)
    figures.save(_figure(comparison), folder / FIGURE)
    page = write_document(folder, "comparison", "comparison", _title(comparison), _context(comparison, command))
    written = {name: folder / name for name in (*tables, FIGURE)}
    return {"comparison.md": page.with_suffix(".md"), page.name: page, **written}


# ---------------------------------------------------------------------------------------------- before the first number


def _title(comparison: Comparison) -> str:
    runs = plural(len(comparison.runs), "run")
    settings = plural(len(comparison.settings), "setting")
    return f"{'SYNTHETIC: ' if comparison.synthetic else ''}Comparison of {settings} ({runs})"


def _context(comparison: Comparison, command: str) -> dict[str, Any]:
    """What the template ``comparison`` is filled with."""
    first, runs = comparison.settings[0], [run for setting in comparison.settings for run in setting.runs]
    images = plural(first.labels.size, f"{_mark(comparison)}{comparison.options.split} image")
    people = plural(len(set(first.people)), "patient")
    return {
        "synthetic": comparison.synthetic,
        "mark": _mark(comparison),
        "split": comparison.options.split,
        "n": first.labels.size,
        "size": f"{images} ({int(first.labels.sum())} Positive) of {people}",
        "percent": f"{100 * comparison.options.confidence:g} %",
        "cautions": _cautions(comparison, runs),
        **_best(comparison),
        **_results(comparison),
        "folds": any(len(repeat.runs) > 1 for setting in comparison.settings for repeat in setting.repeats),
        "seeds": _seeds(comparison),
        "true_findings": _true_findings(comparison, runs),
        **_baselines(comparison),
        **_tests(comparison),
        "runs": [
            (
                row["folder"],
                _marked(row),
                row["seed"],
                row["fold"],
                f"{row['right']} of {row['images']}",
                row["weights"],
            )
            for row in plain_rows(comparison.runs)
        ],
        "left_out": [(str(folder), reason) for folder, reason in comparison.gathered.left_out],
        "evaluations": any(evaluated_checkpoint(setting.runs[0]) is not None for setting in comparison.settings),
        "command": command,
    }


def _cautions(comparison: Comparison, runs: Sequence[RunRecord]) -> list[str]:
    """The runs' own warnings, each once with how many runs have it, and those of the comparison."""
    counted = Counter(str(warning) for run in runs for warning in dict.fromkeys(warnings(run)))
    said = [
        f"{warning} ({'all runs' if times == len(runs) else f'{times} of {len(runs)} runs'})"
        for warning, times in counted.items()
    ]
    commits = {str(run.environment.get("git_commit")) for run in runs}
    if len(commits) > 1:
        said.append(f"the runs are of {len(commits)} versions of the code (git commits {', '.join(sorted(commits))})")
    if comparison.gathered.left_out:
        said.append(f"{plural(len(comparison.gathered.left_out), 'folder')} left out, see Runs")
    return said


def _best(comparison: Comparison) -> dict[str, Any]:
    if len(comparison.settings) < 2:
        return {"several_settings": False}
    names, reason = best_by_validation(comparison.settings)
    if not names:
        return {"several_settings": True, "best": [], "no_best": reason}
    run = comparison.settings[0].runs[0]
    row = next(row for row in plain_rows(comparison.table) if row["setting"] == names[0])
    return {
        "several_settings": True,
        "best": [Markdown(f"**{plain(name)}**") for name in names],
        "best_value": plus_minus(row["validation_mean"], row["validation_sd"]),
        "monitor": run.config.get("monitor"),
        "better": "smaller" if run.config.get("monitor_mode") == "min" else "larger",
    }


def _results(comparison: Comparison) -> dict[str, Any]:
    """What each setting got, seeds apart and together, and what it cost."""
    rows, worth = plain_rows(comparison.table), comparison.ensembles
    methods = {
        f"{name}: {found[metric].method}"
        for found in worth.values()
        for metric, name in (("accuracy", "accuracy"), ("auroc", "AUROC"))
    }
    return {
        "results": [
            (
                _marked(row),
                row["seeds"],
                images_right(row["right_min"], row["right_max"], row["images"]),
                plus_minus(row["accuracy_mean"], row["accuracy_sd"]),
                _limits(row["accuracy_one_run_low"], row["accuracy_one_run_high"]),
                _limits(row["accuracy_pooled_low"], row["accuracy_pooled_high"]),
                plus_minus(row["auroc_mean"], row["auroc_sd"]),
                _validation(row),
            )
            for row in rows
        ],
        # What the seeds of each setting say together, which is what is tested.
        "ensembles": [
            (_marked(row), f"{row['ensemble_right']} of {row['images']}", found["accuracy"], found["auroc"])
            for row in rows
            for found in [worth[row["setting"]]]
        ],
        "methods": sorted(methods),
        "cost": [
            (
                _marked(row),
                number(row["parameters"], ",.0f"),
                number(row["seconds_per_epoch"], ".2f"),
                number(row["peak_memory_mb"], ",.0f"),
            )
            for row in rows
        ],
    }


def _figure(comparison: Comparison) -> Any:
    rows = []
    for each in comparison.settings:
        worth, shares = comparison.ensembles[each.name], [right / each.labels.size for right in n_right(each)]
        rows.append(
            figures.Row(
                each.name, [[figures.Point(worth["accuracy"], shares)], [figures.Point(worth["auroc"], aurocs(each))]]
            )
        )
    first = comparison.settings[0]
    title = f"{_mark(comparison)}{comparison.options.split} images (n = {first.labels.size})"
    percent = f"{100 * comparison.options.confidence:g} %"
    note = (
        f"square and line: the mean score of all seeds, with its {percent} interval; dots: each seed alone, larger "
        "where several are equal"
    )
    return figures.forest(rows, title, note, panels={"accuracy": None, "AUROC": 0.5})


def _seeds(comparison: Comparison) -> list[tuple[str, ...]]:
    known = {row["setting"]: row for row in plain_rows(comparison.table)}
    return [
        (
            setting.name,
            distribution(n_right(setting)),
            *(
                _limits(known[setting.name][f"accuracy_{kind}_low"], known[setting.name][f"accuracy_{kind}_high"])
                for kind in ("one_run", "pooled")
            ),
        )
        for setting in comparison.settings
        if len(setting.repeats) > 1
    ]


def distribution(values: Sequence[int]) -> str:
    """``39: 3 runs, 40: 7 runs``."""
    return ", ".join(f"{value}: {plural(times, 'run')}" for value, times in sorted(Counter(values).items()))


def _true_findings(comparison: Comparison, runs: Sequence[RunRecord]) -> dict[str, Any] | None:
    if comparison.options.split != "test" or not all(run.of_the_paper for run in runs):
        return None
    labels = true_labels(comparison.settings[0].rows)
    n = labels.size
    rows = []
    for setting in comparison.settings:
        right = n_right(setting, labels)
        middle = wilson(statistics.median_low(right), n, comparison.options.confidence)
        accuracies = [value / n for value in right]
        spread = statistics.stdev(accuracies) if len(right) > 1 else None
        accuracy = plus_minus(statistics.fmean(accuracies), spread)
        rows.append((setting.name, images_right(min(right), max(right), n), accuracy, _limits(*middle)))
    labelled = int(comparison.settings[0].labels.sum())
    return {"positive": int(labels.sum()), "labelled": labelled, "finding": TRUE_FINDING, "rows": rows}


def _baselines(comparison: Comparison) -> dict[str, Any]:
    rows: list[tuple[str, ...]] = []
    lacking = []
    for setting in comparison.settings if comparison.options.split == "test" else ():
        found = against_baselines(setting)
        n, own = setting.labels.size, n_right(setting)
        rows += [
            (
                setting.name,
                name.replace("_", " "),
                images_right(min(right for right, _ in tests), max(right for right, _ in tests), n),
                images_right(min(own), max(own), n),
                _p_range([p for _, p in tests]),
                f"{sum(p < LEVEL for _, p in tests)} of {len(tests)}",
            )
            for name, tests in found.items()
        ]
        recorded = max((len(tests) for tests in found.values()), default=0)
        if recorded < len(setting.repeats):
            lacking.append(f"{setting.name}: {len(setting.repeats) - recorded} of {len(setting.repeats)}")
    descriptions = [(name.replace("_", " "), text) for name, text in DESCRIPTIONS.items()]
    return {"baselines": rows, "lacking": lacking, "descriptions": descriptions, "level": f"{LEVEL:g}"}


def _tests(comparison: Comparison) -> dict[str, Any]:
    pairs = plain_rows(comparison.pairs)
    accuracy = [
        (
            row["a"],
            row["b"],
            f"{row['accuracy_a']:.3f} - {row['accuracy_b']:.3f}",
            f"{row['only_a_right']} : {row['only_b_right']}",
            _p(row["accuracy_p"]),
            _p(row["accuracy_p_holm"]),
        )
        for row in pairs
    ]
    auroc = [(row["a"], row["b"], _difference(row), _p(row["auroc_p"]), _p(row["auroc_p_holm"])) for row in pairs]
    methods = [row["auroc_method"] for row in pairs]
    same = len(set(methods)) == 1
    return {
        "pairs": pairs,
        "reference": comparison.options.reference,
        "accuracy": accuracy,
        "one_method": methods[0] if same else "",
        "auroc": auroc if same else [(*row, method) for row, method in zip(auroc, methods, strict=True)],
    }


def _difference(row: dict[str, Any]) -> str:
    if row["auroc_difference"] is None:
        return "undefined"
    return f"{row['auroc_difference']:+.3f} {_limits(row['auroc_low'], row['auroc_high'])}"


# ---------------------------------------------------------------------------------------------------------------- words


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dicts in which what is absent is ``None`` and not NaN."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]


def _mark(comparison: Comparison) -> str:
    return "SYNTHETIC " if comparison.synthetic else ""


def _marked(row: dict[str, Any]) -> str:
    return f"{row['setting']} (SYNTHETIC)" if row["synthetic"] else str(row["setting"])


def images_right(low: int, high: int, n: int) -> str:
    """``39 to 40 of 40``."""
    return f"{low} of {n}" if low == high else f"{low} to {high} of {n}"


def plus_minus(mean: float | None, deviation: float | None) -> str:
    """``0.975 ± 0.012``; a spread that does not exist, of a single seed, is left out."""
    if mean is None:
        return "undefined"
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


def _limits(low: float | None, high: float | None) -> str:
    return "[no interval]" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _validation(row: dict[str, Any]) -> str:
    if row["validation_mean"] is None:
        return NOT_RECORDED
    where = " (of the test images)" if row["val_is_test"] else ""
    return f"{row['monitor']} {plus_minus(row['validation_mean'], row['validation_sd'])}{where}"


def _p(value: float | None) -> str:
    return "no test" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _p_range(values: Sequence[float]) -> str:
    low, high = _p(min(values)), _p(max(values))
    return low if low == high else f"{low} to {high}"
