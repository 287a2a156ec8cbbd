"""Resampling of whole patients, means of images, proportions; what JSON gives back; how an estimate is written."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import proportion_confint
from tests.estimates import holds, numbers, width

from cxrlab.evaluation.estimate import (
    ALIKE,
    Difference,
    Estimate,
    Mean,
    Resampling,
    SeedMean,
    as_plain,
    mean,
    patient_weights,
    revived,
    wilson,
    wilson_of_share,
)


def test_an_estimate_is_written_in_any_format() -> None:
    assert str(Estimate(0.97451, 0.8712, 0.99649, "")) == "0.975 [0.871, 0.996]"
    assert f"{Estimate(-0.031, -0.0724, 0.0101, ''):+.3f}" == "-0.031 [-0.072, +0.010]"
    assert f"{Estimate(0.12, 0.07, 0.18, ''):.0%}" == "12% [7%, 18%]"
    assert str(Estimate.bare(0.5, ALIKE)) == "0.500 [no interval]"
    assert str(Estimate.undefined("no images")) == "undefined"


@pytest.mark.parametrize(
    "estimate",
    [
        Estimate(0.5, None, None, "m"),
        Difference(0.1, -0.1, 0.3, "m", 0.2),
        SeedMean(0.5, 0.4, 0.6, "m", (0.4, 0.6)),
        Mean(None, None, None, "m", 0, 0),
    ],
    ids=lambda each: type(each).__name__,
)
def test_json_gives_back_what_was_written(estimate: Estimate) -> None:
    written = json.dumps({"test": {"auroc": estimate, "n": 3}, "list": [estimate]}, default=asdict)
    assert revived(json.loads(written)) == {"test": {"auroc": estimate, "n": 3}, "list": [estimate]}
    assert type(revived(json.loads(written))["test"]["auroc"]) is type(estimate)
    assert as_plain({"a": [estimate]}) == {"a": [asdict(estimate)]}


@pytest.mark.parametrize("wrong", [{"value": "<script>"}, {"low": True}, {"method": 3}, {"high": [1]}], ids=str)
def test_a_strangers_estimate_holds_numbers_or_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="an estimate must hold numbers and the text of its method"):
        revived({"auroc": asdict(Estimate(0.5, 0.4, 0.6, "m")) | wrong})


@pytest.mark.parametrize("wrong", [{"seeds": 3}, {"seeds": "0.5"}, {"seeds": [None]}, {"seeds": ["<b>"]}], ids=str)
def test_so_are_its_seeds(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"an estimate must hold numbers .*, got seeds: "):
        revived(asdict(SeedMean(0.5, 0.4, 0.6, "m", (0.5,))) | wrong)


@pytest.mark.parametrize("wrong", [{"n": None}, {"n_patients": 1.5}, {"n": True}], ids=str)
def test_so_are_its_counts(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"an estimate must hold numbers .*, got n"):
        revived(asdict(Mean(0.5, 0.4, 0.6, "m", 4, 2)) | wrong)


def test_what_is_no_estimate_stays() -> None:
    found = {"value": 1, "low": 2, "other": [{"value": 3}]}
    assert revived(found) == found


def test_an_interval_lies_above_or_below() -> None:
    estimate, bare = Estimate(0.7, 0.6, 0.8, ""), Estimate.bare(0.7, "")
    assert estimate.above(0.5)
    assert not estimate.above(0.6)
    assert estimate.below(0.9)
    assert not estimate.below(0.8)
    assert not bare.above(0.5)
    assert not bare.below(0.9)


def test_patient_weights_keep_patients_and_classes_together() -> None:
    labels = np.array([1, 1, 0, 0, 0, 1, 0], dtype=bool)
    patients = np.array(["a", "a", "b", "b", "c", "d", "d"])  # d has both classes
    weights = np.concatenate(list(patient_weights(labels, patients, 500, 0)))
    assert weights.shape == (500, 7)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 3]).all()
    assert (weights[:, 5] == 1).all()
    assert (weights[:, [2, 4]].sum(axis=1) == 2).all()
    assert weights[:, 2].mean() == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    "wrong", [{"resamples": 10}, {"seed": -1}, {"confidence": 1.0}], ids=lambda each: next(iter(each))
)
def test_ranges_are_checked(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Resampling(**wrong)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(40, 40, 0.912, 1.0), (39, 40, 0.871, 0.996), (38, 40, 0.835, 0.986), (34, 40, 0.709, 0.929), (4, 4, 0.510, 1.0)],
)
def test_wilson_published(right: int, n: int, low: float, high: float) -> None:
    """The intervals of research/dataset.md, sections 1 and 3."""
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-4)


@pytest.mark.parametrize(("right", "n"), [(0, 7), (20, 20), (3, 11), (500, 501)])
def test_wilson_against_scipy(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(0.9, method="wilson")
    assert wilson(right, n, 0.9) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_is_statsmodels_to_the_last_bit() -> None:
    for n in (1, 2, 7, 40, 183, 100_000):
        for successes in sorted({0, 1, n // 3, n - 1, n}):
            for confidence in (0.5, 0.9, 0.95, 0.999):
                low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
                expected = (0.0 if successes == 0 else low, 1.0 if successes == n else high)
                assert wilson(successes, n, confidence) == expected, (successes, n, confidence)


def test_wilson_of_a_share_that_is_no_whole_number_is_statsmodels_to_the_last_bit() -> None:
    """The interval of an F1 needs one."""
    for n, share in ((9, 0.0), (9, 1.0), (40, 0.317), (183, 0.9013)):
        assert wilson_of_share(share * n, n, 0.95) == proportion_confint(share * n, n, alpha=1 - 0.95, method="wilson")


def test_wilson_refuses() -> None:
    with pytest.raises(ValueError, match="successes must be a whole number in"):
        wilson(5, 4)
    with pytest.raises(ValueError, match="confidence"):
        wilson(3, 4, 95)


def test_the_interval_counts_people_not_images() -> None:
    rng = np.random.default_rng(0)
    of_person = rng.normal(0.9, 0.05, 20)
    values, people = np.repeat(of_person, 10), np.repeat(np.arange(20), 10)
    grouped = mean(values, people)
    alone = mean(values, np.arange(200))
    assert grouped.value == alone.value == pytest.approx(of_person.mean())
    assert holds(grouped, of_person.mean())
    assert width(grouped) > 2 * width(alone)
    spread = of_person.std(ddof=0) / np.sqrt(20)  # of a mean of 20 resampled people
    assert width(grouped) == pytest.approx(2 * 1.96 * spread, rel=0.1)
    assert "20 patients" in grouped.method
    assert (grouped.n, grouped.n_patients) == (200, 20)
    assert grouped == mean(values, people)


def test_the_interval_covers() -> None:
    rng = np.random.default_rng(4)
    hits = 0
    for _ in range(100):
        found = mean(rng.normal(0.3, 0.1, 30), np.arange(30), Resampling(300))
        hits += holds(found, 0.3)
    assert 86 <= hits <= 100  # of 100, where 95 are promised and a bootstrap of 30 gives some 93


def test_few_people_are_told_and_one_has_no_interval() -> None:
    assert "only 3 patients: interval too narrow" in mean([0.8, 0.9, 1.0], ["a", "b", "c"]).method
    assert mean([0.75, 1.0], ["a", "a"]) == Mean(0.875, None, None, "no interval: one patient", 2, 1)
    assert mean([0.4, 0.4], ["a", "b"]).method == ALIKE
    assert mean([np.nan], ["a"]) == Mean(None, None, None, "undefined: no images", 0, 0)


def test_a_share_has_a_width_even_at_nothing() -> None:
    people = np.arange(40) // 2
    none, every = mean([False] * 40, people, share=True), mean([True] * 40, people, share=True)
    assert numbers(none) == pytest.approx((0, 0, 0.161), abs=0.001)  # of 20 people, not of 40 images
    assert (none.count, none.n, none.n_patients) == (0, 40, 20)
    assert numbers(every) == pytest.approx((1, 1 - numbers(none)[2], 1))
    assert "Wilson 95 % (20 patients" in none.method
    assert mean([1, 1, np.nan], ["a", "b", "c"], share=True).n == 2


def test_a_share_in_between_is_resampled_by_person() -> None:
    flags = np.zeros(100, bool)
    flags[:10] = True  # all of one person
    one, ten = (mean(flags, people, share=True) for people in (np.arange(100) // 10, np.arange(100)))
    assert one.value == ten.value == 0.1
    assert one.count == 10
    assert numbers(one)[2] > numbers(ten)[2]
    assert "patient bootstrap" in one.method


@pytest.mark.parametrize(
    ("values", "people", "message"), [([1.0], [], "equally long"), ([np.inf, 1.0], [0, 1], "finite")]
)
def test_wrong_values_are_refused(values: list[float], people: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean(values, people)
