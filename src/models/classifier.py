"""The one LightningModule: it trains any network that turns images into one logit each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from cxrlab.models.epoch_scores import METRICS, EpochScores

METADATA = "cxrlab"  # the checkpoint entry that makes a checkpoint self-sufficient, see cxrlab.runs.checkpoint
_SCHEDULER = "cxrlab_scheduler"

MONITORS = tuple(f"{split}/{name}" for split in ("train", "val") for name in METRICS)
"""Everything that is logged once an epoch, and so can be monitored."""

ADAM = partial(torch.optim.Adam, lr=0.001, betas=(0.9, 0.999), eps=1e-7, weight_decay=0.0, fused=True)
"""The paper's optimizer, Adam with Keras's epsilon, as ``conf/optimizer/adam.yaml`` has it."""


class ClassifierModule(pl.LightningModule):
    """Trains a binary classifier; knows nothing of files.

    Args:
        network: Turns images (N, channels, height, width), float32 in [0, 1], into logits (N, 1).
        optimizer: Called with the parameters, returns the optimizer; the paper's Adam by default.
        scheduler: Called with the optimizer, returns a scheduler that steps once an epoch; ``None`` for none.
        loss: Called with logits (N,) and targets (N,), float32, returns a scalar; binary cross-entropy by default.
        monitor: What a plateau scheduler watches.
        metadata: Plain values that are written into every checkpoint.

    Raises:
        TypeError: The optimizer is one already, and not a function that makes one.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = ADAM,
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        loss: nn.Module | None = None,
        monitor: str = "val/loss",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not callable(optimizer):
            raise TypeError(
                "optimizer must be called with the parameters, such as functools.partial(torch.optim.Adam, lr=0.001), "
                f"got {type(optimizer).__name__}"
            )
        self.network = network
        self.loss = loss or nn.BCEWithLogitsLoss()
        self.monitor = monitor
        self.metadata = metadata or {}
        self._make_optimizer = optimizer
        self._make_scheduler = scheduler
        self._scheduler: LRScheduler | None = None
        self._scheduler_state: dict[str, Any] | None = None
        self.passes = {split: EpochScores() for split in ("train", "val", "test")}
        self._compiled: Callable[[Tensor], Tensor] | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits, shape (N,), of images (N, channels, height, width)."""
        logits: Tensor = self.network(images)
        return logits.squeeze(1)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Lets :func:`torch.compile`, which takes these arguments, speed up the training steps.

        Validation and test keep the plain network, so that every score that is reported comes from one and the same.
        """
        compiled = torch.compile(self.network, *args, **kwargs)
        # Not as a part of this module: that would put every weight into the checkpoint a second time.
        self._compiled = lambda images: compiled(images)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """One step; returns the loss.

        Of several processes each sees its ``share`` of a batch: the factor that makes the mean of their gradients the
        gradient of the whole batch's mean, however many images each of them has.
        """
        loss, _ = self._step(batch, "train", self._compiled or self.network)
        return loss * batch["share"] if "share" in batch else loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Returns the probabilities of Positive, shape (N,)."""
        return self._step(batch, "val", self.network)[1]

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Returns the probabilities of Positive, shape (N,)."""
        return self._step(batch, "test", self.network)[1]

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Returns the scores of a batch, the probabilities of Positive, shape (N,), at least float32."""
        return self._logits(batch, self.network).sigmoid()

    def _logits(self, batch: dict[str, Any], network: Callable[[Tensor], Tensor]) -> Tensor:
        logits = network(batch["image"].to(self.dtype)).squeeze(1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))  # bf16 would round scores to 3 digits

    def _step(self, batch: dict[str, Any], split: str, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        logits = self._logits(batch, network)
        loss: Tensor = self.loss(logits, batch["label"])
        scores = logits.detach().sigmoid()
        own = slice(None if batch.get("share") != 0 else 0)  # an image that is another process's is not counted
        self.passes[split].add(batch["row"][own], batch["label"][own], scores[own], loss)
        return loss, scores

    def on_train_epoch_start(self) -> None:
        """Begins a pass."""
        self.passes["train"].begin()

    def on_validation_epoch_start(self) -> None:
        """Begins a pass."""
        self.passes["val"].begin()

    def on_test_epoch_start(self) -> None:
        """Begins a pass."""
        self.passes["test"].begin()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Logs the pass after its last batch: at the epoch's end it would come after what callbacks make of it."""
        if self.trainer.is_last_batch:
            self._log("train")

    def on_validation_epoch_end(self) -> None:
        """Logs the pass."""
        self._log("val")

    def on_test_epoch_end(self) -> None:
        """Logs the pass."""
        self._log("test")

    def _log(self, split: str) -> None:
        values = self.passes[split].finish(gather=self.trainer.world_size > 1)
        for name, value in values.items():
            self.log(f"{split}/{name}", value, on_step=False, on_epoch=True, prog_bar=name == "loss", batch_size=1)

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

    def configure_optimizers(self) -> Optimizer:
        """Builds optimizer and scheduler over the parameters that are to be trained."""
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
