"""Networks (pure ``nn.Module``, one logit per image), their loss, and the LightningModule that trains any of them."""

from cxrlab.models.classifier import ClassifierModule
from cxrlab.models.losses import BinaryCrossEntropy
from cxrlab.models.paper_cnn import PaperCNN
from cxrlab.models.torchvision_net import TorchvisionNet

__all__ = ["BinaryCrossEntropy", "ClassifierModule", "PaperCNN", "TorchvisionNet"]
