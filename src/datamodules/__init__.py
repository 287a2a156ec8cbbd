"""Images and labels: sources -> manifest -> split -> cached pixels -> batches. Knows nothing of models."""

from cxrlab.datamodules.augment import Augmentation
from cxrlab.datamodules.chest_xray import ChestXRayDataModule
from cxrlab.datamodules.pixels import Preprocessing
from cxrlab.datamodules.sources import FolderSource, PaperSource, SyntheticSource

__all__ = ["Augmentation", "ChestXRayDataModule", "FolderSource", "PaperSource", "Preprocessing", "SyntheticSource"]
