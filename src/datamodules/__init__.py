"""Images and labels: sources -> manifest -> split -> cached pixels -> batches. Knows nothing of models."""

from cxrlab.datamodules.augment import Augmentation
from cxrlab.datamodules.chest_xray import ChestXRayDataModule
from cxrlab.datamodules.gate_images import GateImagesDataModule
from cxrlab.datamodules.lung_masks import LungMasksDataModule
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.datamodules.sources import (
    ActualmedSource,
    CohenSource,
    ConcatSource,
    DarkCovidNetSource,
    FolderSource,
    KermanySource,
    ManifestSource,
    PaperSource,
    SyntheticSource,
    WhichCollectionSource,
)

__all__ = [
    "ActualmedSource",
    "Augmentation",
    "ChestXRayDataModule",
    "CohenSource",
    "ConcatSource",
    "DarkCovidNetSource",
    "FolderSource",
    "GateImagesDataModule",
    "KermanySource",
    "LungMasksDataModule",
    "ManifestSource",
    "PaperSource",
    "Preprocessing",
    "SyntheticSource",
    "WhichCollectionSource",
]
