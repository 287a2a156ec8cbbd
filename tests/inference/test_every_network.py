"""Every option of conf/model as an ONNX file: PyTorch's scores, whatever the number of images."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cxrlab.datamodules import Preprocessing
from cxrlab.inference.onnx_file import OnnxScorer, write_onnx
from cxrlab.inference.parity import compare

ROOT = Path(__file__).resolve().parents[2]
MODELS = sorted(
    path.stem for path in (ROOT / "conf" / "model").glob("*.yaml") if path.stem not in ("lung_unet", "gate_net")
)
SIDES = {"alexnet": 64, "densenet121": 64, "googlenet": 96, "inception_v3": 160}
"""Where 32 pixels would leave a network one place to look at, or none: rounding is then all that tells images apart."""
OTHER_SIDE = 32
QUICK = (
    *("bennett", "darkcovidnet", "logistic", "paper_cnn", "paper_cnn_batchnorm", "paper_cnn_gap", "paper_cnn_small"),
    *("resnet18", "squeezenet"),
)


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


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS]
)
def test_onnx_runtime_gives_pytorchs_scores(name: str, benchmark: ModuleType, tmp_path: Path) -> None:
    side = SIDES.get(name, OTHER_SIDE)
    model = benchmark.random_model(name, side)
    write_onnx(model, tmp_path / "model.onnx")
    scorer = OnnxScorer(tmp_path / "model.onnx")
    assert scorer.fingerprint == model.fingerprint
    found = compare(model, scorer.logits_and_scores, benchmark.phantoms(8, Preprocessing.create(side)), "phantoms")
    (tmp_path / "model.onnx").unlink()  # half a gigabyte of VGG
    assert found.score <= 1e-4
    assert found.logit <= 1e-3
    assert found.calls == 0
    assert found.spread > 0.1
