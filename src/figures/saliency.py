"""Figures of saliency maps and of what they were measured to be; every function returns a figure nothing else holds."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import Bools, Floats
from cxrlab.evaluation.saliency import Curves, Images, Maps
from cxrlab.figures.canvas import BLUE, GREY, ORANGE, blank, framed, resized, rgb, tidy

_TILE = 240  # pixels along the longer side of an image in a figure
_INCHES = 1.75  # the same on the page
_CONTOUR = (86, 180, 233)  # RGB, Okabe and Ito's sky blue: to be seen on grey and on the map's orange
_OPACITY = 0.65  # of the map where it is largest


def coloured(heat: Maps) -> npt.NDArray[np.float64]:
    """A map (H, W), at least 0, in colour, relative to its largest value: RGBA in [0, 1], (H, W, 4), clear at 0."""
    share = heat / heat.max() if heat.max() > 0 else heat
    layer = mpl.colormaps["inferno"](share)
    layer[..., 3] = share
    return np.asarray(layer)


def overlay(image: Images, heat: Maps, lungs: Bools | None = None) -> Images:
    """One image with its map in colour on it, and the lungs' outline.

    The image has shape (H, W, 1 or 3), uint8, the map shape (H, W), at least 0; it is shown relative to its largest
    value. The lungs have shape (H, W), or are ``None`` for no outline.

    Returns:
        Shape (h, w, 3), uint8, the longer side 240 pixels.
    """
    base = resized(rgb(image), _TILE).astype(np.float32)
    share = heat / heat.max() if heat.max() > 0 else heat
    share = np.clip(resized(share.astype(np.float32), _TILE), 0, 1)[..., None]
    colours = mpl.colormaps["inferno"](share[..., 0])[..., :3] * 255
    mixed = np.ascontiguousarray((base * (1 - _OPACITY * share) + colours * _OPACITY * share).round().astype(np.uint8))
    if lungs is not None:
        mask = (resized(lungs.astype(np.float32), _TILE) > 0.5).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(mixed, outlines, -1, _CONTOUR, 1, cv2.LINE_AA)
    return mixed


def overlays(images: Images, maps: Maps, lungs: Bools | None, captions: Sequence[str], title: str) -> Figure:
    """Draws images, at most four side by side, and below each the same with its map on it.

    They are as of :func:`overlay` with a first axis of length n, at least 1; line breaks of the n captions are kept.

    Raises:
        ValueError: The numbers of images, maps and captions differ, or there is none.
    """
    check_range("number of images", len(images), 1, integer=True)
    if not len(images) == len(maps) == len(captions):
        raise ValueError(f"{len(images)} images want as many maps and captions, got {len(maps)} and {len(captions)}")
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    height = _INCHES * images.shape[1] / max(images.shape[1:3])
    text = 0.2 + 0.15 * max(caption.count("\n") + 1 for caption in captions)
    figure = blank(1.85 * columns, rows * (2 * height + text + 0.1) + 0.5)
    figure.suptitle(title, fontsize=10, parse_math=False, wrap=True)
    grid = figure.add_gridspec(2 * rows, columns, height_ratios=[height + text, height] * rows)
    for number, (image, heat, caption) in enumerate(zip(images, maps, captions, strict=True)):
        row, column = divmod(number, columns)
        above, below = (figure.add_subplot(grid[2 * row + offset, column]) for offset in (0, 1))
        above.imshow(resized(rgb(image), _TILE))
        below.imshow(overlay(image, heat, None if lungs is None else lungs[number]))
        above.set_title(caption, fontsize=7.5, parse_math=False)
        for axes in (above, below):
            axes.set_axis_off()
            axes.set_anchor("N" if axes is below else "S")
    return figure


def inside_against_area(inside: Floats, area: Floats, positive: Bools, title: str) -> Figure:
    """Draws each image's share of saliency inside the lungs against the lungs' share of its area.

    All have shape (n,), the shares in [0, 1]; where the share inside is NaN the image is left out. ``positive`` says
    whether an image was called Positive.
    """
    known = ~np.isnan(inside)
    figure, axes = framed(f"{title} (n = {int(known.sum())})", 4.6, 4.4)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.2, label="chance: an even map")
    groups = ((positive, "called Positive", ORANGE, "o"), (~positive, "called Negative", BLUE, "^"))
    for of, name, colour, marker in groups:
        rows = known & of
        label = f"{name} ({int(rows.sum())})"
        axes.plot(area[rows], inside[rows], marker, color=colour, alpha=0.75, mew=0, ms=6, label=label, clip_on=False)
    axes.set(xlabel="lungs' share of the image", ylabel="share of saliency inside the lungs")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="best", frameon=False, fontsize=8)
    tidy(axes, grid=None)
    return figure


def deletion_and_insertion(deleted: Curves, inserted: Curves, title: str) -> Figure:
    """Draws the mean score while pixels go and come, by the maps and at random; n is added to the title."""
    figure = blank(7.4, 3.4)
    figure.suptitle(f"{title} (n = {len(deleted.by_map)})", fontsize=11, parse_math=False)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, found, name in (
        (left, deleted, "deletion (blackened): lower is better"),
        (right, inserted, "insertion (into a blur): higher is better"),
    ):
        for scores, area, label, colour, style in (
            (found.by_map, found.area_by_map, "most salient first", ORANGE, "-"),
            (found.by_chance, found.area_by_chance, "random tiles", GREY, "--"),
        ):
            text, mean = f"{label}: area {area.mean():.3f}", scores.mean(axis=0)
            axes.plot(found.fraction, mean, color=colour, linestyle=style, linewidth=2, label=text, clip_on=False)
        axes.set_title(name, fontsize=9)
        axes.set(xlabel="share of pixels", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="best", frameon=False, fontsize=8)
        tidy(axes, grid=None)
    left.set_ylabel("mean score of Positive")
    return figure
