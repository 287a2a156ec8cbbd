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

from cxrlab.checks.base import Case, Finding, Section, Table, Verdict
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
_NAMES = {1: "sensitivity", 0: "specificity"}


def check(case: Case) -> Section:
    """Says what a perfect score would be worth here, and what differences could be found."""
    test = case.manifest[case.manifest["split"] == "test"]
    counts = {label: _units(test[test["label"] == label]) for label in LABELS}
    claimed = _units(test[(test["label"] == 1) & has_claim(test, case.claim)]) if _claim_is_known(case, test) else None
    return Section(
        title="Size",
        findings=list(_findings(case, counts, claimed)),
        text=_text(),
        tables=_tables(case, counts, claimed),
        facts=_facts(case, counts, claimed),
    )


def _text() -> list[str]:
    return [
        (
            "A small test set leaves room for doubt even where every answer is right. Images of one patient tend to be "
            "right or wrong together, so the number of patients counts; images of unknown patients are taken as "
            "patients of their own, which is the best case."
        ),
        (
            "FAIL is a test set on which even perfect answers could not be told from guessing: the 95 % Wilson "
            f"interval of a perfect sensitivity or specificity by patient begins below {CHANCE:g} (it does with fewer "
            f"than 4 patients), be it of a label or of what is claimed. Fewer than {FEW_PATIENTS} patients, or an "
            f"interval that begins below {SURE:g} (with fewer than 35 patients), is WARN."
        ),
        (
            "The smallest difference in accuracy is the one that an exact McNemar test of two models on these images "
            f"(one per patient) finds with {100 * POWER:.0f} % power at the {100 * ALPHA:.0f} % level. It depends on "
            "the images that only one of the two gets right. Best case: that is always the better model. Less "
            f"favourable: on {100 * AGAINST:.0f} % of them it is the worse. The power is summed over all outcomes. "
            f"Above {LARGE:g} (best case) WARN; none at all: FAIL."
        ),
        (
            "The 95 % interval of an AUROC is the one that the Hanley-McNeil variance gives with as many patients. "
            f"Wider than {WIDE:g} at an AUROC of {_AUROCS[0]:g}: WARN. Holding {CHANCE:g} at one of {_AUROCS[1]:g}: "
            "FAIL."
        ),
        (
            "The design effect is how many images are worth one independent image if all images of a patient agree; "
            "the truth lies between 1 and that."
        ),
    ]


# Counting ----------------------------------------------------------------------------------------------------------


def _units(rows: pd.DataFrame) -> tuple[int, int]:
    """Images, patients."""
    return len(rows), int(people(rows).nunique())


def _claim_is_known(case: Case, test: pd.DataFrame) -> bool:
    return bool(case.claim) and bool((test.loc[test["label"] == 1, "finding"] != "").any())


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


def _findings(case: Case, counts: dict[int, tuple[int, int]], claimed: tuple[int, int] | None) -> Iterator[Finding]:
    names = ("test patients", "what a perfect score is worth", "differences that can be found", "interval of an AUROC")
    if not all(images for images, _ in counts.values()):
        empty = [LABELS[label] for label, (images, _) in counts.items() if not images]
        reason = f"there is no {' and no '.join(empty)} test image"
        one_class = case.manifest["label"].nunique() < 2
        yield Finding(names[0], Verdict.NOT_CHECKED if one_class else Verdict.FAIL, reason, 1.0)
        for name in names[1:]:
            yield Finding(name, Verdict.NOT_CHECKED, reason)
        return
    yield _patients(case, names[0], counts)
    yield _perfect(names[1], counts)
    if claimed is not None:
        yield _perfect_on_claim(case.claim, claimed, counts[1])
    yield _difference(names[2], sum(patients for _, patients in counts.values()))
    yield _auroc_width(names[3], counts[1][1], counts[0][1])
    yield _design(case)


def _patients(case: Case, name: str, counts: dict[int, tuple[int, int]]) -> Finding:
    said = [
        f"{LABELS[label]}: {plural(images, 'image')} of {plural(patients, 'patient')} (all splits: {_all(case, label)})"
        for label, (images, patients) in counts.items()
    ]
    test = case.manifest[case.manifest["split"] == "test"]
    unknown = int((test["patient_id"] == "").sum())
    if unknown:
        said.append(f"at most, since {plural(unknown, 'image')} of unknown patients count as one patient each")
    fewest = min(patients for _, patients in counts.values())
    low = wilson(fewest, fewest)[0]
    verdict = Verdict.FAIL if low < CHANCE else Verdict.WARN if fewest < FEW_PATIENTS else Verdict.PASS
    return Finding(name, verdict, "; ".join(said), 1 - low)


def _all(case: Case, label: int) -> str:
    images, patients = _units(case.manifest[case.manifest["label"] == label])
    return f"{images:,} images of {patients:,}"


def _perfect(name: str, counts: dict[int, tuple[int, int]]) -> Finding:
    images, patients = (sum(count[side] for count in counts.values()) for side in (0, 1))
    said = [f"accuracy {_worth(images, patients)}"]
    said += [f"{_NAMES[label]} {_worth(*count)}" for label, count in counts.items()]
    lowest = min(wilson(count, count)[0] for _, count in counts.values())
    return Finding(name, _verdict(lowest), "; ".join(said), 1 - lowest)


def _verdict(low: float) -> Verdict:
    """Of the lower bound of a perfect score."""
    return Verdict.FAIL if low < CHANCE else Verdict.WARN if low < SURE else Verdict.PASS


def _worth(images: int, patients: int) -> str:
    """``40/40 [0.912, 1] by image, 29/29 [0.883, 1] by patient``."""
    by_image = f"{images}/{images} {bounds(*wilson(images, images))}"
    return f"{by_image} by image, {patients}/{patients} {bounds(*wilson(patients, patients))} by patient"


def _perfect_on_claim(claim: str, claimed: tuple[int, int], positives: tuple[int, int]) -> Finding:
    images, patients = claimed
    name = f"test patients with {claim}"
    if not images:
        return Finding(name, Verdict.FAIL, f"none of {positives[0]} Positive test images names it", 1.0)
    low = wilson(patients, patients)[0]
    evidence = (
        f"{plural(images, 'image')} of {plural(patients, 'patient')}; a perfect sensitivity for {claim} would be "
        f"{_worth(images, patients)}"
    )
    return Finding(name, _verdict(low), evidence, 1 - low)


def _difference(name: str, patients: int) -> Finding:
    best, worse = smallest_difference(patients, 0.0), smallest_difference(patients, AGAINST)
    if best is None:
        evidence = f"none: with {plural(patients, 'patient')} even always right against always wrong is not found"
        return Finding(name, Verdict.FAIL, evidence, 1.0)
    verdict = Verdict.WARN if best > LARGE else Verdict.PASS
    evidence = (
        f"two models must differ by {best:.3f} in accuracy at best, by {_found(worse)} if {100 * AGAINST:.0f} % of the "
        f"discordant images speak for the worse (exact McNemar, {100 * POWER:.0f} % power, n = {patients} patients)"
    )
    return Finding(name, verdict, evidence, best)


def _found(difference: float | None) -> str:
    return "more than is possible" if difference is None else f"{difference:.3f}"


def _auroc_width(name: str, positives: int, negatives: int) -> Finding:
    intervals = {auroc: newcombe_auroc(auroc, positives, negatives) for auroc in _AUROCS}
    said = [f"{auroc:g} would be {bounds(*interval)}" for auroc, interval in intervals.items()]
    low, high = intervals[_AUROCS[0]]
    lost = intervals[_AUROCS[1]][0] < CHANCE
    verdict = Verdict.FAIL if lost else Verdict.WARN if high - low > WIDE else Verdict.PASS
    evidence = f"an AUROC of {', of '.join(said)} (n = {positives} Positive and {negatives} Negative patients)"
    return Finding(name, verdict, evidence, high - low)


def _design(case: Case) -> Finding:
    name = "images per patient"
    known = case.manifest[case.manifest["patient_id"] != ""]
    if known.empty:
        return Finding(name, Verdict.NOT_CHECKED, f"the patients of all {len(case.manifest)} images are unknown")
    each = known.groupby(["split", "label", "patient_id"]).size()
    groups = each.groupby(level=["split", "label"])
    effects = groups.apply(lambda counts: float((counts**2).sum() / counts.sum()))
    split, label = effects.index[int(effects.to_numpy().argmax())]
    evidence = (
        f"{len(known) / known['patient_id'].nunique():.2f} on average; design effect at most {effects.max():.2f} "
        f"({split}, {LABELS[label]})"
    )
    return Finding(name, Verdict.PASS, evidence, 1 - 1 / float(effects.max()))


# Tables and facts --------------------------------------------------------------------------------------------------


def _tables(case: Case, counts: dict[int, tuple[int, int]], claimed: tuple[int, int] | None) -> list[Table]:
    tables = [_size_table(case.manifest)]
    perfect = [[name, *_perfect_row(images, patients)] for name, images, patients in _perfects(case, counts, claimed)]
    if perfect:
        header = ["if all were right", "images", "95 % by image", "patients", "95 % by patient"]
        tables.append(Table("What a perfect score on the test images would be worth (Wilson)", header, perfect))
    return tables


def _perfects(
    case: Case, counts: dict[int, tuple[int, int]], claimed: tuple[int, int] | None
) -> Iterator[tuple[str, int, int]]:
    rows = {"accuracy": (sum(count[0] for count in counts.values()), sum(count[1] for count in counts.values()))}
    rows |= {_NAMES[label]: count for label, count in counts.items()}
    if claimed is not None:
        rows[f"sensitivity for {case.claim}"] = claimed
    for name, (images, patients) in rows.items():
        if images:
            yield name, images, patients


def _perfect_row(images: int, patients: int) -> list[object]:
    return [images, bounds(*wilson(images, images)), patients, bounds(*wilson(patients, patients))]


def _size_table(manifest: pd.DataFrame) -> Table:
    rows = []
    for count in sizes(manifest):
        effect = count["design_effect"]
        ratio = [f"{count['images'] / count['patients']:.2f}", f"{effect:.2f}"] if count["images"] else ["", ""]
        rows.append([count["split"], count["label"], count["images"], count["patients"], *ratio])
    header = ["split", "label", "images", "patients", "images per patient", "design effect, at most"]
    return Table("Images per patient; a patient in two rows counts in both", header, rows)


def _facts(case: Case, counts: dict[int, tuple[int, int]], claimed: tuple[int, int] | None) -> dict[str, Any]:
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
            for name, images, patients in _perfects(case, counts, claimed)
        ],
    }
    if all(images for images, _ in counts.values()):
        patients = sum(count[1] for count in counts.values())
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
