"""Whether a property goes with a group: tests of association for small and large tables, with an effect size.

Sources:
    Fisher's exact test for 2x2 tables, Pearson's chi-squared test for larger ones (scipy); where an expected count is
        below 5 (W. G. Cochran, Biometrics 1954;10:417-451) its p value is drawn by Monte Carlo with both margins fixed.
    Cramér's V, corrected for bias: W. Bergsma, J Korean Stat Soc 2013;42:323-328. Without the correction many rare
        values look like a strong association.
    Mann-Whitney test (scipy); its U over the number of pairs is the AUROC.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import MonteCarloMethod, chi2_contingency, fisher_exact, mannwhitneyu
from scipy.stats.contingency import crosstab

from cxrlab.evaluation import paired
from cxrlab.evaluation.estimate import Bools

MOST_VALUES = 30
"""So many of the commonest values are told apart; the rest counts as one value."""
RESAMPLES = 9999
"""Tables drawn for a Monte Carlo p value, which is then at least 1 / (RESAMPLES + 1)."""
ONE_VALUE = "one value only"
"""The method where there is nothing to compare."""

_FEW = 5
_FOUND = 1.96 + 0.8416  # standard errors: 5 % two-sided, power 80 %
_CELLS_PER_BATCH = 1_000_000


@dataclass(frozen=True)
class Association:
    """What a test of association of ``n`` units found, and which ``method`` it was.

    The ``effect`` is that of the ``measure``: ``V`` (Cramér's V, 0 to 1) or ``AUROC`` (chance that one of the group has
    the larger number). ``p`` is two-sided, not corrected for several tests.
    """

    n: int
    measure: str
    effect: float
    p: float
    method: str

    @property
    def strength(self) -> float:
        """0 no association, 1 a complete one: V itself, or the AUROC's distance from 0.5 times two."""
        return self.effect if self.measure == "V" else abs(2 * self.effect - 1)


def of_categories(group: ArrayLike, values: ArrayLike, seed: int) -> Association:
    """Tests whether texts are spread alike over two groups; the seed is that of the Monte Carlo draws, if any."""
    belongs, texts = _two_groups(group), np.asarray(values, str)
    names, place, counts = np.unique(texts, return_inverse=True, return_counts=True)
    if names.size > MOST_VALUES:
        rank = np.empty(names.size, np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(names.size)
        texts = np.minimum(rank, MOST_VALUES - 1)[place].astype(str)
    table = crosstab(belongs, texts).count
    if table.shape[1] == 1:
        return Association(texts.size, "V", 0.0, 1.0, ONE_VALUE)
    plain = chi2_contingency(table, correction=False)
    p, method = float(plain.pvalue), "chi-squared"
    if table.shape == (2, 2):
        p, method = float(fisher_exact(table).pvalue), "Fisher, exact"
    elif plain.expected_freq.min() < _FEW:
        batch = max(1, _CELLS_PER_BATCH // table.size)
        draws = MonteCarloMethod(n_resamples=RESAMPLES, batch=batch, rng=np.random.default_rng(seed))
        p, method = float(chi2_contingency(table, correction=False, method=draws).pvalue), "chi-squared, Monte Carlo"
    # Cramér's V with Bergsma's correction.
    n = texts.size
    rows, columns = (size - (size - 1) ** 2 / (n - 1) for size in table.shape)
    excess = plain.statistic / n - (table.shape[0] - 1) * (table.shape[1] - 1) / (n - 1)
    room = min(rows, columns) - 1
    v = math.sqrt(min(1.0, max(0.0, excess) / room)) if room > 0 else 0.0
    return Association(n, "V", v, p, method)


def of_numbers(group: ArrayLike, values: ArrayLike) -> Association:
    """Tests whether a finite number tends to be larger in one of two groups (Mann-Whitney)."""
    belongs, numbers = _two_groups(group), np.asarray(values, np.float64)
    members, others = numbers[belongs], numbers[~belongs]
    found = mannwhitneyu(members, others)
    auroc = float(found.statistic) / (members.size * others.size)
    # Where all numbers are the same the normal approximation divides nothing by nothing.
    p = 1.0 if np.ptp(numbers) == 0 else float(found.pvalue)
    return Association(numbers.size, "AUROC", auroc, p, "Mann-Whitney")


def smallest_found(group: ArrayLike, measure: str) -> float:
    """About the weakest association that a single test finds in four of five sets of this size, at 5 %.

    ``AUROC`` is for a number: twice the AUROC's distance from 0.5, by the normal approximation of Mann-Whitney. ``V``
    is for a value that half of all patients have: a difference of two shares. Both are at most 1.
    """
    belongs = np.asarray(group, bool)
    members, others = int(belongs.sum()), int((~belongs).sum())
    if measure == "AUROC":
        return min(1.0, 2 * _FOUND * math.sqrt((members + others + 1) / (12 * members * others)))
    return min(1.0, _FOUND * 0.5 * math.sqrt(1 / members + 1 / others))


def holm(p_values: Sequence[float]) -> list[float]:
    """:func:`cxrlab.evaluation.paired.holm` where every test could be done."""
    return [p for p in paired.holm(p_values) if p is not None]


def _two_groups(group: ArrayLike) -> Bools:
    belongs = np.asarray(group, bool)
    if belongs.all() or not belongs.any():
        raise ValueError(f"group must hold both True and False, got only {bool(belongs[:1].all())}")
    return belongs
