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
    paths = [path for each in given for path in _one(str(each), left_out)]
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
        neighbours: list[str] = []
        with suppress(OSError, ValueError):
            neighbours = os.listdir(path.parent)  # noqa: PTH208
        raise DataError(f"{given}: {what}{did_you_mean(path.name, neighbours)}; {_HOW}")
    if "**" not in path.parts:
        return [each for each in sorted(glob.glob(text)) if not os.path.isdir(each)]  # noqa: PTH112, PTH207 - may be absolute
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    folder, pattern = Path(*fixed), path.parts[len(fixed) :]
    found, unlisted = _below(folder)
    return [each for each in found if _fits(Path(each).relative_to(folder).parts, pattern)] + unlisted


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern, by :mod:`glob`'s rules.

    Each name is looked at once, for all ways in which it may fit: the places in the pattern that the names before it
    lead to. A recursion would not reach the end of deep folders, nor of patterns with many ``**``.
    """
    places = {0}
    for name in (*names, None):
        for place, part in enumerate(pattern):
            if place in places and part == "**":
                places.add(place + 1)  # it may stand for no folder
        if name is None:
            break
        places = {
            place + (part != "**")
            for place, part in enumerate(pattern)
            if place in places and (part[0] == "." or name[0] != ".") and (part == "**" or fnmatch.fnmatch(name, part))
        }
    return len(pattern) in places


def _below(folder: Path) -> tuple[list[str], list[str]]:
    """All files below a folder, and the folders that cannot be listed."""
    unlisted: set[str] = set()
    found = [
        str(Path(above, name))
        for above, _, names in walk(folder, lambda error: unlisted.add(error.filename))
        for name in names
    ]
    return found, sorted(unlisted)


def _in_folder(folder: Path, left_out: Counter[str]) -> list[str]:
    files, unlisted = _below(folder)
    found = []
    for path in files:
        ending = Path(path).suffix.lower()
        if Path(path).name.startswith("."):
            continue
        if ending in SUFFIXES or not ending:
            found.append(path)
        else:
            left_out[ending] += 1
    return found + [path for path in unlisted if not Path(path).name.startswith(".")]


def _in_table(path: Path) -> list[str]:
    table = read_sheet(path, (PATH,), _HOW).frame()
    if PATH not in table.columns:
        near = did_you_mean(PATH, table.columns)
        raise DataError(f"{path}: no column `{PATH}` (there are: {', '.join(table.columns)[:200]}){near}; {_HOW}")
    return [str(path.parent / Path(each).expanduser()) for each in table[PATH] if each]


def by_ending(left_out: Mapping[str, int]) -> str:
    """Files that were left out, in words: ``3 .txt, 1 .csv``."""
    return ", ".join(f"{number} {ending}" for ending, number in Counter(left_out).most_common())
