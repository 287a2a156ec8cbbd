"""Templates and pages: every value is text, whatever it holds; what the program wrote as Markdown stays."""

from __future__ import annotations

import ast
import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeGuard

import pytest
from jinja2 import UndefinedError

from cxrlab import figures
from cxrlab.evaluation.estimate import Estimate
from cxrlab.reports import documents
from cxrlab.reports.documents import Markdown, known, link, markdown_table, render, write_document

HOSTILE = '\n# H1\n<script>c()</script>![d](http://127.0.0.1:9/e.png)|*x*&amp;"\u202e{{ 7 * 7 }}'
TEXT = """# Report of run <1>

- **WARNING:** validation was the test set
- nothing else

## Result

| a | b |
|---|---|
| 1 | 2 |

![curve of *loss*](figures/curve.png)

## What was not checked

`a|b` <script>alert(1)</script> [here](javascript:alert(1))
"""


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
    assert rendered("{{ values | bullets('**!** ') }}", values=["a & b", "*"]) == "- **!** a & b\n- **!** \\*"
    assert rendered("{{ table(('x',), rows) }}", rows=[["a|*b*"]]) == "| x |\n| --- |\n| a\\|\\*b\\* |"
    assert rendered("{{ value | code }}", value="a`b") == "`` a`b ``"
    assert rendered("{{ value | strong }}", value="a*b") == "**a\\*b**"
    table = markdown_table([("a|b", 1), ("two\nlines", None)], ("x", "y"))
    assert table == "| x | y |\n| --- | --- |\n| a\\|b | 1 |\n| two lines |  |"
    with pytest.raises(ValueError, match="must have 2 cells"):
        markdown_table([(1,)], ("x", "y"))


def test_words() -> None:
    assert known(None, ",d") == known("") == "not recorded"
    assert known(23981249, ",d") == "23,981,249"


def test_a_long_table_is_folded_and_has_its_caption() -> None:
    short = rendered("{{ table(('x',), rows, 'a*b') }}", rows=[[1]] * 12)
    assert short.startswith("**a\\*b**\n\n| x |")
    long = rendered("{{ table(('x',), rows, 'a<b') }}", rows=[[1]] * 13)
    assert long.startswith("<details>\n<summary>a&lt;b (13 rows)</summary>\n\n| x |")
    assert long.endswith("| 1 |\n\n</details>\n\n")


def test_a_method_stands_once() -> None:
    methods = {"A": "Wilson", "B": "boot*", "C": "Wilson"}
    found = {name: Estimate(0.5, 0.4, 0.6, method) for name, method in methods.items()}
    assert rendered("{{ found | methods }}", found=found) == "Intervals: A, C: Wilson; B: boot\\*."


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


# --------------------------------------------------------------------------------------------------------------- pages


class Page(HTMLParser):
    """Collects the tags of a page, and notes those that are closed in the wrong order."""

    def __init__(self, markdown: str = TEXT, folder: Path = Path()) -> None:
        super().__init__()
        self.html = render(markdown, folder, "Report of run <1>")
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(self.html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    figures.save(figures.confusion_matrix([[20, 0], [1, 19]], "Test"), tmp_path / "run/figures/curve.png")
    return tmp_path / "run"


def test_a_document_is_two_files(tmp_path: Path) -> None:
    page = write_document(tmp_path, "summary", "probes", "Of <1>", {"tables": [], "models": [], "command": ""})
    assert page == tmp_path / "summary.html"
    text = page.with_suffix(".md").read_text(encoding="utf-8")
    assert text.startswith("# Of <1>\n\nThe mean")
    assert "\n\n\n" not in text
    assert page.read_text(encoding="utf-8") == render(text, tmp_path, "Of <1>")


def test_figures_are_inside_the_page(folder: Path) -> None:
    (image,) = Page(folder=folder).named("img")
    assert image["alt"] == "curve of loss"
    encoded = (image["src"] or "").removeprefix("data:image/png;base64,")
    assert base64.b64decode(encoded) == (folder / "figures/curve.png").read_bytes()


def test_figures_stand_in_rows_of_their_own(folder: Path) -> None:
    page = Page("![a](figures/curve.png)\n![b](figures/curve.png)\n\ntext ![c](figures/curve.png)\n", folder).html
    first, second = re.findall(r"<(?:div class=\"figures\"|p)>.*?</(?:div|p)>", page, re.DOTALL)
    assert first.startswith("<div")
    assert first.count("<figure>") == 2
    assert second.startswith("<p>text")
    assert second.count("<figure>") == 1


def test_no_line_breaks_inside_a_number_with_its_interval() -> None:
    page = Page("accuracy 0.975 [0.871, 0.996], 39 of 40 images").html
    assert "accuracy 0.975\u00a0[0.871,\u00a00.996], 39\u00a0of\u00a040 images" in page


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs() -> None:
    page = Page()
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.found}
    assert "&lt;script&gt;" in page.html
    assert all("javascript:" not in str(value) for _, attributes in page.found for value in attributes.values())
    assert not re.search(r"(src|href)=\"https?:", page.html)


def test_sections_can_be_reached_and_warnings_are_marked() -> None:
    page = Page()
    anchors = [link["href"] for link in page.named("a") if (link["href"] or "").startswith("#")]
    assert anchors == [f"#{heading['id']}" for heading in page.named("h2")] == ["#result", "#what-was-not-checked"]
    assert [item.get("class") for item in page.named("li")] == ["warning", None]
    assert "<title>Report of run &lt;1&gt;</title>" in page.html
    bare = Page("# Nothing\n")
    assert '<h1 id="nothing">Nothing</h1>' in bare.html
    assert bare.named("nav") == []


def test_other_files_do_not_get_in(folder: Path) -> None:
    (folder.parent / "secret.png").write_bytes(b"secret")
    (folder.parent / "elsewhere.txt").write_bytes(b"secret")
    for file in ("../secret.png", "../elsewhere.txt", "https://example.org/a.png", "figures/none.png", "config.yaml"):
        page = Page(f"# Report\n\n![a name]({file})\n", folder).html
        assert "(figure not there: a name)" in page
        assert "<img" not in page


def test_a_part_is_folded_and_nothing_else_is_html() -> None:
    text = rendered("{{ folded('Rows <b> & *so*', rows) }}", rows="| a |\n|---|\n| 1 |")
    page = Page(f"{text}- <details>x\n\n<summary></summary>\n\n<b>\n")
    assert len(page.named("details")) == len(page.named("summary")) == 1
    assert "<summary>Rows &lt;b&gt; &amp; *so*</summary>" in page.html
    assert page.html.index("</summary>") < page.html.index("<table>") < page.html.index("</details>")
    assert "<b>" not in page.html.replace("<body>", "")
    assert "&lt;details&gt;x" in page.html


def test_anchors_are_those_of_github_and_links_lead_to_them() -> None:
    page = Page("## A & B: *c* (d_e)\n\n## A & B: c (d_e)\n")
    assert [heading["id"] for heading in page.named("h2")] == ["a--b-c-d_e", "a--b-c-d_e-1"]
    assert link("A & B: c (d_e)").endswith("](#a--b-c-d_e)")
    assert rendered("{{ title | link }}", title="Size & *x*") == "[Size & \\*x\\*](#size--x)"
