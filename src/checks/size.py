"""What the number of images and patients allows to be said, before anything is trained.

Sources:
    Wilson interval and Newcombe's interval of the AUROC (on the variance of J. A. Hanley and B. J. McNeil, Radiology
        1982;143:29-36): see :mod:`cxrlab.evaluation.statistics`.
    Exact McNemar test: under no difference each discordant pair goes either way with probability 1/2 (Q. McNemar,
        Psychometrika 1947;12:153-157).
    Design effect: L. Kish, Survey Sampling, 1965; with images of one patient that always agree it is
        (sum of squared images per patient) / (images).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binom

from cxrlab.checks.base import Case, Finding, Section, Table, Verdict, not_checked
from cxrlab.checks.counting import LABELS, sizes
from cxrlab.checks.provenance import has_claim
from cxrlab.datamodules.manifest import people
from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import FEW_PATIENTS, wilson
from cxrlab.evaluation.statistics import newcombe_auroc
from cxrlab.words import bounds, plural

_Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

SURE = 0.9
"""Lower bound that a perfect sensitivity or specificity must reach, by patient, for a PASS."""

CHANCE = 0.5
"""What guessing reaches: where even a perfect score cannot be told from it, the test set is a FAIL."""

POWER = 0.8
ALPHA = 0.05

AGAINST = 0.25
"""Share of the discordant pairs that speak for the worse model, in the less favourable of two assumptions."""

LARGE = 0.1  # difference in accuracy: where only larger ones are found it is a WARN
WIDE = 0.1  # interval of an AUROC: wider is a WARN

_AUROCS = (0.75, 0.9)
_RATES = 65  # of discordant images, tried before the rate is narrowed down
_COUNTED = ("split", "label", "images", "patients", "films", "most_of_one_patient")
_Counts: TypeAlias = dict[int, tuple[int, int]]  # images and patients of either label
_DONE = (
    "This section says what a perfect score on the test images would be worth, and how large a difference must be to "
    "be found. A small test set leaves room for doubt even where every answer is right."
)
_RULES = f"""Images of one patient tend to be right or wrong together, so the number of patients counts. Images of
unknown patients are taken as patients of their own, which is the best case.

**A perfect score.** FAIL: even perfect answers could not be told from guessing, because the 95 % Wilson interval of a
perfect sensitivity or specificity by patient begins below {CHANCE:g} (it does with fewer than 4 patients), be it of a
label or of what is claimed. WARN: fewer than {FEW_PATIENTS} patients, or an interval that begins below {SURE:g} (with
fewer than 35 patients).

**Differences.** The smallest difference in accuracy is the one that an exact McNemar test of two models on these images
(one per patient) finds with {100 * POWER:.0f} % power at the {100 * ALPHA:.0f} % level. It depends on the discordant
images, which only one of the two gets right. Best case: that is always the better model. Less favourable: on {
    100 * AGAINST:.0f} % of them it is the worse. The power is summed over all outcomes. WARN: above {
    LARGE:g} in the best case.
FAIL: no difference is found.

**The AUROC.** Its 95 % interval is the one that the Hanley-McNeil variance gives with as many patients. WARN: wider
than {WIDE:g} at an AUROC of {_AUROCS[0]:g}. FAIL: it holds {CHANCE:g} at one of {_AUROCS[1]:g}.

**The design effect** is how many images are worth one independent image if all images of a patient agree. The truth
lies between 1 and that."""


def check(case: Case) -> Section:
    """Says what a perfect score would be worth here, and what differences could be found."""
    test = case.manifest[case.manifest["split"] == "test"]
    counts = {label: _units(test[test["label"] == label]) for label in LABELS}
    images, patients = (sum(count[side] for count in counts.values()) for side in (0, 1))
    perfect = {"accuracy": (images, patients), "sensitivity": counts[1], "specificity": counts[0]}
    claim = f"sensitivity for {case.claim}"
    if case.claim and (test.loc[test["label"] == 1, "finding"] != "").any():
        perfect[claim] = _units(test[(test["label"] == 1) & has_claim(test, case.claim)])
    answer = "There is no test image."
    if images:
        answer = (
            f"The {plural(images, 'test image')} are of {plural(patients, 'patient')}, so that even a perfect accuracy "
            f"would have a 95 % interval of {bounds(*wilson(patients, patients))}."
        )
    there = {name: units for name, units in perfect.items() if units[0]}
    return Section(
        title="Size",
        findings=list(_findings(case, counts, perfect, claim)),
        text=[_DONE, _RULES],
        tables=_tables(case.manifest, there),
        facts=_facts(case.manifest, counts, there),
        answer=answer,
    )


def _units(rows: pd.DataFrame) -> tuple[int, int]:
    """Images, patients."""
    return len(rows), int(people(rows).nunique())


# Power -------------------------------------------------------------------------------------------------------------


@functools.cache
def smallest_difference(n: int, against: float) -> float | None:
    """Smallest difference in accuracy between two models that an exact McNemar test on n images finds.

    Found means with 80 % power at the two-sided 5 % level. With a difference ``d`` and a share ``s`` of the discordant
    images speaking for the worse model, an image is discordant with probability ``d / (1 - 2 s)``; the power is summed
    over the number of discordant images (binomial) and how many of them speak for the better model (binomial).

    Args:
        n: Independent images, at least 1.
        against: ``s``, in [0, 0.5).

    Returns:
        In (0, 1], or ``None`` where not even the largest possible difference is found.
    """
    check_range("n", n, 1, integer=True)
    check_range("against", against, 0.0, 0.5, high_open=True)
    discordant = np.arange(n + 1)
    found = _power_given(discordant, against)

    def lack(rate: float) -> float:
        return float(binom.pmf(discordant, n, rate) @ found) - POWER

    # The power given an exact number of discordant images is a saw-tooth, so that the first rise is looked for.
    rates = np.linspace(0, 1, _RATES)
    enough = [rate for rate in rates if lack(rate) >= 0]
    if not enough:
        return None
    first = brentq(lack, enough[0] - rates[1], enough[0], xtol=1e-6)
    return float(first) * (1 - 2 * against)


def _power_given(discordant: np.ndarray[Any, np.dtype[np.int64]], against: float) -> _Floats:
    """Power of the exact McNemar test for each number of discordant pairs."""
    # The largest minority that is significant: P(X <= k) <= 2.5 % for X binomial with 1/2; -1 where there is none.
    critical = binom.ppf(ALPHA / 2, discordant, 0.5)
    critical = np.where(binom.cdf(critical, discordant, 0.5) <= ALPHA / 2, critical, critical - 1)
    for_better = binom.cdf(critical, discordant, against)
    for_worse = binom.cdf(critical, discordant, 1 - against)
    return np.asarray(np.where(discordant > 0, for_better + for_worse, 0.0), np.float64)


# Findings ----------------------------------------------------------------------------------------------------------


def _findings(case: Case, counts: _Counts, perfect: dict[str, tuple[int, int]], claim: str) -> Iterator[Finding]:
    names = ("test patients", "what a perfect score is worth", "differences that can be found", "interval of an AUROC")
    if not all(images for images, _ in counts.values()):
        empty = [LABELS[label] for label, (images, _) in counts.items() if not images]
        said = f"There is no {' and no '.join(empty)} test image."
        one_class = case.manifest["label"].nunique() < 2
        yield Finding(names[0], Verdict.NOT_CHECKED if one_class else Verdict.FAIL, said, 1.0)
        yield from not_checked(said, *names[1:])
        return
    yield _patients(case.manifest, names[0], counts)
    worth = [f"{name} {_worth(*units)}" for name, units in perfect.items() if name != claim]
    low = min(wilson(count, count)[0] for _, count in counts.values())
    patients = perfect["accuracy"][1]
    said = f"Even if all were right, the accuracy would be in {bounds(*wilson(patients, patients))} (95 %, by patient)."
    yield Finding(names[1], _verdict(low), said, 1 - low, f"In full: {'; '.join(worth)}.")
    if claim in perfect:
        yield _perfect_on_claim(case.claim, perfect[claim], counts[1][0])
    yield _difference(names[2], patients)
    yield _auroc_width(names[3], counts[1][1], counts[0][1])
    yield _design(case.manifest)


def _patients(manifest: pd.DataFrame, name: str, counts: _Counts) -> Finding:
    every = {label: _units(manifest[manifest["label"] == label]) for label in counts}
    test, whole = (
        " and ".join(
            f"{plural(images, f'{LABELS[label]} image')} of {plural(patients, 'patient')}"
            for label, (images, patients) in each.items()
        )
        for each in (counts, every)
    )
    details = f"In all splits there are {whole}."
    unknown = int(((manifest["split"] == "test") & (manifest["patient_id"] == "")).sum())
    if unknown:
        details += f" These are upper limits: {plural(unknown, 'image')} of unknown patients count as one patient each."
    fewest = min(patients for _, patients in counts.values())
    low = wilson(fewest, fewest)[0]
    verdict = Verdict.FAIL if low < CHANCE else Verdict.WARN if fewest < FEW_PATIENTS else Verdict.PASS
    return Finding(name, verdict, f"The test split holds {test}.", 1 - low, details)


def _verdict(low: float) -> Verdict:
    """Of the lower bound of a perfect score."""
    return Verdict.FAIL if low < CHANCE else Verdict.WARN if low < SURE else Verdict.PASS


def _worth(images: int, patients: int) -> str:
    """``40/40 [0.912, 1] by image, 29/29 [0.883, 1] by patient``."""
    by_image = f"{images}/{images} {bounds(*wilson(images, images))}"
    return f"{by_image} by image, {patients}/{patients} {bounds(*wilson(patients, patients))} by patient"


def _perfect_on_claim(claim: str, claimed: tuple[int, int], positives: int) -> Finding:
    name, (images, patients) = f"test patients with {claim}", claimed
    if not images:
        return Finding(name, Verdict.FAIL, f"None of {positives} Positive test images names {claim}.", 1.0)
    low = wilson(patients, patients)[0]
    said = f"The test split holds {plural(images, 'image')} of {plural(patients, 'patient')} with {claim}."
    return Finding(name, _verdict(low), said, 1 - low, f"A perfect sensitivity for it: {_worth(images, patients)}.")


def _difference(name: str, patients: int) -> Finding:
    best, worse = smallest_difference(patients, 0.0), smallest_difference(patients, AGAINST)
    if best is None:
        said = f"With {plural(patients, 'patient')} no test finds a difference, not even if one model is always wrong."
        return Finding(name, Verdict.FAIL, said, 1.0)
    said = f"Two models must differ by at least {best:.3f} in accuracy for a test to find the difference."
    found = "no difference is large enough" if worse is None else f"{worse:.3f} is needed"
    details = f"If {100 * AGAINST:.0f} % of the discordant images speak for the worse model, {found} (exact "
    details += f"McNemar test, {100 * POWER:.0f} % power, n = {patients} patients)."
    return Finding(name, Verdict.WARN if best > LARGE else Verdict.PASS, said, best, details)


def _auroc_width(name: str, positives: int, negatives: int) -> Finding:
    intervals = {auroc: newcombe_auroc(auroc, positives, negatives) for auroc in _AUROCS}
    said = ", and one ".join(
        f"of {auroc:g} would have the interval {bounds(*each)}" for auroc, each in intervals.items()
    )
    low, high = intervals[_AUROCS[0]]
    lost = intervals[_AUROCS[1]][0] < CHANCE
    verdict = Verdict.FAIL if lost else Verdict.WARN if high - low > WIDE else Verdict.PASS
    details = f"There are {positives} Positive and {negatives} Negative test patients."
    return Finding(name, verdict, f"An AUROC {said}.", high - low, details)


def _design(manifest: pd.DataFrame) -> Finding:
    name, known = "images per patient", manifest[manifest["patient_id"] != ""]
    if known.empty:
        return not_checked(f"The patients of all {len(manifest)} images are unknown.", name)[0]
    groups = known.groupby(["split", "label", "patient_id"]).size().groupby(level=["split", "label"])
    effects = groups.apply(lambda counts: float((counts**2).sum() / counts.sum()))
    split, label = effects.index[int(effects.to_numpy().argmax())]
    said = f"On average there are {len(known) / known['patient_id'].nunique():.2f} images of a patient."
    details = f"The design effect is at most {effects.max():.2f} ({split}, {LABELS[label]})."
    return Finding(name, Verdict.PASS, said, 1 - 1 / float(effects.max()), details)


# Tables and facts --------------------------------------------------------------------------------------------------


def _tables(manifest: pd.DataFrame, perfect: dict[str, tuple[int, int]]) -> list[Table]:
    rows = []
    for count in sizes(manifest):
        ratio = f"{count['images'] / count['patients']:.2f}" if count["images"] else ""
        effect = f"{count['design_effect']:.2f}" if count["images"] else ""
        rows.append([*(count[key] for key in _COUNTED), ratio, effect])
    header = [*(key.replace("_", " ") for key in _COUNTED), "images per patient", "design effect, at most"]
    unknown = int((manifest["patient_id"] == "").sum())
    single = f" ({plural(unknown, 'image')} of unknown patients, each counted as a patient)" if unknown else ""
    counts = Table(f"Images, patients and films{single}; a patient in two rows counts in both", header, rows)
    if not perfect:
        return [counts]
    header = ["if all were right", "images", "95 % by image", "patients", "95 % by patient"]
    scores = [
        [name, images, bounds(*wilson(images, images)), patients, bounds(*wilson(patients, patients))]
        for name, (images, patients) in perfect.items()
    ]
    return [Table("What a perfect score on the test images would be worth (Wilson)", header, scores), counts]


def _facts(manifest: pd.DataFrame, counts: _Counts, perfect: dict[str, tuple[int, int]]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "counts": sizes(manifest),
        "perfect": [
            {
                "score": name,
                "images": images,
                "by_image": list(wilson(images, images)),
                "patients": patients,
                "by_patient": list(wilson(patients, patients)),
            }
            for name, (images, patients) in perfect.items()
        ],
    }
    if all(images for images, _ in counts.values()):
        patients = perfect["accuracy"][1]
        facts["smallest_difference"] = {
            "patients": patients,
            "power": POWER,
            "alpha": ALPHA,
            "best_case": smallest_difference(patients, 0.0),
            "against": AGAINST,
            "less_favourable": smallest_difference(patients, AGAINST),
        }
        facts["auroc"] = [
            {"auroc": auroc, "interval": list(newcombe_auroc(auroc, counts[1][1], counts[0][1]))} for auroc in _AUROCS
        ]
    return facts
