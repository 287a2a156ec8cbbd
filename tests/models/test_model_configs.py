"""Every shipped model option: its size, two steps of training, saved and loaded again, weights from a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cxrlab.config import build, compose
from cxrlab.config.help import Conf
from cxrlab.models import TorchvisionNet

ROOT = Path(__file__).parents[2]
MODELS = sorted({*Conf().options("model")} - {"lung_unet", "gate_net"})
"""The classifiers; for the others see test_lung_unet.py and test_gate_net.py."""
LARGE = {"alexnet", "convnext_tiny", "densenet121", "inception_v3", "resnet50", "vgg16", "vit_b_16"}
"""Tens of millions of weights, or hundreds of layers."""
SIDES = {"alexnet": 64, "inception_v3": 96}
OTHER_SIDE = 32

# With 1000 classes, as torchvision publishes them, and the features that reach the classifier.
PUBLISHED = {
    "alexnet": (61_100_840, 4096),
    "convnext_tiny": (28_589_128, 768),
    "densenet121": (7_978_856, 1024),
    "efficientnet_b0": (5_288_548, 1280),
    "googlenet": (6_624_904, 1024),
    "inception_v3": (27_161_264 - 3_326_696, 2048),  # without the auxiliary head
    "mobilenet_v3_large": (5_483_032, 1280),
    "resnet18": (11_689_512, 512),
    "resnet50": (25_557_032, 2048),
    "squeezenet": (1_235_496, 512),
    "vgg16": (138_357_544, 4096),
    "vit_b_16": (86_567_656, 768),
}


def network_of(model: str, folder: Path, *overrides: str, side: int = OTHER_SIDE) -> nn.Module:
    config = compose("train", [f"model={model}", f"data.image_size={side}", *overrides], folder)
    network = build(config.model)
    assert isinstance(network, nn.Module)
    return network


def test_the_table_above_names_every_network_of_torchvision() -> None:
    assert {name for (_, name), text in Conf().variants.items() if "defaults: [torchvision]" in text} == set(PUBLISHED)
    for model, (count, features) in PUBLISHED.items():
        assert f"{count - 999 * (features + 1):,} parameters." in Conf().option("model", model).comment


def test_every_option_stands_in_the_documentation() -> None:
    text = (ROOT / "docs" / "models.md").read_text()
    assert [model for model in MODELS if f"| `{model}` |" not in text] == []
    for count, features in PUBLISHED.values():
        assert f"| {count:,} / {count - 999 * (features + 1):,} |" in text


def marked_if_large(models: Iterable[str]) -> list[Any]:
    return [pytest.param(model, marks=pytest.mark.slow if model in LARGE else ()) for model in models]


@pytest.mark.parametrize("model", marked_if_large(MODELS))
def test_two_steps_and_the_same_outputs_after_loading(model: str, tmp_path: Path) -> None:
    side = SIDES.get(model, OTHER_SIDE)
    torch.manual_seed(0)
    network = network_of(model, tmp_path, side=side).train()
    images, labels = torch.rand(4, 3, side, side), torch.tensor([0.0, 1.0, 0.0, 1.0])
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        logits = network(images)
        assert logits.shape == (4, 1)
        loss = F.binary_cross_entropy_with_logits(logits[:, 0], labels)
        assert loss.isfinite()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert not [name for name, weight in network.named_parameters() if weight.grad is None]
    optimizer.zero_grad()

    path = tmp_path / "weights.pt"
    torch.save(network.state_dict(), path)
    with torch.device("meta"):
        loaded = network_of(model, tmp_path, side=side)
    loaded.load_state_dict(torch.load(path, weights_only=True), assign=True)
    path.unlink()  # half a gigabyte of VGG
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(images), network.eval()(images))


def marked(name: str) -> dict[str, Tensor]:
    """torchvision's own network with 1000 classes, as a file holds it, each tensor full of a number of its own."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta"):
        state = torchvision.models.get_model(name, **options).state_dict()
    return {
        key: torch.tensor(mark, dtype=value.dtype).expand(value.shape)
        for mark, (key, value) in enumerate(state.items(), start=1)
    }


@pytest.mark.parametrize("model", marked_if_large(PUBLISHED))
def test_count_with_one_logit_and_weights_of_a_local_file(model: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with torch.device("meta"):
        choice = ["model.pretrained=true", f"model.weights_path={path}", "model.normalize=true"]
        network = network_of(model, tmp_path, *choice, side=224)
    assert isinstance(network, TorchvisionNet)
    count, features = PUBLISHED[model]
    assert sum(weight.numel() for weight in network.parameters()) == count - 999 * (features + 1)
    state = marked(network.name)
    torch.save(state, path)
    network.network.to_empty(device="cpu")
    head = network.load_pretrained()
    assert len(head) == 2
    assert {key.rpartition(".")[2] for key in head} == {"weight", "bias"}
    own: dict[str, Any] = network.network.state_dict()
    assert set(own) <= set(state)
    for key in set(own) - set(head):
        assert own[key].eq(state[key].flatten()[0]).all(), key
