"""Which precision to train in where that is left to the machine: ``trainer.precision=auto``."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

AUTO = "auto"
_CPUINFO = Path("/proc/cpuinfo")
_CPU_FLAGS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512", "bf16": "ARMv8.6"}
"""Its words for instructions that multiply bf16 numbers and add up in float32."""


def fastest(device: str) -> tuple[str, str]:
    """The fastest precision that a device has instructions for and that is safe to train in.

    Safe means bf16, whose range is that of float32: no gradient underflows, no loss has to be scaled. Weights,
    optimizer and loss stay in float32. ``16-mixed`` is left to those who ask for it.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.

    Returns:
        Lightning's name of the precision, and the reason in words.
    """
    if device == "cuda":
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", f"{name} multiplies bf16 numbers"
        return "32-true", f"{name} has no bf16 instructions; trainer.precision=16-mixed may be faster"
    if device == "cpu":
        for flag, name in _CPU_FLAGS.items():
            if flag in _cpu_flags():
                return "bf16-mixed", f"this processor multiplies bf16 numbers ({name})"
        return "32-true", "this processor has no bf16 instructions"
    return "32-true", f"bf16 has not been tried on {device}"


def _cpu_flags() -> set[str]:
    """What /proc/cpuinfo says the processor can do; nothing outside Linux."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        # Apple's processors from the M2 on have bf16, but PyTorch's convolutions there do not use it.
        return set()
    key = "Features" if platform.machine() == "aarch64" else "flags"
    return {flag for line in lines if line.startswith(key) for flag in line.partition(":")[2].split()}
