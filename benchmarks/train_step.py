"""Times one training step of the paper's network: plain PyTorch, cxrlab, cxrlab through Lightning; and its floor.

All are measured in turn in one process, so that whatever else the machine is doing disturbs all alike. A turn is two
steps on the same two batches, of which the second counts. Compare the ratios; the seconds are this machine's, today.
What cxrlab tells the allocator holds for the whole process, so that the plain way gains by it, too; epoch.py gives each
way a process of its own.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from rivals.plain_torch import DTYPES, plain_network
from torch import Tensor, nn

from cxrlab.config import build, compose
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.machine import memory
from cxrlab.models import ClassifierModule
from cxrlab.models.layer_table import layer_table
from cxrlab.runs import environment
from cxrlab.steps.quiet import quiet_lightning

STEPS = 2  # of a turn; the last one counts
TRIALS = 3  # of a product and a convolution, per turn

PARTS = {
    "convolutions, gradients": ("convolution_backward",),
    "convolutions, forward": ("mkldnn_convolution", "cudnn_convolution"),
    "pooling": ("max_pool2d_with_indices", "max_pool2d_with_indices_backward"),
    "dense layers": ("mm", "addmm"),
    "copies, casts, zeroes": ("copy_", "fill_", "zero_"),
    "ReLU": ("clamp_min", "clamp_min_", "relu", "relu_", "threshold_backward"),
    "gradients of the biases": ("sum",),
    "dropout": ("random_", "bernoulli_", "bitwise_and_", "bitwise_or_", "bitwise_not_", "mul_"),
    "optimizer": ("_fused_adam_",),
}
"""What PyTorch's operations are for in a step of the paper's network."""

ELSE = "everything else"
PLAIN, NETWORK, LIGHTNING = "plain PyTorch", "cxrlab", "cxrlab through Lightning"


class Way(Protocol):
    """One way of making training steps."""

    def turn(self) -> tuple[float, list[float]]:
        """Makes ``STEPS`` steps; returns the seconds that the last one took, and the loss of each."""


class Loop:
    """A hand-written training loop.

    Args:
        network: On its device.
        forward: From a batch of images on that device to logits (N,).
        loss: Of logits (N,) and labels (N,).
        optimizer: Of the network's weights.
        batches: ``STEPS`` pairs of images and labels (N,) in host memory, as a loader hands them over.
        device: Where to train.
        precision: A key of ``DTYPES``.
        deterministic: Whether PyTorch is held to algorithms that give the same numbers again.
    """

    def __init__(
        self,
        network: nn.Module,
        forward: Callable[[Tensor], Tensor],
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        batches: list[tuple[Tensor, Tensor]],
        device: torch.device,
        precision: str,
        deterministic: bool,
    ) -> None:
        self.network, self.forward, self.loss, self.optimizer = network.train(), forward, loss, optimizer
        self.batches = batches
        self.device = device
        self.precision = precision
        self.deterministic = deterministic

    def turn(self) -> tuple[float, list[float]]:
        """See :class:`Way`."""
        ticks, losses = [], []
        with _determinism(self.deterministic):
            for images, labels in self.batches:
                self.optimizer.zero_grad()
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
                    logits = self.forward(images.to(self.device, non_blocking=True))
                    loss = self.loss(logits, labels.to(self.device, non_blocking=True))
                loss.backward()
                self.optimizer.step()
                losses.append(loss.detach())
                ticks.append(_now(self.device))
        return ticks[-1] - ticks[-2], [float(loss) for loss in losses]


class LightningLoop(pl.Callback):
    """A short epoch of Lightning's Trainer as the configuration describes it, with nothing written to disk.

    Args:
        module: To train.
        datamodule: Set up.
        config: The trainer's node.
    """

    def __init__(self, module: ClassifierModule, datamodule: ChestXRayDataModule, config: DictConfig) -> None:
        self.module, self.datamodule, self.config = module, datamodule, config
        self.ticks: list[float] = []
        self.losses: list[Tensor] = []

    def turn(self) -> tuple[float, list[float]]:
        """See :class:`Way`."""
        self.ticks, self.losses = [], []
        with _determinism(self.config.deterministic), quiet_lightning():
            self.trainer().fit(self.module, datamodule=self.datamodule)
        return self.ticks[-1] - self.ticks[-2], [float(loss) for loss in self.losses]

    def trainer(self) -> pl.Trainer:
        """A new one: a Trainer does not begin again."""
        options = {"max_epochs": 1, "limit_train_batches": STEPS, "limit_val_batches": 0, "callbacks": [self]}
        without = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
        trainer: pl.Trainer = build(self.config, **options, **without)
        return trainer

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the time: from one call to the next is a step with all that Lightning does between two."""
        self.losses.append(outputs["loss"])
        self.ticks.append(_now(pl_module.device))


def compose_config(batch_size: int, image_size: int, device: str, precision: str, images: str) -> DictConfig:
    """The project's own configuration, on as many phantoms as a turn needs.

    Args:
        batch_size: Images per step.
        image_size: Pixels.
        device: ``cpu`` or ``cuda``.
        precision: A key of ``DTYPES``.
        images: Folder in which the phantoms are drawn.
    """
    overrides = [
        f"data.batch_size={batch_size}",
        f"data.image_size={image_size}",
        "data.val=test",
        f"data.source.root='{images}'",
        f"data.source.n_train={STEPS * batch_size}",
        "data.source.n_test=4",
        f"trainer.accelerator={'gpu' if device == 'cuda' else 'cpu'}",
        f"trainer.precision={precision}",
    ]
    return compose("train", overrides, Path(images) / "run")


def build_ways(config: DictConfig) -> dict[str, Way]:
    """The three ways, with the same weights and the same batches.

    Args:
        config: From :func:`compose_config`.
    """
    device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
    datamodule: ChestXRayDataModule = build(config.data)
    datamodule.setup()
    to_float = datamodule.preprocessing.to_float
    delivered = [(batch["image"], batch["label"]) for batch in datamodule.train_dataloader()]
    # The plain way gets floats that were made before: it does not pay for what the project does within the step.
    floats = [(to_float(images).contiguous(), labels) for images, labels in delivered]
    if device.type == "cuda":
        floats = [(images.pin_memory(), labels.pin_memory()) for images, labels in floats]

    torch.manual_seed(config.seed)
    network: nn.Module = build(config.model)
    plain = plain_network(config.data.image_size, config.model.dropout)
    plain.load_state_dict(dict(zip(plain.state_dict(), network.state_dict().values(), strict=True)))
    module = ClassifierModule(copy.deepcopy(network), build(config.optimizer), loss=build(config.loss))
    network, plain = network.to(device), plain.to(device)

    def plain_forward(images: Tensor) -> Tensor:
        logits: Tensor = plain(images)
        return logits.squeeze(1)

    def network_forward(images: Tensor) -> Tensor:
        logits: Tensor = network(to_float(images))
        return logits.squeeze(1).float()

    adam = torch.optim.Adam(plain.parameters(), lr=1e-3, eps=1e-7)
    ours, loss = build(config.optimizer)(network.parameters()), build(config.loss).to(device)
    where, same_again = (device, config.trainer.precision), config.trainer.deterministic
    return {
        PLAIN: Loop(plain, plain_forward, nn.BCEWithLogitsLoss(), adam, floats, *where, False),
        NETWORK: Loop(network, network_forward, loss, ours, delivered, *where, same_again),
        LIGHTNING: LightningLoop(module, datamodule, config.trainer),
    }


def forward_flops(network: nn.Sequential, batch_size: int, image_size: int) -> list[int]:
    """Floating-point operations of each convolution and dense layer; a multiplication and an addition are two."""
    found: list[int] = []
    x = torch.zeros(batch_size, 3, image_size, image_size, device="meta")
    for layer in copy.deepcopy(network).to("meta"):
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            found.append(2 * x.numel() * layer.weight[0].numel())
    return found


def step_flops(network: nn.Sequential, batch_size: int, image_size: int) -> int:
    """Floating-point operations of one step.

    The forward pass, the weights' gradients and the inputs' gradients cost the same each; the images need no gradient.
    """
    forward = forward_flops(network, batch_size, image_size)
    return 3 * sum(forward) - forward[0]


def arithmetic_rate(size: int, device: torch.device, precision: str) -> float:
    """Operations per second that the machine reaches, best of several: in a product of two matrices or a convolution.

    Which of the two libraries behind them is the better one depends on the machine.
    """
    dtype = DTYPES[precision]
    left, right = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    side = max(8, size // 40)  # 102 pixels for 4096: about the network's own
    images = torch.rand(8, 64, side, side, device=device).to(dtype).contiguous(memory_format=torch.channels_last)
    kernels = torch.rand(128, 64, 3, 3, device=device).to(dtype)
    trials: dict[int, Callable[[], Tensor]] = {
        2 * size**3: lambda: torch.mm(left, right),
        2 * 8 * 128 * 64 * 9 * (side - 2) ** 2: lambda: torch.conv2d(images, kernels),
    }
    rates = []
    with _tf32_as_in_convolutions(device), torch.no_grad():
        for operations, trial in trials.items():
            for _ in range(TRIALS):
                start = _now(device)
                trial()
                rates.append(operations / (_now(device) - start))
    return max(rates)


def measure(
    precision: str, device: str, batch_size: int = 32, image_size: int = 224, repeats: int = 5, matmul_size: int = 4096
) -> dict[str, Any]:
    """Measures everything in one precision.

    Args:
        precision: A key of ``DTYPES``.
        device: ``cpu`` or ``cuda``.
        batch_size: Images per step.
        image_size: Pixels.
        repeats: Turns of each way.
        matmul_size: Side of the matrices whose product gives the machine's rate.

    Returns:
        Plain values: ``precision``, ``machine``, ``flops`` per step, ``flops_per_second`` that the machine reached,
        ``floor_seconds``, and ``ways``: by name the ``seconds`` of every turn, their ``median`` and ``min``,
        ``to_plain`` (median over the turns of the ratio to the plain way's seconds in the same turn), ``to_floor`` (of
        the minimum) and ``images_per_second`` (of the median).
    """
    memory.keep_freed()
    with TemporaryDirectory() as images:
        config = compose_config(batch_size, image_size, device, precision, images)
        ways = build_ways(config)
    lightning = ways[LIGHTNING]
    assert isinstance(lightning, LightningLoop)
    with _determinism(config.trainer.deterministic), quiet_lightning():
        table = layer_table(lightning.module.network, lightning.datamodule.preprocessing.shape)
        machine = environment.describe(lightning.trainer(), config.seed, table)

    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rates = []
    for _ in range(repeats):
        for name, way in ways.items():
            seconds[name].append(way.turn()[0])
        rates.append(arithmetic_rate(matmul_size, torch.device(device), precision))
    flops = step_flops(plain_network(image_size, config.model.dropout), batch_size, image_size)
    floor = flops / max(rates)
    return {
        "precision": precision,
        "machine": machine,
        "flops": flops,
        "flops_per_second": max(rates),
        "floor_seconds": floor,
        "ways": {
            name: {
                "seconds": taken,
                "median": statistics.median(taken),
                "min": min(taken),
                "to_plain": statistics.median(a / b for a, b in zip(taken, seconds[PLAIN], strict=True)),
                "to_floor": min(taken) / floor,
                "images_per_second": batch_size / statistics.median(taken),
            }
            for name, taken in seconds.items()
        },
    }


def measure_profile(precision: str, batch_size: int, image_size: int) -> dict[str, float]:
    """Profiles a step of cxrlab's network on a CPU, after one that is not counted; see :func:`profile`."""
    memory.keep_freed()
    with TemporaryDirectory() as images:
        way = build_ways(compose_config(batch_size, image_size, "cpu", precision, images))[NETWORK]
    assert isinstance(way, Loop)
    way.turn()
    return profile(way)


def profile(way: Loop) -> dict[str, float]:
    """Seconds of one step by what they are spent on, the longest first; ``everything else`` comes last."""
    names = {f"aten::{operation}": part for part, operations in PARTS.items() for operation in operations}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as recorded:
        way.turn()
    found: dict[str, float] = dict.fromkeys((*PARTS, ELSE), 0.0)
    for event in recorded.key_averages():
        found[names.get(event.key, ELSE)] += event.self_cpu_time_total / 1e6 / len(way.batches)
    return dict(sorted(found.items(), key=lambda item: (item[0] == ELSE, -item[1])))


def render_profile(seconds: dict[str, float], precision: str) -> str:
    """A result of :func:`profile` as a table."""
    total = sum(seconds.values())
    lines = [f"{name:26}{each:10.4f}{each / total:9.1%}" for name, each in seconds.items()]
    return "\n".join([f"{precision}: where {NETWORK}'s step of {total:.3f} s goes", *lines])


def render(result: dict[str, Any], batch_size: int) -> str:
    """A result of :func:`measure` as a table."""
    floor, plain = result["floor_seconds"], result["ways"][PLAIN]
    work, speed = result["flops"] / 1e9, result["flops_per_second"] / 1e9
    rate = f"{work:,.1f} GFLOP a step, the machine reaches {speed:,.0f} GFLOP/s"
    rows = [
        (name, way["median"], way["min"], way["to_plain"], way["to_floor"], way["images_per_second"])
        for name, way in result["ways"].items()
    ]
    rows.append(("arithmetic floor", floor, floor, floor / plain["min"], 1.0, batch_size / floor))
    head = f"{'':26}{'median s':>10}{'min s':>10}{'/ plain':>9}{'/ floor':>9}{'images/s':>10}"
    lines = [f"{name:26}{mid:10.4f}{low:10.4f}{a:9.2f}{b:9.2f}{speed:10.1f}" for name, mid, low, a, b, speed in rows]
    return "\n".join([f"{result['precision']}: {rate}", head, *lines])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="/ plain: median over the turns of the ratio to plain PyTorch in the same turn.\n"
        "/ floor: the shortest step over the step's arithmetic at the best rate that a matrix product or a\n"
        "convolution reached here.",
    )
    parser.add_argument("--batch-size", type=_positive, default=32, help="images per step (default: 32, the paper's)")
    parser.add_argument("--image-size", type=_positive, default=224, help="pixels (default: 224, the paper's)")
    parser.add_argument("--repeats", type=_positive, default=5, help="turns of each way (default: 5)")
    parser.add_argument("--precision", choices=(*DTYPES, "both"), default="both", help="(default: both)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: cuda if there is one"
    )
    parser.add_argument("--matmul-size", type=_positive, default=4096, help="side of the matrices (default: 4096)")
    parser.add_argument("--profile", action="store_true", help="instead: where cxrlab's step on a CPU spends its time")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything measured to this file")
    options = parser.parse_args(arguments)
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no CUDA device here")
    if options.image_size < 10:
        parser.error(f"--image-size must be at least 10 for two poolings, got {options.image_size}")

    results = []
    for precision in DTYPES if options.precision == "both" else (options.precision,):
        if options.profile:
            print(render_profile(measure_profile(precision, options.batch_size, options.image_size), precision))
            continue
        sizes = (options.batch_size, options.image_size, options.repeats, options.matmul_size)
        results.append(measure(precision, device, *sizes))
        if len(results) == 1:
            print(_headline(results[0]["machine"], options))
        print(f"\n{render(results[-1], options.batch_size)}", flush=True)
    if options.json:
        settings = {name: getattr(options, name) for name in ("batch_size", "image_size", "repeats", "matmul_size")}
        text = json.dumps({"settings": settings, "results": results}, indent=2)
        options.json.write_text(f"{text}\n", encoding="utf-8")


def _headline(machine: dict[str, Any], options: argparse.Namespace) -> str:
    device = machine["gpu"] if machine["device"] == "cuda" else f"{machine['cpu']}, {machine['cores']} threads"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    size = f"batch {options.batch_size}, {options.image_size} pixels, {options.repeats} turns"
    return f"{device}{load}; torch {machine['packages']['torch']}; {size}"


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _now(device: torch.device) -> float:
    """Seconds on a clock that only goes forward, once the device has done all it was told to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@contextmanager
def _tf32_as_in_convolutions(device: torch.device) -> Iterator[None]:
    """On a GPU float32 convolutions use TF32 by default and products do not, so that the floor would not be one."""
    before = torch.backends.cuda.matmul.fp32_precision
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision
    try:
        yield
    finally:
        if device.type == "cuda":
            torch.backends.cuda.matmul.fp32_precision = before


@contextmanager
def _determinism(on: bool) -> Iterator[None]:
    """Sets and restores what a Trainer with ``deterministic=True`` switches on for the whole process."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(on)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # Lightning's value; cuBLAS reads it once
    torch.utils.deterministic.fill_uninitialized_memory = False  # as in cxrlab.steps.assembly
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


if __name__ == "__main__":
    main()
