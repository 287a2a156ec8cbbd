"""Versions of images with something taken away or added: what a classifier still gets right tells what it looks at.

The protocol is that of L. Maguolo and L. Nanni, Inf Fusion 2021;76:1-7, who turned the centre of chest radiographs
black, trained again, and lost next to nothing. Every alteration is applied to every image of every class alike and
looks at no label; those that need lungs get predicted masks: real ones exist almost only for images of one class.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlab.datamodules.cues import CUES, plant_shortcut
from cxrlab.errors import did_you_mean

Images = NDArray[np.uint8]
Masks = NDArray[np.bool_]

REMOVED, KEPT, DETAIL, EDIT = "lungs removed", "lungs kept", "detail removed", "edit"
"""The groups: what is left of the lungs, or an edit that should change no decision."""

MARGIN = 0.03
"""Share of the image's side by which lungs are widened before they are turned black: their rim tells their shape."""


class _Kind(NamedTuple):
    """What a name means."""

    group: str
    words: str  # a phrase for people; ``{}`` stands for the number
    limits: tuple[int, int] | None = None  # of the number, in whole units; ``None`` where the kind has no number
    on_lungs: bool = False  # of an edit: whether it reaches the lungs' own pixels


_KINDS = {
    "none": _Kind(KEPT, "intact"),
    "centre_black": _Kind(REMOVED, "central {} % of each side black", (1, 99)),
    "frame_black": _Kind(KEPT, "all but the central {} % of each side black", (1, 99)),
    "lungs_only": _Kind(KEPT, "all but the lungs black"),
    "background_only": _Kind(REMOVED, "lungs black"),
    "lungs_box_black": _Kind(REMOVED, "rectangle around the lungs black"),
    "shuffle": _Kind(DETAIL, "{0} x {0} patches in another order", (2, 64)),
    "blur": _Kind(DETAIL, "blurred, sigma {} % of the side", (1, 50)),
    "tiny": _Kind(DETAIL, "{0} x {0} pixels left", (1, 512)),
    "histogram": _Kind(DETAIL, "grey levels matched between images"),
    "marker": _Kind(EDIT, "a letter in the upper left corner"),
    "border": _Kind(EDIT, "a bright frame"),
    "brightness": _Kind(EDIT, "30 grey levels brighter", on_lungs=True),
}

BATTERY = (
    *("none", "centre_black_60", "centre_black_70", "centre_black_80", "centre_black_90"),
    *("background_only", "lungs_box_black", "lungs_only", "frame_black_80"),
    *("shuffle_4", "blur_4", "tiny_8", "histogram", "marker", "border", "brightness"),
)
"""What a model is tried on unless other names are given."""


@dataclass(frozen=True)
class Alteration:
    """One way of changing images; :meth:`parse` makes it of its name.

    Attributes:
        name: As typed: ``centre_black_60``.
        kind: The name without its number.
        amount: The number; 0 where the kind has none.
    """

    name: str
    kind: str
    amount: int = 0

    @classmethod
    def parse(cls, name: str) -> Alteration:
        """Reads a name.

        Raises:
            ValueError: There is no such alteration, or its number is absent, too many or out of range.
        """
        found = re.fullmatch(r"([a-z_]+?)(?:_(\d{1,4}))?", name) if isinstance(name, str) else None
        if found is None or found[1] not in _KINDS:
            listed = ", ".join(f"{kind}_N" if it.limits else kind for kind, it in _KINDS.items())
            raise ValueError(f"alter must be one of {listed}, got {name!r}{did_you_mean(str(name), BATTERY)}")
        kind, limits = found[1], _KINDS[found[1]].limits
        if limits is None and found[2]:
            raise ValueError(f"alter: {kind} takes no number, got {name!r}")
        if limits is not None and not (found[2] and limits[0] <= int(found[2]) <= limits[1]):
            raise ValueError(f"alter: {kind} needs a number from {limits[0]} to {limits[1]}, as {kind}_8, got {name!r}")
        return cls(name, kind, int(found[2] or 0))

    @property
    def group(self) -> str:
        """``lungs removed``, ``lungs kept``, ``detail removed`` or ``edit``."""
        return _KINDS[self.kind].group

    @property
    def words(self) -> str:
        """What it does, for people."""
        return _KINDS[self.kind].words.format(self.amount)

    @property
    def on_lungs(self) -> bool:
        """Of an edit: whether it reaches the lungs' own pixels."""
        return _KINDS[self.kind].on_lungs

    @property
    def needs_lungs(self) -> bool:
        """Whether :meth:`apply` wants lung masks."""
        return "lungs" in self.kind or self.kind == "background_only"

    def apply(self, images: Images, lungs: Masks | None = None) -> Images:
        """Returns altered copies.

        Args:
            images: Shape (n, height, width, channels), uint8; not changed. What one image becomes depends on the
                others only under ``histogram`` (their mean) and, for the order of patches, on its place under
                ``shuffle``.
            lungs: Predicted masks, shape (n, height, width); needed where :attr:`needs_lungs`. An image in which no
                lung was found is black under ``lungs_only`` and intact under ``background_only``.

        Returns:
            The same shape, uint8.

        Raises:
            ValueError: Masks are needed and absent, or of another shape.
        """
        if self.needs_lungs and (lungs is None or lungs.shape != images.shape[:3]):
            there = "none" if lungs is None else f"masks of shape {lungs.shape}"
            raise ValueError(f"{self.name} needs lung masks of shape {images.shape[:3]}, got {there}")
        if self.kind == "none" or not len(images):
            return images.copy()
        if self.kind in CUES:
            channels = np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3])
            planted = [plant_shortcut(np.ascontiguousarray(channel), self.kind) for channel in channels]
            return np.moveaxis(np.reshape(planted, (len(images), -1, *images.shape[1:3])), 1, -1)
        if self.kind == "histogram":
            return _matched(images)
        if self.kind == "shuffle":
            return np.stack([_shuffled(image, self.amount, place) for place, image in enumerate(images)])
        if self.kind == "blur":
            sigma = self.amount / 100 * min(images.shape[1:3])
            return _each(images, lambda image: cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))
        if self.kind == "tiny":
            return _each(images, lambda image: _tiny(image, self.amount))
        return np.where(self._black(images, lungs)[..., None], np.uint8(0), images)

    def _black(self, images: Images, lungs: Masks | None) -> Masks:
        """Which pixels turn black, shape (n, height, width) or (1, height, width)."""
        if lungs is None or not self.needs_lungs:
            height, width = images.shape[1:3]
            share = self.amount / 100
            rows, columns = round(height * share), round(width * share)
            top, left = (height - rows) // 2, (width - columns) // 2
            centre = np.zeros((1, height, width), np.bool_)
            centre[:, top : top + rows, left : left + columns] = True
            return centre if self.kind == "centre_black" else ~centre
        if self.kind == "lungs_only":
            return ~lungs
        reach = max(1, round(MARGIN * min(lungs.shape[1:])))
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        black = np.stack([np.asarray(cv2.dilate(mask.astype(np.uint8), element), np.bool_) for mask in lungs])
        if self.kind == "lungs_box_black":  # the smallest upright rectangle; empty around an empty mask
            for mask in black:
                down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
                if len(down):
                    mask[down[0] : down[-1] + 1, across[0] : across[-1] + 1] = True
        return black


def _each(images: Images, change: Callable[[Images], Any]) -> Images:
    """Changes one image after the other; OpenCV drops the axis of a single channel."""
    return np.stack([np.asarray(change(image), np.uint8).reshape(image.shape) for image in images])


def _tiny(image: Images, side: int) -> Images:
    height, width = image.shape[:2]
    small = cv2.resize(image, (min(side, width), min(side, height)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _shuffled(image: Images, pieces: int, place: int) -> Images:
    """Cuts an image into equal pieces and deals them out; what the division leaves at right and bottom stays."""
    height, width = image.shape[0] // pieces, image.shape[1] // pieces
    shuffled = image.copy()
    order = np.random.default_rng(np.random.SeedSequence([pieces, place])).permutation(pieces**2)
    for to, source in enumerate(order.tolist()):
        (row, column), (from_row, from_column) = divmod(to, pieces), divmod(source, pieces)
        shuffled[row * height : (row + 1) * height, column * width : (column + 1) * width] = image[
            from_row * height : (from_row + 1) * height, from_column * width : (from_column + 1) * width
        ]
    return shuffled


def _matched(images: Images) -> Images:
    """Gives all images one distribution of grey levels, the mean of their quantiles."""
    counts = np.stack([np.bincount(image.ravel(), minlength=256) for image in images])
    ranks = (np.cumsum(counts, axis=1) - counts / 2) / counts.sum(axis=1, keepdims=True)  # of a level's middle pixel
    levels = np.arange(256)
    shares = (levels + 0.5) / 256
    mean = np.mean([np.interp(shares, rank, levels) for rank in ranks], axis=0)
    tables = [np.rint(np.interp(rank, shares, mean)).astype(np.uint8) for rank in ranks]
    return np.stack([table[image] for table, image in zip(tables, images, strict=True)])
