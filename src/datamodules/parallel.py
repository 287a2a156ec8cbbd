"""The same work on many images, on all cores, with a progress bar where it takes long enough to be seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich import get_console
from rich.progress import track

from cxrlab.reading.worker import POOL

_SHOW_PROGRESS_FROM = 64  # images; fewer are done before a bar could be seen

Item = TypeVar("Item")


def for_each(work: Callable[[Item], object], items: Sequence[Item], doing: str) -> None:
    """Works on every item, in threads: OpenCV, hashing and files release the interpreter lock.

    Args:
        work: Called once with each item; what it raises ends the whole.
        items: In the order in which they are begun.
        doing: What is being done, for the progress bar.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            done = pool.map(work, items)
            quiet = len(items) < _SHOW_PROGRESS_FROM or not get_console().is_terminal
            for _ in track(done, doing, len(items), disable=quiet, transient=True):
                pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # whoever presses Ctrl-C waits neither for all images,
            POOL.give_up()  # nor for one that takes long
            raise
