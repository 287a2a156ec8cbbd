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
from cxrlab.page.documents import NOT_CHECKED
from cxrlab.reports import companions
from cxrlab.reports.cautions import warnings
from cxrlab.reports.companions import Companion
from cxrlab.reports.facts import DEPENDS, findings
from cxrlab.reports.markdown import NAMES
from cxrlab.reports.model_card import CARD
from cxrlab.reports.page import render
from cxrlab.reports.record import RunRecord, read_run
from cxrlab.words import MOST, plural

_SHOWN = ("auroc", "sensitivity", "specificity")
_ABOVE = 3  # folders above a model's file that are looked into: runs/…/checkpoints/model.ckpt


@dataclass(frozen=True)
class Worth:
    """What is known of a model.

    Attributes:
        name: Of the model.
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
    """Reads what is known of a model.

    Args:
        predictor: The model; its run folder is looked for above its file.
    """
    record, problem = _find_record(predictor.model.path)
    rows = [("Positive means", _meaning(predictor, record))]
    more = [("Network", _network(predictor, record))]
    if record is None:
        on_test = f"How often it is right: {NOT_CHECKED} ({problem})."
        rows += [
            (name, f"{NOT_CHECKED}: {problem}") for name in ("Own test images", "Other hospitals", "Audit of its data")
        ]
    else:
        on_test = _on_test(record)
        rows += [("Own test images", _internal(record)), *_external(record), ("Audit of its data", _audit(record))]
        more.append(("Shortcut battery", _battery(record)))
    more += [("Called Positive", _threshold(predictor.decided)), ("Calibration", _calibration(predictor.decided))]
    more.append(("Input filter", _gate(predictor)))
    said = [each.partition("; `")[0] for each in predictor.warnings()]  # a command is of no use to a reader of films
    said += [] if record is None else _of_run(record, predictor)
    said = [each for each in said if not each.startswith("SYNTHETIC")]  # which stands beside the name
    name, synthetic, maps = predictor.name, predictor.synthetic, _maps(record)
    return Worth(name, synthetic, tuple(rows), tuple(more), on_test, maps, tuple(said), _card(record))


def _threshold(decided: Decided) -> str:
    """From where on an image is called Positive, how that was chosen, and on how many patients."""
    text = f"from {decided.threshold:.3g} on: {decided.rule}"
    fitted = decided.fitted_on
    if fitted is None:
        return text
    low, high = fitted["threshold_low"], fitted["threshold_high"]
    spread = f"; between {low:.3g} and {high:.3g} in 95 % of resamples" if low is not None else ""
    return f"{text}; {fitted_words(decided)}{spread}"


def fitted_words(decided: Decided) -> str:
    """On how many validation images and patients calibration and threshold were fitted."""
    fitted = decided.fitted_on
    if fitted is None:
        return "fitted on no image"
    patients = f"{fitted['positive_patients']} Positive and {fitted['negative_patients']} Negative patients"
    return f"fitted on {plural(fitted['images'], 'image')} of {patients}"


def _calibration(decided: Decided) -> str:
    """What was done to scores, and whether one is a probability."""
    if not decided.calibrated:
        return "none: a score is no probability"
    return f"{decided.calibration.words()}; {fitted_words(decided)}"


def _gate(predictor: Predictor) -> str:
    """What looks at an image before it is scored."""
    if predictor.gate is None:
        return "OFF: whatever is given gets a score, a photograph too"
    if not predictor.gate.fingerprint:
        return "rules only (size, colour, blank): no network checks that an image is a frontal chest X-ray"
    measured = predictor.gate.measured or f"{NOT_CHECKED}: how often it errs"
    return f"a trained network and rules, weights {predictor.gate.fingerprint[:12]}; {measured}"


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


def _network(predictor: Predictor, record: RunRecord | None) -> str:
    channels, height, width = predictor.preprocessing.shape
    what = record.model if record else str(predictor.metadata["model"].get("_target_", "")).rpartition(".")[2]
    data: dict[str, Any] = predictor.metadata["data"]
    sources = ", ".join(str(source) for source in data.get("sources", [])) or "unknown images"
    seen = f"{height}x{width} pixels, {'RGB' if channels == 3 else 'grey'}"
    synthetic = "SYNTHETIC images drawn by a program, " if predictor.synthetic else ""
    return (
        f"{what}, sees {seen}; trained on {synthetic}{sources} ({plural(int(data.get('images', 0)), 'image')} in all)"
    )


def _meaning(predictor: Predictor, record: RunRecord | None) -> str:
    """What the labels are made of; a data set's name is no finding."""
    if record is None or "finding" not in record.manifest:
        return f"{NOT_CHECKED}: no file beside the model says what its training called Positive"
    return f"{findings(record).removeprefix('Positive: ')} (findings of the training images, and how many)"


def _section_words(section: dict[str, Any]) -> str:
    numbers = "; ".join(f"{NAMES[name]} {section[name]}" for name in _SHOWN)
    sizes = f"{section['n_positive']} Positive, {section['n_negative']} Negative; {section['n_patients']} patients"
    return f"{numbers} ({plural(section['n'], 'image')}: {sizes})"


def _internal(record: RunRecord) -> str:
    section = record.section("test")
    if section is None:
        return f"{NOT_CHECKED}: no test image was evaluated"
    return f"{'SYNTHETIC: ' if record.synthetic else ''}{_section_words(section)}"


def _on_test(record: RunRecord) -> str:
    section = record.section("test")
    if section is None:
        return f"How often it is right: {NOT_CHECKED} (no test image was evaluated)."
    where = "its SYNTHETIC test images" if record.synthetic else "its own test images"
    numbers = " and ".join(f"{name} {section[name]}" for name in ("sensitivity", "specificity"))
    method = section["sensitivity"].method  # which says, too, where the intervals are too narrow
    return f"On {where} ({section['n']} of {section['n_patients']} patients): {numbers}; {method}."


def _external(record: RunRecord) -> list[tuple[str, str]]:
    found = companions.find_evaluations(record)
    if not found:
        return [("Other hospitals", f"{NOT_CHECKED}: it has not been tried on images of another source")]
    rows = []
    for each in found[:MOST]:
        seen = f"; {each.trained} of them known from training" if each.trained else ""
        marked = "SYNTHETIC: " if each.record.synthetic else ""
        rows.append((f"Images of {each.sources}", f"{marked}{_section_words(each.section)}{seen}"))
    if len(found) > MOST:
        rows.append(("Other images", f"{len(found) - MOST} more evaluations: see the model card"))
    return rows


def _audit(record: RunRecord) -> str:
    found = companions.find_audit(record)
    if found is None:
        return f"{NOT_CHECKED}: whether something else than the disease tells its Positive and Negative images apart"
    return _verdict(found)


def _battery(record: RunRecord) -> str:
    found = companions.find_probe(record)
    if found is None:
        return f"{NOT_CHECKED}: whether it answers by the lungs, or by markers, borders and the like"
    return _verdict(found)


def _maps(record: RunRecord | None) -> dict[str, str]:
    """What probes with saliency found out about maps, by the method in their section's title."""
    found = companions.find_probe(record) if record else None
    verdicts = found.content.get("verdicts") or [] if found else []
    return {
        str(each.get("section", "")).rpartition("(")[2].rstrip(")"): str(each.get("verdict", NOT_CHECKED))
        for each in verdicts
        if isinstance(each, dict) and each.get("check") == DEPENDS
    }


def _verdict(found: Companion) -> str:
    verdicts = [each for each in found.content.get("verdicts") or [] if isinstance(each, dict)]
    failed = [str(each.get("check", "")) for each in verdicts if each.get("verdict") == "FAIL"]
    text = str(found.content.get("verdict", "NOT RECORDED"))
    if failed:
        text += f": {', '.join(failed[:MOST])}"
    return f"{text} ({found.remark})" if found.remark else text


def _of_run(record: RunRecord, predictor: Predictor) -> list[str]:
    """The run's warnings, but for those that the model's own decision gives already."""
    known = set(predictor.decided.warnings())
    return [each for each in warnings(record) if each not in known and not each.startswith("left out: ")]


def _card(record: RunRecord | None) -> str:
    if record is None or not (record.folder / CARD).is_file():
        return ""
    text = (record.folder / CARD).read_text(encoding="utf-8")
    if text.startswith("---\n"):  # what model hubs read is no text for people
        text = text[4:].partition("\n---\n")[2]
    return render(text, record.folder, f"Model card of {record.folder.resolve().name}")
