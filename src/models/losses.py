"""The losses: binary cross-entropy on logits, plain or focal, with class weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrlab.errors import DataError, check_range


class _WeightedLoss(nn.Module):
    """Mean of the images' losses, each times its class's weight; what an image's loss is, a subclass says.

    The two weights travel in the state dict under ``weights``, so that a "balanced" loss read from a checkpoint needs
    no training labels. They never stand in the way of loading: a state dict without them is accepted, and one with them
    only ever fills in a "balanced" loss that has not been fitted. What the constructor or :meth:`fit` set stays.
    """

    weights: Tensor

    def __init__(self, class_weights: str | Sequence[float] | None) -> None:
        super().__init__()
        self.balanced = class_weights == "balanced"
        self.fitted = not self.balanced
        self.register_buffer("weights", torch.tensor(_initial_weights(class_weights), dtype=torch.float32))

    def fit(self, labels: np.ndarray) -> None:
        """Sets "balanced" weights from the training labels; other weights are left as they are.

        Args:
            labels: Shape (n,), 0 Negative and 1 Positive.

        Raises:
            DataError: One of the classes is absent, or a label is neither 0 nor 1.
        """
        if not self.balanced:
            return
        labels = np.asarray(labels).ravel()
        counts = [int(np.sum(labels == label)) for label in (0, 1)]
        if sum(counts) != labels.size or min(counts) == 0:
            raise DataError(
                f'class_weights="balanced" needs training labels 0 and 1, both present: found {counts[0]} Negative, '
                f"{counts[1]} Positive, {labels.size - sum(counts)} others; choose class_weights=null or a list"
            )
        self._set(torch.tensor([labels.size / (2 * count) for count in counts]))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Computes the loss of a batch.

        Args:
            logits: Shape (N,), float; half precision is computed in float32.
            targets: Shape (N,), float in [0, 1].

        Returns:
            The mean loss, a scalar, in nats.

        Raises:
            RuntimeError: The weights are "balanced" and were neither fitted nor loaded.
            ValueError: The shapes differ.
        """
        if not self.fitted:
            raise RuntimeError('class_weights="balanced": call fit(labels) with the training labels before the loss')
        if logits.shape != targets.shape:
            raise ValueError(
                f"logits of shape {tuple(logits.shape)} and targets of shape {tuple(targets.shape)} must agree"
            )
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        targets = targets.to(logits.dtype)
        weight = torch.lerp(self.weights[0].to(logits.dtype), self.weights[1].to(logits.dtype), targets)
        return self._mean_loss(logits, targets, weight)

    def _mean_loss(self, logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        """The batch's loss, of floats of one dtype and shape (N,)."""
        raise NotImplementedError

    def _set(self, weights: Tensor) -> None:
        self.weights.copy_(weights)
        self.fitted = True

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """PyTorch's hook for loading one module; see the class's docstring for what is taken."""
        saved = state_dict.get(f"{prefix}weights")
        if saved is not None and not self.fitted and torch.isfinite(saved).all():
            self._set(saved)


class BinaryCrossEntropy(_WeightedLoss):
    """Mean binary cross-entropy of logits.

    The loss of an image with target y and logit z is ``-w(y) (t log p + (1 - t) log(1 - p))`` with ``p = sigmoid(z)``,
    ``t = y (1 - s) + s / 2`` (Keras's label smoothing) and ``w(y) = w_negative + y (w_positive - w_negative)``. The
    batch's loss is the sum over its images divided by their number, as Keras does with ``class_weight``: not by the
    sum of the weights.

    Args:
        class_weights: ``None`` for equal weights; ``[w_negative, w_positive]``, both above 0; or ``"balanced"`` for
            ``n / (2 n_class)``, scikit-learn's formula, which :meth:`fit` computes from the training labels. The
            weights travel in the state dict.
        label_smoothing: The share s above, in [0, 1).

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, class_weights: str | Sequence[float] | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__(class_weights)
        check_range("label_smoothing", label_smoothing, 0, 1, high_open=True)
        self.label_smoothing = label_smoothing

    def _mean_loss(self, logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        smooth = targets * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        return F.binary_cross_entropy_with_logits(logits, smooth, weight)


class FocalLoss(_WeightedLoss):
    """Mean focal loss of logits: cross-entropy that down-weights well-classified examples.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, doi 10.1109/ICCV.2017.324, eq. 5: an image's loss is
    ``-w(y) (1 - q)^gamma log q``, where q is the probability given to its class, ``q = y p + (1 - y) (1 - p)`` and
    ``p = sigmoid(z)``. For targets y between 0 and 1 the logarithm is the cross-entropy with y, as in torchvision. The
    mean is taken over the number of images. With ``gamma`` 0 this is :class:`BinaryCrossEntropy`.

    Args:
        gamma: The exponent, at least 0.
        alpha: Weight of Positive, in (0, 1), with ``1 - alpha`` for Negative; the same as
            ``class_weights=[1 - alpha, alpha]``.
        class_weights: As in :class:`BinaryCrossEntropy`.

    Raises:
        ValueError: An argument is out of range, or ``alpha`` and ``class_weights`` are both given.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = None,
        class_weights: str | Sequence[float] | None = None,
    ) -> None:
        if alpha is not None:
            check_range("alpha", alpha, 0, 1, low_open=True, high_open=True)
            if class_weights is not None:
                raise ValueError(
                    f"alpha must be null where class_weights are given, got {alpha!r} and {class_weights!r}"
                )
            class_weights = [1 - alpha, alpha]
        super().__init__(class_weights)
        check_range("gamma", gamma, 0)
        self.gamma = gamma

    def _mean_loss(self, logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, targets, weight, reduction="none")
        # log(1 - q), whose gradient stays finite where 1 - q itself is 0 in floats.
        wrong = torch.logaddexp(F.logsigmoid(-logits) + targets.log(), F.logsigmoid(logits) + torch.log1p(-targets))
        return (losses * torch.exp(self.gamma * wrong)).mean()


def _initial_weights(class_weights: str | Sequence[float] | None) -> list[float]:
    """The two weights as far as they are known: NaN until ``fit``."""
    if class_weights is None:
        return [1.0, 1.0]
    if class_weights == "balanced":
        return [float("nan"), float("nan")]
    if isinstance(class_weights, str) or not isinstance(class_weights, Sequence) or len(class_weights) != 2:
        raise ValueError(f'class_weights must be null, "balanced" or [w_negative, w_positive], got {class_weights!r}')
    for index, weight in enumerate(class_weights):
        check_range(f"class_weights[{index}]", weight, 0, low_open=True)
    return [float(weight) for weight in class_weights]
