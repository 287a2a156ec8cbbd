"""Going through folders of any depth: :func:`os.walk` calls itself for each level and fails at a thousand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from cxrlab.errors import DataError

MAX_ENTRIES = 20_000_000
"""Files and folders below one folder; the largest public sets have less than a million."""


def walk(
    top: str | Path, onerror: Callable[[OSError], object], *, followlinks: bool = False
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Goes through a folder and all below it, each before what it contains.

    Args:
        top: Where to begin.
        onerror: Called where a folder cannot be listed; it may raise.
        followlinks: Whether links to folders are entered; the caller then looks out for circles.

    Yields:
        A folder, the names of the folders in it and those of everything else, sorted; folders that the caller removes
        from the list are not entered.

    Raises:
        DataError: There is too much.
    """
    waiting, entries = [str(top)], 0
    while waiting:
        above = waiting.pop()
        folders: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(above) as found:
                for entry in found:
                    (folders if _is_folder(entry) else names).append(entry.name)
                    entries += 1
                    if entries > MAX_ENTRIES:
                        raise DataError(f"{top}: more than {MAX_ENTRIES:,} files and folders; name a part of it")
        except OSError as error:
            onerror(error)
            continue
        folders.sort()
        yield above, folders, sorted(names)
        paths = [os.path.join(above, name) for name in reversed(folders)]  # noqa: PTH118 - os.walk's own way
        waiting += [path for path in paths if followlinks or not os.path.islink(path)]  # noqa: PTH114


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
