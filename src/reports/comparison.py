"""The numbers of a comparison: settings side by side, and in pairs on the same images."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from cxrlab.errors import ConfigError, did_you_mean
from cxrlab.evaluation import summarise
from cxrlab.evaluation.baselines import DESCRIPTIONS
from cxrlab.evaluation.estimate import Estimate, Resampling, wilson
from cxrlab.evaluation.paired import auroc_difference, holm, mcnemar
from cxrlab.reports.record import RunRecord, mapping
from cxrlab.reports.settings import Gathered, Repeat, Setting, fold_of

BASELINE_THRESHOLD = 0.5
"""From this score on a trivial baseline calls an image Positive."""


@dataclass(frozen=True)
class Options:
    """How settings are compared.

    Attributes:
        split: ``test`` or ``val``.
        reference: Name of the setting that the others are tested against; ``None``: all pairs.
        confidence: Coverage of the intervals, in (0, 1).
        resamples: Of every bootstrap, at least 100.
        seed: Of every bootstrap.
    """

    split: str = "test"
    reference: str | None = None
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Comparison:
    """Everything that a report says in numbers, unrounded.

    Attributes:
        gathered: What is compared, and what was left out.
        options: How.
        table: One row per setting.
        pairs: One row per pair of settings that was tested.
        runs: One row per run.
        ensembles: By setting: :func:`cxrlab.evaluation.summarise` of its seeds' mean scores.
    """

    gathered: Gathered
    options: Options
    table: pd.DataFrame
    pairs: pd.DataFrame
    runs: pd.DataFrame
    ensembles: dict[str, dict[str, Any]]

    @property
    def settings(self) -> list[Setting]:
        """What is compared."""
        return self.gathered.settings

    @property
    def synthetic(self) -> bool:
        """Whether any images were drawn by a program."""
        return any(run.synthetic for setting in self.settings for run in setting.runs)


def compare_settings(gathered: Gathered, options: Options) -> Comparison:
    """Computes every number of a comparison.

    Args:
        gathered: At least one setting.
        options: How.

    Raises:
        ConfigError: The reference is none of the settings.
    """
    names = [setting.name for setting in gathered.settings]
    if options.reference is not None and options.reference not in names:
        listed = "\n".join(f"""  'reference="{name}"'""" for name in names)
        raise ConfigError(
            f"reference={options.reference}: no such setting{did_you_mean(options.reference, names)}; type one of "
            f"these, with all quotes:\n{listed}"
        )
    ensembles = {setting.name: _ensemble(setting, options) for setting in gathered.settings}
    return Comparison(
        gathered=gathered,
        options=options,
        table=pd.DataFrame([_row(setting, ensembles[setting.name], options) for setting in gathered.settings]),
        pairs=_pairs(gathered.settings, ensembles, options),
        # Whole numbers stay whole beside what is absent.
        runs=pd.DataFrame([row for setting in gathered.settings for row in _run_rows(setting, options)], dtype=object),
        ensembles=ensembles,
    )


# --------------------------------------------------------------------------------------------------- one setting alone


def n_right(setting: Setting, labels: npt.NDArray[np.int64] | None = None) -> list[int]:
    """How many images each seed has right.

    Args:
        setting: Whose scores.
        labels: Others than the images' own, shape (images,).
    """
    return [int(count) for count in setting.right(setting.scores, labels).sum(axis=1)]


def aurocs(setting: Setting) -> list[float]:
    """The AUROC of each seed; empty where only one class is there."""
    if len(set(setting.labels)) < 2:
        return []
    return [float(roc_auc_score(setting.labels, scores)) for scores in setting.scores]


def validation(repeat: Repeat) -> float | None:
    """The monitored metric of the validation images at the epoch whose weights are evaluated; with folds, the mean."""
    values = [_monitored(run) for run in repeat.runs]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


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


def _ensemble(setting: Setting, options: Options) -> dict[str, Any]:
    return summarise(
        setting.labels,
        setting.ensemble,
        setting.people,
        threshold=setting.threshold,
        resamples=options.resamples,
        seed=options.seed,
        confidence=options.confidence,
    )


def _row(setting: Setting, ensemble: dict[str, Any], options: Options) -> dict[str, Any]:
    right, n, runs = n_right(setting), setting.labels.size, setting.runs
    one_run = wilson(statistics.median_low(right), n, options.confidence)
    pooled = wilson(sum(right), n * len(right), options.confidence)
    checked = [value for repeat in setting.repeats if (value := validation(repeat)) is not None]
    seconds = [value for run in runs for value in run.metrics.get("epoch_seconds") or []]
    memory = [value for run in runs if (value := run.metrics.get("peak_memory_mb")) is not None]
    parameters = {value for run in runs if (value := run.environment.get("parameters")) is not None}
    row = {
        "setting": setting.name,
        "seeds": len(setting.repeats),
        "runs": len(runs),
        "images": n,
        "patients": len(set(setting.people)),
        "right_min": min(right),
        "right_max": max(right),
        **_spread("accuracy", [count / n for count in right]),
        "accuracy_one_run_low": one_run[0],
        "accuracy_one_run_high": one_run[1],
        "accuracy_pooled_low": pooled[0],
        "accuracy_pooled_high": pooled[1],
        **_spread("auroc", aurocs(setting)),
        "monitor": runs[0].config.get("monitor"),
        **_spread("validation", checked if len(checked) == len(right) else []),
        "ensemble_right": int(setting.right(setting.ensemble).sum()),
    }
    for metric in ("accuracy", "auroc"):
        row |= {f"ensemble_{metric}{end}": getattr(ensemble[metric], key) for end, key in _ENDS.items()}
    return row | {
        "parameters": parameters.pop() if len(parameters) == 1 else None,
        "seconds_per_epoch": statistics.median(seconds) if seconds else None,
        "peak_memory_mb": max(memory, default=None),
        "val_is_test": any(run.val_is_test for run in runs),
        "synthetic": any(run.synthetic for run in runs),
    }


_ENDS = {"": "value", "_low": "low", "_high": "high"}


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    return {
        f"{name}_mean": statistics.fmean(values) if values else None,
        f"{name}_sd": statistics.stdev(values) if len(values) > 1 else None,
    }


def _run_rows(setting: Setting, options: Options) -> Iterator[dict[str, Any]]:
    for repeat in setting.repeats:
        for run in repeat.runs:
            section = run.metrics[options.split]
            (tn, _), (_, tp) = section["confusion_matrix"]
            yield {
                "folder": str(run.folder),
                "setting": setting.name,
                "seed": repeat.seed,
                "fold": fold_of(run),
                "right": tn + tp,
                "images": section["n"],
                "accuracy": section["accuracy"].value,
                "auroc": section["auroc"].value,
                "monitor": run.config.get("monitor"),
                "validation": _monitored(run),
                "weights": run.metrics.get("weights"),
                "epochs": run.metrics.get("epochs"),
                "wall_seconds": run.metrics.get("wall_seconds"),
                "peak_memory_mb": run.metrics.get("peak_memory_mb"),
                "git_commit": run.environment.get("git_commit"),
                "synthetic": run.synthetic,
            }


# ------------------------------------------------------------------------------------------------------------- in pairs


def _pairs(settings: Sequence[Setting], ensembles: dict[str, dict[str, Any]], options: Options) -> pd.DataFrame:
    """Tests the settings' ensembles against each other, both metrics adjusted for the number of pairs."""
    reference = next((setting for setting in settings if setting.name == options.reference), None)
    tested = (
        list(combinations(settings, 2))
        if reference is None
        else [(setting, reference) for setting in settings if setting is not reference]
    )
    rows = []
    for a, b in tested:
        accuracy = mcnemar(a.right(a.ensemble), b.right(b.ensemble))
        how = Resampling(options.resamples, options.seed, options.confidence)
        auroc = auroc_difference(a.labels, a.ensemble, b.ensemble, a.people, how)
        rows.append(
            {
                "a": a.name,
                "b": b.name,
                "images": a.labels.size,
                "patients": len(set(a.people)),
                "accuracy_a": ensembles[a.name]["accuracy"].value,
                "accuracy_b": ensembles[b.name]["accuracy"].value,
                "only_a_right": accuracy["only_a"],
                "only_b_right": accuracy["only_b"],
                "accuracy_p": accuracy["p"],
                "accuracy_method": accuracy["method"],
                "auroc_a": ensembles[a.name]["auroc"].value,
                "auroc_b": ensembles[b.name]["auroc"].value,
                "auroc_difference": auroc.value,
                "auroc_low": auroc.low,
                "auroc_high": auroc.high,
                "auroc_p": auroc.p,
                "auroc_method": auroc.method,
            }
        )
    for metric in ("accuracy", "auroc") if rows else ():
        for row, adjusted in zip(rows, holm([row[f"{metric}_p"] for row in rows]), strict=True):
            row[f"{metric}_p_holm"] = adjusted
    return pd.DataFrame(rows, columns=_PAIR_COLUMNS, dtype=object)


_PAIR_COLUMNS = [
    *("a", "b", "images", "patients", "accuracy_a", "accuracy_b", "only_a_right", "only_b_right"),
    *("accuracy_p", "accuracy_p_holm", "accuracy_method", "auroc_a", "auroc_b", "auroc_difference"),
    *("auroc_low", "auroc_high", "auroc_p", "auroc_p_holm", "auroc_method"),
]


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


# --------------------------------------------------------------------------------------------------- what may be chosen


def best_by_validation(settings: Sequence[Setting]) -> tuple[list[str], str]:
    """The settings with the best mean of the monitored metric on the validation images.

    Returns:
        Their names, more than one where they are equal; and why there is none, where there is none.
    """
    reason = _why_none_can_be_named(settings)
    if reason:
        return [], reason
    means = {
        setting.name: statistics.fmean(value for each in setting.repeats if (value := validation(each)) is not None)
        for setting in settings
    }
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
    if any(_validated_on(repeat) != _validated_on(repeats[0]) for repeat in repeats):
        return "the settings were validated on different images"
    if next(iter(monitors))[0] == "val/loss" and any(
        run.config.get("loss") != runs[0].config.get("loss") for run in runs
    ):
        return "the settings minimise different losses, whose values cannot be compared"
    return ""


def _validated_on(repeat: Repeat) -> Counter[tuple[str, int]]:
    """The validation images, by their bytes and labels."""
    tables = [run.rows("val") for run in repeat.runs]
    key = "sha256" if all("sha256" in table for table in tables) else "path"
    return Counter((image, label) for table in tables for image, label in zip(table[key], table["label"], strict=True))
