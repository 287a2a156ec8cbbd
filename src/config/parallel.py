"""How many jobs of a sweep may run at once on this machine."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY_PER_JOB = 3.2e9
"""Bytes: what the paper's network needs in float32, in batches of 32 at 224 px (``benchmarks/epoch.py``)."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # what a container may use; "max" for no limit


def parallel_jobs(accelerator: str) -> int:
    """As many jobs as there are cores, as memory allows; one where they would share a GPU.

    Several jobs of one thread each get a little more done than one of many threads (``benchmarks/sweep.py``): what a
    job does in one thread, start-up and report above all, then leaves no core idle.

    Args:
        accelerator: ``trainer.accelerator``.
    """
    if accelerator != "cpu":
        import torch  # takes seconds, and only this question needs it

        if torch.cuda.is_available() or torch.backends.mps.is_available():
            return 1
    from joblib import cpu_count  # knows of affinity and of a container's share of the cores

    return max(1, min(int(cpu_count()), int(_memory() // MEMORY_PER_JOB)))


def _memory() -> float:
    """Bytes that this machine, or the container, has."""
    try:
        installed = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf: cores alone decide there
        return float("inf")
    try:
        return min(installed, float(_CGROUP_LIMIT.read_text(encoding="ascii")))
    except (OSError, ValueError):
        return installed
