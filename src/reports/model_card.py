"""The model card of a run: what the model is, what it was measured on, and what it must not be used for; one page.

After M. Mitchell et al., Model Cards for Model Reporting, FAT* 2019, arXiv:1810.03993, whose headings it keeps; it
answers what CLAIM 2024 (Radiol Artif Intell 6:e240300) and TRIPOD+AI (BMJ 2024;385:e078378) ask of data, outcome and
evaluation. Everything is read from files: the run's own, and what other commands found out about it
(:mod:`cxrlab.reports.companions`). What no file says reads NOT RECORDED, what nobody looked at NOT CHECKED, with the
command that does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cxrlab.console import DISCLAIMER, command
from cxrlab.datamodules import manifest as mf
from cxrlab.downloads import COLLECTIONS
from cxrlab.errors import CheckpointError
from cxrlab.evaluation import METRICS, calibration, summarise
from cxrlab.evaluation.baselines import DESCRIPTIONS
from cxrlab.evaluation.decision import Decided
from cxrlab.files import file_sha256, write_text
from cxrlab.reports import companions
from cxrlab.reports.cautions import warnings
from cxrlab.reports.companions import Companion, shown_path
from cxrlab.reports.markdown import LABELS, NAMES, Markdown, code, code_block, markdown_table, plain
from cxrlab.reports.record import EVALUATED, RunRecord, mapping, read_run
from cxrlab.untrusted import read_mapping
from cxrlab.words import MOST, plural, tally

CARD = "model_card.md"
NOT_RECORDED = "NOT RECORDED"
SPLITS = {"train": "Training", "val": "Validation", "test": "Test"}
_WEIGHTS = ("model.ckpt", "best.ckpt", "last.ckpt")  # of a finished run; of an unfinished one
_LATERAL = ("L",)
_CT = ("Axial", "Coronal")
_CITATIONS = (
    "The code: see `CITATION.cff`; also cite the paper of the network (its docstring names it) and of the data."
)


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
    parts = [_front_matter(record), _head(record), _model(record), _use(record), _training_data(record)]
    parts += [_results(record), _evidence(record, audits), _caveats(record), _how_to(record)]
    path = record.folder / CARD
    write_text(path, "\n\n".join(part for part in parts if part) + "\n")
    return path


# ---------------------------------------------------------------------------------------------------------- the head


def _front_matter(record: RunRecord) -> str:
    """The YAML with which model hubs begin a card; no licence, which is the user's to give."""
    tags = ["chest-x-ray", "pytorch", "cxrlab", "research-only", *(["synthetic"] if record.synthetic else [])]
    head = {"pipeline_tag": "image-classification", "tags": tags}
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---"


def _head(record: RunRecord) -> str:
    lines = [f"# {'SYNTHETIC: ' if record.synthetic else ''}Model card of {plain(record.folder.resolve().name)}"]
    if record.synthetic:
        lines.append("**SYNTHETIC: the images were drawn by a program. Nothing below says anything about patients.**")
    if record.unfinished:
        lines.append(f"**{plain(record.unfinished)}**")
    lines.append("\n".join(f"- **WARNING:** {plain(warning)}" for warning in _warnings(record)))
    lines.append(f"{DISCLAIMER} A score is no diagnosis.")
    return "\n\n".join(line for line in lines if line)


def _warnings(record: RunRecord) -> list[str]:
    """Those of the report; what could not be read is counted, since the report has it by name."""
    found = warnings(record)
    kept = [warning for warning in found if not warning.startswith("left out: ")]
    if len(kept) < len(found):
        kept.append("files that could not be read were left out (data.on_error=skip): report.md names them")
    return kept


def _model(record: RunRecord) -> str:
    decided = _decided(record)
    environment, packages = record.environment, mapping(record.environment.get("packages"))
    parameters = environment.get("parameters")
    rows = [
        ("Network", f"{record.model}, {NOT_RECORDED if parameters is None else f'{parameters:,}'} parameters"),
        ("Input", _input(record)),
        ("Output", f"per image the probability of Positive in [0, 1], {_output(decided)}"),
        ("Labels", _meaning(record)),
        ("Threshold", _threshold(record, decided)),
        ("Calibration", NOT_RECORDED if decided is None else decided.calibration.words()),
        ("Weights", _known(record.metrics.get("weights"))),
        ("SHA-256 of the weights' file", _weights_hash(record)),
        ("Fingerprint of the data", _data_fingerprint(record)),
        (
            "Trained",
            f"{_known(environment.get('started'))}, seed {_seed(record)}, on {_known(environment.get('device'))}",
        ),
        ("Version", f"cxrlab {_known(packages.get('cxrlab'))}, commit {_known(environment.get('git_commit'))}"),
        ("Command", code(_known(environment.get("command")))),
    ]
    return "## Model details\n\n" + markdown_table(rows, ("What", "Value"))


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
    """What the labels are made of: the findings that the data set gives, never what it is called."""
    train = record.rows("train")
    column = "source" if record.labels_are_collections else "finding"
    each = [f"{name}: {_tallied(train[train['label'] == label], column)}" for label, name in LABELS.items()]
    what = "findings of the training images, as the data set gives them"
    if record.labels_are_collections:
        what = "the collections that the training images come from: the label is no disease"
    return f"{'; '.join(each)} ({what})"


def _decided(record: RunRecord) -> Decided | None:
    """How scores become calls; ``None`` for runs that are older than decisions, or were never evaluated."""
    found = mapping(record.metrics.get("decision"))
    try:
        return Decided.from_dict(found) if found else None
    except ValueError as error:
        hint = "restore the file as the run wrote it, or train again"
        raise CheckpointError(f"{record.folder / 'metrics.json'}: its decision is none ({error}); {hint}") from None


def _output(decided: Decided | None) -> str:
    return "calibrated" if decided is not None and decided.calibrated else "as the network gives it"


def _threshold(record: RunRecord, decided: Decided | None) -> str:
    if decided is None:
        section = next((found for split in EVALUATED if (found := record.section(split))), None)
        return f"Positive from {section['threshold']:g} on" if section else NOT_RECORDED
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


def _seed(record: RunRecord) -> str:
    return _known(record.environment.get("seed", record.config.get("seed")))


# ---------------------------------------------------------------------------------------------------- what it is for


def _use(record: RunRecord) -> str:
    intended = (
        "Research on chest X-ray classification: to repeat, compare and criticise results on the images below. "
        "Nothing else was tested."
    )
    limits = "\n".join(f"- {plain(limit)}" for limit in _limits(record))
    return f"## Intended use\n\n{intended}\n\n**It must not be used for:**\n\n{limits}"


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
        what = _meaning(record).rpartition(" (")[0]
        found.append(f"telling other diseases apart: in training, {what}. A low score rules nothing out")
    sources, devices = _tallied(train, "source"), _tallied(train, "device")
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


# ---------------------------------------------------------------------------------------------------------- the data


def _training_data(record: RunRecord) -> str:
    rows = []
    for split, title in SPLITS.items():
        images = record.rows(split)
        for label, name in LABELS.items() if len(images) else ():
            part = images[images["label"] == label]
            facts = (_tallied(part, column) for column in ("finding", "view", "sex", "population"))
            rows.append((title, name, len(part), _patients(part), *facts, _ages(part)))
    header = ("Split", "Label", "Images", "Patients", "Findings", "Views", "Sex", "Population", "Age")
    lines = ["## Training and evaluation data", markdown_table(rows, header)]
    if record.val_is_test:
        lines.append("The test images served as validation (data.val=test): no independent test exists.")
    lines += [_flow(record), "\n".join(f"- {line}" for line in _licences(record))]
    return "\n\n".join(lines)


def _patients(part: pd.DataFrame) -> str:
    known = part["patient_id"][part["patient_id"] != ""]
    unknown = len(part) - len(known)
    return f"{known.nunique()}" + (f" + {plural(unknown, 'image')} of unknown patients" if unknown else "")


def _ages(part: pd.DataFrame) -> str:
    ages = mf.ages(part).dropna()
    if ages.empty:
        return NOT_RECORDED
    return f"{ages.min():g} to {ages.max():g}, median {ages.median():g} ({len(ages)} known)"


def _tallied(part: pd.DataFrame, column: str) -> str:
    """Counts of a column's values; NOT RECORDED where the manifest has none."""
    if column not in part or not (part[column] != "").any():
        return NOT_RECORDED
    return tally(part[column])


def _flow(record: RunRecord) -> str:
    if record.flow is None:
        return f"Flow of cases: {NOT_RECORDED}."
    steps = record.flow.to_dict("records")
    removed = [f"{step['step']}: {step['removed']}" for step in steps if step["removed"]]
    used = f"{plural(len(record.manifest), 'image')} used"
    return f"Flow of cases: {used}; removed: {plain('; '.join(removed)) or 'none'} (every step: [flow.csv](flow.csv))."


def _licences(record: RunRecord) -> list[str]:
    """Terms of every collection, where known; a manifest may state them image by image."""
    if record.synthetic:
        return ["Licence of the images: drawn by this program, its own."]
    lines = []
    for name in sorted(set(record.manifest["source"])) if "source" in record.manifest else []:
        known = COLLECTIONS.get(name)
        terms = f"{known.licence}. Cite: {'; '.join(known.cite)}" if known else NOT_RECORDED
        lines.append(f"Licence of {code(name)}: {plain(terms)}.")
    stated = _tallied(record.manifest, "licence")
    return [*lines, f"Licences image by image: {plain(stated)}."] if stated != NOT_RECORDED else lines


# ------------------------------------------------------------------------------------------------------- the numbers


def _results(record: RunRecord) -> str:
    evaluated = {split: section for split in EVALUATED if (section := record.section(split))}
    if not evaluated:
        return "## Results\n\nNo split was evaluated: there is no result."
    header = ["Metric", *(f"{SPLITS[split]} {_size(section)}" for split, section in evaluated.items())]
    rows = [("Right", *(_right(section) for section in evaluated.values()))]
    rows += [(NAMES[name], *(str(section[name]) for section in evaluated.values())) for name in METRICS]
    rows += _calibration_rows(record, evaluated)
    methods = "\n".join(f"- {SPLITS[split]}: {_methods(section)}" for split, section in evaluated.items())
    said = "Value [low, high]; curves and mistakes are in [report.md](report.md). Intervals:"
    return "\n\n".join(["## Results", markdown_table(rows, header), said, methods, _baselines(record)])


def _methods(section: Mapping[str, Any]) -> str:
    """How the intervals of a split were made, each way once."""
    names: dict[str, list[str]] = {}
    for name in METRICS:
        names.setdefault(plain(section[name].method), []).append(NAMES[name])
    return "; ".join(f"{', '.join(named)}: {method}" for method, named in names.items())


def _size(section: Mapping[str, Any]) -> str:
    of = f"{section['n_positive']} Positive, {section['n_negative']} Negative"
    return f"({plural(section['n'], 'image')}: {of}; {plural(section['n_patients'], 'patient')})"


def _right(section: Mapping[str, Any]) -> str:
    (tn, fp), (fn, tp) = section["confusion_matrix"]
    return f"{tn + tp} of {section['n']}; {fn} Positive missed, {fp} Negative called Positive"


def _calibration_rows(record: RunRecord, evaluated: Mapping[str, Any]) -> list[tuple[str, ...]]:
    found = []
    for split in evaluated:
        rows = record.scored(split)
        if rows is None or rows.empty:
            return []
        found.append(calibration.summary(rows["label"], rows["score"], mf.people(rows)))
    names = (("Brier score", "brier"), ("ECE", "ece"))
    return [(name, *(str(summary[key]) for summary in found)) for name, key in names]


def _baselines(record: RunRecord) -> str:
    """What needs no network, on the same test images: what the data set gives away for nothing."""
    table, section = record.baselines, record.section("test")
    if table is None or section is None:
        return f"Trivial baselines: NOT CHECKED: {code(command('report', run=_here(record)))}."
    rows: list[tuple[str, ...]] = [(Markdown("**this model**"), str(section["accuracy"]), str(section["auroc"]))]
    people = mf.people(table).to_numpy()
    for name in [name for name in DESCRIPTIONS if name in table]:
        scores = table[name].to_numpy(dtype=float)
        found = summarise(table["label"].to_numpy(), scores, people)
        rows.append((name.replace("_", " "), str(found["accuracy"]), str(found["auroc"])))
    header = ("Test images", "Accuracy", "AUROC")
    return f"Beside what sees no lung in detail (each baseline at 0.5):\n\n{markdown_table(rows, header)}"


# ------------------------------------------------------------------------------------------------ is it the disease?


def _evidence(record: RunRecord, audits: Path | None) -> str:
    parts = ["## Does it see the disease?", _audit(record, audits), _battery(record), _elsewhere(record)]
    return "\n\n".join(parts)


def _audit(record: RunRecord, audits: Path | None) -> str:
    found = companions.find_audit(record, audits)
    if found is None:
        how = command("audit", **{"data": "manifest", "data.source.path": f"{_here(record)}/manifest.csv"})
        return f"**Audit of the data: NOT CHECKED.** {code(how)}"
    return _verdicts("Audit of the data", found)


def _battery(record: RunRecord) -> str:
    found = companions.find_probe(record)
    if found is None:
        return f"**Shortcut battery: NOT CHECKED.** {code(command('probe', ckpt_path=_here(record)))}"
    return _verdicts("Shortcut battery", found)


def _verdicts(title: str, found: Companion) -> str:
    """The overall verdict, what fails or warns, and how many lines say something else."""
    verdicts = [mapping(each) for each in found.content.get("verdicts") or []]
    serious = [each for each in verdicts if each.get("verdict") in ("FAIL", "WARN")]
    lines = [
        f"- **{plain(each['verdict'])}** {plain(each.get('check', ''))}: {plain(each.get('evidence', ''))}"
        for each in serious[:MOST]
    ]
    shown = [id(each) for each in serious[:MOST]]
    rest = Counter(str(each.get("verdict")) for each in verdicts if id(each) not in shown)
    more = ", ".join(f"{number} {plain(verdict)}" for verdict, number in rest.items())
    lines += [f"- and {more}: {code(shown_path(found.path))}"] if more else []
    marked = "SYNTHETIC, " if found.content.get("synthetic") else ""
    size = ", ".join(f"{plain(found.content[key])} {key}" for key in ("images", "patients") if key in found.content)
    remark = f" ({plain(found.remark)})" if found.remark else ""
    verdict = f"**{title}: {plain(found.content.get('verdict', NOT_RECORDED))}**"
    return "\n\n".join(part for part in (f"{verdict}{remark}: {marked}{size}.", "\n".join(lines)) if part)


def _elsewhere(record: RunRecord) -> str:
    found = companions.find_evaluations(record)
    if not found:
        how = command("evaluate", "data=…", "split=all", ckpt_path=_here(record))
        return f"**Other hospitals and devices: NOT CHECKED.** {code(how)}"
    rows = [
        (
            f"{'SYNTHETIC: ' if each.record.synthetic else ''}{each.sources}",
            f"{_size(each.section)[1:-1]}",
            str(each.section["auroc"]),
            str(each.section["sensitivity"]),
            str(each.section["specificity"]),
            each.trained,
            code(shown_path(each.record.folder)),
        )
        for each in found
    ]
    header = (
        "Images of",
        "Size",
        "AUROC",
        "Sensitivity",
        "Specificity",
        "Images whose file or patient was trained on",
        "Evaluation",
    )
    return f"**On other images:**\n\n{markdown_table(rows, header)}"


# ------------------------------------------------------------------------------------------------------------ the end


def _caveats(record: RunRecord) -> str:
    lines = ["NOT CHECKED: whether the labels are right; they are taken as the data set gives them."]
    lines.append("NOT CHECKED: performance by age, sex, view and device; the data are few, or do not say.")
    lines.append("PPV and NPV hold for the share of Positives among these images, not for a clinic's.")
    if record.section("test") is None:
        lines.insert(0, "NOT CHECKED: images that training never saw (no test split was evaluated).")
    return "## Caveats\n\n" + "\n".join(f"- {line}" for line in lines)


def _how_to(record: RunRecord) -> str:
    here = _here(record)
    program = f'import cxrlab\n\ntable = cxrlab.load({here!r}).predict(["film.png", "film.dcm"])'
    commands = [
        command("predict", "input=…", ckpt_path=here),
        command("evaluate", "data=…", "split=all", ckpt_path=here),
        command("report", run=here),
    ]
    said = "The last command writes report and card anew, with what audits, batteries and evaluations found since."
    blocks = [code_block("\n".join(commands)), said, code_block(program, "python"), _CITATIONS]
    return "## How to use and cite it\n\n" + "\n\n".join(blocks)


def _here(record: RunRecord) -> str:
    return shown_path(record.folder)


def _known(value: Any) -> str:
    return NOT_RECORDED if value is None or value == "" else str(value)
