"""Pairs of films that are remembered: datamodules/kept_pairs.py."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cxrlab.datamodules.cache.kept_pairs import kept_pairs
from cxrlab.datamodules.films import COLUMNS

PAIRS = pd.DataFrame([(0, 2, True, 0, 0, False), (1, 3, False, 12, 44, True)], columns=list(COLUMNS))
FILES = ["a", "b", "a", "", "d"]


def never() -> pd.DataFrame:
    raise AssertionError("looked for again")


@pytest.mark.parametrize("pairs", [PAIRS, PAIRS[:0]], ids=["some", "none"])
def test_what_was_found_is_remembered(pairs: pd.DataFrame, tmp_path: Path) -> None:
    for find in (lambda: pairs, never):
        found, notes = kept_pairs(tmp_path, "near", find, FILES)
        pd.testing.assert_frame_equal(found, pairs)
        assert notes == []


@pytest.mark.parametrize(("search", "files"), [("thorough", FILES), ("near", FILES[::-1]), ("near", FILES[:4])])
def test_other_files_and_another_search_are_looked_at_anew(search: str, files: list[str], tmp_path: Path) -> None:
    kept_pairs(tmp_path, "near", lambda: PAIRS, FILES)
    found, _ = kept_pairs(tmp_path, search, lambda: PAIRS[:1], files)
    assert len(found) == 1


def test_without_a_cache_nothing_is_kept() -> None:
    assert kept_pairs(None, "near", lambda: PAIRS, FILES)[0] is PAIRS
    with pytest.raises(AssertionError, match="looked for again"):
        kept_pairs(None, "near", never, FILES)


def test_a_folder_that_cannot_be_written_is_noted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found, (note,) = kept_pairs(tmp_path / "file", "near", lambda: PAIRS, FILES)
    assert len(found) == 2
    assert "could not be kept" in note
