"""A probe as files: what a model gets right without lungs, as a page for people and JSON for programs.

``probe.json`` holds, with ``schema`` 1:

===============  ===================================================================================================
``name``         of the data set; ``synthetic``, whether a program drew it; ``split``, whose images were used
``ckpt``         file of the weights, empty where only retrained runs were collected; ``threshold``, of its decisions
``verdict``      the worst of all: FAIL, WARN, NOT CHECKED or PASS; ``counts``, how many findings have each
``verdicts``     every finding, in the order of the page: ``verdict``, ``check``, ``evidence``, ``weight``, ``section``
``images``       that were used; ``patients``, an image of an unknown patient being one
``fingerprint``  of the data set, as a run's; ``lungs``, what found the lungs, empty where nothing did
``rows``         one per line of the tables: ``how`` (``tried``, ``retrained`` or ``source classifier``), ``name`` and
                 ``group`` of the alteration, and the numbers with their intervals
``sections``     in the order of the page: ``title``, ``facts``, ``pictures`` (``file``, ``caption``)
``warnings``     what a reader must know before the first number
``seed``         of every draw; ``seconds``, what it took; ``command``, what was typed; ``versions``
===============  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cxrlab.checks.base import Finding, Picture, Section, Table, Verdict
from cxrlab.datamodules.alterations import Alteration
from cxrlab.evaluation import shortcuts
from cxrlab.evaluation.estimate import Estimate
from cxrlab.evaluation.shortcuts import FLIPS_FAIL, FLIPS_WARN, KEPT_SHARE, Retrained, Tried
from cxrlab.figures import Point, Row, forest, image_pairs
from cxrlab.files import write_json
from cxrlab.reports.documents import write_document
from cxrlab.reports.markdown import code, plain
from cxrlab.reports.sections import (
    Line,
    counts,
    draw,
    duration,
    package_versions,
    sections_as_json,
    verdict_lines,
    verdicts_as_json,
    versions,
    worst,
)
from cxrlab.words import plural

PACKAGES = ("cxrlab", "numpy", "scipy", "torch", "captum", "monai", "opencv-python-headless")
VISIBLE = 0.05
"""An input counts as one without lungs if it leaves at most this share of their area to see."""
LEAST_CENTRE = 80
"""Per cent of each side: from here on a black centre counts as lungs removed, if nobody knows where they are."""
_MEANING = {
    Verdict.FAIL: "What this model, or its recipe, gets right says little about lungs; what failed comes first below.",
    Verdict.WARN: "Nothing fails, yet numbers of this model should be told with the warnings below.",
    Verdict.NOT_CHECKED: "Nothing was found in what could be checked; the rest is open.",
    Verdict.PASS: "No use of anything but lungs was found. That it is the disease in them is not shown.",
}
_TWO_REASONS = (
    "**A fall has two explanations.** A model that is tried on black or masked images may do badly because it needs "
    "what was taken away, or because it never saw such images. Training again on the altered images tells them apart: "
    "a network that had the chance to adapt, and still fails, found nothing there. The other way round there is no "
    "such doubt: what is told apart without a lung in sight is not told apart by the lungs."
)


@dataclass(frozen=True)
class SourceClassifier:
    """A network of the same kind that was trained to tell collections apart from Negative images only.

    Attributes:
        run: Its run folder.
        n: Test images.
        n_patients: People on them.
        right: Images called rightly.
        auroc: With its interval.
    """

    run: str
    n: int
    n_patients: int
    right: int
    auroc: Estimate


@dataclass(frozen=True)
class Probe:
    """Everything that a page is made of.

    Attributes:
        name: Of the data set.
        synthetic: Whether its images are drawn by a program.
        split: Whose images were used.
        images: How many.
        patients: On them.
        fingerprint: Of the data set.
        seed: Of every draw.
        ckpt: File of the weights; empty without a model.
        threshold: Of its decisions.
        tried: The intact images first; empty without a model.
        not_tried: Why alterations were left out, by name.
        lungs: What found the lungs; empty where nothing did.
        without_lungs: Images on which no lungs were found; they are left out where lungs are needed.
        retrained: What other runs say; empty where none were given.
        source_classifier: Likewise.
        saliency: Its section.
        samples: What was done, and a Negative and a Positive image after it, shape (2, height, width, channels).
        warnings: What a reader must know before the first number.
    """

    name: str
    synthetic: bool
    split: str
    images: int
    patients: int
    fingerprint: str
    seed: int
    ckpt: str = ""
    threshold: float = 0.5
    tried: Sequence[Tried] = ()
    not_tried: Mapping[str, str] = field(default_factory=dict)
    lungs: str = ""
    without_lungs: int = 0
    retrained: Sequence[Retrained] = ()
    source_classifier: SourceClassifier | None = None
    saliency: Section | None = None
    samples: Sequence[tuple[str, npt.NDArray[np.uint8]]] = ()
    warnings: Sequence[str] = ()


def sections(probe: Probe) -> list[Section]:
    """What a page says, in its order."""
    found = [_without_lungs(probe)]
    if probe.tried:
        found.append(_decisions(probe))
    if probe.source_classifier is not None:
        found.append(_which_collection(probe.source_classifier))
    if probe.saliency is not None:
        found.append(probe.saliency)
    if probe.samples:
        found.append(_shown(probe))
    return found


def write_probe(folder: Path, probe: Probe, seconds: float, command: str = "") -> Path:
    """Writes ``probe.md``, ``probe.html``, ``probe.json`` and ``figures/*.png``.

    Args:
        folder: Where; made if need be.
        probe: What was found.
        seconds: What it took.
        command: What was typed, for the record.

    Returns:
        The path of ``probe.html``.

    Raises:
        OSError: The folder cannot be written.
    """
    parts = sections(probe)
    files = draw(folder, parts)
    lines = verdict_lines(parts)
    title = f"{_mark(probe)}Does it see the lungs? {probe.name}"
    context = {
        **{name: getattr(probe, name) for name in ("synthetic", "ckpt", "warnings", "seed", "fingerprint")},
        "lines": lines,
        "meaning": _MEANING[worst(parts)],
        "size": f"{plural(probe.images, probe.split + ' image')} of {plural(probe.patients, 'patient')}",
        "sections": parts,
        "files": files,
        "scored": bool(probe.tried),
        "took": duration(seconds),
        "packages": package_versions(PACKAGES),
        "command": command,
    }
    page = write_document(folder, "probe", "probe", title, context)
    write_json(folder / "probe.json", _as_json(probe, parts, lines, files, seconds, command))
    return page


# Findings -----------------------------------------------------------------------------------------------------------


def _without_lungs(probe: Probe) -> Section:
    findings = [*_tried_findings(probe), *_retrained_findings(probe)]
    tables = []
    if probe.tried:
        tables.append(_tried_table(probe))
    if probe.retrained:
        tables.append(_retrained_table(probe))
    text = [_rule(probe), _TWO_REASONS]
    if probe.lungs:
        none = f"; on {plural(probe.without_lungs, 'image')} it found none" if probe.without_lungs else ""
        text.append(
            f"Lungs were found by {plain(probe.lungs)}, once, on the intact images{none}. The column *lungs left* is "
            "the mean share of their area that is not black."
        )
    picture = Picture("lungs_removed", _caption(probe), _figure(probe))
    return Section("Performance with the lungs removed", findings, text, tables, [picture])


def _tried_findings(probe: Probe) -> Iterator[Finding]:
    if not probe.tried:
        return
    intact = probe.tried[0].auroc
    free = {each.name: each for each in probe.tried if each.corrected is not None}
    verdict, best = shortcuts.judge_without_lungs(intact, _corrected(free.values()))
    check = "this model without lungs"
    yield Finding(check, Verdict(verdict), _evidence(intact, free, best, "the intact images"), _weight(free, best))
    only = next((each for each in probe.tried if each.name == "lungs_only"), None)
    if only is not None:
        verdict = shortcuts.judge_lungs_only(intact, only.auroc)
        said = f"AUROC {only.auroc} where all but the lungs is black, {_size(only)}; intact {intact}"
        yield Finding("this model with the lungs alone", Verdict(verdict), said)
    for reason in dict.fromkeys(probe.not_tried.values()):
        names = [name for name, why in probe.not_tried.items() if why == reason]
        yield Finding(", ".join(names), Verdict.NOT_CHECKED, reason)


def _retrained_findings(probe: Probe) -> Iterator[Finding]:
    if not probe.retrained:
        return
    intact = next((each.auroc for each in probe.retrained if each.name == "none"), None)
    free = {each.name: each for each in probe.retrained if each.corrected is not None}
    check = "the recipe trained again without lungs"
    if intact is None:
        yield Finding(check, Verdict.NOT_CHECKED, "no run on intact images (data.alter=none) to measure by")
        return
    verdict, best = shortcuts.judge_without_lungs(intact, _corrected(free.values()))
    evidence = _evidence(intact, free, best, "trained on intact images")
    yield Finding(check, Verdict(verdict), evidence, _weight(free, best))


def _corrected(lines: Any) -> dict[str, Estimate]:
    return {each.name: each.corrected for each in lines}


def _evidence(intact: Estimate, free: Mapping[str, Any], best: str, reference: str) -> str:
    if not free:
        return f"no input without lungs among those used; add for example centre_black_90 (from {LEAST_CENTRE} on)"
    if not best:
        return f"nothing to explain: AUROC {intact} on {reference} is not above 0.5"
    line = free[best]
    level = f"{100 * shortcuts.corrected(len(free)):.3g} % interval, {len(free)} inputs"
    seeds = f", {plural(len(line.auroc.seeds), 'seed')}" if isinstance(line, Retrained) else ""
    return (
        f"AUROC {line.corrected} ({level}) with {line.words} ({best}), {_size(line)}{seeds}; {reference} "
        f"{intact}; {100 * shortcuts.kept(intact, line.auroc):.0f} % of the distance from 0.5 is left"
    )


def _weight(free: Mapping[str, Any], best: str) -> float:
    return 2 * abs(float(free[best].auroc.value) - 0.5) if best else 0.0


def _size(line: Tried | Retrained) -> str:
    return f"n = {plural(line.n, 'image')} of {plural(line.n_patients, 'patient')}"


def _decisions(probe: Probe) -> Section:
    findings = []
    for each in probe.tried:
        if each.group == "edit":
            verdict = Verdict(shortcuts.judge_flips(each.flipped, on_lungs=Alteration.parse(each.name).on_lungs))
            said = f"{each.flipped:.0%} of the decisions change, {_size(each)}"
            findings.append(Finding(f"decisions under {each.words}", verdict, said, float(each.flipped.value or 0)))
    rows = [
        (
            each.words,
            each.n,
            *(f"{each.shift[label]:+.3f}" for label in ("Negative", "Positive")),
            f"{each.flipped:.0%}",
        )
        for each in probe.tried[1:]
    ]
    rule = (
        "A letter, a bright frame and 30 more grey levels change no disease. FAIL: a letter or a frame changes at "
        f"least {FLIPS_FAIL:.0%} of the decisions and its interval lies above {FLIPS_WARN:.0%}; WARN: an edit changes "
        f"more than {FLIPS_WARN:.0%}. Brightness reaches the lungs as well: it shows a fragile model rather than a "
        "shortcut, and is never worse than WARN. A decision is a score on one side of the threshold "
        f"{probe.threshold:g}. The same edit was "
        "made on every image, so that the AUROC may stay what it was while decisions change."
    )
    header = ("Images", "n", "Mean change of score, Negative", "Positive", "Decisions changed")
    table = Table("Scores and decisions, altered against intact", header, rows)
    return Section("Edits without meaning, and decisions", findings, [rule], [table])


def _which_collection(found: SourceClassifier) -> Section:
    verdict = Verdict.WARN if found.auroc.above(shortcuts.CHANCE) else Verdict.PASS
    said = (
        f"AUROC {found.auroc}, {found.right} of {found.n} right, n = {plural(found.n, 'image')} of "
        f"{plural(found.n_patients, 'patient')}; from Negative images only"
    )
    text = (
        "The same kind of network was trained to say from which collection a Negative image comes. Where it can, every "
        "data set whose classes come from different collections can be told apart without any disease. WARN: the "
        f"interval lies above 0.5. The run is {code(found.run)}."
    )
    finding = Finding("which collection a Negative comes from", verdict, said, 2 * float(found.auroc.value or 0.5) - 1)
    return Section("Which collection?", [finding], [text])


# Tables and figures -------------------------------------------------------------------------------------------------


def _rule(probe: Probe) -> str:
    known = (
        f"that leave at most {VISIBLE:.0%} of the lungs' area to see"
        if probe.lungs
        else f"whose central {LEAST_CENTRE} % of each side or more is black, or the rectangle around the lungs"
    )
    return (
        f"**Rule.** Inputs without lungs are those {known}. `background_only` is not among them: the outline of what "
        "turned black is that of the lungs, and disease moves it. Of the inputs without lungs the one with the highest "
        "AUROC decides, so each interval is widened until all of them hold at 95 % together (Bonferroni). FAIL: the "
        f"interval lies above 0.5 and the AUROC keeps at least {KEPT_SHARE:.0%} of the intact one's distance from 0.5. "
        "WARN: it lies above 0.5 and keeps less, or it lies below 0.5, labels being told apart the wrong way round. "
        "PASS: otherwise. NOT CHECKED: the interval of the intact AUROC reaches down to 0.5; nothing is to be "
        f"explained then. The lungs alone should keep {KEPT_SHARE:.0%}, else WARN. Intervals resample patients."
    )


def _tried_table(probe: Probe) -> Table:
    intact = probe.tried[0].auroc
    rows = []
    for each in probe.tried:
        left = None if each.visible is None else f"{each.visible:.0%}"
        kept = "" if not intact.above(shortcuts.CHANCE) else _kept(intact, each.auroc)
        change = None if each.name == "none" else f"{each.difference:+.3f}"
        rows.append((each.words, each.group, each.n, left, str(each.auroc), change, kept, _star(each)))
    header = ("Images", "Group", "n", "Lungs left", "AUROC", "Change, paired", "Kept", "Without lungs")
    return Table("This model, tried on altered images", header, rows)


def _retrained_table(probe: Probe) -> Table:
    rows = []
    for each in probe.retrained:
        accuracy = f"{np.mean(each.right) / each.n:.3f}"
        right = f"{min(each.right)} to {max(each.right)}" if len(set(each.right)) > 1 else f"{each.right[0]}"
        spread = f"{min(each.auroc.seeds):.3f} to {max(each.auroc.seeds):.3f}"
        change = None if each.difference is None or each.name == "none" else f"{each.difference:+.3f}"
        estimate = str(each.auroc)
        rows.append(
            (each.words, len(each.right), f"{right} of {each.n}", accuracy, estimate, spread, change, _star(each))
        )
    header = (
        "Images",
        "Seeds",
        "Right",
        "Accuracy, mean",
        "AUROC, mean",
        "Seeds from to",
        "Change, paired",
        "Without lungs",
    )
    return Table("The same recipe, trained again on altered images", header, rows)


def _kept(intact: Estimate, auroc: Estimate) -> str:
    return "" if auroc.value is None else f"{shortcuts.kept(intact, auroc):.0%}"


def _star(line: Tried | Retrained) -> str:
    return "" if line.corrected is None else "yes"


def _figure(probe: Probe) -> Any:
    tried = {each.name: each for each in probe.tried}
    retrained = {each.name: each for each in probe.retrained}
    rows = []
    for name in dict.fromkeys([*tried, *retrained]):
        one: Tried | Retrained = tried.get(name) or retrained[name]
        if one.group == "edit":
            continue
        again = retrained.get(name)
        points = [Point(tried[name].auroc)] if name in tried else []
        points += [Point(again.auroc, again.auroc.seeds, second=True)] if again else []
        without_lungs = any(each.corrected is not None for each in (tried.get(name), again) if each)
        rows.append(Row(one.words, [points], group="" if name == "none" else one.group, shaded=without_lungs))
    order = ("", "lungs kept", "lungs removed", "detail removed")
    rows.sort(key=lambda row: order.index(row.group))
    note = f"{_mark(probe)}AUROC with 95 % interval, patients resampled"
    note += "; black dots: seeds" if probe.retrained else ""
    note += f"; shaded: without lungs by the rule; {plural(probe.images, probe.split + ' image')}, "
    note += f"{plural(probe.patients, 'patient')}"
    kinds = ("this model, tried on such images", "trained again on them") if probe.tried and probe.retrained else ()
    return forest(rows, f"{_mark(probe)}Performance with the lungs removed: {probe.name}", note, kinds=kinds)


def _caption(probe: Probe) -> str:
    return (
        f"{_mark(probe)}Performance with the lungs removed, n = {plural(probe.images, probe.split + ' image')} of "
        f"{plural(probe.patients, 'patient')} (fewer where lungs are needed and none were found). What stays to the "
        "right of 0.5 in the shaded rows was told apart without lungs."
    )


def _shown(probe: Probe) -> Section:
    figure = image_pairs([pair for _, pair in probe.samples], [name for name, _ in probe.samples])
    caption = f"{_mark(probe)}One image under every alteration: Negative on the left, Positive on the right"
    return Section("What the model was shown", (), pictures=[Picture("samples", caption, figure)])


# The page -----------------------------------------------------------------------------------------------------------


def _mark(probe: Probe) -> str:
    return "SYNTHETIC: " if probe.synthetic else ""


def _as_json(
    probe: Probe,
    parts: Sequence[Section],
    lines: Sequence[Line],
    files: Mapping[str, str],
    seconds: float,
    command: str,
) -> dict[str, Any]:
    rows = [{"how": "tried", **asdict(each)} for each in probe.tried]
    rows += [{"how": "retrained", **asdict(each)} for each in probe.retrained]
    if probe.source_classifier is not None:
        rows.append({"how": "source classifier", "name": "which_collection", **asdict(probe.source_classifier)})
    return {
        "schema": 1,
        "name": probe.name,
        "synthetic": probe.synthetic,
        "split": probe.split,
        "ckpt": probe.ckpt,
        "threshold": probe.threshold,
        "verdict": str(worst(parts)),
        "counts": counts(lines),
        "verdicts": verdicts_as_json(lines),
        "images": probe.images,
        "patients": probe.patients,
        "fingerprint": probe.fingerprint,
        "lungs": probe.lungs,
        "rows": rows,
        "sections": sections_as_json(parts, files),
        "warnings": list(probe.warnings),
        "seed": probe.seed,
        "seconds": round(seconds, 3),
        "command": command,
        "versions": versions(PACKAGES),
    }
