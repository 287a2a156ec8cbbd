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
        gathered: What is compared, and what was left out.
        split: ``test`` or ``val``.
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
        ensemble = ensembles[each.name] = summarise(
            each.labels, each.ensemble, each.people, threshold=each.threshold, **asdict(how)
        )
        right = each.right(each.scores)
        # The mean of one seed is that seed, with the interval of its own report.
        found = ensemble["accuracy"] if len(right) == 1 else mean(right.mean(axis=0), each.people, how, share=True)
        accuracy = SeedMean(found.value, found.low, found.high, found.method, tuple(right.mean(axis=1).tolist()))
        auroc = mean_auroc(each.labels, each.scores, each.people, how)
        means[each.name] = {"accuracy": accuracy, "auroc": auroc}
        rows.append(_row(each, means[each.name], ensembles[each.name], how.confidence))
    return Comparison(
        gathered=gathered,
        split=split,
        reference=reference,
        how=how,
        table=pd.DataFrame(rows),
        pairs=_pairs(gathered.settings, reference, ensembles, how),
        # Whole numbers stay whole beside what is absent.
        runs=pd.DataFrame([row for each in gathered.settings for row in _run_rows(each, split)], dtype=object),
        means=means,
        ensembles=ensembles,
    )


# --------------------------------------------------------------------------------------------------- one setting alone


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
    found = mapping(run.metrics.get("val")).get(name)
    epoch = re.search(r"epoch (\d+)", str(run.metrics.get("weights")))
    if split == "val" and isinstance(found, Estimate) and found.value is not None:
        return found.value
    if split != "val" or epoch is None or run.history is None or monitor not in run.history:
        return None
    values = run.history.loc[run.history["epoch"] == int(epoch[1]), monitor].dropna()
    return float(values.iloc[-1]) if len(values) else None


def _row(setting: Setting, means: dict[str, SeedMean], ensemble: dict[str, Any], confidence: float) -> dict[str, Any]:
    right, n, runs = n_right(setting), setting.labels.size, setting.runs
    both_classes = len(set(setting.labels)) == 2
    checked = [validation(repeat) for repeat in setting.repeats]
    seconds = [value for run in runs for value in run.metrics.get("epoch_seconds") or []]
    memory = [value for run in runs if (value := run.metrics.get("peak_memory_mb")) is not None]
    parameters = {value for run in runs if (value := run.environment.get("parameters")) is not None}
    return {
        "setting": setting.name,
        "seeds": len(setting.repeats),
        "runs": len(runs),
        "images": n,
        "patients": len(set(setting.people)),
        "right_min": min(right),
        "right_max": max(right),
        **_spread("accuracy", means["accuracy"].seeds),
        **_limits("accuracy_mean", means["accuracy"].low, means["accuracy"].high),
        **_limits("accuracy_one_run", *wilson(statistics.median_low(right), n, confidence)),
        **_limits("accuracy_pooled", *wilson(sum(right), n * len(right), confidence)),
        **_spread(
            "auroc", [roc_auc_score(setting.labels, scores) for scores in setting.scores] if both_classes else []
        ),
        **_limits("auroc_mean", means["auroc"].low, means["auroc"].high),
        "monitor": runs[0].config.get("monitor"),
        **_spread("validation", [] if None in checked else checked),
        "ensemble_right": int(setting.right(setting.ensemble).sum()),
        "ensemble_accuracy": ensemble["accuracy"].value,
        **_limits("ensemble_accuracy", ensemble["accuracy"].low, ensemble["accuracy"].high),
        "ensemble_auroc": ensemble["auroc"].value,
        **_limits("ensemble_auroc", ensemble["auroc"].low, ensemble["auroc"].high),
        "parameters": parameters.pop() if len(parameters) == 1 else None,
        "seconds_per_epoch": statistics.median(seconds) if seconds else None,
        "peak_memory_mb": max(memory, default=None),
        "val_is_test": any(run.val_is_test for run in runs),
        "synthetic": any(run.synthetic for run in runs),
    }


def _spread(name: str, values: Sequence[Any]) -> dict[str, float | None]:
    return {
        f"{name}_mean": statistics.fmean(values) if values else None,
        f"{name}_sd": statistics.stdev(values) if len(values) > 1 else None,
    }


def _limits(name: str, low: float | None, high: float | None) -> dict[str, float | None]:
    return {f"{name}_low": low, f"{name}_high": high}


def _run_rows(setting: Setting, split: str) -> Iterator[dict[str, Any]]:
    for repeat in setting.repeats:
        for run in repeat.runs:
            section = run.metrics[split]
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
                **{key: run.metrics.get(key) for key in ("weights", "epochs", "wall_seconds", "peak_memory_mb")},
                "git_commit": run.environment.get("git_commit"),
                "synthetic": run.synthetic,
            }


# ------------------------------------------------------------------------------------------------------------- in pairs


def _pairs(
    settings: Sequence[Setting], reference: str | None, ensembles: dict[str, dict[str, Any]], how: Resampling
) -> pd.DataFrame:
    """Tests the settings' ensembles against each other, both metrics adjusted for the number of pairs."""
    tested = [(a, b) for a, b in combinations(settings, 2) if reference is None]
    tested += [(a, b) for b in settings if b.name == reference for a in settings if a is not b]
    rows = []
    for a, b in tested:
        accuracy = mcnemar(a.right(a.ensemble), b.right(b.ensemble))
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
