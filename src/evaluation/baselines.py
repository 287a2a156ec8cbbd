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
from cxrlab.evaluation.estimate import Bools, Floats


class Images(Protocol):
    """An array of images, or what stands in for one that does not fit into memory; they are looked at one by one."""

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

    ``majority`` gives every image the share of positives in training.

    ``left_strip`` chooses among the midpoints between neighbouring training values, with brighter or with darker images
    called Positive; of thresholds equally good in training it takes the lowest, and brighter before darker. The score
    of a mean grey level is 0 and 1 at the ends of [0, 255], 0.5 at the threshold, and a straight line in between, so
    that it ranks images as the grey level does. Where the strips of all training images are equal it is the majority's.

    ``thumbnail_8x8`` gives the probability of Positive of the logistic regression.

    Args:
        train_images: Shape (n, height, width, channels), uint8, channels 1 (grey) or 3 (RGB, made grey by ITU-R 601
            luma), n at least 2.
        train_labels: Shape (n,): 0 Negative, 1 Positive; both must occur.
        test_images: The same for m images, m at least 1.

    Returns:
        For each of :data:`DESCRIPTIONS` an array of shape (m,), float64, in [0, 1]; at least 0.5 means Positive.

    Raises:
        ValueError: Names the argument that is wrong, what was expected and what was found.
    """
    _check_images("train_images", train_images)
    _check_images("test_images", test_images)
    labels = _checked_labels(train_labels, len(train_images))
    train_strips, train_thumbnails = _strips_and_thumbnails(train_images)
    test_strips, test_thumbnails = _strips_and_thumbnails(test_images)
    return {
        "majority": np.full(len(test_images), labels.mean()),
        "left_strip": _strip_scores(train_strips, labels, test_strips),
        "thumbnail_8x8": _regression_scores(train_thumbnails, labels, test_thumbnails),
    }


def _check_images(name: str, images: Images) -> None:
    if images.dtype != np.uint8 or len(images.shape) != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise ValueError(
            f"{name} must be uint8 of shape (n, height, width, 1 or 3) with n at least 1, "
            f"got {images.dtype} of shape {images.shape}"
        )


def _checked_labels(labels: npt.ArrayLike, n: int) -> Bools:
    y = np.asarray(labels)
    if y.shape != (n,):
        raise ValueError(f"train_labels must hold one label per image, got shape {y.shape} for {n} images")
    strange = [value for value in y.tolist() if value not in (0, 1)]
    if strange:
        raise ValueError(f"train_labels must be 0 (Negative) or 1 (Positive), got {strange[0]!r}")
    if (y == y[0]).all():
        raise ValueError(f"train_labels must hold both classes, 0 and 1, got only {int(y[0])} ({n} images)")
    return y.astype(bool)


def _strips_and_thumbnails(images: Images) -> tuple[Floats, Floats]:
    """Of each image the mean grey level of its left strip, shape (n,), and its thumbnail, (n, 64)."""
    columns = max(1, round(STRIP * images.shape[2]))
    strips, thumbnails = np.empty(len(images)), np.empty((len(images), THUMBNAIL**2))
    for row, image in enumerate(images):
        grey = image[..., 0] if images.shape[-1] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        strips[row] = grey[:, :columns].mean()
        thumbnails[row] = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).ravel()
    return strips, thumbnails


def _strip_scores(train: Floats, labels: Bools, test: Floats) -> Floats:
    if np.ptp(train) == 0:
        return np.full(test.size, labels.mean())
    return cross_validation.scored(train[:, None], labels[:, None], test[:, None], strip=True)[:, 0]


def _regression_scores(train: Floats, labels: Bools, test: Floats) -> Floats:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return np.asarray(model.fit(train, labels).predict_proba(test)[:, 1])
