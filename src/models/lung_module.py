"""The LightningModule that trains a network to mark lungs."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from cxrlab.models.auxiliary_module import AuxiliaryModule


class LungModule(AuxiliaryModule):
    """Trains with binary cross-entropy plus soft Dice loss; logs ``loss`` and ``dice`` of each epoch.

    Args:
        network: Turns images (N, 1, H, W), float32 in [0, 1], into logits (N, 1, H, W).
        optimizer: See :class:`AuxiliaryModule`.
        scheduler: Likewise.
    """

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step on ``image`` (N, 1, H, W) float32 in [0, 1] and ``mask`` (N, 1, H, W) float32, 0 or 1."""
        return self._step(batch, "train")

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """The same on held-out images: for the curves, nothing is chosen by it."""
        self._step(batch, "val")

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
