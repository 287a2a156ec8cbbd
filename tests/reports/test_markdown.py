"""Words and tables of reports."""

from __future__ import annotations

import pandas as pd
import pytest

from cxrlab.reports.markdown import count, markdown_table, median, number, tally


def test_markdown_table() -> None:
    table = markdown_table([("a|b", 1), ("two\nlines", None)], ("x", "y"))
    assert table == "| x | y |\n| --- | --- |\n| a\\|b | 1 |\n| two lines |  |"
    with pytest.raises(ValueError, match="must have 2 cells"):
        markdown_table([(1,)], ("x", "y"))


def test_words() -> None:
    assert count(1, "image") == "1 image"
    assert count(0, "image") == "0 images"
    assert number(None, ",d") == median([]) == "not recorded"
    assert number(23981249, ",d") == "23,981,249"
    assert median([3.0, 1.0, 2.0]) == "2.00"


def test_tally_counts_the_rest_together() -> None:
    assert tally(pd.Series(["SARS", "", "SARS"])) == "SARS 2, not stated 1"
    assert tally(pd.Series([str(value) for value in range(10)])) == "0 1, 1 1, 2 1, 3 1, 4 1, 5 1, 6 1, 7 1, 2 others 2"
