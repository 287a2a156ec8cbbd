from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from cxrlab.evaluation.association import MOST_VALUES, ONE_VALUE, RESAMPLES, of_categories, of_numbers


def test_two_values_in_two_groups_are_compared_by_fishers_exact_test() -> None:
    group = [True] * 9 + [False] * 20
    values = ["AP"] * 7 + ["PA"] * 2 + ["AP"] * 4 + ["PA"] * 16
    found = of_categories(group, values, seed=0)
    assert found.method == "Fisher, exact"
    assert found.p == pytest.approx(fisher_exact([[7, 2], [4, 16]]).pvalue)
    assert found.n == 29
    assert 0 < found.effect < 1


def test_a_complete_association_has_a_v_of_one_and_an_even_spread_one_of_zero() -> None:
    group = [True] * 30 + [False] * 30
    assert of_categories(group, ["cohen"] * 30 + ["kermany"] * 30, seed=0).effect == pytest.approx(1)
    even = of_categories(group, ["M", "F"] * 30, seed=0)
    assert (even.effect, even.strength) == (0, 0)
    assert even.p == pytest.approx(1)
    one = of_categories([True, False], ["PA", "PA"], seed=0)
    assert (one.method, one.effect, one.p) == (ONE_VALUE, 0, 1)


def test_large_tables_are_compared_by_chi_squared_and_sparse_ones_by_monte_carlo_with_a_seed() -> None:
    group = np.repeat([True, False], 60)
    values = np.tile(["PA", "AP", "L"], 40)
    assert of_categories(group, values, seed=0).method == "chi-squared"
    rare = np.array(["a", "b", "c", "d"] * 3)
    sparse = [of_categories([True] * 4 + [False] * 8, rare, seed=seed) for seed in (0, 0, 1)]
    assert sparse[0].method == "chi-squared, Monte Carlo"
    assert sparse[0] == sparse[1]
    assert sparse[0].p >= 1 / (RESAMPLES + 1)


def test_many_values_are_no_strong_association_and_rare_ones_count_as_one() -> None:
    values = [f"hospital {number}" for number in range(200)]
    found = of_categories([True, False] * 100, values, seed=0)
    assert found.p > 0.05
    assert found.effect < 0.2
    values = [f"v{number}" for number in range(MOST_VALUES + 5) for _ in range(6)]
    group = [True, False] * (len(values) // 2)
    assert of_categories(group, values, seed=0).p == pytest.approx(1)


def test_numbers_are_compared_by_mann_whitney_whose_effect_is_the_auroc() -> None:
    found = of_numbers([True, True, False, False], [60, 70, 3, 60])
    assert found.effect == pytest.approx(3.5 / 4)
    assert found.strength == pytest.approx(0.75)
    complete = of_numbers([True] * 20 + [False] * 20, np.r_[np.arange(40, 60), np.arange(1, 21)])
    assert complete.effect == 1
    assert complete.p < 1e-6
    assert of_numbers([True, False], [5, 5]).p == 1


@pytest.mark.parametrize("group", [[True, True], [False, False]])
def test_one_group_alone_is_refused(group: list[bool]) -> None:
    with pytest.raises(ValueError, match="group must hold both True and False"):
        of_categories(group, ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="group must hold both True and False"):
        of_numbers(group, [1, 2])
