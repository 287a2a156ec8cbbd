from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cxrlab.runs import environment


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can only be reset on Linux")
def test_peak_memory_sees_an_allocation_and_forgets_it_when_reset() -> None:
    environment.reset_peak_memory()
    before = environment.peak_memory_mb()
    block = np.ones(200 * 2**20 // 8)
    assert environment.peak_memory_mb() - before > 150
    del block
    environment.reset_peak_memory()
    assert environment.peak_memory_mb() - before < 100
