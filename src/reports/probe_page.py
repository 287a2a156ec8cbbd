"""A probe as files: what a model gets right without lungs, as a page for people and JSON for programs.

``probe.json`` holds, with ``schema`` 1, ``verdict`` to ``verdicts``, ``sections`` and ``seed`` to ``versions`` as
``audit.json`` does, see :mod:`cxrlab.reports.audit_page`, and:

===============  ===================================================================================================
``name``         of the data set; ``synthetic``, whether a program drew it; ``split``, whose images were used
``ckpt``         file of the weights, empty where only retrained runs were collected; ``threshold``, of its decisions
``images``       that were used; ``patients``, an image of an unknown patient being one
``fingerprint``  of the data set, as a run's; ``lungs``, what found the lungs, empty where nothing did
``rows``         one per line of the tables: ``how`` (``tried``, ``retrained`` or ``source classifier``), ``name`` and
                 ``group`` of the alteration, and the numbers with their intervals
``warnings``     what a reader must know before the first number
===============  ===================================================================================================

``summary.json``, of several models, holds with ``schema`` 1: ``runs`` (``ckpt``, ``folder``, ``synthetic``,
``verdict``), ``checks`` (by check, how often each verdict was given), ``alterations`` (by name ``words``, ``mean``,
``low``, ``high``, ``from``, ``to``, ``runs``) and ``command``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from cxrlab.checks.base import Finding, Picture, Section, Table, Verdict, not_checked
from cxrlab.datamodules.alterations import Alteration
from cxrlab.evaluation import shortcuts
from cxrlab.evaluation.estimate import Estimate
from cxrlab.evaluation.shortcuts import CHANCE, FLIPS_FAIL, FLIPS_WARN, KEPT_SHARE, Retrained, Tried
from cxrlab.figures import Figure, Point, Row, forest, image_grid
from cxrlab.files import write_json
from cxrlab.reports.documents import code, plain, write_document
from cxrlab.reports.sections import write_findings
from cxrlab.words import plural

PACKAGES = ("cxrlab", "numpy", "scipy", "torch", "captum", "monai", "opencv-python-headless")
VISIBLE = 0.05
"""An input counts as one without lungs if it leaves at most this share of their area to see."""
LEAST_CENTRE = 80
"""Per cent of each side: from here on a black centre counts as lungs removed, if nobody knows where they are."""
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
    """A network that was trained to tell collections apart from Negative images; its run folder and test images."""

    run: str
    n: int
    n_patients: int
    right: int
    auroc: Estimate


@dataclass(frozen=True)
class Probe:
    """Everything that a page is made of; what stands in ``probe.json`` is described there.

    Attributes:
        ckpt: Empty without a model.
        tried: The intact images first; empty without a model.
        not_tried: Why alterations were left out, by name.
        without_lungs: Images on which no lungs were found; they are left out where lungs are needed.
        retrained: What other runs say; empty where none were given.
        saliency: Its section.
        samples: What was done, and a Negative and a Positive image after it, shape (2, height, width, channels).
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

    @property
    def mark(self) -> str:
        """Before what drawn images gave."""
        return "SYNTHETIC: " if self.synthetic else ""

    @property
    def count(self) -> str:
        """Images and patients, in words."""
        return f"{plural(self.images, self.split + ' image')}, {plural(self.patients, 'patient')}"


def write_probe(folder: Path, probe: Probe, seconds: float, command: str = "") -> Path:
    """Writes ``probe.md``, ``probe.html``, ``probe.json`` and ``figures/*.png``; returns the path of the page."""
    rows = [{"how": "tried", **asdict(each)} for each in probe.tried]
    rows += [{"how": "retrained", **asdict(each)} for each in probe.retrained]
    if probe.source_classifier is not None:
        rows.append({"how": "source classifier", "name": "which_collection", **asdict(probe.source_classifier)})
    plain_values = ("name", "synthetic", "split", "ckpt", "threshold", "images", "patients", "fingerprint", "lungs")
    record = {name: getattr(probe, name) for name in (*plain_values, "seed")}
    record |= {"rows": rows, "warnings": list(probe.warnings), "seconds": seconds, "command": command}
    title = f"{probe.mark}Does it see the lungs? {probe.name}"
    return write_findings(folder, "probe", title, sections(probe), _MEANING, PACKAGES, record, scored=bool(probe.tried))


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
    findings: list[Finding] = []
    tables = []
    if probe.tried:
        findings += _tried_findings(probe)
        tables.append(_tried_table(probe))
    if probe.retrained:
        check = "the recipe trained again without lungs"
        intact = next((each.auroc for each in probe.retrained if each.name == "none"), None)
        if intact is None:
            findings += not_checked("There is no run on intact images (data.alter=none) to measure by.", check)
        else:
            findings.append(_judged(check, intact, probe.retrained, "intact images"))
        tables.append(_retrained_table(probe))
    caption = (
        f"{probe.mark}Performance with the lungs removed: what stays to the right of 0.5 in the shaded rows was told "
        f"apart without lungs. {probe.count} (fewer where lungs are needed and none were found)."
    )
    picture = Picture("lungs_removed", caption, _figure(probe))
    answer = findings[0].said if findings else ""
    return Section("Performance with the lungs removed", findings, text, tables, [picture], answer=answer)


def _tried_findings(probe: Probe) -> list[Finding]:
    intact = probe.tried[0].auroc
    found = [_judged("this model without lungs", intact, probe.tried, "the intact images")]
    for only in probe.tried:
        if only.name == "lungs_only":
            verdict = Verdict(shortcuts.judge_lungs_only(intact, only.auroc))
            said = f"If all but the lungs is black, the AUROC is {only.auroc}; intact, it is {intact}."
            found.append(Finding("this model with the lungs alone", verdict, said, details=f"{_size(only)}."))
    for reason in dict.fromkeys(probe.not_tried.values()):
        names = [name for name, why in probe.not_tried.items() if why == reason]
        found += not_checked(reason, ", ".join(names))
    return found


def _judged(check: str, intact: Estimate, lines: Sequence[Tried | Retrained], reference: str) -> Finding:
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
    seeds = f", {plural(len(line.auroc.seeds), 'seed')}" if isinstance(line, Retrained) else ""
    details = (
        f"{best} has the AUROC {line.corrected} ({100 * shortcuts.corrected(len(free)):.3g} % interval for {len(free)} "
        f"inputs), {_size(line)}{seeds}; {100 * shortcuts.kept(intact, line.auroc):.0f} % of the distance from 0.5 is "
        "left."
    )
    return Finding(check, verdict, said, 2 * abs(float(line.auroc.value or 0.5) - 0.5), details)


def _size(line: Tried | Retrained | SourceClassifier) -> str:
    return f"n = {plural(line.n, 'image')} of {plural(line.n_patients, 'patient')}"


def _tried_table(probe: Probe) -> Table:
    intact = probe.tried[0].auroc
    rows = []
    for each in probe.tried:
        left = None if each.visible is None else f"{each.visible:.0%}"
        told = intact.above(CHANCE) and each.auroc.value is not None
        kept = f"{shortcuts.kept(intact, each.auroc):.0%}" if told else ""
        change = None if each.name == "none" else f"{each.difference:+.3f}"
        free = "" if each.corrected is None else "yes"
        rows.append((each.words, each.group, each.n, left, str(each.auroc), change, kept, free))
    header = ("Images", "Group", "n", "Lungs left", "AUROC", "Change, paired", "Kept", "Without lungs")
    return Table("This model, tried on altered images", header, rows)


def _retrained_table(probe: Probe) -> Table:
    rows = []
    for each in probe.retrained:
        low, high, seeds = min(each.right), max(each.right), each.auroc.seeds
        right = f"{low} of {each.n}" if low == high else f"{low} to {high} of {each.n}"
        accuracy, spread = f"{np.mean(each.right) / each.n:.3f}", f"{min(seeds):.3f} to {max(seeds):.3f}"
        change = None if each.difference is None or each.name == "none" else f"{each.difference:+.3f}"
        free = "" if each.corrected is None else "yes"
        rows.append((each.words, len(each.right), right, accuracy, str(each.auroc), spread, change, free))
    means = ("Right", "Accuracy, mean", "AUROC, mean", "Seeds from to", "Change, paired")
    return Table("The same recipe, trained again on altered images", ("Images", "Seeds", *means, "Without lungs"), rows)


def _figure(probe: Probe) -> Figure:
    every: list[Tried | Retrained] = [*probe.tried, *probe.retrained]
    lines: dict[str, list[Tried | Retrained]] = {}
    for each in every:
        if each.group != "edit":
            lines.setdefault(each.name, []).append(each)
    rows = []
    for name, found in lines.items():
        points = [
            Point(each.auroc, each.auroc.seeds, second=True) if isinstance(each, Retrained) else Point(each.auroc)
            for each in found
        ]
        group = "" if name == "none" else found[0].group
        rows.append(Row(found[0].words, points, group, shaded=any(each.corrected is not None for each in found)))
    rows.sort(key=lambda row: ("", "lungs kept", "lungs removed", "detail removed").index(row.group))
    dots = "; black dots: seeds" if probe.retrained else ""
    note = f"{probe.mark}AUROC with 95 % interval, patients resampled{dots}; shaded: without lungs by the rule; "
    kinds = ("this model, tried on such images", "trained again on them") if probe.tried and probe.retrained else ()
    title = f"{probe.mark}Performance with the lungs removed: {probe.name}"
    return forest(rows, title, note + probe.count, kinds=kinds)


def _decisions(probe: Probe) -> Section:
    findings = []
    for each in probe.tried:
        if each.group == "edit":
            verdict = shortcuts.judge_flips(each.flipped, on_lungs=Alteration.parse(each.name).on_lungs)
            check, weight = f"decisions under {each.words}", float(each.flipped.value or 0)
            said = f"With {each.words}, {each.flipped:.0%} of the decisions change."
            findings.append(Finding(check, Verdict(verdict), said, weight, f"{_size(each)}."))
    rows = [
        (each.words, each.n, *(f"{each.shift[name]:+.3f}" for name in ("Negative", "Positive")), f"{each.flipped:.0%}")
        for each in probe.tried[1:]
    ]
    header = ("Images", "n", "Mean change of score, Negative", "Positive", "Decisions changed")
    table = Table("Scores and decisions, altered against intact", header, rows)
    text = [_EDITS, _EDIT_RULES.format(probe.threshold)]
    return Section("Edits without meaning, and decisions", findings, text, [table])


def _which_collection(found: SourceClassifier) -> Section:
    verdict = Verdict.WARN if found.auroc.above(CHANCE) else Verdict.PASS
    said = f"A network tells the collections of Negative images apart with an AUROC of {found.auroc}."
    details = f"{found.right} of {found.n} are right, {_size(found)}."
    weight = 2 * float(found.auroc.value or 0.5) - 1
    finding = Finding("which collection a Negative comes from", verdict, said, weight, details)
    rule = f"WARN: the interval lies above 0.5. The run is {code(found.run)}."
    return Section("Which collection?", [finding], [_COLLECTION, rule])


def _shown(probe: Probe) -> Section:
    pairs = np.stack([pair for _, pair in probe.samples])
    gap = np.full((*pairs.shape[:1], pairs.shape[2], max(1, pairs.shape[3] // 32), pairs.shape[4]), 255, np.uint8)
    figure = image_grid(np.concatenate([pairs[:, 0], gap, pairs[:, 1]], axis=2), [name for name, _ in probe.samples])
    caption = f"{probe.mark}One image under every alteration: Negative on the left, Positive on the right"
    text = ["The same was done to every image of every class."]
    return Section("What the model was shown", (), text, pictures=[Picture("samples", caption, figure)])


def summarise_probes(probes: Mapping[str, Mapping[str, Any]], command: str = "") -> dict[str, Any]:
    """Puts the numbers of several probes together.

    Args:
        probes: Contents of ``probe.json`` by the folder that holds it.
        command: What was typed.

    Returns:
        The contents of ``summary.json``: how often each verdict was given, and what was left of the AUROC.
    """
    checks: dict[str, dict[str, int]] = {}
    aurocs: dict[tuple[str, str], list[float]] = {}
    for probe in probes.values():
        for line in probe["verdicts"]:
            checks.setdefault(line["check"], dict.fromkeys(map(str, Verdict), 0))[line["verdict"]] += 1
        for row in probe["rows"]:
            if row["how"] == "tried" and row["auroc"]["value"] is not None:
                aurocs.setdefault((row["name"], row["words"]), []).append(row["auroc"]["value"])
    return {
        "schema": 1,
        "synthetic": any(probe["synthetic"] for probe in probes.values()),
        "runs": [
            {"ckpt": probe["ckpt"], "folder": folder, "synthetic": probe["synthetic"], "verdict": probe["verdict"]}
            for folder, probe in probes.items()
        ],
        "checks": checks,
        "alterations": {name: {"words": words, **_spread(values)} for (name, words), values in aurocs.items()},
        "command": command,
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    mean, n = float(np.mean(values)), len(values)
    error = float(np.std(values, ddof=1)) / n**0.5 if n > 1 else 0.0
    half = float(student.ppf(0.975, n - 1)) * error if error else None
    low, high = (None, None) if half is None else (max(0.0, mean - half), min(1.0, mean + half))
    return {"mean": mean, "low": low, "high": high, "from": min(values), "to": max(values), "runs": n}


def write_summary(folder: Path, summary: Mapping[str, Any]) -> Path:
    """Writes ``summary.md``, ``summary.html`` and ``summary.json``; returns the path of the page."""
    runs = summary["runs"]
    models = [(run["verdict"], run["ckpt"], f"{Path(run['folder']).name}/probe.html") for run in runs]
    context = {"tables": summary_tables(summary), "models": models, "command": summary["command"]}
    title = f"{'SYNTHETIC: ' if summary['synthetic'] else ''}{len(runs)} models probed"
    page = write_document(folder, "summary", "probes", title, context)
    write_json(folder / "summary.json", dict(summary))
    return page


def summary_tables(summary: Mapping[str, Any]) -> list[Table]:
    """The tables of a summary, for a page or a terminal."""
    verdicts = [(name, *map(str, given.values())) for name, given in summary["checks"].items()]
    aurocs = []
    for each in summary["alterations"].values():
        mean = Estimate(each["mean"], each["low"], each["high"], "Student's t")
        aurocs.append((each["words"], str(each["runs"]), str(mean), f"{each['from']:.3f} to {each['to']:.3f}"))
    return [
        Table("How often each verdict was given", ("Check", *map(str, Verdict)), verdicts),
        Table("AUROC on altered images", ("Images", "Models", "AUROC, mean", "Range"), aurocs),
    ]
