"""Whether a machine can do what a training asks of it: several devices, a compiler."""

from __future__ import annotations

import os
import shutil
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from cxrlab.config import Problems
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.errors import check_choice


def check_devices(
    trainer: DictConfig | dict[str, Any],
    problems: Problems,
    datamodule: ChestXRayDataModule | None,
    network: nn.Module | None,
) -> None:
    """Checks how many devices are to train together, and whether they can.

    Args:
        trainer: Its node of the configuration.
        problems: Takes what is found.
        datamodule: Whose batches are divided, if it could be built.
        network: That is trained, if it could be built.
    """
    on_gpus = trainer.get("accelerator") in ("gpu", "auto") and torch.cuda.is_available()
    strategy = trainer.get("strategy", "auto")
    with problems.guard("trainer.strategy"):
        check_choice("strategy", strategy, ("auto", "ddp"))
    devices = _count(trainer.get("devices"), on_gpus)
    if strategy != "ddp":
        if devices != 1:
            asked = repr(trainer.get("devices"))
            problems.add("trainer.devices", f"must be 1, got {asked}; trainer=ddp is what uses several")
        return
    if trainer.get("accelerator") == "mps":
        problems.add("trainer.accelerator", "mps is one device; trainer=ddp needs several GPUs, or cpu")
    if devices is None or devices < 2:
        asked = f"{trainer.get('devices')!r}" + (f", which is {devices} here" if devices is not None else "")
        problems.add("trainer.devices", f"trainer=ddp needs a whole number of at least 2, got {asked}")
        return
    if on_gpus and devices > torch.cuda.device_count():
        problems.add("trainer.devices", f"{devices} were asked for, and there are {torch.cuda.device_count()} GPUs")
    if datamodule is not None and datamodule.batch_size < devices:
        problems.add("data.batch_size", f"must be at least trainer.devices={devices}, got {datamodule.batch_size}")
    if not on_gpus and trainer.get("sync_batchnorm") and network is not None and _normalises_batches(network):
        problems.add(
            "trainer.sync_batchnorm",
            "the network normalises over batches, which only GPUs do together; with false each process's part of a "
            "batch has statistics of its own, and the numbers differ from one process's",
        )


def check_compile(wanted: Any, problems: Problems) -> None:
    """Refuses to compile where no compiler is; PyTorch would tell in the middle of the first step."""
    with problems.guard("compile"):
        check_choice("compile", wanted, (True, False))
    compilers = (os.environ.get("CXX", "g++"), "clang++")
    if wanted and not any(map(shutil.which, compilers)):
        problems.add(
            "compile",
            f"true needs a C++ compiler, and neither {' nor '.join(compilers)} was found; install one, or name it with "
            "CXX=… before the command, or leave compile out",
        )


def _count(devices: Any, on_gpus: bool) -> int | None:
    """How many devices that is, ``None`` for no number."""
    if devices == "auto":
        return torch.cuda.device_count() if on_gpus else 1
    return devices if isinstance(devices, int) and not isinstance(devices, bool) else None


def _normalises_batches(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
