"""Importing large libraries in less time."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Keeps the garbage collector from looking through what is being imported.

    PyTorch and what comes with it are nearly a million objects that live as long as the process. Python would go
    through them again and again while they come, a quarter of the time that importing takes, and now and then later.
    """
    first = "torch" not in sys.modules
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if first:  # later there may be garbage, an earlier job's trainer for example, which must stay collectable
            gc.freeze()
            atexit.register(gc.unfreeze)  # extension modules complain of what is still there when Python has ended
        if was_enabled:
            gc.enable()
