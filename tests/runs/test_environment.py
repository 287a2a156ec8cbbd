from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from cxrlab.runs import environment


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can only be reset on Linux")
def test_peak_memory_sees_an_allocation_and_forgets_it_when_reset() -> None:
    environment.reset_peak_memory()
    before = environment.peak_memory_mb()
    # Fresh pages from the system: an array may take those that earlier tests have freed and the process has kept.
    with mmap.mmap(-1, 200 * 2**20) as block:
        for page in range(0, len(block), mmap.PAGESIZE):
            block[page] = 1
        assert environment.peak_memory_mb() - before > 150
    environment.reset_peak_memory()
    assert environment.peak_memory_mb() - before < 100
