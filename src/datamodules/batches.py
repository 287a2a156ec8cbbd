"""From cached pixels to batches, in an order that belongs to the run's seed and not to the process that draws it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from cxrlab.datamodules.augment import Augmentation
from cxrlab.datamodules.pixels import ImageRows

Key = tuple[int, int]  # (epoch, row of the manifest)


@dataclass(frozen=True)
class Batch:
    """What makes up a batch, or one process's part of it: its images, and of a part its share.

    The share is the part's number of images times the number of processes over the number of images in the whole batch:
    the weight of this part's mean in the mean over the processes. It is 0 where there are fewer images than processes:
    the part then holds another part's image, since every process takes every step.
    """

    keys: list[Key]
    share: float | None = None


class CachedImages(Dataset[dict[str, Any]]):
    """Batches of images that are in memory, augmented on the way out.

    Args:
        images: Shape (rows, height, width, channels), uint8, one row per row of the manifest; ``None`` leaves them out
            of the batches, for pixels that are on the device already.
        labels: Shape (rows,), 0 or 1.
        augment: Applied to each image.
        seed: Of the run.
    """

    def __init__(
        self,
        images: ImageRows | NDArray[np.uint8] | None,
        labels: NDArray[np.int64],
        augment: Augmentation,
        seed: int,
    ) -> None:
        self.images, self.labels, self.augment, self.seed = images, labels, augment, seed

    def __getitem__(self, batch: Batch) -> dict[str, Any]:
        rows = np.array([row for _, row in batch.keys])
        found: dict[str, Any] = {
            "label": torch.from_numpy(self.labels[rows].astype(np.float32)),
            "row": torch.from_numpy(rows),
        }
        if self.images is not None and self.augment.transforms:
            augmented = [self.augment(self.images[row], self.seed, epoch, row) for epoch, row in batch.keys]
            found["image"] = torch.from_numpy(np.stack(augmented))
        elif self.images is not None:
            # One copy of the whole batch, out of a file or memory.
            found["image"] = torch.from_numpy(np.asarray(self.images[[row for _, row in batch.keys]]))
        return found if batch.share is None else {**found, "share": batch.share}


class RowSampler(Sampler[Key]):
    """Yields (epoch, row): persistent workers, which never see a changed attribute, so learn the epoch from the key.

    Args:
        rows: Rows of the manifest, in order.
        seed: Of the run; ``None`` keeps the order, otherwise each epoch has its own.
        epoch: Where to start; Lightning calls :meth:`set_epoch` from then on, but only after the first prefetch.
    """

    def __init__(self, rows: NDArray[np.int64], seed: int | None = None, epoch: int = 0) -> None:
        self.rows, self.seed, self.epoch = rows, seed, epoch

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


class BatchSampler(Sampler[Batch]):
    """Cuts the rows into batches, and those into one part for each of the processes that train together.

    Together the processes see the batches, in the order, that one process would see.

    Args:
        rows: In the order of the pass.
        batch_size: Images of all parts together; the last batch may be smaller.
        rank: Of this process, in [0, processes).
        processes: How many train together.
    """

    def __init__(self, rows: RowSampler, batch_size: int, rank: int = 0, processes: int = 1) -> None:
        self.rows, self.batch_size, self.rank, self.processes = rows, batch_size, rank, processes

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order, and the augmentations, of the next pass."""
        self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[Batch]:
        keys = list(self.rows)
        for start in range(0, len(keys), self.batch_size):
            whole = keys[start : start + self.batch_size]
            part = whole[self.rank :: self.processes]
            share = None if self.processes == 1 else len(part) * self.processes / len(whole)
            yield Batch(part or whole[:1], share)
