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
``sections``     in the order of the page: ``title``, ``facts``, ``pictures`` (``file``, ``caption``, ``files``)
``warnings``     what a reader must know before the first number
``seed``         of every draw; ``seconds``, what it took; ``command``, what was typed; ``versions``
===============  ===================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cxrlab.checks.base import Finding, Picture, Section, Table, Verdict, not_checked
from cxrlab.datamodules.alterations import Alteration
from cxrlab.evaluation import shortcuts
from cxrlab.evaluation.estimate import Estimate
from cxrlab.evaluation.shortcuts import FLIPS_FAIL, FLIPS_WARN, KEPT_SHARE, Retrained, Tried
from cxrlab.figures import Figure, Point, Row, forest, image_grid
from cxrlab.reports.documents import code, plain
from cxrlab.reports.sections import write_findings
from cxrlab.words import plural

PACKAGES = ("cxrlab", "numpy", "scipy", "torch", "captum", "monai", "opencv-python-headless")
VISIBLE = 0.05
"""An input counts as one without lungs if it leaves at most this share of their area to see."""
LEAST_CENTRE = 80
"""Per cent of each side: from here on a black centre counts as lungs removed, if nobody knows where they are."""
_Line: TypeAlias = Tried | Retrained
_MEANING = {
    Verdict.FAIL: "what this model, or its recipe, gets right says little about lungs",
    Verdict.WARN: "nothing fails, but numbers of this model need the warnings below beside them",
    Verdict.NOT_CHECKED: "nothing was found in what could be checked, and the rest is open",
    Verdict.PASS: "no use of anything but lungs was found, which does not show that it is the disease in them",
}
_DONE = (
    "The model was tried, or its recipe trained again, on images without lungs. What is told apart without a lung in "
    "sight is not told apart by the lungs."
)
_RULE = f"""**Rule.** Inputs without lungs are those {{known}}. `background_only` is not among them: the outline of what
turned black is that of the lungs, and disease moves it. The input without lungs that has the highest AUROC decides, so
each interval is widened until all of them hold at 95 % together (Bonferroni). FAIL: the interval lies above 0.5 and the
AUROC keeps at least {KEPT_SHARE:.0%} of the intact one's distance from 0.5. WARN: it lies above 0.5 and keeps less, or
it lies below 0.5, so that labels are told apart the wrong way round. PASS: otherwise. NOT CHECKED: the interval of the
intact AUROC reaches down to 0.5, and there is nothing to explain. The lungs alone should keep {KEPT_SHARE:.0%}, else
WARN. Intervals resample patients."""
_TWO_REASONS = """**A fall has two explanations.** A model that is tried on black or masked images may do badly because
it needs what was taken away, or because it never saw such images. Training again on the altered images tells them
apart: a network that had the chance to adapt, and still fails, found nothing there."""
_EDITS = "A letter, a bright frame and 30 more grey levels change no disease, and so should change no decision."
_EDIT_RULES = f"""**Rule.** FAIL: a letter or a frame changes at least {FLIPS_FAIL:.0%} of the decisions and its
interval lies above {FLIPS_WARN:.0%}. WARN: an edit changes more than {FLIPS_WARN:.0%}. Brightness reaches the lungs as
well: it shows a fragile model rather than a shortcut, and is never worse than WARN. A decision is a score on one side
of the threshold {{:g}}. The same edit was made on every image, so that the AUROC may stay what it was while decisions
change."""
_COLLECTION = """The same kind of network was trained to say from which collection a Negative image comes. Where it can,
every data set whose classes come from different collections can be told apart without any disease."""


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
    rows = [{"how": "tried", **asdict(each)} for each in probe.tried]
    rows += [{"how": "retrained", **asdict(each)} for each in probe.retrained]
    if probe.source_classifier is not None:
        rows.append({"how": "source classifier", "name": "which_collection", **asdict(probe.source_classifier)})
    plain_values = ("name", "synthetic", "split", "ckpt", "threshold", "images", "patients", "fingerprint", "lungs")
    record = {name: getattr(probe, name) for name in (*plain_values, "seed")}
    record |= {"rows": rows, "warnings": list(probe.warnings), "seconds": seconds, "command": command}
    title = f"{_mark(probe)}Does it see the lungs? {probe.name}"
    return write_findings(folder, "probe", title, sections(probe), _MEANING, PACKAGES, record, scored=bool(probe.tried))


# Findings -----------------------------------------------------------------------------------------------------------


def _without_lungs(probe: Probe) -> Section:
    known = f"whose central {LEAST_CENTRE} % of each side or more is black, or the rectangle around the lungs"
    if probe.lungs:
        known = f"that leave at most {VISIBLE:.0%} of the lungs' area to see"
    text = [_DONE, _RULE.format(known=known), _TWO_REASONS]
    if probe.lungs:
        none = f" On {plural(probe.without_lungs, 'image')} it found none." if probe.without_lungs else ""
        text.append(
            f"Lungs were found by {plain(probe.lungs)}, once, on the intact images.{none} The column *lungs left* is "
            "the mean share of their area that is not black."
        )
    tables = [*([_tried_table(probe)] if probe.tried else []), *([_retrained_table(probe)] if probe.retrained else [])]
    caption = (
        f"{_mark(probe)}Performance with the lungs removed: what stays to the right of 0.5 in the shaded rows was told "
        f"apart without lungs. {_count(probe)} (fewer where lungs are needed and none were found)."
    )
    picture = Picture("lungs_removed", caption, _figure(probe))
    findings = [*_tried_findings(probe), *_retrained_findings(probe)]
    answer = findings[0].said if findings else ""
    return Section("Performance with the lungs removed", findings, text, tables, [picture], answer=answer)


def _tried_findings(probe: Probe) -> Iterator[Finding]:
    if not probe.tried:
        return
    intact = probe.tried[0].auroc
    yield _judged("this model without lungs", intact, probe.tried, "the intact images")
    only = next((each for each in probe.tried if each.name == "lungs_only"), None)
    if only is not None:
        verdict = Verdict(shortcuts.judge_lungs_only(intact, only.auroc))
        said = f"If all but the lungs is black, the AUROC is {only.auroc}; intact, it is {intact}."
        yield Finding("this model with the lungs alone", verdict, said, details=f"{_size(only)}.")
    for reason in dict.fromkeys(probe.not_tried.values()):
        names = [name for name, why in probe.not_tried.items() if why == reason]
        yield from not_checked(reason, ", ".join(names))


def _retrained_findings(probe: Probe) -> Iterator[Finding]:
    if not probe.retrained:
        return
    check = "the recipe trained again without lungs"
    intact = next((each.auroc for each in probe.retrained if each.name == "none"), None)
    if intact is None:
        yield from not_checked("There is no run on intact images (data.alter=none) to measure by.", check)
    else:
        yield _judged(check, intact, probe.retrained, "intact images")


def _judged(check: str, intact: Estimate, lines: Sequence[_Line], reference: str) -> Finding:
    """What the best of the inputs without lungs says."""
    free = {each.name: each for each in lines if each.corrected is not None}
    limits = {name: each.corrected for name, each in free.items() if each.corrected is not None}
    found, best = shortcuts.judge_without_lungs(intact, limits)
    verdict = Verdict(found)
    if not free:
        said = f"No input without lungs was used; add for example centre_black_90 (from {LEAST_CENTRE} on)."
        return Finding(check, verdict, said)
    if not best:
        said = f"There is nothing to explain: the AUROC {intact} on {reference} is not above 0.5."
        return Finding(check, verdict, said)
    line = free[best]
    said = f"With {line.words}, the AUROC is {line.auroc}; on {reference} it is {intact}."
    level = f"{100 * shortcuts.corrected(len(free)):.3g} % interval for {len(free)} inputs"
    seeds = f", {plural(len(line.auroc.seeds), 'seed')}" if isinstance(line, Retrained) else ""
    details = (
        f"{best} has the AUROC {line.corrected} ({level}), {_size(line)}{seeds}; "
        f"{100 * shortcuts.kept(intact, line.auroc):.0f} % of the distance from 0.5 is left."
    )
    return Finding(check, verdict, said, 2 * abs(float(line.auroc.value or 0.5) - 0.5), details)


def _size(line: _Line) -> str:
    return f"n = {plural(line.n, 'image')} of {plural(line.n_patients, 'patient')}"


def _decisions(probe: Probe) -> Section:
    findings = [
        Finding(
            f"decisions under {each.words}",
            Verdict(shortcuts.judge_flips(each.flipped, on_lungs=Alteration.parse(each.name).on_lungs)),
            f"With {each.words}, {each.flipped:.0%} of the decisions change.",
            float(each.flipped.value or 0),
            f"{_size(each)}.",
        )
        for each in probe.tried
        if each.group == "edit"
    ]
    rows = [
        (each.words, each.n, *(f"{each.shift[name]:+.3f}" for name in ("Negative", "Positive")), f"{each.flipped:.0%}")
        for each in probe.tried[1:]
    ]
    header = ("Images", "n", "Mean change of score, Negative", "Positive", "Decisions changed")
    table = Table("Scores and decisions, altered against intact", header, rows)
    text = [_EDITS, _EDIT_RULES.format(probe.threshold)]
    return Section("Edits without meaning, and decisions", findings, text, [table])


def _which_collection(found: SourceClassifier) -> Section:
    verdict = Verdict.WARN if found.auroc.above(shortcuts.CHANCE) else Verdict.PASS
    said = f"A network tells the collections of Negative images apart with an AUROC of {found.auroc}."
    details = f"{found.right} of {found.n} are right, n = {plural(found.n, 'image')} of "
    details += f"{plural(found.n_patients, 'patient')}."
    weight = 2 * float(found.auroc.value or 0.5) - 1
    finding = Finding("which collection a Negative comes from", verdict, said, weight, details)
    rule = f"WARN: the interval lies above 0.5. The run is {code(found.run)}."
    return Section("Which collection?", [finding], [_COLLECTION, rule])


# Tables and figures -------------------------------------------------------------------------------------------------


def _tried_table(probe: Probe) -> Table:
    intact = probe.tried[0].auroc
    rows = []
    for each in probe.tried:
        left = None if each.visible is None else f"{each.visible:.0%}"
        told = intact.above(shortcuts.CHANCE) and each.auroc.value is not None
        kept = f"{shortcuts.kept(intact, each.auroc):.0%}" if told else ""
        change = None if each.name == "none" else f"{each.difference:+.3f}"
        rows.append((each.words, each.group, each.n, left, str(each.auroc), change, kept, _star(each)))
    header = ("Images", "Group", "n", "Lungs left", "AUROC", "Change, paired", "Kept", "Without lungs")
    return Table("This model, tried on altered images", header, rows)


def _retrained_table(probe: Probe) -> Table:
    rows = []
    for each in probe.retrained:
        right = f"{min(each.right)} to {max(each.right)}" if len(set(each.right)) > 1 else f"{each.right[0]}"
        change = None if each.difference is None or each.name == "none" else f"{each.difference:+.3f}"
        spread = f"{min(each.auroc.seeds):.3f} to {max(each.auroc.seeds):.3f}"
        cells = (f"{right} of {each.n}", f"{np.mean(each.right) / each.n:.3f}", str(each.auroc), spread, change)
        rows.append((each.words, len(each.right), *cells, _star(each)))
    means = ("Right", "Accuracy, mean", "AUROC, mean", "Seeds from to", "Change, paired")
    return Table("The same recipe, trained again on altered images", ("Images", "Seeds", *means, "Without lungs"), rows)


def _star(line: _Line) -> str:
    return "" if line.corrected is None else "yes"


def _figure(probe: Probe) -> Figure:
    tried = {each.name: each for each in probe.tried}
    retrained = {each.name: each for each in probe.retrained}
    rows = []
    for name in dict.fromkeys([*tried, *retrained]):
        found: list[_Line] = [each[name] for each in (tried, retrained) if name in each]
        if found[0].group == "edit":
            continue
        points = [
            Point(each.auroc, each.auroc.seeds, second=True) if isinstance(each, Retrained) else Point(each.auroc)
            for each in found
        ]
        group = "" if name == "none" else found[0].group
        rows.append(Row(found[0].words, points, group, shaded=any(each.corrected is not None for each in found)))
    order = ("", "lungs kept", "lungs removed", "detail removed")
    rows.sort(key=lambda row: order.index(row.group))
    dots = "; black dots: seeds" if probe.retrained else ""
    note = f"{_mark(probe)}AUROC with 95 % interval, patients resampled{dots}; shaded: without lungs by the rule; "
    kinds = ("this model, tried on such images", "trained again on them") if probe.tried and probe.retrained else ()
    title = f"{_mark(probe)}Performance with the lungs removed: {probe.name}"
    return forest(rows, title, note + _count(probe), kinds=kinds)


def _count(probe: Probe) -> str:
    return f"{plural(probe.images, probe.split + ' image')}, {plural(probe.patients, 'patient')}"


def _shown(probe: Probe) -> Section:
    pairs = np.stack([pair for _, pair in probe.samples])
    gap = np.full((*pairs.shape[:1], pairs.shape[2], max(1, pairs.shape[3] // 32), pairs.shape[4]), 255, np.uint8)
    figure = image_grid(np.concatenate([pairs[:, 0], gap, pairs[:, 1]], axis=2), [name for name, _ in probe.samples])
    caption = f"{_mark(probe)}One image under every alteration: Negative on the left, Positive on the right"
    text = ["The same was done to every image of every class."]
    return Section("What the model was shown", (), text, pictures=[Picture("samples", caption, figure)])


def _mark(probe: Probe) -> str:
    return "SYNTHETIC: " if probe.synthetic else ""
