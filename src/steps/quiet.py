"""Keeps off the screen what Lightning says about things that are so on purpose."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_EXPECTED = (
    # The pixels are in memory: a worker would cost more than it saves.
    ".*does not have many workers.*",
    # The report says "undefined: only one class present" in the metric's own place.
    ".*No (positive|negative) samples in targets.*",
    # What is logged has been gathered from all processes by then.
    ".*recommended to use .self.log.*sync_dist=True.*",
    # Lightning 2.6 with torch 2.15, inside Lightning itself.
    ".*isinstance.treespec, LeafSpec.. is deprecated.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences the warnings listed here, and the announcements of the machine that each Trainer repeats."""
    announcers = [
        logging.getLogger(f"{package}.utilities.rank_zero") for package in ("pytorch_lightning", "lightning.fabric")
    ]
    levels = [logger.level for logger in announcers]
    with warnings.catch_warnings():
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message=message)
        for logger in announcers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(announcers, levels, strict=True):
                logger.setLevel(level)
