"""Networks by what they do: prepared images in, logits and scores out, whatever file they came from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from cxrlab.datamodules import Preprocessing
from cxrlab.evaluation.estimate import Floats

BATCH = 64
"""Images that go through a network at once, at most; more are no faster."""

Images = NDArray[np.uint8]


class Scorer(ABC):
    """A network on one device.

    Attributes:
        words: What it runs on, for people: ``{"runtime": "PyTorch 2.15", "device": "cpu", "precision": "32-true"}``.
        at_once: Images that go through it at once, at most.
    """

    words: dict[str, Any]
    at_once = BATCH

    def __call__(self, images: Images) -> Floats:
        """Returns the sigmoid of the logits, float64 (n,), of images (n, height, width, channels) as prepared."""
        return self.logits_and_scores(images)[1].astype(np.float64)

    def logits_and_scores(self, images: Images) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns logits and scores, float32 or float64 (n,) each, of images (n, height, width, channels)."""
        found = [(np.zeros(0, np.float32), np.zeros(0, np.float32))]
        found += [self.run(images[start : start + self.at_once]) for start in range(0, len(images), self.at_once)]
        return np.concatenate([logits for logits, _ in found]), np.concatenate([scores for _, scores in found])

    @abstractmethod
    def run(self, images: Images) -> tuple[NDArray[Any], NDArray[Any]]:
        """As :meth:`logits_and_scores`, all images at once; at least one, and not more than ``at_once``."""


class TorchScorer(Scorer):
    """A network of PyTorch.

    Args:
        network: Images (N, channels, height, width), floats in [0, 1], to logits (N, 1); moved to the device.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        precision: As a Trainer's: ``32-true``, ``bf16-mixed``, ``16-mixed`` or ``64-true``.
    """

    def __init__(self, network: nn.Module, accelerator: str, precision: str) -> None:
        self._fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
        self._network: nn.Module = self._fabric.setup_module(network)
        device = str(self._fabric.device)
        self.words = {"runtime": f"PyTorch {torch.__version__}", "device": device, "precision": precision}

    def run(self, images: Images) -> tuple[NDArray[Any], NDArray[Any]]:
        """See :class:`Scorer`."""
        with torch.inference_mode():
            logits = self._network(Preprocessing.to_float(self._fabric.to_device(torch.from_numpy(images)))).squeeze(1)
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # bf16 would round scores to 3 digits
            return logits.cpu().numpy(), logits.sigmoid().cpu().numpy()
