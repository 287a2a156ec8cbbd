"""Lungs of any image: a trained network and all that stands before and after it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_fill_holes
from torch import Tensor, nn

from cxrlab.errors import check_range

Images = npt.NDArray[np.uint8]
Masks = npt.NDArray[np.bool_]

_BATCH = 32  # images at a time: some 100 MB at 96 pixels


class Segmenter:
    """Marks the lungs of 8-bit images of any size, on the device that the network is on.

    Each image becomes grey and square (``size`` pixels), the network gives every pixel a probability, these are brought
    to the image's own size (bilinear), 0.5 and more is lung, and :func:`tidy` has the last word. Where nothing looks
    like a lung the mask is empty.

    Args:
        network: Images (N, 1, size, size), float32 in [0, 1], to logits of the same shape.
        size: Pixels of the network's square input, at least 32.
        path: The file it came from.
        trained_on: Names of the collections whose masks it has learned.

    Attributes:
        fingerprint: SHA-256 of the weights.
    """

    def __init__(self, network: nn.Module, size: int, path: Path, trained_on: tuple[str, ...] = ()) -> None:
        check_range("size", size, 32, 1024, integer=True)
        self.network = network.requires_grad_(False).eval()
        self.size = size
        self.path = path
        self.trained_on = trained_on
        self.fingerprint = weights_fingerprint(network.state_dict())

    def __call__(self, images: Images) -> Masks:
        """Returns what is lung.

        Args:
            images: Shape (N, H, W, C), uint8, C 1 (grey) or 3 (RGB).

        Returns:
            Shape (N, H, W), bool.

        Raises:
            ValueError: Another type or shape.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise ValueError(f"images must be uint8 (N, H, W, 1 or 3), got {images.dtype} {images.shape}")
        masks = np.zeros(images.shape[:3], np.bool_)
        for start in range(0, len(images), _BATCH):
            scores = self._scores(images[start : start + _BATCH])
            for row, score in enumerate(scores, start):
                masks[row] = tidy(_resized(score, images.shape[1:3]) >= 0.5)
        return masks

    def _scores(self, images: Images) -> npt.NDArray[np.float32]:
        """Probabilities of one batch, (n, size, size)."""
        squares = np.stack([square(image, self.size) for image in images])
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            scores: Tensor = self.network(to_input(squares).to(device)).sigmoid()
        return np.asarray(scores[:, 0].float().cpu().numpy())


def square(image: Images, size: int) -> Images:
    """One image (H, W, C), uint8, as the network sees it: grey (ITU-R 601 luma), (size, size), squeezed."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2] == 3 else image[..., 0]
    return np.asarray(_resized(np.ascontiguousarray(grey), (size, size)), np.uint8)


def to_input(squares: Images) -> Tensor:
    """Squares (N, size, size), uint8, as the network's batch (N, 1, size, size), float32 in [0, 1]."""
    return torch.from_numpy(squares)[:, None].float().div_(255)


def tidy(mask: Masks) -> Masks:
    """Keeps the two largest parts of a mask (H, W), since there are two lungs, and fills their holes."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    areas = np.asarray(stats)[1:, cv2.CC_STAT_AREA]
    largest = 1 + np.argsort(-areas, kind="stable")[:2]
    return np.asarray(binary_fill_holes(np.isin(np.asarray(labels), largest)), np.bool_)


def weights_fingerprint(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _resized(image: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An image (H, W) of another (height, width): averaged where it shrinks, bilinear where it grows."""
    shrinks = shape[0] < image.shape[0] and shape[1] < image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (shape[1], shape[0]), interpolation=interpolation))
