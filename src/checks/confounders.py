"""Confounders: how well classifiers that never see a lung tell the classes apart, and what they go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich import get_console
from rich.progress import track

from cxrlab.checks.base import FAIL, NOT_CHECKED, PASS, WARN, Case, Finding, Picture, Section, Table, Verdict
from cxrlab.datamodules.manifest import LABELS, people
from cxrlab.datamodules.split import assign_folds
from cxrlab.evaluation import cross_validation, lung_free
from cxrlab.evaluation.estimate import Bools, Estimate, Floats, Ints, Resampling, wilson
from cxrlab.evaluation.lung_free import INPUTS, SIDES
from cxrlab.evaluation.paired import holm
from cxrlab.evaluation.statistics import weighted_auroc
from cxrlab.figures import CLASSES, Point, Row, forest, image_grid
from cxrlab.words import plural

FOLDS = 5
DRAWS = 999
"""Draws of permuted labels: the least p value is then 0.001, and 0.01 after Holm's adjustment for all ten inputs."""

ALPHA = 0.01
"""Chance of any FAIL on a data set whose labels have nothing to do with header and edges, at most."""

ALPHA_WARN = 0.05
"""The same for any WARN, where the labels have nothing to do with anything."""

EFFECT = 0.6
"""An AUROC that matters: where the whole interval lies above it, a significant finding is a FAIL."""

TITLE = "Classifiers that never see a lung"

_MANY = 1000  # images from which one draw of folds is enough: the AUROC hardly depends on it any more
_BAR_FROM = 64  # images; fewer take no time
_SHOWN = 4  # images of either class in the figure

_FAMILIES = {
    "file header": ("size", "header"),
    "edges of the images": ("corners", "strip", "border", "frame"),
    "inputs that may hold some lung": ("bytes", "wide_frame", "grey", "thumbnail"),
}
"""What becomes one finding together."""

_DONE = (
    "Each classifier below is given a few numbers in which there is no lung, or hardly any. One that does well shows "
    "that the classes differ in how their images were made, and that a network need not look at a lung to do as well."
)
_METHOD = f"""**Method.** All classifiers are the same: a logistic regression (standardised, C = 0.1, not tuned), or for
a strip one threshold. They are cross-validated on all images of any split, in {FOLDS} folds by patient (three draws of
folds, or one for more than {_MANY} images). The AUROC counts pairs of one fold, and its interval resamples patients.
The negative control is the same pipeline on labels that were permuted between patients, {DRAWS} times; p is the share
of these that do as well, adjusted by Holm's method for all inputs that vary at all. Each classifier is also trained on
train and val, and tested on test."""
_RULES = f"""**Rules.** FAIL: an input that holds no lung has p of at most {ALPHA:g} after Holm and its whole interval
above {EFFECT:g}. If the labels have nothing to do with these inputs, at most {ALPHA:.0%} of data sets get a FAIL. WARN:
p of at most {ALPHA_WARN:g} after Holm. Inputs that may hold some lung can at most WARN, since disease changes them.
PASS says that nothing was found, not that there is nothing: the upper end of the interval is not ruled out. On films
that were cut close to the chest, a little lung reaches into the outer 5 % as well. An explanation is one number per
image; nothing is fitted, and its AUROC is given. It names what goes with the label, not why."""
_SEES = f"**What each input sees.** {'; '.join(f'{what.name}: {what.sees}' for what in INPUTS.values())}."


class _Validated(NamedTuple):
    """What cross-validation found of one input."""

    estimate: Estimate
    """AUROC with its interval."""
    control: Floats
    """AUROCs on permuted labels."""
    p: float
    """Of the AUROC, by the control."""
    scores: Floats
    """Of every image, mean over the draws of folds."""
    adjusted: float = 0.0
    """p after Holm."""

    @property
    def auroc(self) -> float:
        assert self.estimate.value is not None  # both labels are in some fold
        return self.estimate.value

    @property
    def range(self) -> tuple[float, float]:
        low, high = np.quantile(self.control, [0.025, 0.975]).tolist()
        return low, high


class _Tested(NamedTuple):
    """What training on train and val and testing on test found of one input: how many of n are right, and the AUROC."""

    right: int
    n: int
    auroc: float | None


class _Strip(NamedTuple):
    """One threshold on the strip of one side: images right in training and in test, of how many."""

    brighter: bool
    threshold: float
    train: tuple[int, int]
    test: tuple[int, int]


class _Looked(NamedTuple):
    """All that was found: of inputs, of sides, and of families the explanations with their AUROCs, the best first."""

    found: dict[str, _Validated]
    tested: dict[str, _Tested]
    strips: dict[str, _Strip]
    cues: dict[str, list[tuple[str, float]]]


def check(case: Case) -> Section:
    """Looks for confounders in the file headers and at the edges of the images.

    Every input of :data:`cxrlab.evaluation.lung_free.INPUTS` is cross-validated by patient on all images, on the true
    labels and on permuted ones, and trained on train and val to be tested on test.

    Returns:
        A finding each for the header, for the edges and for what may hold lung; NOT CHECKED with the reason where a
        class has fewer patients than there are folds.
    """
    labels, test = case.manifest["label"].to_numpy(np.int64), (case.manifest["split"] == "test").to_numpy()
    persons = people(case.manifest).to_numpy(str)
    facts = {name: case.measured.facts[name].to_numpy() for name in lung_free.FACTS}
    numbers = lung_free.features(case.measured.grey, facts)
    constant = [name for name in INPUTS if not np.ptp(numbers[name], axis=0).any()]
    tested, strips = _trained(numbers, labels, test)
    fewest, name = min((np.unique(persons[labels == label]).size, name) for name, label in LABELS.items())
    if fewest < FOLDS:
        said = f"Cross-validation in {FOLDS} folds needs {FOLDS} patients of either class; there are only "
        findings = [Finding("label told without a lung", NOT_CHECKED, f"{said}{plural(fewest, f'{name} patient')}.")]
        looked = _Looked({}, tested, strips, {})
        tables = _tables(looked, constant) if tested else []
        return Section(TITLE, findings, [_DONE], tables, facts=_facts(looked, "", []))
    cues = {
        "file header": lung_free.rank_cues(lung_free.header_cues(facts), labels),
        "edges of the images": lung_free.rank_cues(lung_free.edge_cues(case.measured.grey), labels),
    }
    varying = {name: numbers[name] for name in INPUTS if name not in constant}
    looked = _Looked(_validate(varying, labels, persons, case.seed), tested, strips, cues)
    counts = f"{len(labels)} images of {np.unique(persons).size} patients"
    findings = [_finding(family, looked, counts) for family in _FAMILIES]
    told = [each for each in findings[:2] if each.verdict is not PASS]
    # The input of the edges with the highest AUROC, and the images that it is surest of, Positive by score first.
    edges = [name for name in _FAMILIES["edges of the images"] if name in looked.found]
    best, surest = max(edges, key=lambda name: looked.found[name].auroc, default=""), []
    if best:
        order, count = np.argsort(looked.found[best].scores, kind="stable"), min(_SHOWN, len(labels) // 2)
        surest = [*order[::-1][:count].tolist(), *order[:count].tolist()]
    return Section(
        TITLE,
        findings,
        [_DONE, _METHOD, _RULES, _SEES],
        _tables(looked, constant),
        _pictures(case, looked.found, best, surest, counts),
        _facts(looked, best, surest),
        max(told, key=lambda each: each.weight).said if told else "Nothing without a lung tells the labels apart.",
    )


def _trained(numbers: Mapping[str, Floats], labels: Ints, test: Bools) -> tuple[dict[str, _Tested], dict[str, _Strip]]:
    """Trains on train and val, and tests on test: each input, and each side by itself; nothing where it cannot."""
    if not test.any() or np.unique(labels[~test]).size < 2:
        return {}, {}
    own, truth, tested, strips = labels[~test, None], labels[test].astype(bool), {}, {}
    for name, what in INPUTS.items():
        scores = cross_validation.scored(numbers[name][~test], own, numbers[name][test], strip=what.strip)[:, 0]
        both = truth.any() and not truth.all()
        auroc = float(weighted_auroc(truth, scores, np.ones((1, truth.size)))[0]) if both else None
        tested[name] = _Tested(int(((scores >= 0.5) == truth).sum()), truth.size, auroc)
    for number, side in enumerate(SIDES):
        levels = numbers["strip"][:, number]
        column, threshold, brighter = cross_validation.best_columns(levels[~test, None], own)
        if column[0] >= 0:
            right = ((levels >= threshold[0]) == brighter[0]) == (labels == 1)
            train, held = ((int(right[part].sum()), int(part.sum())) for part in (~test, test))
            strips[side] = _Strip(bool(brighter[0]), float(threshold[0]), train, held)
    return tested, strips


def _validate(
    numbers: Mapping[str, Floats], labels: Ints, persons: npt.NDArray[np.str_], seed: int
) -> dict[str, _Validated]:
    repeats = 3 if len(labels) <= _MANY else 1
    folds = np.stack([assign_folds(labels, persons, FOLDS, seed + repeat) for repeat in range(repeats)])
    control = cross_validation.dealt_labels(labels, persons, DRAWS, seed)
    found = {}
    quiet = len(labels) < _BAR_FROM or not get_console().is_terminal
    for name in track([*numbers], "classifiers that see no lung", disable=quiet, transient=True):
        auroc, scores, permuted = cross_validation.cross_validated(
            numbers[name], labels, folds, strip=INPUTS[name].strip, control=control
        )
        estimate = cross_validation.cross_validated_interval(labels, scores, folds, persons, Resampling(1000, seed))
        p = cross_validation.control_p(auroc, permuted)
        found[name] = _Validated(estimate, permuted, p, scores.mean(axis=0))
    adjusted = holm([one.p for one in found.values()])
    return {name: found[name]._replace(adjusted=p or 0.0) for name, p in zip(found, adjusted, strict=True)}


def _verdict(name: str, one: _Validated) -> Verdict:
    if INPUTS[name].lung_free and one.adjusted <= ALPHA and one.estimate.above(EFFECT):
        return FAIL
    return WARN if one.adjusted <= ALPHA_WARN and one.estimate.above(0.5) else PASS


def _finding(family: str, looked: _Looked, counts: str) -> Finding:
    """One line for a family of inputs: its most serious one, of those the one with the highest AUROC."""
    title, found = f"label told by the {family}", looked.found
    names = [name for name in _FAMILIES[family] if name in found]
    if not names:
        return Finding(title, PASS, f"The {family} cannot tell the classes apart: same for all {counts}.")
    order = [*Verdict]
    best = min(names, key=lambda name: (order.index(_verdict(name, found[name])), -found[name].auroc))
    one, verdict = found[best], _verdict(best, found[best])
    (low, high), weight = one.range, max(0.0, 2 * one.auroc - 1)
    control = f"on permuted labels the AUROC is {one.control.mean():.2f} (95 % within {low:.2f} to {high:.2f})"
    details = f"It was measured on {counts}; {control}, p {one.adjusted:.3f} after Holm."
    if verdict is PASS:
        said = f"Nothing was found; the best input alone, the {INPUTS[best].name}, reaches an AUROC of {one.estimate}."
        return Finding(title, verdict, said, weight, details)
    said = f"The label can be told from the {INPUTS[best].name} alone (AUROC {one.estimate})"
    if cues := looked.cues.get(family):  # what Positive images have, by the explanation that goes furthest
        name, auroc = cues[0]
        said += f"; {'most of all, ' * one.estimate.above(auroc)}Positive goes with {name}"
        details = f"This explanation alone has an AUROC of {auroc:.2f}. {details}"
    if looked.tested:  # all inputs of the family, so that none is picked by its result
        right = [f"{INPUTS[name].name} {looked.tested[name].right}" for name in names if name != "strip"]
        if "strip" in names:
            right += [f"{side} strip and one threshold {strip.test[0]}" for side, strip in looked.strips.items()]
        n = looked.tested[best].n
        details += f" Trained on the rest, these get so many of {n} test images right: {', '.join(right)}."
    return Finding(title, verdict, f"{said}.", weight, details)


def _tables(looked: _Looked, constant: Sequence[str]) -> list[Table]:
    rows, open_ = [], NOT_CHECKED.value
    for name, what in INPUTS.items():
        cells: list[object] = [what.name, "none" if what.lung_free else "maybe"]
        if one := looked.found.get(name):
            low, high = one.range
            cells += [str(one.estimate), f"{one.control.mean():.3f} [{low:.3f}, {high:.3f}]"]
            cells += [f"{one.p:.3f}", f"{one.adjusted:.3f}"]
        else:
            cells += ["the same for all" if name in constant else open_, None, None, None]
        if test := looked.tested.get(name):
            cells += [_of(test.right, test.n), "undefined: one class" if test.auroc is None else f"{test.auroc:.3f}"]
        else:
            cells += [open_, open_]
        rows.append(cells)
    header = ["input", "lung", "AUROC [95 %]", "permuted [95 %]", "p", "Holm", "test: right [95 %]", "test AUROC"]
    caption = f"Classifiers without a lung; p (Holm) is corrected for {plural(len(looked.found), 'input')}"
    tables = [Table(caption, header, rows)]
    if looked.strips:
        sides = [
            (side, f"{'at least' if one.brighter else 'below'} {one.threshold:.1f}", _of(*one.train), _of(*one.test))
            for side, one in looked.strips.items()
        ]
        header = ["strip", "called Positive if its mean grey level is", "train and val: right of n", "test: right of n"]
        tables.append(Table("One number and one threshold, chosen on train and val", header, sides))
    if looked.cues:
        told = [(family, name, f"{auroc:.3f}") for family, cues in looked.cues.items() for name, auroc in cues[:5]]
        header = ["where", "explanation", "AUROC of it alone"]
        tables.append(Table("Explanations: what goes with Positive", header, told))
    return tables


def _pictures(
    case: Case, found: Mapping[str, _Validated], best: str, surest: Sequence[int], counts: str
) -> list[Picture]:
    if not found:
        return []
    mark = " (SYNTHETIC)" if case.synthetic else ""
    bars = [
        Row(INPUTS[name].name, [Point(one.estimate, hollow=not INPUTS[name].lung_free)], control=one.range)
        for name, one in found.items()
    ]
    note = (
        "Squares and lines: cross-validated AUROC and its 95 % interval; filled without lung, open with perhaps some. "
        "Grey: 95 % of the same on permuted labels."
    )
    caption = (
        "What can be told without seeing a lung. A square to the right of its grey band tells Positive from Negative; "
        "0.5 is guessing, 1 is always right."
    )
    pictures = [Picture("lung_free", caption, forest(bars, f"{TITLE}: {case.name}{mark}, {counts}", note))]
    if surest:
        classes = [CLASSES[label] for label in case.manifest["label"].iloc[[*surest]]]
        captions = [
            f"{case.file_name(row)}\nis {name}, score {found[best].scores[row]:.2f}"
            for row, name in zip(surest, classes, strict=True)
        ]
        caption = (
            f"The images of which the classifier that sees the {INPUTS[best].name} alone is surest: the highest "
            "scores, then the lowest. All are squeezed to a square."
        )
        grid = image_grid(case.measured.grey[[*surest]][..., None], captions)
        pictures.append(Picture("lung_free_surest", caption, grid))
    return pictures


def _facts(looked: _Looked, best: str, surest: Sequence[int]) -> dict[str, Any]:
    inputs: dict[str, dict[str, Any]] = {name: {"lung_free": what.lung_free} for name, what in INPUTS.items()}
    for name, one in looked.found.items():
        low, high = one.range
        control = {"mean": float(one.control.mean()), "low": low, "high": high, "draws": int(one.control.size)}
        inputs[name] |= {"cv_auroc": one.estimate, "permuted": control, "p": one.p, "p_holm": one.adjusted}
    for name, result in looked.tested.items():
        inputs[name]["test"] = result._asdict()
    return {
        "inputs": inputs,
        "strips": {
            side: {"threshold": one.threshold, "train": one.train, "test": one.test}
            for side, one in looked.strips.items()
        },
        "explanations": {where: [[*cue] for cue in ranked] for where, ranked in looked.cues.items()},
        "surest": {"input": best, "rows": surest},
        "rule": {"folds": FOLDS, "draws": DRAWS, "fail": ALPHA, "warn": ALPHA_WARN, "effect": EFFECT},
    }


def _of(right: int, n: int) -> str:
    low, high = wilson(right, n)
    return f"{right} of {n} [{low:.3f}, {high:.3f}]"
