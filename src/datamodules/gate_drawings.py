"""Pictures that are no films, drawn by a program: pages, plots, screens, noise, gradients and patterns."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_PLAIN)
_LETTERS = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:-"))


def draw_document(rng: np.random.Generator) -> Image:
    """A page of text, a table, a plot, a curve on a grid, or a screen with windows.

    Args:
        rng: Of this picture.

    Returns:
        Shape (height, width, 3), uint8, grey, sides of 160 to 420 pixels.
    """
    height, width = rng.integers(160, 420, 2)
    paper, ink = int(rng.integers(190, 256)), int(rng.integers(0, 90))
    if rng.random() < 0.35:  # a dark screen
        paper, ink = 255 - paper, 255 - ink
    page = np.full((height, width), paper, np.uint8)
    kinds = (_text, _table, _plot, _curve, _screen)
    kinds[int(rng.integers(len(kinds)))](page, ink, rng)
    return np.repeat(page[..., None], 3, axis=2)


def draw_pattern(rng: np.random.Generator) -> Image:
    """Noise of any coarseness, a gradient, stripes, or shapes thrown at random; never a chest.

    Args:
        rng: Of this picture.

    Returns:
        Shape (height, width, 3), uint8, grey, sides of 128 to 256 pixels.
    """
    height, width = (int(each) for each in rng.integers(128, 257, 2))
    kinds = (_noise, _cloud, _gradient, _stripes, _shapes)
    grey = kinds[int(rng.integers(len(kinds)))](height, width, rng)
    low, high = float(grey.min()), float(grey.max())
    black, span = rng.uniform(0, 90), rng.uniform(90, 165)
    scaled = (grey - low) / max(high - low, 1e-6) * span + black
    return np.repeat(np.asarray(np.clip(scaled, 0, 255), np.uint8)[..., None], 3, axis=2)


def write(page: Any, words: str, place: tuple[int, int], ink: int, rng: np.random.Generator, scale: float) -> None:
    """Puts words into an image in one of four type faces."""
    font = _FONTS[int(rng.integers(len(_FONTS)))]
    cv2.putText(page, words, place, font, scale, ink, int(rng.integers(1, 3)), cv2.LINE_AA)


def _word(rng: np.random.Generator) -> str:
    return "".join(rng.choice(_LETTERS, int(rng.integers(1, 10))))


def _text(page: Any, ink: int, rng: np.random.Generator) -> None:
    height, width = page.shape
    scale = rng.uniform(0.25, 0.9)
    step = max(8, int(34 * scale))
    margin = int(rng.uniform(0.02, 0.15) * width)
    for line in range(margin + step, height - margin, step):
        if rng.random() < 0.12:
            continue
        words = " ".join(_word(rng) for _ in range(12))
        write(page, words, (margin, line), ink, rng, scale)
        page[line - step : line + step // 2, width - margin :] = page[0, 0]
        if rng.random() < 0.2:
            page[line - step : line + step // 2, int(rng.uniform(0.3, 0.9) * width) :] = page[0, 0]


def _table(page: Any, ink: int, rng: np.random.Generator) -> None:
    height, width = page.shape
    down, across = int(rng.integers(16, 40)), int(rng.integers(40, 110))
    for line in range(down, height, down):
        cv2.line(page, (0, line), (width, line), ink, 1)
        for column in range(4, width, across):
            write(page, _word(rng)[: across // 12], (column, line - 4), ink, rng, rng.uniform(0.3, 0.5))
    for column in range(0, width, across):
        cv2.line(page, (column, 0), (column, height), ink, 1)


def _plot(page: Any, ink: int, rng: np.random.Generator) -> None:
    height, width = page.shape
    left, bottom = int(0.12 * width), int(0.88 * height)
    cv2.line(page, (left, bottom), (width - 8, bottom), ink, 1)
    cv2.line(page, (left, 8), (left, bottom), ink, 1)
    shade = int(rng.integers(60, 200))
    if rng.random() < 0.5:
        for column in np.linspace(left + 6, width - 30, int(rng.integers(3, 12))):
            top = int(rng.uniform(12, bottom))
            wide = int(rng.integers(5, 26))
            cv2.rectangle(page, (int(column), top), (int(column) + wide, bottom), shade, -1)
    else:
        places = np.stack([rng.uniform(left, width - 8, 60), rng.uniform(8, bottom, 60)], axis=1)
        for x, y in places.astype(int):
            cv2.circle(page, (int(x), int(y)), int(rng.integers(1, 6)), shade, -1, cv2.LINE_AA)
    write(page, _word(rng), (left, height - 6), ink, rng, 0.4)


def _curve(page: Any, ink: int, rng: np.random.Generator) -> None:
    """Traces on a grid, as of an electrocardiogram."""
    height, width = page.shape
    grid = (int(page[0, 0]) * 3 + ink) // 4
    for place in range(0, max(height, width), int(rng.integers(10, 26))):
        cv2.line(page, (place, 0), (place, height), grid, 1)
        cv2.line(page, (0, place), (width, place), grid, 1)
    for row in np.linspace(0.15, 0.85, int(rng.integers(1, 6))):
        beat = np.sin(np.arange(width) * rng.uniform(0.05, 0.4)) ** int(rng.integers(1, 16))
        y = row * height - beat * rng.uniform(5, 35) + rng.normal(0, 1, width)
        points = np.stack([np.arange(width), y], axis=1).astype(np.int32)
        cv2.polylines(page, [points], False, ink, 1, cv2.LINE_AA)


def _screen(page: Any, ink: int, rng: np.random.Generator) -> None:
    height, width = page.shape
    for _ in range(int(rng.integers(3, 9))):
        x, y = int(rng.uniform(0, 0.7) * width), int(rng.uniform(0, 0.7) * height)
        right, below = x + int(rng.uniform(0.2, 0.7) * width), y + int(rng.uniform(0.15, 0.6) * height)
        shade = int(rng.integers(0, 256))
        cv2.rectangle(page, (x, y), (right, below), shade, -1)
        cv2.rectangle(page, (x, y), (right, y + 12), ink, -1)
        for line in range(y + 26, min(below, height), 14):
            write(page, _word(rng), (x + 4, line), 255 - shade, rng, 0.35)


def _noise(height: int, width: int, rng: np.random.Generator) -> Any:
    noise = rng.normal(size=(height, width))
    spread = rng.uniform(0, 3)
    return cv2.GaussianBlur(noise, (0, 0), spread) if spread > 0.4 else noise


def _cloud(height: int, width: int, rng: np.random.Generator) -> Any:
    """Noise whose power falls with a power of the frequency, as that of natural scenes does."""
    spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    spectrum /= frequency ** rng.uniform(0.7, 2.2)
    spectrum[0, 0] = 0
    return np.fft.irfft2(spectrum, (height, width))


def _gradient(height: int, width: int, rng: np.random.Generator) -> Any:
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        plane = np.abs(np.cos(angle) * x + np.sin(angle) * y)
    else:
        plane = np.hypot(x - rng.uniform(0, 1), (y - rng.uniform(0, 1)) * rng.uniform(0.5, 2))
    return plane ** rng.uniform(0.5, 2) * rng.choice([-1, 1]) if rng.random() < 0.5 else plane


def _stripes(height: int, width: int, rng: np.random.Generator) -> Any:
    y, x = np.mgrid[0:height, 0:width]
    angle, pace = rng.uniform(0, np.pi), rng.uniform(0.05, 0.6)
    waves = np.sin(pace * (np.cos(angle) * x + np.sin(angle) * y))
    if rng.random() < 0.5:
        waves = waves * np.sin(pace * rng.uniform(0.5, 2) * (np.cos(angle) * y - np.sin(angle) * x))
    return np.sign(waves) if rng.random() < 0.4 else waves


def _shapes(height: int, width: int, rng: np.random.Generator) -> Any:
    """Ellipses, boxes and lines, some of them blurred: parts of pictures without their order."""
    canvas = np.full((height, width), float(rng.uniform(0, 255)))
    for _ in range(int(rng.integers(1, 14))):
        middle = int(rng.uniform(0, width)), int(rng.uniform(0, height))
        sides = int(rng.uniform(4, 0.4 * width)), int(rng.uniform(4, 0.4 * height))
        shade, turn = float(rng.uniform(0, 255)), float(rng.uniform(0, 180))
        if rng.random() < 0.6:
            cv2.ellipse(canvas, middle, sides, turn, 0, 360, shade, -1)
        else:
            corner = middle[0] + sides[0], middle[1] + sides[1]
            cv2.rectangle(canvas, middle, corner, shade, int(rng.choice([-1, 2, 5])))
    spread = rng.uniform(0, 9)
    return cv2.GaussianBlur(canvas, (0, 0), spread) if spread > 0.5 else canvas
