"""Any classification network of torchvision, with one logit."""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VGG, AlexNet, SqueezeNet, VisionTransformer
from torchvision.models.vision_transformer import interpolate_embeddings

from cxrlab.errors import CheckpointError, check_choice
from cxrlab.models.layers import AreaPool2d, height_and_width

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_TRANSFORMER = re.compile(r"vit_[a-z]_(\d+)")  # the group is its patch's side
_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
_AUXILIARY_KEYS = ("AuxLogits.", "aux1.", "aux2.")
# The published DenseNet files still bear the layer names of 2017 (torchvision renames them in the same way).
_OLD_DENSENET_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$")


class TorchvisionNet(nn.Module):
    """A network of ``torchvision.models`` whose classifier gives one logit.

    The constructor neither reads nor downloads anything: :meth:`load_pretrained` does, and whoever trains from
    pretrained weights calls it once. Four things differ from torchvision, none of them a parameter's name or shape:

    * GoogLeNet and Inception v3 come without their auxiliary heads and with PyTorch's default initialisation
      (torchvision's own takes seconds and warns).
    * The ReLU that SqueezeNet puts on its class scores is left out: a lone logit could not become negative.
    * AlexNet's and VGG's pooling is one whose gradient is deterministic on a GPU.
    * A vision transformer is built for ``image_size``, and pretrained position embeddings are interpolated to it.

    Args:
        name: A name of ``torchvision.models.list_models(module=torchvision.models)``, such as ``resnet18``.
        image_size: Side of the square input in pixels, or ``[height, width]``. Only vision transformers are built for
            one (``None``: 224) and want it square and a multiple of their patch; the other networks take any size that
            is large enough for their poolings, and MaxViT 224 alone.
        in_channels: 3, or 1 for grey images, whose channel is repeated three times in ``forward``.
        pretrained: Whether :meth:`load_pretrained` loads weights.
        weights_path: State dict file in torchvision's layout for :meth:`load_pretrained`; ``None`` downloads
            torchvision's best ImageNet weights.
        normalize: Whether ``forward`` subtracts ImageNet's mean and divides by its deviation, so that the network takes
            floats in [0, 1]. Pretrained weights expect this, unless the images come normalised.

    Raises:
        ValueError: The name is unknown, an argument is out of range, or ``weights_path`` is given without
            ``pretrained``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet18",
        image_size: int | Sequence[int] | None = None,
        in_channels: int = 3,
        pretrained: bool = False,
        weights_path: str | None = None,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        check_choice("name", name, torchvision.models.list_models(module=torchvision.models))
        check_choice("in_channels", in_channels, (1, 3))
        check_choice("pretrained", pretrained, (True, False))
        check_choice("normalize", normalize, (True, False))
        if weights_path is not None and not pretrained:
            raise ValueError(
                f"weights_path {str(weights_path)!r} would not be read: set pretrained=true with it, or leave it out"
            )
        self.name = name
        self.in_channels = in_channels
        self.pretrained = pretrained
        self.weights_path = weights_path
        self.normalize = normalize
        self.network = _build(name, pretrained, None if image_size is None else height_and_width(image_size))
        # Constants, not weights: they follow the network to its device and stay out of its state dict, and so have
        # their numbers even where the network is built on the meta device for a checkpoint's weights.
        for constant, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(constant, torch.tensor(values, device="cpu").view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Computes logits.

        Args:
            images: Float images of shape (N, ``in_channels``, H, W), in [0, 1] if ``normalize``.

        Returns:
            Logits of class Positive, of shape (N, 1).

        Raises:
            ValueError: The network is a vision transformer that was built for another size.
        """
        if isinstance(self.network, VisionTransformer) and images.shape[2:] != (self.network.image_size,) * 2:
            found = "x".join(str(side) for side in images.shape[2:])
            raise ValueError(f"{self.name} was built for image_size {self.network.image_size}, got images of {found}")
        if self.in_channels == 1:
            images = images.expand(-1, 3, -1, -1)
        if self.normalize:
            images = (images - self.mean) / self.std
        logits: Tensor = self.network(images)
        return logits

    def load_pretrained(self) -> list[str]:
        """Loads the weights that the constructor was told of; does nothing where ``pretrained`` is false.

        A classification head of another shape (ImageNet's 1000 classes) is left at its initialisation.

        Returns:
            The state dict keys left at their initialisation: the head's, or none.

        Raises:
            CheckpointError: The weights cannot be read or downloaded, or do not fit the network; the message says what
                was tried and what can be typed instead.
        """
        if not self.pretrained:
            return []
        if self.weights_path is None:
            state, origin = self._download()
        else:
            state, origin = self._read(Path(self.weights_path).expanduser())
        _modernise(state, self.name)
        skipped = self._drop_other_head(state)
        try:
            self._fit_positions(state)
            found = self.network.load_state_dict(state, strict=False)
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(f"{origin} does not fit {self.name}: {error}") from error
        missing = [key for key in found.missing_keys if key not in skipped]
        if missing or found.unexpected_keys:
            raise CheckpointError(
                f"{origin} does not fit {self.name}: missing {_few(missing)}; unknown {_few(found.unexpected_keys)}"
            )
        return skipped

    def _fit_positions(self, state: MutableMapping[str, Any]) -> None:
        """Interpolates a vision transformer's position embeddings to this network's image size, as torchvision does."""
        if isinstance(self.network, VisionTransformer) and "encoder.pos_embedding" in state:
            interpolate_embeddings(self.network.image_size, self.network.patch_size, state)

    def _drop_other_head(self, state: MutableMapping[str, Any]) -> list[str]:
        """Removes from ``state`` the head's entries if one has another shape; returns their keys."""
        own = self.network.state_dict()
        head = [name for name, module in self.network.named_modules() if _has_parameters(module)][-1]
        keys = [key for key in own if key.startswith(f"{head}.") and key in state]
        if all(state[key].shape == own[key].shape for key in keys):
            return []
        for key in keys:
            del state[key]
        return keys

    def _read(self, path: Path) -> tuple[MutableMapping[str, Any], str]:
        """Reads a state dict file; code hidden in it is refused, not run."""
        if not path.is_file():
            raise CheckpointError(f"model.weights_path: there is no file {path}; {_WAYS_OUT}")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged or hostile file can raise nearly anything
            raise CheckpointError(
                f"model.weights_path: {path} cannot be read as a file of weights only ({type(error).__name__}): it is "
                f"damaged, or holds more than tensors, which could run code and is refused; {_WAYS_OUT}"
            ) from error
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise CheckpointError(
                f"model.weights_path: {path} holds no plain state dict (a mapping from names to tensors); {_WAYS_OUT}"
            )
        return state, str(path)

    def _download(self) -> tuple[MutableMapping[str, Any], str]:
        """Fetches torchvision's best weights, or finds them in its cache."""
        weights = torchvision.models.get_model_weights(self.name).DEFAULT
        try:
            state = weights.get_state_dict(check_hash=True, progress=False, weights_only=True, map_location="cpu")
        except Exception as error:  # whatever went wrong between here and the server
            raise CheckpointError(
                f"the pretrained weights of {self.name} could not be downloaded from {weights.url} nor found in "
                f"{torch.hub.get_dir()}/checkpoints ({type(error).__name__}: {_first_line(error)}); {_WAYS_OUT}"
            ) from error
        return state, weights.url


_WAYS_OUT = (
    "put the file on this machine and set model.weights_path=/path/to/file.pth, "
    "or start from random weights with model.pretrained=false"
)


def _build(name: str, pretrained: bool, image_size: tuple[int, int] | None) -> nn.Module:
    """Builds the network with one output and random weights."""
    options: dict[str, Any] = {"num_classes": 1, "weights": None}
    if name in _WITH_AUXILIARY_HEADS:
        # transform_input: both networks' published weights were trained on inputs in [-1, 1]; torchvision converts
        # from ImageNet's normalisation inside the network, and only when it loads those weights.
        options |= {"aux_logits": False, "init_weights": False, "transform_input": pretrained}
    if image_size and (transformer := _TRANSFORMER.fullmatch(name)):
        options["image_size"] = _patched_side(name, image_size, patch=int(transformer[1]))
    network: nn.Module
    try:
        network = torchvision.models.get_model(name, **options)
    except NotImplementedError:  # the RegNets read numbers back from tensors, which the meta device does not hold
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            network = torchvision.models.get_model(name, **options).to("meta")
    if isinstance(network, AlexNet | VGG):
        side, _ = network.avgpool.output_size
        network.avgpool = AreaPool2d(side, side)
    if isinstance(network, SqueezeNet):
        network.classifier[2] = nn.Identity()
    return network


def _patched_side(name: str, image_size: tuple[int, int], patch: int) -> int:
    """The side of a square that a vision transformer's patches cover."""
    height, width = image_size
    if height != width or height % patch:
        raise ValueError(f"image_size must be square and a multiple of {patch} for {name}, got {height}x{width}")
    return height


def _modernise(state: MutableMapping[str, Any], name: str) -> None:
    """Renames and removes, in place, what published files hold and the network does not."""
    for key in list(state):
        if name in _WITH_AUXILIARY_HEADS and key.startswith(_AUXILIARY_KEYS):
            del state[key]
        elif name.startswith("densenet") and (old := _OLD_DENSENET_KEY.match(key)):
            state[old[1] + old[2]] = state.pop(key)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _few(keys: list[str], count: int = 8) -> str:
    """The first keys and how many more there are."""
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return f"{', '.join(keys[:count]) or 'none'}{more}"
