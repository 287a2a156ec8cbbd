"""Limits of a gate, and how often it is wrong."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cxrlab.evaluation.gate_rates import choose_limits


def limits_of_one(scores: npt.ArrayLike, kinds: list[str], *rates: float) -> tuple[float, float]:
    """Of one collection, with the same rate for refusals and warnings."""
    return choose_limits(scores, kinds, ["here"] * len(kinds), *rates, *rates[:1])


def test_limits_keep_both_rates() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.beta(8, 2, 1000), rng.beta(2, 6, 800), rng.beta(2, 4, 40)])
    kinds = np.array(["frontal"] * 1000 + ["ct"] * 800 + ["lateral"] * 40)
    refuse_below, accept_from = limits_of_one(scores, kinds.tolist(), 0.02, 0.03)
    assert 0 < refuse_below <= 0.5 <= accept_from < 1
    frontal = scores[kinds == "frontal"]
    assert (frontal < refuse_below).mean() <= 0.02
    accepted = [(scores[kinds == kind] >= accept_from).mean() for kind in ("ct", "lateral")]
    assert np.mean(accepted) <= 0.03 + 1e-9
    assert np.mean([(scores[kinds == kind] >= accept_from - 0.05).mean() for kind in ("ct", "lateral")]) > 0.03


def test_a_rare_kind_counts_as_much_as_a_common_one() -> None:
    """One of 10 laterals in 2 kinds is 5 %, however many CT slices there are."""
    scores = np.concatenate([np.full(100, 0.95), np.full(1000, 0.1), np.full(9, 0.1), [0.9]])
    kinds = ["frontal"] * 100 + ["ct"] * 1000 + ["lateral"] * 10
    assert limits_of_one(scores, kinds, 0, 0.04)[1] == pytest.approx(0.95)
    low = np.concatenate([np.full(100, 0.6), scores[100:]])
    assert limits_of_one(low, kinds, 0, 0.04)[1] > 0.9
    assert limits_of_one(low, kinds, 0, 0.06)[1] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("scores", "kinds", "rates", "limits"),
    [
        # Nothing that was learned from needs doubt; a gate meets other pictures.
        ([1.0] * 99 + [0.97] * 101 + [0.0] * 50, ["frontal"] * 200 + ["ct"] * 50, (), (0.5, 0.97)),
        # What a rule refuses is accepted by no limit.
        ([0.9, 0.9, -1.0], ["frontal", "frontal", "photograph"], (0, 0), (0.5, 0.9)),
        # Where rates contradict, nothing else is accepted: it begins just above the others.
        ([0.7] * 100 + [0.9] * 10, ["frontal"] * 100 + ["lateral"] * 10, (), (0.5, np.nextafter(0.9, 1))),
    ],
)
def test_limits_of_clear_cases(
    scores: list[float], kinds: list[str], rates: tuple[float, ...], limits: tuple[float, float]
) -> None:
    assert limits_of_one(scores, kinds, *rates) == limits


@pytest.mark.parametrize(
    ("scores", "kinds", "rates"),
    [([0.5], ["ct"], (0.01, 0.01)), ([0.5, 0.1], ["frontal"], (0.01, 0.01)), ([0.5], ["frontal"], (0.6, 0.01))],
)
def test_what_cannot_be_asked(scores: list[float], kinds: list[str], rates: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"kinds|false_refusal"):
        limits_of_one(scores, kinds, *rates)
    with pytest.raises(ValueError, match="equally long"):
        choose_limits([0.5, 0.6], ["frontal", "frontal"], ["here"])


def test_the_worst_collection_decides_whatever_its_number() -> None:
    """A thousand easy films say nothing of fifty others; one in a hundred of the fifty is none of them."""
    scores = np.concatenate([np.full(1000, 0.99), np.linspace(0.6, 0.98, 50), np.zeros(20)])
    kinds, places = ["frontal"] * 1050 + ["ct"] * 20, ["easy"] * 1000 + ["hard"] * 50 + ["hard"] * 20
    assert choose_limits(scores, kinds, places) == (0.5, 0.6)
    assert choose_limits(scores, kinds, ["one"] * 1070)[1] > 0.6
    assert choose_limits(scores, kinds, places, false_warning=0.1)[1] == pytest.approx(0.6 + 5 * 0.38 / 49)
    scores = np.concatenate([np.full(100, 0.99), np.linspace(0.2, 0.98, 100)])
    places = ["easy"] * 100 + ["hard"] * 100
    refuse_below, accept_from = choose_limits(scores, ["frontal"] * 200, places, false_refusal=0.02, false_warning=0.5)
    assert (scores[100:] < refuse_below).sum() == 2
    assert (scores[100:] < accept_from).sum() == 50
