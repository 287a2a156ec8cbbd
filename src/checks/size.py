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
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binom

from cxrlab.checks.base import FAIL, NOT_CHECKED, PASS, WARN, Case, Finding, Section, Table, Verdict, not_checked
from cxrlab.checks.counting import sizes
from cxrlab.checks.provenance import has_claim
from cxrlab.datamodules.manifest import NAMES, people
from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import FEW_PATIENTS, wilson
from cxrlab.evaluation.statistics import newcombe_auroc
from cxrlab.words import bounds, plural

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
    positive, negative = (test[test["label"] == label] for label in NAMES)
    of_positive, of_negative = _units(positive), _units(negative)
    images, patients = (of_positive[side] + of_negative[side] for side in (0, 1))
    perfect = {"accuracy": (images, patients), "sensitivity": of_positive, "specificity": of_negative}
    claimed = None
    if case.claim and (positive["finding"] != "").any():
        claimed = perfect[f"sensitivity for {case.claim}"] = _units(positive[has_claim(positive, case.claim)])
    facts: dict[str, Any] = {
        "counts": sizes(case.manifest),
        "perfect": [
            {
                "score": name,
                "images": images,
                "by_image": list(wilson(images, images)),
                "patients": patients,
                "by_patient": list(wilson(patients, patients)),
            }
            for name, (images, patients) in perfect.items()
            if images
        ],
    }
    answer = "There is no test image."
    if images:
        answer = (
            f"The {plural(images, 'test image')} are of {plural(patients, 'patient')}, so that even a perfect accuracy "
            f"would have a 95 % interval of {_interval(patients)}."
        )
    empty = [name for name, rows in (("Positive", positive), ("Negative", negative)) if rows.empty]
    if empty:
        said = f"There is no {' and no '.join(empty)} test image."
        findings = [Finding("test patients", NOT_CHECKED if case.one_class else FAIL, said, 1.0)]
        others = ("what a perfect score is worth", "differences that can be found", "interval of an AUROC")
        findings += not_checked(said, *others)
    else:
        best, worse = smallest_difference(patients, 0.0), smallest_difference(patients, AGAINST)
        assumed = {"patients": patients, "power": POWER, "alpha": ALPHA, "best_case": best, "against": AGAINST}
        facts["smallest_difference"] = assumed | {"less_favourable": worse}
        sides = of_positive[1], of_negative[1]
        facts["auroc"] = [{"auroc": auroc, "interval": list(newcombe_auroc(auroc, *sides))} for auroc in _AUROCS]
        findings = [*_of_perfect(case, of_positive, of_negative, claimed), *_of_power(case.manifest, facts, sides)]
    return Section("Size", findings, [_DONE, _RULES], _tables(case.manifest, facts), facts=facts, answer=answer)


def _units(rows: pd.DataFrame) -> tuple[int, int]:
    """Images, patients."""
    return len(rows), int(people(rows).nunique())


def _interval(n: int) -> str:
    """Of n right of n."""
    return bounds(*wilson(n, n))


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
    # The largest minority that is significant: P(X <= k) <= 2.5 % for X binomial with 1/2; -1 where there is none.
    critical = binom.ppf(ALPHA / 2, discordant, 0.5)
    critical = np.where(binom.cdf(critical, discordant, 0.5) <= ALPHA / 2, critical, critical - 1)
    power = binom.cdf(critical, discordant, against) + binom.cdf(critical, discordant, 1 - against)
    power = np.where(discordant > 0, power, 0.0)

    def lack(rate: float) -> float:
        return float(binom.pmf(discordant, n, rate) @ power) - POWER

    # The power given an exact number of discordant images is a saw-tooth, so that the first rise is looked for.
    rates = np.linspace(0, 1, _RATES)
    enough = [rate for rate in rates if lack(rate) >= 0]
    if not enough:
        return None
    first = brentq(lack, enough[0] - rates[1], enough[0], xtol=1e-6)
    return float(first) * (1 - 2 * against)


def _of_perfect(
    case: Case, positive: tuple[int, int], negative: tuple[int, int], claimed: tuple[int, int] | None
) -> Iterator[Finding]:
    """How many test patients there are, and what it is worth if all are right; of either label images and patients."""
    every = [_units(case.manifest[case.manifest["label"] == label]) for label in NAMES]
    test, whole = (
        " and ".join(
            f"{plural(images, f'{name} image')} of {plural(patients, 'patient')}"
            for name, (images, patients) in zip(NAMES.values(), units, strict=True)
        )
        for units in ([positive, negative], every)
    )
    details = f"In all splits there are {whole}."
    unknown = int(((case.manifest["split"] == "test") & (case.manifest["patient_id"] == "")).sum())
    if unknown:
        details += f" These are upper limits: {plural(unknown, 'image')} of unknown patients count as one patient each."
    fewest = min(positive[1], negative[1])
    low = wilson(fewest, fewest)[0]
    verdict = FAIL if low < CHANCE else WARN if fewest < FEW_PATIENTS else PASS
    yield Finding("test patients", verdict, f"The test split holds {test}.", 1 - low, details)

    images, patients = positive[0] + negative[0], positive[1] + negative[1]
    said = f"Even if all were right, the accuracy would be in {_interval(patients)} (95 %, by patient)."
    worth = f"accuracy {_worth(images, patients)}; sensitivity {_worth(*positive)}; specificity {_worth(*negative)}"
    yield Finding("what a perfect score is worth", _verdict(low), said, 1 - low, f"In full: {worth}.")

    if claimed is None:
        return
    name, (images, patients) = f"test patients with {case.claim}", claimed
    if not images:
        yield Finding(name, FAIL, f"None of {positive[0]} Positive test images names {case.claim}.", 1.0)
        return
    low = wilson(patients, patients)[0]
    said = f"The test split holds {plural(images, 'image')} of {plural(patients, 'patient')} with {case.claim}."
    yield Finding(name, _verdict(low), said, 1 - low, f"A perfect sensitivity for it: {_worth(images, patients)}.")


def _verdict(low: float) -> Verdict:
    """Of the lower bound of a perfect score."""
    return FAIL if low < CHANCE else WARN if low < SURE else PASS


def _worth(images: int, patients: int) -> str:
    """``40/40 [0.912, 1] by image, 29/29 [0.883, 1] by patient``."""
    return f"{images}/{images} {_interval(images)} by image, {patients}/{patients} {_interval(patients)} by patient"


def _of_power(manifest: pd.DataFrame, facts: Mapping[str, Any], sides: tuple[int, int]) -> Iterator[Finding]:
    """Which differences can be found, how wide the interval of an AUROC is, and how many images a patient has."""
    name, patients = "differences that can be found", sum(sides)
    best, worse = facts["smallest_difference"]["best_case"], facts["smallest_difference"]["less_favourable"]
    if best is None:
        said = f"With {plural(patients, 'patient')} no test finds a difference, not even if one model is always wrong."
        yield Finding(name, FAIL, said, 1.0)
    else:
        said = f"Two models must differ by at least {best:.3f} in accuracy for a test to find the difference."
        found = "no difference is large enough" if worse is None else f"{worse:.3f} is needed"
        details = f"If {100 * AGAINST:.0f} % of the discordant images speak for the worse model, {found} (exact "
        details += f"McNemar test, {100 * POWER:.0f} % power, n = {patients} patients)."
        yield Finding(name, WARN if best > LARGE else PASS, said, best, details)

    widths = [f"of {each['auroc']:g} would have the interval {bounds(*each['interval'])}" for each in facts["auroc"]]
    (low, high), (lost, _) = (each["interval"] for each in facts["auroc"])
    verdict = FAIL if lost < CHANCE else WARN if high - low > WIDE else PASS
    details = f"There are {sides[0]} Positive and {sides[1]} Negative test patients."
    yield Finding("interval of an AUROC", verdict, f"An AUROC {', and one '.join(widths)}.", high - low, details)

    name, known = "images per patient", manifest[manifest["patient_id"] != ""]
    if known.empty:
        yield Finding(name, NOT_CHECKED, f"The patients of all {len(manifest)} images are unknown.")
        return
    groups = known.groupby(["split", "label", "patient_id"]).size().groupby(level=["split", "label"])
    effects = groups.apply(lambda counts: float((counts**2).sum() / counts.sum()))
    split, label = effects.index[int(effects.to_numpy().argmax())]
    said = f"On average there are {len(known) / known['patient_id'].nunique():.2f} images of a patient."
    details = f"The design effect is at most {effects.max():.2f} ({split}, {NAMES[label]})."
    yield Finding(name, PASS, said, 1 - 1 / float(effects.max()), details)


def _tables(manifest: pd.DataFrame, facts: Mapping[str, Any]) -> list[Table]:
    columns = ("split", "label", "images", "patients", "films", "most_of_one_patient")
    rows = []
    for count in facts["counts"]:
        ratio = f"{count['images'] / count['patients']:.2f}" if count["images"] else ""
        effect = f"{count['design_effect']:.2f}" if count["images"] else ""
        rows.append([*(count[key] for key in columns), ratio, effect])
    header = [*(key.replace("_", " ") for key in columns), "images per patient", "design effect, at most"]
    unknown = int((manifest["patient_id"] == "").sum())
    single = f" ({plural(unknown, 'image')} of unknown patients, each counted as a patient)" if unknown else ""
    counts = Table(f"Images, patients and films{single}; a patient in two rows counts in both", header, rows)
    scores = [
        [each["score"], each["images"], bounds(*each["by_image"]), each["patients"], bounds(*each["by_patient"])]
        for each in facts["perfect"]
    ]
    if not scores:
        return [counts]
    header = ["if all were right", "images", "95 % by image", "patients", "95 % by patient"]
    return [Table("What a perfect score on the test images would be worth (Wilson)", header, scores), counts]
