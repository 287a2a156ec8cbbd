"""What classifiers that never see a lung are given: what file headers and the edges of images say, as numbers.

Where such a classifier does well, the two classes differ in how their images were made, and a network's good result may
say no more than that. L. Maguolo and L. Nanni, Inf Fusion 2021;76:1-7, trained networks on radiographs with the centre
blackened; A. J. DeGrave, J. D. Janizek and S.-I. Lee, Nat Mach Intell 2021;3:610-619, found marks and edges at work.

Every input is a small table of numbers, for the classifier in :mod:`cxrlab.evaluation.cross_validation`; a cue is one
number that stands for one explanation.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cxrlab.evaluation.estimate import Bools, Floats, Ints
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
_TOP_HAT = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))  # 4 % of the width: what is finer counts as a mark


@dataclass(frozen=True)
class Input:
    """What a classifier is given.

    Attributes:
        name: A few words.
        sees: What it is, in words.
        lung_free: Whether a lung can have no part in it; otherwise a real disease may change it.
        strip: Whether the classifier is one threshold on the best of the columns, rather than a regression on all.
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

    Attributes:
        high: What images have where the number is high, in words.
        low: What they have where it is low.
        levels: Shape (n,), float64.
        witness: Where there is one, a number from elsewhere on the image, shape (n,): if it differs between the classes
            in the same direction, ``wider`` holds instead.
        wider: The explanations, high and low, for that case.
    """

    high: str
    low: str
    levels: Floats
    witness: Floats | None = None
    wider: tuple[str, str] = ("", "")


def features(grey: Images, facts: Facts) -> dict[str, Floats]:
    """Returns the numbers that each classifier is given; no label has a part in them.

    Args:
        grey: Shape (n, 256, 256), uint8: the grey copies.
        facts: Of each of :data:`FACTS` one value per image: ``format`` and ``mode`` text, the others numbers (width and
            height in pixels, bits per channel, bytes of the file, JPEG quality 1 to 100 or 0 where there is none).

    Returns:
        For each of :data:`INPUTS` an array of shape (n, columns), float64; ``strip`` has a column for each of
        :data:`SIDES`.

    Raises:
        ValueError: If the shape or type of ``grey`` is wrong, or a fact is missing or not as long.
    """
    header = _checked_facts(grey, facts)
    width, height, size = (header[name].astype(np.float64) for name in ("width", "height", "bytes"))
    sizes = np.column_stack([width, height, width / height, commonness(width, height)])
    depths = np.column_stack([header["bits"], header["jpeg_quality"]]).astype(np.float64)
    pixels: dict[str, list[Any]] = {name: [] for name in ("corners", "strip", "border", "frame", "wide_frame")}
    pixels |= {"grey": [], "thumbnail": []}
    for image in grey:
        for name, values in _seen(image).items():
            pixels[name].append(values)
    return {
        "size": sizes,
        "header": np.column_stack([sizes, depths, _one_hot(header["format"]), _one_hot(header["mode"])]),
        "bytes": np.column_stack([size, 8 * size / (width * height)]),
        **{name: np.stack(rows).astype(np.float64) for name, rows in pixels.items()},
    }


def commonness(width: Floats, height: Floats) -> Floats:
    """Returns which share of the images has exactly the size of each, shape (n,), in (0, 1].

    A collection that was resized to one size is told from others by it, whichever size that is.
    """
    _, which, count = np.unique(np.column_stack([width, height]), axis=0, return_inverse=True, return_counts=True)
    return np.asarray(count[which.ravel()] / width.size)


def edge_cues(grey: Images) -> list[Cue]:
    """Returns the explanations that the edges of images offer, each free of the others.

    A mark is fine bright detail (a white top-hat of 4 % of the width) within a corner; the frame is the outermost 1.5 %
    against what lies just inside it; a side is held against the other three. What remains is the darkest level of the
    edges, which a black border moves or a shift of the whole image (the darkest level of the middle is then its
    witness). So a shift of all grey levels is no mark, a frame is no shift, and so on.

    Args:
        grey: Shape (n, 256, 256), uint8, n at least 1.
    """
    rows = [_edge_numbers(image) for image in grey]
    levels = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}
    marks = [
        Cue(f"a mark in the {corner} corner", f"less fine detail in the {corner} corner", levels[corner])
        for corner in CORNERS
    ]
    sides = [
        Cue(f"a {side} edge brighter than the others", f"a {side} edge darker than the others", levels[side])
        for side in SIDES
    ]
    frame = Cue("a bright frame", "a dark frame", levels["frame"])
    names = ("overall brightness (lighter images)", "overall brightness (darker images)")
    floor = Cue("edges less black", "edges more black", levels["floor"], levels["middle"], names)
    return [*marks, frame, *sides, floor]


def header_cues(facts: Facts) -> list[Cue]:
    """Returns the explanations that file headers offer.

    Args:
        facts: See :func:`features`.
    """
    width, height, bits, quality = (
        np.asarray(facts[name], dtype=np.float64) for name in ("width", "height", "bits", "jpeg_quality")
    )
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
    for what in ("format", "mode"):
        values = np.asarray(facts[what]).astype(str)
        words = "file format" if what == "format" else "colour mode"
        cues += [Cue(f"{words} {value}", f"{words} other than {value}", _is(values, value)) for value in _kinds(values)]
    return cues


def rank_cues(cues: Sequence[Cue], labels: npt.ArrayLike) -> list[tuple[str, float]]:
    """Orders explanations by how well their number alone tells the classes apart; nothing is fitted.

    Args:
        cues: Of n images.
        labels: Shape (n,): 0 Negative, 1 Positive; both must occur.

    Returns:
        What Positive images have more often than Negative ones, and its AUROC, at least 0.5; the best first, and of
        equals the one that stands first.
    """
    y = np.asarray(labels).astype(bool)
    found = []
    for cue in cues:
        auroc = _auroc(y, cue.levels)
        high, low = cue.high, cue.low
        if cue.witness is not None and (_auroc(y, cue.witness) - 0.5) * np.sign(auroc - 0.5) >= WITNESS:
            high, low = cue.wider
        found.append((high, auroc) if auroc >= 0.5 else (low, 1 - auroc))
    return sorted(found, key=lambda pair: -pair[1])


def _auroc(y: Bools, levels: Floats) -> float:
    return float(weighted_auroc(y, levels, np.ones((1, y.size)))[0])


def _checked_facts(grey: Images, facts: Facts) -> dict[str, npt.NDArray[Any]]:
    if grey.dtype != np.uint8 or grey.ndim != 3 or grey.shape[1:] != (SIDE, SIDE) or not grey.size:
        raise ValueError(f"grey must be uint8 of shape (n, {SIDE}, {SIDE}), got {grey.dtype} of shape {grey.shape}")
    header = {name: np.asarray(facts[name]) for name in FACTS if name in facts}
    wrong = [name for name in FACTS if name not in header or header[name].shape != (len(grey),)]
    if wrong:
        raise ValueError(f"facts must hold {wrong[0]} of each of the {len(grey)} images")
    return header


def _kinds(values: npt.NDArray[Any]) -> list[str]:
    return [str(value) for value in np.unique(values.astype(str))]


def _is(values: npt.NDArray[Any], value: str) -> Floats:
    return np.asarray(values.astype(str) == value, dtype=np.float64)


def _one_hot(values: npt.NDArray[Any]) -> Floats:
    return np.column_stack([_is(values, value) for value in _kinds(values)])


def _seen(image: Images) -> dict[str, npt.NDArray[Any] | list[float]]:
    """What each input that looks at pixels sees of one image."""
    strips = [float(strip.mean()) for strip in _outer(image, 0, EDGE)]
    edge = np.bincount(image[_ring(EDGE)], minlength=256)
    whole = np.bincount(image.ravel(), minlength=256)
    small = np.asarray(cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA))
    return {
        "corners": [float(image[corner].mean()) for corner in _corners(0, CORNER)],
        "strip": strips,
        "border": [*strips, _spread(edge), _level(edge, 0.01), _share(edge, 0, BLACK)],
        "frame": _framed(image, EDGE),
        "wide_frame": _framed(image, WIDE),
        "grey": [
            whole @ np.arange(256) / whole.sum(),
            _spread(whole),
            *(_level(whole, share) for share in (0.05, 0.5, 0.95)),
            _share(whole, 0, BLACK),
            _share(whole, WHITE, 255),
        ],
        "thumbnail": small.ravel(),
    }


def _edge_numbers(image: Images) -> dict[str, float]:
    """The numbers of :func:`edge_cues` of one image."""
    numbers = {}
    for name, corner in zip(CORNERS, _corners(*_MARK), strict=True):
        detail = cv2.morphologyEx(np.ascontiguousarray(image[corner]), cv2.MORPH_TOPHAT, _TOP_HAT)
        numbers[name] = float(np.percentile(detail, 95))
    rim = np.array([strip.mean() for strip in _outer(image, 0, _RIM)])
    inside = np.array([strip.mean() for strip in _outer(image, _FRAME, EDGE)])
    numbers["frame"] = float(np.median(rim - inside))  # of four: the mean of the middle two, so not of one side alone
    for name, level in zip(SIDES, inside, strict=True):
        numbers[name] = float(level - (inside.sum() - level) / 3)
    numbers["floor"] = _level(np.bincount(image[_ring(EDGE, _FRAME)], minlength=256), 0.01)
    middle = image[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4]
    numbers["middle"] = _level(np.bincount(middle.ravel(), minlength=256), 0.05)
    return numbers


def _outer(image: Images, start: int, end: int) -> list[Images]:
    """The strips from ``start`` to ``end`` pixels away from each of the :data:`SIDES`."""
    far = slice(SIDE - end, SIDE - start)
    near = slice(start, end)
    return [image[:, near], image[:, far], image[near], image[far]]


def _corners(start: int, end: int) -> list[tuple[slice, slice]]:
    """The squares from ``start`` to ``end`` pixels away from both sides, in the order of :data:`CORNERS`."""
    ends = slice(start, end), slice(SIDE - end, SIDE - start)
    return [(rows, columns) for rows in ends for columns in ends]


@functools.cache
def _ring(width: int, start: int = 0) -> Bools:
    """Which pixels are less than ``width``, and at least ``start``, pixels away from the border."""
    away = np.minimum(np.arange(SIDE), np.arange(SIDE)[::-1])
    distance = np.minimum(away[:, None], away)
    return np.asarray((distance >= start) & (distance < width))


def _framed(image: Images, width: int) -> npt.NDArray[Any]:
    """The image with all but a frame made black, as 32x32 pixels in one row."""
    framed = np.where(_ring(width), image, np.uint8(0))
    return np.asarray(cv2.resize(framed, (FRAME_SIDE, FRAME_SIDE), interpolation=cv2.INTER_AREA)).ravel()


def _spread(histogram: Ints) -> float:
    """The standard deviation of the grey levels of a histogram, shape (256,)."""
    levels, total = np.arange(256), histogram.sum()
    mean = histogram @ levels / total
    return float(np.sqrt(histogram @ (levels - mean) ** 2 / total))


def _level(histogram: Ints, share: float) -> float:
    """The lowest grey level that at least this share of the pixels does not exceed."""
    return float(np.searchsorted(np.cumsum(histogram), share * histogram.sum()))


def _share(histogram: Ints, low: int, high: int) -> float:
    """The share of the pixels from one grey level to another, both included."""
    return float(histogram[low : high + 1].sum() / histogram.sum())
