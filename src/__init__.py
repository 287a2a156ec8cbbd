"""cxrlab: train chest X-ray classifiers, and find out what their numbers are worth."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cxrlab.api import Audit, metrics, run_audit
    from cxrlab.datamodules import (
        Augmentation,
        ChestXRayDataModule,
        FolderSource,
        ManifestSource,
        Preprocessing,
        SyntheticSource,
    )
    from cxrlab.evaluation.statistics import summarise
    from cxrlab.inference import Predictor, load
    from cxrlab.models import BinaryCrossEntropy, ClassifierModule, FocalLoss, PaperCNN, TorchvisionNet

__version__ = "0.1.0"

__all__ = [
    "Audit",
    "Augmentation",
    "BinaryCrossEntropy",
    "ChestXRayDataModule",
    "ClassifierModule",
    "FocalLoss",
    "FolderSource",
    "ManifestSource",
    "PaperCNN",
    "Predictor",
    "Preprocessing",
    "SyntheticSource",
    "TorchvisionNet",
    "__version__",
    "load",
    "metrics",
    "run_audit",
    "summarise",
]

# Where each name is defined. It is imported on first use: PyTorch takes seconds, and `--help` needs none of it.
_HOMES = {
    "cxrlab.api": ("Audit", "metrics", "run_audit"),
    "cxrlab.datamodules": (
        *("Augmentation", "ChestXRayDataModule", "FolderSource", "ManifestSource", "Preprocessing", "SyntheticSource"),
    ),
    "cxrlab.evaluation.statistics": ("summarise",),
    "cxrlab.inference": ("Predictor", "load"),
    "cxrlab.models": ("BinaryCrossEntropy", "ClassifierModule", "FocalLoss", "PaperCNN", "TorchvisionNet"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

# albumentations asks a server for its newest version whenever it is imported; nothing here calls out unless asked to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def __getattr__(name: str) -> Any:
    """Imports a name of the Python API when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_HOME[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
