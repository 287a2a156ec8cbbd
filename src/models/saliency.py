"""Where in an image a network finds its evidence: maps of the logit of Positive, by five methods.

Every map is of **evidence for Positive**, whatever the image is called: a place counts by how much it raises the logit
of Positive, and places that lower it are zero. The map of an image called Negative so shows what spoke against that
call; it may be zero all over.

Nothing is left behind on the network: weights, their ``requires_grad``, gradients and the mode of every layer are as
they were found. The maps themselves are in evaluation mode.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrlab.errors import ConfigError, check_choice, check_range, did_you_mean
from cxrlab.imports import check_installed, need

PIXEL_METHODS = "saliency=occlusion and saliency=integrated_gradients"
"""The methods that any network allows."""
_CAPTUM, _WITHOUT_CAPTUM = "captum.attr", "choose saliency=hirescam or saliency=gradcam, which need no further library"


class Saliency(ABC):
    """Makes maps of evidence for Positive.

    Args:
        batch_size: Images that are worked on together, at least 1: memory grows with it, results do not change.

    Attributes:
        name: What figures and tables call the method.
    """

    name: str

    def __init__(self, batch_size: int = 8) -> None:
        check_range("batch_size", batch_size, 1, integer=True)
        self.batch_size = batch_size

    def __call__(self, network: nn.Module, images: Tensor) -> NDArray[np.float32]:
        """Makes the maps.

        Args:
            network: Images (N, C, H, W) to logits of Positive (N, 1), on any device.
            images: Shape (N, C, H, W), floats in [0, 1], on any device.

        Returns:
            Shape (N, H, W), float32, finite, at least 0; the scale is the method's own and differs between images.

        Raises:
            ConfigError: The method cannot explain this network.
        """
        weights = next(network.parameters(), images)
        maps = []
        # Notebooks and Lightning call from under no_grad or inference_mode, where no gradient would be recorded.
        with torch.inference_mode(False), torch.enable_grad(), _evaluating(network):
            for start in range(0, len(images), self.batch_size):
                batch = images[start : start + self.batch_size]
                batch = batch.detach().to(weights.device, weights.dtype, copy=True)
                rough = self.attribute(network, batch).detach().float().cpu().clamp(min=0)
                maps.append(_resized(rough, images.shape[2:]))
        return np.concatenate(maps) if maps else np.zeros((0, *images.shape[2:]), np.float32)

    @abstractmethod
    def attribute(self, network: nn.Module, images: Tensor) -> Tensor:
        """Evidence per place of one batch, shape (n, h, w) of any size; what is negative is cut off afterwards."""

    def check(self, network: nn.Module, input_shape: tuple[int, int, int]) -> None:  # noqa: B027 - most explain any
        """Refuses a network that the method cannot explain, before anything is trained.

        Args:
            network: As for :meth:`__call__`.
            input_shape: Channels, height and width of one image.

        Raises:
            ConfigError: Says why, and which methods work.
        """


class _FromFeatureMaps(Saliency):
    """What works on the feature maps of one layer.

    Args:
        layer: Dotted name of the layer in the network (``conv2d_2``); ``None`` takes the last feature maps, see
            :func:`last_feature_maps`.
        batch_size: Images that are worked on together, at least 1.
    """

    def __init__(self, layer: str | None = None, batch_size: int = 8) -> None:
        super().__init__(batch_size)
        self.layer = layer

    def check(self, network: nn.Module, input_shape: tuple[int, int, int]) -> None:
        weights = next(network.parameters(), torch.zeros(0))
        with _evaluating(network):
            self._found(network, torch.zeros(1, *input_shape, device=weights.device, dtype=weights.dtype))

    def _found(self, network: nn.Module, images: Tensor) -> nn.Module:
        """The layer whose feature maps are used."""
        shapes = _output_shapes(network, images[:1])
        name = self.layer or last_feature_maps(network, shapes)
        if name not in dict(network.named_modules()) or not name:
            known = [known for known, shape in shapes.items() if known and len(shape) == 4]
            raise ConfigError(f"saliency.layer: {name!r} is no layer of the network{did_you_mean(str(name), known)}")
        if len(shapes.get(name, ())) != 4:
            shape = tuple(shapes[name]) if name in shapes else "none, it is not run"
            raise ConfigError(f"saliency.layer: the output of {name} must be feature maps (N, C, h, w), got {shape}")
        return network.get_submodule(name)


class GradCam(_FromFeatureMaps):
    """Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2).

    ``relu(sum_k w_k A^k)`` of feature maps ``A^k``, where ``w_k`` is the mean over all places of the logit's gradient
    with respect to ``A^k``; enlarged to the image bilinearly. As the weight of a feature is a mean over places, the
    map also lights up where a feature is present and the network does not look: a flatten head, which has a weight per
    place, can be misrepresented so.
    """

    name = "Grad-CAM"

    def attribute(self, network: nn.Module, images: Tensor) -> Tensor:
        """See :class:`GradCam`."""
        maps, gradient = _maps_and_gradient(network, self._found(network, images), images)
        return (gradient.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)


class GradCamPlusPlus(_FromFeatureMaps):
    """Grad-CAM++ (Chattopadhay et al., WACV 2018, equations 5, 10 to 12 and 19).

    ``relu(sum_k w_k A^k)`` with ``w_k = sum_ij a_ij relu(g_ij)``, ``g`` the logit's gradient with respect to ``A^k``
    and ``a_ij = g_ij^2 / (2 g_ij^2 + g_ij^3 sum_ab A_ab)``. The paper explains ``exp(logit)``, whose powers of the
    derivative give these; its factor ``exp(logit)`` is left out: it scales a whole map.
    """

    name = "Grad-CAM++"

    def attribute(self, network: nn.Module, images: Tensor) -> Tensor:
        """See :class:`GradCamPlusPlus`."""
        maps, gradient = _maps_and_gradient(network, self._found(network, images), images)
        positive = gradient.clamp(min=0)
        total = maps.sum(dim=(2, 3), keepdim=True)
        # Divided by g^2, which cancels: cubes of small gradients would underflow. Where g <= 0 the share has no effect.
        share = 2 + positive * total
        share = torch.where(share.abs() > 1e-6, 1 / share.where(share.abs() > 1e-6, torch.ones_like(share)), 0.0)
        weights = (share * positive).sum(dim=(2, 3), keepdim=True)
        return (weights * maps).sum(dim=1)


class HiResCam(_FromFeatureMaps):
    """HiResCAM (Draelos and Carin, arXiv 2011.08891, equation 5).

    ``relu(sum_k g^k * A^k)``, place by place: the gradient is not averaged over places, so that a flatten head, which
    has a weight per place, is shown as it is. With a head of global average pooling it is Grad-CAM.
    """

    name = "HiResCAM"

    def attribute(self, network: nn.Module, images: Tensor) -> Tensor:
        """See :class:`HiResCam`."""
        maps, gradient = _maps_and_gradient(network, self._found(network, images), images)
        return (gradient * maps).sum(dim=1)


class Occlusion(Saliency):
    """Occlusion (Zeiler and Fergus, ECCV 2014, section 2.2), by captum.

    How much the logit falls when a square is covered; a pixel gets the mean over the squares that cover it.

    Args:
        window: Side of the square as a share of the image's sides, in (0, 1].
        stride: Step from one square to the next as a share of the image's sides, in (0, ``window``].
        fill: What covers it: ``mean``, the image's own mean grey (the paper's grey square), or ``black``.
        batch_size: Images that are worked on together, at least 1.

    Raises:
        MissingLibraryError: captum is not installed.
    """

    name = "occlusion"

    def __init__(self, window: float = 0.15, stride: float = 0.1, fill: str = "mean", batch_size: int = 16) -> None:
        super().__init__(batch_size)
        check_installed(_CAPTUM, self.name, _WITHOUT_CAPTUM)
        check_range("window", window, 0, 1, low_open=True)
        check_range("stride", stride, 0, window, low_open=True)
        check_choice("fill", fill, ("mean", "black"))
        self.window = window
        self.stride = stride
        self.fill = fill

    def attribute(self, network: nn.Module, images: Tensor) -> Tensor:
        """See :class:`Occlusion`."""
        channels, *sides = images.shape[1:]
        window = (channels, *(max(1, round(self.window * side)) for side in sides))
        stride = (channels, *(max(1, round(self.stride * side)) for side in sides))
        covered = torch.zeros_like(images)
        if self.fill == "mean":
            covered += images.mean(dim=(2, 3), keepdim=True)
        with torch.no_grad():
            found = (
                need(_CAPTUM, self.name)
                .Occlusion(network)
                .attribute(images, sliding_window_shapes=window, strides=stride, baselines=covered, target=0)
            )
        return cast(Tensor, found).mean(dim=1)


class IntegratedGradients(Saliency):
    """Integrated gradients (Sundararajan et al., ICML 2017, equation 1), by captum.

    ``(x - x') * integral of the gradient`` on the straight way from ``x'`` to the image ``x``, summed over channels.
    Before what is negative is cut off, all places together give the logit's difference between the two (completeness).
    From a black ``x'``, black pixels never get any.

    Args:
        steps: Points on the way, at least 2 (Gauss-Legendre).
        fill: ``black``, the paper's for images, or ``mean``, the image's own mean grey.
        batch_size: Images that are worked on together, at least 1.

    Raises:
        MissingLibraryError: captum is not installed.
    """

    name = "integrated gradients"

    def __init__(self, steps: int = 32, fill: str = "black", batch_size: int = 8) -> None:
        super().__init__(batch_size)
        check_installed(_CAPTUM, self.name, _WITHOUT_CAPTUM)
        check_range("steps", steps, 2, integer=True)
        check_choice("fill", fill, ("black", "mean"))
        self.steps = steps
        self.fill = fill

    def attribute(self, network: nn.Module, images: Tensor) -> Tensor:
        """See :class:`IntegratedGradients`."""
        start = torch.zeros_like(images)
        if self.fill == "mean":
            start += images.mean(dim=(2, 3), keepdim=True)
        chunk = max(len(images), 4 * self.batch_size)  # captum's steps times images go through in chunks of these
        found = (
            need(_CAPTUM, self.name)
            .IntegratedGradients(network)
            .attribute(images, baselines=start, target=0, n_steps=self.steps, internal_batch_size=chunk)
        )
        return cast(Tensor, found).sum(dim=1)


def last_feature_maps(network: nn.Module, shapes: dict[str, torch.Size]) -> str:
    """The name of the layer whose feature maps the network's head reads.

    That is the last layer with an output of four dimensions and more than one place, after at least one convolution:
    past normalisation, activation, pooling and what is added to the last convolution itself, whose own output may be
    mostly negative numbers that an activation then removes.

    Args:
        network: Any.
        shapes: Of every layer's output, in the order in which layers end.

    Raises:
        ConfigError: There is none: no convolution, or tokens (three dimensions) come after it, as in transformers.
    """
    maps = [name for name, shape in shapes.items() if name and len(shape) == 4 and shape[2] * shape[3] > 1]
    modules = dict(network.named_modules())
    names = list(shapes)
    convolved = any(isinstance(modules[name], nn.Conv2d) for name in maps)
    if not convolved or any(len(shapes[name]) == 3 for name in names[names.index(maps[-1]) :]):
        raise ConfigError(
            f"saliency: {type(network).__name__} has no feature maps before its head, which Grad-CAM, Grad-CAM++ and "
            f"HiResCAM need; {PIXEL_METHODS} explain any network, and saliency.layer=… names a layer"
        )
    return maps[-1]


def randomised(network: nn.Module, seed: int, part: str = "all") -> nn.Module:
    """A copy of a network with weights that know nothing (the model parameter randomisation of Adebayo et al. 2018).

    Layers begin anew as PyTorch begins them; weights outside such layers are drawn from a normal distribution with
    their own mean and deviation.

    Args:
        network: Left as it is.
        seed: Of the draw, at least 0.
        part: ``all``, or ``head``: the last layer that has weights, alone.
    """
    check_choice("part", part, ("all", "head"))
    blank = copy.deepcopy(network)
    holders = [module for module in blank.modules() if list(module.parameters(recurse=False))]
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for module in holders if part == "all" else holders[-1:]:
            begin = getattr(module, "reset_parameters", None)
            if callable(begin):
                begin()
                continue
            for weight in module.parameters(recurse=False):
                deviation = float(weight.std()) if weight.numel() > 1 else 0.0
                weight.copy_(weight.mean() + deviation * torch.randn_like(weight))
    return blank


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every layer is in the mode in which it was found."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _output_shapes(network: nn.Module, images: Tensor) -> dict[str, torch.Size]:
    """The shape of every layer's output, by name, in the order in which layers end; the last call of a layer counts."""
    shapes: dict[str, torch.Size] = {}

    def watch(name: str) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shapes.pop(name, None)
            if isinstance(output, Tensor):
                shapes[name] = output.shape

        return note

    hooks = [module.register_forward_hook(watch(name)) for name, module in network.named_modules()]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _maps_and_gradient(network: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's output, and the gradient of the logits with respect to it, both of shape (n, k, h, w)."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        kept[:] = [output.detach().requires_grad_()]
        return kept[0].clone()  # a layer that follows may work in place

    hook = layer.register_forward_hook(keep)
    try:
        logits = network(images)
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(logits.sum(), kept)
    return kept[0].detach(), gradient


def _resized(maps: Tensor, size: torch.Size) -> NDArray[np.float32]:
    """Maps (n, h, w) at the images' size, bilinearly."""
    if maps.shape[1:] != size:
        maps = F.interpolate(maps[:, None], size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return maps.numpy().astype(np.float32)
