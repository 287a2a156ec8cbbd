"""The LightningModule that trains a gate's network."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cxrlab.models.auxiliary_module import AuxiliaryModule


class GateModule(AuxiliaryModule):
    """Trains with cross-entropy over the kinds; logs ``loss`` and ``accuracy`` of each epoch.

    Args:
        network: Turns images (N, 1, S, S), float32, into logits (N, kinds).
        optimizer: See :class:`AuxiliaryModule`.
        scheduler: Likewise.
    """

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on ``image`` (N, 1, S, S) float32 and ``kind`` (N,) int64, positions in the list of kinds."""
        logits, kinds = self.network(batch["image"]), batch["kind"]
        loss = F.cross_entropy(logits, kinds)
        accuracy = (logits.detach().argmax(1) == kinds).float().mean()
        values = {"train/loss": loss, "train/accuracy": accuracy}
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(kinds))
        return loss
