"""The LightningModule that trains a gate's network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class GateModule(pl.LightningModule):
    """Trains with cross-entropy over the kinds; logs ``loss`` and ``accuracy`` of each epoch.

    Args:
        network: Turns images (N, 1, S, S), float32, into logits (N, kinds).
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
        """One step on ``image`` (N, 1, S, S) float32 and ``kind`` (N,) int64, positions in the list of kinds."""
        logits, kinds = self.network(batch["image"]), batch["kind"]
        loss = F.cross_entropy(logits, kinds)
        accuracy = (logits.detach().argmax(1) == kinds).float().mean()
        values = {"train/loss": loss, "train/accuracy": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(kinds))
        return loss

    def configure_optimizers(self) -> Any:
        """The optimizer, and the scheduler where there is one."""
        optimizer = self._make_optimizer(self.parameters())
        return optimizer if self._make_scheduler is None else ([optimizer], [self._make_scheduler(optimizer)])
