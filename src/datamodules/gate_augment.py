"""The same picture as another department might have stored it: what a gate is trained with."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlab.datamodules.gate_drawings import write

Grey = NDArray[np.uint8]

TURNS = {"turned_90": 3, "turned_180": 2, "turned_270": 1}
"""Quarter turns counter-clockwise, as :func:`numpy.rot90` counts them, that make each kind of a frontal film."""
_MARKS = ("L", "R", "AP", "PA", "SUPINE", "PORTABLE", "ERECT", "12:45", "A", "4")


def altered(image: NDArray[np.uint8], kind: str) -> NDArray[np.uint8]:
    """A frontal film inverted or turned, or any other picture as it is.

    Args:
        image: Shape (height, width) or (height, width, 3), uint8.
        kind: ``inverted``, one of :data:`TURNS`, or any other.
    """
    if kind == "inverted":
        return 255 - image
    return np.ascontiguousarray(np.rot90(image, TURNS[kind])) if kind in TURNS else image


def augmented(grey: Grey, kind: str, rng: np.random.Generator) -> Grey:
    """Another picture of the same kind.

    Mirrored half of the time (before it is turned: a mirrored film cannot be told from another reliably); then, as
    :func:`altered`; turned by up to 15 degrees, each side scaled by 0.8 to 1.25 and cut by up to 12 % at either end;
    gamma 0.55 to 1.8, window, local contrast; bars and frames, letters, blur, noise, and what JPEG leaves.

    Args:
        grey: Shape (height, width), uint8, a thumbnail the right way up.
        kind: What it is to become.
        rng: Of this picture.

    Returns:
        Another shape, uint8.
    """
    if rng.random() < 0.5:
        grey = np.ascontiguousarray(grey[:, ::-1])
    if rng.random() < 0.2:  # collimator blades or a slide's frame; part of the film, so before it is turned or inverted
        grey = _with_bars(grey, 0, rng)
    if rng.random() < 0.35:
        grey = _with_marks(grey, rng)
    grey = altered(grey, kind)
    grey = _cut(_tilted(grey, rng), rng)
    grey = _developed(grey, rng)
    if rng.random() < 0.12:  # on a screen or a slide, with something written beside it
        grey = _framed(grey, rng)
        grey = _with_marks(grey, rng) if rng.random() < 0.5 else grey
    if rng.random() < 0.15:
        grey = _with_bars(grey, _ground(rng), rng)
    return _stored(grey, rng)


def _tilted(grey: Grey, rng: np.random.Generator) -> Grey:
    height, width = grey.shape
    angle = np.deg2rad(rng.uniform(-15, 15) if rng.random() < 0.6 else 0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * rng.uniform(0.8, 1.25, 2)
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = middle - turn @ middle + rng.uniform(-0.06, 0.06, 2) * (width, height)
    matrix = np.column_stack([turn, shift])
    if rng.random() < 0.5:
        return np.asarray(cv2.warpAffine(grey, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    rim = int(grey[0, 0]) if rng.random() < 1 / 3 else 0
    return np.asarray(cv2.warpAffine(grey, matrix, (width, height), borderValue=rim), np.uint8)


def _cut(grey: Grey, rng: np.random.Generator) -> Grey:
    height, width = grey.shape
    most = 0.12 if rng.random() < 0.7 else 0.0
    top, bottom = (rng.uniform(0, most, 2) * height).astype(int)
    left, right = (rng.uniform(0, most, 2) * width).astype(int)
    return np.ascontiguousarray(grey[top : height - bottom, left : width - right])


def _developed(grey: Grey, rng: np.random.Generator) -> Grey:
    """Another curve from exposure to grey level."""
    if rng.random() < 0.15:
        clahe = cv2.createCLAHE(float(rng.uniform(1, 4)), (4, 4))
        grey = np.asarray(clahe.apply(grey) if rng.random() < 0.7 else cv2.equalizeHist(grey), np.uint8)
    levels = np.arange(256) / 255
    levels = levels ** np.exp(rng.uniform(-0.6, 0.6))
    if rng.random() < 0.35:  # a narrow window: what lies outside is black or white
        low, high = np.percentile(grey, [rng.uniform(0, 12), rng.uniform(85, 100)]) / 255
        levels = (levels - low) / max(float(high - low), 0.1)
    levels = np.clip(levels, 0, 1) * rng.uniform(0.5, 1) + rng.uniform(-0.1, 0.2)
    table = np.asarray(np.clip(levels, 0, 1) * 255, np.uint8)
    return np.asarray(table[grey], np.uint8)


def _ground(rng: np.random.Generator) -> int:
    """A shade for what is beside a film: black half of the time, white, or anything."""
    shades = (0, 0, 255, int(rng.integers(256)))
    return shades[int(rng.integers(len(shades)))]


def _with_bars(grey: Grey, shade: int, rng: np.random.Generator) -> Grey:
    """Bars of up to 15 % on the sides, one shade."""
    height, width = grey.shape
    framed = grey.copy()
    top, bottom = (rng.uniform(-0.08, 0.15, 2).clip(0) * height).astype(int)
    left, right = (rng.uniform(-0.08, 0.15, 2).clip(0) * width).astype(int)
    framed[:top], framed[height - bottom :], framed[:, :left], framed[:, width - right :] = shade, shade, shade, shade
    return framed


def _framed(grey: Grey, rng: np.random.Generator) -> Grey:
    """On a ground of one shade, up to 30 % wider on every side."""
    height, width = grey.shape
    top, bottom = (int(each) for each in rng.uniform(0, 0.3, 2) * height)
    left, right = (int(each) for each in rng.uniform(0, 0.3, 2) * width)
    shade = _ground(rng)
    framed = cv2.copyMakeBorder(grey, top, bottom, left, right, cv2.BORDER_CONSTANT, value=shade)
    return np.asarray(framed, np.uint8)


def _with_marks(grey: Grey, rng: np.random.Generator) -> Grey:
    """Letters near the edges, and now and then an arrow."""
    marked: Any = grey.copy()
    height, width = grey.shape
    for _ in range(int(rng.integers(1, 4))):
        ink = int(rng.choice([255, 255, 230, 0]))
        x = int(rng.choice([rng.uniform(0, 0.12), rng.uniform(0.75, 0.95)]) * width)
        place = x, int(rng.uniform(0.06, 0.98) * height)
        if rng.random() < 0.8:
            write(marked, str(rng.choice(_MARKS)), place, ink, rng, float(rng.uniform(0.25, 0.6)))
        else:
            end = int(rng.uniform(0.2, 0.8) * width), int(rng.uniform(0.2, 0.8) * height)
            start = end[0] + int(rng.integers(-20, 21)), end[1] + int(rng.integers(-20, 21))
            cv2.arrowedLine(marked, start, end, ink, 1, cv2.LINE_AA, tipLength=0.4)
    return np.asarray(marked, np.uint8)


def _stored(grey: Grey, rng: np.random.Generator) -> Grey:
    """Blurred, noisy, small, and compressed, each now and then."""
    if rng.random() < 0.3:
        grey = np.asarray(cv2.GaussianBlur(grey, (0, 0), rng.uniform(0.4, 1.6)), np.uint8)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(1, 10), grey.shape)
        grey = np.asarray(np.clip(grey + noise, 0, 255), np.uint8)
    if rng.random() < 0.3:
        code = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 90))])[1]
        grey = np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.uint8)
    return grey
