"""What the program says to a person, on the screen and in the run's log alike."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from rich import get_console

DISCLAIMER = "Research software, not a medical device."
"""Said on every surface."""

_log = logging.getLogger("cxrlab")


def say(text: str) -> None:
    """Prints text as it is (no wrapping, no markup) above any progress bar, at once, and adds it to the log."""
    console = get_console()
    console.print(text, soft_wrap=True, highlight=False, markup=False)
    console.file.flush()  # whoever follows a log file sees an epoch when it is over
    for line in text.splitlines():
        _log.info("%s", line)


def short(path: Path) -> str:
    """A path as a person would type it: relative to the current folder, where it lies below."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
