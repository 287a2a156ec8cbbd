from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from tests.checks.conftest import found, make_case, numbers, paper_case

from cxrlab.checks import size
from cxrlab.checks.base import Section, Verdict


def checked(positives: int, negatives: int, claim: str = "", pairs: Any = (), **more: Any) -> Section:
    """Of so many test images of either label, each of a patient of its own unless ``patient_id`` is given."""
    columns = {"label": [1] * positives + [0] * negatives, "split": ["test"] * (positives + negatives), **more}
    return size.check(
        make_case(columns, claim=claim, pairs=pairs, grey=np.zeros((positives + negatives, 1, 1), np.uint8))
    )


def test_a_large_test_set_passes() -> None:
    section = checked(1500, 1500)
    assert {finding.verdict for finding in section.findings} == {Verdict.PASS}
    json.dumps(section.facts, allow_nan=False)


def test_a_perfect_score_is_shown_with_its_intervals_by_image_and_by_patient() -> None:
    section = checked(20, 20, patient_id=[f"p{row % 9}" for row in range(20)] + [f"n{row}" for row in range(20)])
    perfect = found(section, "what a perfect score is worth")
    assert perfect.verdict == found(section, "test patients").verdict == Verdict.WARN
    assert "[0.883, 1]" in perfect.said
    assert "accuracy 40/40 [0.912, 1] by image, 29/29 [0.883, 1] by patient" in perfect.details
    assert "sensitivity 20/20 [0.839, 1] by image, 9/9 [0.701, 1] by patient" in perfect.details
    assert "29 patients" in section.answer
    assert "[0.883, 1]" in section.answer
    assert section.facts["perfect"][1]["patients"] == 9


@pytest.mark.parametrize(
    ("patients", "verdict"), [(3, Verdict.FAIL), (4, Verdict.WARN), (9, Verdict.WARN), (10, Verdict.PASS)]
)
def test_so_few_patients_that_nothing_is_told_from_guessing_fail(patients: int, verdict: Verdict) -> None:
    assert found(checked(patients, 50), "test patients").verdict == verdict


def test_images_that_show_what_is_claimed_are_counted_apart() -> None:
    check, patients = "test patients with COVID-19", ["a", "a", "b", "b", *map(str, range(36))]
    some = checked(20, 20, "COVID-19", patient_id=patients, finding=["COVID-19"] * 4 + ["SARS"] * 16 + ["Normal"] * 20)
    assert "4 images of 2 patients" in found(some, check).said
    assert "4/4 [0.510, 1] by image, 2/2 [0.342, 1] by patient" in found(some, check).details
    none = checked(20, 20, "COVID-19", finding=["SARS"] * 20 + ["Normal"] * 20)
    assert found(some, check).verdict == found(none, check).verdict == Verdict.FAIL
    assert check not in {finding.check for finding in checked(20, 20, "COVID-19").findings}


def test_a_label_without_test_images_fails() -> None:
    section = size.check(make_case({"label": [1, 0], "split": ["test", "train"]}))
    assert found(section, "test patients").verdict == Verdict.FAIL
    assert "no Negative test image" in found(section, "test patients").said
    assert found(section, "interval of an AUROC").verdict == Verdict.NOT_CHECKED


def test_unknown_patients_make_the_counts_upper_bounds() -> None:
    section = checked(20, 20, pairs=[(0, 1)], patient_id=[""] * 40)
    counted = found(section, "test patients")
    assert numbers(counted.said) == ["20", "19", "20", "20"]  # two images of one film are one patient
    assert "40 images of unknown patients" in counted.details
    assert found(section, "images per patient").verdict == Verdict.NOT_CHECKED


def test_the_design_effect_is_that_of_images_that_agree() -> None:
    section = checked(5, 5, patient_id=["a"] * 4 + ["b"] + [f"n{row}" for row in range(5)])
    assert section.facts["counts"][0]["design_effect"] == pytest.approx(17 / 5)
    assert "at most 3.40 (test, Positive)" in found(section, "images per patient").evidence


def test_six_discordant_images_are_the_least_that_mcnemar_finds() -> None:
    assert size.smallest_difference(5, 0.0) is None
    assert size.smallest_difference(6, 0.0) == pytest.approx(0.8 ** (1 / 6), abs=1e-4)  # all six must be discordant


@pytest.mark.parametrize(("n", "against"), [(29, 0.0), (40, 0.0), (100, 0.25), (400, 0.25)])
def test_the_smallest_difference_is_found_in_four_of_five_simulated_comparisons(n: int, against: float) -> None:
    difference = size.smallest_difference(n, against)
    assert difference is not None
    generator = np.random.default_rng(0)
    discordant = generator.binomial(n, difference / (1 - 2 * against), 4000)
    worse = generator.binomial(discordant, against)
    significant = {
        (count, less): binomtest(less, count, 0.5).pvalue <= 0.05 if count else False
        for count, less in set(zip(discordant.tolist(), worse.tolist(), strict=True))
    }
    power = np.mean([significant[pair] for pair in zip(discordant.tolist(), worse.tolist(), strict=True)])
    assert power == pytest.approx(0.8, abs=0.02)


def test_more_images_find_smaller_differences() -> None:
    found_with = [size.smallest_difference(n, 0.25) for n in (50, 100, 1000, 10_000)]
    assert all(difference is not None for difference in found_with)
    assert found_with == sorted(found_with, reverse=True, key=float)  # type: ignore[arg-type]


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="n must be a whole number"):
        size.smallest_difference(0, 0.0)
    with pytest.raises(ValueError, match="against must be a number"):
        size.smallest_difference(10, 0.5)


def test_the_papers_test_set_holds_nine_positive_patients_two_of_them_with_covid(paper_root: Path) -> None:
    section = size.check(paper_case(paper_root))
    counted, claimed = found(section, "test patients"), found(section, "test patients with COVID-19")
    assert numbers(counted.said) == ["20", "9", "20", "20"]
    assert numbers(counted.details)[:2] == ["94", "64"]
    assert "accuracy 40/40 [0.912, 1] by image" in found(section, "what a perfect score is worth").evidence
    assert claimed.verdict == Verdict.FAIL
    assert "4/4 [0.510, 1] by image, 2/2 [0.342, 1] by patient" in claimed.evidence
