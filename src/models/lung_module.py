"""The LightningModule that trains a network to mark lungs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class LungModule(pl.LightningModule):
    """Trains with binary cross-entropy plus soft Dice loss; logs ``loss`` and ``dice`` of each epoch.

    Args:
        network: Turns images (N, 1, H, W), float32 in [0, 1], into logits (N, 1, H, W).
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns a scheduler that steps once an epoch; ``None`` for none.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on ``image`` (N, 1, H, W) float32 in [0, 1] and ``mask`` (N, 1, H, W) float32, 0 or 1."""
        return self._step(batch, "train")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The same on held-out images: for the curves, nothing is chosen by it."""
        self._step(batch, "val")

    def configure_optimizers(self) -> Any:
        """The optimizer, and the scheduler where there is one."""
        optimizer = self._make_optimizer(self.parameters())
        return optimizer if self._make_scheduler is None else ([optimizer], [self._make_scheduler(optimizer)])

    def _step(self, batch: dict[str, Tensor], split: str) -> Tensor:
        logits, masks = self.network(batch["image"]), batch["mask"]
        dice = soft_dice(logits.sigmoid(), masks)
        loss = F.binary_cross_entropy_with_logits(logits, masks) + 1 - dice.mean()
        hard = soft_dice((logits.detach() > 0).float(), masks).mean()
        values = {f"{split}/loss": loss, f"{split}/dice": hard}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(masks))
        return loss


def soft_dice(scores: Tensor, masks: Tensor) -> Tensor:
    """Dice of scores in [0, 1] and masks, both (N, 1, H, W), as one value per image (N,): ``2 s·m / (sum s + sum m)``.

    Milletari et al., arXiv:1606.04797, without the squares; 1 pixel is added above and below, so that two empty masks
    agree.
    """
    both, either = (scores * masks).flatten(1).sum(1), (scores + masks).flatten(1).sum(1)
    return (2 * both + 1) / (either + 1)
