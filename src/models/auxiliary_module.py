"""What the LightningModules of networks that help a classifier have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class AuxiliaryModule(pl.LightningModule):
    """Holds a network and makes its optimizer; the steps are a subclass's.

    Args:
        network: Any.
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

    def configure_optimizers(self) -> Any:
        """The optimizer, and the scheduler where there is one."""
        optimizer = self._make_optimizer(self.parameters())
        return optimizer if self._make_scheduler is None else ([optimizer], [self._make_scheduler(optimizer)])
