"""Ends a training whose loss or weights are no numbers any more, before anything is written of them."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from cxrlab.errors import DivergedError

_EVERY = 50  # steps between two looks at the loss, where each look makes the CPU wait for a device or other processes


class Divergence(pl.Callback):
    """Raises :class:`DivergedError` at the first loss, epoch mean or weight that is NaN or infinite.

    On one CPU every step's loss is looked at, elsewhere those of 50 steps at once. The weights are looked at after the
    last step of an epoch, before validation and before a checkpoint of them is written. Gradients are not: of
    ``16-mixed`` some are infinite as a matter of course, and their steps are left out. It must stand before the
    callbacks that write.
    """

    def __init__(self) -> None:
        self._losses: list[torch.Tensor] = []
        self._checked = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins an epoch."""
        self._losses, self._checked = [], 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks at the losses since the last look, and after the last step at the weights."""
        self._losses.append(outputs["loss"].detach())
        at_once = trainer.world_size == 1 and pl_module.device.type == "cpu"
        if at_once or trainer.is_last_batch or (batch_idx + 1) % _EVERY == 0:
            self._check_losses(trainer)
        if trainer.is_last_batch:
            broken = [name for name, value in pl_module.state_dict().items() if not _finite(value)]
            if broken:
                raise _diverged(trainer, f"after epoch {trainer.current_epoch + 1}, {broken[0]} holds NaN or infinity")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Looks at the epoch's mean losses; validation is over by now."""
        for name, value in trainer.callback_metrics.items():
            if name.endswith("/loss") and not _finite(value):
                raise _diverged(trainer, f"{name} of epoch {trainer.current_epoch + 1} is {float(value)}")

    def _check_losses(self, trainer: pl.Trainer) -> None:
        bad = (~torch.isfinite(torch.stack(self._losses))).nonzero().flatten().tolist()
        if trainer.strategy.reduce_boolean_decision(not bad, all=True):
            self._checked += len(self._losses)
            self._losses = []
            return
        epoch, steps = trainer.current_epoch + 1, trainer.num_training_batches
        if bad:
            where, what = f"step {self._checked + bad[0] + 1}", float(self._losses[bad[0]])
            raise _diverged(trainer, f"the loss of epoch {epoch}, {where} of {steps}, is {what}")
        raise _diverged(trainer, f"the loss of epoch {epoch} is no number in another process of this run")


def _finite(value: Any) -> bool:
    return not (isinstance(value, torch.Tensor) and value.is_floating_point()) or bool(torch.isfinite(value).all())


def _diverged(trainer: pl.Trainer, found: str) -> DivergedError:
    """The error, with what to lower."""
    rate = float(trainer.optimizers[0].param_groups[0]["lr"])
    advice = []
    if str(trainer.precision).startswith("16"):
        advice.append("trainer.precision=bf16-mixed or 32-true, since float16 holds nothing above 65,504")
    advice.append(f"a lower rate (optimizer.lr={min(rate / 10, 1e-3):g}, now {rate:g})")
    if not trainer.gradient_clip_val:
        advice.append("clipped gradients (trainer.gradient_clip_val=1)")
    return DivergedError(f"the training diverged: {found}; begin a new run with {', or '.join(advice)}")
