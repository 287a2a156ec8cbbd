"""The one LightningModule: it trains any network that turns images into one logit each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
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

METADATA = "cxrlab"  # the checkpoint entry that makes a checkpoint self-sufficient, see cxrlab.runs.checkpoint
_SCHEDULER = "cxrlab_scheduler"


def metric_collection() -> MetricCollection:
    """The metrics of every split, of scores in [0, 1] at threshold 0.5."""
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


MONITORS = tuple(f"{split}/{name}" for split in ("train", "val") for name in ("loss", *metric_collection()))
"""Everything that is logged once an epoch, and so can be monitored."""


class ClassifierModule(pl.LightningModule):
    """Trains a binary classifier; knows nothing of files.

    Args:
        network: Turns images (N, channels, height, width), float32 in [0, 1], into logits (N, 1).
        optimizer: Called with the parameters, returns the optimizer.
        scheduler: Called with the optimizer, returns a scheduler that steps once an epoch; ``None`` for none.
        loss: Called with logits (N,) and targets (N,), float32, returns a scalar.
        monitor: What a plateau scheduler watches.
        metadata: Plain values that are written into every checkpoint.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        loss: nn.Module | None = None,
        monitor: str = "val/loss",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss or nn.BCEWithLogitsLoss()
        self.monitor = monitor
        self.metadata = metadata or {}
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._scheduler: LRScheduler | None = None
        self._scheduler_state: dict[str, Any] | None = None
        metrics = metric_collection()
        self.train_metrics = metrics.clone(prefix="train/")
        self.val_metrics = metrics.clone(prefix="val/")
        self.test_metrics = metrics.clone(prefix="test/")

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits, shape (N,), of images (N, channels, height, width)."""
        logits: Tensor = self.network(images)
        return logits.squeeze(1)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; returns the loss."""
        return self._step(batch, "train", self.train_metrics)["loss"]

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns ``row`` (N,) and ``score`` (N,), the probability of Positive."""
        return self._step(batch, "val", self.val_metrics)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Returns ``row`` (N,) and ``score`` (N,), the probability of Positive."""
        return self._step(batch, "test", self.test_metrics)

    def _step(self, batch: dict[str, Tensor], split: str, metrics: MetricCollection) -> dict[str, Tensor]:
        logits = self(batch["image"]).float()  # bf16 logits would round scores to 3 digits
        loss = self.loss(logits, batch["label"])
        scores = logits.detach().sigmoid()
        metrics.update(scores, batch["label"].long())
        size = len(logits)
        self.log(f"{split}/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=size)
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=size)  # computed and reset at the epoch's end
        return {"loss": loss, "row": batch["row"], "score": scores}

    def on_train_epoch_end(self) -> None:
        """Steps the scheduler.

        Lightning would step it after this epoch's checkpoint is written, so that a resumed run would miss one step.
        """
        if self._scheduler is None:
            return
        self.log("lr", self._scheduler.get_last_lr()[0])
        if isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step(self.trainer.callback_metrics[self.monitor])
        else:
            self._scheduler.step()

    def configure_optimizers(self) -> Optimizer | None:
        """Builds optimizer and scheduler over the parameters that are to be trained."""
        if self._make_optimizer is None:
            return None
        optimizer = self._make_optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        if self._make_scheduler is not None:
            self._scheduler = self._make_scheduler(optimizer)
            if self._scheduler_state is not None:
                self._scheduler.load_state_dict(self._scheduler_state)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the metadata and the scheduler's state."""
        checkpoint[METADATA] = self.metadata
        if self._scheduler is not None:
            checkpoint[_SCHEDULER] = self._scheduler.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the scheduler's state until there is a scheduler."""
        self._scheduler_state = checkpoint.get(_SCHEDULER)
