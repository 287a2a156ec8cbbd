"""A comparison as files: a page for people, tables for programs, and figures."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab.evaluation.baselines import DESCRIPTIONS
from cxrlab.evaluation.estimate import Estimate, wilson
from cxrlab.figures import Point, Row, forest, save
from cxrlab.files import write_csv
from cxrlab.reports.cautions import warnings
from cxrlab.reports.comparison import Comparison, against_baselines, best_by_validation, n_right
from cxrlab.reports.documents import NOT_RECORDED, by_method, known, write_document
from cxrlab.reports.paper import TRUE_FINDING, true_labels
from cxrlab.reports.settings import evaluated_checkpoint
from cxrlab.words import plural

LEVEL = 0.05
"""Below this a p value is counted: adjusted between settings, unadjusted against a baseline."""
_METRICS = {"accuracy": ("accuracy", None), "auroc": ("AUROC", 0.5)}
"""By key: the word for a metric, and what guessing gives."""
_DRAWN = 12  # pairs of settings in a figure, at most


def write_comparison(comparison: Comparison, folder: Path, command: str = "") -> dict[str, Path]:
    """Writes ``comparison.md``, ``.html`` and ``.csv``, ``pairs.csv``, ``runs.csv`` and the figures.

    Returns:
        The paths, by the name of the file.

    Raises:
        OSError: The folder cannot be written.
    """
    tables = {"comparison.csv": comparison.table, "pairs.csv": comparison.pairs, "runs.csv": comparison.runs}
    written = {name: folder / name for name in tables}
    for name, table in tables.items():
        write_csv(written[name], table)
    for name, figure in _figures(comparison).items():
        written[f"figures/{name}.png"] = save(figure, folder / f"figures/{name}.png")
    runs, settings = plural(len(comparison.runs), "run"), plural(len(comparison.settings), "setting")
    title = f"{'SYNTHETIC: ' if comparison.synthetic else ''}Comparison of {settings} ({runs})"
    context = _context(comparison) | {"figures": {*written}, "command": command}
    page = write_document(folder, "comparison", "comparison", title, context)
    return {"comparison.md": page.with_suffix(".md"), page.name: page, **written}


def _figures(comparison: Comparison) -> dict[str, Any]:
    """The means of seeds, a figure for each metric, and the differences of ensembles."""
    mark = "SYNTHETIC " if comparison.synthetic else ""
    drawn = {}
    for key, (word, chance) in _METRICS.items():
        means = [(name, found[key]) for name, found in comparison.means.items()]
        rows = [Row(name, [Point(found, found.seeds)], told=str(found)) for name, found in means]
        drawn[key] = forest(rows, f"{mark}{word}, mean of the seeds", metric=word, chance=chance)
    pairs = plain_rows(comparison.pairs)
    if 0 < len(pairs) <= _DRAWN:
        rows = [Row(f"{row['a']} - {row['b']}", [Point(_difference(row))]) for row in pairs]
        drawn["differences"] = forest(rows, f"{mark}AUROC, paired difference", metric="difference", chance=0)
    return drawn


def _context(comparison: Comparison) -> dict[str, Any]:
    """What the template ``comparison`` is filled with."""
    settings, rows, n = comparison.settings, plain_rows(comparison.table), comparison.settings[0].labels.size
    mark = "SYNTHETIC " if comparison.synthetic else ""
    people, positive = rows[0]["patients"], int(settings[0].labels.sum())
    config = settings[0].runs[0].config
    tables: dict[str, list[Any]] = {"results": [], "seeds": [], "ensembles": [], "cost": []}  # a row for each setting
    for setting, row in zip(settings, rows, strict=True):
        name, mean, ensemble = _marked(row), comparison.means[setting.name], comparison.ensembles[setting.name]
        both = images_right(row["right_min"], row["right_max"], n)
        tables["results"].append((name, mean["accuracy"], mean["auroc"], both, row["seeds"], _validation(row)))
        spread = (plus_minus(row[f"{metric}_mean"], row[f"{metric}_sd"]) for metric in _METRICS)
        limits = (_limits(row[f"accuracy_{of}_low"], row[f"accuracy_{of}_high"]) for of in ("one_run", "pooled"))
        runs_by_right = sorted(Counter(n_right(setting)).items())
        distribution = ", ".join(f"{right}: {plural(times, 'run')}" for right, times in runs_by_right)
        tables["seeds"].append((setting.name, distribution, *spread, *limits))
        tables["ensembles"].append((name, ensemble["accuracy"], ensemble["auroc"], f"{row['ensemble_right']} of {n}"))
        forms = {"parameters": ",.0f", "seconds_per_epoch": ".2f", "peak_memory_mb": ",.0f"}
        tables["cost"].append((name, *(known(row[key], form) for key, form in forms.items())))
    runs = [
        (run["folder"], _marked(run), run["seed"], run["fold"], f"{run['right']} of {run['images']}", run["weights"])
        for run in plain_rows(comparison.runs)
    ]
    return {
        "comparison": comparison,
        "mark": mark,
        "n": n,
        "people": people,
        "size": f"{plural(n, f'{mark}{comparison.split} image')} ({positive} Positive) of {plural(people, 'patient')}",
        "settings": rows,
        "runs": runs,
        **tables,
        "left_out": comparison.gathered.left_out,
        "level": f"{LEVEL:g}",
        "monitor": config.get("monitor"),
        "better": "smaller" if config.get("monitor_mode") == "min" else "larger",
        "mean_methods": _methods(comparison.means),
        "ensemble_methods": _methods(comparison.ensembles),
        "several_seeds": any(row["seeds"] > 1 for row in rows),
        "folds": any(len(repeat.runs) > 1 for setting in settings for repeat in setting.repeats),
        "evaluations": any(evaluated_checkpoint(setting.runs[0]) is not None for setting in settings),
        "true_findings": _true_findings(comparison),
        **_choice(comparison, rows),
        **_cautions(comparison),
        **_baselines(comparison),
        **_pairs(comparison),
    }


def _choice(comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best setting by validation, or why there is none, and from how many others the test images tell it."""
    names, reason = best_by_validation(comparison.settings)
    best = [row for row in rows if row["setting"] in names]
    pairs = plain_rows(comparison.pairs)
    own = [row for row in pairs if names in ([row["a"]], [row["b"]])]
    both = [[row[f"{key}_p_holm"] for key in _METRICS if row[f"{key}_p_holm"] is not None] for row in own or pairs]
    smallest = [min(found) for found in both if found]
    return {
        "best": names,
        "best_value": plus_minus(best[0]["validation_mean"], best[0]["validation_sd"]) if best else "",
        "no_best": reason,
        "tried": len(own or pairs),
        "of_best": bool(own),
        "apart": sum(p < LEVEL for p in smallest),
        "smallest_p": _p(min(smallest, default=None)),
    }


def _cautions(comparison: Comparison) -> dict[str, list[str]]:
    """The warnings of the runs, each once: those of the comparison and of all runs, and those of some runs."""
    runs = [run for setting in comparison.settings for run in setting.runs]
    counted = Counter(str(warning) for run in runs for warning in dict.fromkeys(warnings(run)))
    said = [f"{warning} (all runs)" for warning, times in counted.items() if times == len(runs)]
    some = [f"{warning} ({times} of {len(runs)} runs)" for warning, times in counted.items() if times < len(runs)]
    commits = {str(run.environment.get("git_commit")) for run in runs}
    if len(commits) > 1:
        said.append(f"the runs are of {len(commits)} versions of the code (git commits {', '.join(sorted(commits))})")
    if comparison.gathered.left_out:
        said.append(f"{plural(len(comparison.gathered.left_out), 'folder')} left out, see Repeat this")
    return {"cautions": said, "some": some}


def _methods(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    accuracy, auroc = ({name: each[key] for name, each in found.items()} for key in _METRICS)
    return by_method("accuracy", accuracy) | by_method("AUROC", auroc)


def _true_findings(comparison: Comparison) -> dict[str, Any] | None:
    runs = [run for setting in comparison.settings for run in setting.runs]
    if comparison.split != "test" or not all(run.of_the_paper for run in runs):
        return None
    labels = true_labels(comparison.settings[0].rows)
    n = labels.size
    rows = []
    for setting in comparison.settings:
        right = n_right(setting, labels)
        spread = statistics.stdev(value / n for value in right) if len(right) > 1 else None
        accuracy = plus_minus(statistics.fmean(value / n for value in right), spread)
        middle = wilson(statistics.median_low(right), n, comparison.how.confidence)
        rows.append((setting.name, images_right(min(right), max(right), n), accuracy, _limits(*middle)))
    labelled = int(comparison.settings[0].labels.sum())
    return {"positive": int(labels.sum()), "labelled": labelled, "finding": TRUE_FINDING, "rows": rows}


def _baselines(comparison: Comparison) -> dict[str, Any]:
    rows, lacking = [], []
    for setting in comparison.settings if comparison.split == "test" else ():
        found = against_baselines(setting)
        n, own, seeds = setting.labels.size, n_right(setting), len(setting.repeats)
        for name, tests in found.items():
            right, ps = zip(*tests, strict=True)
            low, high = _p(min(ps)), _p(max(ps))
            both = (images_right(min(each), max(each), n) for each in (right, own))
            tested = (low if low == high else f"{low} to {high}", f"{sum(p < LEVEL for p in ps)} of {len(ps)}")
            rows.append((setting.name, name.replace("_", " "), *both, *tested))
        recorded = max((len(tests) for tests in found.values()), default=0)
        if recorded < seeds:
            lacking.append(f"{setting.name}: {seeds - recorded} of {seeds}")
    descriptions = [(name.replace("_", " "), text) for name, text in DESCRIPTIONS.items()]
    return {"baselines": rows, "lacking": lacking, "descriptions": descriptions}


def _pairs(comparison: Comparison) -> dict[str, Any]:
    """Both tests of every pair, and the methods of the second by the pairs they are of."""
    accuracy, auroc, found = [], [], {}
    for row in plain_rows(comparison.pairs):
        a, b, difference = row["a"], row["b"], _difference(row)
        found[f"{a} - {b}"] = difference
        both = f"{row['accuracy_a']:.3f} - {row['accuracy_b']:.3f}"
        only = f"{row['only_a_right']} : {row['only_b_right']}"
        accuracy.append((a, b, both, only, _p(row["accuracy_p"]), _p(row["accuracy_p_holm"])))
        auroc.append((a, b, f"{difference:+.3f}", _p(row["auroc_p"]), _p(row["auroc_p_holm"])))
    return {"accuracy": accuracy, "auroc": auroc, "pair_methods": by_method("AUROC", found)}


def _difference(row: Mapping[str, Any]) -> Estimate:
    return Estimate(row["auroc_difference"], row["auroc_low"], row["auroc_high"], row["auroc_method"])


def plain_rows(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows as dicts in which what is absent is ``None`` and not NaN."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def images_right(low: int, high: int, n: int) -> str:
    """``39 to 40 of 40``."""
    return f"{low} of {n}" if low == high else f"{low} to {high} of {n}"


def plus_minus(mean: float | None, deviation: float | None) -> str:
    """``0.975 ± 0.012``; a spread that does not exist, of a single seed, is left out."""
    if mean is None:
        return "undefined"
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f} ± {deviation:.3f}"


def _marked(row: Mapping[str, Any]) -> str:
    return f"{row['setting']} (SYNTHETIC)" if row["synthetic"] else str(row["setting"])


def _limits(low: float | None, high: float | None) -> str:
    return "[no interval]" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _validation(row: Mapping[str, Any]) -> str:
    if row["validation_mean"] is None:
        return NOT_RECORDED
    where = " (of the test images)" if row["val_is_test"] else ""
    return f"{row['monitor']} {plus_minus(row['validation_mean'], row['validation_sd'])}{where}"


def _p(value: float | None) -> str:
    return "no test" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
