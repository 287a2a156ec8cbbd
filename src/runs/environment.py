"""What a run ran on: enough to repeat it, or to explain why it cannot be repeated."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from cxrlab.console import typed
from cxrlab.models.layer_table import LayerTable

PACKAGES = (
    "cxrlab",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "albumentations",
    "torchmetrics",
    "tensorboard",
    "numpy",
    "pandas",
    "opencv-python-headless",
    "pillow",
)


def describe(trainer: pl.Trainer, seed: int, table: LayerTable) -> dict[str, Any]:
    """Versions, commit, machine, command, seed and size of the network; plain values."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": typed(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git_commit": _commit(),
        "cpu": cpu_name(),
        "cores": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "device": trainer.strategy.root_device.type,
        "precision": str(trainer.precision),
        "seed": seed,
        "parameters": table.total,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout this code stands in, ``-dirty`` with changes on top; ``None`` outside of one."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def cpu_name() -> str:
    """The processor, as it names itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def reset_peak_memory() -> None:
    """Starts a new peak, so that a job of a sweep is not charged with the one before it (on Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory_mb() -> float:
    """Largest resident memory of this process since :func:`reset_peak_memory`, plus that of a GPU; MiB."""
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return round(_peak_resident_mb() + gpu, 1)


def _peak_resident_mb() -> float:
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        import resource  # does not exist on every platform that gets as far as importing this file

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes on macOS, KiB elsewhere
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
