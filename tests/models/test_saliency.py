"""Maps against formulas worked out by hand, against captum's own, and on a network whose evidence is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import LayerGradCam
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor, nn

from cxrlab.errors import ConfigError
from cxrlab.models import PaperCNN, ThumbnailLogistic, TorchvisionNet
from cxrlab.models.saliency import (
    GradCam,
    GradCamPlusPlus,
    HiResCam,
    IntegratedGradients,
    Occlusion,
    Saliency,
    randomised,
)

METHODS: tuple[Callable[[], Saliency], ...] = (GradCam, GradCamPlusPlus, HiResCam, Occlusion, IntegratedGradients)


class OneConvolution(nn.Module):
    """A 1x1 convolution to two feature maps, and a weighted sum of all their places: the logit."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        self.dense = nn.Linear(8, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([2.0, 3.0]).reshape(2, 1, 1, 1))
            self.dense.weight.copy_(torch.tensor([[1.0, -1.0, 2.0, 0.0, 0.5, 0.5, -3.0, 0.0]]))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.dense(self.conv(images).flatten(1))
        return logits


class Corner(nn.Module):
    """Sees nothing but the 8x8 pixels at the top left: how bright they are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        self.dense = nn.Linear(2, 1)
        with torch.no_grad():
            self.conv.weight.fill_(0.1)
            self.conv.bias.zero_()  # type: ignore[union-attr]
            self.dense.weight.fill_(1.0)

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.zeros_like(images)
        seen[:, :, :8, :8] = images[:, :, :8, :8]
        logits: Tensor = self.dense(self.conv(seen).relu().mean(dim=(2, 3)))
        return logits


@pytest.fixture
def small() -> PaperCNN:
    torch.manual_seed(0)
    return PaperCNN(image_size=32, filters=(4, 8, 8), dense_units=8).requires_grad_(False).eval()


def pixels(n: int, side: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(1))


IMAGE = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])


def test_grad_cam_is_the_formula() -> None:
    # Mean gradients of the two feature maps: (1 - 1 + 2 + 0) / 4 = 0.5 and (0.5 + 0.5 - 3 + 0) / 4 = -0.5; the maps are
    # 2 x and 3 x: 0.5 * 2 x - 0.5 * 3 x = -0.5 x, all below zero.
    assert GradCam("conv")(OneConvolution(), IMAGE).tolist() == [[[0, 0], [0, 0]]]
    network = OneConvolution()
    with torch.no_grad():
        network.dense.weight[0, 6] = 0.0  # the mean of the second is now 0.25: x + 0.75 x
    found = GradCam("conv")(network, IMAGE)
    np.testing.assert_allclose(found[0], 1.75 * IMAGE[0, 0].numpy(), rtol=1e-6)


def test_grad_cam_plus_plus_is_the_formula() -> None:
    image, gradient = IMAGE[0, 0].numpy(), np.array([[[1, -1], [2, 0]], [[0.5, 0.5], [-3, 0]]])
    expected = np.zeros((2, 2))
    for factor, g in zip((2, 3), gradient, strict=True):
        maps = factor * image
        share = np.divide(g**2, 2 * g**2 + maps.sum() * g**3, out=np.zeros((2, 2)), where=g > 0)
        expected += (share * np.maximum(g, 0)).sum() * maps
    found = GradCamPlusPlus("conv")(OneConvolution(), IMAGE)
    np.testing.assert_allclose(found[0], np.maximum(expected, 0), rtol=1e-5)


def test_hirescam_is_the_formula() -> None:
    # Place by place, gradient times feature map: (1, -1, 2, 0) * 2 x + (0.5, 0.5, -3, 0) * 3 x.
    found = HiResCam("conv")(OneConvolution(), IMAGE)
    np.testing.assert_allclose(found[0], np.array([[3.5 * 0.1, 0.0], [0.0, 0.0]]), rtol=1e-6)


def test_hirescam_of_average_pooling_is_grad_cam() -> None:
    torch.manual_seed(0)
    network = PaperCNN(image_size=32, filters=(4, 8, 8), dense_units=8, head="gap").eval()
    np.testing.assert_allclose(HiResCam()(network, pixels(2)), GradCam()(network, pixels(2)), rtol=1e-4, atol=1e-8)


def test_values_are_captums(small: PaperCNN) -> None:
    images = pixels(3)
    cam = LayerGradCam(small, small.dropout_1).attribute(images.clone(), target=0, relu_attributions=True)
    size = GradCam("dropout_1")(small, images)
    expected = torch.nn.functional.interpolate(cam, size=(32, 32), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(size, expected.detach().numpy(), rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(GradCam()(small, images), size)  # what is chosen without saying

    mean = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    occluded = CaptumOcclusion(small).attribute(images, (3, 5, 5), strides=(3, 3, 3), baselines=mean, target=0)
    np.testing.assert_allclose(Occlusion()(small, images), occluded.mean(1).clamp(min=0).numpy(), rtol=1e-4, atol=1e-7)

    gradients = CaptumIntegratedGradients(small).attribute(images.clone(), target=0, n_steps=32)
    own = IntegratedGradients(steps=32, batch_size=2)(small, images)
    np.testing.assert_allclose(own, gradients.sum(1).clamp(min=0).detach().numpy(), rtol=1e-4, atol=1e-7)


def test_integrated_gradients_are_complete(small: PaperCNN) -> None:
    images = pixels(2)
    whole = IntegratedGradients(steps=64).attribute(small, images).sum(dim=(1, 2))
    with torch.no_grad():
        expected = (small(images) - small(torch.zeros_like(images)))[:, 0]
    np.testing.assert_allclose(whole.detach(), expected, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_evidence_is_found_where_it_is(method: Callable[[], Saliency]) -> None:
    found = method()(Corner(), pixels(3))
    assert found.shape == (3, 32, 32)
    assert found.dtype == np.float32
    assert (found.sum(axis=(1, 2)) > 0).all()
    # The convolution sees one pixel further, and a square that covers the corner's edge reaches beyond it.
    reach = 12 if method is Occlusion else 9
    inside = found[:, :reach, :reach].sum(axis=(1, 2)) / found.sum(axis=(1, 2))
    np.testing.assert_allclose(inside, 1, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_only_evidence_for_positive_counts(method: Callable[[], Saliency]) -> None:
    against = Corner()
    with torch.no_grad():
        against.dense.weight.fill_(-1.0)
    images = pixels(2)
    images[:, :, :8, :8] = 1.0  # so that covering it with grey makes it darker
    assert not method()(against, images).any()


@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_left_as_it_was(method: Callable[[], Saliency], small: PaperCNN) -> None:
    small.train()
    small.dropout.eval()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    images = pixels(2)
    with torch.inference_mode():
        first = method()(small, images)
    np.testing.assert_allclose(first, method()(small, images), rtol=1e-6)  # no dropout
    assert small.training
    assert small.dropout_1.training
    assert not small.dropout.training
    assert all(not weight.requires_grad and weight.grad is None for weight in small.parameters())
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert not any(module._forward_hooks for module in small.modules())
    assert not images.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_batches_change_nothing(method: Callable[..., Saliency], small: PaperCNN) -> None:
    images = pixels(5)
    np.testing.assert_allclose(
        method(batch_size=2)(small, images), method(batch_size=5)(small, images), rtol=1e-4, atol=1e-7
    )
    assert method()(small, images[:0]).shape == (0, 32, 32)


def test_residual_networks_and_in_place_layers_are_explained() -> None:
    torch.manual_seed(0)
    network = TorchvisionNet("resnet18").eval()
    images = pixels(1, 64)
    direct = LayerGradCam(network, network.get_submodule("network.layer4")).attribute(images.clone(), target=0)
    expected = torch.nn.functional.interpolate(direct.clamp(min=0), size=(64, 64), mode="bilinear")[:, 0]
    np.testing.assert_allclose(GradCam()(network, images), expected.detach().numpy(), rtol=1e-4, atol=1e-8)
    assert np.isfinite(GradCamPlusPlus()(network, images)).all()


@pytest.mark.parametrize("network", [ThumbnailLogistic(size=4), TorchvisionNet("vit_b_32", image_size=32)])
def test_networks_without_feature_maps_are_refused(network: nn.Module) -> None:
    for method in (GradCam(), GradCamPlusPlus(), HiResCam()):
        with pytest.raises(ConfigError, match=r"saliency=occlusion and saliency=integrated_gradients"):
            method.check(network, (3, 32, 32))
    assert IntegratedGradients(steps=4)(network, pixels(1)).shape == (1, 32, 32)
    Occlusion().check(network, (3, 32, 32))


def test_layers_that_do_not_do_are_refused(small: PaperCNN) -> None:
    with pytest.raises(
        ConfigError, match=r"saliency.layer: 'conv2d_3' is no layer of the network; did you mean 'conv2d"
    ):
        GradCam("conv2d_3").check(small, (3, 32, 32))
    with pytest.raises(ConfigError, match=r"saliency.layer: the output of dense must be feature maps .*got \(1, 8\)"):
        GradCam("dense")(small, pixels(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradCam(batch_size=0), r"batch_size must be a whole number in \[1, inf\)"),
        (lambda: Occlusion(window=0), r"window must be a number in \(0, 1\]"),
        (lambda: Occlusion(window=0.1, stride=0.2), r"stride must be a number in \(0, 0.1\]"),
        (lambda: Occlusion(fill="white"), r"fill must be one of mean, black"),
        (lambda: IntegratedGradients(steps=1), r"steps must be a whole number in \[2, inf\)"),
    ],
)
def test_arguments_are_checked(make: Callable[[], Saliency], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_random_weights(small: PaperCNN) -> None:
    before = {name: value.clone() for name, value in small.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    every, head = randomised(small, 5), randomised(small, 5, "head")
    assert torch.equal(torch.rand(1), wanted)  # the stream of training is not touched
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert not any(torch.equal(value, before[name]) for name, value in every.state_dict().items())
    changed = [name for name, value in head.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["dense_1.weight", "dense_1.bias"]
    assert torch.equal(randomised(small, 5).conv2d.weight, every.conv2d.weight)  # type: ignore[arg-type,union-attr]
    assert not torch.equal(randomised(small, 6).conv2d.weight, every.conv2d.weight)  # type: ignore[arg-type,union-attr]
