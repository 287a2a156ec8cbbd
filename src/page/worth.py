"""What a model is worth, read from its run folder: numbers on its own images and on others, audit, battery, warnings.

Nothing is measured here. What no file says reads NOT CHECKED. The page says in words what was not checked; the model
card has the command that would check it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrlab.errors import UserError
from cxrlab.evaluation.decision import Decided
from cxrlab.inference import Predictor
from cxrlab.reports import companions
from cxrlab.reports.cautions import warnings
from cxrlab.reports.companions import Companion
from cxrlab.reports.facts import DEPENDS, findings
from cxrlab.reports.markdown import NAMES
from cxrlab.reports.model_card import CARD
from cxrlab.reports.page import render
from cxrlab.reports.record import RunRecord, mapping, read_run
from cxrlab.words import MOST, plural

NOT_CHECKED = "NOT CHECKED"
_ABOVE = 3  # folders above a model's file that are looked into: runs/…/checkpoints/model.ckpt


@dataclass(frozen=True)
class Worth:
    """What is known of a model.

    Attributes:
        synthetic: Whether it was trained on drawn phantoms.
        rows: Names and texts: what has to be known before the first score.
        more: Likewise: what explains a score.
        on_test: One sentence: how often it was right on its test images, with intervals, or that nobody looked.
        maps: By method of saliency: the verdict on whether its maps depend on what the network learned.
        warnings: What a reader must know before the first number.
        card: The whole model card as a page of its own; empty where there is none.
    """

    name: str
    synthetic: bool
    rows: tuple[tuple[str, str], ...]
    more: tuple[tuple[str, str], ...]
    on_test: str
    maps: dict[str, str]
    warnings: tuple[str, ...]
    card: str


def worth(predictor: Predictor) -> Worth:
    """Reads what is known of a model; its run folder is looked for above its file."""
    record, problem = _find_record(predictor.model.path)
    decided = predictor.decided
    meaning = f"{NOT_CHECKED}: no file beside the model says what its training called Positive"
    if record is not None and "finding" in record.manifest:  # a data set's name is no finding
        meaning = f"{findings(record).removeprefix('Positive: ')} (findings of the training images, and how many)"
    said = [each.partition("; `")[0] for each in predictor.warnings()]  # a command is of no use to a reader of films
    if record is None:
        on_test = f"How often it is right: {NOT_CHECKED} ({problem})."
        names = ("Own test images", "Other hospitals", "Audit of its data")
        measured, battery = [(name, f"{NOT_CHECKED}: {problem}") for name in names], []
        probe, card = None, ""
    else:
        own, on_test = _own(record)
        differs = "whether something else than the disease tells its Positive and Negative images apart"
        audit = _verdict(companions.find_audit(record), differs)
        measured = [("Own test images", own), *_elsewhere(record), ("Audit of its data", audit)]
        probe, card = companions.find_probe(record), _card(record)
        by_lungs = "whether it answers by the lungs, or by markers, borders and the like"
        battery = [("Shortcut battery", _verdict(probe, by_lungs))]
        known = set(decided.warnings())
        said += [each for each in warnings(record) if each not in known and not each.startswith("left out: ")]
    calibration = f"{decided.calibration.words()}; {fitted_words(decided)}"
    more = [
        ("Network", _network(predictor, record)),
        *battery,
        ("Called Positive", _threshold(decided)),
        ("Calibration", calibration if decided.calibrated else "none: a score is no probability"),
        ("Input filter", _gate(predictor)),
    ]
    return Worth(
        name=predictor.name,
        synthetic=predictor.synthetic,
        rows=(("Positive means", meaning), *measured),
        more=tuple(more),
        on_test=on_test,
        maps={
            str(each.get("section", "")).rpartition("(")[2].rstrip(")"): str(each.get("verdict", NOT_CHECKED))
            for each in _verdicts(probe)
            if each.get("check") == DEPENDS
        },
        warnings=tuple(each for each in said if not each.startswith("SYNTHETIC")),  # which stands beside the name
        card=card,
    )


def fitted_words(decided: Decided) -> str:
    """On how many validation images and patients calibration and threshold were fitted."""
    fitted = decided.fitted_on
    if fitted is None:
        return "fitted on no image"
    patients = f"{fitted['positive_patients']} Positive and {fitted['negative_patients']} Negative patients"
    return f"fitted on {plural(fitted['images'], 'image')} of {patients}"


def resampled(decided: Decided) -> tuple[float, float] | None:
    """Between which values the threshold falls in 95 % of resamples; ``None`` where it was fitted on nothing."""
    fitted = decided.fitted_on
    if fitted is None or fitted["threshold_low"] is None:
        return None
    return fitted["threshold_low"], fitted["threshold_high"]


def _threshold(decided: Decided) -> str:
    """From where on an image is called Positive, how that was chosen, and on how many patients."""
    text = f"from {decided.threshold:.3g} on: {decided.rule}"
    if decided.fitted_on is not None:
        text += f"; {fitted_words(decided)}"
    limits = resampled(decided)
    return f"{text}; between {limits[0]:.3g} and {limits[1]:.3g} in 95 % of resamples" if limits else text


def _gate(predictor: Predictor) -> str:
    """What looks at an image before it is scored."""
    gate = predictor.gate
    if gate is None:
        return "OFF: whatever is given gets a score, a photograph too"
    if not gate.fingerprint:
        return "rules only (size, colour, blank): no network checks that an image is a frontal chest X-ray"
    measured = gate.measured or f"{NOT_CHECKED}: how often it errs"
    return f"a trained network and rules, weights {gate.fingerprint[:12]}; {measured}"


def _network(predictor: Predictor, record: RunRecord | None) -> str:
    channels, height, width = predictor.preprocessing.shape
    what = record.model if record else str(predictor.metadata["model"].get("_target_", "")).rpartition(".")[2]
    data: dict[str, Any] = predictor.metadata["data"]
    sources = ", ".join(str(source) for source in data.get("sources", [])) or "unknown images"
    synthetic = "SYNTHETIC images drawn by a program, " if predictor.synthetic else ""
    return (
        f"{what}, sees {height}x{width} pixels, {'RGB' if channels == 3 else 'grey'}; "
        f"trained on {synthetic}{sources} ({plural(int(data.get('images', 0)), 'image')} in all)"
    )


# ------------------------------------------------------------------------------------------------------- from a run


def _find_record(path: Path) -> tuple[RunRecord | None, str]:
    """The run that a model's file lies in; else why there is none."""
    for folder in list(path.absolute().parents)[:_ABOVE]:
        if (folder / "metrics.json").is_file() and (folder / "config.yaml").is_file():
            try:
                return read_run(folder), ""
            except UserError as error:
                return None, str(error)
    return None, "no run folder lies above the model's file; give the folder that its training wrote"


def _own(record: RunRecord) -> tuple[str, str]:
    """Its numbers on its own test images: a row of the table, and a sentence."""
    section = record.section("test")
    if section is None:
        reason = "no test image was evaluated"
        return f"{NOT_CHECKED}: {reason}", f"How often it is right: {NOT_CHECKED} ({reason})."
    where = "its SYNTHETIC test images" if record.synthetic else "its own test images"
    numbers = " and ".join(f"{name} {section[name]}" for name in ("sensitivity", "specificity"))
    method = section["sensitivity"].method  # which says, too, where the intervals are too narrow
    on_test = f"On {where} ({section['n']} of {section['n_patients']} patients): {numbers}; {method}."
    return _numbers(record, section), on_test


def _numbers(record: RunRecord, section: dict[str, Any]) -> str:
    numbers = "; ".join(f"{NAMES[name]} {section[name]}" for name in ("auroc", "sensitivity", "specificity"))
    sizes = f"{section['n_positive']} Positive, {section['n_negative']} Negative; {section['n_patients']} patients"
    return f"{'SYNTHETIC: ' if record.synthetic else ''}{numbers} ({plural(section['n'], 'image')}: {sizes})"


def _elsewhere(record: RunRecord) -> list[tuple[str, str]]:
    found = companions.find_evaluations(record)
    if not found:
        return [("Other hospitals", f"{NOT_CHECKED}: it has not been tried on images of another source")]
    rows = []
    for each in found[:MOST]:
        seen = f"; {each.trained} of them known from training" if each.trained else ""
        rows.append((f"Images of {each.sources}", f"{_numbers(each.record, each.section)}{seen}"))
    if len(found) > MOST:
        rows.append(("Other images", f"{len(found) - MOST} more evaluations: see the model card"))
    return rows


def _verdicts(found: Companion | None) -> list[dict[str, Any]]:
    return [mapping(each) for each in found.content.get("verdicts") or []] if found else []


def _verdict(found: Companion | None, unchecked: str) -> str:
    """What an audit or a battery says in all, and what fails; else what nobody has checked."""
    if found is None:
        return f"{NOT_CHECKED}: {unchecked}"
    failed = [str(each.get("check", "")) for each in _verdicts(found) if each.get("verdict") == "FAIL"]
    text = str(found.content.get("verdict", "NOT RECORDED"))
    if failed:
        text += f": {', '.join(failed[:MOST])}"
    return f"{text} ({found.remark})" if found.remark else text


def _card(record: RunRecord) -> str:
    path = record.folder / CARD
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text.startswith("---\n"):  # what model hubs read is no text for people
        text = text[4:].partition("\n---\n")[2]
    return text and render(text, record.folder, f"Model card of {record.folder.resolve().name}")
