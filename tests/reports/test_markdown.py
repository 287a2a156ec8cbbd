"""Words and tables of reports."""

from __future__ import annotations

import pytest

from cxrlab.reports.documents import known, markdown_table


def test_markdown_table() -> None:
    table = markdown_table([("a|b", 1), ("two\nlines", None)], ("x", "y"))
    assert table == "| x | y |\n| --- | --- |\n| a\\|b | 1 |\n| two lines |  |"
    with pytest.raises(ValueError, match="must have 2 cells"):
        markdown_table([(1,)], ("x", "y"))


def test_words() -> None:
    assert known(None, ",d") == "not recorded"
    assert known(23981249, ",d") == "23,981,249"
