"""Confounders: how well classifiers that never see a lung tell the classes apart, and what they go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import get_console
from rich.progress import track

from cxrlab.checks.base import Case, Finding, Picture, Section, Table, Verdict
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.split import assign_folds
from cxrlab.evaluation import cross_validation, lung_free
from cxrlab.evaluation.estimate import Bools, Estimate, Floats, Ints, Resampling, wilson
from cxrlab.evaluation.lung_free import INPUTS, SIDES
from cxrlab.evaluation.paired import holm
from cxrlab.evaluation.statistics import weighted_auroc
from cxrlab.figures import CLASSES, Point, Row, forest, image_grid

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


@dataclass(frozen=True)
class _Validated:
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


@dataclass(frozen=True)
class _Tested:
    """What training on train and val and testing on test found of one input: how many of n are right, and the AUROC."""

    right: int
    n: int
    auroc: float | None


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
    labels = case.manifest["label"].to_numpy(np.int64)
    groups = mf.people(case.manifest).to_numpy(str)
    facts = {name: case.measured.facts[name].to_numpy() for name in lung_free.FACTS}
    numbers = lung_free.features(case.measured.grey, facts)
    constant = [name for name in INPUTS if not np.ptp(numbers[name], axis=0).any()]
    tested = _test(numbers, labels, case.manifest["split"].to_numpy())
    strips = _single_strips(numbers["strip"], labels, case.manifest["split"].to_numpy())
    few = _too_few(labels, groups)
    if few:
        finding = Finding("label told without a lung", Verdict.NOT_CHECKED, few)
        tables = [_table({}, tested, constant), *_strip_table(strips)] if tested else []
        return Section(TITLE, [finding], [few], tables, facts=_facts({}, tested, strips, ("", []), {}))
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
    return Section(
        TITLE,
        findings,
        _text(len(labels), len(found)),
        [_table(found, tested, constant), *_strip_table(strips), _cue_table(cues)],
        _pictures(case, found, surest, counts),
        _facts(found, tested, strips, surest, cues),
    )


def _too_few(labels: Ints, groups: npt.NDArray[np.str_]) -> str:
    """Why cross-validation is not possible; empty where it is."""
    patients = {name: np.unique(groups[labels == label]).size for name, label in mf.LABELS.items()}
    name = min(patients, key=lambda key: patients[key])
    if patients[name] >= FOLDS:
        return ""
    return f"only {patients[name]} {name} patient(s): cross-validation in {FOLDS} folds needs {FOLDS} of either class"


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


def _test(numbers: Mapping[str, Floats], labels: Ints, split: npt.NDArray[Any]) -> dict[str, _Tested]:
    """Trains on train and val, tests on test; empty where one of them is missing or training holds one class only."""
    test = split == "test"
    if not test.any() or np.unique(labels[~test]).size < 2:
        return {}
    return {name: _tested(numbers[name], labels, test, INPUTS[name].strip) for name in INPUTS}


def _tested(numbers: Floats, labels: Ints, test: Bools, strip: bool) -> _Tested:
    scores = cross_validation.scored(numbers[~test], labels[~test, None], numbers[test], strip=strip)[:, 0]
    truth = labels[test].astype(bool)
    both = truth.any() and not truth.all()
    auroc = float(weighted_auroc(truth, scores, np.ones((1, truth.size)))[0]) if both else None
    return _Tested(int(((scores >= 0.5) == truth).sum()), truth.size, auroc)


@dataclass(frozen=True)
class _Strip:
    """One threshold on the strip of one side: images right in training and in test, of how many."""

    side: str
    threshold: float
    brighter: bool
    train: tuple[int, int]
    test: tuple[int, int]


def _single_strips(levels: Floats, labels: Ints, split: npt.NDArray[Any]) -> list[_Strip]:
    """Each side by itself; all that is chosen is chosen on train and val."""
    test = split == "test"
    if not test.any() or np.unique(labels[~test]).size < 2:
        return []
    rows = []
    for number, side in enumerate(SIDES):
        own = levels[:, [number]]
        column, threshold, brighter = cross_validation.best_columns(own[~test], labels[~test, None])
        if column[0] < 0:
            continue
        right = ((own[:, 0] >= threshold[0]) == brighter[0]) == (labels == 1)
        train, held = ((int(right[part].sum()), int(part.sum())) for part in (~test, test))
        rows.append(_Strip(side, float(threshold[0]), bool(brighter[0]), train, held))
    return rows


def _verdict(name: str, one: _Validated) -> Verdict:
    if INPUTS[name].lung_free and one.adjusted <= ALPHA and one.estimate.above(EFFECT):
        return Verdict.FAIL
    return Verdict.WARN if one.adjusted <= ALPHA_WARN and one.estimate.above(0.5) else Verdict.PASS


def _finding(
    family: str,
    names: Sequence[str],
    found: Mapping[str, _Validated],
    tested: Mapping[str, _Tested],
    strips: Sequence[_Strip],
    cues: Sequence[tuple[str, float]],
    counts: str,
) -> Finding:
    """One line for a family of inputs: its most serious one, of those the one with the highest AUROC."""
    title = f"label told by the {family}"
    if not names:
        return Finding(title, Verdict.PASS, f"the same for all {counts}: it cannot tell the classes apart")
    order = [*Verdict]
    best = min(names, key=lambda name: (order.index(_verdict(name, found[name])), -found[name].auroc))
    one, verdict = found[best], _verdict(best, found[best])
    parts = [f"{INPUTS[best].name} alone: AUROC {one.estimate} ({counts}; {_against(one)})"]
    if verdict is Verdict.PASS:
        parts[0] = f"nothing found; best {parts[0]}"
    elif cues:
        parts.insert(0, _named(cues, one))
    if verdict is not Verdict.PASS and tested:
        parts.append(_right(names, tested, strips))
    return Finding(title, verdict, "; ".join(parts), max(0.0, 2 * one.auroc - 1))


def _named(cues: Sequence[tuple[str, float]], one: _Validated) -> str:
    """What Positive images have, by the explanation that goes furthest."""
    name, auroc = cues[0]
    words = f"{name} (this number alone: AUROC {auroc:.2f})"
    return f"Positive goes with {words if not one.estimate.above(auroc) else f'several things, most of all {words}'}"


def _against(one: _Validated) -> str:
    low, high = one.range
    return f"permuted labels {one.control.mean():.2f}, 95 % within {low:.2f} to {high:.2f}; Holm p {one.adjusted:.3f}"


def _right(names: Sequence[str], tested: Mapping[str, _Tested], strips: Sequence[_Strip]) -> str:
    """How many test images the inputs of a family get right, all of them, so that none is picked by its result."""
    n = tested[names[0]].n
    counts = [f"{INPUTS[name].name} {tested[name].right}" for name in names if name != "strip"]
    if "strip" in names:
        counts += [f"{strip.side} strip and one threshold {strip.test[0]}" for strip in strips]
    return f"trained on the rest, right of {n} test images: {', '.join(counts)}"


def _surest(found: Mapping[str, _Validated], labels: Ints) -> tuple[str, list[int]]:
    """The input of the edges with the highest AUROC, and the images that it is surest of, Positive by score first."""
    edges = [name for name in _FAMILIES["edges of the images"] if name in found]
    if not edges:
        return "", []
    best = max(edges, key=lambda name: found[name].auroc)
    order = np.argsort(found[best].scores, kind="stable")
    count = min(_SHOWN, len(labels) // 2)
    return best, [*order[::-1][:count].tolist(), *order[:count].tolist()]


def _text(n: int, tests: int) -> list[str]:
    repeats = "three draws of folds" if n <= _MANY else "one draw of folds"
    return [
        (
            "Each classifier below is given a few numbers in which there is no lung, or hardly any. One that does well "
            "shows that the classes differ in how their images were made, and that a network need not look at a lung "
            "to do as well."
        ),
        (
            "All are the same: a logistic regression (standardised, C = 0.1, not tuned), or one threshold for a strip. "
            f"They are cross-validated on all {n} images of any split, in {FOLDS} folds by patient ({repeats}); the "
            "AUROC counts pairs of one fold, its interval resamples patients. The control is the same pipeline on "
            f"labels dealt out anew between patients, {DRAWS} times; p is the share of these that do as well, "
            f"adjusted by Holm for the {tests} inputs that vary at all. Beside it each is trained on train and val and "
            "tested on test."
        ),
        (
            f"FAIL: p after Holm at most {ALPHA:g} and the whole interval above {EFFECT:g}, for inputs that hold no "
            f"lung; where labels have nothing to do with these, at most {ALPHA:.0%} of data sets get any FAIL. WARN: p "
            f"after Holm at most {ALPHA_WARN:g}. Inputs that may hold lung can at most WARN, since disease changes "
            "them. PASS says that nothing was found, not that there is nothing: the upper end of the interval is not "
            "ruled out."
        ),
        (
            "On films cut close to the chest a little lung reaches into the outer 5 % as well. An explanation is one "
            "number per image, nothing fitted, whose AUROC is given; it names what goes with the label, not why."
        ),
    ]


def _table(found: Mapping[str, _Validated], tested: Mapping[str, _Tested], constant: Sequence[str]) -> Table:
    header = ("input", "what it sees", "lung", "CV AUROC [95 %]", "permuted labels, mean [95 %]", "p", "p (Holm)")
    rows = []
    for name, what in INPUTS.items():
        cells: list[object] = [what.name, what.sees, "none" if what.lung_free else "maybe"]
        one = found.get(name)
        if one:
            low, high = one.range
            cells += [str(one.estimate), f"{one.control.mean():.3f} [{low:.3f}, {high:.3f}]"]
            cells += [f"{one.p:.3f}", f"{one.adjusted:.3f}"]
        else:
            cells += ["the same for all" if name in constant else Verdict.NOT_CHECKED.value, None, None, None]
        rows.append([*cells, *_test_cells(tested.get(name))])
    return Table("Classifiers without a lung", [*header, "test: right of n [95 % Wilson]", "test AUROC"], rows)


def _test_cells(one: _Tested | None) -> list[object]:
    if one is None:
        return [Verdict.NOT_CHECKED.value, Verdict.NOT_CHECKED.value]
    auroc = "undefined: one class" if one.auroc is None else f"{one.auroc:.3f}"
    return [_of(one.right, one.n), auroc]


def _strip_table(strips: Sequence[_Strip]) -> list[Table]:
    if not strips:
        return []
    rows = [
        (one.side, f"{'at least' if one.brighter else 'below'} {one.threshold:.1f}", _of(*one.train), _of(*one.test))
        for one in strips
    ]
    header = ("strip", "called Positive where its mean grey level is", "train and val: right of n", "test: right of n")
    return [Table("One number and one threshold, chosen on train and val", header, rows)]


def _cue_table(cues: Mapping[str, Sequence[tuple[str, float]]]) -> Table:
    rows = [(family, name, f"{auroc:.3f}") for family, ranked in cues.items() for name, auroc in ranked[:5]]
    return Table("Explanations: what goes with Positive", ("where", "explanation", "AUROC of this number alone"), rows)


def _pictures(case: Case, found: Mapping[str, _Validated], surest: tuple[str, list[int]], counts: str) -> list[Picture]:
    if not found:
        return []
    mark = " (SYNTHETIC)" if case.synthetic else ""
    bars = [
        Row(INPUTS[name].name, [[Point(one.estimate, hollow=not INPUTS[name].lung_free)]], control=one.range)
        for name, one in found.items()
    ]
    figure = forest(
        bars,
        f"{TITLE}: {case.name}{mark}, {counts}",
        "Squares and lines: cross-validated AUROC and its 95 % interval; filled without lung, open with perhaps some. "
        "Grey: 95 % of the same on permuted labels.",
    )
    pictures = [Picture("lung_free", "Classifiers that never see a lung beside their negative control.", figure)]
    best, rows = surest
    if rows:
        names = [Path(case.manifest["path"].iloc[row]).name for row in rows]
        captions = [
            f"{name}\nis {CLASSES[int(case.manifest['label'].iloc[row])]}, score {found[best].scores[row]:.2f}"
            for name, row in zip(names, rows, strict=True)
        ]
        grid = image_grid(case.measured.grey[rows][..., None], captions)
        caption = f"Surest by the {INPUTS[best].name}, as squeezed grey copies: the highest scores, then the lowest."
        pictures.append(Picture("lung_free_surest", caption, grid))
    return pictures


def _facts(
    found: Mapping[str, _Validated],
    tested: Mapping[str, _Tested],
    strips: Sequence[_Strip],
    surest: tuple[str, list[int]],
    cues: Mapping[str, Sequence[tuple[str, float]]],
) -> dict[str, Any]:
    inputs: dict[str, dict[str, Any]] = {name: {"lung_free": what.lung_free} for name, what in INPUTS.items()}
    for name, one in found.items():
        low, high = one.range
        control = {"mean": float(one.control.mean()), "low": low, "high": high, "draws": int(one.control.size)}
        inputs[name] |= {"cv_auroc": one.estimate, "permuted": control, "p": one.p, "p_holm": one.adjusted}
    for name, result in tested.items():
        inputs[name]["test"] = {"right": result.right, "n": result.n, "auroc": result.auroc}
    return {
        "inputs": inputs,
        "strips": {one.side: {"threshold": one.threshold, "train": one.train, "test": one.test} for one in strips},
        "explanations": {where: [[name, auroc] for name, auroc in ranked] for where, ranked in cues.items()},
        "surest": {"input": surest[0], "rows": surest[1]},
        "rule": {"folds": FOLDS, "draws": DRAWS, "fail": ALPHA, "warn": ALPHA_WARN, "effect": EFFECT},
    }


def _of(right: int, n: int) -> str:
    low, high = wilson(right, n)
    return f"{right} of {n} [{low:.3f}, {high:.3f}]"
