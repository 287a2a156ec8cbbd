"""Lists or clears what is kept of images for later runs: ``python src/cache.py``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import say
from cxrlab.entry import command_line
from cxrlab.errors import DataError, check_choice, check_range
from cxrlab.imports import quick_imports


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
    check_names(config, keys_of("cache"), problems)
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
        from cxrlab.datamodules.cache import DAY, held

    folder = Path(str(config.folder)).expanduser()
    before = held(folder)
    if clear is not None:
        latest = datetime.now().astimezone().timestamp() - (config.unused_for or 0) * DAY
        for path, facts in before:
            if clear in (path.parts[-4], "all") and facts.st_mtime <= latest:
                _remove(path)
    left = held(folder)
    size, removed = (sum(facts.st_size for _, facts in found) for found in (left, before))
    removed -= size
    if clear is not None:
        say(f"removed  {_megabytes(removed)}")
    say(*(_table(left) if left else [f"empty    {folder}"]))
    say(f"total    {_megabytes(size)} in {folder}")
    return {"bytes": size, "removed": removed}, {"entries": left}


def _remove(path: Path) -> None:
    """Removes a file of the cache, and the folders that this empties, unless it is gone already or not ours."""
    with suppress(OSError):
        path.unlink()
        if {other.name for other in path.parent.iterdir()} <= {"lock"}:
            (path.parent / "lock").unlink(missing_ok=True)
            for folder in path.parents[:3]:
                folder.rmdir()  # which fails as long as anything is in it


def _table(found: Sequence[tuple[Path, os.stat_result]]) -> list[str]:
    """One line per preprocessing, and per kind of measurement."""
    lines = [f"{'kind':13}{'of':32}{'images':>9}{'size':>14}  last used"]
    of: dict[tuple[str, str], list[tuple[Path, os.stat_result]]] = {}
    for path, facts in found:
        of.setdefault((path.parts[-4], path.parts[-3]), []).append((path, facts))
    for (kind, what), files in sorted(of.items()):
        images, size = sum(_images(path) for path, _ in files), sum(facts.st_size for _, facts in files)
        used = datetime.fromtimestamp(files[0][1].st_mtime).astimezone()
        lines.append(f"{kind:13}{what:32}{images:>9,}{_megabytes(size):>14}  {used:%Y-%m-%d %H:%M}")
    return lines


def _images(path: Path) -> int:
    """How many a chunk holds; 0 where it is unfinished, damaged or gone."""
    from cxrlab.datamodules.cache import read_chunk

    with suppress(OSError, DataError):
        return sum(stop > start for _, _, _, start, stop, _ in read_chunk(path)[1])
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def main() -> None:
    """The command line."""
    command_line("cache", cache)


if __name__ == "__main__":
    main()
