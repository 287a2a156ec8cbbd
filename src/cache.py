"""Lists or clears what is kept of images for later runs: ``python src/cache.py``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from cxrlab.config import Problems, check_names
from cxrlab.console import say
from cxrlab.entry import command_line
from cxrlab.errors import check_choice, check_range
from cxrlab.imports import quick_imports

if TYPE_CHECKING:
    from cxrlab.datamodules.cache.folder import Entry

KEYS = ("folder", "clear", "unused_for")
"""The keys of ``conf/cache.yaml``."""


def cache(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lists what is in the cache; with ``clear``, removes some of it first.

    Args:
        config: As composed from ``conf/cache.yaml``.
        overrides: What was typed; not needed here.

    Returns:
        ``bytes`` that are there and ``removed`` bytes; and by name ``entries``: what is there, last used first.

    Raises:
        UserError: The configuration is wrong.
    """
    problems = Problems()
    check_names(config, KEYS, problems)
    clear = config["clear"]  # config.clear is a method of every mapping
    with problems.guard("clear"):
        if clear is not None:
            check_choice("clear", clear, ("pixels", "measurements", "all"))
    with problems.guard("unused_for"):
        if config.unused_for is not None:
            check_range("unused_for", config.unused_for, 0)
        if config.unused_for is not None and clear is None:
            raise ValueError("unused_for: nothing is removed without clear=pixels, clear=measurements or clear=all")
    problems.raise_if_any()
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.datamodules.cache import folder as cache_folder

    folder = Path(str(config.folder)).expanduser()
    before = cache_folder.entries(folder)
    if clear is not None:
        latest = datetime.now().astimezone().timestamp() - (config.unused_for or 0) * cache_folder.DAY
        cache_folder.remove(each for each in before if clear in (each.kind, "all") and each.used <= latest)
        cache_folder.remove_empty(folder)
    left = cache_folder.entries(folder)
    size, removed = (sum(each.size for each in found) for found in (left, before))
    removed -= size
    if clear is not None:
        say(f"removed  {_megabytes(removed)}")
    say(*(_table(left) if left else [f"empty    {folder}"]))
    say(f"total    {_megabytes(size)} in {folder}")
    return {"bytes": size, "removed": removed}, {"entries": left}


def _table(entries: Sequence[Entry]) -> list[str]:
    """One line per preprocessing and per version of the code."""
    lines = [f"{'kind':13}{'of':32}{'images':>9}{'size':>14}  last used"]
    ordered = sorted(entries, key=lambda entry: (entry.kind, entry.name, entry.used))
    for (kind, name), group in groupby(ordered, key=lambda entry: (entry.kind, entry.name)):
        found = list(group)
        images, size = (sum(getattr(each, key) for each in found) for key in ("images", "size"))
        used = datetime.fromtimestamp(found[-1].used).astimezone()
        lines.append(f"{kind:13}{name:32}{images:>9,}{_megabytes(size):>14}  {used:%Y-%m-%d %H:%M}")
    return lines


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def main() -> None:
    """The command line."""
    command_line("cache", cache)


if __name__ == "__main__":
    main()
