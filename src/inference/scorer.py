"""Networks by what they do: prepared images in, scores out, whatever file they came from."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrlab.datamodules import Preprocessing
from cxrlab.evaluation.estimate import Floats

BATCH = 64
"""Images that go through a network at once."""


class ScoringNetwork(nn.Module):
    """A classifier with its sigmoid: images (N, C, H, W), float32 in [0, 1], to logits (N,) and scores (N,) in [0, 1].

    Args:
        network: Turns the images into logits (N, 1).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()  # of the whole: the exporter asks this module, not the one inside

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and scores."""
        logit = self.network(image).squeeze(1)
        return logit, logit.sigmoid()


class Scorer(Protocol):
    """What a :class:`cxrlab.inference.predictor.Predictor` needs of a network."""

    def __call__(self, images: NDArray[np.uint8]) -> Floats:
        """Returns the sigmoid of the logits, float64 (n,), of images (n, height, width, channels) as prepared."""
        ...

    @property
    def words(self) -> dict[str, Any]:
        """What it runs on, for people: ``{"runtime": "PyTorch 2.15", "device": "cpu", "precision": "32-true"}``."""
        ...


class TorchScorer:
    """A network of PyTorch on one device.

    Args:
        network: Images (N, channels, height, width), floats in [0, 1], to logits (N, 1); moved to the device.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        precision: As a Trainer's: ``32-true``, ``bf16-mixed``, ``16-mixed`` or ``64-true``.
        batch_size: Images that go through at once, at least 1.
    """

    def __init__(self, network: nn.Module, accelerator: str, precision: str, batch_size: int = BATCH) -> None:
        self._fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
        self._network: nn.Module = self._fabric.setup_module(network)
        self._precision = precision
        self._batch_size = batch_size

    def __call__(self, images: NDArray[np.uint8]) -> Floats:
        """See :class:`Scorer`."""
        found = [np.zeros(0)]
        with torch.inference_mode():
            for start in range(0, len(images), self._batch_size):
                batch = self._fabric.to_device(torch.from_numpy(images[start : start + self._batch_size]))
                logits = self._network(Preprocessing.to_float(batch)).squeeze(1)
                # bf16 would round scores to 3 digits
                scores = logits.to(torch.promote_types(logits.dtype, torch.float32)).sigmoid()
                found.append(scores.cpu().numpy().astype(np.float64))
        return np.concatenate(found)

    @property
    def words(self) -> dict[str, Any]:
        """See :class:`Scorer`."""
        return {
            "runtime": f"PyTorch {torch.__version__}",
            "device": str(self._fabric.device),
            "precision": self._precision,
        }
