"""What a saliency map is worth: where it lies, whether the score depends on it, whether it depends on the weights.

Maps have shape (N, H, W): evidence for Positive per pixel, at least 0, of any scale, which no measure here depends on.
A map that is zero all over has no place to look at. What cannot be measured is NaN and is counted apart.

Sources:
    Deletion and insertion: V. Petsiuk, A. Das and K. Saenko, BMVC 2018 (RISE), section 4.2.
    Pointing: J. Zhang et al., ECCV 2016 (the pointing game).
    Randomised weights: J. Adebayo et al., NeurIPS 2018, sections 3 and 4 (rank correlation and SSIM of maps).
    SSIM: Z. Wang et al., IEEE Trans Image Process 2004;13:600-612.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import Bools, Floats, Ints

Images = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]
Score = Callable[[Images], Floats]
"""Images (N, H, W, C), uint8, to probabilities of Positive (N,)."""

TILES = 14
"""Tiles along each side of the random order that a curve is compared with."""
BLUR = 0.1
"""Standard deviation of the blur from which an insertion begins, as a share of the image's side."""
_SSIM_SIGMA, _C1, _C2 = 1.5, 0.01**2, 0.03**2  # Wang et al. 2004, for values in [0, 1]


def share_inside(maps: Maps, masks: Bools) -> Floats:
    """The share of each map's sum inside its mask of lungs, or of any other region; NaN where the map is zero.

    An even map would have inside what the mask covers of the image.
    """
    if maps.ndim != 3 or maps.shape != masks.shape or masks.dtype != bool:
        raise ValueError(
            f"maps and masks must both have shape (N, H, W), masks boolean; got {maps.shape} and {masks.shape} of "
            f"{masks.dtype}"
        )
    if not (np.isfinite(maps).all() and (maps >= 0).all()):
        raise ValueError("maps must be finite and at least 0")
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = np.where(masks, maps, 0).sum(axis=(1, 2), dtype=np.float64)
    return _ratio(inside, total)


def pointing(maps: Maps, masks: Bools) -> Floats:
    """Whether each map's largest value lies inside its mask, shape (N,); NaN where the map is zero.

    It is 1 or 0, and where several places share the largest value the share of them that is inside.
    """
    share_inside(maps, masks)  # checks them
    peak = maps.max(axis=(1, 2), keepdims=True)
    return share_inside(((maps == peak) & (peak > 0)).astype(np.float32), masks)


@dataclass(frozen=True)
class Curves:
    """Scores of images while more and more of their pixels are taken away, or put in.

    ``fraction``, shape (steps + 1,), is the share of pixels that are done. ``by_map`` holds the scores in the order of
    the maps, the largest value first, shape (N, steps + 1), and ``by_chance`` those in a random order of tiles.
    """

    fraction: Floats
    by_map: Floats
    by_chance: Floats

    @property
    def area_by_map(self) -> Floats:
        """Area under each image's curve, shape (N,), in [0, 1]."""
        return np.asarray(np.trapezoid(self.by_map, self.fraction, axis=1))

    @property
    def area_by_chance(self) -> Floats:
        """Likewise of the random order."""
        return np.asarray(np.trapezoid(self.by_chance, self.fraction, axis=1))


def deletion(score: Score, images: Images, maps: Maps, *, steps: int = 16, seed: int = 0) -> Curves:
    """Blackens pixels, the most salient first: a map that shows what matters makes the score fall at once.

    The pixels of images, shape (N, H, W, C), go in ``steps`` parts. The seed is that of the random order, and of ties.
    """
    return _curves(score, images, np.zeros_like(images), maps, steps, seed)


def insertion(score: Score, images: Images, maps: Maps, *, steps: int = 16, seed: int = 0) -> Curves:
    """Like :func:`deletion`, but puts pixels into the blurred image: such a map makes the score rise at once."""
    sigma = BLUR * (images.shape[1] + images.shape[2]) / 2
    blurred = gaussian_filter(images.astype(np.float32), (0, sigma, sigma, 0), mode="nearest")
    return _curves(score, blurred.round().astype(np.uint8), images, maps, steps, seed)


def _curves(score: Score, start: Images, end: Images, maps: Maps, steps: int, seed: int) -> Curves:
    """Scores on the way from one version of the images to another, in two orders."""
    check_range("steps", steps, 1, integer=True)
    # Random pixels would be noise, which upsets a network more than a missing patch does: tiles are the fair control.
    rng = np.random.default_rng(seed)
    side = -(-max(maps.shape[1:]) // TILES)
    tiles = rng.random((len(maps), TILES, TILES), dtype=np.float32).repeat(side, axis=1).repeat(side, axis=2)
    fraction = np.linspace(0, 1, steps + 1)
    curves = []
    for values in (maps, tiles[:, : maps.shape[1], : maps.shape[2]]):
        # The place of every pixel in its map's order, in [0, 1): 0 for the largest; ties at random.
        places = np.empty((len(maps), maps[0].size))
        for row, each in enumerate(values.reshape(places.shape)):
            order = np.lexsort((rng.random(each.size), -each))
            places[row, order] = np.arange(each.size) / each.size
        places = places.reshape(*maps.shape, 1)
        curves.append(np.stack([score(np.where(places < share, end, start)) for share in fraction], axis=1))
    return Curves(fraction, *curves)


def rank_correlation(first: Maps, second: Maps) -> Floats:
    """Spearman's rank correlation of each pair of maps, shape (N,); NaN where a map is the same everywhere."""
    standardised = []
    for maps in (first, second):
        ranks = rankdata(maps.reshape(len(maps), -1), axis=1)
        ranks -= ranks.mean(axis=1, keepdims=True)
        standardised.append(_ratio(ranks, ranks.std(axis=1, keepdims=True)))
    return np.asarray((standardised[0] * standardised[1]).mean(axis=1))


def ssim(first: Maps, second: Maps) -> Floats:
    """Structural similarity of each pair of maps over their largest values, shape (N,); NaN where a map is zero."""
    x, y = (_ratio(maps, maps.max(axis=(1, 2), keepdims=True)) for maps in (first, second))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (
        gaussian_filter(part, (0, _SSIM_SIGMA, _SSIM_SIGMA), truncate=3.5) for part in (x, y, x * x, y * y, x * y)
    )
    likeness = (2 * mean_x * mean_y + _C1) * (2 * (mean_xy - mean_x * mean_y) + _C2)
    likeness /= (mean_x**2 + mean_y**2 + _C1) * ((mean_xx - mean_x**2) + (mean_yy - mean_y**2) + _C2)
    return np.asarray(likeness.mean(axis=(1, 2)))


def _ratio(above: npt.NDArray[Any], below: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0))


def pick(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, most: int = 8) -> Ints:
    """Chooses images to look at: half called rightly and half wrongly where there are as many, both labels of each.

    Of every kind the surest come first. Where a kind runs out, others take its places. Returns positions, wrong ones
    first.
    """
    check_range("most", most, 1, integer=True)
    y, s = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    sure = np.argsort(-np.abs(s - threshold), kind="stable")
    wrong = (s >= threshold) != y
    queues = []
    for kind in (True, False):
        own = sure[wrong[sure] == kind]
        # Positive and Negative in turn: the k-th Positive gets place 2 k, the k-th Negative 2 k + 1.
        place = np.where(y[own], 2 * np.cumsum(y[own]), 2 * np.cumsum(~y[own]) + 1)
        queues.append(own[np.argsort(place)])
    first = queues[0][: max(most - most // 2, most - len(queues[1]))]
    return np.concatenate([first, queues[1][: most - len(first)]])
