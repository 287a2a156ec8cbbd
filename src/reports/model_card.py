"""The model card of a run: what the model is, what it was measured on, and what it must not be used for; one page.

After M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019, arXiv:1810.03993, whose headings it keeps; it
answers what CLAIM 2024 (Radiol Artif Intell 6:e240300) and TRIPOD+AI (BMJ 2024;385:e078378) ask of data, outcome and
evaluation. Everything is read from files: the run's own, and what other commands found out about it
(:mod:`cxrlab.reports.companions`). What no file says reads "not recorded", what nobody looked at NOT CHECKED, with the
command that does.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from cxrlab.console import command
from cxrlab.datamodules import manifest as mf
from cxrlab.downloads import COLLECTIONS
from cxrlab.evaluation import METRICS
from cxrlab.files import file_sha256, write_text
from cxrlab.reports.cautions import by_split, findings, tallied, warnings
from cxrlab.reports.companions import Companion, find_audit, find_evaluations, find_probe, shown_path
from cxrlab.reports.documents import NAMES, NOT_RECORDED, Markdown, code, known, plain, rendered, strong
from cxrlab.reports.record import EVALUATED, SPLITS, RunRecord, mapping, read_run
from cxrlab.untrusted import read_mapping
from cxrlab.words import MOST, plural, tally

CARD = "model_card.md"
_WEIGHTS = ("model.ckpt", "best.ckpt", "last.ckpt")  # of a finished run; of an unfinished one
_CT = ("Axial", "Coronal")


def is_trained(run_dir: Path) -> bool:
    """Whether a run folder is a classifier's training: an evaluation leaves no model of its own, and gets no card."""
    config = read_mapping(Path(run_dir) / "config.yaml")
    return "optimizer" in config and config.get("task", "classify") == "classify"


def write_model_card(run_dir: Path, audits: Path | None = None) -> Path:
    """Writes ``model_card.md`` into the folder of a finished or interrupted training.

    Args:
        run_dir: The run folder, see :func:`~cxrlab.reports.record.read_run`.
        audits: Folder below which an audit of the same data is looked for; where ``None``, ``runs/audit`` beside the
            run, if it lies below a folder ``runs``.

    Raises:
        CheckpointError: If a required file is missing or a file cannot be read; names file and folder.
    """
    record = read_run(Path(run_dir))
    here, said = shown_path(record.folder), warnings(record)
    context = {
        "record": record,
        "synthetic": record.synthetic,
        "warnings": [each for each in said if not each.startswith("left out: ")],
        "left_out": sum(each.startswith("left out: ") for each in said),  # by name in the report
        "details": _details(record),
        "limits": _limits(record),
        "images": by_split(record, ("finding", "view", "sex", "population", "age")),
        "licences": _licences(record),
        **_results(record),
        "audit": _verdicts(find_audit(record, audits)),
        "battery": _verdicts(find_probe(record)),
        "elsewhere": [
            (
                f"{'SYNTHETIC: ' if each.record.synthetic else ''}{each.sources}",
                _size(each.section),
                *(each.section[name] for name in ("auroc", "sensitivity", "specificity")),
                each.trained,
                code(shown_path(each.record.folder)),
            )
            for each in find_evaluations(record)
        ],
        "audit_command": command("audit", **{"data": "manifest", "data.source.path": f"{here}/manifest.csv"}),
        "probe_command": command("probe", ckpt_path=here),
        "evaluate_command": command("evaluate", "data=…", "split=all", ckpt_path=here),
        "predict_command": command("predict", "input=…", ckpt_path=here),
        "report_command": command("report", run=here),
        "program": f'import cxrlab\n\ntable = cxrlab.load({here!r}).predict(["film.png", "film.dcm"])',
    }
    title = f"{'SYNTHETIC: ' if record.synthetic else ''}Model card of {record.folder.resolve().name}"
    write_text(record.folder / CARD, rendered("model_card", title, context))
    return record.folder / CARD


def _details(record: RunRecord) -> list[tuple[str, object]]:
    environment, decided = record.environment, record.decided
    packages, seed = mapping(environment.get("packages")), environment.get("seed", record.config.get("seed"))
    threshold, calibration, output = NOT_RECORDED, NOT_RECORDED, "as the network gives it"
    if decided is not None:
        calibration = decided.calibration.words()
        threshold = f"Positive from {decided.threshold:.3g} on: {decided.rule}"
        output = "calibrated" if decided.calibrated else output
        if (fitted := decided.fitted_on) is not None:
            sizes = f"{plural(fitted['images'], 'image')} of {plural(fitted['patients'], 'patient')}"
            threshold += f" (fitted on {sizes}, validation)"
    meaning = "findings of the training images, as the data set gives them"
    if record.labels_are_collections:
        meaning = "the collections that the training images come from: the label is no disease"
    weights, fingerprint = "no weights were kept (keep_weights=false)", NOT_RECORDED
    kept = [path for name in _WEIGHTS if (path := record.folder / "checkpoints" / name).is_file()]
    if kept:
        weights = Markdown(f"`{file_sha256(kept[0])}` (checkpoints/{kept[0].name})")
    if "sha256" in record.manifest:
        fingerprint = Markdown(f"`{mf.fingerprint(record.manifest)}` (files, labels and splits)")
    return [
        ("Network", f"{record.model}, {known(environment.get('parameters'), ',')} parameters"),
        ("Input", _input(record.data)),
        ("Output", f"per image the probability of Positive in [0, 1], {output}"),
        ("Labels", f"{findings(record)} ({meaning})"),
        ("Threshold", threshold),
        ("Calibration", calibration),
        ("Weights", known(record.metrics.get("weights"))),
        ("SHA-256 of the weights' file", weights),
        ("Fingerprint of the data", fingerprint),
        ("Trained", f"{known(environment.get('started'))}, seed {known(seed)}, on {known(environment.get('device'))}"),
        ("Version", f"cxrlab {known(packages.get('cxrlab'))}, commit {known(environment.get('git_commit'))}"),
        ("Command", code(known(environment.get("command")))),
    ]


def _input(data: dict[str, Any]) -> str:
    size, channels = data.get("image_size"), data.get("channels")
    if size is None:
        return NOT_RECORDED
    height, width = size if isinstance(size, list) else (size, size)
    colours = {3: "RGB", 1: "grey"}.get(channels or 3, f"{channels} channels")
    steps = [f"fit {data.get('fit', 'squeeze')}", f"contrast {data.get('contrast', 'none')}"]
    steps += [f"border {data['border']} cut off"] if data.get("border") else []
    steps += [f"{key} {data[key]}" for key in ("mask", "alter") if data.get(key) not in (None, "none")]
    return f"{height}x{width} pixels, {colours}, {', '.join(steps)}, scaled to [0, 1]"


def _limits(record: RunRecord) -> list[str]:
    """What the training images do not cover, read from the manifest."""
    train = record.rows("train")
    found = ["diagnosis, triage, screening, or any decision about a person"]
    if record.synthetic:
        return [*found, "images of people: every training image was drawn by a program"]
    unknown = pd.Series("", train.index)  # for a column that is not there
    ages = mf.ages(train).dropna()
    span = f"people outside of {ages.min():g} to {ages.max():g} years" if len(ages) else "people of any stated age"
    found.append(f"{span} (age known of {len(ages)} of {plural(len(train), 'training image')})")
    population = train.get("population", unknown)
    for group, name in (("child", "children"), ("adult", "adults")):
        # Both labels need images of a group: else being one of it may be what was learned.
        lacking = [text for label, text in mf.NAMES.items() if group not in set(population[train["label"] == label])]
        if lacking:
            found.append(f"{name}: no {' and no '.join(lacking)} training image is known to be of one")
    views = train.get("view", unknown)
    views = views[views != ""]
    others = [] if (views == "L").any() else ["lateral views"]
    others += [] if views.isin(_CT).any() else ["CT slices"]
    others += ["photographs of films", "anything that is no chest X-ray"]
    listed = tally(views) if len(views) else NOT_RECORDED
    listed += f"; view of {len(train) - len(views)} unknown" if 0 < len(views) < len(train) else ""
    gate = "a gate travels with it and refuses most of these"
    gate = gate if record.config.get("gate") else "no gate travels with it"
    scores = f"The network scores whatever it is given; {gate}"
    found.append(f"{', '.join(others)} (views in training: {listed}). {scores}")
    told = f"telling other diseases apart: in training, {findings(record)}. A low score rules nothing out"
    if record.labels_are_collections:
        told = "telling any disease: it was trained to tell two collections of images apart"
    found.append(told)
    sources, devices = tallied(train, "source"), tallied(train, "device")
    found.append(f"images of other hospitals, devices or years than those behind {sources} (devices: {devices})")
    return found


def _licences(record: RunRecord) -> list[str]:
    """Terms of every collection, where known; a manifest may state them image by image."""
    if record.synthetic:
        return ["Licence of the images: drawn by this program, its own."]
    lines: list[str] = []
    for name in sorted(set(record.manifest.get("source", ()))):
        collection = COLLECTIONS.get(name)
        terms = f"{collection.licence}. Cite: {'; '.join(collection.cite)}" if collection else NOT_RECORDED
        lines.append(Markdown(f"Licence of {code(name)}: {plain(terms)}."))
    stated = tallied(record.manifest, "licence")
    return [*lines, f"Licences image by image: {stated}."] if stated != NOT_RECORDED else lines


def _results(record: RunRecord) -> dict[str, Any]:
    """A row for each metric with a cell for each split that was evaluated; and what needs no network."""
    sections = {split: section for split in EVALUATED if (section := record.section(split))}
    calibrations = [record.calibration(split) for split in sections]
    right = []
    for section in sections.values():
        (tn, fp), (fn, tp) = section["confusion_matrix"]
        right.append(f"{tn + tp} of {section['n']}; {fn} Positive missed, {fp} Negative called Positive")
    rows: list[tuple[object, ...]] = [("Right", *right)]
    rows += [(NAMES[name], *(section[name] for section in sections.values())) for name in METRICS]
    rows += [(name, *(each[name] for each in calibrations)) for name in ("Brier score", "ECE") if all(calibrations)]
    baselines: list[tuple[object, ...]] = []
    if "test" in sections and record.beside:
        beside: dict[str, Any] = {strong("this model"): sections["test"]}
        beside |= {name.replace("_", " "): each for name, each in record.beside.items()}
        baselines = [(name, each["accuracy"], each["auroc"]) for name, each in beside.items()]
    return {
        "header": ["Metric", *(f"{SPLITS[split]} ({_size(section)})" for split, section in sections.items())],
        "metrics": rows,
        "methods": {SPLITS[split]: {NAMES[key]: each[key] for key in METRICS} for split, each in sections.items()},
        "baselines": baselines,
    }


def _size(section: dict[str, Any]) -> str:
    of = f"{section['n_positive']} Positive, {section['n_negative']} Negative"
    return f"{plural(section['n'], 'image')}: {of}; {plural(section['n_patients'], 'patient')}"


def _verdicts(found: Companion | None) -> dict[str, Any] | None:
    """The overall verdict, what fails or warns, and how many lines say something else."""
    if found is None:
        return None
    verdicts = [mapping(each) for each in found.content.get("verdicts") or []]
    serious = [each for each in verdicts if each.get("verdict") in ("FAIL", "WARN")]
    others = [*serious[MOST:], *(each for each in verdicts if each not in serious)]
    rest = Counter(str(each.get("verdict")) for each in others)
    return {
        "verdict": found.content.get("verdict", NOT_RECORDED),
        "remark": found.remark,
        "synthetic": bool(found.content.get("synthetic")),
        "size": ", ".join(f"{found.content[key]} {key}" for key in ("images", "patients") if key in found.content),
        "serious": [tuple(each.get(key, "") for key in ("verdict", "check", "evidence")) for each in serious[:MOST]],
        "rest": ", ".join(f"{count} {verdict}" for verdict, count in rest.items()),
        "file": shown_path(found.path),
    }
