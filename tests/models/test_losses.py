"""Binary cross-entropy and focal loss, class weights and label smoothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from cxrlab.errors import DataError
from cxrlab.models.losses import BinaryCrossEntropy, FocalLoss

LOGITS = torch.tensor([-2.0, 0.5, 3.0, -1.0])
TARGETS = torch.tensor([0.0, 1.0, 1.0, 1.0])
LABELS = np.array([0] * 6 + [1] * 2)


def by_hand(weights: tuple[float, float] = (1, 1), smoothing: float = 0.0) -> float:
    total = 0.0
    for logit, label in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        target = label * (1 - smoothing) + 0.5 * smoothing
        total -= weights[int(label)] * (target * math.log(p) + (1 - target) * math.log(1 - p))
    return total / len(LOGITS)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [1.0, 3.0], [2, 0.5]])
def test_loss_follows_its_formula(weights: list[float] | None, smoothing: float) -> None:
    loss = BinaryCrossEntropy(weights, label_smoothing=smoothing)(LOGITS, TARGETS)
    low, high = weights or (1, 1)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_hand((low, high), smoothing), rel=1e-6)


def test_balanced_weights_are_scikit_learns() -> None:
    loss = BinaryCrossEntropy("balanced")
    loss.fit(LABELS)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=LABELS)
    assert loss.weights.tolist() == pytest.approx(expected.tolist())
    assert loss(LOGITS, TARGETS).item() == pytest.approx(by_hand((8 / 12, 2.0)), rel=1e-6)


def test_balanced_loss_before_fit_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r'class_weights="balanced": call fit\(labels\)'):
        BinaryCrossEntropy("balanced")(LOGITS, TARGETS)


def test_fit_leaves_chosen_weights() -> None:
    loss = BinaryCrossEntropy([1.0, 3.0])
    loss.fit(LABELS)
    assert loss.weights.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(5), "found 5 Negative, 0 Positive, 0 others"),
        (np.array([0, 1, 2, -1]), "found 1 Negative, 1 Positive, 2 others"),
        (np.array([]), "found 0 Negative, 0 Positive"),
    ],
)
def test_fit_refuses_labels_without_both_classes(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        BinaryCrossEntropy("balanced").fit(labels)


class Holder(nn.Module):
    """Stands for the module that owns the loss."""

    def __init__(self, class_weights: Any) -> None:
        super().__init__()
        self.head = nn.Linear(1, 1)
        self.loss = BinaryCrossEntropy(class_weights)


def test_balanced_weights_travel_in_the_checkpoint() -> None:
    trained, restored = Holder("balanced"), Holder("balanced")
    trained.loss.fit(LABELS)
    restored.load_state_dict(trained.state_dict())
    assert restored.loss(LOGITS, TARGETS) == trained.loss(LOGITS, TARGETS)


@pytest.mark.parametrize("saved", [None, "balanced", [5.0, 6.0]])
@pytest.mark.parametrize("chosen", [None, "balanced", [1.0, 3.0]])
def test_loading_never_fails_nor_overrides_what_was_set(saved: Any, chosen: Any) -> None:
    trained, restored = Holder(saved), Holder(chosen)
    restored.loss.fit(LABELS)
    before = restored.loss.weights.tolist()
    restored.load_state_dict(trained.state_dict(), strict=True)
    assert restored.loss.weights.tolist() == before
    assert torch.equal(restored.head.weight, trained.head.weight)


def test_checkpoint_without_loss_weights_loads_strictly() -> None:
    state = {key: value for key, value in Holder(None).state_dict().items() if not key.startswith("loss")}
    restored = Holder("balanced")
    restored.load_state_dict(state, strict=True)
    with pytest.raises(RuntimeError, match="call fit"):
        restored.loss(LOGITS, TARGETS)


def test_half_precision_logits_are_computed_in_single() -> None:
    loss = BinaryCrossEntropy([1.0, 3.0])
    found = loss(LOGITS.bfloat16(), TARGETS)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(by_hand((1, 3)), rel=1e-6)
    assert loss(LOGITS.double(), TARGETS.double()).dtype == torch.float64


def test_extreme_logits_stay_finite_with_gradients() -> None:
    logits = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = BinaryCrossEntropy(label_smoothing=0.1)(logits, torch.tensor([0.0, 1.0]))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"logits .*\(4, 1\).* targets .*\(4,\)"):
        BinaryCrossEntropy()(LOGITS[:, None], TARGETS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing must be a number in \[0, 1\), got 1.0"),
        ({"class_weights": "balance"}, r'class_weights must be null, "balanced" or \[w_negative, w_positive\]'),
        ({"class_weights": [1.0]}, r"got \[1.0\]"),
        ({"class_weights": 2.0}, r"got 2.0"),
        ({"class_weights": [1.0, 0.0]}, r"class_weights\[1\] must be a number in \(0, inf\), got 0.0"),
    ],
)
def test_bad_arguments_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BinaryCrossEntropy(**options)


def test_works_on_the_meta_device() -> None:
    with torch.device("meta"):
        loss = BinaryCrossEntropy([1.0, 2.0])
        assert loss(torch.zeros(3), torch.zeros(3)).shape == ()


@pytest.mark.parametrize("alpha", [None, 0.25, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5])
@pytest.mark.parametrize("targets", [TARGETS, torch.tensor([0.1, 0.7, 0.0, 1.0])])
def test_focal_loss_is_torchvisions(gamma: float, alpha: float | None, targets: torch.Tensor) -> None:
    ours, theirs = LOGITS.clone().requires_grad_(), LOGITS.clone().requires_grad_()
    loss = FocalLoss(gamma, alpha)(ours, targets)
    expected = sigmoid_focal_loss(theirs, targets, -1 if alpha is None else alpha, gamma, reduction="mean")
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_focal_loss_without_focus_is_cross_entropy_to_the_last_bit(weights: list[float] | None) -> None:
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 10
    targets = (logits.roll(1) > 0).float()
    assert torch.equal(
        FocalLoss(0, class_weights=weights)(logits, targets), BinaryCrossEntropy(weights)(logits, targets)
    )


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
def test_focal_loss_of_extreme_logits_is_finite_with_gradients(gamma: float) -> None:
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4, 0.0], requires_grad=True)
    loss = FocalLoss(gamma)(logits, torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0]))
    loss.backward()
    assert loss.item() == pytest.approx((2e4 + 0.5**gamma * math.log(2)) / 5)  # the two that are wrong, the undecided
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_focal_loss_turns_away_from_what_is_right() -> None:
    easy, hard = torch.tensor([3.0]), torch.tensor([-3.0])
    positive = torch.ones(1)
    ratio = FocalLoss()(hard, positive) / FocalLoss()(easy, positive)
    assert ratio > 100 * BinaryCrossEntropy()(hard, positive) / BinaryCrossEntropy()(easy, positive)


def test_balanced_focal_loss_takes_its_weights_from_the_labels() -> None:
    loss = FocalLoss(class_weights="balanced")
    with pytest.raises(RuntimeError, match="call fit"):
        loss(LOGITS, TARGETS)
    loss.fit(LABELS)
    assert torch.equal(loss(LOGITS, TARGETS), FocalLoss(class_weights=[8 / 12, 2.0])(LOGITS, TARGETS))
    restored = FocalLoss(class_weights="balanced")
    restored.load_state_dict(loss.state_dict())
    assert torch.equal(restored(LOGITS, TARGETS), loss(LOGITS, TARGETS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": -1}, r"gamma must be a number in \[0, inf\), got -1"),
        ({"alpha": 0}, r"alpha must be a number in \(0, 1\), got 0"),
        ({"alpha": 1.0}, r"alpha must be a number in \(0, 1\), got 1.0"),
        ({"alpha": 0.5, "class_weights": "balanced"}, "alpha must be null where class_weights are given"),
        ({"class_weights": [1.0]}, r"class_weights must be null"),
    ],
)
def test_bad_arguments_of_focal_loss_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FocalLoss(**options)
