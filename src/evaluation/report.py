"""The report of one run, built from the files of its folder and nothing else.

What could make a number look better than it is stands above the first number. Part of that the run wrote down itself
(``warnings`` in ``metrics.json``); part is read here from the manifest, which says what each label is made of.
"""

from __future__ import annotations

import json
import statistics as stdlib_statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cxrlab.errors import CheckpointError
from cxrlab.evaluation import figures
from cxrlab.evaluation.statistics import METRICS
from cxrlab.files import write_text

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
EVALUATED = ("test", "val")
LABELS = {1: "Positive", 0: "Negative"}
NAMES = {name: name.upper() if name in ("ppv", "npv", "auroc", "ap", "f1") else name.capitalize() for name in METRICS}
NOT_RECORDED = "not recorded"
MOST = 8
"""Up to this many values (findings, sources, views) are listed by name; the rest is counted together."""
_SECTION_KEYS = ("n", "n_patients", "n_positive", "n_negative", "threshold", "confusion_matrix", *METRICS)
DISCLAIMER = "Research software, not a medical device."
NOT_CHECKED = (
    "whether the network looks at the lungs or at borders, markers and brightness (shortcuts): audit the data set",
    "other hospitals and devices: these images come from the data set named above only",
    "whether the labels are right: they are taken as the data set gives them",
    "near-duplicates (rescaled, cropped or re-encoded copies): only byte-identical files were compared",
    "calibration: a score of 0.9 need not mean nine in ten",
)


@dataclass(frozen=True)
class _Run:
    """The files of a run folder, read."""

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    metrics: dict[str, Any]
    manifest: pd.DataFrame
    history: pd.DataFrame | None
    predictions: pd.DataFrame | None
    overrides: list[str]

    @property
    def val_is_test(self) -> bool:
        """Whether the test images served as validation."""
        return _mapping(self.config.get("data")).get("val") == "test"

    @property
    def synthetic(self) -> bool:
        return bool(self.metrics.get("synthetic"))

    def rows(self, split: str) -> pd.DataFrame:
        """The manifest rows of one split."""
        return self.manifest[self.manifest["split"] == split]

    def section(self, split: str) -> dict[str, Any] | None:
        """The metrics of one split; ``None`` if it was not evaluated or repeats the test images."""
        found = self.metrics.get(split)
        return None if not found or (split == "val" and self.val_is_test) else dict(found)


def write_report(run_dir: Path) -> Path:
    """Writes ``report.md`` and ``figures/*.png`` into a run folder, from the files found there.

    Required: ``config.yaml``, ``environment.json``, ``manifest.csv``, ``metrics.json``. Used where present:
    ``metrics.csv``, ``predictions.csv``, ``overrides.yaml``; the report says what is absent.

    Args:
        run_dir: Folder of a finished or interrupted run.

    Returns:
        The path of ``report.md``.

    Raises:
        CheckpointError: If a required file is missing or a file cannot be read; names file and folder.
    """
    run = _read_run(Path(run_dir))
    drawn = _draw(run)
    parts = [
        _head(run),
        _headline(run),
        _metrics(run),
        _data(run),
        _figures(drawn, run),
        _about(run),
        _not_checked(run),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    path = run.folder / "report.md"
    write_text(path, text)
    return path


def markdown_table(rows: Iterable[Sequence[object]], header: Sequence[str]) -> str:
    """Returns a Markdown table; pipes and line breaks in cells are escaped, ``None`` is an empty cell.

    Args:
        rows: Cells, each row as long as the header.
        header: Names of the columns.

    Raises:
        ValueError: If a row is not as long as the header.
    """
    lines = [_row(header), _row(["---"] * len(header))]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a table row must have {len(header)} cells ({', '.join(header)}), got {list(row)!r}")
        lines.append(_row(row))
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------- the run's files


def _read_run(folder: Path) -> _Run:
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no run folder: give the folder that holds config.yaml and metrics.json")
    manifest = _csv(folder, "manifest.csv", ("path", "label", "patient_id", "split"))
    history = _csv(folder, "metrics.csv", ("epoch",), required=False)
    predictions = _csv(folder, "predictions.csv", ("label", "split", "score"), required=False)
    assert manifest is not None
    metrics = _mapping(_parsed(folder, "metrics.json"))
    for split in EVALUATED:
        absent = [key for key in _SECTION_KEYS if metrics.get(split) and key not in metrics[split]]
        if absent:
            raise _unreadable(folder, "metrics.json", f"{split} lacks {', '.join(absent)}")
    return _Run(
        folder=folder,
        config=_mapping(_parsed(folder, "config.yaml")),
        environment=_mapping(_parsed(folder, "environment.json")),
        metrics=metrics,
        manifest=manifest,
        history=history if history is not None and len(history) else None,
        predictions=predictions if predictions is not None and len(predictions) else None,
        overrides=[str(item) for item in _parsed(folder, "overrides.yaml", required=False) or []],
    )


def _text(folder: Path, name: str, required: bool) -> str | None:
    path = folder / name
    if path.is_file():
        return path.read_text(encoding="utf-8")
    if not required:
        return None
    raise CheckpointError(
        f"{name} is missing from the run folder {folder}: a report needs config.yaml, environment.json, manifest.csv "
        "and metrics.json; give a folder that a training run wrote, or train again"
    )


def _parsed(folder: Path, name: str, *, required: bool = True) -> Any:
    text = _text(folder, name, required)
    try:
        return None if text is None else json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise _unreadable(folder, name, str(error)) from error


def _csv(folder: Path, name: str, columns: Sequence[str], *, required: bool = True) -> pd.DataFrame | None:
    """Reads a table; text columns stay text, so that patient '007' is not patient 7 and 'None' is a name."""
    if _text(folder, name, required) is None:
        return None
    texts = dict.fromkeys(("path", "patient_id", "split", "source", "finding", "view", "sha256"), str)
    try:
        if name == "metrics.csv":
            table = pd.read_csv(folder / name)
        else:
            table = pd.read_csv(folder / name, dtype=texts, keep_default_na=False)
        for column in {"label", "score"} & set(columns) & set(table.columns):
            table[column] = pd.to_numeric(table[column])
            if table[column].isna().any():
                raise ValueError(f"empty cells in column {column}")
    except pd.errors.EmptyDataError:
        table = pd.DataFrame(columns=list(columns))
    except ValueError as error:
        raise _unreadable(folder, name, str(error)) from error
    absent = [column for column in columns if column not in table]
    if absent:
        raise _unreadable(folder, name, f"no column {', '.join(absent)}")
    return table


def _unreadable(folder: Path, name: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{name} in the run folder {folder} cannot be read ({reason}): restore the file as the run wrote it, "
        "or train again"
    )


# ------------------------------------------------------------------------------------------- the lines before a number


def _head(run: _Run) -> str:
    model = _model_name(run)
    lines = [f"# {'SYNTHETIC: ' if run.synthetic else ''}Report of {run.folder.resolve().name} ({model})"]
    if run.synthetic:
        lines.append("**SYNTHETIC: the images were drawn by a program. Nothing below says anything about patients.**")
    if run.metrics.get("status") != "finished":
        state = "INTERRUPTED" if run.metrics.get("status") == "interrupted" else "NOT FINISHED"
        epochs = run.metrics.get("epochs", NOT_RECORDED)
        lines.append(f"**{state}: the run stopped before its end (epochs completed: {epochs}).**")
    warnings = _warnings(run)
    if warnings:
        lines.append("\n".join(f"- **WARNING:** {_inline(warning)}" for warning in warnings))
    lines.append(DISCLAIMER)
    return "\n\n".join(lines)


def _warnings(run: _Run) -> list[str]:
    """The run's own warnings, then those that config, manifest and files add."""
    own = [str(warning) for warning in run.metrics.get("warnings") or []]
    added = [*_config_warnings(run, own), *_overlap_warnings(run), *_finding_warnings(run)]
    return own + added + _confounding_warnings(run) + _mismatch_warnings(run)


def _config_warnings(run: _Run, own: Sequence[str]) -> list[str]:
    said = " ".join(own).lower()
    found = []
    if run.val_is_test and "test" not in said:
        found.append(
            "Validation was the test set (data.val=test): curves, early stopping and chosen weights have seen the test "
            "images, and no independent test exists."
        )
    if _mapping(run.config.get("data")).get("allow_leak") and "allow_leak" not in said:
        found.append("data.allow_leak=true: the same patients or images may lie in training and test.")
    return found


def _overlap_warnings(run: _Run) -> list[str]:
    found = []
    for column, what in (("patient_id", "patient"), ("sha256", "image file")):
        shared = _shared(run.manifest, column)
        if shared:
            shown = ", ".join(shared[:3]) + (", …" if len(shared) > 3 else "")
            found.append(
                f"{_count(len(shared), what)} in more than one split ({shown}): a leak that inflates the numbers below."
            )
    return found


def _finding_warnings(run: _Run) -> list[str]:
    """Says where a label of the test split is made of findings that the same label never had in training."""
    if "finding" not in run.manifest:
        return []
    found = []
    for label, name in LABELS.items():
        train, test = (part.loc[part["label"] == label, "finding"] for part in (run.rows("train"), run.rows("test")))
        new = test[~test.isin(set(train)) & (test != "")]
        if len(train) and len(new):
            found.append(
                f"{len(new)} of {len(test)} {name} test images show a finding that no {name} training image has "
                f"({_tally(new)}): the label does not mean the same in training and test."
            )
    return found


def _confounding_warnings(run: _Run) -> list[str]:
    """Says where the source or the view alone gives the label away."""
    found = []
    for column in ("source", "view"):
        if column not in run.manifest:
            continue
        known = run.manifest[run.manifest[column] != ""]
        few = known[column].nunique() <= MOST  # a value of its own for every image gives nothing away
        if few and known["label"].nunique() == 2 and (known.groupby(column)["label"].nunique() == 1).all():
            sides = "; ".join(
                f"{name}: {_tally(known.loc[known['label'] == key, column])}" for key, name in LABELS.items()
            )
            found.append(
                f"The {column} alone gives the label away ({sides}): it cannot be told apart from the disease."
            )
    return found


def _mismatch_warnings(run: _Run) -> list[str]:
    found = []
    for split in EVALUATED:
        section, rows = run.section(split), _scored(run, split)
        if section and rows is not None and len(rows) != section.get("n"):
            found.append(
                f"predictions.csv holds {len(rows)} {split} rows but metrics.json was computed from "
                f"{section.get('n')}: the figures and the numbers below do not belong together."
            )
    return found


# ------------------------------------------------------------------------------------------------------- the numbers


def _headline(run: _Run) -> str:
    split = next((name for name in EVALUATED if run.section(name)), None)
    if split is None:
        return "## Result\n\nNo split was evaluated: there is no result to report."
    section = run.section(split) or {}
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    n, commoner = section["n"], max(section["n_positive"], section["n_negative"])
    where = f"{'synthetic ' if run.synthetic else ''}{split} images"
    right = (
        f"**{tn + tp} of {n} {where} right: accuracy {_interval(section['accuracy'])}**, "
        f"{_count(section['n_patients'], 'patient')}; {section['accuracy']['method']}."
    )
    ranked = f"AUROC {_interval(section['auroc'])}, {n} images; {section['auroc']['method']}."
    wrong = (
        f"{_count(fn, 'Positive image')} missed, {_count(fp, 'Negative image')} called Positive at threshold "
        f"{section['threshold']:g}. Always giving the commoner answer would get {commoner} of {n} right "
        f"({commoner / n:.3f})."
    )
    lines = [right, wrong, ranked]
    warnings = len(_warnings(run))
    if warnings:
        lines.append(f"Read this with the {_count(warnings, 'warning')} above.")
    if split == "val":
        lines.append("The test split was not evaluated: these are validation numbers.")
    return "## Result\n\n" + "\n\n".join(lines)


def _metrics(run: _Run) -> str:
    parts = ["## Metrics"]
    for split in EVALUATED:
        parts.append(f"### {SPLITS[split]}")
        section = run.section(split)
        if section:
            parts += _metric_tables(section)
        elif split == "val" and run.val_is_test:
            parts.append("The test images served as validation: there are no numbers of its own.")
        else:
            parts.append("Not evaluated.")
    return "\n\n".join(parts)


def _metric_tables(section: Mapping[str, Any]) -> list[str]:
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    size = (
        f"{section['n']} images ({section['n_positive']} Positive, {section['n_negative']} Negative) of "
        f"{_count(section['n_patients'], 'patient')}; Positive from score {section['threshold']:g}."
    )
    rows = [(NAMES[name], _interval(section[name]), section[name]["method"]) for name in METRICS]
    confusion = [("**Negative**", tn, fp), ("**Positive**", fn, tp)]
    return [
        size,
        markdown_table(rows, ("Metric", "Value [low, high]", "Method")),
        markdown_table(confusion, ("True label", "called Negative", "called Positive")),
    ]


def _interval(estimate: Mapping[str, Any]) -> str:
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    if value is None:
        return "undefined"
    if low is None and high is None:
        return f"{value:.3f} [no interval]"
    return f"{value:.3f} [{'?' if low is None else f'{low:.3f}'}, {'?' if high is None else f'{high:.3f}'}]"


# ----------------------------------------------------------------------------------------------------------- the data


def _data(run: _Run) -> str:
    rows = []
    for split, title in SPLITS.items():
        images = run.rows(split)
        for label, name in LABELS.items() if len(images) else ():
            part = images[images["label"] == label]
            rows.append(
                (title, name, len(part), _patients(part), *(_tallied(part, c) for c in ("finding", "source", "view")))
            )
    unused = int((~run.manifest["split"].isin(list(SPLITS))).sum())
    lines = ["## Data", markdown_table(rows, ("Split", "Label", "Images", "Patients", "Findings", "Sources", "Views"))]
    if run.val_is_test:
        lines.append("The test images served as validation.")
    if unused:
        lines.append(f"{_count(unused, 'manifest row')} in no split, not used.")
    lines.append("\n".join(f"- {line}" for line in _overlap_lines(run)))
    return "\n\n".join(lines)


def _overlap_lines(run: _Run) -> list[str]:
    lines = []
    for column, what in (("patient_id", "Patients"), ("sha256", "Byte-identical files")):
        if column not in run.manifest or (run.manifest[column] == "").all():
            lines.append(f"{what} in more than one split: NOT CHECKED (the manifest holds no {column})")
            continue
        blank = int((run.manifest[column] == "").sum())
        rest = f" (NOT CHECKED for {_count(blank, 'image')} without {column})" if blank else ""
        lines.append(f"{what} in more than one split, by {column}: {len(_shared(run.manifest, column))}{rest}")
    return lines


def _patients(part: pd.DataFrame) -> str:
    known = part["patient_id"][part["patient_id"] != ""]
    unknown = len(part) - len(known)
    return f"{known.nunique()}" + (f" + {_count(unknown, 'image')} of unknown patients" if unknown else "")


def _shared(manifest: pd.DataFrame, column: str) -> list[str]:
    """The values of a column that occur in more than one split."""
    if column not in manifest:
        return []
    known = manifest[(manifest[column] != "") & manifest["split"].isin(list(SPLITS))]
    splits = known.groupby(column)["split"].nunique()
    return [str(value) for value in splits.index[splits > 1]]


def _tallied(part: pd.DataFrame, column: str) -> str:
    return _tally(part[column]) if column in part else NOT_RECORDED


def _tally(values: pd.Series[Any]) -> str:
    """Counts of values, commonest first: ``SARS 11, Streptococcus 5``."""
    counts = values.replace("", "not stated").value_counts()
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    shown = [f"{value} {count}" for value, count in ordered[:MOST]]
    rest = ordered[MOST:]
    return ", ".join(shown + ([f"{len(rest)} others {sum(count for _, count in rest)}"] if rest else []))


# -------------------------------------------------------------------------------------------------------- the figures


def _draw(run: _Run) -> dict[str, str]:
    """Draws what the files allow; returns link text by file name relative to the run folder."""
    drawn = {}
    mark = "SYNTHETIC " if run.synthetic else ""
    if run.history is not None:
        drawn["figures/learning_curves.png"] = f"{mark}learning curves"
        name = "validation (= test images)" if run.val_is_test else "validation"
        curves = figures.learning_curves(run.history, title=f"{mark}Learning curves", validation=name)
        figures.save(curves, run.folder / "figures/learning_curves.png")
    for split in EVALUATED:
        section = run.section(split)
        if not section:
            continue
        title = f"{mark}{SPLITS[split]}"
        found = {
            "confusion_matrix": figures.confusion_matrix(section["confusion_matrix"], f"{title}: confusion matrix")
        }
        rows = _scored(run, split)
        if rows is not None and len(rows):
            y, s = rows["label"].to_numpy(dtype=int), rows["score"].to_numpy(dtype=float)
            threshold = float(section["threshold"])
            found["roc"] = figures.roc(y, s, section["auroc"], f"{title}: ROC")
            found["precision_recall"] = figures.precision_recall(y, s, section["ap"], f"{title}: precision-recall")
            found["scores"] = figures.score_distribution(y, s, threshold, f"{title}: scores by true label")
        for name, figure in found.items():
            path = f"figures/{split}_{name}.png"
            figures.save(figure, run.folder / path)
            drawn[path] = f"{title}: {'ROC' if name == 'roc' else name.replace('_', ' ')}"
    return drawn


def _scored(run: _Run, split: str) -> pd.DataFrame | None:
    return None if run.predictions is None else run.predictions[run.predictions["split"] == split]


def _figures(drawn: Mapping[str, str], run: _Run) -> str:
    lines = ["## Figures", *(f"![{text}]({path})" for path, text in drawn.items())]
    if run.history is None:
        lines.append("No learning curves: metrics.csv holds no finished epoch.")
    if run.predictions is None:
        lines.append("No ROC, precision-recall or score figures: predictions.csv is absent or empty.")
    return "\n\n".join(lines)


# ------------------------------------------------------------------------------------------------------------ the run


def _about(run: _Run) -> str:
    environment, metrics = run.environment, run.metrics
    known = {key: _or_not_recorded(value) for key, value in environment.items()}
    device, precision, cpu, cores = (known.get(key, NOT_RECORDED) for key in ("device", "precision", "cpu", "cores"))
    rows = [
        ("Status", f"{metrics.get('status', NOT_RECORDED)}, {metrics.get('epochs', NOT_RECORDED)} epochs"),
        ("Weights evaluated", metrics.get("weights") or NOT_RECORDED),
        ("Model", _model_name(run)),
        ("Parameters", _number(environment.get("parameters"), ",d")),
        ("Seed", _or_not_recorded(environment.get("seed", run.config.get("seed")))),
        ("Device, precision", f"{device}, {precision}"),
        ("Machine", f"{cpu}, {cores} cores, GPU: {environment.get('gpu') or 'none'}"),
        ("Seconds per epoch (median)", _median(metrics.get("epoch_seconds"))),
        ("Wall-clock seconds", _number(metrics.get("wall_seconds"), ".1f")),
        ("Peak memory", f"{_number(metrics.get('peak_memory_mb'), ',.0f')} MB"),
        ("Started", _or_not_recorded(environment.get("started"))),
        ("Python", _or_not_recorded(environment.get("python"))),
        ("Packages", ", ".join(f"{k} {v}" for k, v in _mapping(environment.get("packages")).items()) or NOT_RECORDED),
        ("Git commit", _or_not_recorded(environment.get("git_commit"))),
        ("Overrides", " ".join(run.overrides) or "none"),
        ("Full configuration", "[config.yaml](config.yaml)"),
    ]
    command = str(environment.get("command") or NOT_RECORDED)
    return "\n\n".join(["## Run", markdown_table(rows, ("What", "Value")), "To repeat it:", f"```\n{command}\n```"])


def _not_checked(run: _Run) -> str:
    lines = [f"- NOT CHECKED: {line}" for line in NOT_CHECKED]
    if run.section("test") is None:
        lines.insert(0, "- NOT CHECKED: images that training never saw (no test split was evaluated)")
    return "## What was not checked\n\n" + "\n".join(lines)


def _model_name(run: _Run) -> str:
    model = _mapping(run.config.get("model"))
    target = str(model.get("_target_") or model.get("name") or "model not recorded")
    return target.rsplit(".", 1)[-1]


# -------------------------------------------------------------------------------------------------------------- words


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _or_not_recorded(value: Any) -> str:
    return NOT_RECORDED if value is None or value == "" else str(value)


def _number(value: Any, form: str) -> str:
    return NOT_RECORDED if value is None else format(value, form)


def _median(values: Sequence[float] | None) -> str:
    return f"{stdlib_statistics.median(values):.2f}" if values else NOT_RECORDED


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _inline(text: str) -> str:
    return " ".join(text.split())


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(_inline("" if cell is None else str(cell)).replace("|", "\\|") for cell in cells) + " |"
