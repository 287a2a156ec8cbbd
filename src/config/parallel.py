"""How many jobs of a sweep may run at once on this machine."""

from __future__ import annotations

import os
from pathlib import Path

MEMORY_PER_JOB = 3e9
"""Bytes: the paper's network in batches of 32 at 224 px needs between two and three gigabytes."""
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # what a container may use; "max" for no limit


def parallel_jobs(accelerator: str) -> int:
    """As many jobs as there are cores, as memory allows; one where they would share a GPU.

    One thread per job is the fastest way to use several cores: two threads do not halve the time of a step, while two
    jobs of one thread each do not slow each other down (``benchmarks/sweep.py``).

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
