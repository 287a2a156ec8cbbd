"""The fixed classifiers and their control: against scikit-learn, against brute force, and on labels that are noise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from tests.estimates import holds, numbers

from cxrlab.evaluation import cross_validation
from cxrlab.evaluation.estimate import Bools, Floats


@pytest.mark.parametrize("columns", [3, 90])
def test_regressions_end_where_scikit_learn_ends(columns: int) -> None:
    rng = np.random.default_rng(columns)
    numbers = rng.normal(5, 3, (60, columns)) * rng.uniform(0.1, 10, columns)
    labels = np.column_stack([numbers[:, 0] > 5, rng.random(60) < 0.3, rng.random(60) < 0.5])
    found = cross_validation.scored(numbers[:40], labels[:40], numbers[40:])
    scaler = StandardScaler().fit(numbers[:40])
    for column, own in enumerate(labels.T):
        model = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(numbers[:40]), own[:40])
        expected = model.predict_proba(scaler.transform(numbers[40:]))[:, 1]
        assert found[:, column] == pytest.approx(expected, abs=0.001)


def test_columns_that_do_not_vary_say_nothing() -> None:
    labels = np.array([[0, 0, 1, 0]], bool).T
    assert cross_validation.scored(np.full((4, 2), 7.0), labels, np.array([[7.0, 9.0]])).tolist() == [[0.25]]
    assert cross_validation.scored(np.full((4, 2), 7.0), labels, np.array([[7.0, 9.0]]), strip=True).tolist() == [[0.5]]


def best_threshold(levels: Floats, labels: Bools) -> tuple[float, bool]:
    """Of one column, by trying every threshold in either direction."""
    values = np.unique(levels)
    thresholds = (values[1:] + values[:-1]) / 2
    right = np.array([((levels >= threshold) == labels).sum() for threshold in thresholds])
    wrong = labels.size - right  # what the same threshold gets right the other way round
    brighter = bool(right.max() >= wrong.max())
    return float(thresholds[np.argmax(right if brighter else wrong)]), brighter


def test_best_columns_against_every_threshold() -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 12, (30, 3)).astype(float)
    labels = rng.random((30, 40)) < 0.4
    columns, thresholds, brighter = cross_validation.best_columns(levels, labels)
    for draw, y in enumerate(labels.T):
        single = [best_threshold(column, y) for column in levels.T]
        right = [
            int(((column >= threshold) == (y == up)).sum())
            for column, (threshold, up) in zip(levels.T, single, strict=True)
        ]
        assert columns[draw] == int(np.argmax(right))
        assert (thresholds[draw], brighter[draw]) == single[columns[draw]]


def test_cross_validation_finds_what_is_there_and_nothing_in_its_control() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(120) % 2
    numbers = np.column_stack([labels + rng.normal(0, 0.7, 120), rng.normal(0, 1, (120, 3))])
    folds = np.stack([rng.permutation(np.arange(120) // 2 % 5) for _ in range(2)])
    control = cross_validation.permuted_labels(labels, np.arange(120), 200, 0)
    auroc, scores, permuted = cross_validation.cross_validated(numbers, labels, folds, control=control)
    by_fold = [
        roc_auc_score(labels[fold == k], own[fold == k])
        for fold, own in zip(folds, scores, strict=True)
        for k in range(5)
    ]
    assert auroc == pytest.approx(np.mean(by_fold), abs=0.02)  # folds weigh by their pairs
    assert 0.75 < auroc < 0.92
    assert permuted.shape == (200,)
    assert permuted.mean() == pytest.approx(0.5, abs=0.02)
    assert cross_validation.control_p(auroc, permuted) == 1 / 201
    estimate = cross_validation.cross_validated_interval(labels, scores, folds, np.arange(120))
    assert estimate.value == pytest.approx(auroc)
    assert holds(estimate, auroc)
    assert "patient bootstrap" in estimate.method


def test_the_control_column_is_the_same_pipeline() -> None:
    rng = np.random.default_rng(2)
    numbers, labels, other = rng.normal(size=(50, 4)), np.arange(50) % 2, rng.permutation(np.arange(50) % 2)
    folds = np.arange(50) // 2 % 5
    _, _, permuted = cross_validation.cross_validated(numbers, labels, folds, control=other[:, None].astype(bool))
    auroc, _, _ = cross_validation.cross_validated(numbers, other, folds)
    assert permuted[0] == pytest.approx(auroc)


def test_a_model_has_not_seen_what_it_scores() -> None:
    rng = np.random.default_rng(3)
    numbers, labels, folds = rng.normal(size=(40, 5)), np.arange(40) % 2, np.arange(40) // 2 % 5
    _, before, _ = cross_validation.cross_validated(numbers, labels, folds)
    flipped = np.where(folds == 2, 1 - labels, labels)
    _, after, _ = cross_validation.cross_validated(numbers, flipped, folds)
    assert (before[:, folds == 2] == after[:, folds == 2]).all()
    assert not (before[:, folds != 2] == after[:, folds != 2]).any()


def test_a_perfect_score_has_an_interval() -> None:
    labels = np.arange(40) % 2
    estimate = cross_validation.cross_validated_interval(
        labels, labels[None].astype(np.float64), np.arange(40) // 2 % 5, np.arange(40) // 4
    )
    assert (estimate.value, estimate.high) == (1, 1)
    assert 0.5 < numbers(estimate)[1] < 0.95
    assert estimate.method.startswith("Newcombe score 95 % (10 positive, 10 negative patients")


def test_dealing_keeps_patients_whole() -> None:
    patients = np.array(["a", "b", "b", "c", "c", "c", "d", "e", "e"])
    labels = np.array([1, 0, 0, 1, 1, 1, 0, 1, 1])
    dealt = cross_validation.permuted_labels(labels, patients, 300, 0)
    for patient in "abcde":
        own = dealt[patients == patient]
        assert (own == own[0]).all()
        assert own[0].mean() == pytest.approx(0.6, abs=0.1)  # three of five patients
    firsts = dealt[[0, 1, 3, 6, 7]]
    assert (firsts.sum(axis=0) == 3).all()
    assert (dealt == cross_validation.permuted_labels(labels, patients, 300, 0)).all()
    assert (dealt != cross_validation.permuted_labels(labels, patients, 300, 1)).any()
    with pytest.raises(ValueError, match="draws must be a whole number"):
        cross_validation.permuted_labels([0, 1], ["a", "b"], 0, 0)
    dealt = cross_validation.permuted_labels([0, 1, 0, 0], ["a", "a", "b", "b"], 50, 0)
    assert {tuple(column) for column in dealt.T.tolist()} == {(False, True, False, False), (False, False, False, True)}
