"""Pages that need no other file, whatever stands in the text."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

from cxrlab import figures
from cxrlab.reports.page import folded, render, slug, write_pages

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


class Tags(HTMLParser):
    """Collects the tags of a page, and notes those that are closed in the wrong order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def write(folder: Path, text: str = TEXT) -> str:
    figures.save(figures.confusion_matrix([[20, 0], [1, 19]], "Test"), folder / "figures/curve.png")
    markdown, page = write_pages(folder, "report", text, "Report of run <1>")
    assert markdown.read_text(encoding="utf-8") == text
    return page.read_text(encoding="utf-8")


def test_figures_are_inside_the_page(tmp_path: Path) -> None:
    tags = Tags(write(tmp_path))
    (image,) = tags.named("img")
    assert image["alt"] == "curve of loss"
    encoded = (image["src"] or "").removeprefix("data:image/png;base64,")
    assert base64.b64decode(encoded) == (tmp_path / "figures/curve.png").read_bytes()
    assert tags.open == []


def test_figures_stand_in_rows_of_their_own(tmp_path: Path) -> None:
    page = write(tmp_path, "![a](figures/curve.png)\n![b](figures/curve.png)\n\ntext ![c](figures/curve.png)\n")
    first, second = re.findall(r"<(?:div class=\"figures\"|p)>.*?</(?:div|p)>", page, re.DOTALL)
    assert first.startswith("<div")
    assert first.count("<figure>") == 2
    assert second.startswith("<p>text")
    assert second.count("<figure>") == 1


def test_no_line_breaks_inside_a_number_with_its_interval(tmp_path: Path) -> None:
    page = write(tmp_path, "accuracy 0.975 [0.871, 0.996], 39 of 40 images")
    assert "accuracy 0.975\u00a0[0.871,\u00a00.996], 39\u00a0of\u00a040 images" in page


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(tmp_path: Path) -> None:
    page = write(tmp_path)
    tags = Tags(page)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags.found}
    assert "&lt;script&gt;" in page
    assert all("javascript:" not in str(value) for _, attributes in tags.found for value in attributes.values())
    assert not re.search(r"(src|href)=\"https?:", page)


def test_sections_can_be_reached_and_warnings_are_marked(tmp_path: Path) -> None:
    page = write(tmp_path)
    tags = Tags(page)
    anchors = [link["href"] for link in tags.named("a") if (link["href"] or "").startswith("#")]
    assert anchors == [f"#{heading['id']}" for heading in tags.named("h2")] == ["#result", "#what-was-not-checked"]
    assert [item.get("class") for item in tags.named("li")] == ["warning", None]
    assert "<title>Report of run &lt;1&gt;</title>" in page


def test_other_files_do_not_get_in(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "elsewhere.txt").write_bytes(b"secret")
    for link in ("../secret.png", "../elsewhere.txt", "https://example.org/a.png", "figures/none.png", "config.yaml"):
        page = write(folder, f"# Report\n\n![a name]({link})\n")
        assert "(figure not there: a name)" in page
        assert "<img" not in page


def test_text_without_sections_or_figures(tmp_path: Path) -> None:
    page = render("# Nothing\n", tmp_path, "Nothing")
    assert '<h1 id="nothing">Nothing</h1>' in page
    assert "<nav>" not in page


def test_a_part_is_folded_and_nothing_else_is_html(tmp_path: Path) -> None:
    text = folded("Rows <b> & *so*", "| a |\n|---|\n| 1 |") + "\n\n- <details>x\n\n<summary></summary>\n\n<b>\n"
    page = render(text, tmp_path, "Folded")
    tags = Tags(page)
    assert tags.open == []
    assert len(tags.named("details")) == len(tags.named("summary")) == 1
    assert "<summary>Rows &lt;b&gt; &amp; *so*</summary>" in page
    assert page.index("</summary>") < page.index("<table>") < page.index("</details>")
    assert "<b>" not in page.replace("<body>", "")
    assert "&lt;details&gt;x" in page


def test_anchors_are_those_of_github() -> None:
    page = render("## A & B: *c* (d_e)\n\n## A & B: c (d_e)\n", Path(), "Anchors")
    assert [heading["id"] for heading in Tags(page).named("h2")] == ["a--b-c-d_e", "a--b-c-d_e-1"]
    assert slug("A & B: c (d_e)") == "a--b-c-d_e"
