"""Networks (pure ``nn.Module``, one logit per image), their losses, and the LightningModule that trains any of them."""

from cxrlab.models.bennett import Bennett
from cxrlab.models.classifier import ClassifierModule
from cxrlab.models.darkcovidnet import DarkCovidNet
from cxrlab.models.gate_module import GateModule
from cxrlab.models.gate_net import GateNet
from cxrlab.models.losses import BinaryCrossEntropy, FocalLoss
from cxrlab.models.lung_module import LungModule
from cxrlab.models.lung_unet import LungUnet
from cxrlab.models.paper_cnn import PaperCNN
from cxrlab.models.segmenter import Segmenter
from cxrlab.models.thumbnail_logistic import ThumbnailLogistic
from cxrlab.models.torchvision_net import TorchvisionNet

__all__ = [
    "Bennett",
    "BinaryCrossEntropy",
    "ClassifierModule",
    "DarkCovidNet",
    "FocalLoss",
    "GateModule",
    "GateNet",
    "LungModule",
    "LungUnet",
    "PaperCNN",
    "Segmenter",
    "ThumbnailLogistic",
    "TorchvisionNet",
]
