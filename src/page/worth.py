"""What a model is worth, read from its run folder: numbers on its own images and on others, audit, battery, warnings.

Nothing is measured here. What no file says reads NOT CHECKED. The page says in words what was not checked; the model
card has the command that would check it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxrlab.errors import UserError
from cxrlab.evaluation.decision import Decided
from cxrlab.inference import Predictor
from cxrlab.reports import companions
from cxrlab.reports.cautions import DEPENDS, findings, warnings
from cxrlab.reports.companions import Companion
from cxrlab.reports.documents import NAMES, render
from cxrlab.reports.model_card import CARD
from cxrlab.reports.record import RunRecord, mapping, read_run
from cxrlab.words import MOST, plural

NOT_CHECKED = "NOT CHECKED"
_ABOVE = 3  # folders above a model's file that are looked into: runs/…/checkpoints/model.ckpt


@dataclass(frozen=True)
class Worth:
    """What is known of a model."""

    name: str
    synthetic: bool  # whether it was trained on drawn phantoms
    rows: tuple[tuple[str, str], ...]  # names and texts: what has to be known before the first score
    more: tuple[tuple[str, str], ...]  # likewise: what explains a score
    on_test: str  # a sentence: how often it was right on its test images, with intervals, or that nobody looked
    maps: dict[str, str]  # by method of saliency: the verdict on whether its maps depend on what the network learned
    warnings: tuple[str, ...]  # what a reader must know before the first number
    card: str  # the whole model card as a page of its own; empty where there is none


def worth(predictor: Predictor) -> Worth:
    """Reads what is known of a model; its run folder is looked for above its file."""
    record, problem = _find_record(predictor.model.path)
    data = predictor.metadata["data"]
    said = [each.partition("; `")[0] for each in predictor.warnings()]  # a command is of no use to a reader of films
    meaning = f"{NOT_CHECKED}: no file beside the model says what its training called Positive"
    network = str(predictor.metadata["model"].get("_target_", "")).rpartition(".")[2]
    battery, maps, card = [], {}, ""
    if record is None:
        on_test = f"How often it is right: {NOT_CHECKED} ({problem})."
        names = ("Own test images", "Other hospitals", "Audit of its data")
        measured = [(name, f"{NOT_CHECKED}: {problem}") for name in names]
    else:
        network = record.model
        if "finding" in record.manifest:  # a data set's name is no finding
            meaning = f"{findings(record).removeprefix('Positive: ')} (findings of the training images, and how many)"
        measured, on_test = _measured(record)
        probe = companions.find_probe(record)
        by_lungs = "whether it answers by the lungs, or by markers, borders and the like"
        battery = [("Shortcut battery", _verdict(probe, by_lungs))]
        maps = {
            str(each.get("section", "")).rpartition("(")[2].rstrip(")"): str(each.get("verdict", NOT_CHECKED))
            for each in _verdicts(probe)
            if each.get("check") == DEPENDS
        }
        known = predictor.decided.warnings()
        said += [each for each in warnings(record) if each not in known and not each.startswith("left out: ")]
        if (path := record.folder / CARD).is_file():
            # The front matter between two lines of hyphens is for model hubs, and no text for people.
            text = re.sub(r"\A---\n.*?(\n---\n|\Z)", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
            card = render(text, record.folder, f"Model card of {record.folder.resolve().name}")
    channels, height, width = predictor.preprocessing.shape
    sources = ", ".join(map(str, data.get("sources", []))) or "unknown images"
    trained = f"{sources} ({plural(int(data.get('images', 0)), 'image')} in all)"
    synthetic = "SYNTHETIC images drawn by a program, " if predictor.synthetic else ""
    seen = f"{height}x{width} pixels, {'RGB' if channels == 3 else 'grey'}"
    network = f"{network}, sees {seen}; trained on {synthetic}{trained}"
    return Worth(
        name=predictor.name,
        synthetic=predictor.synthetic,
        rows=(("Positive means", meaning), *measured),
        more=(("Network", network), *battery, *_decision(predictor)),
        on_test=on_test,
        maps=maps,
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


def _decision(predictor: Predictor) -> list[tuple[str, str]]:
    """What becomes of a score, and what looks at an image before it is scored."""
    decided, gate = predictor.decided, predictor.gate
    fitted = f"; {fitted_words(decided)}"
    called = f"from {decided.threshold:.3g} on: {decided.rule}"
    if decided.fitted_on is not None:
        limits = resampled(decided)
        spread = f"; between {limits[0]:.3g} and {limits[1]:.3g} in 95 % of resamples" if limits else ""
        called += f"{fitted}{spread}"
    if gate is None:
        looks = "OFF: whatever is given gets a score, a photograph too"
    elif gate.fingerprint:
        measured = gate.measured or f"{NOT_CHECKED}: how often it errs"
        looks = f"a trained network and rules, weights {gate.fingerprint[:12]}; {measured}"
    else:
        looks = "rules only (size, colour, blank): no network checks that an image is a frontal chest X-ray"
    calibration = f"{decided.calibration.words()}{fitted}" if decided.calibrated else "none: a score is no probability"
    return [("Called Positive", called), ("Calibration", calibration), ("Input filter", looks)]


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


def _measured(record: RunRecord) -> tuple[list[tuple[str, str]], str]:
    """Rows of what was measured on images, its own and others; and a sentence of how often it was right."""
    section = record.section("test")
    if section is None:
        reason = "no test image was evaluated"
        own, on_test = f"{NOT_CHECKED}: {reason}", f"How often it is right: {NOT_CHECKED} ({reason})."
    else:
        where = "its SYNTHETIC test images" if record.synthetic else "its own test images"
        numbers = " and ".join(f"{name} {section[name]}" for name in ("sensitivity", "specificity"))
        method = section["sensitivity"].method  # which says, too, where the intervals are too narrow
        own = _numbers(record, section)
        on_test = f"On {where} ({section['n']} of {section['n_patients']} patients): {numbers}; {method}."
    rows = [("Own test images", own)]
    found = companions.find_evaluations(record)
    for each in found[:MOST]:
        seen = f"; {each.trained} of them known from training" if each.trained else ""
        rows.append((f"Images of {each.sources}", f"{_numbers(each.record, each.section)}{seen}"))
    if not found:
        rows.append(("Other hospitals", f"{NOT_CHECKED}: it has not been tried on images of another source"))
    elif len(found) > MOST:
        rows.append(("Other images", f"{len(found) - MOST} more evaluations: see the model card"))
    differs = "whether something else than the disease tells its Positive and Negative images apart"
    return [*rows, ("Audit of its data", _verdict(companions.find_audit(record), differs))], on_test


def _numbers(record: RunRecord, section: dict[str, Any]) -> str:
    numbers = "; ".join(f"{NAMES[name]} {section[name]}" for name in ("auroc", "sensitivity", "specificity"))
    sizes = f"{section['n_positive']} Positive, {section['n_negative']} Negative; {section['n_patients']} patients"
    return f"{'SYNTHETIC: ' if record.synthetic else ''}{numbers} ({plural(section['n'], 'image')}: {sizes})"


def _verdicts(found: Companion | None) -> list[dict[str, Any]]:
    return [mapping(each) for each in found.content.get("verdicts") or []] if found else []


def _verdict(found: Companion | None, unchecked: str) -> str:
    """What an audit or a battery says in all, and what fails; else what nobody has checked."""
    if found is None:
        return f"{NOT_CHECKED}: {unchecked}"
    failed = [str(each.get("check", "")) for each in _verdicts(found) if each.get("verdict") == "FAIL"]
    names = f": {', '.join(failed[:MOST])}" if failed else ""
    remark = f" ({found.remark})" if found.remark else ""
    return f"{found.content.get('verdict', 'NOT RECORDED')}{names}{remark}"
