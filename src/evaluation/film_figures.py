"""Figures that show films: many small ones on a sheet, and what the films of a class have in common."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from cxrlab.evaluation.figures import CLASSES, DPI

_GROUND = 60  # grey level around films: neither the black of a border nor the white of a bone
_MARGIN = 3  # pixels around every tile


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
    rows = -(-len(images) // columns)
    sheet = np.full((rows * tile, columns * tile, 3), _GROUND, np.uint8)
    for number, image in enumerate(images):
        fitted = _fitted(image, tile - 2 * _MARGIN)
        height, width = fitted.shape[:2]
        top, left = number // columns * tile + _MARGIN, number % columns * tile + _MARGIN
        top, left = top + (tile - 2 * _MARGIN - height) // 2, left + (tile - 2 * _MARGIN - width) // 2
        sheet[top : top + height, left : left + width] = fitted
    figure = Figure(figsize=(sheet.shape[1] / DPI, sheet.shape[0] / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.imshow(sheet, interpolation="none", extent=(0, sheet.shape[1], sheet.shape[0], 0))
    box = {"facecolor": "black", "edgecolor": "none", "pad": 2.5}
    for number, mark in enumerate(marks):
        x, y = number % columns * tile + 2 * _MARGIN, number // columns * tile + 2 * _MARGIN
        axes.text(x, y, mark, color="white", fontsize=12, va="top", ha="left", bbox=box, parse_math=False)
    return figure


def class_means(
    negative: npt.NDArray[np.float64], positive: npt.NDArray[np.float64], counts: tuple[int, int]
) -> Figure:
    """Draws the mean image of each class and the difference Positive minus Negative.

    Args:
        negative: Shape (height, width), grey levels in [0, 255].
        positive: Likewise.
        counts: Images behind the mean of Negative and of Positive.

    Raises:
        ValueError: If the shapes are not equal or not two-dimensional.
    """
    if negative.ndim != 2 or negative.shape != positive.shape:
        raise ValueError(f"negative and positive must have one shape, got {negative.shape} and {positive.shape}")
    figure = Figure(figsize=(6.4, 2.75), dpi=DPI, layout="constrained")
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


def _fitted(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """The image as RGB with its longer side at so many pixels."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(
            f"images must be uint8 of shape (height, width) or (height, width, 1 or 3), got {image.dtype} of shape "
            f"{image.shape}"
        )
    scale = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if resized.ndim == 2:
        resized = np.stack([resized] * 3, axis=2)
    return np.asarray(resized, np.uint8)
