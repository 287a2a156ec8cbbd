"""PaperCNN answers as Keras does, with the same weights on the same images.

Keras's answers are stored; make_keras_fixture.py beside this file made them and says how.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cxrlab.models import PaperCNN
from cxrlab.models.paper_cnn import from_keras

TOLERANCE = 1e-5
"""Largest difference of two scores, which lie in (0, 1); measured: 3e-6 on the real images."""


def load_script() -> ModuleType:
    """Imports make_keras_fixture.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location(
        "make_keras_fixture", Path(__file__).with_name("make_keras_fixture.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses looks for the annotations' names
    spec.loader.exec_module(module)
    return module


fixture = load_script()


@functools.cache
def record() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(fixture.SCORES_FILE.read_text(encoding="utf-8"))
    return loaded


@pytest.fixture(scope="module")
def full_network() -> PaperCNN:
    """The paper's network with the weights that Keras was given."""
    weights = fixture.draw_weights(fixture.FULL)
    assert fixture.checksum(*weights.values()) == record()["weights_sha256"], (
        "NumPy now draws other numbers from the seed than when Keras's answers were stored: run make_keras_fixture.py"
    )
    return network(fixture.FULL, weights)


def network(shape: Any, weights: dict[str, np.ndarray]) -> PaperCNN:
    paper_cnn = PaperCNN([shape.height, shape.width], filters=shape.filters, dense_units=shape.dense_units)
    paper_cnn.load_state_dict(from_keras(weights))
    return paper_cnn.eval()


def channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def scores(paper_cnn: PaperCNN, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        batches = [torch.sigmoid(paper_cnn(batch)) for batch in torch.split(channels_first(images), 8)]
    return torch.cat(batches)[:, 0].numpy()


def assert_same_scores(found: np.ndarray, keras: np.ndarray) -> None:
    assert keras.std() > 0.1, "scores too alike to prove anything"
    assert keras.min() > 1e-3
    assert keras.max() < 1 - 1e-3
    assert np.abs(found - keras).max() <= TOLERANCE


def test_full_network_on_synthetic_images(full_network: PaperCNN) -> None:
    images = fixture.draw_images(fixture.FULL, fixture.SYNTHETIC_IMAGES)
    assert fixture.checksum(images) == record()["synthetic_sha256"], (
        "NumPy now draws other images from the seed than when Keras's answers were stored: run make_keras_fixture.py"
    )
    assert_same_scores(scores(full_network, images), np.array(record()["synthetic_scores"]))


@pytest.mark.slow
def test_full_network_on_the_papers_test_images(full_network: PaperCNN) -> None:
    files = fixture.paper_test_files()
    if not files:
        pytest.skip("no xray_dataset_covid19/test under $CXRLAB_DATA (default: data)")
    pytest.importorskip("cv2")
    expected = record()["real_scores"]
    assert [f"{file.parent.name}/{file.name}" for file in files] == list(expected)
    images = fixture.read_images(files)
    if fixture.checksum(images) != record()["real_sha256"]:
        pytest.skip("NOT CHECKED: this OpenCV decodes the images to other pixels; run make_keras_fixture.py with it")
    assert_same_scores(scores(full_network, images), np.array(list(expected.values())))


def test_every_layer_of_a_small_network() -> None:
    with np.load(fixture.LAYERS_FILE, allow_pickle=False) as file:
        stored = {name: file[name] for name in file}
    weights = {name.removeprefix("weights/"): stored[name] for name in stored if name.startswith("weights/")}
    keras = {name.removeprefix("layers/"): stored[name] for name in stored if name.startswith("layers/")}
    found = layer_outputs(network(fixture.SMALL, weights), channels_first(stored["images"]))
    assert set(keras) == {*found, "logits", "flatten", "dense_1"}
    for name, output in found.items():
        assert keras[name].std() > 0.01
        np.testing.assert_allclose(output, keras[name], rtol=1e-5, atol=1e-5, err_msg=name)
    logits = network(fixture.SMALL, weights)(channels_first(stored["images"])).detach()
    np.testing.assert_allclose(logits, keras["logits"], rtol=1e-5, atol=1e-5)
    assert_same_scores(torch.sigmoid(logits).numpy(), keras["dense_1"])


def test_parity_hangs_on_the_order_of_flatten() -> None:
    weights, images = fixture.draw_weights(fixture.SMALL, fixture.SMALL_SEED), fixture.draw_images(fixture.SMALL, 4)
    right, wrong = network(fixture.SMALL, weights), network(fixture.SMALL, weights)
    wrong.dense.weight.data = torch.from_numpy(weights["dense/kernel"].T)
    assert np.abs(scores(right, images) - scores(wrong, images)).max() > 0.1


def layer_outputs(paper_cnn: PaperCNN, images: Tensor) -> dict[str, np.ndarray]:
    """Outputs as Keras gives them: after the activation, channels last. Flatten has another order by design."""
    outputs: dict[str, np.ndarray] = {}

    def note(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            active = F.relu(output.detach())
            outputs[name] = (active.permute(0, 2, 3, 1) if active.ndim == 4 else active).numpy()

        return hook

    for name in ("conv2d", "conv2d_1", "max_pooling2d", "conv2d_2", "max_pooling2d_1", "dense"):
        paper_cnn.get_submodule(name).register_forward_hook(note(name))
    paper_cnn(images)
    return outputs


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # Keras's own way from torch to NumPy
def test_live_against_the_keras_installed_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # Keras writes a settings file when it is imported
    keras = pytest.importorskip("keras")
    weights, images = (
        fixture.draw_weights(fixture.SMALL, fixture.SMALL_SEED),
        fixture.draw_images(fixture.SMALL, 16, fixture.SMALL_SEED),
    )
    model = fixture.build_keras(fixture.SMALL, weights)
    assert model.count_params() == sum(array.size for array in weights.values())
    by_path = {variable.path: keras.ops.convert_to_numpy(variable.value) for variable in model.weights}
    expected = fixture.keras_scores(model, images)
    assert expected.std() > 0.1
    for given in (weights, by_path, model.get_weights()):
        assert np.abs(scores(network(fixture.SMALL, given), images) - expected).max() <= TOLERANCE
