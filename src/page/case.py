"""One examined file in words: a card on the page, a report to keep, and plain values for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape
from importlib import resources
from typing import Any, NamedTuple

from cxrlab.console import DISCLAIMER
from cxrlab.datamodules.manifest import NAMES as LABELS
from cxrlab.evaluation.decision import Decided
from cxrlab.inference import Prediction
from cxrlab.inference.prediction import NOT_JUDGED, UNREADABLE
from cxrlab.models.gate import WARN
from cxrlab.page.desk import Case, Opinion
from cxrlab.page.pictures import Field, field, film, heat_layer, outline
from cxrlab.page.worth import NOT_CHECKED, Worth, fitted_words, marked, unfolded

NO_DIAGNOSIS = (
    "A score says how much an image resembles, to this network, its Positive training images. It is no diagnosis."
)
NOT_DISEASE = "A map shows where the network looked, not where disease is."
OPACITY = 50  # per cent, of the map when a card opens and in a report

_ICONS = {  # drawn for this page; shape and words tell what colour alone would not
    "positive": '<path d="M12 3 22 21H2Z"/><path class="inner" d="M12 10v7M8.5 13.5h7"/>',
    "negative": '<circle cx="12" cy="12" r="10"/><path class="inner" d="M7 12h10"/>',
    "refused": '<path d="M8 2h8l6 6v8l-6 6H8l-6-6V8Z"/><path class="inner" d="M8 8l8 8M16 8l-8 8"/>',
    "doubt": '<path d="M12 3 22 21H2Z"/><path class="inner" d="M12 9.5v5M12 17v1"/>',
}


class _Verdict(NamedTuple):
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
    return (
        f'<article class="case" tabindex="-1" aria-label="{escape(case.name)}">{_head(case)}'
        f'<div class="split{"" if case.rgb is not None else " alone"}">{_stage(case, known)}'
        f'<div class="said">{_said(case, known)}</div></div>'
        '<footer class="actions"><button type="button" data-do="save">Download report</button>'
        '<button type="button" data-do="print">Open report to print</button>'
        '<button type="button" data-do="forget">Remove</button></footer></article>'
    )


def report(case: Case, known: Sequence[Worth], when: datetime) -> str:
    """A file as a page of its own, which needs no other file, and prints.

    Args:
        case: The file, looked at closely.
        known: As for :func:`answer`.
        when: It was examined, with its time zone.
    """
    pictures = (
        f'<div class="pair">{_film(case, ())}{_film(case, _layers(case), shown=True)}</div>{_captions(case, known)}'
    )
    prints = "".join(
        f"<tr><th scope=row>{escape(each.predictor.name)}</th>"
        f"<td><code>{escape(each.prediction.model)}</code></td></tr>"
        for each in case.opinions
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Report of {escape(case.name)}</title><style>{style()}</style></head>"
        f'<body class="cxr report"><p class="notice"><strong>{DISCLAIMER}</strong> {NO_DIAGNOSIS}</p>'
        f"<main><h1>Report of one image</h1><p>Examined {when:%Y-%m-%d %H:%M %Z}.</p>"
        f'<article class="case">{_head(case)}{pictures if case.rgb is not None else ""}'
        f'<div class="said">{_said(case, known)}</div></article>'
        f"<h2>What {'this model is' if len(known) == 1 else 'these models are'} worth</h2>"
        f"{''.join(map(unfolded, known))}"
        f"<h2>What was used</h2><table class=rows><tr><th scope=row>File, SHA-256</th><td><code>{escape(case.sha256)}"
        f"</code></td></tr>{prints}</table></main>"
        f'<p class="notice"><strong>{DISCLAIMER}</strong></p></body></html>\n'
    )


def style() -> str:
    """The style sheet of page and reports."""
    return resources.files("cxrlab.page").joinpath("style.css").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------- parts


def _head(case: Case) -> str:
    chip = (
        '<span class="chip">SYNTHETIC model</span>' if any(each.predictor.synthetic for each in case.opinions) else ""
    )
    return (
        f'<header><h3><bdi>{escape(case.name)}</bdi>{chip}</h3><p class="soft">{_facts(case)}'
        f' · SHA-256 <code title="{escape(case.sha256)}">{escape(case.sha256[:12])}…</code></p></header>'
    )


def _facts(case: Case) -> str:
    facts = case.facts
    if facts is None:
        return "no image"
    size = f"{facts.bytes / 1e6:.1f} MB" if facts.bytes >= 1e6 else f"{-(-facts.bytes // 1000)} kB"
    view = f", view {facts.view}" if facts.view else ""
    return escape(
        f"{facts.format}, {facts.width} by {facts.height} pixels, {facts.mode}, {facts.bits} bits{view}, {size}"
    )


def _stage(case: Case, known: Sequence[Worth]) -> str:
    """The film with what can be laid on it, and the controls that do."""
    if case.rgb is None:
        return ""
    layers = _layers(case)
    controls = []
    if any(layers):
        controls.append(
            f'<label class="slide">Heat map <input type="range" min="0" max="100" value="{OPACITY}" step="5" '
            f'data-do="heat"><output>{OPACITY} %</output></label>'
        )
    if sum(map(bool, layers)) > 1:
        names = "".join(
            f'<option value="{number}">{escape(opinion.predictor.name)}</option>'
            for number, opinion in enumerate(case.opinions)
            if layers[number]
        )
        controls.append(f'<label>Map of <select data-do="whose">{names}</select></label>')
    if case.lungs is not None and case.lungs.any():
        controls.append(
            '<label class="tick"><input type="checkbox" data-do="lungs" checked> Outline of the lungs</label>'
        )
    controls.append('<button type="button" data-do="enlarge" aria-pressed="false">Enlarge</button>')
    tools = f'<div class="tools">{"".join(controls)}</div>'
    return f'<div class="look">{_film(case, layers, shown=True)}{tools}{_captions(case, known)}</div>'


def _layers(case: Case) -> list[str]:
    """One map per opinion, each placed on the film; empty where there is none."""
    assert case.rgb is not None or not any(opinion.heat is not None for opinion in case.opinions)
    found, first = [], True
    for number, opinion in enumerate(case.opinions):
        seen = _seen(case, opinion)
        if opinion.heat is None or seen is None:
            found.append("")
            continue
        source, hidden = heat_layer(opinion.heat, seen), "" if first else " hidden"
        found.append(f'<img class="heat" data-model="{number}" alt="" src="{source}" style="{_place(seen)}"{hidden}>')
        first = False
    return found


def _film(case: Case, layers: Sequence[str], *, shown: bool = False) -> str:
    """The film; ``shown``: with the outline and the frame of what the network saw."""
    if case.rgb is None:
        return ""
    address, width, height = film(case.rgb)
    marks = ""
    if shown:
        if case.lungs is not None and case.lungs.any():
            path, across, down = outline(case.lungs)
            marks += (
                f'<svg class="lungs" viewBox="0 0 {across} {down}" preserveAspectRatio="none" aria-hidden="true">'
                f'<path d="{path}"/></svg>'
            )
        fields = {place for opinion in case.opinions if (seen := _seen(case, opinion)) and (place := _frame(seen))}
        marks += "".join(f'<div class="field" style="{place}"></div>' for place in sorted(fields))
    return (
        f'<div class="film" style="aspect-ratio:{width}/{height};--heat:{OPACITY / 100}">'
        f'<img src="{address}" width="{width}" height="{height}" alt="The image {escape(case.name)}">'
        f"{''.join(layers)}{marks}</div>"
    )


def _seen(case: Case, opinion: Opinion) -> Field | None:
    if case.rgb is None or opinion.prediction.score is None:
        return None
    return field(opinion.predictor.preprocessing, *case.rgb.shape[:2])


def _frame(seen: Field) -> str:
    return "" if seen.whole else _place(seen)


def _place(seen: Field) -> str:
    places = (("left", seen.left), ("top", seen.top), ("width", seen.width), ("height", seen.height))
    return ";".join(f"{name}:{100 * share:.3f}%" for name, share in places)


def _captions(case: Case, known: Sequence[Worth]) -> str:
    lines = []
    maps = [opinion.heat for opinion in case.opinions if opinion.heat is not None]
    if maps:
        lines.append(
            f"{case.method}: brighter where the network found more evidence for Positive, relative to the strongest "
            f"place of this image. {NOT_DISEASE}"
        )
        lines += _evidence(case, known)
    if any(not heat.any() for heat in maps):
        lines.append("A map is empty: nothing in the image spoke for Positive.")
    if any((seen := _seen(case, opinion)) and not seen.whole for opinion in case.opinions):
        lines.append("The network saw only what lies inside the dashed frame.")
    if case.lungs is not None:
        found = "Lungs are outlined as another network found them; it can be wrong."
        lines.append(found if case.lungs.any() else "No lungs were found to be outlined.")
    return "".join(f'<p class="soft">{marked(line)}</p>' for line in lines)


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
            yield f"No evidence: whether maps{whose} depend on what was learned is {NOT_CHECKED} (src/probe.py does)."
        else:
            yield f"No evidence: maps{whose} were measured to depend little on what the network learned: {verdict}."


def _said(case: Case, known: Sequence[Worth]) -> str:
    several = len(case.opinions) > 1
    parts = [_comparison(case)] if several else []
    doubts = dict.fromkeys(each.prediction.reason for each in case.opinions if each.prediction.verdict == WARN)
    parts += [_banner(_Verdict("doubt", "Scored with doubt", _sentence(reason))) for reason in doubts]
    for opinion, worth in zip(case.opinions, known, strict=True):
        name = f"<h4>{escape(opinion.predictor.name)}</h4>" if several else ""
        said = "".join(f"<li>{marked(text)}</li>" for text in _statements(opinion, worth))
        scale = "" if opinion.prediction.probability is None else _scale(opinion)
        parts.append(f'<section class="opinion">{name}{_banner(_verdict(opinion))}{scale}<ul>{said}</ul></section>')
    return f'{"".join(parts)}<p class="soft">{DISCLAIMER} {NO_DIAGNOSIS}</p>'


def _comparison(case: Case) -> str:
    """Several models beside each other."""
    lines = []
    for opinion in case.opinions:
        said, decided = opinion.prediction, opinion.predictor.decided
        verdict = _verdict(opinion)
        cells = (
            _number(said.score),
            _number(said.probability) if decided.calibrated else "not calibrated",
            f"{said.threshold:.3g}",
        )
        synthetic = " (SYNTHETIC)" if opinion.predictor.synthetic else ""
        lines.append(
            f'<tr><th scope="row">{escape(opinion.predictor.name)}{synthetic}</th>'
            f'<td class="{verdict.tone}">{_icon(verdict.tone)} {escape(verdict.title)}</td>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    header = "".join(
        f'<th scope="col">{name}</th>' for name in ("Model", "Says", "Score", "Probability", "Positive from")
    )
    calls = {opinion.prediction.label for opinion in case.opinions if opinion.prediction.label}
    remark = "<p><strong>The models do not agree.</strong></p>" if len(calls) > 1 else ""
    table = f'<table class="compare"><thead><tr>{header}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    return f'<div class="wide">{table}</div>{remark}'


# ------------------------------------------------------------------------------------------------------------- words


def _verdict(opinion: Opinion) -> _Verdict:
    said = opinion.prediction
    if said.score is None:
        title = "Cannot be read" if said.kind == UNREADABLE else "Refused: not scored"
        return _Verdict("refused", title, _sentence(said.reason))
    positive = said.label == LABELS[1]
    what = "probability" if opinion.predictor.decided.calibrated else "score"
    text = f"{what} {_number(said.probability)}, called Positive from {said.threshold:.3g} on"
    return _Verdict("positive" if positive else "negative", f"Called {said.label}", text)


def _banner(verdict: _Verdict) -> str:
    return (
        f'<div class="verdict {verdict.tone}">{_icon(verdict.tone)}<p><strong>{escape(verdict.title)}</strong> '
        f"<span>{marked(verdict.text)}</span></p></div>"
    )


def _statements(opinion: Opinion, worth: Worth) -> Iterator[str]:
    """What a number means, on how many patients it rests, and how often the model is right."""
    said, decided = opinion.prediction, opinion.predictor.decided
    if said.score is None:
        return
    if opinion.predictor.synthetic:
        yield "SYNTHETIC: trained on phantoms drawn by a program. What it says of a patient means nothing."
    if decided.calibrated:
        yield (
            f"Calibrated probability {_number(said.probability)} (the network's own score: {_number(said.score)}), "
            f"called Positive from {said.threshold:.3g} on. Calibration: {decided.calibration.words()}."
        )
    else:
        yield (
            f"Score {_number(said.score)}, called Positive from {said.threshold:.3g} on; not calibrated: the "
            "score is no probability."
        )
    yield from _threshold(decided, said)
    yield worth.on_test
    yield _gate(opinion)
    if opinion.no_heat:
        yield opinion.no_heat


def _threshold(decided: Decided, said: Prediction) -> Iterator[str]:
    fitted = decided.fitted_on
    if fitted is None:
        yield f"Threshold: {decided.rule}."
        return
    low, high = fitted["threshold_low"], fitted["threshold_high"]
    what = "Threshold and calibration" if decided.calibrated and low is not None else "Threshold"
    what = "Calibration" if low is None else what
    spread = "" if low is None else f"; in 95 % of resamples the threshold lies between {low:.3g} and {high:.3g}"
    yield f"{what}: {fitted_words(decided)}{spread}."
    if low is not None and said.probability is not None and low <= said.probability <= high:
        yield "This value lies inside that range: with other patients the call could have been the other one."


def _gate(opinion: Opinion) -> str:
    gate, said = opinion.predictor.gate, opinion.prediction
    if gate is None or said.verdict == NOT_JUDGED:
        said_by_header = f" {_sentence(said.reason)}" if said.reason else ""
        return f"The gate is off: nothing checked whether this is a frontal chest X-ray.{said_by_header}"
    if said.verdict == WARN:
        return "Gate: scored with doubt, see above."
    if not gate.fingerprint:
        return (
            "Gate: simple rules found nothing against it; no trained network checked that it is a frontal chest X-ray."
        )
    return "Gate: it looks like a frontal chest X-ray."


def _scale(opinion: Opinion) -> str:
    """The value between 0 and 1, the threshold, and how sure the threshold is."""
    said, fitted = opinion.prediction, opinion.predictor.decided.fitted_on
    assert said.probability is not None
    what = "Probability" if opinion.predictor.decided.calibrated else "Score"
    band = ""
    if fitted is not None and fitted["threshold_low"] is not None:
        low, high = fitted["threshold_low"], fitted["threshold_high"]
        band = f'<span class="band" style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></span>'
    tone = _verdict(opinion).tone
    words = f"{what} {_number(said.probability)} on a scale from 0 to 1; Positive from {said.threshold:.3g} on"
    return (
        f'<div class="scale" role="img" aria-label="{escape(words)}">'
        f'<span class="line"></span><span class="zone" style="left:{100 * said.threshold:.2f}%"></span>{band}'
        f'<span class="limit" style="left:{100 * said.threshold:.2f}%"></span>'
        f'<span class="dot {tone}" style="left:{100 * said.probability:.2f}%"></span>'
        f"<span>0</span><span>Negative | Positive from {said.threshold:.3g}</span><span>1</span></div>"
    )


def _icon(tone: str) -> str:
    return f'<svg class="icon {tone}" viewBox="0 0 24 24" aria-hidden="true">{_ICONS[tone]}</svg>'


def _number(value: float | None) -> str:
    """Three digits, and never a 0 or a 1 that is none."""
    if value is None:
        return "none"
    if 0 < value < 0.0005:
        return "below 0.001"
    return "above 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def _sentence(text: str) -> str:
    text = f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
