"""Pairs of images that are one film, kept on disk by the content of the files."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cxrlab.datamodules import films
from cxrlab.datamodules.cache.shelf import Shelf, version_of


def kept_pairs(
    cache: Path | None, search: str, find: Callable[[], pd.DataFrame], sha256: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Finds pairs, or remembers what was found among the same files in the same order.

    Args:
        cache: Folder in which pairs are kept; ``None`` keeps none.
        search: Names the way in which ``find`` looks for them.
        find: Returns pairs as :func:`cxrlab.datamodules.films.find_pairs` does.
        sha256: Of each file; empty where it could not be read.

    Returns:
        The pairs; and what went wrong with the cache.
    """
    if cache is None:
        return find(), []
    shelf = Shelf(cache, _version())
    key = hashlib.sha256("\n".join([search, *sha256]).encode()).hexdigest()
    kept = shelf.fetch(key)
    if kept is None:
        pairs = find()
        shelf.keep(key, pairs.to_numpy(np.int64).tobytes())
        return pairs, shelf.notes
    table = np.frombuffer(kept, np.int64).reshape(-1, len(films.COLUMNS))
    return pd.DataFrame(table, columns=list(films.COLUMNS)).astype({"same_file": bool, "mirrored": bool}), []


@functools.cache
def _version() -> str:
    return version_of((films, sys.modules[__name__]), "")
