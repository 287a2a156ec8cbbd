"""Which precision to train or score in where that is left to the machine: ``precision=auto``, which is measured."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import torch
from filelock import FileLock
from torch import nn

from cxrlab.files import write_json

AUTO = "auto"
Shape: TypeAlias = tuple[int, int, int, int]
"""Of a batch: images, channels, height, width."""
_MARGIN = 0.9  # of float32's time: what is gained less than that is within what neighbours of a machine take
_ROUNDS = 3  # steps in either precision, in turn, of which the fastest counts
_LONG = 0.5  # seconds: where a step of the whole batch takes longer, fewer images are measured
_FEW = 8  # images; with fewer, the paper's network spends its time on its dense layer
_MOST_BYTES = 1000  # of a file of figures


@dataclass(frozen=True)
class Figures:
    """Seconds that a step took in either precision.

    Attributes:
        float32: Seconds, above 0.
        bf16: Likewise.
        images: In a step.
    """

    float32: float
    bf16: float
    images: int

    @property
    def choice(self) -> str:
        """``bf16-mixed`` where it saves at least a tenth, else ``32-true``."""
        return "bf16-mixed" if self.bf16 <= _MARGIN * self.float32 else "32-true"

    def words(self) -> str:
        """The choice and both figures."""
        figures = [("bf16-mixed", self.bf16), ("32-true", self.float32)]
        if self.choice == "32-true":
            figures.reverse()
        (chosen, seconds), (other, others) = figures
        return f"{chosen}, {seconds:.2g} s a step of {self.images} images against {others:.2g} s in {other}"


def fastest(network: nn.Module, images: Shape, accelerator: str, *, training: bool = True) -> tuple[str, str]:
    """Chooses between ``32-true`` and ``bf16-mixed`` by the network's own steps, once a machine and PyTorch version.

    bf16 has the range of float32: no gradient underflows, no loss has to be scaled. Weights, optimizer and loss stay in
    float32. ``16-mixed`` is left to those who ask for it. The figures are kept below ``$CXRLAB_CACHE``, or
    ``~/.cache/cxrlab``.

    Args:
        network: Images, float32, to one tensor; neither it nor a random state is changed.
        images: Shape of a batch.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        training: Whether gradients are computed, too.

    Returns:
        Lightning's name of the precision, and a sentence that begins with it and says why.
    """
    device = _device(accelerator)
    if device == "mps":
        return "32-true", "32-true, since bf16 has not been tried on mps"
    if not _multiplies_bf16(device):
        return "32-true", f"32-true, since this {'GPU' if device == 'cuda' else 'processor'} has no bf16 instructions"
    folder = Path(os.environ.get("CXRLAB_CACHE") or "~/.cache/cxrlab").expanduser() / "precision"
    file = folder / f"{_key(network, images, device, training)}.json"
    try:
        found, when = _kept(file), "measured before on this machine"
        if found is None:
            found, when = _measured(file, lambda: measure(network, images, device, training=training))
    except RuntimeError as error:  # PyTorch's
        reason = str(error).partition("\n")[0]
        return "32-true", f"32-true, since a step of this network could not be measured ({reason})"
    return found.choice, f"{found.words()}, {when}"


def _measured(file: Path, measure: Callable[[], Figures]) -> tuple[Figures, str]:
    """Measures and keeps the figures; jobs that begin at once wait for the first one's, and so choose alike."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            found = _kept(file) or measure()
            write_json(file, asdict(found))
    except OSError as error:
        return measure(), f"measured now, and not kept ({error.strerror})"
    return found, "measured now"


def _kept(file: Path) -> Figures | None:
    """Figures that were kept; ``None`` where there are none, or where the file holds something else."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        if file.stat().st_size <= _MOST_BYTES:
            found = Figures(**json.loads(file.read_text(encoding="utf-8")))
            seconds = (found.float32, found.bf16)
            if all(isinstance(each, float) and 0 < each < math.inf for each in seconds) and type(found.images) is int:
                return found
    return None


def measure(network: nn.Module, images: Shape, device: str, *, training: bool = True) -> Figures:
    """Times steps of a network in both precisions, in turn, on random images.

    Args:
        network: As for :func:`fastest`.
        images: Shape of a batch; fewer images are taken where its step would last.
        device: ``cpu`` or ``cuda``.
        training: Whether gradients are computed, too.
    """
    with torch.random.fork_rng(), torch.set_grad_enabled(training):
        network = copy.deepcopy(network).to(device).train(training)
        batch = torch.rand(images, device=device).to(memory_format=torch.channels_last)
        for bf16 in (False, True):  # libraries choose their algorithms the first time
            _step(network, batch[:_FEW], device, bf16, training)
        if _step(network, batch[:_FEW], device, False, training) * len(batch) > _LONG * _FEW:
            batch = batch[:_FEW]
        else:
            for bf16 in (False, True):
                _step(network, batch, device, bf16, training)
        rounds = [[_step(network, batch, device, bf16, training) for bf16 in (False, True)] for _ in range(_ROUNDS)]
    float32, bf16 = map(min, zip(*rounds, strict=True))
    return Figures(float32, bf16, len(batch))


def _step(network: nn.Module, batch: torch.Tensor, device: str, bf16: bool, training: bool) -> float:
    """Seconds of one step."""
    began = time.perf_counter()
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        output = network(batch)
    if training:
        output.float().square().mean().backward()
        network.zero_grad()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _device(accelerator: str) -> str:
    """The device of an accelerator; ``auto`` takes what there is, as Lightning does."""
    found = {"gpu": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = next(name for name, there in found.items() if there) if accelerator == "auto" else accelerator
    return "cuda" if chosen == "gpu" and found["gpu"] else chosen


def _multiplies_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # type: ignore[no-untyped-call]


def _processor() -> str:
    """Its name and instructions: virtual machines give the same name to processors with other instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _key(network: nn.Module, images: Shape, device: str, training: bool) -> str:
    """What the figures depend on, as a file's name."""
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{_processor()} {torch.get_num_threads()}"
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    what = [torch.__version__, machine, isa, repr(network), list(images), training]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
