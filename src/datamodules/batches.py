"""From cached pixels to batches, in an order that belongs to the run's seed and not to the process that draws it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from cxrlab.datamodules.augment import Augmentation

Key = tuple[int, int]  # (epoch, row of the manifest)


class CachedImages(Dataset[dict[str, Any]]):
    """Images of a manifest that are in memory, augmented on the way out.

    Args:
        images: Shape (rows, height, width, channels), uint8, one row per row of the manifest.
        labels: Shape (rows,), 0 or 1.
        augment: Applied to each image.
        seed: Of the run.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], augment: Augmentation, seed: int) -> None:
        self.images = images
        self.labels = labels
        self.augment = augment
        self.seed = seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        epoch, row = key
        image = self.augment(self.images[row], self.seed, epoch, row)
        return {"image": torch.from_numpy(image), "label": np.float32(self.labels[row]), "row": row}


class RowSampler(Sampler[Key]):
    """Yields (epoch, row): persistent workers, which never see a changed attribute, so learn the epoch from the key.

    Args:
        rows: Rows of the manifest, in order.
        seed: Of the run; ``None`` keeps the order, otherwise each epoch has its own.
        epoch: Where to start; Lightning calls :meth:`set_epoch` from then on, but only after the first prefetch.
    """

    def __init__(self, rows: NDArray[np.int64], seed: int | None = None, epoch: int = 0) -> None:
        self.rows = rows
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order, and the augmentations, of the next pass."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        rows = self.rows
        if self.seed is not None:
            rows = np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch])).permutation(rows)
        return iter([(self.epoch, int(row)) for row in rows])
