"""Options of conf/model as ONNX files, with every operation there is: PyTorch's scores for any number of images."""

from __future__ import annotations

import copy
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cxrlab.config import build, compose
from cxrlab.config.help import Conf
from cxrlab.datamodules import Preprocessing
from cxrlab.inference.onnx_file import OnnxScorer, write_onnx
from cxrlab.inference.parity import compare
from cxrlab.runs import LoadedModel

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted({*Conf().options("model")} - {"lung_unet", "gate_net"})
SIDES = {"inception_v3": 160}
"""Where 32 pixels would leave a network one place to look at, or none: rounding is then all that tells images apart."""
OTHER_SIDE = 32
QUICK = ("paper_cnn_small", "resnet18")
ALIKE = ("alexnet", "densenet121", "googlenet", "resnet50", "torchvision", "vgg16")
"""Large, and made of nothing that another network is not exported with."""


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """``benchmarks/export.py``, which knows how to make networks that tell images apart without training them."""
    spec = importlib.util.spec_from_file_location("benchmarks_export", ROOT / "benchmarks" / "export.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rounding(model: LoadedModel, images: NDArray[np.uint8]) -> tuple[float, float]:
    """How far PyTorch in float32 is itself from float64, in scores and logits.

    Fifty layers of random weights hardly tell images apart; the last one is scaled until they do, and rounding with it.
    """
    batch = Preprocessing.to_float(torch.from_numpy(images))
    with torch.inference_mode():
        single = model.network(batch)[:, 0].double()
        double = copy.deepcopy(model.network).double()(batch.double())[:, 0]
    return float((single.sigmoid() - double.sigmoid()).abs().max()), float((single - double).abs().max())


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS if name not in ALIKE],
)
def test_onnx_runtime_gives_pytorchs_scores(name: str, benchmark: ModuleType, tmp_path: Path) -> None:
    side = SIDES.get(name, OTHER_SIDE)
    model = benchmark.random_model(name, side)
    write_onnx(model, tmp_path / "model.onnx")
    scorer = OnnxScorer(tmp_path / "model.onnx")
    assert scorer.fingerprint == model.fingerprint
    images = benchmark.phantoms(8, Preprocessing.create(side))
    found = compare(model, scorer, images, "phantoms")
    (tmp_path / "model.onnx").unlink()  # half a gigabyte of VGG
    own_score, own_logit = rounding(model, images)
    assert found.score <= max(1e-4, 4 * own_score)
    assert found.logit <= max(1e-3, 4 * own_logit)
    assert found.calls == 0
    assert found.spread > 0.1


class Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations that a network is made of."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def operations(name: str, folder: Path) -> set[str]:
    side = max(SIDES.values())
    config = compose("train", [f"model={name}", f"data.image_size={side}"], folder)
    with torch.device("meta"), torch.inference_mode():  # no memory for weights, and nothing is computed
        network: nn.Module = build(config.model).eval()
        with Noted() as noted:
            network(torch.empty(2, 3, side, side))
    return set(noted.names)


@pytest.mark.slow
def test_the_others_have_no_operation_of_their_own(tmp_path: Path) -> None:
    left = set().union(*(operations(name, tmp_path) for name in ALIKE))
    assert len(left) > 5
    for name in MODELS:
        if left and name not in ALIKE:
            left -= operations(name, tmp_path)
    assert left == set()
