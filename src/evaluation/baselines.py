"""What a classifier has to beat: scores that need no network, and hardly any lung.

Where these do as well as a network, the network's number says little about disease: the images of the two classes then
differ in something that anyone can see (borders, exposure, framing). L. Maguolo and L. Nanni, Inf Fusion 2021;76:1-7,
and E. Tartaglione et al., Int J Environ Res Public Health 2020;17:6933, found this in sets of COVID-19 radiographs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxrlab.evaluation import cross_validation
from cxrlab.evaluation.estimate import Floats


class Images(Protocol):
    """An array of images, or a replacement for one that does not fit into memory; they are read one by one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, height, width, channels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


STRIP = 0.05
"""Share of the columns, from the left, that the left strip takes (at least one column)."""
THUMBNAIL = 8
"""Side of the thumbnail in pixels."""

DESCRIPTIONS = {
    "majority": "Calls every image what most training images are (Positive where both classes are equally many).",
    "left_strip": (
        "One number per image, the mean grey level of the left 5 % of its columns, and one threshold: the one that "
        "gets most training images right."
    ),
    "thumbnail_8x8": (
        "Logistic regression (C = 0.1) on an 8x8 grey thumbnail, standardised on the training images, in which no "
        "detail of a lung is left."
    ),
}
"""What each baseline is, in one sentence for reports."""


def trivial_scores(train_images: Images, train_labels: npt.ArrayLike, test_images: Images) -> dict[str, Floats]:
    """Scores the test images with every baseline; all that is chosen is chosen on the training images.

    ``majority`` gives every image the share of positives in training. ``left_strip`` is the strip classifier of
    :func:`cxrlab.evaluation.cross_validation.scored`; where the strips of all training images are equal it is the
    majority's. ``thumbnail_8x8`` gives the probability of Positive of the logistic regression.

    Images have shape (n, height, width, channels), uint8, channels 1 (grey) or 3 (RGB, made grey by ITU-R 601 luma).
    Both labels must occur in training. Scores are in [0, 1]; at least 0.5 means Positive.
    """
    for name, images in (("train_images", train_images), ("test_images", test_images)):
        if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
            raise ValueError(
                f"{name} must be uint8 of shape (n, height, width, 1 or 3) with n at least 1, "
                f"got {images.dtype} of shape {images.shape}"
            )
    y, n = np.asarray(train_labels), len(train_images)
    if y.shape != (n,):
        raise ValueError(f"train_labels must hold one label per image, got shape {y.shape} for {n} images")
    strange = [value for value in y.tolist() if value not in (0, 1)]
    if strange:
        raise ValueError(f"train_labels must be 0 (Negative) or 1 (Positive), got {strange[0]!r}")
    if (y == y[0]).all():
        raise ValueError(f"train_labels must hold both classes, 0 and 1, got only {int(y[0])} ({n} images)")
    labels = y.astype(bool)
    train_strips, train_thumbnails = _strips_and_thumbnails(train_images)
    test_strips, test_thumbnails = _strips_and_thumbnails(test_images)
    majority = np.full(len(test_images), labels.mean())
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    strip = cross_validation.scored(train_strips, labels[:, None], test_strips, strip=True)[:, 0]
    return {
        "majority": majority,
        "left_strip": strip if np.ptp(train_strips) else majority,
        "thumbnail_8x8": regression.fit(train_thumbnails, labels).predict_proba(test_thumbnails)[:, 1],
    }


def _strips_and_thumbnails(images: Images) -> tuple[Floats, Floats]:
    """Of each image the mean grey level of its left strip, shape (n, 1), and its thumbnail, (n, 64)."""
    columns = max(1, round(STRIP * images.shape[2]))
    strips, thumbnails = np.empty((len(images), 1)), np.empty((len(images), THUMBNAIL**2))
    for row, image in enumerate(images):
        grey = image[..., 0] if images.shape[-1] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        strips[row] = grey[:, :columns].mean()
        thumbnails[row] = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()
    return strips, thumbnails
