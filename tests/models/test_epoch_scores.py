"""Metrics of a pass: models/epoch_scores.py."""

from __future__ import annotations

import warnings

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    BinarySpecificity,
)

from cxrlab.models.epoch_scores import METRICS, EpochScores


def torchmetrics() -> MetricCollection:
    return MetricCollection(
        {
            "accuracy": BinaryAccuracy(),
            "sensitivity": BinaryRecall(),
            "specificity": BinarySpecificity(),
            "ppv": BinaryPrecision(),
            "f1": BinaryF1Score(),
            "auroc": BinaryAUROC(),
            "ap": BinaryAveragePrecision(),
        }
    )


@pytest.mark.parametrize("labels", ["both", "zeros", "ones"])
@pytest.mark.parametrize("low", [0.0, 0.6])  # 0.6: every image is called Positive
def test_metrics_are_torchmetrics_own(labels: str, low: float) -> None:
    generator = torch.Generator().manual_seed(0)
    collection, scores = torchmetrics(), EpochScores()
    for size in (8, 8, 3):
        values = (torch.rand(size, generator=generator) * 4).round() / 4 * (1 - low) + low  # with ties
        truth = {"both": torch.rand(size, generator=generator).round(), "zeros": torch.zeros(size)}.get(labels)
        truth = torch.ones(size) if truth is None else truth
        collection.update(values, truth.long())
        scores.add(torch.arange(size), truth, values, torch.tensor(0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics' remarks on a class that is absent
        found, expected = scores.finish(gather=False), collection.compute()
    assert tuple(found) == METRICS
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def test_the_loss_is_the_mean_over_images_not_over_batches() -> None:
    scores = EpochScores()
    for size, loss in ((3, 1.0), (1, 5.0), (0, 100.0)):
        scores.add(torch.arange(size), torch.ones(size), torch.full((size,), 0.7), torch.tensor(loss))
    with pytest.warns(UserWarning, match="No negative samples"):
        assert scores.finish(gather=False)["loss"] == 2.0


def test_scores_can_be_had_until_the_next_pass_begins() -> None:
    scores = EpochScores()
    scores.add(torch.tensor([4, 7]), torch.tensor([0.0, 1.0]), torch.tensor([0.25, 0.5]), torch.tensor(1.0))
    scores.finish(gather=False)
    rows, values = scores.collected()
    assert (rows.tolist(), values.tolist(), str(values.dtype)) == ([4, 7], [0.25, 0.5], "float64")
    assert len(scores) == 2
    scores.begin()
    assert len(scores) == 0
