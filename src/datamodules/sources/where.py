"""Where the files of a table lie, if they do not lie where its paths point."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from cxrlab.console import override

_TRIED = 5  # paths of the table: one that is found is enough to tell what the others lack
_FOLDERS = 200  # below the root, each looked into once
_ENTRIES = 50_000  # of one folder
_DEPTH = 30  # parts of a path


def slashes(path: str) -> str:
    """The path with ``/`` for the backslashes of Windows."""
    return path.replace("\\", "/")


def hint(paths: Iterable[str], root: Path) -> str:
    """What to type, in a sentence, where one of the first paths is found by another beginning or spelling.

    Looked into are the folder itself, two above it, and those directly below it; never more than some hundred.

    Args:
        paths: As the table has them.
        root: Where relative paths begin.

    Returns:
        A text that begins with ``;``, or an empty one where nothing was found.
    """
    try:
        with os.scandir(root) as entries:
            below = sorted(Path(entry.path) for entry in islice(entries, _ENTRIES) if entry.is_dir())
    except OSError:
        below = []
    folders = [root, *islice(root.parents, 2), *below[:_FOLDERS]]
    listings: dict[str, dict[str, str]] = {}
    for given in islice(paths, _TRIED):
        parts = [part for part in slashes(given).split("/") if part]
        for start in range(min(len(parts), _DEPTH)):
            for folder in folders:
                if found := _walk(folder, parts[start:][:_DEPTH], listings):
                    return _told(given, parts[start:], found, folder, root)
    return ""


def _told(given: str, parts: list[str], found: list[str], folder: Path, root: Path) -> str:
    """How the table's path and what is there differ, and which options make up for it."""
    rest = "/".join(parts)
    prefix = slashes(given)[: slashes(given).rindex(rest)] if rest in slashes(given) else ""
    options = [override("data.source.strip_prefix", prefix)] if prefix else []
    options += [override("data.source.root", str(folder))] if folder != root else []
    there = f"; but {folder.joinpath(*found)} is there"
    if found == parts:
        return f"{there}: type {' '.join(options)}" if options else ""
    also = f", and type {' '.join(options)}" if options else ""
    return f"{there}, which the table calls {rest!r}: write paths as the files are called{also}"


def _walk(folder: Path, parts: list[str], listings: dict[str, dict[str, str]]) -> list[str] | None:
    """The parts as they are called below a folder, whatever their letter case and encoding; ``None``: not there."""
    if not parts or any(part in ("..", ".") for part in parts):
        return None
    if os.path.lexists(folder.joinpath(*parts)):
        return parts
    found: list[str] = []
    for part in parts:
        here = str(folder.joinpath(*found))
        if here not in listings:
            try:
                with os.scandir(here) as entries:
                    listings[here] = {_plain(entry.name): entry.name for entry in islice(entries, _ENTRIES)}
            except OSError:
                listings[here] = {}
        name = listings[here].get(_plain(part))
        if name is None:
            return None
        found.append(name)
    return found


def _plain(name: str) -> str:
    """A name without what tables and disks write differently: letter case, blanks at the end, ``%20``, quotes."""
    return re.sub(r"\.jpeg$", ".jpg", unquote(name).strip(" '\"").casefold())
