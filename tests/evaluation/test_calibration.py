"""Calibration against scikit-learn, torchmetrics, hand-made bins and simulation."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from tests.estimates import holds, numbers, width
from torchmetrics.classification import BinaryCalibrationError

from cxrlab.evaluation.calibration import Bin, expected_calibration_error, reliability, summary
from cxrlab.evaluation.estimate import ALIKE, Estimate, Resampling, revived


def drawn(n: int, seed: int, power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores that are calibrated if the power is 1, and too bold if it is less."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(0.7, 0.7, n)
    truth = scores**power / (scores**power + (1 - scores) ** power)
    return (rng.random(n) < truth).astype(int), scores


def each(n: int) -> list[str]:
    return [f"p{i}" for i in range(n)]


@pytest.mark.parametrize("bins", [1, 7, 10, 15])
@pytest.mark.parametrize("n", [40, 500])
def test_ece_against_torchmetrics(n: int, bins: int) -> None:
    labels, scores = drawn(n, n, 0.5)
    expected = BinaryCalibrationError(n_bins=bins, norm="l1")(torch.tensor(scores), torch.tensor(labels))
    assert expected_calibration_error(labels, scores, bins) == pytest.approx(float(expected), abs=1e-6)


def test_bins_by_hand() -> None:
    """A score on an edge belongs to the bin above it, but 1 to the last."""
    rows = reliability([0, 1, 1, 0, 1], [0.3, 0.3, 0.38, 0.0, 1.0])
    assert [(row.low, row.high, row.n) for row in rows] == [(0.0, 0.1, 1), (0.3, 0.4, 3), (0.9, 1.0, 1)]
    assert rows[1].mean_score == pytest.approx(0.98 / 3)
    assert rows[1].share_positive == pytest.approx(2 / 3)
    assert rows[0] == Bin(0.0, 0.1, 1, 0.0, 0.0, 0.0, pytest.approx(0.7935, abs=1e-4))  # type: ignore[arg-type]
    assert expected_calibration_error([0, 1, 1, 0, 1], [0.3, 0.3, 0.38, 0.0, 1.0]) == pytest.approx(1.02 / 5)


def test_every_edge_opens_a_bin() -> None:
    """Even 1/49, although 1 / 49 * 49 is less than 1 in floating point."""
    for bins in range(1, 60):
        edges = [number / bins for number in range(bins)]
        assert [row.low for row in reliability([1] * bins, edges, bins)] == edges


def test_summary_holds_the_values_and_plain_json() -> None:
    labels, scores = drawn(80, 1, 0.5)
    found = summary(labels, scores, each(80), how=Resampling(300, 3))
    assert found["brier"].value == pytest.approx(brier_score_loss(labels, scores, labels=[0, 1]), abs=1e-12)
    assert found["ece"].value == pytest.approx(expected_calibration_error(labels, scores), abs=1e-12)
    assert found["brier"].method == "patient bootstrap 95 % (300 resamples, 80 patients)"
    assert found["ece"].method == (
        "10 bins of equal width; basic interval, patient bootstrap 95 % (300 resamples, 80 patients)"
    )
    for estimate in found.values():
        value, low, high = numbers(estimate)
        assert 0 <= low <= value <= high <= 1
        assert low < high
    assert revived(json.loads(json.dumps(found, allow_nan=False, default=asdict))) == found
    assert found == summary(labels, scores, each(80), how=Resampling(300, 3))
    assert found != summary(labels, scores, each(80), how=Resampling(300, 4))


def test_images_of_one_patient_widen_the_interval() -> None:
    labels, scores = np.repeat(drawn(40, 2, 0.5), 4, axis=1)
    labels = labels.astype(int)
    apart = summary(labels, scores, each(160), how=Resampling(400))["brier"]
    together = summary(labels, scores, np.repeat(np.arange(40), 4), how=Resampling(400))["brier"]
    assert width(together) > 1.5 * width(apart)


def test_the_error_of_a_calibrated_classifier_is_not_zero() -> None:
    """40 images: the mean over fresh draws of labels is what is given, far above 0; 100 times as many, a tenth."""
    scores = drawn(40, 5)[1]
    rng = np.random.default_rng(9)
    errors = [expected_calibration_error((rng.random(40) < scores).astype(int), scores) for _ in range(500)]
    found = summary(drawn(40, 5)[0], scores, each(40), how=Resampling(1000))["ece_if_calibrated"]
    assert found.value == pytest.approx(np.mean(errors), abs=0.008)
    assert (found.low, found.high) == pytest.approx(np.quantile(errors, [0.025, 0.975]).tolist(), abs=0.02)
    assert numbers(found)[0] > 0.1
    labels, scores = drawn(4000, 5)
    assert numbers(summary(labels, scores, each(4000), how=Resampling(100))["ece_if_calibrated"])[0] < 0.02


def test_ece_interval_covers_what_a_percentile_interval_would_not() -> None:
    """Scores that are too bold, 40 images: most intervals hold the error that 400,000 images show."""
    truth = expected_calibration_error(*drawn(400_000, 0, 0.5))
    intervals = [summary(*drawn(40, seed, 0.5), each(40), how=Resampling(200))["ece"] for seed in range(1, 61)]
    assert np.mean([holds(found, truth) for found in intervals]) > 0.6


def test_resamples_that_are_all_alike_give_no_interval_and_one_class_does() -> None:
    found = summary([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0], each(4), how=Resampling(100))
    for name in ("brier", "ece", "ece_if_calibrated"):
        assert found[name] == Estimate.bare(0.0, ALIKE)
    found = summary([0] * 12, np.linspace(0, 0.9, 12), each(12), how=Resampling(100))
    assert found["ece"].value == pytest.approx(0.45)
    assert "only 0 positive and 12 negative patients" in found["brier"].method


def test_wrong_arguments_are_named() -> None:
    for function in (expected_calibration_error, reliability):
        with pytest.raises(ValueError, match="equally long, got 3 labels, 2 scores"):
            function([0, 1, 1], [0.2, 0.2])
        for bins in (0, -1, 1.5):
            with pytest.raises(ValueError, match="bins must be a whole number in"):
                function([0, 1], [0.2, 0.2], bins)  # type: ignore[arg-type]
