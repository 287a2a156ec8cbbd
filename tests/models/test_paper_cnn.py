"""The paper's network: its size, its shapes, its options, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cxrlab.models import PaperCNN
from cxrlab.models.paper_cnn import from_keras

SMALL: dict[str, Any] = {"image_size": [24, 20], "filters": [4, 6, 8], "dense_units": 5}
SMALL_LAYERS: dict[str, Any] = {"filters": (2, 2, 2), "dense_units": 2}


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


def test_default_has_the_papers_parameters_and_one_logit() -> None:
    with torch.device("meta"):
        network = PaperCNN()
        logits = network(torch.zeros(5, 3, 224, 224))
    assert count(network) == 23_981_249
    assert logits.shape == (5, 1)


def test_layers_bear_the_names_of_fig_6() -> None:
    with torch.device("meta"):
        names = [name for name, _ in PaperCNN().named_children()]
    fig_6 = "conv2d conv2d_1 max_pooling2d dropout conv2d_2 max_pooling2d_1 dropout_1 flatten dense dropout_2 dense_1"
    assert " ".join(names) == fig_6


def plain_order(network: PaperCNN, images: Tensor) -> Tensor:
    """The paper's network as it is usually written: every ReLU directly after its convolution."""

    def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
        return F.relu(F.conv2d(x, layer.weight, layer.bias))

    x = F.max_pool2d(conv(network.conv2d_1, conv(network.conv2d, images)), 2)
    x = F.max_pool2d(conv(network.conv2d_2, x), 2)
    x = F.relu(F.linear(x.flatten(1), network.dense.weight, network.dense.bias))
    return F.linear(x, network.dense_1.weight, network.dense_1.bias)


def test_pooling_before_relu_changes_neither_outputs_nor_gradients() -> None:
    torch.manual_seed(0)
    network = PaperCNN(**SMALL, dropout=[0, 0, 0]).double()
    for layer in (network.conv2d, network.conv2d_1, network.conv2d_2):
        assert layer.bias is not None
        nn.init.uniform_(layer.bias, -0.3, 0.1)  # so that whole pooling windows are negative as well

    def run(forward: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[Tensor]]:
        images = torch.rand(3, 3, 24, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        images.requires_grad_()
        logits = forward(images)
        return logits, list(torch.autograd.grad(logits.square().sum(), [images, *network.parameters()]))

    ours, our_gradients = run(network)
    plain, plain_gradients = run(lambda images: plain_order(network, images))
    assert torch.equal(ours, plain)
    assert all(gradient.abs().max() > 0 for gradient in plain_gradients)
    for our, expected in zip(our_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(our, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("head", ["flatten", "gap"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_channels_last_gives_the_same_logits(head: str, norm: str) -> None:
    torch.manual_seed(0)
    network = PaperCNN(**SMALL, head=head, norm=norm).eval()
    images = torch.rand(4, 3, 24, 20)
    with torch.inference_mode():
        expected = network(images)
        found = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_keras_init_is_glorot_uniform_with_zero_biases() -> None:
    torch.manual_seed(0)
    network = PaperCNN(image_size=[40, 44])
    fans = {"conv2d": 9 * (3 + 32), "conv2d_1": 9 * (32 + 64), "conv2d_2": 9 * (64 + 128), "dense_1": 64 + 1}
    fans["dense"] = network.dense.in_features + 64
    for name, fan in fans.items():
        layer = network.get_submodule(name)
        limit = math.sqrt(6 / fan)
        assert isinstance(layer.weight, Tensor)
        assert isinstance(layer.bias, Tensor)
        assert layer.weight.abs().max().item() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.2)
        assert torch.count_nonzero(layer.bias) == 0


def test_torch_init_is_pytorchs_own() -> None:
    torch.manual_seed(3)
    network = PaperCNN(**SMALL, init="torch")
    torch.manual_seed(3)
    first = nn.Conv2d(3, 4, 3)
    assert torch.equal(network.conv2d.weight, first.weight)
    assert first.bias is not None
    assert network.conv2d.bias is not None
    assert torch.equal(network.conv2d.bias, first.bias)
    assert first.bias.abs().max() > 0


def test_a_seed_means_the_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(PaperCNN(**SMALL).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_gap_head_is_small_and_takes_any_size() -> None:
    network = PaperCNN(head="gap").eval()
    assert count(network) == 896 + 18_496 + 73_856 + 128 * 64 + 64 + 65
    assert "global_average_pooling2d" in dict(network.named_children())
    assert "flatten" not in dict(network.named_children())
    assert network(torch.rand(2, 3, 50, 70)).shape == (2, 1)


def test_batch_norm_adds_its_layers() -> None:
    names = [name for name, _ in PaperCNN(**SMALL, norm="batch").named_children()]
    assert names[:4] == ["conv2d", "batch_normalization", "conv2d_1", "batch_normalization_1"]
    assert names.index("batch_normalization_2") == names.index("conv2d_2") + 1


def test_flatten_head_names_both_shapes_for_another_image_size() -> None:
    with pytest.raises(ValueError, match=r"built for images of shape \(3, 24, 20\), got \(3, 20, 24\)"):
        PaperCNN(**SMALL)(torch.zeros(1, 3, 20, 24))


@pytest.mark.parametrize(
    ("options", "least"),
    [({}, 12), ({"kernel": 5}, 20), ({"pool": 3}, 19), ({"kernel": 1, "pool": 1}, 1), ({"kernel": 2, "pool": 4}, 22)],
)
def test_smallest_image_size_is_named_and_is_the_smallest(options: dict[str, Any], least: int) -> None:
    network = PaperCNN(image_size=least, **SMALL_LAYERS, **options)
    assert network(torch.zeros(1, 3, least, least)).shape == (1, 1)
    if least > 1:
        with pytest.raises(ValueError, match=f"image_size 99x{least - 1} is too small .* at least {least}x{least}"):
            PaperCNN(image_size=[99, least - 1], **SMALL_LAYERS, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 8}, r"image_size 8x8 is too small for kernel 3 and pool 2: at least 12x12"),
        ({"image_size": 224.0}, r"image_size must be a whole number or \[height, width\], got 224.0"),
        ({"image_size": [1, 2, 3]}, r"image_size must be a whole number or \[height, width\]"),
        ({"image_size": "224"}, r"image_size must be a whole number"),
        ({"image_size": [224, "x"]}, r"image_size must be a whole number in \[1, inf\)"),
        ({"image_size": True}, r"image_size must be a whole number"),
        ({"in_channels": 0}, r"in_channels must be a whole number in \[1, inf\), got 0"),
        ({"filters": [32, 64]}, r"filters must be a list of three numbers, got \[32, 64\]"),
        ({"filters": [32, 64, 0]}, r"filters\[2\] must be a whole number in \[1, inf\), got 0"),
        ({"kernel": 2.5}, r"kernel must be a whole number"),
        ({"pool": 0}, r"pool must be"),
        ({"dense_units": -1}, r"dense_units must be"),
        ({"dropout": 0.5}, r"dropout must be a list of three numbers, got 0.5"),
        ({"dropout": [0.1, 0.2, 1.0]}, r"dropout\[2\] must be a number in \[0, 1\), got 1.0"),
        ({"head": "flaten"}, r"head must be one of flatten, gap, got 'flaten'; did you mean 'flatten'\?"),
        ({"norm": "layer"}, r"norm must be one of none, batch"),
        ({"init": "Keras"}, r"init must be one of keras, torch, got 'Keras'; did you mean 'keras'\?"),
    ],
)
def test_bad_arguments_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        PaperCNN(**options)


def test_dropout_rates_reach_their_layers() -> None:
    with torch.device("meta"):
        network = PaperCNN(dropout=[0.1, 0.2, 0.3])
    assert [network.dropout.p, network.dropout_1.p, network.dropout_2.p] == [0.1, 0.2, 0.3]


def test_from_keras_takes_a_list_with_batch_norm_and_gap() -> None:
    random = np.random.default_rng(0)
    arrays = []
    for size, width in (((3, 3, 3, 4), 4), ((3, 3, 4, 6), 6), ((3, 3, 6, 8), 8)):
        arrays += [random.random(size), *(random.random(width) for _ in range(5))]
    arrays += [random.random(size) for size in ((8, 5), (5,), (5, 1), (1,))]
    network = PaperCNN(**SMALL, norm="batch", head="gap")
    network.load_state_dict(from_keras(arrays))
    expected = torch.tensor(arrays[9], dtype=torch.float32)
    assert network.batch_normalization_1 is not None
    assert torch.equal(network.batch_normalization_1.bias, expected)
    assert torch.equal(network.dense.weight, torch.tensor(arrays[-4].T, dtype=torch.float32))


def test_from_keras_names_what_is_missing_or_unknown() -> None:
    with pytest.raises(ValueError, match=r"10 arrays \(22 with batch normalisation\), got 3"):
        from_keras([np.zeros(1)] * 3)
    with pytest.raises(ValueError, match=r"missing \['conv2d/bias', .*unknown \['conv9/bias'\]"):
        from_keras({"sequential/conv2d/kernel": np.zeros((3, 3, 3, 4)), "conv9/bias": np.zeros(4)})
