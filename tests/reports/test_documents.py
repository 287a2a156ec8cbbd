"""Templates: every value is text, whatever it holds; what the program wrote as Markdown stays."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, TypeGuard

import pytest
from jinja2 import UndefinedError

from cxrlab.evaluation.estimate import Estimate
from cxrlab.reports import documents
from cxrlab.reports.markdown import Markdown

HOSTILE = '\n# H1\n<script>c()</script>![d](http://127.0.0.1:9/e.png)|*x*&amp;"\u202e{{ 7 * 7 }}'


def rendered(template: str, **context: object) -> str:
    return documents._ENVIRONMENT.from_string(template).render(**context)


def test_a_value_is_text() -> None:
    text = rendered("a {{ value }} b", value=HOSTILE)
    assert text.count("\n") == 0
    assert "\\<script>" in text
    assert "!\\[d\\](" in text
    assert "\\*x\\*" in text
    assert "{{ 7 \\* 7 }}" in text, "a value is no template"
    assert "&quot;" not in text, "and nothing is escaped as HTML"


def test_what_the_program_wrote_stays() -> None:
    assert rendered("{{ value }}", value=Markdown("**a** & <b>")) == "**a** & <b>"
    macro = "{% macro bold(text) %}**{{ text }}**{% endmacro %}{{ bold(value) }}"
    assert rendered(macro, value="a*b") == "**a\\*b**"
    assert rendered("{{ value }}|{{ empty }}", value=Estimate(0.5, 0.4, 0.6, ""), empty=None) == "0.500 [0.400, 0.600]|"


def test_lists_and_tables_hold_text() -> None:
    assert rendered("{{ values | join }}", values=["a & b", "*"]) == "a & b, \\*"
    assert rendered("{{ table(('x',), rows) }}", rows=[["a|*b*"]]) == "| x |\n| --- |\n| a\\|\\*b\\* |"
    assert rendered("{{ value | code }}", value="a`b") == "`` a`b ``"


def test_a_long_table_is_folded_and_has_its_caption() -> None:
    short = rendered("{{ table(('x',), rows, 'a*b') }}", rows=[[1]] * 12)
    assert short.startswith("**a\\*b**\n\n| x |")
    long = rendered("{{ table(('x',), rows, 'a<b') }}", rows=[[1]] * 13)
    assert long.startswith("<details>\n<summary>a&lt;b (13 rows)</summary>\n\n| x |")
    assert long.endswith("| 1 |\n\n</details>\n\n")


def test_a_method_stands_once() -> None:
    found = {
        name: Estimate(0.5, 0.4, 0.6, method) for name, method in (("A", "Wilson"), ("B", "boot*"), ("C", "Wilson"))
    }
    assert rendered("{{ found | methods }}", found=found) == "Intervals: A, C: Wilson; B: boot\\*."


def test_a_link_leads_to_a_section() -> None:
    assert rendered("{{ title | link }}", title="Size & *x*") == "[Size & \\*x\\*](#size--x)"


def test_what_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'missing' is undefined"):
        rendered("{{ missing }}")


@pytest.mark.parametrize("room", ["checks", "evaluation", "figures", "reports"])
def test_no_python_file_writes_html_or_escapes_by_hand(room: str) -> None:
    for path in (Path(documents.__file__).parents[1] / room).glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        described = {node.value.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and is_text(node.value)}
        texts = {node.value for node in ast.walk(tree) if is_text(node)} - described
        assert not [text for text in texts if re.search(r"</?[a-z][\w-]*[\s>/]", text)], path.name
        assert "escape" not in {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(tree)}, path.name


def is_text(node: ast.AST) -> TypeGuard[Any]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_every_template_can_be_read() -> None:
    names = [path.name for path in (Path(documents.__file__).parent / "templates").iterdir()]
    assert {"gate.md.j2", "lungs.md.j2"} <= set(names)
    for name in names:
        documents._ENVIRONMENT.get_template(name)
