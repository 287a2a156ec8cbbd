"""Augmentation whose random numbers belong to the sample, not to the worker that happens to draw them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrlab.errors import ConfigError

if TYPE_CHECKING:
    import albumentations as A


class Augmentation:
    """A list of albumentations transforms, applied to 8-bit images at their final size.

    albumentations seeds itself anew in every worker process, and identically in every epoch when workers are not
    persistent. Here each sample gets its own seed from (run seed, epoch, row): the same numbers whatever the number of
    workers.

    Args:
        transforms: albumentations transforms in order; empty for none.
    """

    def __init__(self, transforms: Sequence[A.BasicTransform]) -> None:
        self.transforms = list(transforms)
        self._pipeline = None
        if self.transforms:
            import albumentations as A  # most runs have no transforms, and no use for the time that this takes

            self._pipeline = A.Compose(self.transforms)

    def __call__(self, image: NDArray[np.uint8], seed: int, epoch: int, row: int) -> NDArray[np.uint8]:
        """Returns an augmented copy, or the image itself where there is nothing to do.

        Args:
            image: Shape (height, width, channels), uint8; not changed.
            seed: Of the run.
            epoch: From 0.
            row: Of the image in the manifest.

        Raises:
            ConfigError: The transforms change the size or type of the image, which the network could not take.
        """
        if self._pipeline is None:
            return image
        own, *seeds = np.random.SeedSequence([seed, epoch, row]).generate_state(1 + len(self.transforms)).tolist()
        self._pipeline.set_random_seed(own)
        # That gave every transform the same seed: they would all be applied together, or none at all.
        for transform, transform_seed in zip(self.transforms, seeds, strict=True):
            transform.set_random_seed(transform_seed)
        changed = np.asarray(self._pipeline(image=image)["image"])
        if changed.dtype != np.uint8 or changed.shape not in {image.shape, image.shape[:2]}:
            raise ConfigError(
                f"augment must keep images uint8 of shape {image.shape}, got {changed.dtype} of shape {changed.shape}; "
                "leave out transforms that crop, resize, turn by 90 degrees or scale to floats"
            )
        return changed.reshape(image.shape)
