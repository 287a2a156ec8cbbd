"""Chest phantoms: frontal radiographs drawn from random numbers, each with an exact lung mask.

A drawing is a sum of layers of attenuation (soft tissue, air, bone, blood), as on a film: what absorbs more is
brighter. Shapes are written in body coordinates, where the image spans -1 to 1 both ways, x grows to the right of the
image (the patient's left) and y grows downwards. A pose carries them onto the pixels, so one patient may be filmed
many times and at any size. No files and no labels: :mod:`cxrlab.datamodules.sources.synthetic` adds those.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from cxrlab.errors import check_choice

Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]
Shape = tuple[Floats, float]  # outline (n, 2) in body coordinates, level in [0, 1]

DISEASES = ("lines", "consolidation")

_COARSE = 64  # soft layers are drawn this many pixels wide and enlarged: a wide blur then costs the same at any size
_SUBPIXEL_BITS = 6  # outlines are handed to OpenCV in 1/64 pixel, so that small films keep their slender ribs
_FINE = 1 / 256  # film widths, the blur of a fine line; on a film so small that this is less than
_FINEST = 0.7  # pixels, it is that: nothing finer can be seen
_BROADER = 5  # times: the lines of a healthy lung
_LENGTH = 6  # times: how much longer than high a fine line is; rounder specks would look like letters to the audit
_CONTRAST = 0.2  # attenuation, standard deviation of the lines over the lungs
_RIGHT, _LEFT = -1.0, 1.0  # the patient's right lung is on the left of the image


@dataclass(frozen=True)
class Lesion:
    """One blurred consolidation."""

    side: float  # -1 for the patient's right lung, 1 for the left
    along: float  # height in the lung, 0 (apex) to 1 (costophrenic angle)
    across: float  # depth in the lung, 0 (mediastinum) to 1 (chest wall)
    radius: float  # standard deviation of the blob, in body units
    density: float  # attenuation at the centre, 0 to 1

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Lesion:
        """Draws a lesion, mostly peripheral and in the lower zones."""
        side = _RIGHT if rng.random() < 0.5 else _LEFT
        return cls(side, rng.beta(4.0, 2.5), rng.beta(4.0, 2.0), rng.uniform(0.08, 0.20), rng.uniform(0.4, 1.0))


@dataclass(frozen=True)
class Anatomy:
    """What stays the same on every film of one patient; lengths in body units (half image widths)."""

    width: float  # half width of the rib cage at its widest
    apex: float  # y of the lung tops
    angle: float  # y of the costophrenic angles
    domes: tuple[float, float]  # rise of the right and the left diaphragm above the angle
    medial: float  # x of the medial lung edge
    heart: tuple[float, float, float, float, float]  # x and y of its centre, half length, half breadth, tilt in radians
    knob: float  # radius of the aortic knob
    thickness: float  # attenuation of the trunk, relative to an average patient
    aeration: float  # how dark the lungs are, likewise
    bone: float  # how bright the bones are, likewise
    breast: float  # attenuation of the breast shadows, 0 for none
    ribs: tuple[float, float, float]  # y of the first at the spine, distance between them, drop from back to front
    girth: float  # distance from rib cage to skin
    shoulder: float  # y of the shoulder's highest point
    bubble: float  # radius of the stomach bubble, 0 for none
    texture: int  # seed of the vessels and of the mottling of the consolidations
    lesions: tuple[Lesion, ...]  # drawn with ``disease="consolidation"`` only

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Anatomy:
        """Draws a patient, whose own generator it is."""
        uniform = rng.uniform  # each line draws in its turn: another order gives other patients
        apex, dome = uniform(-0.74, -0.62), uniform(0.15, 0.24)
        width = uniform(0.74, 0.84)
        return cls(
            width=width,
            apex=apex,
            angle=uniform(0.58, 0.76),
            domes=(dome, dome - uniform(0.0, 0.07)),
            medial=uniform(0.12, 0.16),
            heart=(
                *(uniform(0.16, 0.22), uniform(0.28, 0.36)),
                *(width * uniform(0.46, 0.60), width * uniform(0.34, 0.42), uniform(0.5, 0.8)),
            ),
            knob=uniform(0.07, 0.12),
            thickness=uniform(0.95, 1.05),
            aeration=uniform(0.92, 1.08),
            bone=uniform(0.7, 1.3),
            breast=uniform(0.02, 0.06) if rng.random() < 0.5 else 0.0,
            ribs=(apex - uniform(0.10, 0.16), uniform(0.125, 0.15), uniform(0.55, 0.75)),
            girth=uniform(0.05, 0.14),
            shoulder=uniform(-0.92, -0.78),
            bubble=uniform(0.06, 0.12) if rng.random() < 0.4 else 0.0,
            texture=int(rng.integers(2**32)),
            lesions=tuple(Lesion.sample(rng) for _ in range(rng.integers(2, 8))),
        )


def draw(
    anatomy: Anatomy, rng: np.random.Generator, size: int, opacity: float, disease: str = "lines"
) -> tuple[Pixels, Pixels]:
    """Films a patient once.

    The random numbers spent do not depend on ``opacity``: the same generator state gives the same film with and without
    disease, and the two differ inside the lung mask only.

    Args:
        anatomy: The patient.
        rng: The film's own generator: pose, lines, exposure and noise.
        size: Height and width in pixels.
        opacity: Strength of the disease, 0 (none) to 1.
        disease: ``lines``: fine horizontal lines all over the lungs instead of broad ones of the same mean and spread,
            so that small detail tells a sick film from a healthy one, and brightness does not. ``consolidation``: the
            patient's lesions, soft and bright, which a thumbnail shows as well.

    Returns:
        The film, uint8 of shape (size, size), and the lung fields not covered by heart or diaphragm, uint8 of the same
        shape with 255 inside and 0 outside.

    Raises:
        ValueError: For an unknown disease.
    """
    check_choice("disease", disease, DISEASES)
    film = _Film(size, _pose(rng))
    # The lung in view, softening towards its edge: what heart and great vessels leave of two outlines.
    lungs = [(_lung(anatomy, side), 1.0) for side in (_RIGHT, _LEFT)]
    covered = [(outline, 0.0) for outline, _ in _mediastinum(anatomy)]
    air = fields = np.clip(2 * film.layer([*lungs, *covered], 0.014) - 1, 0, 1)
    if disease == "consolidation":
        air = fields * (1 - 0.9 * opacity * _consolidation(anatomy, film))  # air spaces filled with fluid
    attenuation = _trunk(anatomy, film) - 0.37 * anatomy.aeration * air
    attenuation += _bones(anatomy, film, fields) + _vessels(anatomy, film) * fields
    if disease == "lines":
        attenuation += _CONTRAST * _lines(fields, opacity, rng) * fields
    return _expose(attenuation, rng), np.where(fields > 0, 255, 0).astype(np.uint8)


class _Film:
    """Turns shapes in body coordinates into layers of pixels."""

    def __init__(self, size: int, pose: Floats) -> None:
        self.size = size
        self._pose = pose  # (2, 3): body coordinates -> the same range on the film
        inverse = np.asarray(cv2.invertAffineTransform(pose))
        centres = (np.arange(_COARSE) + 0.5) * (2 / _COARSE) - 1
        across, down = np.meshgrid(centres, centres)
        self.x, self.y = np.tensordot(inverse, np.stack([across, down, np.ones_like(across)]), axes=1)

    def layer(self, shapes: Iterable[Shape], blur: float, size: int | None = None) -> Floats:
        """Paints shapes over one another; float32 in [0, 1], softened by ``blur`` body units."""
        size = size or self.size
        canvas = np.zeros((size, size), np.uint8)
        for outline, level in shapes:
            placed = outline @ self._pose[:, :2].T + self._pose[:, 2]
            pixels = ((placed + 1) * (size / 2) - 0.5) * 2**_SUBPIXEL_BITS
            cv2.fillPoly(canvas, [np.rint(pixels).astype(np.int32)], round(255 * level), cv2.LINE_AA, _SUBPIXEL_BITS)
        return _blurred(canvas.astype(np.float32) / 255, max(blur * size / 2, 0.3))

    def soft(self, shapes: Iterable[Shape], blur: float) -> Floats:
        """Paints shapes with wide blurred edges, at the same cost for any film size."""
        return self.enlarge(self.layer(shapes, blur, _COARSE))

    def enlarge(self, coarse: Floats) -> Floats:
        """Enlarges a square map to the film, float32."""
        size = (self.size, self.size)
        return np.asarray(cv2.resize(coarse.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), np.float32)


def _blurred(layer: Floats, sigma: float) -> Floats:
    """Blurs a map with a Gaussian of ``sigma`` pixels, float32."""
    return np.asarray(cv2.GaussianBlur(layer, (0, 0), sigma), np.float32)


def _pose(rng: np.random.Generator) -> Floats:
    """Draws a (2, 3) affine map: up to 3 degrees of tilt, 5% of scale (each way its own) and 0.05 of shift."""
    turn = np.deg2rad(rng.uniform(-3, 3))
    scale = rng.uniform(0.95, 1.0) * rng.uniform(0.98, 1.02, 2)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([rotation * scale, rng.uniform(-0.05, 0.05, 2)])


def _expose(attenuation: Floats, rng: np.random.Generator) -> Pixels:
    """Turns attenuation (about 0 to 1) into grey levels: exposure, contrast, uneven field, noise."""
    size = attenuation.shape[0]
    black, white, gamma = rng.uniform(4, 12), rng.uniform(235, 260), rng.uniform(1.08, 1.25)
    tilt = np.linspace(-1, 1, size, dtype=np.float32)
    field = 1 + rng.uniform(-0.05, 0.05) * tilt[:, None] + rng.uniform(-0.05, 0.05) * tilt
    film = 1 - np.exp(-1.8 * np.clip(attenuation * field, 0, None) ** gamma)  # a film's shoulder: white comes slowly
    grey: Floats = black + (white - black) * film
    grain = rng.standard_normal((size, size), np.float32)
    clumps = _blurred(rng.standard_normal((size, size), np.float32), 1.0)
    grey += rng.uniform(1.0, 3.5) * grain + rng.uniform(2.0, 6.0) * clumps
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _wall(anatomy: Anatomy, y: Floats) -> Floats:
    """The x of the inner chest wall at height ``y``: a rounded apex that widens and draws in a little at the bottom."""
    depth = np.clip((y - anatomy.apex) / (anatomy.angle - anatomy.apex), 0, 1)
    summit = 0.42 * anatomy.width
    rounding = (1 - (1 - np.clip(depth / 0.85, 0, 1)) ** 2.1) ** (1 / 2.1)
    wall: Floats = summit + (anatomy.width - summit) * rounding - 0.03 * np.clip(depth - 0.8, 0, 1)
    return wall


def _lung(anatomy: Anatomy, side: float) -> Floats:
    """Outline of one lung, heart not yet taken away."""
    depth = np.linspace(0, 1, 40) ** 1.5  # denser where the apex bends
    y = anatomy.apex + (anatomy.angle - anatomy.apex) * depth
    outer = _wall(anatomy, y)
    dome = anatomy.domes[0 if side == _RIGHT else 1]
    floor_x = np.linspace(outer[-1], anatomy.medial, 24)
    top = 0.45 * anatomy.width
    reach = np.where(floor_x > top, outer[-1] - top, 1.6 * (top - anatomy.medial))
    floor_y = anatomy.angle - dome * (1 - np.abs((floor_x - top) / reach) ** 2.2)
    inward = np.sqrt(1 - (1 - np.clip(depth / 0.22, 0, 1)) ** 2)
    inner = outer[0] - (outer[0] - anatomy.medial) * inward
    above = y < floor_y[-1]
    x = np.concatenate([outer, floor_x, inner[above][::-1]])
    return np.column_stack([side * x, np.concatenate([y, floor_y, y[above][::-1]])])


def _ellipse(x: float, y: float, long: float, short: float, tilt: float = 0.0) -> Floats:
    """Outline of an ellipse whose long half axis is turned by ``tilt`` radians from the x axis."""
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    along, aside = long * np.cos(turn), short * np.sin(turn)
    sin, cos = np.sin(tilt), np.cos(tilt)
    return np.column_stack([x + along * cos - aside * sin, y + along * sin + aside * cos])


def _ribbon(line: Floats, half_width: Floats | float) -> Floats:
    """Outline of a band along a line of shape (n, 2)."""
    along = np.gradient(line, axis=0)
    across = np.column_stack([-along[:, 1], along[:, 0]]) / (np.hypot(along[:, 0], along[:, 1])[:, None] + 1e-9)
    offset = across * np.broadcast_to(half_width, len(line))[:, None]
    return np.concatenate([line + offset, (line - offset)[::-1]])


def _mirrored(half: list[tuple[float, float]]) -> Floats:
    """Closes a half outline given for x >= 0 with its mirror image."""
    outline = np.array(half)
    return np.concatenate([outline, (outline * (-1, 1))[::-1]])


def _rounded(outline: Floats) -> Floats:
    """Rounds the corners of a closed outline (Chaikin's corner cutting, three times)."""
    for _ in range(3):
        after = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * after, 0.25 * outline + 0.75 * after], axis=1).reshape(-1, 2)
    return outline


def _mediastinum(anatomy: Anatomy) -> list[Shape]:
    """Heart, great vessels and aortic knob."""
    x, y, long, short, tilt = anatomy.heart
    half = [(0.8, -1.2), (1.0, -0.6), (1.2, -0.15), (1.4, 0.1), (1.2, 1.2)]
    vessels = _rounded(_mirrored(half) * (anatomy.medial, 1.0))
    return [
        (_ellipse(x, y, long, short, tilt), 1.0),
        (vessels, 1.0),
        (_ellipse(0.75 * anatomy.medial, -0.26, anatomy.knob, anatomy.knob), 1.0),
    ]


def _trunk(anatomy: Anatomy, film: _Film) -> Floats:
    """Soft tissue: trunk, heart, abdomen, breasts; windpipe and stomach bubble as air."""
    skin = anatomy.width + anatomy.girth
    neck = [(0.25, -1.4), (0.25, -1.1), (0.32, -0.92)]
    arm = [(0.85, anatomy.shoulder), (1.4, anatomy.shoulder + 0.25), (1.4, 0.1), (skin + 0.16, -0.1)]
    flank = [(skin + 0.02, 0.1), (skin, 0.4), (skin + 0.02, 1.4)]
    body = [(_rounded(_mirrored(neck + arm + flank)), 1.0)]
    depth = 0.42 + 0.20 * np.exp(-((film.x / 0.6) ** 2)) + 0.05 * np.clip(film.y, -1, 1)
    trunk = film.layer(body, 0.012) * (0.3 + 0.7 * film.soft(body, 0.12)) * film.enlarge(depth)
    trunk += 0.14 * film.soft(_mediastinum(anatomy), 0.06)
    half, left = 0.45 * anatomy.width, anatomy.domes[1]
    rise = [(-anatomy.width, 0.0), (-half, anatomy.domes[0]), (0.0, 0.08), (half, left), (anatomy.width, 0.0)]
    abdomen = np.array([(-1.0, 1.4), *((x, anatomy.angle - up) for x, up in rise), (1.0, 1.4)])
    trunk += 0.17 * film.soft([(abdomen, 1.0)], 0.05)
    breasts = [(_ellipse(side * 0.55 * anatomy.width, 0.22, 0.30, 0.30), 1.0) for side in (_RIGHT, _LEFT)]
    trunk += anatomy.breast * film.soft(breasts, 0.06)
    pipe = np.array([[0.0, -1.2], [0.0, -0.7], [0.01, -0.22]])
    bronchi = [np.array([[0.01, -0.25], [side * 0.06, -0.15], [side * 0.16, -0.06]]) for side in (_RIGHT, _LEFT)]
    air = [(_ribbon(pipe, 0.045), 1.0), *((_ribbon(line, 0.022), 0.5) for line in bronchi)]
    if anatomy.bubble:
        y = anatomy.angle - left + anatomy.bubble + 0.06
        air.append((_ellipse(0.42 * anatomy.width, y, 1.5 * anatomy.bubble, 0.8 * anatomy.bubble), 1.0))
    trunk -= 0.09 * film.layer(air, 0.015)
    return trunk * anatomy.thickness


def _bones(anatomy: Anatomy, film: _Film, fields: Floats) -> Floats:
    """Ribs (back and front), spine, S-shaped collar bones, shoulder blades and upper arms."""
    back, front = _rib_cage(anatomy)
    ribs = 0.13 * film.layer(back, 0.008) + 0.08 * film.layer(front, 0.010)
    bones: Floats = ribs * (0.5 + 0.5 * fields)  # across dense tissue a thin bone has little contrast
    bones += 0.16 * film.layer(_spine(), 0.012)
    along = np.linspace(0, 1, 24)
    x = 0.09 + along * (anatomy.width - 0.02)
    inner, outer = anatomy.apex + 0.10, anatomy.shoulder + 0.14
    y = inner + (outer - inner) * along + 0.035 * np.sin(2 * np.pi * along)
    collar = [shape for side in (_RIGHT, _LEFT) for shape in _tube(np.column_stack([side * x, y]), 0.026)]
    bones += 0.20 * film.layer(collar, 0.008)
    bones += 0.10 * film.layer(_shoulders(anatomy), 0.012)
    bones *= anatomy.bone
    return bones


def _tube(line: Floats, half_width: float) -> list[Shape]:
    """A bone seen from the side: a bright cortex around a fainter marrow."""
    return [(_ribbon(line, half_width), 1.0), (_ribbon(line, 0.6 * half_width), 0.7)]


def _rib_cage(anatomy: Anatomy) -> tuple[list[Shape], list[Shape]]:
    """Ten pairs of ribs, each the projection of a slanting ring: back halves and front parts."""
    first, spacing, drop = anatomy.ribs
    turn = np.linspace(0.1, 0.78 * np.pi, 40)  # 0 at the spine, pi / 2 at the chest wall, pi at the breast bone
    back: list[Shape] = []
    front: list[Shape] = []
    for number in range(10):
        fall = drop * min(1.0, 0.5 + 0.1 * number)
        start = first + number * spacing
        reach = _wall(anatomy, np.array(start + fall / 2)) + 0.012
        if number == 0:
            reach = 0.8 * reach
        y = start + fall * (1 - np.cos(turn)) / 2
        for side in (_RIGHT, _LEFT):
            line = np.column_stack([side * reach * np.sin(turn) ** 0.85, y])
            back += _tube(line[:27], 0.024)
            front += _tube(line[25:], 0.030) if number < 8 else []
    return back, front


def _spine() -> list[Shape]:
    """A column of vertebrae with a brighter rim, pedicles and narrow disc spaces."""
    shapes: list[Shape] = [(np.array([[-0.08, -1.2], [0.08, -1.2], [0.1, 1.2], [-0.1, 1.2]]), 0.45)]
    for top in np.arange(-1.05, 1.1, 0.135):
        half = 0.085 + 0.012 * top
        box = np.array(
            [[-half, 0.0], [half, 0.0], [0.9 * half, 0.055], [half, 0.11], [-half, 0.11], [-0.9 * half, 0.055]]
        )
        shapes += [(box + np.array([0, top]), 1.0), (box * (0.8, 0.75) + np.array([0, top + 0.014]), 0.75)]
        shapes += [(_ellipse(side * 0.6 * half, top + 0.04, 0.014, 0.02), 1.0) for side in (_RIGHT, _LEFT)]
    return shapes


def _shoulders(anatomy: Anatomy) -> list[Shape]:
    """Shoulder blades, thin plates beside the rib cage, and upper arms."""
    blade = np.array([[-0.02, -0.56], [0.18, -0.62], [0.16, -0.40], [0.05, 0.0], [0.0, -0.1]])
    arm = np.array([[0.22, -0.66], [0.30, -0.62], [0.36, -0.40], [0.42, 0.0], [0.48, 0.4]])
    shapes: list[Shape] = []
    for side in (_RIGHT, _LEFT):
        shapes.append((_rounded((blade + np.array([anatomy.width, 0])) * (side, 1)), 0.45))
        shapes += _tube((arm + np.array([anatomy.width, anatomy.shoulder + 0.85])) * (side, 1), 0.07)
    return shapes


def _vessels(anatomy: Anatomy, film: _Film) -> Floats:
    """Lung vessels: branches that leave the hilum, fork and taper."""
    rng = np.random.default_rng(anatomy.texture)
    shapes: list[Shape] = []
    for side in (_RIGHT, _LEFT):
        for angle in np.linspace(-1.1, 1.35, 7) + rng.uniform(-0.2, 0.2, 7):
            shapes += _branch(np.array([side * 0.15, -0.02]), angle, side, rng)
    hila = [(_ellipse(side * 0.19, 0.0, 0.07, 0.13), 1.0) for side in (_RIGHT, _LEFT)]
    mottle = film.enlarge(rng.standard_normal((48, 48)))
    vessels: Floats = 0.08 * film.layer(shapes, 0.009) + 0.08 * film.soft(hila, 0.05) + 0.008 * mottle
    return vessels


def _branch(root: Floats, angle: float, side: float, rng: np.random.Generator) -> list[Shape]:
    """One vessel and its two side branches."""
    along = np.linspace(0, 1, 10)
    bend = angle + rng.uniform(-1, 1) * along
    length = rng.uniform(0.32, 0.5)
    step = np.column_stack([side * np.cos(bend), np.sin(bend)]) * (length / 10)
    line = root + np.cumsum(step, axis=0)
    twigs = [
        line[start]
        + np.column_stack([side * np.cos(bend[start] + fork * along), np.sin(bend[start] + fork * along)])
        * (along * 0.6 * length)[:, None]
        for start, fork in zip((3, 5), rng.uniform(0.3, 0.9, 2) * (1, -1), strict=True)
    ]
    taper = 1 - 0.8 * along
    return [(_ribbon(line, 0.014 * taper), 1.0), *((_ribbon(twig, 0.007 * taper), 0.7) for twig in twigs)]


def _consolidation(anatomy: Anatomy, film: _Film) -> Floats:
    """The patient's opacities: mottled soft blobs."""
    mottle = _blurred(np.random.default_rng((anatomy.texture, 1)).standard_normal((_COARSE, _COARSE)), 1.5)
    blobs = np.zeros_like(film.x)
    for lesion in anatomy.lesions:
        y = anatomy.apex + (anatomy.angle - anatomy.apex) * lesion.along
        x = anatomy.medial + (float(_wall(anatomy, np.array(y))) - anatomy.medial) * lesion.across
        apart = ((film.x - lesion.side * x) ** 2 + (film.y - y) ** 2) / (2 * lesion.radius**2)
        blobs += lesion.density * np.exp(-apart)
    return film.enlarge(np.clip(blobs * (0.9 + 1.6 * mottle), 0, 1))


def _lines(fields: Floats, opacity: float, rng: np.random.Generator) -> Floats:
    """Lines of mean 0 and spread 1 over the lungs: broad at ``opacity`` 0, fine at 1, between them both.

    They are drawn anew for every film, so that no two films of a patient are alike and no place is bright in a class.
    """
    size = fields.shape[0]
    fine = max(_FINEST, _FINE * size)
    sick, healthy = (_noise(rng, size, height, _LENGTH * fine) for height in (fine, _BROADER * fine))
    strength = np.clip(0.8 + 0.2 * _noise(rng, size, 14 * fine, 14 * fine), 0.5, 1)  # not everywhere alike
    lines = (np.sqrt(opacity) * sick + np.sqrt(1 - opacity) * healthy) * strength
    inside = fields > 0.5
    lines = (lines - lines[inside].mean()) / lines[inside].std()
    return np.asarray(np.clip(lines, -2.5, 2.5), np.float32)


def _noise(rng: np.random.Generator, size: int, height: float, width: float) -> Floats:
    """Noise of one scale: the difference of two blurs, of ``height`` and of twice as many pixels; mean 0, spread 1."""
    white = rng.standard_normal((size, size), np.float32)
    narrow, wide = (cv2.GaussianBlur(white, (0, 0), max(width, high), sigmaY=high) for high in (height, 2 * height))
    band = np.asarray(narrow - wide, np.float32)
    return np.asarray((band - band.mean()) / band.std(), np.float32)
