"""Figures that show images: in a grid, on a sheet, before and after, and their means."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxrlab.figures.canvas import CLASSES, DPI, blank, resized, rgb

_SHOWN = 512  # pixels; larger originals are made smaller before they are drawn, which matplotlib does slowly
_GROUND = 60  # grey level around films: neither the black of a border nor the white of a bone
_MARGIN = 3  # pixels around every tile


def image_grid(images: npt.NDArray[np.uint8], captions: Sequence[str]) -> Figure:
    """Draws images in rows of at most four, each under its caption, which is wrapped; its own line breaks are kept.

    Images have shape (n, height, width, channels), uint8, channels 1 (grey) or 3 (RGB), n at least 1.

    Raises:
        ValueError: If shape, dtype or the number of captions is wrong.
    """
    _check("images", images, captions)
    wrapped = [_wrapped(caption) for caption in captions]
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    height = _image_height(images) + _caption_height(wrapped)
    figure = blank(1.9 * columns, height * rows)
    for position, (image, caption) in enumerate(zip(images, wrapped, strict=True), start=1):
        _show(figure.add_subplot(rows, columns, position), image, caption)
    return figure


def before_after(
    originals: Sequence[npt.NDArray[np.uint8]], processed: npt.NDArray[np.uint8], captions: Sequence[str], title: str
) -> Figure:
    """Draws images as their files have them and, below each, as the network sees it; at most four side by side.

    Args:
        originals: n images of shape (any height, any width, channels), uint8, drawn with their own aspect ratio.
        processed: Shape (n, height, width, channels), uint8, channels 1 (grey) or 3 (RGB), n at least 1.
        captions: n short texts; the size of the original is added.
        title: Title; long ones are wrapped.

    Raises:
        ValueError: If a shape, a dtype or the number of originals or captions is wrong.
    """
    _check("processed", processed, captions)
    if len(originals) != len(processed):
        raise ValueError(f"originals must be as many as processed, got {len(originals)} for {len(processed)}")
    for original in originals:
        _check("originals", original[None])
    wrapped = [
        _wrapped(f"{caption}\n{original.shape[1]} x {original.shape[0]}")
        for caption, original in zip(captions, originals, strict=True)
    ]
    columns = min(4, len(originals))
    lines = [originals[start : start + columns] for start in range(0, len(originals), columns)]
    heights = []
    for line in lines:
        heights += [_image_height(line) + _caption_height(wrapped), _image_height(processed) + _caption_height([""])]
    heading = textwrap.fill(title, 22 * columns)
    height = sum(heights) + 0.2 + 0.2 * (heading.count("\n") + 1)
    figure = blank(1.9 * columns + 0.3, height)
    figure.suptitle(heading, fontsize=11, parse_math=False)
    grid = figure.add_gridspec(2 * len(lines), columns, height_ratios=heights)
    size = f"{processed.shape[2]} x {processed.shape[1]}"
    for number, (original, image, caption) in enumerate(zip(originals, processed, wrapped, strict=True)):
        pair, column = divmod(number, columns)
        above, below = (figure.add_subplot(grid[2 * pair + row, column]) for row in (0, 1))
        _show(above, resized(original, _SHOWN, enlarge=False), caption)
        _show(below, image, size)
        if not column:
            for axes, name in ((above, "in the file"), (below, "what the network sees")):
                axes.text(-0.06, 0.5, name, rotation=90, ha="right", va="center", fontsize=9, transform=axes.transAxes)
    return figure


def contact_sheet(
    images: Sequence[npt.NDArray[np.uint8]], marks: Sequence[str], *, columns: int = 4, tile: int = 180
) -> Figure:
    """Draws images in rows, each fitted into a square with its aspect kept, with a short mark in its corner.

    Args:
        images: n images of shape (any height, any width), or with 1 or 3 (RGB) channels as a third axis, uint8, n at
            least 1.
        marks: n short texts, for example numbers that a caption explains.
        columns: Images side by side, at most.
        tile: Pixels that an image takes in either direction.

    Raises:
        ValueError: If there is no image, a shape or dtype is wrong, or there is not one mark for each.
    """
    if not len(images):
        raise ValueError("images must hold at least one image, got none")
    if len(marks) != len(images):
        raise ValueError(f"marks must hold one text per image, got {len(marks)} for {len(images)} images")
    columns = min(columns, len(images))
    sheet = np.full((-(-len(images) // columns) * tile, columns * tile, 3), _GROUND, np.uint8)
    figure = Figure(figsize=(sheet.shape[1] / DPI, sheet.shape[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    style: dict[str, Any] = {"color": "white", "fontsize": 12, "va": "top", "ha": "left", "parse_math": False}
    style["bbox"] = {"facecolor": "black", "edgecolor": "none", "pad": 2.5}
    for number, (image, mark) in enumerate(zip(images, marks, strict=True)):
        if image.dtype != np.uint8 or image.shape[2:] not in ((), (1,), (3,)):
            shape = "(height, width) or (height, width, 1 or 3)"
            raise ValueError(f"images must be uint8 of shape {shape}, got {image.dtype} of shape {image.shape}")
        fitted = rgb(resized(image, tile - 2 * _MARGIN))
        height, width = fitted.shape[:2]
        row, column = divmod(number, columns)
        top, left = row * tile + (tile - height) // 2, column * tile + (tile - width) // 2
        sheet[top : top + height, left : left + width] = fitted
        axes.text(column * tile + 2 * _MARGIN, row * tile + 2 * _MARGIN, mark, **style)
    axes.imshow(sheet, interpolation="none", extent=(0, sheet.shape[1], sheet.shape[0], 0))
    return figure


def class_means(
    negative: npt.NDArray[np.float64], positive: npt.NDArray[np.float64], counts: tuple[int, int]
) -> Figure:
    """Draws the mean image of each class and the difference Positive minus Negative.

    Both have shape (height, width), grey levels in [0, 255]; ``counts`` are the images behind either.

    Raises:
        ValueError: If the shapes are not equal or not two-dimensional.
    """
    if negative.ndim != 2 or negative.shape != positive.shape:
        raise ValueError(f"negative and positive must have one shape, got {negative.shape} and {positive.shape}")
    figure = blank(5.2, 2.3)
    first, second, third = figure.subplots(1, 3)
    for axes, image, name, count in zip((first, second), (negative, positive), CLASSES, counts, strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{name} (n = {count})", fontsize=11)
    difference = positive - negative
    reach = max(1.0, float(np.abs(difference).max()))
    shown = third.imshow(difference, cmap="PuOr_r", vmin=-reach, vmax=reach)
    third.set_title("difference", fontsize=11)
    bar = figure.colorbar(shown, ax=third, location="bottom", fraction=0.06, pad=0.03, label="grey levels")
    bar.ax.tick_params(labelsize=9)
    for axes in (first, second, third):
        axes.set_anchor("N")
        axes.set_axis_off()
    return figure


def _check(name: str, images: npt.NDArray[np.uint8], captions: Sequence[str] | None = None) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
        shape = "(n, height, width, 1 or 3) with n at least 1"
        raise ValueError(f"{name} must be uint8 of shape {shape}, got {images.dtype} of shape {images.shape}")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"captions must hold one text per image, got {len(captions)} for {len(images)} images")


def _wrapped(caption: str) -> str:
    return "\n".join(textwrap.fill(line, 26) for line in caption.split("\n"))


def _caption_height(captions: Sequence[str]) -> float:
    """Inches that the longest of wrapped captions takes, with the space around it."""
    return 0.15 + 0.145 * max(caption.count("\n") + 1 for caption in captions)


def _image_height(images: Iterable[npt.NDArray[np.uint8]]) -> float:
    """Inches for a row of images 1.83 wide; very high ones are drawn smaller instead."""
    return float(1.83 * min(1.4, max(image.shape[0] / image.shape[1] for image in images)))


def _show(axes: Axes, image: npt.NDArray[np.uint8], caption: str) -> None:
    axes.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    axes.set_title(caption, fontsize=8, parse_math=False)
    axes.set_anchor("N")  # images of different shape hang from one line, and the layout knows where captions are
    axes.set_axis_off()
