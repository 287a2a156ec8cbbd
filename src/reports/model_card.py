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
from cxrlab.evaluation.decision import Decided
from cxrlab.files import file_sha256, write_text
from cxrlab.reports import companions
from cxrlab.reports.cautions import warnings
from cxrlab.reports.companions import Companion, shown_path
from cxrlab.reports.documents import rendered
from cxrlab.reports.facts import SPLITS, ages, by_split, findings, known, patients, tallied
from cxrlab.reports.markdown import LABELS, NAMES, NOT_RECORDED, Markdown, code, plain, strong
from cxrlab.reports.record import EVALUATED, RunRecord, mapping, read_run
from cxrlab.untrusted import read_mapping
from cxrlab.words import MOST, plural, tally

CARD = "model_card.md"
_WEIGHTS = ("model.ckpt", "best.ckpt", "last.ckpt")  # of a finished run; of an unfinished one
_LATERAL = ("L",)
_CT = ("Axial", "Coronal")
_TOLD = ("finding", "view", "sex", "population")  # columns that are counted for each split and label


def is_trained(run_dir: Path) -> bool:
    """Whether a run folder is a classifier's training: an evaluation leaves no model of its own, and gets no card."""
    config = read_mapping(Path(run_dir) / "config.yaml")
    return "optimizer" in config and config.get("task", "classify") == "classify"


def write_model_card(run_dir: Path, audits: Path | None = None) -> Path:
    """Writes ``model_card.md`` into the folder of a finished or interrupted training.

    Args:
        run_dir: The run folder; as for a report, ``config.yaml``, ``environment.json``, ``manifest.csv`` and
            ``metrics.json`` must be there.
        audits: Folder below which an audit of the same data is looked for; where ``None``, ``runs/audit`` beside the
            run, if it lies below a folder ``runs``.

    Returns:
        The path of the card.

    Raises:
        CheckpointError: If a required file is missing or a file cannot be read; names file and folder.
    """
    record = read_run(Path(run_dir))
    here = shown_path(record.folder)
    splits = {SPLITS[split]: section for split in EVALUATED if (section := record.section(split))}
    said = warnings(record)
    context = {
        "record": record,
        "synthetic": record.synthetic,
        "warnings": [each for each in said if not each.startswith("left out: ")],
        "left_out": sum(each.startswith("left out: ") for each in said),  # by name in the report
        "details": _details(record),
        "limits": _limits(record),
        "images": [
            (title, name, len(part), patients(part), *(tallied(part, column) for column in _TOLD), ages(part))
            for title, name, part in by_split(record)
        ],
        "steps": [] if record.flow is None else record.flow.to_dict("records"),
        "licences": _licences(record),
        "header": ["Metric", *(f"{title} ({_size(section)})" for title, section in splits.items())],
        "metrics": _metrics(record),
        "methods": {title: {NAMES[name]: each[name] for name in METRICS} for title, each in splits.items()},
        "baselines": _baselines(record),
        "audit": _verdicts(companions.find_audit(record, audits)),
        "battery": _verdicts(companions.find_probe(record)),
        "elsewhere": [
            (
                f"{'SYNTHETIC: ' if each.record.synthetic else ''}{each.sources}",
                _size(each.section),
                *(each.section[name] for name in ("auroc", "sensitivity", "specificity")),
                each.trained,
                code(shown_path(each.record.folder)),
            )
            for each in companions.find_evaluations(record)
        ],
        "audit_command": command("audit", **{"data": "manifest", "data.source.path": f"{here}/manifest.csv"}),
        "probe_command": command("probe", ckpt_path=here),
        "evaluate_command": command("evaluate", "data=…", "split=all", ckpt_path=here),
        "predict_command": command("predict", "input=…", ckpt_path=here),
        "report_command": command("report", run=here),
        "program": f'import cxrlab\n\ntable = cxrlab.load({here!r}).predict(["film.png", "film.dcm"])',
    }
    title = f"{'SYNTHETIC: ' if record.synthetic else ''}Model card of {record.folder.resolve().name}"
    path = record.folder / CARD
    write_text(path, rendered("model_card", title, context))
    return path


def _details(record: RunRecord) -> list[tuple[str, object]]:
    decided = record.decided
    environment, packages = record.environment, mapping(record.environment.get("packages"))
    parameters = environment.get("parameters")
    output = "calibrated" if decided is not None and decided.calibrated else "as the network gives it"
    seed = known(environment.get("seed", record.config.get("seed")))
    return [
        ("Network", f"{record.model}, {NOT_RECORDED if parameters is None else f'{parameters:,}'} parameters"),
        ("Input", _input(record)),
        ("Output", f"per image the probability of Positive in [0, 1], {output}"),
        ("Labels", _meaning(record)),
        ("Threshold", _threshold(decided)),
        ("Calibration", NOT_RECORDED if decided is None else decided.calibration.words()),
        ("Weights", known(record.metrics.get("weights"))),
        ("SHA-256 of the weights' file", _weights_hash(record)),
        ("Fingerprint of the data", _data_fingerprint(record)),
        ("Trained", f"{known(environment.get('started'))}, seed {seed}, on {known(environment.get('device'))}"),
        ("Version", f"cxrlab {known(packages.get('cxrlab'))}, commit {known(environment.get('git_commit'))}"),
        ("Command", code(known(environment.get("command")))),
    ]


def _input(record: RunRecord) -> str:
    data = mapping(record.config.get("data"))
    size, channels = data.get("image_size"), data.get("channels")
    if size is None:
        return NOT_RECORDED
    height, width = size if isinstance(size, list) else (size, size)
    colours = {3: "RGB", 1: "grey"}.get(channels or 3, f"{channels} channels")
    steps = [f"fit {data.get('fit', 'squeeze')}", f"contrast {data.get('contrast', 'none')}"]
    steps += [f"border {data['border']} cut off"] if data.get("border") else []
    steps += [f"{key} {data[key]}" for key in ("mask", "alter") if data.get(key) not in (None, "none")]
    return f"{height}x{width} pixels, {colours}, {', '.join(steps)}, scaled to [0, 1]"


def _meaning(record: RunRecord) -> str:
    what = "findings of the training images, as the data set gives them"
    if record.labels_are_collections:
        what = "the collections that the training images come from: the label is no disease"
    return f"{findings(record)} ({what})"


def _threshold(decided: Decided | None) -> str:
    if decided is None:
        return NOT_RECORDED
    text = f"Positive from {decided.threshold:.3g} on: {decided.rule}"
    if decided.fitted_on is None:
        return text
    sizes = (plural(decided.fitted_on[name], noun) for name, noun in (("images", "image"), ("patients", "patient")))
    return f"{text} (fitted on {' of '.join(sizes)}, validation)"


def _weights_hash(record: RunRecord) -> str:
    for name in _WEIGHTS:
        path = record.folder / "checkpoints" / name
        if path.is_file():
            return Markdown(f"`{file_sha256(path)}` (checkpoints/{name})")
    return "no weights were kept (keep_weights=false)"


def _data_fingerprint(record: RunRecord) -> str:
    if "sha256" not in record.manifest:
        return NOT_RECORDED
    return Markdown(f"`{mf.fingerprint(record.manifest)}` (files, labels and splits)")


def _limits(record: RunRecord) -> list[str]:
    """What the training images do not cover, read from the manifest."""
    train = record.rows("train")
    found = ["diagnosis, triage, screening, or any decision about a person"]
    if record.synthetic:
        return [*found, "images of people: every training image was drawn by a program"]
    found += [_age_limit(train), *_population_limits(train), _view_limit(train, record)]
    if record.labels_are_collections:
        found.append("telling any disease: it was trained to tell two collections of images apart")
    else:
        what = findings(record)
        found.append(f"telling other diseases apart: in training, {what}. A low score rules nothing out")
    sources, devices = tallied(train, "source"), tallied(train, "device")
    found.append(f"images of other hospitals, devices or years than those behind {sources} (devices: {devices})")
    return found


def _age_limit(train: pd.DataFrame) -> str:
    ages = mf.ages(train).dropna()
    span = f"people outside of {ages.min():g} to {ages.max():g} years" if len(ages) else "people of any stated age"
    return f"{span} (age known of {len(ages)} of {plural(len(train), 'training image')})"


def _population_limits(train: pd.DataFrame) -> list[str]:
    """A group is covered where both labels have images of it: else being one of it may be what was learned."""
    population = train["population"] if "population" in train else pd.Series("", train.index)
    found = []
    for group, name in (("child", "children"), ("adult", "adults")):
        lacking = [label for key, label in LABELS.items() if not (population[train["label"] == key] == group).any()]
        if lacking:
            found.append(f"{name}: no {' and no '.join(lacking)} training image is known to be of one")
    return found


def _view_limit(train: pd.DataFrame, record: RunRecord) -> str:
    views = train["view"] if "view" in train else pd.Series("", train.index)
    known = views[views != ""]
    others = [] if known.isin(_LATERAL).any() else ["lateral views"]
    others += [] if known.isin(_CT).any() else ["CT slices"]
    others += ["photographs of films", "anything that is no chest X-ray"]
    listed = tally(known) if len(known) else NOT_RECORDED
    unknown = f"; view of {len(train) - len(known)} unknown" if 0 < len(known) < len(train) else ""
    gate = (
        "a gate travels with it and refuses most of these" if record.config.get("gate") else "no gate travels with it"
    )
    return (
        f"{', '.join(others)} (views in training: {listed}{unknown}). The network scores whatever it is given; {gate}"
    )


def _licences(record: RunRecord) -> list[object]:
    """Terms of every collection, where known; a manifest may state them image by image."""
    if record.synthetic:
        return ["Licence of the images: drawn by this program, its own."]
    lines: list[object] = []
    for name in sorted(set(record.manifest["source"])) if "source" in record.manifest else []:
        collection = COLLECTIONS.get(name)
        terms = NOT_RECORDED
        if collection is not None:
            terms = f"{collection.licence}. Cite: {'; '.join(collection.cite)}"
        lines.append(Markdown(f"Licence of {code(name)}: {plain(terms)}."))
    stated = tallied(record.manifest, "licence")
    return [*lines, f"Licences image by image: {stated}."] if stated != NOT_RECORDED else lines


def _metrics(record: RunRecord) -> list[tuple[object, ...]]:
    """A row for each metric, with a cell for each split that was evaluated."""
    splits = [split for split in EVALUATED if record.section(split)]
    sections = [record.section(split) or {} for split in splits]
    calibrations = [record.calibration(split) for split in splits]
    rows: list[tuple[object, ...]] = [("Right", *map(_right, sections))]
    rows += [(NAMES[name], *(section[name] for section in sections)) for name in METRICS]
    if all(calibrations):
        rows += [
            (name, *(each[key] for each in calibrations)) for name, key in (("Brier score", "brier"), ("ECE", "ece"))
        ]
    return rows


def _size(section: dict[str, Any]) -> str:
    of = f"{section['n_positive']} Positive, {section['n_negative']} Negative"
    return f"{plural(section['n'], 'image')}: {of}; {plural(section['n_patients'], 'patient')}"


def _baselines(record: RunRecord) -> list[tuple[object, ...]]:
    """What needs no network, on the same test images: what the data set gives away for nothing."""
    section = record.section("test")
    if section is None or not record.beside:
        return []
    found = {strong("this model"): section} | {name.replace("_", " "): each for name, each in record.beside.items()}
    return [(name, each["accuracy"], each["auroc"]) for name, each in found.items()]


def _right(section: dict[str, Any]) -> str:
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    return f"{tn + tp} of {section['n']}; {fn} Positive missed, {fp} Negative called Positive"


def _verdicts(found: Companion | None) -> dict[str, Any] | None:
    """The overall verdict, what fails or warns, and how many lines say something else."""
    if found is None:
        return None
    verdicts = [mapping(each) for each in found.content.get("verdicts") or []]
    serious = [each for each in verdicts if each.get("verdict") in ("FAIL", "WARN")]
    rest = Counter(
        str(each.get("verdict")) for each in [*serious[MOST:], *(each for each in verdicts if each not in serious)]
    )
    return {
        "verdict": found.content.get("verdict", NOT_RECORDED),
        "remark": found.remark,
        "synthetic": bool(found.content.get("synthetic")),
        "size": ", ".join(f"{found.content[key]} {key}" for key in ("images", "patients") if key in found.content),
        "serious": [tuple(each.get(key, "") for key in ("verdict", "check", "evidence")) for each in serious[:MOST]],
        "rest": ", ".join(f"{number} {verdict}" for verdict, number in rest.items()),
        "file": shown_path(found.path),
    }
