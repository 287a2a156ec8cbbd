"""Images by row, wherever they lie: in memory, or in files that are mapped and need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


class Block(Protocol):
    """Images of one shape that lie together: an array, or a mapped file."""

    def __getitem__(self, place: int, /) -> Images:
        """One image, shape (height, width, channels)."""


class ImageRows:
    """A list of images that stands in for one array, shape (rows, height, width, channels), uint8, without being one.

    ``images[7]`` is an image where it lies, perhaps not writeable. ``images[rows]`` with a slice, a mask or numbers,
    and ``np.asarray(images)``, copy what is asked for into memory. :meth:`take` chooses rows and copies nothing.

    Args:
        blocks: In which the images lie.
        places: Shape (rows, 2): of each row the block, and the place in that block.
        shape: Of one image: height, width, channels.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, blocks: Sequence[Block], places: NDArray[np.int64], shape: tuple[int, int, int]) -> None:
        self._blocks = list(blocks)
        self._places = places
        self.shape = (len(places), *shape)

    @classmethod
    def of(cls, images: Images) -> ImageRows:
        """All images of an array, shape (rows, height, width, channels)."""
        places = np.stack([np.zeros(len(images), np.int64), np.arange(len(images))], axis=1)
        height, width, channels = images.shape[1:]
        return cls([images], places, (height, width, channels))

    @property
    def size(self) -> int:
        """Numbers in all images together."""
        return int(np.prod(self.shape, dtype=np.int64))

    def take(self, rows: Any) -> ImageRows:
        """Some of the rows, by number or mask, in that order."""
        return ImageRows(self._blocks, self._places[rows], self.shape[1:])

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Images]:
        return (self._image(place) for place in self._places)

    def __getitem__(self, index: Any) -> Images:
        rows, *rest = index if isinstance(index, tuple) else (index,)
        places = self._places[rows]
        if places.ndim == 1:
            return np.asarray(self._image(places)[tuple(rest)])
        chosen = np.empty((len(places), *self.shape[1:]), np.uint8)
        for row, place in enumerate(places):
            chosen[row] = self._image(place)
        return np.asarray(chosen[(slice(None), *rest)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("images that lie in several places become one array only by being copied")
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)

    def _image(self, place: NDArray[np.int64]) -> Images:
        return self._blocks[int(place[0])][int(place[1])]
