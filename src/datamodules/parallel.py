"""The same work on many images, on all cores, with a progress bar where it takes long enough to be seen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from rich import get_console
from rich.progress import track

from cxrlab.reading.worker import POOL

_SHOW_PROGRESS_FROM = 64  # images; fewer are done before a bar could be seen

Item = TypeVar("Item")


def for_each(work: Callable[[Item], object], items: Sequence[Item], doing: str) -> None:
    """Works on every item, in threads (OpenCV, hashing and files release the interpreter lock).

    What ``work`` raises ends the whole. ``doing`` is what the progress bar says.
    """
    futures: list[Future[object]] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            futures = [pool.submit(work, item) for item in items]
            quiet = len(items) < _SHOW_PROGRESS_FROM or not get_console().is_terminal
            for future in track(futures, doing, len(items), disable=quiet, transient=True):
                future.result()
        except BaseException:
            end(pool, futures)
            raise


def end(pool: ThreadPoolExecutor, futures: Iterable[Future[Any]]) -> None:
    """Ends work on images: whoever presses Ctrl-C waits neither for all of them, nor for one that takes long."""
    pool.shutdown(wait=False, cancel_futures=True)
    while any(future.running() for future in futures):
        POOL.give_up()
        time.sleep(0.02)
