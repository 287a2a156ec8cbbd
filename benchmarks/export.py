"""Exports the model options to ONNX: how far the file is from PyTorch, how large it is, and how long an image takes.

Networks have random weights, shifted so that scores of different images differ; what is compared needs no training.
PyTorch in float32, in bf16 (autocast) and ONNX Runtime run in turn in one process on the CPU, from prepared pixels to
scores, so that whatever else the machine is doing disturbs all alike. Compare them with one another; the milliseconds
are this machine's, today.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor, nn

import cxrlab
from cxrlab.config import build, compose
from cxrlab.config.help import Conf
from cxrlab.datamodules import Preprocessing
from cxrlab.datamodules.sources.phantom import Anatomy, draw
from cxrlab.inference.onnx_file import OnnxScorer, write_onnx
from cxrlab.inference.parity import BATCHES, FLOAT32, compare, time_ways
from cxrlab.inference.scorer import TorchScorer
from cxrlab.models.layer_table import layer_table
from cxrlab.runs import LoadedModel
from cxrlab.runs.checkpoint import FORMAT
from cxrlab.runs.environment import cpu_name

MODELS = sorted({*Conf().options("model")} - {"lung_unet", "gate_net"})
"""The classifiers; ``lung_unet`` segments lungs, ``gate_net`` says what kind of picture an image is."""
RUNTIME = "ONNX Runtime"


def random_model(name: str, image_size: int) -> LoadedModel:
    """An option of ``conf/model`` with random weights whose scores tell images apart.

    Args:
        name: Of the option.
        image_size: Side of the square in pixels.
    """
    config = compose("train", [f"model={name}", f"data.image_size={image_size}"], "unused")
    torch.manual_seed(0)
    network: nn.Module = build(config.model)
    preprocessing = Preprocessing.create(image_size)
    _enliven(network, preprocessing)
    metadata = {
        "format": FORMAT,
        "model": OmegaConf.to_container(config.model, resolve=True),
        "config": {},
        "preprocessing": preprocessing.as_dict(),
        "labels": {"Negative": 0, "Positive": 1},
        "threshold": 0.5,
        "data": {"synthetic": True},
    }
    return LoadedModel(network.requires_grad_(False).eval(), metadata, Path(f"{name}.ckpt"))


def phantoms(count: int, preprocessing: Preprocessing, seed: int = 0) -> NDArray[np.uint8]:
    """Drawn films of different exposure as a network sees them, shape (count, height, width, channels)."""
    rng = np.random.default_rng(seed)
    films = []
    for _ in range(count):
        film = draw(Anatomy.sample(rng), rng, 256, rng.uniform(), "consolidation")[0] * rng.uniform(0.4, 1)
        films.append(preprocessing.apply(np.repeat(film.astype(np.uint8)[..., None], 3, axis=2)))
    return np.stack(films)


def _enliven(network: nn.Module, preprocessing: Preprocessing) -> None:
    """Gives batch normalisation its means, and the last layer weights with which logits of films spread around 0."""
    images = phantoms(8, preprocessing, seed=1)
    head = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]
    assert head.bias is not None
    with torch.no_grad():
        nn.init.normal_(head.weight)  # a vision transformer's is zero
        _normalise(network, Preprocessing.to_float(torch.from_numpy(images)))
        logits = TorchScorer(network, "cpu", "32-true").logits_and_scores(images)[0]
        scale = 1 / max(float(logits.std()), 1e-6)
        head.weight.mul_(scale)
        head.bias.sub_(float(logits.mean())).mul_(scale)


def _normalise(network: nn.Module, images: Tensor) -> None:
    """Sets means and variances of batch normalisation to those of a batch: at 0 and 1, deep networks ignore images."""
    layers = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0  # the newest batch alone
    network.train()
    network(images)
    network.eval()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def measure(name: str, image_size: int, seconds: float, count: int = 16) -> dict[str, Any]:
    """Exports one option and measures it.

    Args:
        name: Of the option.
        image_size: Side of the square in pixels.
        seconds: That each batch size is timed for, about; 0 times nothing.
        count: Images that are compared.

    Returns:
        Plain values: ``model``, ``parameters``, ``bytes`` of the file, ``score`` and ``logit`` (largest differences),
        ``spread`` of PyTorch's scores, ``bf16`` (largest difference of its scores in bf16), and ``latency``, see
        :func:`cxrlab.inference.parity.time_ways`, or ``None``.
    """
    model = random_model(name, image_size)
    preprocessing = Preprocessing.create(image_size)
    images = phantoms(count, preprocessing)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path)
        scorer, size = OnnxScorer(path), path.stat().st_size
    parity = compare(model, scorer, images, "drawn phantoms")
    return {
        "model": name,
        "parameters": layer_table(model.network, preprocessing.shape).total,
        "bytes": size,
        "score": parity.score,
        "logit": parity.logit,
        "spread": parity.spread,
        "bf16": parity.bf16,
        "latency": time_ways(model, scorer, RUNTIME, images, seconds) if seconds else None,
    }


def header() -> str:
    """The first line of the table."""
    latency = "".join(f"{f'f32 b{batch}':>9}{'bf16':>8}{'ONNX':>8}" for batch in BATCHES)
    return f"{'':20}{'parameters':>12}{'MB':>8}{'scores':>9}{'logits':>9}{'bf16':>9}{latency}"


def row(found: dict[str, Any]) -> str:
    """One line of the table."""
    line = f"{found['model']:20}{found['parameters']:12,}{found['bytes'] / 1e6:8.1f}"
    line += "".join(f"{found[key]:9.1e}" for key in ("score", "logit", "bf16"))
    for batch in (found["latency"] or {}).values():
        first, *others = (way["shortest_ms"] for way in batch.values())
        line += f"{first:9.2f}" + "".join(f"{each:8.2f}" for each in others)
    return line


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="MODEL", help="default: all")
    parser.add_argument("--image-size", type=int, default=224, help="pixels, side of the square (default: 224)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of timing each batch size; 0: none (default: 5)")
    parser.add_argument("--threads", type=int, default=None, help="of PyTorch and ONNX Runtime (default: PyTorch's)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything measured to this file")
    options = parser.parse_args(arguments)
    for key in ("image_size", "threads"):
        if getattr(options, key) is not None and getattr(options, key) < 1:
            parser.error(f"--{key.replace('_', '-')}: must be at least 1, got {getattr(options, key)}")
    if not 0 <= options.seconds < 3600:
        parser.error(f"--seconds: must be at least 0 and less than an hour, got {options.seconds}")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(options.threads or before)
        results = _run(options)
    finally:
        torch.set_num_threads(before)
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key not in ("json", "models")}
        options.json.write_text(
            json.dumps({"settings": settings, "results": results}, indent=2) + "\n", encoding="utf-8"
        )


def _run(options: argparse.Namespace) -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    print(
        f"cxrlab {cxrlab.__version__}, torch {torch.__version__}, {cpu_name()}, {threads} of {os.cpu_count()} threads"
    )
    print(
        f"{options.image_size} pixels; largest differences from {FLOAT32}: scores and logits of ONNX, scores of bf16;"
    )
    print(
        "milliseconds per image (the shortest turn) of PyTorch float32, PyTorch bf16 and ONNX Runtime, by batch size\n"
    )
    print(header(), flush=True)
    results = []
    for name in options.models:
        results.append(measure(name, options.image_size, options.seconds))
        print(row(results[-1]), flush=True)
    return results


if __name__ == "__main__":
    main()
