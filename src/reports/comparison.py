"""The numbers of a comparison: settings side by side, and in pairs on the same images."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from cxrlab.errors import ConfigError, did_you_mean
from cxrlab.evaluation import summarise
from cxrlab.evaluation.baselines import DESCRIPTIONS
from cxrlab.evaluation.estimate import USUAL, Estimate, Resampling, SeedMean, mean, wilson
from cxrlab.evaluation.paired import auroc_difference, holm, mcnemar
from cxrlab.evaluation.statistics import mean_auroc
from cxrlab.reports.record import RunRecord, mapping
from cxrlab.reports.settings import Gathered, Repeat, Setting, fold_of, images

BASELINE_THRESHOLD = 0.5
"""From this score on a trivial baseline calls an image Positive."""


@dataclass(frozen=True)
class Comparison:
    """Everything that a report says in numbers, unrounded.

    Attributes:
        reference: Name of the setting that the others are tested against; ``None``: all pairs.
        how: Intervals are made.
        table: One row per setting.
        pairs: One row per pair of settings that was tested.
        runs: One row per run.
        means: By setting: the means of its seeds' ``accuracy`` and ``auroc``, with intervals over patients.
        ensembles: By setting: :func:`cxrlab.evaluation.summarise` of one classifier, whose score is the mean of the
            seeds' scores.
    """

    gathered: Gathered
    split: str
    reference: str | None
    how: Resampling
    table: pd.DataFrame
    pairs: pd.DataFrame
    runs: pd.DataFrame
    means: dict[str, dict[str, SeedMean]]
    ensembles: dict[str, dict[str, Any]]

    @property
    def settings(self) -> list[Setting]:
        """What is compared."""
        return self.gathered.settings

    @property
    def synthetic(self) -> bool:
        """Whether any images were drawn by a program."""
        return any(run.synthetic for setting in self.settings for run in setting.runs)


def compare_settings(
    gathered: Gathered, split: str = "test", reference: str | None = None, how: Resampling = USUAL
) -> Comparison:
    """Computes every number of a comparison.

    Args:
        gathered: At least one setting, gathered for the split.
        split: ``test`` or ``val``.
        reference: Name of the setting that the others are tested against; ``None``: all pairs.
        how: Intervals are made.

    Raises:
        ConfigError: The reference is none of the settings.
    """
    names = [setting.name for setting in gathered.settings]
    if reference is not None and reference not in names:
        listed = "\n".join(f"""  'reference="{name}"'""" for name in names)
        raise ConfigError(
            f"reference={reference}: no such setting{did_you_mean(reference, names)}; type one of "
            f"these, with all quotes:\n{listed}"
        )
    means, ensembles, rows = {}, {}, []
    for each in gathered.settings:
        ensemble = summarise(each.labels, each.ensemble, each.people, threshold=each.threshold, **asdict(how))
        right = each.right(each.scores)
        # The mean of one seed is that seed, with the interval of its own report.
        found = ensemble["accuracy"] if len(right) == 1 else mean(right.mean(axis=0), each.people, how, share=True)
        accuracy = SeedMean(found.value, found.low, found.high, found.method, tuple(right.mean(axis=1).tolist()))
        auroc = mean_auroc(each.labels, each.scores, each.people, how)
        means[each.name], ensembles[each.name] = {"accuracy": accuracy, "auroc": auroc}, ensemble
        rows.append(_row(each, means[each.name], ensemble, how.confidence))
    # Of dtype object whole numbers stay whole beside what is absent.
    runs = pd.DataFrame([row for each in gathered.settings for row in _run_rows(each, split)], dtype=object)
    pairs = _pairs(gathered.settings, reference, ensembles, how)
    return Comparison(gathered, split, reference, how, pd.DataFrame(rows), pairs, runs, means, ensembles)


def n_right(setting: Setting, labels: npt.NDArray[np.int64] | None = None) -> list[int]:
    """How many images each seed has right, by the images' own labels or by others of shape (images,)."""
    return [int(count) for count in setting.right(setting.scores, labels).sum(axis=1)]


def validation(repeat: Repeat) -> float | None:
    """The monitored metric of the validation images at the epoch whose weights are evaluated; with folds, the mean."""
    values = [value for run in repeat.runs if (value := _monitored(run)) is not None]
    return statistics.fmean(values) if len(values) == len(repeat.runs) else None


def _monitored(run: RunRecord) -> float | None:
    """From ``metrics.json``, or, where that does not hold it (the loss), from the epoch's row of ``metrics.csv``."""
    monitor = str(run.config.get("monitor"))
    split, _, name = monitor.partition("/")
    if split != "val":
        return None
    found = mapping(run.metrics.get("val")).get(name)
    if isinstance(found, Estimate) and found.value is not None:
        return found.value
    epoch = re.search(r"epoch (\d+)", str(run.metrics.get("weights")))
    if epoch is None or run.history is None or monitor not in run.history:
        return None
    values = run.history.loc[run.history["epoch"] == int(epoch[1]), monitor].dropna()
    return float(values.iloc[-1]) if len(values) else None


def _row(setting: Setting, means: dict[str, SeedMean], ensemble: dict[str, Any], confidence: float) -> dict[str, Any]:
    right, n, runs = n_right(setting), setting.labels.size, setting.runs
    checked = [validation(repeat) for repeat in setting.repeats]
    # The table holds scikit-learn's AUROCs, whose last binary digit may differ from those behind the means.
    aurocs = [roc_auc_score(setting.labels, scores) for scores in setting.scores] if means["auroc"].seeds else []
    seconds = [value for run in runs for value in run.metrics.get("epoch_seconds") or []]
    memory = [value for run in runs if (value := run.metrics.get("peak_memory_mb")) is not None]
    parameters = {value for run in runs if (value := run.environment.get("parameters")) is not None}
    row: dict[str, Any] = {"setting": setting.name, "seeds": len(setting.repeats), "runs": len(runs), "images": n}
    row |= {"patients": len(set(setting.people)), "right_min": min(right), "right_max": max(right)}
    row |= _spread("accuracy", means["accuracy"].seeds)
    row |= _limits("accuracy_mean", means["accuracy"].low, means["accuracy"].high)
    row |= _limits("accuracy_one_run", *wilson(statistics.median_low(right), n, confidence))
    row |= _limits("accuracy_pooled", *wilson(sum(right), n * len(right), confidence))
    row |= _spread("auroc", aurocs) | _limits("auroc_mean", means["auroc"].low, means["auroc"].high)
    row |= {"monitor": runs[0].config.get("monitor"), **_spread("validation", [] if None in checked else checked)}
    row["ensemble_right"] = int(setting.right(setting.ensemble).sum())
    for metric in ("accuracy", "auroc"):
        name, found = f"ensemble_{metric}", ensemble[metric]
        row |= {name: found.value, **_limits(name, found.low, found.high)}
    return row | {
        "parameters": parameters.pop() if len(parameters) == 1 else None,
        "seconds_per_epoch": statistics.median(seconds) if seconds else None,
        "peak_memory_mb": max(memory, default=None),
        "val_is_test": any(run.val_is_test for run in runs),
        "synthetic": any(run.synthetic for run in runs),
    }


def _spread(name: str, values: Sequence[Any]) -> dict[str, float | None]:
    mean = statistics.fmean(values) if values else None
    return {f"{name}_mean": mean, f"{name}_sd": statistics.stdev(values) if len(values) > 1 else None}


def _limits(name: str, low: float | None, high: float | None) -> dict[str, float | None]:
    return {f"{name}_low": low, f"{name}_high": high}


def _run_rows(setting: Setting, split: str) -> Iterator[dict[str, Any]]:
    for repeat in setting.repeats:
        for run in repeat.runs:
            section = run.metrics[split]
            (tn, _), (_, tp) = section["confusion_matrix"]
            row: dict[str, Any] = {"folder": str(run.folder), "setting": setting.name}
            row |= {"seed": repeat.seed, "fold": fold_of(run), "right": tn + tp, "images": section["n"]}
            row |= {metric: section[metric].value for metric in ("accuracy", "auroc")}
            row |= {"monitor": run.config.get("monitor"), "validation": _monitored(run)}
            row |= {key: run.metrics.get(key) for key in ("weights", "epochs", "wall_seconds", "peak_memory_mb")}
            yield row | {"git_commit": run.environment.get("git_commit"), "synthetic": run.synthetic}


def _pairs(
    settings: Sequence[Setting], reference: str | None, ensembles: dict[str, dict[str, Any]], how: Resampling
) -> pd.DataFrame:
    """Tests the settings' ensembles against each other, both metrics adjusted for the number of pairs."""
    if reference is None:
        pairs = list(combinations(settings, 2))
    else:
        pairs = [(a, b) for b in settings if b.name == reference for a in settings if a is not b]
    accuracy = [mcnemar(a.right(a.ensemble), b.right(b.ensemble)) for a, b in pairs]
    auroc = [auroc_difference(a.labels, a.ensemble, b.ensemble, a.people, how) for a, b in pairs]
    columns: dict[str, list[Any]] = {"a": [a.name for a, _ in pairs], "b": [b.name for _, b in pairs]}
    columns |= {"images": [a.labels.size for a, _ in pairs], "patients": [len(set(a.people)) for a, _ in pairs]}
    columns |= {f"accuracy_{at}": [ensembles[name]["accuracy"].value for name in columns[at]] for at in "ab"}
    columns |= {f"only_{at}_right": [test[f"only_{at}"] for test in accuracy] for at in "ab"}
    columns["accuracy_p"] = [test["p"] for test in accuracy]
    columns["accuracy_p_holm"] = holm(columns["accuracy_p"])
    columns["accuracy_method"] = [test["method"] for test in accuracy]
    columns |= {f"auroc_{at}": [ensembles[name]["auroc"].value for name in columns[at]] for at in "ab"}
    columns["auroc_difference"] = [found.value for found in auroc]
    columns |= {f"auroc_{key}": [getattr(found, key) for found in auroc] for key in ("low", "high", "p")}
    columns["auroc_p_holm"] = holm(columns["auroc_p"])
    columns["auroc_method"] = [found.method for found in auroc]
    return pd.DataFrame(columns, dtype=object)


def against_baselines(setting: Setting) -> dict[str, list[tuple[int, float]]]:
    """Each trivial baseline beside each seed's network.

    Returns:
        By baseline, for each seed of which it was recorded: the images that the baseline has right, and the p value of
        McNemar's test between it and the network.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for repeat, scores in zip(setting.repeats, setting.scores, strict=True):
        tables = [run.baselines for run in repeat.runs if run.baselines is not None]
        if len(tables) < len(repeat.runs):
            continue
        table = pd.concat(tables).set_index("path").reindex(repeat.rows["path"])
        for name in DESCRIPTIONS:
            if name in table and table[name].notna().all():
                right = (table[name].to_numpy(dtype=float) >= BASELINE_THRESHOLD) == setting.labels
                test = mcnemar(setting.right(scores), right)
                found.setdefault(name, []).append((int(right.sum()), test["p"]))
    return found


def best_by_validation(settings: Sequence[Setting]) -> tuple[list[str], str]:
    """The settings with the best mean of the monitored metric on the validation images.

    Returns:
        Their names, more than one where they are equal; and why there is none, where there is none.
    """
    reason = _why_none_can_be_named(settings)
    if reason:
        return [], reason
    values = {each.name: [validation(repeat) for repeat in each.repeats] for each in settings}
    means = {name: statistics.fmean(value for value in each if value is not None) for name, each in values.items()}
    better = min if settings[0].runs[0].config.get("monitor_mode") == "min" else max
    best = better(means.values())
    return [name for name, mean in means.items() if mean == best], ""


def _why_none_can_be_named(settings: Sequence[Setting]) -> str:
    runs = [run for setting in settings for run in setting.runs]
    repeats = [repeat for setting in settings for repeat in setting.repeats]
    monitors = {(run.config.get("monitor"), run.config.get("monitor_mode")) for run in runs}
    ours = sum(run.val_is_test for run in runs)
    if len(settings) < 2:
        return "there is only one setting"
    if ours:
        return (
            f"in {ours} of {len(runs)} runs validation was the test set (data.val=test), and choosing by the test "
            "images would make the chosen number too good; train with data.val=0.15 to choose"
        )
    if len(monitors) > 1:
        listed = ", ".join(sorted(f"{monitor} ({mode})" for monitor, mode in monitors))
        return f"the runs were monitored by different metrics: {listed}"
    if any(validation(repeat) is None for repeat in repeats):
        return f"not every run recorded a validation metric (monitor: {next(iter(monitors))[0] or 'none'})"
    # Columns that a run's file lacks are not compared: join="inner".
    validated = [images(pd.concat([run.rows("val") for run in each.runs], join="inner")) for each in repeats]
    if any(each != validated[0] for each in validated):
        return "the settings were validated on different images"
    losses = [run.config.get("loss") for run in runs]
    if next(iter(monitors))[0] == "val/loss" and any(loss != losses[0] for loss in losses):
        return "the settings minimise different losses, whose values cannot be compared"
    return ""
