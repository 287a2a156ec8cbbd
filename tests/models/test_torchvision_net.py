"""Networks of torchvision: one logit, sizes, pretrained weights from files, and what is refused."""

from __future__ import annotations

import pickle
import re
import urllib.error
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from cxrlab.errors import CheckpointError
from cxrlab.models import PaperCNN, TorchvisionNet
from cxrlab.models.torchvision_net import IMAGENET_MEAN, IMAGENET_STD

SIZES = {"resnet18": 11_177_025, "squeezenet1_0": 735_937, "regnet_y_400mf": 3_903_585, "vit_b_32": 87_456_001}
"""Those that are not options of their own, which test_model_configs.py counts, and the default."""


@pytest.mark.parametrize("name", SIZES)
def test_one_logit_and_known_size(name: str) -> None:
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("error")
        network = TorchvisionNet(name)
        logits = network.train()(torch.zeros(2, 3, 224, 224))
    assert logits.shape == (2, 1)
    assert sum(weight.numel() for weight in network.parameters()) == SIZES[name]
    assert all(weight.is_meta for weight in network.parameters())


def test_a_lone_logit_of_squeezenet_can_be_negative() -> None:
    torch.manual_seed(0)
    for name in ("squeezenet1_0", "squeezenet1_1"):
        network = TorchvisionNet(name).eval()
        torch.nn.init.constant_(network.network.classifier[1].bias, -9.0)  # type: ignore[index, union-attr]
        assert network(torch.rand(2, 3, 64, 64)).max() < -5, name


def test_alexnet_and_vgg_compute_what_torchvisions_do() -> None:
    torch.manual_seed(0)
    for name in ("alexnet", "vgg11"):
        with torch.device("meta"):
            ours, theirs = TorchvisionNet(name), torchvision.models.get_model(name, num_classes=1)
        assert ours.network.state_dict().keys() == theirs.state_dict().keys()
    pooled = torch.rand(2, 4, 9, 11)
    torch.testing.assert_close(ours.network.avgpool(pooled), theirs.avgpool(pooled))  # type: ignore[operator]


def test_a_vision_transformer_is_built_for_the_image_size() -> None:
    with torch.device("meta"):
        network = TorchvisionNet("vit_b_32", image_size=[96, 96])
        assert network(torch.zeros(2, 3, 96, 96)).shape == (2, 1)
        with pytest.raises(ValueError, match=r"vit_b_32 was built for image_size 96, got images of 64x96"):
            network(torch.zeros(2, 3, 64, 96))
        for size, found in ((100, "100x100"), ([96, 64], "96x64")):
            message = rf"image_size must be square and a multiple of 32 for vit_b_32, got {found}"
            with pytest.raises(ValueError, match=message):
                TorchvisionNet("vit_b_32", image_size=size)


def test_pretrained_positions_are_interpolated_to_the_image_size(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with torch.device("meta"):
        network = TorchvisionNet("vit_b_32", image_size=96, pretrained=True, weights_path=str(path))
        shapes = {key: value.shape for key, value in published("vit_b_32").items()}
    state = {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()}
    positions = torch.rand(1, 1 + 7 * 7, 768, generator=torch.Generator().manual_seed(0))
    torch.save({**state, "encoder.pos_embedding": positions}, path)
    network.network.to_empty(device="cpu")
    assert network.load_pretrained() == ["heads.head.weight", "heads.head.bias"]
    found = network.network.state_dict()["encoder.pos_embedding"]
    assert found.shape == (1, 1 + 3 * 3, 768)
    assert torch.equal(found[:, 0], positions[:, 0])  # the class token's
    corners = [positions[:, 1:].reshape(1, 7, 7, 768)[:, row, column] for row in (0, 6) for column in (0, 6)]
    ours = [found[:, 1:].reshape(1, 3, 3, 768)[:, row, column] for row in (0, 2) for column in (0, 2)]
    torch.testing.assert_close(ours, corners)

    torch.save({**state, "encoder.pos_embedding": positions[:, :-1]}, path)
    with pytest.raises(CheckpointError, match=r"does not fit vit_b_32: .*not a perfect square"):
        network.load_pretrained()


def test_building_on_meta_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    with torch.device("meta"):
        TorchvisionNet("regnet_y_400mf")
    assert torch.equal(torch.get_rng_state(), before)


def test_grey_images_are_repeated_into_three_channels() -> None:
    network = TorchvisionNet("squeezenet1_1", in_channels=1).eval()
    grey = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(grey), network.network(grey.repeat(1, 3, 1, 1)))


def test_normalize_applies_imagenets_mean_and_deviation() -> None:
    network = TorchvisionNet("squeezenet1_1", normalize=True).eval()
    images = torch.rand(2, 3, 64, 64)
    by_hand = torch.stack([(images[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c] for c in range(3)], dim=1)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), network.network(by_hand))
    assert not [key for key in network.state_dict() if not key.startswith("network.")]
    with torch.device("meta"):
        loaded = TorchvisionNet("squeezenet1_1", normalize=True)
    loaded.load_state_dict(network.state_dict(), assign=True)
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(images), network(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet19"}, r"name must be one of .*got 'resnet19'; did you mean 'resnet1"),
        ({"name": "fcn_resnet50"}, r"name must be one of"),
        ({"in_channels": 4}, r"in_channels must be one of 1, 3, got 4"),
        ({"pretrained": "yes"}, r"pretrained must be one of True, False, got 'yes'"),
        ({"normalize": "imagenet"}, r"normalize must be one of True, False, got 'imagenet'"),
        ({"weights_path": "x.pth"}, r"weights_path 'x.pth' would not be read: set pretrained=true"),
    ],
)
def test_bad_arguments_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        TorchvisionNet(**options)


def test_constructor_reads_no_file_and_plain_networks_load_nothing() -> None:
    network = TorchvisionNet("squeezenet1_1", pretrained=True, weights_path="/nowhere/file.pth")
    assert network.pretrained
    assert TorchvisionNet("squeezenet1_1").load_pretrained() == []
    assert not hasattr(PaperCNN, "load_pretrained")


def save(tmp_path: Path, state: Any) -> str:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    return str(path)


def published(name: str, seed: int = 1, **options: Any) -> OrderedDict[str, torch.Tensor]:
    """A state dict as torchvision publishes it: 1000 classes, and its metadata."""
    torch.manual_seed(seed)
    state: OrderedDict[str, torch.Tensor] = torchvision.models.get_model(name, **options).state_dict()
    return state


@pytest.mark.parametrize(
    ("name", "head"),
    [("resnet18", "fc"), ("squeezenet1_1", "classifier.1"), ("mobilenet_v3_small", "classifier.3")],
)
def test_imagenet_weights_load_all_but_the_head(tmp_path: Path, name: str, head: str) -> None:
    state = published(name)
    network = TorchvisionNet(name, pretrained=True, weights_path=save(tmp_path, state))
    before = {key: value.clone() for key, value in network.network.state_dict().items()}
    assert network.load_pretrained() == [f"{head}.weight", f"{head}.bias"]
    for key, value in network.network.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith(f"{head}.") else state[key]), key


def test_weights_with_one_class_load_with_their_head(tmp_path: Path) -> None:
    torch.manual_seed(5)
    saved = TorchvisionNet("squeezenet1_1")
    path = save(tmp_path, saved.network.state_dict())
    network = TorchvisionNet("squeezenet1_1", pretrained=True, weights_path=path)
    assert network.load_pretrained() == []
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(network.eval()(images), saved.eval()(images))


def test_mnasnet_needs_and_keeps_its_version(tmp_path: Path) -> None:
    path = save(tmp_path, published("mnasnet0_5"))
    assert TorchvisionNet("mnasnet0_5", pretrained=True, weights_path=path).load_pretrained()
    path = save(tmp_path, dict(published("mnasnet0_5")))
    with pytest.raises(CheckpointError, match="does not fit mnasnet0_5: version should be"):
        TorchvisionNet("mnasnet0_5", pretrained=True, weights_path=path).load_pretrained()


def test_auxiliary_heads_of_published_weights_are_left_out(tmp_path: Path) -> None:
    state = published("googlenet", init_weights=False)
    assert any(key.startswith("aux1.") for key in state)
    network = TorchvisionNet("googlenet", pretrained=True, weights_path=save(tmp_path, state))
    assert network.load_pretrained() == ["fc.weight", "fc.bias"]
    assert torch.equal(network.network.state_dict()["conv1.conv.weight"], state["conv1.conv.weight"])


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_published_weights_get_the_input_they_were_trained_on(name: str) -> None:
    with torch.device("meta"):
        assert TorchvisionNet(name, pretrained=True).network.transform_input
        assert not TorchvisionNet(name).network.transform_input


def test_old_names_in_densenet_files_are_understood(tmp_path: Path) -> None:
    new = published("densenet121")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value for key, value in new.items()}
    assert set(old) != set(new)
    network = TorchvisionNet("densenet121", pretrained=True, weights_path=save(tmp_path, old))
    assert network.load_pretrained() == ["classifier.weight", "classifier.bias"]
    key = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(network.network.state_dict()[key], new[key])


def test_mismatch_anywhere_but_in_the_head_names_the_keys(tmp_path: Path) -> None:
    state = published("squeezenet1_1")
    weight = state.pop("features.0.weight")
    state["stem.weight"] = weight
    network = TorchvisionNet("squeezenet1_1", pretrained=True, weights_path=save(tmp_path, state))
    with pytest.raises(CheckpointError, match=r"missing features\.0\.weight; unknown stem\.weight"):
        network.load_pretrained()
    del state["stem.weight"]
    state["features.0.weight"] = weight[:, :1]
    save(tmp_path, state)
    with pytest.raises(CheckpointError, match=r"size mismatch for features\.0\.weight"):
        network.load_pretrained()


def test_weights_of_another_network_are_refused_briefly(tmp_path: Path) -> None:
    path = save(tmp_path, published("squeezenet1_1"))
    with pytest.raises(
        CheckpointError, match=r"does not fit resnet18: missing conv1\.weight, .* and \d+ more"
    ) as caught:
        TorchvisionNet("resnet18", pretrained=True, weights_path=path).load_pretrained()
    assert len(str(caught.value)) < 600


def test_missing_file_says_what_to_type() -> None:
    network = TorchvisionNet("squeezenet1_1", pretrained=True, weights_path="/nowhere/file.pth")
    with pytest.raises(CheckpointError, match=r"there is no file /nowhere/file\.pth; .*model\.pretrained=false"):
        network.load_pretrained()


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_weights_file_is_refused_and_not_run(tmp_path: Path, legacy: bool) -> None:
    mark = tmp_path / "ran"
    path = tmp_path / "weights.pth"
    if legacy:
        path.write_bytes(pickle.dumps({"conv1.weight": Malicious(mark)}))
    else:
        torch.save({"conv1.weight": Malicious(mark)}, path)
    network = TorchvisionNet("squeezenet1_1", pretrained=True, weights_path=str(path))
    with pytest.raises(CheckpointError, match=r"weights\.pth cannot be read as a file of weights only"):
        network.load_pretrained()
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04broken"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    network = TorchvisionNet("squeezenet1_1", pretrained=True, weights_path=str(path))
    with pytest.raises(CheckpointError, match=r"weights\.pth cannot be read .*model\.weights_path="):
        network.load_pretrained()


@pytest.mark.parametrize("state", [[torch.zeros(1)], {"state_dict": {"a": torch.zeros(1)}}])
def test_files_without_a_state_dict_are_refused(tmp_path: Path, state: Any) -> None:
    network = TorchvisionNet("squeezenet1_1", pretrained=True, weights_path=save(tmp_path, state))
    with pytest.raises(CheckpointError, match="holds no plain state dict"):
        network.load_pretrained()


def test_failed_download_says_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(CheckpointError) as caught:
        TorchvisionNet("squeezenet1_1", pretrained=True).load_pretrained()
    for part in (
        "https://download.pytorch.org/models/squeezenet1_1",
        "no network here",
        "model.weights_path=/path/to/file.pth",
        "model.pretrained=false",
        torch.hub.get_dir(),
    ):
        assert part in str(caught.value)


def test_download_is_checked_and_loads_weights_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def serve(url: str, **options: Any) -> Any:
        asked.update(options, url=url)
        return published("squeezenet1_1")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", serve)
    skipped = TorchvisionNet("squeezenet1_1", pretrained=True).load_pretrained()
    assert skipped == ["classifier.1.weight", "classifier.1.bias"]
    assert asked["check_hash"] is True
    assert asked["weights_only"] is True
