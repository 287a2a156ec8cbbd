"""Which files ``input=…`` means: a file, a folder, a pattern, or a table that lists some."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cxrlab.datamodules.sources.sheet import read_sheet
from cxrlab.errors import DataError, did_you_mean
from cxrlab.reading.folders import walk
from cxrlab.reading.image import SUFFIXES

PATH = "path"
"""The column of a table that holds paths, as in a manifest."""
_TABLES = (".csv", ".csv.gz", ".tsv", ".xlsx")
_HOW = "input=… takes an image file, a folder, a pattern in quotes ('scans/*.dcm') or a CSV with a column `path`"


class Listed(NamedTuple):
    """Files to look at, and what was passed over.

    Attributes:
        paths: In order, every one once.
        left_out: Files of folders whose names say that they are no images, by ending: ``{".txt": 3}``.
    """

    paths: list[str]
    left_out: dict[str, int]


def list_inputs(given: str | Sequence[str]) -> Listed:
    """Finds the files.

    A folder is gone through with all folders below it, in the order of names; links to folders are not followed. From a
    folder come files whose names end like images, and those without an ending, as DICOM files often are; whatever is
    named itself is taken whatever its name. What a file is, its content tells later. A folder that cannot be listed
    stands in the list as well, so that nothing is left out without a word.

    Args:
        given: One or several of: an image file, a folder, a pattern (``**`` goes into folders), a table (``.csv``,
            ``.csv.gz``, ``.tsv``, ``.xlsx``) with a column ``path``, whose relative paths begin at its own folder.
            ``~`` is expanded.

    Raises:
        DataError: There is nothing, or a table has no such column; says what was expected.
    """
    if isinstance(given, str):
        given = [given]
    left_out: Counter[str] = Counter()
    paths: list[str] = []
    for each in given:
        paths += _one(str(each), left_out)
    if not paths:
        more = f" ({by_ending(left_out)} left out)" if left_out else ""
        raise DataError(f"{', '.join(map(str, given)) or 'input'}: no image file there{more}; {_HOW}")
    return Listed(list(dict.fromkeys(paths)), dict(left_out))


def _one(given: str, left_out: Counter[str]) -> list[str]:
    text = os.path.expanduser(given)  # noqa: PTH111 - no name that is too long or holds a NUL is an error here
    path = Path(text)
    if os.path.isdir(text):  # noqa: PTH112
        return _in_folder(path, left_out)
    if os.path.exists(text):  # noqa: PTH110
        return _in_table(path) if path.name.lower().endswith(_TABLES) and path.is_file() else [text]
    if not glob.has_magic(given):
        what = "a link to a file that is not there" if os.path.islink(text) else "no such file or folder"  # noqa: PTH114
        raise DataError(f"{given}: {what}{did_you_mean(path.name, _neighbours(path))}; {_HOW}")
    if "**" in path.parts:
        return _matching(path)
    return [each for each in sorted(glob.glob(text)) if not os.path.isdir(each)]  # noqa: PTH112, PTH207 - may be absolute


def _neighbours(path: Path) -> list[str]:
    with suppress(OSError, ValueError):
        return os.listdir(path.parent)  # noqa: PTH208
    return []


def _matching(pattern: Path) -> list[str]:
    """Files that match a pattern with ``**``, by :mod:`glob`'s rules; but links to folders are not followed."""
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    folder, parts = Path(*fixed), pattern.parts[len(fixed) :]
    found, unlisted = _files(folder)
    return [path for path in found if path in unlisted or _fits(Path(path).relative_to(folder).parts, parts)]


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern; looks at each name once, for all ways in which it may fit."""

    def with_empty(places: set[int]) -> set[int]:
        """Places in the pattern, and those behind a ``**`` that stands for no folder."""
        for place in range(len(pattern)):
            if place in places and pattern[place] == "**":
                places.add(place + 1)
        return places

    places = with_empty({0})
    for name in names:
        after = set()
        for place in places - {len(pattern)}:
            part = pattern[place]
            if not name.startswith(".") or part.startswith("."):
                if part == "**":
                    after.add(place)
                elif fnmatch.fnmatch(name, part):
                    after.add(place + 1)
        places = with_empty(after)
    return len(pattern) in places


def _files(folder: Path) -> tuple[list[str], set[str]]:
    """All below a folder but folders; those that cannot be listed are among them, so that they are rows, too."""
    found: list[str] = []
    unlisted: set[str] = set()
    for above, _, names in walk(folder, lambda error: unlisted.add(error.filename)):
        found += [str(Path(above, name)) for name in names]
    return found + sorted(unlisted), unlisted


def _in_folder(folder: Path, left_out: Counter[str]) -> list[str]:
    found = []
    files, unlisted = _files(folder)
    for path in files:
        ending = Path(path).suffix.lower()
        if Path(path).name.startswith("."):
            continue
        if ending in SUFFIXES or not ending or path in unlisted:
            found.append(path)
        else:
            left_out[ending] += 1
    return found


def _in_table(path: Path) -> list[str]:
    table = read_sheet(path, (PATH,), _HOW).frame()
    if PATH not in table.columns:
        near = did_you_mean(PATH, table.columns)
        raise DataError(f"{path}: no column `{PATH}` (there are: {', '.join(table.columns)[:200]}){near}; {_HOW}")
    return [str(path.parent / Path(each).expanduser()) for each in table[PATH] if each]


def by_ending(left_out: Mapping[str, int]) -> str:
    """Files that were left out, in words: ``3 .txt, 1 .csv``."""
    return ", ".join(f"{number} {ending}" for ending, number in Counter(left_out).most_common())
