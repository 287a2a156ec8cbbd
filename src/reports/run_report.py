"""The report of one run, built from the files of its folder and the images that its manifest names.

What could make a number look better than it is stands above the first number. Part of that the run wrote down itself
(``warnings`` in ``metrics.json``); part is read here from the manifest, which says what each label is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxrlab import figures
from cxrlab.console import DISCLAIMER
from cxrlab.datamodules.image_rows import ImageRows
from cxrlab.datamodules.manifest import people
from cxrlab.evaluation import METRICS, calibration, summarise
from cxrlab.evaluation.baselines import DESCRIPTIONS
from cxrlab.evaluation.lung_free import INPUTS
from cxrlab.evaluation.paired import mcnemar
from cxrlab.reports import decision_section, paper, pictures, saliency_section
from cxrlab.reports.cautions import one_answer, shared, warnings
from cxrlab.reports.markdown import (
    LABELS,
    NAMES,
    NOT_RECORDED,
    Markdown,
    code_block,
    flow_table,
    markdown_table,
    median,
    number,
    or_not_recorded,
    plain,
)
from cxrlab.reports.page import write_pages
from cxrlab.reports.record import EVALUATED, RunRecord, mapping, read_run
from cxrlab.words import plural, tally

SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
NOT_CHECKED = (
    "whether the network looks at the lungs or at borders, markers and brightness: `src/probe.py ckpt_path=<run>` does",
    "other hospitals and devices: these images come from the data set named above only (`src/matrix.py`)",
    "whether the labels are right: they are taken as the data set gives them",
    "crops of one film: copies in another size or encoding were looked for; `src/audit.py` looks for crops as well",
)

_LEVEL = 0.05  # of a p value, from which down the network is said to do better than a baseline


def write_report(run_dir: Path, images: ImageRows | None = None) -> Path:
    """Writes ``report.md``, ``report.html`` and ``figures/*.png`` into a run folder.

    Required: ``config.yaml``, ``environment.json``, ``manifest.csv``, ``metrics.json``. Whatever else is absent, the
    images included, the report says so. The trivial baselines' scores are kept in ``baselines.csv``.

    Args:
        run_dir: Folder of a finished or interrupted run.
        images: The manifest's images as the run read them, shape (rows, height, width, channels), for the trivial
            baselines; ``None`` reads them again.

    Returns:
        The path of ``report.md``.

    Raises:
        CheckpointError: If a required file is missing or a file cannot be read; names file and folder.
    """
    record = read_run(Path(run_dir))
    found = warnings(record)
    parts = [_head(record, found), _headline(record, found)]
    if record.of_the_paper:
        parts += [paper.beside_the_paper(record), paper.true_findings(record)]
    parts += [_baselines(record, images), _metrics(record), decision_section.section(record), _mistakes(record)]
    parts += [saliency_section.section(record), _data(record), _network(record)]
    parts += [_figures(record), _about(record), _not_checked(record)]
    text = "\n\n".join(part for part in parts if part) + "\n"
    path, _ = write_pages(record.folder, "report", text, _title(record))
    return path


# ------------------------------------------------------------------------------------------- the lines before a number


def _title(record: RunRecord) -> str:
    return f"{_mark(record)[:-1] + ': ' if record.synthetic else ''}{_name(record)} ({record.model})"


def _name(record: RunRecord) -> str:
    """Names both sets where a trained model was evaluated."""
    name, place = f"Report of {record.folder.resolve().name}", record.evaluation
    return f"{name}: trained on {place['trained_on']}, evaluated on {place['evaluated_on']}" if place else name


def _mark(record: RunRecord) -> str:
    return "SYNTHETIC " if record.synthetic else ""


def _head(record: RunRecord, found: Sequence[str]) -> str:
    lines = [f"# {plain(_title(record))}"]
    if record.synthetic:
        lines.append("**SYNTHETIC: the images were drawn by a program. Nothing below says anything about patients.**")
    if record.unfinished:
        lines.append(f"**{plain(record.unfinished)}**")
    if found:
        lines.append("\n".join(f"- **WARNING:** {plain(warning)}" for warning in found))
    lines.append(DISCLAIMER)
    return "\n\n".join(lines)


# ------------------------------------------------------------------------------------------------------- the numbers


def _headline(record: RunRecord, found: Sequence[str]) -> str:
    split = next((name for name in EVALUATED if record.section(name)), None)
    if split is None:
        return "## Result\n\nNo split was evaluated: there is no result to report."
    section = record.section(split) or {}
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    n, commoner = section["n"], max(section["n_positive"], section["n_negative"])
    where = f"{'synthetic ' if record.synthetic else ''}{split} images"
    right = (
        f"**{tn + tp} of {n} {where} right: accuracy {section['accuracy']}**, "
        f"{plural(section['n_patients'], 'patient')}; {plain(section['accuracy'].method)}."
    )
    ranked = f"AUROC {section['auroc']}, {n} images; {plain(section['auroc'].method)}."
    wrong = (
        f"{plural(fn, 'Positive image')} missed, {plural(fp, 'Negative image')} called Positive at threshold "
        f"{section['threshold']:g}. Always giving the commoner answer would get {commoner} of {n} right "
        f"({commoner / n:.3f})."
    )
    same = one_answer(section)
    lines = [*([f"**{same}.**"] if same else []), right, wrong, ranked]
    if found:
        lines.append(f"Read this with the {plural(len(found), 'warning')} above.")
    if split == "val":
        lines.append("The test split was not evaluated: these are validation numbers.")
    return "## Result\n\n" + "\n\n".join(lines)


def _baselines(record: RunRecord, images: ImageRows | None) -> str:
    """What needs no network: how far it gets on the same test images, and whether the network can be told from it."""
    rows, section = record.scored("test"), record.section("test")
    if rows is None or section is None:
        return ""
    table, reason = pictures.baselines(record, images)
    if table is None:
        return f"## Beside trivial baselines\n\nNOT CHECKED: {plain(reason)}."
    own = rows.set_index("path")["score"].reindex(table["path"]).to_numpy()
    labels, patients = table["label"].to_numpy(), people(table).to_numpy()
    right = (own >= section["threshold"]) == (labels == 1)
    cells = [_baseline_row(Markdown(f"**{plain(record.model)} (this run)**"), section, "")]
    tests: dict[str, dict[str, Any]] = {}
    lung_free = {spec.name: f"Logistic regression or one threshold; sees {spec.sees}." for spec in INPUTS.values()}
    descriptions = {name: text for name, text in (DESCRIPTIONS | lung_free).items() if name in table}
    for name in descriptions:
        scores = table[name].to_numpy(dtype=float)
        test = tests[name] = mcnemar(right, (scores >= 0.5) == (labels == 1))
        paired = f"{test['only_a']} / {test['only_b']}, p = {test['p']:.3g}"
        cells.append(_baseline_row(name.replace("_", " "), summarise(labels, scores, patients), paired))
    header = ("Method", "Right", "Accuracy", "AUROC", "Only the network / only the baseline right")
    fitted = len(record.rows("train")) or record.evaluation.get("training_images")
    what = f"Fitted on the same {fitted} training images; none of them sees a lung in detail."
    verdict = _against_the_best(tests, int(right.sum()), right.size)
    method = "Intervals as above; p: exact McNemar test on the same images, taken as independent, not corrected."
    described = "\n".join(f"- {name.replace('_', ' ')}: {text}" for name, text in descriptions.items())
    parts = ["## Beside trivial baselines", what, markdown_table(cells, header), verdict, described, method]
    return "\n\n".join(parts)


def _against_the_best(tests: Mapping[str, Mapping[str, Any]], right: int, n: int) -> str:
    """Says what it means that the best baseline does as well as the network, or that it does not.

    Args:
        tests: Of each baseline, the network's (a) paired test against it (b).
        right: Test images that the network has right.
        n: Test images.
    """
    # Of two that are right equally often, the one that is harder to tell from the network.
    best = max(tests, key=lambda name: (tests[name]["only_b"] - tests[name]["only_a"], tests[name]["p"]))
    test = tests[best]
    theirs = right - test["only_a"] + test["only_b"]
    found = (
        f"**What this means.** The best baseline ({best.replace('_', ' ')}) has {theirs} of {n} right, the network "
        f"{right} (paired p = {test['p']:.3g}, n = {n})."
    )
    if right > theirs and test["p"] < _LEVEL:
        return (
            f"{found} The network uses something that no baseline sees. That may be the disease, or a finer difference "
            "between the classes that has nothing to do with it; `python src/probe.py` looks for the second."
        )
    if right > theirs:
        return (
            f"{found} A difference this small among {n} images may be chance: this result does not show that the "
            "network uses more than a method which cannot see the disease."
        )
    return (
        f"{found} A method that cannot see the disease does as well: the classes of this data set differ in something "
        "else, or the network has learned too little. Either way this result does not show that the network sees the "
        "disease."
    )


def _baseline_row(name: str, section: Mapping[str, Any], paired: str) -> tuple[str, ...]:
    (tn, _), (_, tp) = section["confusion_matrix"]
    return name, f"{tn + tp} of {section['n']}", str(section["accuracy"]), str(section["auroc"]), paired


def _metrics(record: RunRecord) -> str:
    parts = ["## Metrics"]
    for split in EVALUATED:
        parts.append(f"### {SPLITS[split]}")
        section = record.section(split)
        if section:
            parts += [*_metric_tables(section), _calibration(record, split)]
        elif split == "val" and record.val_is_test:
            parts.append("The test images served as validation: there are no numbers of its own.")
        else:
            parts.append("Not evaluated.")
    parts.append(paper.classification_section(record))
    if record.of_the_paper:
        parts.append(paper.table_one_against_fig_nine())
    return "\n\n".join(part for part in parts if part)


def _metric_tables(section: Mapping[str, Any]) -> list[str]:
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    size = (
        f"{section['n']} images ({section['n_positive']} Positive, {section['n_negative']} Negative) of "
        f"{plural(section['n_patients'], 'patient')}; Positive from score {section['threshold']:g}."
    )
    rows = [(NAMES[name], str(section[name]), section[name].method) for name in METRICS]
    confusion = [(Markdown("**Negative**"), tn, fp), (Markdown("**Positive**"), fn, tp)]
    return [
        size,
        markdown_table(rows, ("Metric", "Value [low, high]", "Method")),
        markdown_table(confusion, ("True label", "called Negative", "called Positive")),
    ]


def _calibration(record: RunRecord, split: str) -> str:
    """Whether a score of 0.9 means nine in ten."""
    rows = record.scored(split)
    if rows is None or not len(rows):
        return ""
    found = calibration.summary(rows["label"], rows["score"], people(rows))
    lines = [(name, str(found[key]), found[key].method) for name, key in (("Brier score", "brier"), ("ECE", "ece"))]
    return markdown_table(lines, ("Calibration", "Value [low, high]", "Method"))


def _mistakes(record: RunRecord) -> str:
    split = next((name for name in EVALUATED if record.section(name)), None)
    if split is None:
        return ""
    threshold = (record.section(split) or {})["threshold"]
    return "## Worst mistakes\n\n" + pictures.mistakes(record, split, threshold, _mark(record)).markdown()


# ----------------------------------------------------------------------------------------------------------- the data


def _data(record: RunRecord) -> str:
    rows = []
    for split, title in SPLITS.items():
        images = record.rows(split)
        for label, name in LABELS.items() if len(images) else ():
            part = images[images["label"] == label]
            rows.append(
                (title, name, len(part), _patients(part), *(_tallied(part, c) for c in ("finding", "source", "view")))
            )
    unused = int((~record.manifest["split"].isin(list(SPLITS))).sum())
    lines = ["## Data", markdown_table(rows, ("Split", "Label", "Images", "Patients", "Findings", "Sources", "Views"))]
    if record.val_is_test:
        lines.append("The test images served as validation.")
    if unused:
        why = ""
        if "known" in record.manifest:
            seen = record.manifest["known"].value_counts()
            why = f": the model knows {seen.get('film', 0)} films and {seen.get('patient', 0)} images of its patients"
        lines.append(f"{plural(unused, 'manifest row')} in no split, not used{why}.")
    lines.append("\n".join(f"- {line}" for line in _overlap_lines(record)))
    if record.flow is not None:
        lines.append("### Flow of cases\n\nEvery image that was listed is in the set, or in the step that removed it.")
        lines.append(flow_table(record.flow))
    lines.append(pictures.samples(record, _mark(record)).markdown())
    return "\n\n".join(lines)


def _overlap_lines(record: RunRecord) -> list[str]:
    lines = []
    for column, what in (
        ("patient_id", "Patients"),
        ("sha256", "Byte-identical files"),
        ("film", "Films (near-duplicates)"),
    ):
        if column not in record.manifest or (record.manifest[column] == "").all():
            lines.append(f"{what} in more than one split: NOT CHECKED (the manifest holds no {column})")
            continue
        blank = int((record.manifest[column] == "").sum())
        rest = f" (NOT CHECKED for {plural(blank, 'image')} without {column})" if blank else ""
        lines.append(f"{what} in more than one split, by {column}: {len(shared(record.manifest, column))}{rest}")
    return lines


def _patients(part: pd.DataFrame) -> str:
    known = part["patient_id"][part["patient_id"] != ""]
    unknown = len(part) - len(known)
    return f"{known.nunique()}" + (f" + {plural(unknown, 'image')} of unknown patients" if unknown else "")


def _tallied(part: pd.DataFrame, column: str) -> str:
    return tally(part[column]) if column in part else NOT_RECORDED


# -------------------------------------------------------------------------------------------------------- the figures


def _network(record: RunRecord) -> str:
    """The network as a picture and as a table (the paper's Fig. 5 and 6)."""
    if not record.network:
        return "## Network\n\nThe layers were not recorded: network.json is absent."
    rows = [(row["name"], row["type"], tuple(row["output_shape"]), row["params"]) for row in record.network["rows"]]
    title = f"{record.network['model']}: {record.network['total']:,} parameters"
    figures.save(figures.network_diagram(rows, title), record.folder / "figures/network.png")
    picture = f"![{plain(title)}{paper.figure_name(record, 'Fig. 5')}](figures/network.png)"
    listed = f"Its layers{paper.figure_name(record, 'Fig. 6')}:\n\n{code_block(record.network['text'])}"
    return f"## Network\n\n{picture}\n\n{listed}"


def _figures(record: RunRecord) -> str:
    lines = ["## Figures", "\n".join(f"![{text}]({path})" for path, text in _draw(record).items())]
    if record.history is None:
        lines.append("No learning curves: metrics.csv holds no finished epoch.")
    if record.predictions is None:
        lines.append("No ROC, precision-recall, calibration or score figures: predictions.csv is absent or empty.")
    return "\n\n".join(line for line in lines if line)


def _draw(record: RunRecord) -> dict[str, str]:
    """Draws what the files allow; returns link text by file name relative to the run folder."""
    drawn = {}
    if record.history is not None:
        title = f"{_mark(record)}Learning curves"
        name = "validation (= test images)" if record.val_is_test else "validation"
        curves = figures.learning_curves(record.history, title=title, validation=name)
        figures.save(curves, record.folder / "figures/learning_curves.png")
        drawn["figures/learning_curves.png"] = title + paper.figure_name(record, "Fig. 7 and 8")
    for split in EVALUATED:
        title = f"{_mark(record)}{SPLITS[split]}"
        for name, figure in _split_figures(record, split, title).items():
            path = f"figures/{split}_{name}.png"
            figures.save(figure, record.folder / path)
            drawn[path] = f"{title}: {'ROC' if name == 'roc' else name.replace('_', ' ')}"
            if name == "confusion_matrix":
                drawn[path] += paper.figure_name(record, "Fig. 9")
    return drawn


def _split_figures(record: RunRecord, split: str, title: str) -> dict[str, Any]:
    section, rows = record.section(split), record.scored(split)
    if not section:
        return {}
    found = {"confusion_matrix": figures.confusion_matrix(section["confusion_matrix"], f"{title}: confusion matrix")}
    if rows is not None and len(rows):
        y, s = rows["label"].to_numpy(dtype=np.int64), rows["score"].to_numpy(dtype=np.float64)
        found["roc"] = figures.roc(y, s, section["auroc"], f"{title}: ROC")
        found["precision_recall"] = figures.precision_recall(y, s, section["ap"], f"{title}: precision-recall")
        found["calibration"] = figures.calibration(y, s, f"{title}: calibration")
        threshold = float(section["threshold"])
        found["scores"] = figures.score_distribution(y, s, threshold, f"{title}: scores by true label")
    return found


# ------------------------------------------------------------------------------------------------------------ the run


def _about(record: RunRecord) -> str:
    environment, metrics = record.environment, record.metrics
    known = {key: or_not_recorded(value) for key, value in environment.items()}
    device, precision, cpu, cores = (known.get(key, NOT_RECORDED) for key in ("device", "precision", "cpu", "cores"))
    rows = [
        ("Status", f"{metrics.get('status', NOT_RECORDED)}, {metrics.get('epochs', NOT_RECORDED)} epochs"),
        ("Weights evaluated", metrics.get("weights") or NOT_RECORDED),
        ("Model", record.model),
        ("Parameters", number(environment.get("parameters"), ",d")),
        ("Seed", or_not_recorded(environment.get("seed", record.config.get("seed")))),
        ("Device, precision", f"{device}, {precision}"),
        ("Machine", f"{cpu}, {cores} cores, GPU: {environment.get('gpu') or 'none'}"),
        ("Seconds per epoch (median)", median(metrics.get("epoch_seconds"))),
        ("Wall-clock seconds", number(metrics.get("wall_seconds"), ".1f")),
        ("Peak memory", f"{number(metrics.get('peak_memory_mb'), ',.0f')} MB"),
        ("Started", or_not_recorded(environment.get("started"))),
        ("Python", or_not_recorded(environment.get("python"))),
        ("Packages", ", ".join(f"{k} {v}" for k, v in mapping(environment.get("packages")).items()) or NOT_RECORDED),
        ("Git commit", or_not_recorded(environment.get("git_commit"))),
        ("Overrides", " ".join(record.overrides) or "none"),
        ("Full configuration", Markdown("[config.yaml](config.yaml)")),
    ]
    command = str(environment.get("command") or NOT_RECORDED)
    return "\n\n".join(["## Run", markdown_table(rows, ("What", "Value")), "To repeat it:", code_block(command)])


def _not_checked(record: RunRecord) -> str:
    lines = [f"- NOT CHECKED: {line}" for line in NOT_CHECKED]
    if record.section("test") is None:
        lines.insert(0, "- NOT CHECKED: images that training never saw (no test split was evaluated)")
    return "## What was not checked\n\n" + "\n".join(lines)
