"""Augmentation whose random numbers belong to the sample, not to the worker that happens to draw them."""

from __future__ import annotations

from collections.abc import Sequence

import albumentations as A
import numpy as np
from numpy.typing import NDArray


class Augmentation:
    """A list of albumentations transforms, applied to 8-bit images at their final size.

    albumentations seeds itself anew in every worker process, and identically in every epoch when workers are not
    persistent. Here each sample gets its own seed from (run seed, epoch, row): the same numbers for any number of workers.

    Args:
        transforms: albumentations transforms in order; empty for none.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform]) -> None:
        self.transforms = list(transforms)
        self._pipeline = A.Compose(self.transforms) if self.transforms else None

    def __call__(self, image: NDArray[np.uint8], seed: int, epoch: int, row: int) -> NDArray[np.uint8]:
        """Returns an augmented copy.

        Args:
            image: Shape (height, width, channels), uint8; not changed.
            seed: Of the run.
            epoch: From 0.
            row: Of the image in the manifest.

        Returns:
            The same shape, uint8.
        """
        if self._pipeline is None:
            return image
        sample_seed = int(np.random.SeedSequence([seed, epoch, row]).generate_state(1)[0])
        self._pipeline.set_random_seed(sample_seed)
        return np.asarray(self._pipeline(image=image)["image"], dtype=np.uint8).reshape(image.shape)
