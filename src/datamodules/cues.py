"""Cues that have nothing to do with disease: planted in phantoms, and on real films to see whether a model minds."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlab.errors import check_choice

CUES = ("marker", "border", "brightness")


def plant_shortcut(image: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """Adds a cue that has nothing to do with disease; it never reaches the middle of the film.

    Args:
        image: Film, uint8 of shape (height, width); left unchanged.
        kind: ``marker`` (a bright letter in the upper left corner), ``border`` (a bright frame, 2.5% of the width) or
            ``brightness`` (every pixel 30 grey levels up, ending at 255).

    Returns:
        A new image of the same shape and type.

    Raises:
        ValueError: For an unknown kind.
    """
    check_choice("kind", kind, CUES)
    if kind == "brightness":
        return np.asarray(cv2.add(image, np.full_like(image, 30)), np.uint8)
    marked = image.copy()
    height, width = image.shape
    if kind == "border":
        strip = max(1, round(0.025 * width))
        marked[:strip], marked[-strip:], marked[:, :strip], marked[:, -strip:] = (250,) * 4
    else:
        strokes = np.array([[0.05, 0.13], [0.05, 0.04], [0.10, 0.04], [0.10, 0.085], [0.05, 0.085], [0.10, 0.13]])
        corners = np.rint(strokes * (width, height)).astype(np.int32)
        cv2.polylines(marked, [corners], False, 255, max(1, round(0.015 * width)), cv2.LINE_AA)
    return marked
