"""Which images are one radiograph: the same file, the same film in another encoding, a crop of it, its mirror image.

A pair is never told by the hash alone. Hashes within 40 bits, or local features that fall into the same cells of a hash
table, make a candidate; what makes a pair is that the images agree on many places once one is laid over the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from cxrlab.reading.image import read_image

HASH_BYTES = 32
POINTS = 256
"""Local features kept of an image, at most."""
NEAR = 40
"""Hashes of one film in two encodings are at most this many of 256 bits apart."""
ENOUGH = 32
"""Places on which two images must agree to be one film, see :func:`find_pairs`."""
COLUMNS = ("first", "second", "same_file", "distance", "inliers", "mirrored")

_DCT_SIDE = 64
_HASH_SIDE = 16
_SIDE = 448  # pixels, the longest side of the copy in which features are looked for
_CONTRAST = 0.01  # of SIFT; its default of 0.04 leaves pale films with few points
_RATIO = 0.8  # Lowe's: the best match must be this much closer than the second best
_TOLERANCE = 2.0  # pixels by which a matching point may miss its place; films of one person miss by more
_SHARE = 0.77  # of the matching points that must fall into place; on another film of the same person many do not
_TURN = 0.01  # radians that a squeezed copy may be turned; films of one person can be laid over each other if they may
_CELL = 16  # pixels; what is burned in, a score box or a scale, has many points in few cells
_NEIGHBOURS = 10  # nearest hashes of an image that are looked at, so that work grows with n where all look alike
_DIMENSIONS = 40  # of descriptors when they vote
_TABLES = 6
_BUCKET = 64  # descriptors in a cell of a table beyond which they are too common to tell anything
_SECTORS = 8  # of orientation: a copy is not turned
_VOTES = 8
_BLOCK = 1024  # rows whose distances to all others are in memory at a time

_BITS = np.arange(8 * HASH_BYTES)
_MIRROR_HASH = np.packbits(_BITS % _HASH_SIDE % 2 == 1)  # mirroring changes the sign of odd horizontal frequencies
_ROW, _COLUMN, _DIRECTION = np.meshgrid(range(4), range(4), range(8), indexing="ij")
# A descriptor's rows run across the point's orientation, and its 8 directions are counted from it.
_MIRROR_DESCRIPTOR = ((3 - _ROW) * 32 + _COLUMN * 8 + (-_DIRECTION) % 8).ravel()

Rows = NDArray[np.intp]


def perceptual_hash(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Hashes what an image looks like, so that copies in another size or encoding differ in few of 256 bits.

    The ITU-R 601 luma is averaged to 64x64 pixels, whatever its aspect; each bit says whether one of the lowest 16x16
    coefficients of its cosine transform is above their median.

    Args:
        rgb: Shape (height, width, 3), uint8.

    Returns:
        Shape (32,), uint8: 256 bits, row by row, the vertical frequency growing downwards.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_DCT_SIDE, _DCT_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:_HASH_SIDE, :_HASH_SIDE]
    return np.packbits(low > np.median(low))


@dataclass(frozen=True)
class Features:
    """Local features (SIFT) of n images, in their order; the first ``counts[i]`` of image i are filled.

    Attributes:
        counts: Shape (n,), int32: how many points each image has, 0 to 256.
        points: Shape (n, 256, 3), float32: x and y in pixels of a copy whose longest side is 448,
            orientation in degrees.
        descriptors: Shape (n, 256, 128), uint8.
    """

    counts: NDArray[np.int32]
    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    @classmethod
    def empty(cls, n: int) -> Features:
        """Of n images, none of which has a point yet."""
        points, descriptors = np.zeros((n, POINTS, 3), np.float32), np.zeros((n, POINTS, 128), np.uint8)
        return cls(np.zeros(n, np.int32), points, descriptors)

    def find(self, row: int, rgb: NDArray[np.uint8]) -> None:
        """Finds the features of an image, shape (height, width, 3), uint8, and puts them into its row."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        scale = _SIDE / max(grey.shape)
        size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        found, descriptors = cv2.SIFT.create(nfeatures=POINTS, contrastThreshold=_CONTRAST).detectAndCompute(grey, None)
        count = min(len(found), POINTS)  # points of equal strength can make it more
        self.counts[row] = count
        if count:
            self.points[row, :count] = [(*point.pt, point.angle) for point in found[:count]]
            self.descriptors[row, :count] = descriptors[:count]

    def put(self, row: int, image: Features) -> None:
        """Copies the features of one image (n = 1) into a row."""
        for here, there in zip(vars(self).values(), vars(image).values(), strict=True):
            here[row] = there[0]

    def take(self, rows: Sequence[int] | Rows) -> Features:
        """Of some of the images, in the order of ``rows``."""
        index = np.asarray(rows, dtype=np.intp)
        return Features(self.counts[index], self.points[index], self.descriptors[index])


def find_pairs(hashes: NDArray[np.uint8], features: Features, sha256: Sequence[str]) -> pd.DataFrame:
    """Finds the pairs of images that are one radiograph, in time that grows about as the number of images.

    Args:
        hashes: Shape (n, 32), uint8, of :func:`perceptual_hash`.
        features: Of the same n images.
        sha256: Of each file; an image without one could not be read and is in no pair.

    Returns:
        One row per pair, sorted: ``first`` < ``second`` (positions), ``same_file``, ``distance`` (bits of 256 in which
        the hashes differ), ``inliers`` (places on which the two agree, at least 32; 0 for the same file, where nothing
        is compared) and ``mirrored`` (the distance is then that to the mirrored hash). Every further copy of a file is
        paired with the first one only: a film's images are connected, not each paired with each.

    Places are cells of 16x16 pixels that hold a matching point, in copies of 448 pixels. A scaling, a turn and a shift,
    or a squeeze and a shift, must carry at least 0.77 of the matching points to within 2 pixels of where they belong.

    The limits were chosen on, and these counts are of, the same 1,411 images of three public sets (188 of the paper's,
    499 of DarkCovidNet, 724 of Cohen et al., the last two shrunk), so that other sets may do worse. All 278 pairs that
    have one name in two sets are found; 120 of them are DarkCovidNet's crops, made by hand, of Cohen's images, of which
    the hash alone finds 58. The 38 other pairs are each one film, too (looked at, or their names are known to be one
    film's). Pairs have 44 places or more. Compared outside the search, too: 4,371 pairs of children of one hospital,
    5,640 of such a child and a patient of Cohen's, 11,939 of different and 126 of the same patients of NIH: none is
    taken for one film. Nor are serial films of Cohen's patients (541 pairs); the nearest agree on 23 places, mostly in
    a burned-in score. Drawn phantoms are another matter: films of one phantom may lie over each other exactly.

    Of 40 copies squeezed to 224x224 pixels 39 agree, of 40 mirrored ones all. Not looked for: crops of mirrored copies.
    """
    firsts, same = _same_files(sha256)
    candidates = _near_hashes(hashes[firsts]), _near_hashes(hashes[firsts], _MIRROR_HASH)
    chosen = features if len(firsts) == len(hashes) else features.take(firsts)
    straight = _unique(np.concatenate([candidates[0], _voted(chosen)]), len(firsts))
    return _table(same, firsts, hashes, _confirmed(chosen, straight), _confirmed(chosen, candidates[1], mirrored=True))


def near_duplicates(paths: Sequence[str], hashes: NDArray[np.uint8], sha256: Sequence[str]) -> pd.DataFrame:
    """Finds the pairs of images that are one radiograph and not much cropped, reading only files whose hashes are near.

    It is what a training start can afford; crops are left to :func:`find_pairs`, whose result it gives. The paths are
    those of the n image files, in the order of the hashes.

    Raises:
        DataError: A file that was read before cannot be read again.
    """
    firsts, same = _same_files(sha256)
    straight, mirrored = _near_hashes(hashes[firsts]), _near_hashes(hashes[firsts], _MIRROR_HASH)
    rows, positions = np.unique(np.concatenate([straight, mirrored]), return_inverse=True)
    features = Features.empty(len(rows))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda row: features.find(row, read_image(paths[firsts[rows[row]]]).pixels), range(len(rows))))
    positions = positions.reshape(-1, 2)
    here = _confirmed(features, positions[: len(straight)])
    there = _confirmed(features, positions[len(straight) :], mirrored=True)
    return _table(same, firsts[rows], hashes, here, there)


def film_keys(sha256: Sequence[str], pairs: pd.DataFrame) -> list[str]:
    """Gives every image the key of its radiograph: images that pairs connect, also through others, share one.

    The key is the SHA-256 of the film's first image. An image that could not be read (no SHA-256) is a film of its own.
    """
    n = len(sha256)
    first, second = (pairs[column].to_numpy(dtype=np.intp) for column in ("first", "second"))
    _, films = connected_components(coo_array((np.ones(len(first)), (first, second)), shape=(n, n)), directed=False)
    keys: dict[int, str] = {}
    for row, film in enumerate(films):
        keys.setdefault(int(film), sha256[row] or f"unread {row}")
    return [keys[int(film)] for film in films]


def _same_files(sha256: Sequence[str]) -> tuple[Rows, Rows]:
    """The rows of the first copy of every file, and pairs (first copy, further copy)."""
    firsts: dict[str, int] = {}
    same = [(firsts.setdefault(key, row), row) for row, key in enumerate(sha256) if key]
    again = [(first, row) for first, row in same if first != row]
    return np.array(list(firsts.values()), dtype=np.intp), np.array(again, dtype=np.intp).reshape(-1, 2)


def _table(
    same: Rows, rows: Rows, hashes: NDArray[np.uint8], *confirmed: tuple[Rows, NDArray[np.int64]]
) -> pd.DataFrame:
    """The pairs of same files, and those that were confirmed among ``rows``, first as they are, then mirrored."""
    straight, mirrored = ((np.sort(rows[pairs]), inliers) for pairs, inliers in confirmed)
    kinds = ((same, 0, True, False), (*straight, False, False), (*mirrored, False, True))
    parts = []
    for pairs, inliers, same_file, is_mirrored in kinds:
        first, second = hashes[pairs[:, 0]], hashes[pairs[:, 1]] ^ (_MIRROR_HASH if is_mirrored else np.uint8(0))
        distance = np.bitwise_count(first ^ second).sum(axis=1, dtype=np.int64)
        values = (pairs[:, 0], pairs[:, 1], same_file, distance, inliers, is_mirrored)
        parts.append(pd.DataFrame(dict(zip(COLUMNS, values, strict=True)), columns=list(COLUMNS)))
    table = pd.concat(parts, ignore_index=True).astype({"same_file": bool, "mirrored": bool, "inliers": np.int64})
    table = table.drop_duplicates(["first", "second"])  # a symmetric picture is its own mirror image
    return table.sort_values(["first", "second"], ignore_index=True)


def _unique(pairs: Rows, n: int) -> Rows:
    """Pairs (i, j) of rows below n, each once and with i < j, in order."""
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    keys = np.unique((low * n + high)[low != high])
    return np.stack([keys // max(n, 1), keys % max(n, 1)], axis=1)


def _near_hashes(hashes: NDArray[np.uint8], mirror: NDArray[np.uint8] | None = None) -> Rows:
    """Pairs of rows whose hashes are near, of each row the nearest few; with ``mirror``, of one and a mirrored one."""
    n = len(hashes)
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    others = signs if mirror is None else np.unpackbits(hashes ^ mirror, axis=1).astype(np.float32) * 2 - 1
    found = [np.zeros((0, 2), np.intp)]
    for start in range(0, n, _BLOCK):
        distance = (signs.shape[1] - signs[start : start + _BLOCK] @ others.T) / 2
        own = np.arange(len(distance))
        distance[own, start + own] = np.inf
        near = distance <= NEAR
        for many in np.flatnonzero(near.sum(axis=1) > _NEIGHBOURS):
            near[many, np.argsort(distance[many], kind="stable")[_NEIGHBOURS:]] = False
        row, other = np.nonzero(near)
        found.append(np.stack([row + start, other], axis=1))
    return _unique(np.concatenate(found), n)


def _voted(features: Features) -> Rows:
    """Pairs of rows of which many descriptors fall into the same cells of several hash tables.

    The descriptors' main components are whitened and rotated at random; a cell is made of the signs and of the points'
    orientation. There are about as many cells as descriptors, whatever their number, so that work grows with it alone.
    """
    n = len(features.counts)
    filled = np.arange(POINTS) < features.counts[:, None]
    owner = np.nonzero(filled)[0].astype(np.int32)
    if len(owner) < 2:
        return np.zeros((0, 2), np.intp)
    bits = int(np.clip(np.ceil(np.log2(len(owner))) - 3, 16, 24))
    white = _whitened(features, filled)
    angles = features.points[filled][:, 2]
    generator = np.random.default_rng(0)
    ballots: list[NDArray[np.int64]] = []
    for _ in range(_TABLES):
        axes = np.linalg.qr(generator.standard_normal((white.shape[1], white.shape[1])))[0][:, :bits]
        codes = ((angles + generator.uniform(0, 360)) % 360 * (_SECTORS / 360)).astype(np.int64)
        for signs in np.packbits(white @ axes.astype(np.float32) > 0, axis=1).T:
            codes = codes * 256 + signs
        ballots += _pairs_within(codes, owner, n)
    cast = np.concatenate(ballots)
    cast.sort()  # in place: with 10,000 images there are some ten million
    starts = np.flatnonzero(np.diff(cast, prepend=-1))
    keys, votes = cast[starts], np.diff(starts, append=len(cast))
    enough = votes >= _VOTES
    pairs, votes = np.stack([keys // n, keys % n], axis=1)[enough], votes[enough]
    # Kept are those that have some of the most votes of one of their two images.
    rows = pairs.ravel()
    order = np.lexsort((-votes.repeat(2), rows))
    rank = np.empty(len(rows), np.intp)
    rank[order] = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
    return pairs[(rank.reshape(-1, 2) < _NEIGHBOURS).any(axis=1)]


def _whitened(features: Features, filled: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Main components of the descriptors' square roots (Arandjelović and Zisserman 2012), made equally large."""
    sampled = np.flatnonzero(features.counts)
    sampled = sampled[:: max(1, len(sampled) // 200)]
    sample = np.sqrt(features.descriptors[sampled][filled[sampled]].astype(np.float32))
    mean = sample.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov((sample - mean).T, bias=True))
    values, vectors = values[::-1][:_DIMENSIONS], vectors[:, ::-1][:, :_DIMENSIONS]
    scale = (vectors / np.sqrt(np.maximum(values, 1e-3))).astype(np.float32)
    ends = np.cumsum(features.counts)
    white = np.empty((ends[-1], scale.shape[1]), np.float32)
    for start in range(0, len(filled), _BLOCK):
        block = slice(start, start + _BLOCK)
        found = np.sqrt(features.descriptors[block][filled[block]].astype(np.float32)) - mean
        end = ends[block][-1]
        white[end - len(found) : end] = found @ scale
    return white


def _pairs_within(codes: NDArray[np.int64], owner: NDArray[np.int32], n: int) -> Iterator[NDArray[np.int64]]:
    """Keys ``i * n + j`` of the pairs of images with descriptors of one code, once for every pair of descriptors."""
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    lengths = np.diff(np.r_[starts, len(codes)])
    yield np.zeros(0, np.int64)
    for length in range(2, _BUCKET + 1):
        members = owner[order[starts[lengths == length, None] + np.arange(length)]]
        one, other = np.triu_indices(length, 1)
        low, high = members[:, one].ravel().astype(np.int64), members[:, other].ravel()  # order is stable: low <= high
        yield (low * n + high)[low != high]


def _confirmed(features: Features, pairs: Rows, mirrored: bool = False) -> tuple[Rows, NDArray[np.int64]]:
    """The pairs that agree on enough places, and on how many."""
    # Each of our threads would start others for its small matrix products, and wait for them.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        agree = pool.map(lambda pair: _agreement(features, pair[0], pair[1], mirrored), pairs.tolist())
        inliers = np.fromiter(agree, np.int64, len(pairs))
    kept = inliers >= ENOUGH
    return pairs[kept], inliers[kept]


def _agreement(features: Features, one: int, other: int, mirrored: bool) -> int:
    """On how many places two images agree, see :func:`find_pairs`."""
    points, others = (features.points[row, : features.counts[row], :2] for row in (one, other))
    descriptors, other_descriptors = (
        features.descriptors[row, : features.counts[row]].astype(np.float32) for row in (one, other)
    )
    if mirrored:
        others, other_descriptors = others * np.array([-1, 1], np.float32), other_descriptors[:, _MIRROR_DESCRIPTOR]
    matches = _matches(descriptors, other_descriptors)
    if len(matches) < ENOUGH:
        return 0
    points, others = points[matches[:, 0]], others[matches[:, 1]]
    ransac = (None, cv2.RANSAC, _TOLERANCE, 1000, 0.99)
    _, moved = cv2.estimateAffinePartial2D(points, others, *ransac)
    squeeze, squeezed = cv2.estimateAffine2D(points, others, *ransac)  # as where all images were made square
    upright = squeeze is not None and max(abs(squeeze[0, 1]), abs(squeeze[1, 0])) <= _TURN * abs(squeeze[:, :2]).max()
    places = 0
    for inside in (moved, squeezed if upright else None):
        if inside is not None and inside.mean() >= _SHARE:  # in how many cells matching points fall on each other
            fits = inside[:, 0] > 0
            places = max(places, min(len(np.unique(side[fits] // _CELL, axis=0)) for side in (points, others)))
    return places


def _matches(one: NDArray[np.float32], other: NDArray[np.float32]) -> Rows:
    """Pairs of descriptors that are each other's nearest, and clearly nearer than any second one from both sides."""
    if min(len(one), len(other)) < 2:
        return np.zeros((0, 2), np.intp)
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    there, back = squares.argmin(axis=1), squares.argmin(axis=0)
    rows = np.arange(len(one))
    best = squares[rows, there]
    across = np.partition(squares, 1, axis=1)[:, 1]
    along = np.partition(squares, 1, axis=0)[1][there]
    clear = (back[there] == rows) & (best < _RATIO**2 * np.minimum(across, along))
    return np.stack([rows[clear], there[clear]], axis=1)
