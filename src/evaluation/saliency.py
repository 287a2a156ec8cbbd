"""What a saliency map is worth: where it lies, whether the score depends on it, whether it depends on the weights.

Maps are evidence for Positive per pixel, at least 0, of any scale: no measure here depends on a map's scale. A map that
is zero all over has no place to look at; what cannot be measured is NaN and is counted apart.

Sources:
    Deletion and insertion: V. Petsiuk, A. Das and K. Saenko, BMVC 2018 (RISE), section 4.2.
    Pointing: J. Zhang et al., ECCV 2016 (the pointing game).
    Randomised weights: J. Adebayo et al., NeurIPS 2018, sections 3 and 4 (rank correlation and SSIM of maps).
    SSIM: Z. Wang et al., IEEE Trans Image Process 2004;13:600-612.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.stats import rankdata

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import Bools, Floats

Images = npt.NDArray[np.uint8]
Maps = npt.NDArray[np.float32]
Score = Callable[[Images], Floats]
"""Images (N, H, W, C), uint8, to probabilities of Positive (N,)."""

TILES = 14
"""Tiles along each side of the random order that a curve is compared with."""
BLUR = 0.1
"""Standard deviation of the blur from which an insertion begins, as a share of the image's side."""
_SSIM_SIGMA, _C1, _C2 = 1.5, 0.01**2, 0.03**2  # Wang et al. 2004, for values in [0, 1]


# ------------------------------------------------------------------------------------------------------ where it lies


def share_inside(maps: Maps, masks: Bools) -> Floats:
    """The share of each map's sum that lies inside its mask; chance level: :func:`area_share`.

    Args:
        maps: Shape (N, H, W), at least 0.
        masks: Shape (N, H, W): lungs, or any other region, such as the box of a marker.

    Returns:
        Shape (N,), in [0, 1]; NaN where the map is zero.

    Raises:
        ValueError: A shape is wrong or a map is negative or not finite.
    """
    _check(maps, masks)
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = np.where(masks, maps, 0).sum(axis=(1, 2), dtype=np.float64)
    return np.asarray(np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0))


def area_share(masks: Bools) -> Floats:
    """The share of each image that its mask covers, shape (N,): what an even map would have inside."""
    return np.asarray(masks.mean(axis=(1, 2)), np.float64)


def pointing(maps: Maps, masks: Bools) -> Floats:
    """Whether each map's largest value lies inside its mask.

    Returns:
        Shape (N,): 1 or 0, the share of places that are inside where several share the largest value; NaN where the
        map is zero.

    Raises:
        ValueError: See :func:`share_inside`.
    """
    _check(maps, masks)
    peak = maps.max(axis=(1, 2), keepdims=True)
    return share_inside(((maps == peak) & (peak > 0)).astype(np.float32), masks)


# ----------------------------------------------------------------------------------- whether the score depends on it


@dataclass(frozen=True)
class Curves:
    """Scores of images while more and more of their pixels are taken away, or put in.

    Attributes:
        fraction: Shape (steps + 1,): share of pixels that are done, 0 to 1.
        by_map: Shape (N, steps + 1): scores in the order of the maps, the largest value first.
        by_chance: Likewise in a random order of tiles.
    """

    fraction: Floats
    by_map: Floats
    by_chance: Floats

    @property
    def area_by_map(self) -> Floats:
        """Area under each image's curve, shape (N,), in [0, 1], by trapezes."""
        return np.asarray(np.trapezoid(self.by_map, self.fraction, axis=1))

    @property
    def area_by_chance(self) -> Floats:
        """Likewise of the random order."""
        return np.asarray(np.trapezoid(self.by_chance, self.fraction, axis=1))


def deletion(score: Score, images: Images, maps: Maps, *, steps: int = 16, seed: int = 0) -> Curves:
    """Blackens pixels, the most salient first: a map that shows what matters makes the score fall at once.

    Args:
        score: Of the network.
        images: Shape (N, H, W, C), uint8.
        maps: Shape (N, H, W).
        steps: Parts in which the pixels go, at least 1.
        seed: Of the random order, and of the order of equal values.
    """
    return _curves(score, images, np.zeros_like(images), maps, steps, seed)


def insertion(score: Score, images: Images, maps: Maps, *, steps: int = 16, seed: int = 0) -> Curves:
    """Puts pixels into the blurred image, the most salient first: such a map makes the score rise at once.

    Args:
        score: Of the network.
        images: Shape (N, H, W, C), uint8.
        maps: Shape (N, H, W).
        steps: Parts in which the pixels come, at least 1.
        seed: Of the random order, and of the order of equal values.
    """
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
    orders = [_order(values, rng) for values in (maps, tiles[:, : maps.shape[1], : maps.shape[2]])]
    fraction = np.linspace(0, 1, steps + 1)
    by_map, by_chance = (
        np.stack([score(_mixed(start, end, order, share)) for share in fraction], axis=1) for order in orders
    )
    return Curves(fraction, by_map, by_chance)


def _order(values: Maps, rng: np.random.Generator) -> Floats:
    """The place of every pixel in its map's order, shape (N, H, W), in [0, 1): 0 for the largest; ties at random."""
    flat = values.reshape(len(values), -1)
    places = np.empty(flat.shape)
    for row, each in enumerate(flat):
        order = np.lexsort((rng.random(each.size), -each))
        places[row, order] = np.arange(each.size) / each.size
    return places.reshape(values.shape)


def _mixed(start: Images, end: Images, order: Floats, share: float) -> Images:
    return np.where((order < share)[..., None], end, start)


# ------------------------------------------------------------------------------------ whether it knows the weights


def rank_correlation(first: Maps, second: Maps) -> Floats:
    """Spearman's rank correlation of each pair of maps over their pixels.

    Returns:
        Shape (N,), in [-1, 1]; NaN where a map is the same everywhere.
    """
    a, b = (_standardised(rankdata(maps.reshape(len(maps), -1), axis=1)) for maps in (first, second))
    return np.asarray((a * b).mean(axis=1))


def ssim(first: Maps, second: Maps) -> Floats:
    """Structural similarity of each pair of maps, each divided by its largest value.

    Returns:
        Shape (N,), at most 1; NaN where a map is zero.
    """
    sigma = (0, _SSIM_SIGMA, _SSIM_SIGMA)
    peaks = [maps.max(axis=(1, 2), keepdims=True) for maps in (first, second)]
    x, y = (
        np.divide(maps, peak, out=np.full(maps.shape, np.nan), where=peak > 0)
        for maps, peak in zip((first, second), peaks, strict=True)
    )
    blur = {name: gaussian_filter(part, sigma, truncate=3.5) for name, part in _products(x, y).items()}
    var_x, var_y = blur["xx"] - blur["x"] ** 2, blur["yy"] - blur["y"] ** 2
    covariance = blur["xy"] - blur["x"] * blur["y"]
    likeness = (2 * blur["x"] * blur["y"] + _C1) * (2 * covariance + _C2)
    likeness /= (blur["x"] ** 2 + blur["y"] ** 2 + _C1) * (var_x + var_y + _C2)
    return np.asarray(likeness.mean(axis=(1, 2)))


def _products(x: Floats, y: Floats) -> dict[str, Floats]:
    return {"x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}


def _standardised(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    deviation = centred.std(axis=1, keepdims=True)
    return np.asarray(np.divide(centred, deviation, out=np.full(rows.shape, np.nan), where=deviation > 0))


# -------------------------------------------------------------------------------------------------- over the images


def pick(labels: npt.ArrayLike, scores: npt.ArrayLike, threshold: float, most: int = 8) -> npt.NDArray[np.int64]:
    """Chooses images to look at: half called rightly and half wrongly where there are as many, both labels of each.

    Of every kind the surest come first. Where a kind runs out, others take its places.

    Args:
        labels: Shape (n,), 0 or 1.
        scores: Shape (n,), in [0, 1].
        threshold: Positive from this score on.
        most: How many, at least 1.

    Returns:
        Positions, wrong ones first.
    """
    check_range("most", most, 1, integer=True)
    y, s = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    sure = np.argsort(-np.abs(s - threshold), kind="stable")
    wrong = (s >= threshold) != y
    queues = [
        _in_turn([sure[(wrong == kind)[sure] & (y == label)[sure]] for label in (True, False)])
        for kind in (True, False)
    ]
    first = queues[0][: max(most - most // 2, most - len(queues[1]))]
    return np.array([*first, *queues[1][: most - len(first)]], np.int64)


def _in_turn(queues: list[npt.NDArray[np.int64]]) -> list[int]:
    """One from each queue in turn."""
    longest = max(len(queue) for queue in queues)
    return [int(queue[place]) for place in range(longest) for queue in queues if place < len(queue)]


def _check(maps: Maps, masks: Bools) -> None:
    if maps.ndim != 3 or maps.shape != masks.shape or masks.dtype != bool:
        raise ValueError(
            f"maps and masks must both have shape (N, H, W), masks boolean; got {maps.shape} and {masks.shape} of "
            f"{masks.dtype}"
        )
    if not (np.isfinite(maps).all() and (maps >= 0).all()):
        raise ValueError("maps must be finite and at least 0")
