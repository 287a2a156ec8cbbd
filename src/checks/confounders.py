"""Confounders: how well classifiers that never see a lung tell the classes apart, and what they go by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich import get_console
from rich.progress import track

from cxrlab.checks.base import FAIL, NOT_CHECKED, PASS, WARN, Case, Finding, Picture, Section, Table, Verdict
from cxrlab.datamodules.manifest import LABELS, people
from cxrlab.datamodules.split import assign_folds
from cxrlab.evaluation import cross_validation, lung_free
from cxrlab.evaluation.estimate import Bools, Floats, Ints, Resampling, wilson
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
    header = {name: case.measured.facts[name].to_numpy() for name in lung_free.FACTS}
    numbers = lung_free.features(case.measured.grey, header)
    varying = [name for name in INPUTS if np.ptp(numbers[name], axis=0).any()]
    facts: dict[str, Any] = {
        "inputs": {name: {"lung_free": what.lung_free} for name, what in INPUTS.items()},
        "strips": {},
        "explanations": {},
        "surest": {"input": "", "rows": []},
        "rule": {"folds": FOLDS, "draws": DRAWS, "fail": ALPHA, "warn": ALPHA_WARN, "effect": EFFECT},
    }
    fewest, name = min((np.unique(persons[labels == label]).size, name) for name, label in LABELS.items())
    scores: dict[str, Floats] = {}
    if fewest >= FOLDS:
        scores = _validate(facts["inputs"], {name: numbers[name] for name in varying}, labels, persons, case.seed)
    sides: list[tuple[str, ...]] = []
    if test.any() and np.unique(labels[~test]).size > 1:  # else nothing can be trained, or nothing be tested
        sides = _train_and_test(facts, numbers, labels, test)
    if fewest < FOLDS:
        said = f"Cross-validation in {FOLDS} folds needs {FOLDS} patients of either class; there are only "
        findings = [Finding("label told without a lung", NOT_CHECKED, f"{said}{plural(fewest, f'{name} patient')}.")]
        tables = _tables(facts, sides, varying) if "test" in facts["inputs"]["size"] else []
        return Section(TITLE, findings, [_DONE], tables, facts=facts)
    ranked = {
        "file header": lung_free.rank_cues(lung_free.header_cues(header), labels),
        "edges of the images": lung_free.rank_cues(lung_free.edge_cues(case.measured.grey), labels),
    }
    facts["explanations"] = {family: [[*cue] for cue in cues] for family, cues in ranked.items()}
    # The input of the edges with the highest AUROC, and the images that it is surest of, Positive by score first.
    edges = [name for name in _FAMILIES["edges of the images"] if name in scores]
    if edges:
        best = max(edges, key=lambda name: facts["inputs"][name]["cv_auroc"].value)
        order, count = np.argsort(scores[best], kind="stable"), min(_SHOWN, len(labels) // 2)
        facts["surest"] = {"input": best, "rows": [*order[::-1][:count].tolist(), *order[:count].tolist()]}
    counts = f"{len(labels)} images of {np.unique(persons).size} patients"
    findings = [
        _finding(family, [name for name in _FAMILIES[family] if name in scores], facts, counts) for family in _FAMILIES
    ]
    told = [each for each in findings[:2] if each.verdict is not PASS]
    return Section(
        TITLE,
        findings,
        [_DONE, _METHOD, _RULES, _SEES],
        _tables(facts, sides, varying),
        _pictures(case, facts, scores, counts),
        facts,
        max(told, key=lambda each: each.weight).said if told else "Nothing without a lung tells the labels apart.",
    )


def _train_and_test(
    facts: dict[str, Any], numbers: dict[str, Floats], labels: Ints, test: Bools
) -> list[tuple[str, ...]]:
    """Trains on train and val, and tests on test: each input, and each side by itself; the sides are also a table."""
    own, truth = labels[~test, None], labels[test].astype(bool)
    rows: list[tuple[str, ...]] = []
    for name, what in INPUTS.items():
        scores = cross_validation.scored(numbers[name][~test], own, numbers[name][test], strip=what.strip)[:, 0]
        both = truth.any() and not truth.all()
        auroc = float(weighted_auroc(truth, scores, np.ones((1, truth.size)))[0]) if both else None
        right = int(((scores >= 0.5) == truth).sum())
        facts["inputs"][name]["test"] = {"right": right, "n": truth.size, "auroc": auroc}
    for number, side in enumerate(SIDES):
        levels = numbers["strip"][:, number]
        column, (threshold,), (brighter,) = cross_validation.best_columns(levels[~test, None], own)
        if column[0] >= 0:
            called = ((levels >= threshold) == brighter) == (labels == 1)
            train, held = ((int(called[part].sum()), int(part.sum())) for part in (~test, test))
            facts["strips"][side] = {"threshold": float(threshold), "train": train, "test": held}
            rows.append((side, f"{'at least' if brighter else 'below'} {threshold:.1f}", _of(*train), _of(*held)))
    return rows


def _validate(
    inputs: dict[str, Any], numbers: dict[str, Floats], labels: Ints, persons: npt.NDArray[np.str_], seed: int
) -> dict[str, Floats]:
    """Cross-validates inputs; gives the scores of every image, mean over the draws of folds."""
    repeats = 3 if len(labels) <= _MANY else 1
    folds = np.stack([assign_folds(labels, persons, FOLDS, seed + repeat) for repeat in range(repeats)])
    control = cross_validation.permuted_labels(labels, persons, DRAWS, seed)
    scores = {}
    quiet = len(labels) < _BAR_FROM or not get_console().is_terminal
    for name in track([*numbers], "classifiers that see no lung", disable=quiet, transient=True):
        auroc, found, permuted = cross_validation.cross_validated(
            numbers[name], labels, folds, strip=INPUTS[name].strip, control=control
        )
        low, high = np.quantile(permuted, [0.025, 0.975]).tolist()
        inputs[name] |= {
            "cv_auroc": cross_validation.cross_validated_interval(
                labels, found, folds, persons, Resampling(1000, seed)
            ),
            "permuted": {"mean": float(permuted.mean()), "low": low, "high": high, "draws": int(permuted.size)},
            "p": cross_validation.control_p(auroc, permuted),
        }
        scores[name] = found.mean(axis=0)
    for name, p in zip(scores, holm([inputs[name]["p"] for name in scores]), strict=True):
        inputs[name]["p_holm"] = p or 0.0
    return scores


def _finding(family: str, names: Sequence[str], facts: dict[str, Any], counts: str) -> Finding:
    """One line for a family of inputs: its most serious one, of those the one with the highest AUROC."""
    title, inputs = f"label told by the {family}", facts["inputs"]
    if not names:
        return Finding(title, PASS, f"The {family} cannot tell the classes apart: same for all {counts}.")
    verdicts = {}
    for name in names:
        estimate, p = inputs[name]["cv_auroc"], inputs[name]["p_holm"]
        verdicts[name] = WARN if p <= ALPHA_WARN and estimate.above(0.5) else PASS
        if INPUTS[name].lung_free and p <= ALPHA and estimate.above(EFFECT):
            verdicts[name] = FAIL
    order = [*Verdict]
    best = min(names, key=lambda name: (order.index(verdicts[name]), -inputs[name]["cv_auroc"].value))
    estimate, permuted, weight = (
        inputs[best]["cv_auroc"],
        inputs[best]["permuted"],
        2 * inputs[best]["cv_auroc"].value - 1,
    )
    control = "on permuted labels the AUROC is {mean:.2f} (95 % within {low:.2f} to {high:.2f})".format(**permuted)
    details = f"It was measured on {counts}; {control}, p {inputs[best]['p_holm']:.3f} after Holm."
    if verdicts[best] is PASS:
        said = f"Nothing was found; the best input alone, the {INPUTS[best].name}, reaches an AUROC of {estimate}."
        return Finding(title, PASS, said, max(0.0, weight), details)
    said = f"The label can be told from the {INPUTS[best].name} alone (AUROC {estimate})"
    if cues := facts["explanations"].get(family):  # what Positive images have, by the explanation that goes furthest
        name, auroc = cues[0]
        said += f"; {'most of all, ' * estimate.above(auroc)}Positive goes with {name}"
        details = f"This explanation alone has an AUROC of {auroc:.2f}. {details}"
    if "test" in inputs[best]:  # all inputs of the family, so that none is picked by its result
        right = [f"{INPUTS[name].name} {inputs[name]['test']['right']}" for name in names if name != "strip"]
        if "strip" in names:
            right += [f"{side} strip and one threshold {one['test'][0]}" for side, one in facts["strips"].items()]
        n = inputs[best]["test"]["n"]
        details += f" Trained on the rest, these get so many of {n} test images right: {', '.join(right)}."
    return Finding(title, verdicts[best], f"{said}.", max(0.0, weight), details)


def _tables(facts: dict[str, Any], sides: Sequence[Sequence[str]], varying: Sequence[str]) -> list[Table]:
    rows, open_ = [], NOT_CHECKED.value
    for name, what in INPUTS.items():
        one = facts["inputs"][name]
        cells: list[object] = [what.name, "none" if what.lung_free else "maybe"]
        if "cv_auroc" in one:
            cells += [str(one["cv_auroc"]), "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**one["permuted"])]
            cells += [f"{one['p']:.3f}", f"{one['p_holm']:.3f}"]
        else:
            cells += [open_ if name in varying else "the same for all", None, None, None]
        if test := one.get("test"):
            auroc = "undefined: one class" if test["auroc"] is None else f"{test['auroc']:.3f}"
            cells += [_of(test["right"], test["n"]), auroc]
        else:
            cells += [open_, open_]
        rows.append(cells)
    header = ["input", "lung", "AUROC [95 %]", "permuted [95 %]", "p", "Holm", "test: right [95 %]", "test AUROC"]
    count = sum("cv_auroc" in one for one in facts["inputs"].values())
    tables = [Table(f"Classifiers without a lung; p (Holm) is corrected for {plural(count, 'input')}", header, rows)]
    if sides:
        header = ["strip", "called Positive if its mean grey level is", "train and val: right of n", "test: right of n"]
        tables.append(Table("One number and one threshold, chosen on train and val", header, sides))
    if facts["explanations"]:
        cues = [
            (where, name, f"{auroc:.3f}") for where, cues in facts["explanations"].items() for name, auroc in cues[:5]
        ]
        header = ["where", "explanation", "AUROC of it alone"]
        tables.append(Table("Explanations: what goes with Positive", header, cues))
    return tables


def _pictures(case: Case, facts: dict[str, Any], scores: dict[str, Floats], counts: str) -> list[Picture]:
    if not scores:
        return []
    mark = " (SYNTHETIC)" if case.synthetic else ""
    bars = []
    for name in scores:
        one, permuted = facts["inputs"][name], facts["inputs"][name]["permuted"]
        point = Point(one["cv_auroc"], hollow=not one["lung_free"])
        bars.append(Row(INPUTS[name].name, [point], control=(permuted["low"], permuted["high"])))
    note = (
        "Squares and lines: cross-validated AUROC and its 95 % interval; filled without lung, open with perhaps some. "
        "Grey: 95 % of the same on permuted labels."
    )
    caption = (
        "What can be told without seeing a lung. A square to the right of its grey band tells Positive from Negative; "
        "0.5 is guessing, 1 is always right."
    )
    pictures = [Picture("lung_free", caption, forest(bars, f"{TITLE}: {case.name}{mark}, {counts}", note))]
    best, rows = facts["surest"]["input"], facts["surest"]["rows"]
    if rows:
        classes = [CLASSES[label] for label in case.manifest["label"].iloc[rows]]
        captions = [
            f"{case.file_name(row)}\nis {name}, score {scores[best][row]:.2f}"
            for row, name in zip(rows, classes, strict=True)
        ]
        caption = (
            f"The images of which the classifier that sees the {INPUTS[best].name} alone is surest: the highest "
            "scores, then the lowest. All are squeezed to a square."
        )
        grid = image_grid(case.measured.grey[rows][..., None], captions)
        pictures.append(Picture("lung_free_surest", caption, grid))
    return pictures


def _of(right: int, n: int) -> str:
    low, high = wilson(right, n)
    return f"{right} of {n} [{low:.3f}, {high:.3f}]"
