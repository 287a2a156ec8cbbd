"""Resampling of whole patients, means of images, proportions; what JSON gives back; how an estimate is written."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
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
    revived,
    wilson,
    wilson_of_share,
)


def test_an_estimate_is_written_in_any_format_and_lies_above_or_below() -> None:
    assert str(Estimate(0.97451, 0.8712, 0.99649, "")) == "0.975 [0.871, 0.996]"
    assert f"{Estimate(-0.031, -0.0724, 0.0101, ''):+.3f}" == "-0.031 [-0.072, +0.010]"
    assert f"{Estimate(0.12, 0.07, 0.18, ''):.0%}" == "12% [7%, 18%]"
    assert str(Estimate.bare(0.5, ALIKE)) == "0.500 [no interval]"
    assert str(Estimate.undefined("no images")) == "undefined"
    estimate, bare = Estimate(0.7, 0.6, 0.8, ""), Estimate.bare(0.7, "")
    assert estimate.above(0.5)
    assert not estimate.above(0.6)
    assert estimate.below(0.9)
    assert not estimate.below(0.8)
    assert not bare.above(0.5)
    assert not bare.below(0.9)


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
    other = {"value": 1, "low": 2, "other": [{"value": 3}]}
    assert revived(other) == other
    assert as_plain({"a": [estimate]}) == {"a": [asdict(estimate)]}


@pytest.mark.parametrize(
    ("estimate", "field", "values"),
    [
        (Estimate(0.5, 0.4, 0.6, "m"), "value", ["<script>", True, [1]]),
        (Estimate(0.5, 0.4, 0.6, "m"), "method", [3]),
        (SeedMean(0.5, 0.4, 0.6, "m", (0.5,)), "seeds", [3, "0.5", [None], ["<b>"]]),
        (Mean(0.5, 0.4, 0.6, "m", 4, 2), "n", [None, 1.5, True]),
        (Mean(0.5, 0.4, 0.6, "m", 4, 2), "n_patients", [1.5]),
    ],
)
def test_a_strangers_estimate_holds_numbers_or_is_refused(estimate: Estimate, field: str, values: list[object]) -> None:
    for wrong in values:
        with pytest.raises(ValueError, match=f"an estimate must hold numbers and the text of its method, got {field}"):
            revived({"auroc": asdict(estimate) | {field: wrong}})


def test_patient_weights_keep_patients_and_classes_together() -> None:
    labels = np.array([1, 1, 0, 0, 0, 1, 0], dtype=bool)
    patients = np.array(["a", "a", "b", "b", "c", "d", "d"])  # d has both classes
    weights = Resampling(500).bootstrap(lambda weights: weights, patients, labels)
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


def test_wilson_is_statsmodels_to_the_last_bit() -> None:
    for n in (1, 2, 7, 40, 183, 100_000):
        for successes in sorted({0, 1, n // 3, n - 1, n}):
            for confidence in (0.5, 0.9, 0.95, 0.999):
                low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
                expected = (0.0 if successes == 0 else low, 1.0 if successes == n else high)
                assert wilson(successes, n, confidence) == expected, (successes, n, confidence)
    for n, share in ((9, 0.0), (9, 1.0), (40, 0.317), (183, 0.9013)):
        assert wilson_of_share(share * n, n, 0.95) == proportion_confint(share * n, n, alpha=1 - 0.95, method="wilson")
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


def test_few_people_are_told_and_a_share_has_a_width_even_at_nothing() -> None:
    assert "only 3 patients: interval too narrow" in mean([0.8, 0.9, 1.0], ["a", "b", "c"]).method
    assert mean([0.75, 1.0], ["a", "a"]) == Mean(0.875, None, None, "no interval: one patient", 2, 1)
    assert mean([0.4, 0.4], ["a", "b"]).method == ALIKE
    assert mean([np.nan], ["a"]) == Mean(None, None, None, "undefined: no images", 0, 0)
    people = np.arange(40) // 2
    none, every = mean([False] * 40, people, share=True), mean([True] * 40, people, share=True)
    assert numbers(none) == pytest.approx((0, 0, 0.161), abs=0.001)  # of 20 people, not of 40 images
    assert (none.count, none.n, none.n_patients) == (0, 40, 20)
    some = mean(np.arange(40) < 4, people, share=True)
    assert (some.value, some.count) == (0.1, 4)
    assert "patient bootstrap" in some.method
    assert numbers(every) == pytest.approx((1, 1 - numbers(none)[2], 1))
    assert "Wilson 95 % (20 patients" in none.method
    assert mean([1, 1, np.nan], ["a", "b", "c"], share=True).n == 2


@pytest.mark.parametrize(
    ("values", "people", "message"), [([1.0], [], "equally long"), ([np.inf, 1.0], [0, 1], "finite")]
)
def test_wrong_values_are_refused(values: list[float], people: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean(values, people)
