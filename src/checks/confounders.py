"""Confounders: how well classifiers that never see a lung tell the classes apart, and what they go by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich import get_console
from rich.progress import track

from cxrlab.checks.base import Case, Finding, Picture, Section, Table, Verdict, not_checked
from cxrlab.datamodules import manifest as mf
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
    """What cross-validation found of one input.

    Attributes:
        estimate: AUROC with its interval.
        control: AUROCs on permuted labels.
        p: Of the AUROC, by the control.
        adjusted: The same after Holm.
        scores: Of every image, mean over the draws of folds.
    """

    estimate: Estimate
    control: Floats
    p: float
    adjusted: float
    scores: Floats

    @property
    def auroc(self) -> float:
        """The estimate's value."""
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


def check(case: Case) -> Section:
    """Looks for confounders in the file headers and at the edges of the images.

    Every input of :data:`cxrlab.evaluation.lung_free.INPUTS` is cross-validated by patient on all images, on the true
    labels and on permuted ones, and trained on train and val to be tested on test.

    Args:
        case: The data set.

    Returns:
        A finding each for the header, for the edges and for what may hold lung; NOT CHECKED with the reason where a
        class has fewer patients than there are folds.
    """
    labels, split = case.manifest["label"].to_numpy(np.int64), case.manifest["split"].to_numpy()
    groups = mf.people(case.manifest).to_numpy(str)
    facts = {name: case.measured.facts[name].to_numpy() for name in lung_free.FACTS}
    numbers = lung_free.features(case.measured.grey, facts)
    constant = [name for name in INPUTS if not np.ptp(numbers[name], axis=0).any()]
    test = split == "test"
    can = test.any() and np.unique(labels[~test]).size > 1  # else nothing can be trained, or nothing be tested
    tested = {name: _tested(numbers[name], labels, test, INPUTS[name].strip) for name in INPUTS} if can else {}
    strips = _single_strips(numbers["strip"], labels, test) if can else {}
    few = _too_few(labels, groups)
    if few:
        findings = not_checked(few, "label told without a lung")
        tables = [_table({}, tested, constant), *_more_tables(strips, {})] if tested else []
        return Section(TITLE, findings, [_DONE], tables, facts=_facts({}, tested, strips, ("", []), {}))
    found = _validate({name: numbers[name] for name in INPUTS if name not in constant}, labels, groups, case.seed)
    cues = {
        "file header": lung_free.rank_cues(lung_free.header_cues(facts), labels),
        "edges of the images": lung_free.rank_cues(lung_free.edge_cues(case.measured.grey), labels),
    }
    counts = f"{len(labels)} images of {np.unique(groups).size} patients"
    findings = [
        _finding(family, [name for name in names if name in found], found, tested, strips, cues.get(family, []), counts)
        for family, names in _FAMILIES.items()
    ]
    surest = _surest(found, labels)
    told = [each for each in findings[:2] if each.verdict is not Verdict.PASS]
    return Section(
        TITLE,
        findings,
        [_DONE, _METHOD, _RULES, _SEES],
        [_table(found, tested, constant), *_more_tables(strips, cues)],
        _pictures(case, found, surest, counts),
        _facts(found, tested, strips, surest, cues),
        max(told, key=lambda each: each.weight).said if told else "Nothing without a lung tells the labels apart.",
    )


def _too_few(labels: Ints, groups: npt.NDArray[np.str_]) -> str:
    """Why cross-validation is not possible; empty where it is."""
    patients = {name: np.unique(groups[labels == label]).size for name, label in mf.LABELS.items()}
    name = min(patients, key=lambda key: patients[key])
    if patients[name] >= FOLDS:
        return ""
    counted = plural(patients[name], f"{name} patient")
    return f"Cross-validation in {FOLDS} folds needs {FOLDS} patients of either class; there are only {counted}."


def _validate(
    numbers: Mapping[str, Floats], labels: Ints, groups: npt.NDArray[np.str_], seed: int
) -> dict[str, _Validated]:
    repeats = 3 if len(labels) <= _MANY else 1
    folds = np.stack([assign_folds(labels, groups, FOLDS, seed + repeat) for repeat in range(repeats)])
    control = cross_validation.dealt_labels(labels, groups, DRAWS, seed)
    rows = {}
    quiet = len(labels) < _BAR_FROM or not get_console().is_terminal
    for name in track([*numbers], "classifiers that see no lung", disable=quiet, transient=True):
        auroc, scores, permuted = cross_validation.cross_validated(
            numbers[name], labels, folds, strip=INPUTS[name].strip, control=control
        )
        estimate = cross_validation.cross_validated_interval(labels, scores, folds, groups, Resampling(1000, seed))
        rows[name] = (estimate, permuted, cross_validation.control_p(auroc, permuted), scores.mean(axis=0))
    adjusted = holm([p for _, _, p, _ in rows.values()])
    return {
        name: _Validated(estimate, permuted, p, float(after or 0.0), scores)
        for (name, (estimate, permuted, p, scores)), after in zip(rows.items(), adjusted, strict=True)
    }


def _tested(numbers: Floats, labels: Ints, test: Bools, strip: bool) -> _Tested:
    """Trains on train and val, and tests on test."""
    scores = cross_validation.scored(numbers[~test], labels[~test, None], numbers[test], strip=strip)[:, 0]
    truth = labels[test].astype(bool)
    both = truth.any() and not truth.all()
    auroc = float(weighted_auroc(truth, scores, np.ones((1, truth.size)))[0]) if both else None
    return _Tested(int(((scores >= 0.5) == truth).sum()), truth.size, auroc)


def _single_strips(levels: Floats, labels: Ints, test: Bools) -> dict[str, _Strip]:
    """Each side by itself; all that is chosen is chosen on train and val."""
    found = {}
    for number, side in enumerate(SIDES):
        own = levels[:, [number]]
        column, threshold, brighter = cross_validation.best_columns(own[~test], labels[~test, None])
        if column[0] >= 0:
            right = ((own[:, 0] >= threshold[0]) == brighter[0]) == (labels == 1)
            train, held = ((int(right[part].sum()), int(part.sum())) for part in (~test, test))
            found[side] = _Strip(bool(brighter[0]), float(threshold[0]), train, held)
    return found


def _verdict(name: str, one: _Validated) -> Verdict:
    if INPUTS[name].lung_free and one.adjusted <= ALPHA and one.estimate.above(EFFECT):
        return Verdict.FAIL
    return Verdict.WARN if one.adjusted <= ALPHA_WARN and one.estimate.above(0.5) else Verdict.PASS


def _finding(
    family: str,
    names: Sequence[str],
    found: Mapping[str, _Validated],
    tested: Mapping[str, _Tested],
    strips: Mapping[str, _Strip],
    cues: Sequence[tuple[str, float]],
    counts: str,
) -> Finding:
    """One line for a family of inputs: its most serious one, of those the one with the highest AUROC."""
    title = f"label told by the {family}"
    if not names:
        return Finding(title, Verdict.PASS, f"The {family} cannot tell the classes apart: same for all {counts}.")
    order = [*Verdict]
    best = min(names, key=lambda name: (order.index(_verdict(name, found[name])), -found[name].auroc))
    one, verdict = found[best], _verdict(best, found[best])
    (low, high), weight = one.range, max(0.0, 2 * one.auroc - 1)
    control = f"on permuted labels the AUROC is {one.control.mean():.2f} (95 % within {low:.2f} to {high:.2f})"
    details = [f"It was measured on {counts}; {control}, p {one.adjusted:.3f} after Holm."]
    if verdict is Verdict.PASS:
        said = f"Nothing was found; the best input alone, the {INPUTS[best].name}, reaches an AUROC of {one.estimate}."
        return Finding(title, verdict, said, weight, details[0])
    said = f"The label can be told from the {INPUTS[best].name} alone (AUROC {one.estimate})"
    if cues:  # what Positive images have, by the explanation that goes furthest
        name, auroc = cues[0]
        said += f"; {'most of all, ' * one.estimate.above(auroc)}Positive goes with {name}"
        details.insert(0, f"This explanation alone has an AUROC of {auroc:.2f}.")
    if tested:
        details.append(_right(names, tested, strips))
    return Finding(title, verdict, f"{said}.", weight, " ".join(details))


def _right(names: Sequence[str], tested: Mapping[str, _Tested], strips: Mapping[str, _Strip]) -> str:
    """How many test images the inputs of a family get right, all of them, so that none is picked by its result."""
    counts = [f"{INPUTS[name].name} {tested[name].right}" for name in names if name != "strip"]
    if "strip" in names:
        counts += [f"{side} strip and one threshold {strip.test[0]}" for side, strip in strips.items()]
    return f"Trained on the rest, these get so many of {tested[names[0]].n} test images right: {', '.join(counts)}."


def _surest(found: Mapping[str, _Validated], labels: Ints) -> tuple[str, list[int]]:
    """The input of the edges with the highest AUROC, and the images that it is surest of, Positive by score first."""
    edges = [name for name in _FAMILIES["edges of the images"] if name in found]
    if not edges:
        return "", []
    best = max(edges, key=lambda name: found[name].auroc)
    order = np.argsort(found[best].scores, kind="stable")
    count = min(_SHOWN, len(labels) // 2)
    return best, [*order[::-1][:count].tolist(), *order[:count].tolist()]


def _table(found: Mapping[str, _Validated], tested: Mapping[str, _Tested], constant: Sequence[str]) -> Table:
    rows, open_ = [], Verdict.NOT_CHECKED.value
    for name, what in INPUTS.items():
        cells: list[object] = [what.name, "none" if what.lung_free else "maybe"]
        if one := found.get(name):
            low, high = one.range
            cells += [str(one.estimate), f"{one.control.mean():.3f} [{low:.3f}, {high:.3f}]"]
            cells += [f"{one.p:.3f}", f"{one.adjusted:.3f}"]
        else:
            cells += ["the same for all" if name in constant else open_, None, None, None]
        if test := tested.get(name):
            cells += [_of(test.right, test.n), "undefined: one class" if test.auroc is None else f"{test.auroc:.3f}"]
        else:
            cells += [open_, open_]
        rows.append(cells)
    header = ["input", "lung", "AUROC [95 %]", "permuted [95 %]", "p", "Holm"]
    caption = f"Classifiers without a lung; p (Holm) is corrected for {plural(len(found), 'input')}"
    return Table(caption, [*header, "test: right [95 %]", "test AUROC"], rows)


def _more_tables(strips: Mapping[str, _Strip], cues: Mapping[str, Sequence[tuple[str, float]]]) -> Iterator[Table]:
    if strips:
        rows = [
            (side, f"{'at least' if one.brighter else 'below'} {one.threshold:.1f}", _of(*one.train), _of(*one.test))
            for side, one in strips.items()
        ]
        header = ("strip", "called Positive if its mean grey level is", "train and val: right of n", "test: right of n")
        yield Table("One number and one threshold, chosen on train and val", header, rows)
    if cues:
        named = [(family, name, f"{auroc:.3f}") for family, ranked in cues.items() for name, auroc in ranked[:5]]
        yield Table("Explanations: what goes with Positive", ("where", "explanation", "AUROC of it alone"), named)


def _pictures(case: Case, found: Mapping[str, _Validated], surest: tuple[str, list[int]], counts: str) -> list[Picture]:
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
    best, rows = surest
    if rows:
        names = [Path(case.manifest["path"].iloc[row]).name for row in rows]
        captions = [
            f"{name}\nis {CLASSES[int(case.manifest['label'].iloc[row])]}, score {found[best].scores[row]:.2f}"
            for name, row in zip(names, rows, strict=True)
        ]
        caption = (
            f"The images of which the classifier that sees the {INPUTS[best].name} alone is surest: the highest "
            "scores, then the lowest. All are squeezed to a square."
        )
        grid = image_grid(case.measured.grey[rows][..., None], captions)
        pictures.append(Picture("lung_free_surest", caption, grid))
    return pictures


def _facts(
    found: Mapping[str, _Validated],
    tested: Mapping[str, _Tested],
    strips: Mapping[str, _Strip],
    surest: tuple[str, list[int]],
    cues: Mapping[str, Sequence[tuple[str, float]]],
) -> dict[str, Any]:
    inputs: dict[str, dict[str, Any]] = {name: {"lung_free": what.lung_free} for name, what in INPUTS.items()}
    for name, one in found.items():
        low, high = one.range
        control = {"mean": float(one.control.mean()), "low": low, "high": high, "draws": int(one.control.size)}
        inputs[name] |= {"cv_auroc": one.estimate, "permuted": control, "p": one.p, "p_holm": one.adjusted}
    for name, result in tested.items():
        inputs[name]["test"] = result._asdict()
    return {
        "inputs": inputs,
        "strips": {
            side: {"threshold": one.threshold, "train": one.train, "test": one.test} for side, one in strips.items()
        },
        "explanations": {where: [[name, auroc] for name, auroc in ranked] for where, ranked in cues.items()},
        "surest": {"input": surest[0], "rows": surest[1]},
        "rule": {"folds": FOLDS, "draws": DRAWS, "fail": ALPHA, "warn": ALPHA_WARN, "effect": EFFECT},
    }


def _of(right: int, n: int) -> str:
    low, high = wilson(right, n)
    return f"{right} of {n} [{low:.3f}, {high:.3f}]"
