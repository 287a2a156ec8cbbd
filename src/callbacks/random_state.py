"""Random states travel in the checkpoint: a resumed run draws the numbers that the uninterrupted one would have drawn.

Lightning leaves them out (its threads #17543 and #18098 say "won't fix").
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch


class RandomState(pl.Callback):
    """Saves the states of Python's, NumPy's and PyTorch's generators, and restores them as training goes on.

    Of several processes it is the first whose states are in the checkpoint. Each of the others has a stream of its own,
    or all would drop out the same units; it begins anew with each epoch, so that there is nothing of it to be saved.

    Args:
        seed: Of the run.

    Attributes:
        restored: Whether training has begun, with everything that a checkpoint holds in its place.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.restored = False
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values only, so that the checkpoint loads with ``weights_only=True``."""
        _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - it is the global state that libraries use
        version, words, gauss_next = random.getstate()
        return {
            "python": [version, list(words), gauss_next],
            "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(gauss)],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keeps the states until training starts: what Lightning does until then may draw numbers."""
        self._loaded = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restores the states."""
        if self._loaded is not None:
            self._restore(self._loaded)
        self._loaded, self.restored = None, True

    @staticmethod
    def _restore(loaded: dict[str, Any]) -> None:
        version, words, gauss_next = loaded["python"]
        random.setstate((version, tuple(words), gauss_next))
        keys, position, has_gauss, gauss = loaded["numpy"]
        state = ("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss)
        np.random.set_state(state)  # noqa: NPY002
        torch.set_rng_state(loaded["torch"])
        if torch.cuda.is_available() and len(loaded["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(loaded["cuda"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives every process but the first its numbers of this epoch."""
        if trainer.global_rank:
            sequence = np.random.SeedSequence([self.seed, trainer.global_rank, trainer.current_epoch])
            torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))
