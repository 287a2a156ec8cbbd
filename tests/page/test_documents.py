"""HTML is written in templates alone, which escape whatever they are given."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import cxrlab.page
from cxrlab.page.documents import number, render

FOLDER = Path(str(cxrlab.page.__file__)).parent


def test_no_python_file_of_the_page_writes_html() -> None:
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in texts if re.search(r"</?[a-z][\w-]*[\s>/]", text)], path.name
        names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(tree)}
        assert not names & {"escape", "Markup"}, path.name


def test_what_is_safe_in_a_template_is_our_own_style_sheet() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "templates").iterdir())
    assert re.findall(r"{{[^{}]*\|\s*safe\s*}}", text) == ["{{ style | safe }}"]
    assert "autoescape" not in text


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'known' is undefined"):
        render("index")


def test_a_number_is_never_rounded_to_certainty() -> None:
    assert [number(value) for value in (None, 0.0, 1e-7, 0.5, 0.9996, 1.0)] == [
        *("none", "0.000", "below 0.001", "0.500", "above 0.999", "1.000"),
    ]
