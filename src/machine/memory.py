"""Memory that is freed stays with the process, so that the next training step finds it where the last one left it."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt in glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEEP = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 2**28}
_DEFAULT = {_M_MMAP_MAX: 65_536, _M_TRIM_THRESHOLD: 2**17, _M_TOP_PAD: 2**17}


def keep_freed() -> bool:
    """Tells glibc not to hand freed memory back to the system, until :func:`return_freed`.

    A training step frees and allocates the same hundreds of megabytes again and again. By default each of them is asked
    from the system anew, which clears it page by page: a third of the time of a step of the paper's network on two
    cores. The largest memory of a process grows, since freed blocks do not always fit what comes next; by less where
    what stays, weights and the optimizer's state, was allocated before.

    Returns:
        Whether it was done: only on Linux with glibc, and not where another allocator stands in its place.
    """
    return _set(_KEEP) is not None


def return_freed() -> bool:
    """Undoes :func:`keep_freed`, and hands what is free now back to the system.

    Returns:
        Whether it was done.
    """
    libc = _set(_DEFAULT)
    if libc is not None:
        libc.malloc_trim(0)
    return libc is not None


def _set(options: dict[int, int]) -> ctypes.CDLL | None:
    """Returns the C library if it is glibc and took the options."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return None
    return libc if all(libc.mallopt(name, value) == 1 for name, value in options.items()) else None
