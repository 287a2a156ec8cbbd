"""What is said of one examined file: a card on the page, a report to keep, plain values for programs.

All HTML is written by ``templates/``, which escape every value, whatever it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cxrlab.console import DISCLAIMER
from cxrlab.datamodules.manifest import NAMES as LABELS
from cxrlab.inference.journal import NOT_JUDGED, UNREADABLE
from cxrlab.models.gate import WARN
from cxrlab.page.desk import Case, Opinion
from cxrlab.page.pictures import field, film, heat_layer, outline
from cxrlab.page.worth import NOT_CHECKED, Worth, fitted_words, resampled

NO_DIAGNOSIS = "The score measures similarity to the training images labelled Positive. It is not a diagnosis."
NOT_DISEASE = "A map shows where the network looked, not where disease is."
_WEIGHTY = re.compile(rf"({NOT_CHECKED}|SYNTHETIC|FAIL|OFF:)")
"""Words that a reader must not miss."""


def render(template: str, **context: Any) -> str:
    """Fills in ``templates/….html.j2``; a name that it uses and that the context lacks is an error."""
    return _ENVIRONMENT.get_template(f"{template}.html.j2").render(context)


def asset(name: str) -> str:
    """The text of a file beside this module, such as ``style.css``."""
    return resources.files("cxrlab.page").joinpath(name).read_text(encoding="utf-8")


def number(value: float | None) -> str:
    """Three digits, and never a 0 or a 1 that is none."""
    if value is None:
        return "none"
    if 0 < value < 0.0005:
        return "below 0.001"
    return "above 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("cxrlab.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "number": number,
    "percent": lambda share: f"{round(100 * share, 2)}%",
    "size": lambda count: f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{-(-count // 1000)} kB",
    "pieces": _WEIGHTY.split,  # the second, the fourth … piece is a weighty word
}
_ENVIRONMENT.globals |= {"disclaimer": DISCLAIMER, "no_diagnosis": NO_DIAGNOSIS}


def answer(case: Case, known: Sequence[Worth]) -> dict[str, Any]:
    """What is said of a file, as plain values; ``known`` is what its models are worth, in the order of its opinions."""
    rows = [
        opinion.prediction.as_dict()
        | {
            "file": case.name,
            "model_name": opinion.predictor.name,
            "synthetic": opinion.predictor.synthetic,
            "calibrated": opinion.predictor.decided.calibrated,
            "statements": list(_statements(opinion, worth)),
        }
        for opinion, worth in zip(case.opinions, known, strict=True)
    ]
    return {"notice": f"{DISCLAIMER} {NO_DIAGNOSIS}", "file": case.name, "sha256": case.sha256, "predictions": rows}


def card_and_report(case: Case, known: Sequence[Worth], when: datetime) -> dict[str, Any]:
    """A file as part of the page, and as a page of its own that needs no other file.

    Args:
        case: The file, looked at closely.
        known: As for :func:`answer`.
        when: It was examined, with its time zone.

    Returns:
        ``card`` and ``report``: HTML. ``film``: what the viewer draws, see :func:`_picture`.
    """
    picture = _picture(case)
    doubts = dict.fromkeys(each.prediction.reason for each in case.opinions if each.prediction.verdict == WARN)
    context = {
        "case": case,
        "synthetic": any(each.predictor.synthetic for each in case.opinions),
        "picture": picture,
        "captions": list(_captions(case, known, framed=bool(picture and picture["frames"]))),
        "doubts": [{"tone": "doubt", "title": "Scored with doubt", "text": _sentence(reason)} for reason in doubts],
        "views": [
            {
                "name": opinion.predictor.name,
                "synthetic": opinion.predictor.synthetic,
                "scale": "probability" if opinion.predictor.decided.calibrated else "score",
                "said": opinion.prediction,
                "verdict": _verdict(opinion),
                "statements": list(_statements(opinion, worth)),
                "range": resampled(opinion.predictor.decided),
            }
            for opinion, worth in zip(case.opinions, known, strict=True)
        ],
        "disagree": len({each.prediction.label for each in case.opinions} - {""}) > 1,
    }
    return {
        "film": picture,
        "card": render("card", **context),
        "report": render("report", known=known, when=when, style=asset("style.css"), **context),
    }


def _picture(case: Case) -> dict[str, Any] | None:
    """The film and what lies on it, as plain values in the film's own pixels; ``None`` without a film."""
    if case.rgb is None:
        return None
    height, width = case.rgb.shape[:2]
    maps, frames = [], set()
    for position, opinion in enumerate(case.opinions):
        if opinion.prediction.score is None:
            continue
        seen = field(opinion.predictor.preprocessing, height, width)
        shares = (seen.left, width), (seen.top, height), (seen.width, width), (seen.height, height)
        place = tuple(round(share * size, 2) for share, size in shares)
        if opinion.heat is not None:
            source = heat_layer(opinion.heat, seen)
            maps.append({"model": str(position), "name": opinion.predictor.name, "source": source, "place": place})
        if not seen.whole:
            frames.add(place)
    return {
        "source": film(case.rgb),
        "width": width,
        "height": height,
        "maps": maps,
        "lungs": None if case.lungs is None else outline(case.lungs, height, width),
        "frames": sorted(frames),
    }


# ------------------------------------------------------------------------------------------------------------- words


def _captions(case: Case, known: Sequence[Worth], *, framed: bool) -> Iterator[str]:
    maps = [(opinion, worth) for opinion, worth in zip(case.opinions, known, strict=True) if opinion.heat is not None]
    if maps:
        yield (
            f"{case.method}: brighter where the network found more evidence for Positive, relative to the strongest "
            f"place of this image. {NOT_DISEASE}"
        )
    for opinion, worth in maps:  # maps of random weights can look as good (Adebayo et al. 2018)
        whose = f" of {opinion.predictor.name}" if len(known) > 1 else ""
        verdict = worth.maps.get(case.method, NOT_CHECKED)
        if verdict == "PASS":
            yield f"Maps{whose} were measured to depend on what the network learned: PASS."
        elif verdict == NOT_CHECKED:
            yield f"No evidence: whether maps{whose} depend on what was learned is {NOT_CHECKED}."
        else:
            yield f"No evidence: maps{whose} were measured to depend little on what the network learned: {verdict}."
    if any(opinion.heat is not None and not opinion.heat.any() for opinion, _ in maps):
        yield "A map is empty: nothing in the image spoke for Positive."
    if framed:
        yield "The network saw only what lies inside the dashed frame."
    if case.lungs is not None:
        found = "Lungs are outlined as another network found them; it can be wrong."
        yield found if case.lungs.any() else "No lungs were found to be outlined."


def _verdict(opinion: Opinion) -> dict[str, str]:
    """What stands out of an opinion: ``tone`` is the name of its sign and of its colours."""
    said = opinion.prediction
    if said.score is None:
        title = "Cannot be read" if said.kind == UNREADABLE else "Refused: not scored"
        return {"tone": "refused", "title": title, "short": title.partition(":")[0], "text": _sentence(said.reason)}
    what = "probability" if opinion.predictor.decided.calibrated else "score"
    return {
        "tone": "positive" if said.label == LABELS[1] else "negative",
        "title": f"Called {said.label}",
        "short": f"{said.label} {number(said.probability)}",
        "text": f"{what} {number(said.probability)}, called Positive from {said.threshold:.3g} on",
    }


def _statements(opinion: Opinion, worth: Worth) -> Iterator[str]:
    """What a number means, on how many patients it rests, and how often the model is right."""
    said, decided = opinion.prediction, opinion.predictor.decided
    if said.score is None or said.probability is None:
        return
    if opinion.predictor.synthetic:
        yield "SYNTHETIC: trained on phantoms drawn by a program. What it says of a patient means nothing."
    called = f"called Positive from {said.threshold:.3g} on"
    if decided.calibrated:
        yield (
            f"Calibrated probability {number(said.probability)} (the network's own score: {number(said.score)}), "
            f"{called}. Calibration: {decided.calibration.words()}."
        )
    else:
        yield f"Score {number(said.score)}, {called}; not calibrated: the score is no probability."
    limits = resampled(decided)
    if decided.fitted_on is None:
        yield f"Threshold: {decided.rule}."
    elif limits is None:
        yield f"Calibration: {fitted_words(decided)}."
    else:
        what = "Threshold and calibration" if decided.calibrated else "Threshold"
        spread = f"in 95 % of resamples the threshold lies between {limits[0]:.3g} and {limits[1]:.3g}"
        yield f"{what}: {fitted_words(decided)}; {spread}."
        if limits[0] <= said.probability <= limits[1]:
            yield "This value lies inside that range: with other patients the call could have been the other one."
    yield worth.on_test
    yield _gate(opinion)
    if opinion.no_heat:
        yield opinion.no_heat


def _gate(opinion: Opinion) -> str:
    gate, said = opinion.predictor.gate, opinion.prediction
    if gate is None or said.verdict == NOT_JUDGED:
        by_header = f" {_sentence(said.reason)}" if said.reason else ""
        return f"The input filter is off: nothing checked whether this is a frontal chest X-ray.{by_header}"
    if said.verdict == WARN:
        return "Input filter: scored with doubt, see above."
    if gate.fingerprint:
        return "Input filter: it looks like a frontal chest X-ray."
    return (
        "Input filter: simple rules found nothing against it; no trained network checked that it is a frontal "
        "chest X-ray."
    )


def _sentence(reason: str) -> str:
    """A reason as a sentence, without the command that a terminal would be told."""
    text = re.split(r"[;:,] (?=[^;:,`]*`)", reason, maxsplit=1)[0]
    text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
