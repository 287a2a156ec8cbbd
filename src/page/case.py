"""One examined file in words: a card on the page, a report to keep, and plain values for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cxrlab.console import DISCLAIMER
from cxrlab.datamodules.manifest import NAMES as LABELS
from cxrlab.evaluation.decision import Decided
from cxrlab.inference import Prediction
from cxrlab.inference.journal import NOT_JUDGED, UNREADABLE
from cxrlab.models.gate import WARN
from cxrlab.page.desk import Case, Opinion
from cxrlab.page.documents import NO_DIAGNOSIS, NOT_CHECKED, asset, number, render
from cxrlab.page.pictures import Field, field, film, heat_layer, outline
from cxrlab.page.worth import Worth, fitted_words

NOT_DISEASE = "A map shows where the network looked, not where disease is."


class _Verdict(NamedTuple):
    """What stands out of an opinion: tone is the name of its sign and of its colours."""

    tone: str
    title: str
    text: str


def answer(case: Case, known: Sequence[Worth]) -> dict[str, Any]:
    """What is said of a file, as plain values.

    Args:
        case: The file.
        known: What its models are worth, in the order of its opinions.
    """
    rows = []
    for opinion, worth in zip(case.opinions, known, strict=True):
        said = opinion.prediction.as_dict() | {"file": case.name, "model_name": opinion.predictor.name}
        said |= {"synthetic": opinion.predictor.synthetic, "calibrated": opinion.predictor.decided.calibrated}
        rows.append(said | {"statements": list(_statements(opinion, worth))})
    return {"notice": f"{DISCLAIMER} {NO_DIAGNOSIS}", "file": case.name, "sha256": case.sha256, "predictions": rows}


def card(case: Case, known: Sequence[Worth]) -> str:
    """A file as part of the page.

    Args:
        case: The file, looked at closely.
        known: As for :func:`answer`.
    """
    return render("card", **_context(case, known))


def report(case: Case, known: Sequence[Worth], when: datetime) -> str:
    """A file as a page of its own, which needs no other file, and prints.

    Args:
        case: The file, looked at closely.
        known: As for :func:`answer`.
        when: It was examined, with its time zone.
    """
    return render("report", known=known, when=when, style=asset("style.css"), **_context(case, known))


def _context(case: Case, known: Sequence[Worth]) -> dict[str, Any]:
    """What the templates of a card and of a report fill in."""
    views = [
        {
            "opinion": opinion,
            "name": opinion.predictor.name,
            "verdict": _verdict(opinion),
            "statements": list(_statements(opinion, worth)),
            "range": _threshold_range(opinion.predictor.decided),
        }
        for opinion, worth in zip(case.opinions, known, strict=True)
    ]
    doubts = dict.fromkeys(each.prediction.reason for each in case.opinions if each.prediction.verdict == WARN)
    calls = {each.prediction.label for each in case.opinions if each.prediction.label}
    return {
        "case": case,
        "facts": _facts(case),
        "synthetic": any(each.predictor.synthetic for each in case.opinions),
        "picture": _picture(case),
        "captions": list(_captions(case, known)),
        "doubts": [_Verdict("doubt", "Scored with doubt", _sentence(reason)) for reason in doubts],
        "views": views,
        "disagree": len(calls) > 1,
    }


def _facts(case: Case) -> str:
    facts = case.facts
    if facts is None:
        return "no image"
    size = f"{facts.bytes / 1e6:.1f} MB" if facts.bytes >= 1e6 else f"{-(-facts.bytes // 1000)} kB"
    view = f", view {facts.view}" if facts.view else ""
    return f"{facts.format}, {facts.width} by {facts.height} pixels, {facts.mode}, {facts.bits} bits{view}, {size}"


def _picture(case: Case) -> dict[str, Any] | None:
    """The film and what lies on it, in the film's own pixels; ``None`` without a film."""
    if case.rgb is None:
        return None
    height, width = case.rgb.shape[:2]
    layers, frames = [], set()
    for position, opinion in enumerate(case.opinions):
        seen = _seen(case, opinion)
        if seen is None:
            continue
        place = tuple(
            round(share * size, 2)
            for share, size in ((seen.left, width), (seen.top, height), (seen.width, width), (seen.height, height))
        )
        if opinion.heat is not None:
            source = heat_layer(opinion.heat, seen)
            layers.append({"model": position, "name": opinion.predictor.name, "source": source, "place": place})
        if not seen.whole:
            frames.add(place)
    lungs = None
    if case.lungs is not None and case.lungs.any():
        path, across, down = outline(case.lungs)
        lungs = {"path": path, "across": width / across, "down": height / down}
    source, *_ = film(case.rgb)
    return {
        "source": source,
        "width": width,
        "height": height,
        "layers": layers,
        "lungs": lungs,
        "frames": sorted(frames),
    }


def _seen(case: Case, opinion: Opinion) -> Field | None:
    if case.rgb is None or opinion.prediction.score is None:
        return None
    return field(opinion.predictor.preprocessing, *case.rgb.shape[:2])


# ------------------------------------------------------------------------------------------------------------- words


def _captions(case: Case, known: Sequence[Worth]) -> Iterator[str]:
    maps = [opinion.heat for opinion in case.opinions if opinion.heat is not None]
    if maps:
        yield (
            f"{case.method}: brighter where the network found more evidence for Positive, relative to the strongest "
            f"place of this image. {NOT_DISEASE}"
        )
        yield from _evidence(case, known)
    if any(not heat.any() for heat in maps):
        yield "A map is empty: nothing in the image spoke for Positive."
    if any((seen := _seen(case, opinion)) and not seen.whole for opinion in case.opinions):
        yield "The network saw only what lies inside the dashed frame."
    if case.lungs is not None:
        found = "Lungs are outlined as another network found them; it can be wrong."
        yield found if case.lungs.any() else "No lungs were found to be outlined."


def _evidence(case: Case, known: Sequence[Worth]) -> Iterator[str]:
    """Whether a map may be taken for evidence: maps of random weights can look as good (Adebayo et al. 2018)."""
    for opinion, worth in zip(case.opinions, known, strict=True):
        if opinion.heat is None:
            continue
        whose = f" of {opinion.predictor.name}" if len(known) > 1 else ""
        verdict = worth.maps.get(case.method, NOT_CHECKED)
        if verdict == "PASS":
            yield f"Maps{whose} were measured to depend on what the network learned: PASS."
        elif verdict == NOT_CHECKED:
            yield f"No evidence: whether maps{whose} depend on what was learned is {NOT_CHECKED}."
        else:
            yield f"No evidence: maps{whose} were measured to depend little on what the network learned: {verdict}."


def _verdict(opinion: Opinion) -> _Verdict:
    said = opinion.prediction
    if said.score is None:
        title = "Cannot be read" if said.kind == UNREADABLE else "Refused: not scored"
        return _Verdict("refused", title, _sentence(said.reason))
    positive = said.label == LABELS[1]
    what = "probability" if opinion.predictor.decided.calibrated else "score"
    text = f"{what} {number(said.probability)}, called Positive from {said.threshold:.3g} on"
    return _Verdict("positive" if positive else "negative", f"Called {said.label}", text)


def _statements(opinion: Opinion, worth: Worth) -> Iterator[str]:
    """What a number means, on how many patients it rests, and how often the model is right."""
    said, decided = opinion.prediction, opinion.predictor.decided
    if said.score is None:
        return
    if opinion.predictor.synthetic:
        yield "SYNTHETIC: trained on phantoms drawn by a program. What it says of a patient means nothing."
    if decided.calibrated:
        yield (
            f"Calibrated probability {number(said.probability)} (the network's own score: {number(said.score)}), "
            f"called Positive from {said.threshold:.3g} on. Calibration: {decided.calibration.words()}."
        )
    else:
        yield (
            f"Score {number(said.score)}, called Positive from {said.threshold:.3g} on; not calibrated: the "
            "score is no probability."
        )
    yield from _threshold(decided, said)
    yield worth.on_test
    yield _gate(opinion)
    if opinion.no_heat:
        yield opinion.no_heat


def _threshold_range(decided: Decided) -> tuple[float, float] | None:
    """Between which values the threshold falls in 95 % of resamples; ``None`` where it was fitted on nothing."""
    fitted = decided.fitted_on
    if fitted is None or fitted["threshold_low"] is None:
        return None
    return fitted["threshold_low"], fitted["threshold_high"]


def _threshold(decided: Decided, said: Prediction) -> Iterator[str]:
    if decided.fitted_on is None:
        yield f"Threshold: {decided.rule}."
        return
    limits = _threshold_range(decided)
    if limits is None:
        yield f"Calibration: {fitted_words(decided)}."
        return
    what = "Threshold and calibration" if decided.calibrated else "Threshold"
    low, high = limits
    spread = f"in 95 % of resamples the threshold lies between {low:.3g} and {high:.3g}"
    yield f"{what}: {fitted_words(decided)}; {spread}."
    if said.probability is not None and low <= said.probability <= high:
        yield "This value lies inside that range: with other patients the call could have been the other one."


def _gate(opinion: Opinion) -> str:
    gate, said = opinion.predictor.gate, opinion.prediction
    if gate is None or said.verdict == NOT_JUDGED:
        said_by_header = f" {_sentence(said.reason)}" if said.reason else ""
        return f"The input filter is off: nothing checked whether this is a frontal chest X-ray.{said_by_header}"
    if said.verdict == WARN:
        return "Input filter: scored with doubt, see above."
    if not gate.fingerprint:
        return (
            "Input filter: simple rules found nothing against it; no trained network checked that it is a frontal "
            "chest X-ray."
        )
    return "Input filter: it looks like a frontal chest X-ray."


def _sentence(reason: str) -> str:
    """A reason as a sentence, without the command that a terminal would be told."""
    text = re.split(r"[;:,] (?=[^;:,`]*`)", reason, maxsplit=1)[0]
    text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
