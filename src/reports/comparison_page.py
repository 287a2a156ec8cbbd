"""A comparison as files: a page for people, tables for programs, one figure."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab import figures
from cxrlab.console import DISCLAIMER
from cxrlab.evaluation.baselines import DESCRIPTIONS
from cxrlab.evaluation.estimate import wilson
from cxrlab.files import write_csv
from cxrlab.reports.cautions import warnings
from cxrlab.reports.comparison import Comparison, against_baselines, aurocs, best_by_validation, n_right
from cxrlab.reports.markdown import NOT_RECORDED, code_block, markdown_table, number, plain
from cxrlab.reports.page import write_pages
from cxrlab.reports.paper import TRUE_FINDING, true_labels
from cxrlab.reports.settings import Setting, evaluated_checkpoint
from cxrlab.words import plural

FIGURE = "figures/comparison.png"
LEVEL = 0.05
"""Below this an unadjusted p value against a baseline is counted."""
NOT_CHECKED = (
    "other images: every number is of the images above, and another draw of test images can reverse an order",
    "how the split was drawn: seeds vary the training only, so the spread over seeds holds no spread over patients",
    "whether each setting was tuned with equal care, and how many settings were tried that are not listed here",
    "whether equal numbers mean equal reasons: shortcuts (borders, markers, brightness) raise all settings alike",
    "whether the labels are right: they are taken as the data set gives them",
)


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
    title = _title(comparison)
    parts = [
        _head(comparison, title),
        _best(comparison),
        _results(comparison),
        _seeds(comparison),
        _true_findings(comparison),
        _baselines(comparison),
        _pairs(comparison),
        _training(comparison),
        _runs(comparison, command),
        _not_checked(comparison),
    ]
    page, web_page = write_pages(folder, "comparison", "\n\n".join(part for part in parts if part) + "\n", title)
    written = {name: folder / name for name in (*tables, FIGURE)}
    return {page.name: page, web_page.name: web_page, **written}


# ---------------------------------------------------------------------------------------------- before the first number


def _title(comparison: Comparison) -> str:
    runs = plural(len(comparison.runs), "run")
    settings = plural(len(comparison.settings), "setting")
    return f"{'SYNTHETIC: ' if comparison.synthetic else ''}Comparison of {settings} ({runs})"


def _head(comparison: Comparison, title: str) -> str:
    lines = [f"# {title}"]
    if comparison.synthetic:
        lines.append("**SYNTHETIC: the images were drawn by a program. Nothing below says anything about patients.**")
    runs = [run for setting in comparison.settings for run in setting.runs]
    counted = Counter(plain(warning) for run in runs for warning in dict.fromkeys(warnings(run)))
    said = [f"{warning} ({_of(times, len(runs))})" for warning, times in counted.items()]
    commits = {str(run.environment.get("git_commit")) for run in runs}
    if len(commits) > 1:
        said.append(
            f"the runs are of {len(commits)} versions of the code (git commits {plain(', '.join(sorted(commits)))})"
        )
    if comparison.gathered.left_out:
        said.append(f"{plural(len(comparison.gathered.left_out), 'folder')} left out, see Runs")
    if said:
        lines.append("\n".join(f"- **WARNING:** {warning}" for warning in said))
    return "\n\n".join([*lines, DISCLAIMER])


def _of(times: int, runs: int) -> str:
    return "all runs" if times == runs else f"{times} of {runs} runs"


def _best(comparison: Comparison) -> str:
    if len(comparison.settings) < 2:
        return ""
    names, reason = best_by_validation(comparison.settings)
    if not names:
        return f"## Choice\n\nNo setting can be named the best: {plain(reason)}."
    run = comparison.settings[0].runs[0]
    monitor, mode = run.config.get("monitor"), "smaller" if run.config.get("monitor_mode") == "min" else "larger"
    row = next(row for row in plain_rows(comparison.table) if row["setting"] == names[0])
    value = plus_minus(row["validation_mean"], row["validation_sd"])
    equal = " and ".join(f"**{plain(name)}**" for name in names)
    return (
        f"## Choice\n\nBest on the validation images: {equal}, {plain(monitor)} {value} ({mode} is better; "
        "mean over seeds). The setting is chosen by validation alone: the test numbers below are reported, not chosen "
        "by."
    )


# ---------------------------------------------------------------------------------------------------------- the results


def _results(comparison: Comparison) -> str:
    mark = _mark(comparison)
    rows = [
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
        for row in plain_rows(comparison.table)
    ]
    percent = f"{100 * comparison.options.confidence:g} %"
    header = (
        *("Setting", "Seeds", "Right", "Accuracy", f"{percent} of one run", f"{percent} pooled", "AUROC", "Validation"),
    )
    first = comparison.settings[0]
    text = (
        f"{plural(first.labels.size, f'{mark}{comparison.options.split} image')} "
        f"({int(first.labels.sum())} Positive) of {plural(len(set(first.people)), 'patient')}, the same for every "
        "setting. Values are means over seeds ± standard deviation over seeds. One run: the Wilson interval of the run "
        "in the middle. Pooled: the Wilson interval of all seeds' answers together, which is too narrow, since all "
        "seeds share their images. Both take images as independent."
    )
    parts = ["## Results", text, markdown_table(rows, header)]
    if any(len(repeat.runs) > 1 for setting in comparison.settings for repeat in setting.repeats):
        parts.append(
            "Of settings with folds each image is scored by the network that did not train on it, and the folds are "
            "pooled; an AUROC then ranks scores of different networks."
        )
    parts += [_ensembles(comparison), f"![{mark}accuracy and AUROC of each setting]({FIGURE})"]
    return "\n\n".join(parts)


def _ensembles(comparison: Comparison) -> str:
    """What the seeds of each setting say together, which is what is tested below."""
    rows = [
        (
            _marked(row),
            f"{row['ensemble_right']} of {row['images']}",
            str(comparison.ensembles[row["setting"]]["accuracy"]),
            str(comparison.ensembles[row["setting"]]["auroc"]),
        )
        for row in plain_rows(comparison.table)
    ]
    methods = {
        f"{name}: {plain(found[metric].method)}"
        for found in comparison.ensembles.values()
        for metric, name in (("accuracy", "accuracy"), ("auroc", "AUROC"))
    }
    return "\n\n".join(
        [
            "### Seeds together",
            "One ensemble per setting: the mean score of its seeds for each image.",
            markdown_table(rows, ("Setting", "Right", "Accuracy", "AUROC")),
            "Intervals: " + "; ".join(sorted(methods)) + ".",
        ]
    )


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


def _seeds(comparison: Comparison) -> str:
    several = [setting for setting in comparison.settings if len(setting.repeats) > 1]
    if not several:
        return ""
    known = {row["setting"]: row for row in plain_rows(comparison.table)}
    rows = [
        (
            setting.name,
            distribution(n_right(setting)),
            *(
                _limits(known[setting.name][f"accuracy_{kind}_low"], known[setting.name][f"accuracy_{kind}_high"])
                for kind in ("one_run", "pooled")
            ),
        )
        for setting in several
    ]
    header = ("Setting", f"Right of {several[0].labels.size}", "Wilson interval of one run", "Pooled")
    return f"## What the seed changes\n\n{markdown_table(rows, header)}"


def distribution(values: Sequence[int]) -> str:
    """``39: 3 runs, 40: 7 runs``."""
    return ", ".join(f"{value}: {plural(times, 'run')}" for value, times in sorted(Counter(values).items()))


def _true_findings(comparison: Comparison) -> str:
    runs = [run for setting in comparison.settings for run in setting.runs]
    if comparison.options.split != "test" or not all(run.of_the_paper for run in runs):
        return ""
    labels = true_labels(comparison.settings[0].rows)
    n = labels.size
    rows = []
    for setting in comparison.settings:
        right = n_right(setting, labels)
        middle = wilson(statistics.median_low(right), n, comparison.options.confidence)
        accuracies = [value / n for value in right]
        spread = statistics.stdev(accuracies) if len(right) > 1 else None
        rows.append(
            (
                setting.name,
                images_right(min(right), max(right), n),
                plus_minus(statistics.fmean(accuracies), spread),
                _limits(*middle),
            )
        )
    positive, labelled = int(labels.sum()), int(comparison.settings[0].labels.sum())
    text = (
        f"Of the paper's test images, {positive} of the {labelled} labelled Positive show {TRUE_FINDING}. With only "
        "these as Positive, the same scores at the same threshold give:"
    )
    return "\n\n".join(
        [
            "## The same predictions, scored against the true findings",
            text,
            markdown_table(rows, ("Setting", "Right", "Accuracy", "Wilson interval of one run")),
            f"Always answering Negative would get {n - positive} of {n} right by this count.",
        ]
    )


def _baselines(comparison: Comparison) -> str:
    if comparison.options.split != "test":
        return ""
    rows = []
    lacking = []
    for setting in comparison.settings:
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
    header = ("Setting", "Baseline", "Baseline right", "Networks right", "p of each seed", f"p < {LEVEL:g}")
    parts = ["## Beside trivial baselines"]
    if rows:
        described = "\n".join(f"- {name.replace('_', ' ')}: {text}" for name, text in DESCRIPTIONS.items())
        test = "Exact McNemar of each seed's network against the baseline, on the same images; not adjusted for number."
        parts += [test, markdown_table(rows, header), described]
    if lacking:
        parts.append(f"Seeds of which the baselines are {NOT_RECORDED}: {plain('; '.join(lacking))}.")
    return "\n\n".join(parts)


# ------------------------------------------------------------------------------------------------------------- in pairs


def _pairs(comparison: Comparison) -> str:
    if comparison.pairs.empty:
        return ""
    pairs = plain_rows(comparison.pairs)
    first = pairs[0]
    against = f" against {plain(comparison.options.reference)}" if comparison.options.reference else ", all pairs"
    unit = (
        "The unit is one ensemble of seeds per setting: the mean score of its seeds gives each image one answer. "
        f"{first['images']} images of {plural(first['patients'], 'patient')}. p values are two-sided; those after Holm "
        f"are adjusted for {plural(len(pairs), 'pair')}, separately for accuracy and AUROC. No difference found is no "
        "proof of equality: on so few images only large differences can be found."
    )
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
    auroc = [
        (row["a"], row["b"], _difference(row), _p(row["auroc_p"]), _p(row["auroc_p_holm"]), row["auroc_method"])
        for row in pairs
    ]
    header = ("A", "B", "AUROC of A - B", "p", "p after Holm", "Method")
    same = len({row["auroc_method"] for row in pairs}) == 1
    return "\n\n".join(
        [
            f"## Tests{against}",
            unit,
            "### Accuracy",
            "Exact McNemar on the images that only one of the two has right. It takes images as independent.",
            markdown_table(accuracy, ("A", "B", "A - B", "Only A right : only B right", "p", "p after Holm")),
            "### AUROC",
            *([f"{plain(first['auroc_method'])}."] if same else []),
            markdown_table([row[:-1] for row in auroc] if same else auroc, header[:-1] if same else header),
        ]
    )


def _difference(row: dict[str, Any]) -> str:
    if row["auroc_difference"] is None:
        return "undefined"
    return f"{row['auroc_difference']:+.3f} {_limits(row['auroc_low'], row['auroc_high'])}"


# ------------------------------------------------------------------------------------------------------------- the runs


def _training(comparison: Comparison) -> str:
    rows = [
        (
            _marked(row),
            number(row["parameters"], ",.0f"),
            number(row["seconds_per_epoch"], ".2f"),
            number(row["peak_memory_mb"], ",.0f"),
        )
        for row in plain_rows(comparison.table)
    ]
    header = ("Setting", "Parameters", "Seconds per epoch (median)", "Peak memory, MB (largest)")
    return f"## Cost\n\n{markdown_table(rows, header)}"


def _runs(comparison: Comparison, command: str) -> str:
    rows = [
        (row["folder"], _marked(row), row["seed"], row["fold"], f"{row['right']} of {row['images']}", row["weights"])
        for row in plain_rows(comparison.runs)
    ]
    parts = ["## Runs", markdown_table(rows, ("Folder", "Setting", "Seed", "Fold", "Right", "Weights evaluated"))]
    if comparison.gathered.left_out:
        left_out = [(str(folder), reason) for folder, reason in comparison.gathered.left_out]
        parts += ["Left out:", markdown_table(left_out, ("Folder", "Why"))]
    parts.append("Unrounded: comparison.csv (settings), pairs.csv (tests), runs.csv (runs).")
    if command:
        parts += ["To repeat it:", code_block(command)]
    return "\n\n".join(parts)


def _not_checked(comparison: Comparison) -> str:
    lines = [*NOT_CHECKED]
    if any(_is_evaluation(setting) for setting in comparison.settings):
        lines.append("how the evaluated checkpoints were trained: a setting of evaluations is a checkpoint")
    return "## What was not checked\n\n" + "\n".join(f"- NOT CHECKED: {line}" for line in lines)


def _is_evaluation(setting: Setting) -> bool:
    return evaluated_checkpoint(setting.runs[0]) is not None


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
