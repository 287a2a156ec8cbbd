"""Counts, shares and lists in words."""

from __future__ import annotations

import pytest

from cxrlab.words import bounds, file_name, listed, p_value, part, plural, tally


def test_counts_and_shares() -> None:
    assert [plural(n, "image") for n in (0, 1, 5856)] == ["0 images", "1 image", "5,856 images"]
    assert part(4, 20) == "4 of 20 (20 %)"
    assert part(0, 0) == "0 of 0"


def test_a_tally_names_the_commonest_and_counts_the_rest_together() -> None:
    assert tally(["SARS", "", "SARS"]) == "SARS 2, unknown 1"
    assert tally(map(str, range(9))).endswith("7 1, 8 1"), "one more name is no longer than '1 other'"
    assert tally(map(str, range(10))).endswith("7 1, 2 others 2")
    assert tally(["a, b", "c"]) == '"a, b" 1, c 1', "a comma separates values"


def test_lists_and_files() -> None:
    assert listed(list("abc")) == "a, b, c"
    assert listed(list("abcd"), 2) == "a, b and 2 more"
    assert file_name("set/train/film.png") == "film.png"


@pytest.mark.parametrize(("p", "text"), [(0.0004, "p < 0.001"), (0.0123, "p = 0.012")])
def test_a_p_value_is_never_0(p: float, text: str) -> None:
    assert p_value(p) == text


def test_bounds_leave_whole_numbers_as_such() -> None:
    assert bounds(0.9123, 1.0) == "[0.912, 1]"
