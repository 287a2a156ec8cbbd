"""Letters that stand in an image: words of the console, captions of a journal, letters of lead on the cassette.

A letter is a small patch of one grey level that is much lighter or darker than what is around it, and letters stand in
rows. Ribs, wires and the edges of a collimator are long, and noise stands in no row. A single letter is not looked for:
nearly every film has one that tells left from right.

Measured by eye, one reader, every image that was flagged: in the paper's 188 images 35 of 35 hold letters (27 in
training and 8 in test, all Positive: as many as an earlier reading by eye counted with words), in DarkCovidNet's set at
half its size (499 images) 81 of 84; the others are a necklace, a clip, and vessels. How many of that set's images with
letters are missed was not counted. No text is read: what is found is a suspect.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

SIDES = (768, 384)
"""Pixels of the longer side at which letters are looked for: small ones, then large ones."""
LEAST = 3
"""Letters in a row from which on they are a suspect."""
_CONTRASTS = (40, 110)  # grey levels against the surroundings: the lower one joins letters on bright ground
_STROKE = 9  # pixels, odd: strokes of letters are narrower
_HEIGHTS = (7, 40)  # pixels, of a letter
_FILLS = (0.15, 0.95)  # share of its box that a letter covers
_FLAT = 0.7  # share of a letter's pixels that lie within _INK of their median
_INK = 40  # grey levels
_GAP = 1.2  # heights from one letter to the next
_RATIO = 1.6  # heights of two letters of a row


@dataclass(frozen=True)
class _Glyph:
    """A patch that may be a letter: its box in pixels, whether it is lighter than its surroundings, its grey level."""

    x: int
    y: int
    width: int
    height: int
    light: bool
    ink: float


def text_boxes(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Finds rows of at least three patches that look like letters, in an image of shape (height, width), uint8.

    Returns x, y, width and height of each row in pixels, shape (rows, 4), the widest first. One row of letters may be
    found twice.
    """
    if grey.ndim != 2 or grey.dtype != np.uint8 or not grey.size:
        raise ValueError(f"grey must be uint8 of shape (height, width), got {grey.dtype} of shape {grey.shape}")
    boxes = []
    for side in SIDES:
        scale = side / max(grey.shape)
        size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
        resized = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        for contrast in _CONTRASTS:
            for row in _rows(_glyphs(np.asarray(resized, np.uint8), contrast)):
                x, y = min(glyph.x for glyph in row), min(glyph.y for glyph in row)
                right = max(glyph.x + glyph.width for glyph in row)
                bottom = max(glyph.y + glyph.height for glyph in row)
                boxes.append(np.array([x, y, right - x, bottom - y]) / scale)
    boxes.sort(key=lambda box: -box[2])
    return np.asarray(np.round(np.reshape(boxes, (-1, 4))), np.int64)


def _glyphs(image: npt.NDArray[np.uint8], contrast: int) -> list[_Glyph]:
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (_STROKE, _STROKE))
    found = []
    for light, operation in ((True, cv2.MORPH_TOPHAT), (False, cv2.MORPH_BLACKHAT)):
        mask = (cv2.morphologyEx(image, operation, kernel) > contrast).astype(np.uint8)
        _, patches, measures, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        # Which patches have a letter's size and shape; the first is the background.
        widths, heights, areas = np.asarray(measures).T[2:].astype(float)
        fills = areas / (widths * heights)
        like = (heights >= _HEIGHTS[0]) & (heights <= _HEIGHTS[1]) & (widths <= 2.2 * heights)
        like &= (heights <= 12 * widths) & (fills >= _FILLS[0]) & (fills <= _FILLS[1])
        for number in np.flatnonzero(like[1:]) + 1:
            x, y, width, height = (int(value) for value in measures[number][:4])
            place = np.s_[y : y + height, x : x + width]
            ink = image[place][patches[place] == number].astype(int)
            level = float(np.median(ink))
            if np.mean(np.abs(ink - level) <= _INK) >= _FLAT:
                found.append(_Glyph(x, y, width, height, light, level))
    return found


def _rows(glyphs: list[_Glyph]) -> list[list[_Glyph]]:
    """Chains letters from left to right, each beginning with the leftmost one that is left."""
    left = sorted(glyphs, key=lambda glyph: (glyph.x, glyph.y))
    rows = []
    used: set[int] = set()
    for start, first in enumerate(left):
        if start in used:
            continue
        chain = [start]
        for number in range(start + 1, len(left)):
            last = left[chain[-1]]
            if left[number].x - last.x > last.width + _GAP * _RATIO * last.height:
                break  # no letter after this one is near enough
            if number not in used and _follows(last, left[number], first):
                chain.append(number)
        if len(chain) >= LEAST:
            used.update(chain)
            rows.append([left[number] for number in chain])
    return rows


def _follows(last: _Glyph, after: _Glyph, first: _Glyph) -> bool:
    """Whether a letter continues a row: near, of like size, on one line, in the same ink."""
    taller = max(last.height, after.height)
    near = last.x + last.width / 2 <= after.x <= last.x + last.width + _GAP * taller
    alike = taller <= _RATIO * min(last.height, after.height)
    tops, feet = abs(after.y - last.y), abs(after.y + after.height - last.y - last.height)
    same_ink = after.light == first.light and abs(after.ink - first.ink) <= _INK
    return near and alike and min(tops, feet) <= 0.3 * taller and same_ink
