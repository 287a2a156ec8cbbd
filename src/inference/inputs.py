"""Which files ``input=…`` means: a file, a folder, a pattern, or a CSV that lists some."""

from __future__ import annotations

import glob
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from cxrlab.errors import DataError, did_you_mean
from cxrlab.files import from_csv
from cxrlab.reading.image import SUFFIXES

PATH = "path"
"""The column of a CSV that holds paths, as in a manifest."""
_SEPARATORS = (",", ";", "\t")
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
    named itself is taken whatever its name. What a file is, its content tells later.

    Args:
        given: One or several of: an image file, a folder, a pattern (``**`` goes into folders), a ``.csv`` file with a
            column ``path``, whose relative paths begin at its own folder. ``~`` is expanded.

    Raises:
        DataError: There is nothing, or a CSV is no such table; says what was expected.
    """
    if isinstance(given, str):
        given = [given]
    left_out: Counter[str] = Counter()
    paths: list[str] = []
    for each in given:
        paths += _one(str(each), left_out)
    if not paths:
        more = f" ({tally(left_out)} left out)" if left_out else ""
        raise DataError(f"{', '.join(map(str, given)) or 'input'}: no image file there{more}; {_HOW}")
    return Listed(list(dict.fromkeys(paths)), dict(left_out))


def _one(given: str, left_out: Counter[str]) -> list[str]:
    path = Path(given).expanduser()
    if path.is_dir():
        return _in_folder(path, left_out)
    if path.is_file():
        return _in_csv(path) if path.suffix.lower() == ".csv" else [str(path)]
    if not glob.has_magic(given):
        what = "a link to a file that is not there" if path.is_symlink() else "no such file or folder"
        near = did_you_mean(path.name, _neighbours(path))
        raise DataError(f"{given}: {what}{near}; {_HOW}")
    found = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - may be absolute
    return [each for each in found if Path(each).is_file()]


def _neighbours(path: Path) -> list[str]:
    return [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []


def _in_folder(folder: Path, left_out: Counter[str]) -> list[str]:
    found = []
    for above, folders, names in os.walk(folder):
        folders.sort()
        for path in (Path(above, name) for name in sorted(names) if not name.startswith(".")):
            ending = path.suffix.lower()
            if ending in SUFFIXES or not ending:
                found.append(str(path))
            else:
                left_out[ending] += 1
    return found


def _in_csv(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        separator = max(_SEPARATORS, key=head.count)  # pandas would guess, and take any letter of a lone column
        table = from_csv(pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, sep=separator))
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a readable CSV ({reason}); {_HOW}") from None
    if PATH not in table.columns:
        near = did_you_mean(PATH, table.columns)
        raise DataError(f"{path}: no column `{PATH}` (there are: {', '.join(map(str, table.columns))}){near}; {_HOW}")
    return [str(path.parent / Path(each).expanduser()) for each in table[PATH].str.strip() if each]


def tally(left_out: Mapping[str, int]) -> str:
    """Files that were left out, by ending, in words: ``3 .txt, 1 .csv``."""
    return ", ".join(f"{number} {ending}" for ending, number in Counter(left_out).most_common())
