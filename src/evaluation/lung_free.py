"""Inputs of classifiers that never see a lung: what file headers and the edges of images say, as numbers.

Where such a classifier does well, the two classes differ in how their images were made, and a network's good result may
say no more than that. L. Maguolo and L. Nanni, Inf Fusion 2021;76:1-7, trained networks on radiographs with the centre
blackened; A. J. DeGrave, J. D. Janizek and S.-I. Lee, Nat Mach Intell 2021;3:610-619, found marks and edges at work.

Every input is a small table of numbers, for the classifier in :mod:`cxrlab.evaluation.cross_validation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cxrlab.evaluation.estimate import Floats, Ints
from cxrlab.evaluation.statistics import weighted_auroc

Images = npt.NDArray[np.uint8]
Facts = Mapping[str, npt.ArrayLike]

SIDE = 256
"""Height and width in pixels of the grey copies."""
EDGE = 12
"""Pixels of 256 (5 %) of the strips and of the narrow frame.

On 3,760 phantoms one in a million of these pixels is lung. On real films cut close to the chest more are: 1.2 %, by the
machine-made masks that come with the collection of J. P. Cohen et al. (198 films).
"""
WIDE = 38
"""Pixels of 256 (15 %) of the wide frame: the central 70 % of either side are black. Lung does reach into it."""
CORNER = 24
"""Pixels of 256 (9 %) of either side of a corner: by the same masks no lung at the top, 2 to 3 % at the bottom."""
FRAME_SIDE = 32
THUMBNAIL = 8
BLACK, WHITE = 5, 250
"""Grey levels up to which a pixel counts as black, and from which as white."""

CORNERS = ("top left", "top right", "bottom left", "bottom right")
SIDES = ("left", "right", "top", "bottom")

FACTS = ("format", "mode", "width", "height", "bits", "bytes", "jpeg_quality")
"""What of a file's header is looked at."""
WITNESS = 0.1
"""From which distance of its AUROC from 0.5 a witness agrees."""

_RIM = 4  # pixels of 256: where a frame is looked for
_FRAME = 7  # pixels that no frame is thought to be wider than
_MARK = 6, 40  # pixels from both sides between which a corner's marks are looked for
_AWAY = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1])
_BORDER = np.minimum(_AWAY[:, None], _AWAY)  # pixels from each pixel to the border
_TOP_HAT = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))  # 4 % of the width: what is finer counts as a mark


@dataclass(frozen=True)
class Input:
    """What a classifier is given, and what it sees of an image, in words.

    A lung can have no part in what is ``lung_free``; otherwise a real disease may change it. For ``strip`` see
    :func:`cxrlab.evaluation.cross_validation.scored`.
    """

    name: str
    sees: str
    lung_free: bool
    strip: bool = False


INPUTS = {
    "size": Input("image size", "width, height, their ratio, and how many images have exactly this size", True),
    "header": Input("file header", "size, file format, colour mode, bit depth, JPEG quality", True),
    "bytes": Input("file size", "bytes, and bits per pixel; what is on an image changes both", False),
    "corners": Input("corners", "mean grey level of each corner, 9 % of either side", True),
    "strip": Input("best strip", "mean grey level of the outer 5 % of one side, one threshold", True, strip=True),
    "border": Input("border", "the outer 5 %: mean of each side, spread, darkest level, share of black", True),
    "frame": Input("narrow frame", "the outer 5 %, all else black, as 32x32 pixels", True),
    "wide_frame": Input("wide frame", "the outer 15 % (central 70 % black), as 32x32 pixels", False),
    "grey": Input("grey levels", "mean, spread, percentiles, share of black and white of the whole image", False),
    "thumbnail": Input("8x8 thumbnail", "the whole image as 8x8 grey pixels", False),
}
"""The inputs, from the file's header to the whole image."""


@dataclass(frozen=True)
class Cue:
    """One number per image that stands for one explanation.

    ``high`` and ``low`` say what images have where their ``levels``, shape (n,), are high or low. A ``witness``, shape
    (n,), is a number from elsewhere on the image: where it differs between the classes in the same direction, ``wider``
    holds instead of high and low.
    """

    high: str
    low: str
    levels: Floats
    witness: Floats | None = None
    wider: tuple[str, str] = ("", "")


def features(grey: Images, facts: Facts) -> dict[str, Floats]:
    """Returns for each of :data:`INPUTS` the numbers that its classifier is given, shape (n, columns).

    Grey copies have shape (n, 256, 256), uint8. Facts hold one value per image for each of :data:`FACTS`: ``format``
    and ``mode`` are texts, the others numbers (width and height in pixels, bits per channel, bytes of the file, JPEG
    quality 1 to 100 or 0 where there is none). ``strip`` has a column for each of :data:`SIDES`.
    """
    if grey.dtype != np.uint8 or grey.ndim != 3 or grey.shape[1:] != (SIDE, SIDE) or not grey.size:
        raise ValueError(f"grey must be uint8 of shape (n, {SIDE}, {SIDE}), got {grey.dtype} of shape {grey.shape}")
    for name in FACTS:
        if name not in facts or np.shape(facts[name]) != (len(grey),):
            raise ValueError(f"facts must hold {name} of each of the {len(grey)} images")
    width, height, size, bits, quality = _numbers(facts, "width", "height", "bytes", "bits", "jpeg_quality")
    sizes = np.column_stack([width, height, width / height, commonness(width, height)])
    texts = [np.asarray(facts[name]).astype(str) for name in ("format", "mode")]
    kinds = [values[:, None] == np.unique(values) for values in texts]  # one column for each value
    rows: list[dict[str, Any]] = []
    for image in grey:
        edge, whole = (np.bincount(pixels, minlength=256) for pixels in (image[_BORDER < EDGE], image.ravel()))
        strips, black = _strips(image, 0, EDGE), slice(BLACK + 1)
        percentiles = [_level(whole, share) for share in (0.05, 0.5, 0.95)]
        shares = [whole[black].sum() / whole.sum(), whole[WHITE:].sum() / whole.sum()]
        seen = {
            "corners": [image[corner].mean() for corner in _corners(0, CORNER)],
            "strip": strips,
            "border": [*strips, _mean_and_spread(edge)[1], _level(edge, 0.01), edge[black].sum() / edge.sum()],
            # All but a frame is made black.
            "frame": _small(np.where(_BORDER < EDGE, image, np.uint8(0)), FRAME_SIDE),
            "wide_frame": _small(np.where(_BORDER < WIDE, image, np.uint8(0)), FRAME_SIDE),
            "grey": [*_mean_and_spread(whole), *percentiles, *shares],
            "thumbnail": _small(image, THUMBNAIL),
        }
        rows.append(seen)
    return {
        "size": sizes,
        "header": np.column_stack([sizes, bits, quality, *kinds]),
        "bytes": np.column_stack([size, 8 * size / (width * height)]),
        **{name: np.stack([row[name] for row in rows]).astype(np.float64) for name in rows[0]},
    }


def commonness(width: Floats, height: Floats) -> Floats:
    """Returns which share of the images has exactly the size of each: it tells a resized collection from others."""
    _, which, count = np.unique(np.column_stack([width, height]), axis=0, return_inverse=True, return_counts=True)
    return np.asarray(count[which.ravel()] / width.size)


def edge_cues(grey: Images) -> list[Cue]:
    """Returns the explanations that the edges of grey copies offer, each free of the others.

    A mark is fine bright detail (a white top-hat of 4 % of the width) within a corner; the frame is the outermost 1.5 %
    against what lies just inside it; a side is held against the other three. What remains is the darkest level of the
    edges, which a black border moves or a shift of the whole image (the darkest level of the middle is then its
    witness). So a shift of all grey levels is no mark, a frame is no shift, and so on.
    """
    rows = []
    for image in grey:
        details = [cv2.morphologyEx(image[corner].copy(), cv2.MORPH_TOPHAT, _TOP_HAT) for corner in _corners(*_MARK)]
        inside = _strips(image, _FRAME, EDGE)
        frame = np.median(_strips(image, 0, _RIM) - inside)  # the mean of the middle two, so not of one side alone
        sides = inside - (inside.sum() - inside) / 3
        floor = _level(np.bincount(image[(_BORDER >= _FRAME) & (_BORDER < EDGE)], minlength=256), 0.01)
        darkest = _level(np.bincount(image[_BORDER >= SIDE // 4], minlength=256), 0.05)
        rows.append([*(np.percentile(detail, 95) for detail in details), frame, *sides, floor, darkest])
    names = [(f"a mark in the {corner} corner", f"less fine detail in the {corner} corner") for corner in CORNERS]
    names += [("a bright frame", "a dark frame")]
    names += [(f"a {side} edge brighter than the others", f"a {side} edge darker than the others") for side in SIDES]
    *levels, floor_levels, witness = np.array(rows, np.float64).T
    wider = ("overall brightness (lighter images)", "overall brightness (darker images)")
    return [
        *(Cue(high, low, own) for (high, low), own in zip(names, levels, strict=True)),
        Cue("edges less black", "edges more black", floor_levels, witness, wider),
    ]


def header_cues(facts: Facts) -> list[Cue]:
    """Returns the explanations that file headers offer; ``facts`` as of :func:`features`."""
    width, height, bits, quality = _numbers(facts, "width", "height", "bits", "jpeg_quality")
    common = commonness(width, height)
    most = int(np.argmax(common))
    commonest = f"{width[most]:.0f} x {height[most]:.0f}"
    cues = [
        Cue("larger images", "smaller images", width * height),
        Cue("wider images", "narrower images", width / height),
        Cue(f"the size {commonest}", f"another size than {commonest}", common),
        Cue("a greater bit depth", "a smaller bit depth", bits),
    ]
    if (quality > 0).all():
        cues.append(Cue("a higher JPEG quality", "a lower JPEG quality", quality))
    for what, words in (("format", "file format"), ("mode", "colour mode")):
        values = np.asarray(facts[what]).astype(str)
        cues += [
            Cue(f"{words} {value}", f"{words} other than {value}", (values == value).astype(np.float64))
            for value in np.unique(values)
        ]
    return cues


def rank_cues(cues: Sequence[Cue], labels: npt.ArrayLike) -> list[tuple[str, float]]:
    """Orders explanations by how well their number alone tells the classes apart; nothing is fitted.

    Returns what Positive images have more often than Negative ones, and its AUROC, at least 0.5; the best first, and of
    equals the one that stands first. Both labels must occur.
    """
    y = np.asarray(labels).astype(bool)

    def auroc_of(levels: Floats) -> float:
        return float(weighted_auroc(y, levels, np.ones((1, y.size)))[0])

    found = []
    for cue in cues:
        auroc = auroc_of(cue.levels)
        high, low = cue.high, cue.low
        if cue.witness is not None and (auroc_of(cue.witness) - 0.5) * np.sign(auroc - 0.5) >= WITNESS:
            high, low = cue.wider
        found.append((high, auroc) if auroc >= 0.5 else (low, 1 - auroc))
    return sorted(found, key=lambda pair: -pair[1])


def _numbers(facts: Facts, *names: str) -> list[Floats]:
    return [np.asarray(facts[name], dtype=np.float64) for name in names]


def _strips(image: Images, start: int, end: int) -> Floats:
    """The mean of the strip from ``start`` to ``end`` pixels away from each of the :data:`SIDES`."""
    near, far = slice(start, end), slice(SIDE - end, SIDE - start)
    return np.array([strip.mean() for strip in (image[:, near], image[:, far], image[near], image[far])])


def _corners(start: int, end: int) -> list[tuple[slice, slice]]:
    """The squares from ``start`` to ``end`` pixels away from both sides, in the order of :data:`CORNERS`."""
    ends = slice(start, end), slice(SIDE - end, SIDE - start)
    return [(rows, columns) for rows in ends for columns in ends]


def _small(image: Images, side: int) -> npt.NDArray[Any]:
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)).ravel()


def _mean_and_spread(histogram: Ints) -> tuple[float, float]:
    """Mean and standard deviation of the grey levels of a histogram, shape (256,)."""
    levels, total = np.arange(256), histogram.sum()
    mean = histogram @ levels / total
    return mean, float(np.sqrt(histogram @ (levels - mean) ** 2 / total))


def _level(histogram: Ints, share: float) -> float:
    """The lowest grey level that at least this share of the pixels does not exceed."""
    return float(np.searchsorted(np.cumsum(histogram), share * histogram.sum()))
