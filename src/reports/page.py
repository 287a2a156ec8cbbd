"""One text, two files: Markdown for terminals and repositories, and a web page with every figure inside it."""

from __future__ import annotations

import base64
import html
import itertools
import re
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

from cxrlab.console import one_line
from cxrlab.files import write_text

_TOGETHER = re.compile(r"[\d.]+ \[[\d.?]+, [\d.?]+\]|\d+ of \d+")
"""What no line should break in: ``0.975 [0.871, 0.996]`` and ``39 of 40``."""
_STACKED = frozenset({"Verdict", "Item"})
"""Tables whose first column is called so hold sentences: on a phone every row is a card, so that nothing scrolls."""
_VERDICTS = frozenset({"fail", "warn", "not checked", "pass"})
"""Cells that hold nothing else are coloured."""
_STYLE = """
:root { color-scheme: light dark; --text: #1c2024; --soft: #60646c; --line: #d9dbe0; --head: #f3f4f6; --page: #fff;
  --warning: #fdeed8; --edge: #b54708; --link: #0b5cad; --fail: #b42318; --pass: #217a3c; }
@media (prefers-color-scheme: dark) { :root { --text: #e8eaed; --soft: #a5a9b1; --line: #3a3d44; --head: #24272c;
  --page: #16181b; --warning: #3d2a12; --edge: #f0a04b; --link: #7db7f5;
  --fail: #ff8a80; --pass: #7bd88f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 64rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); font-size: 1.3rem; }
h3 { margin: 1.8rem 0 .6rem; font-size: 1.05rem; }
a { color: var(--link); }
nav { margin: 1.2rem 0; padding: .6rem .9rem; border: 1px solid var(--line); border-radius: 6px; font-size: .92rem; }
nav a { display: inline-block; margin-right: 1rem; }
ul:has(> li.warning) { padding: 0; list-style: none; }
li.warning { margin: .4rem 0; padding: .5rem .8rem; border-left: 4px solid var(--edge); background: var(--warning); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { width: max-content; border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border: 1px solid var(--line); text-align: left; vertical-align: top; max-width: 22rem;
  overflow-wrap: normal; }
@media (min-width: 44rem) { table { max-width: 100%; } td { max-width: none; } }
th { background: var(--head); }
td.fail { color: var(--fail); }
td.warn { color: var(--edge); }
td.not-checked { color: var(--soft); }
td.pass { color: var(--pass); }
@media (max-width: 43.99rem) {
  .stacked table, .stacked tbody, .stacked tr, .stacked td { display: block; width: auto; max-width: none; border: 0; }
  .stacked thead { display: none; }
  .stacked tr { margin: .6rem 0; padding: .4rem 0; border: 1px solid var(--line); border-radius: 6px; }
  .stacked td { padding: .1rem .7rem; overflow-wrap: anywhere; }
  .stacked td:first-child, .stacked td:nth-child(2) { font-weight: 600; }
  .stacked td:last-child { color: var(--soft); font-size: .85rem; }
}
.figures { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-end; margin: 1rem 0; }
figure { margin: 0; max-width: 100%; }
figure:not(:only-child) img { max-height: 24rem; width: auto; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 4px; background: #fff; }
figcaption { max-width: 44rem; padding-top: .3rem; color: var(--soft); font-size: .88rem; }
pre { overflow-x: auto; padding: .8rem 1rem; border-radius: 6px; background: var(--head); font-size: .85rem;
  line-height: 1.4; }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def write_pages(folder: Path, stem: str, markdown: str, title: str) -> tuple[Path, Path]:
    """Writes ``<stem>.md`` and ``<stem>.html``.

    Args:
        folder: Where both go; figures in the text are linked relative to it.
        stem: Their name without ending.
        markdown: CommonMark with tables. HTML in it is shown as text: names of files and patients may hold anything.
        title: Of the page.

    Returns:
        The paths of the Markdown and of the HTML file.

    Raises:
        OSError: The folder cannot be written.
    """
    text, page = folder / f"{stem}.md", folder / f"{stem}.html"
    write_text(text, markdown)
    write_text(page, render(markdown, folder, title))
    return text, page


def render(markdown: str, folder: Path, title: str) -> str:
    """Returns a web page that needs no other file: figures below ``folder`` are embedded.

    Args:
        markdown: See :func:`write_pages`.
        folder: What links to figures are relative to.
        title: Of the page.
    """
    parser = MarkdownIt("js-default", renderer_cls=_Renderer)
    environment: dict[str, Any] = {"folder": folder}
    tokens = parser.parse(markdown, environment)
    contents = _name_sections(tokens)
    _set_figures_apart(tokens)
    body = parser.renderer.render(tokens, parser.options, environment)
    links = " ".join(f'<a href="#{anchor}">{html.escape(name)}</a>' for anchor, name in contents)
    first = body.find("<h2")
    start = len(body) if first < 0 else first
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(one_line(title))}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{body[:start]}{f'<nav>{links}</nav>' if links else ''}\n{body[start:]}</body>\n</html>\n"
    )


class _Renderer(RendererHTML):
    """Embeds figures, lets wide tables scroll on their own, and marks warnings."""

    def image(
        self, tokens: Sequence[Token], position: int, options: OptionsDict, environment: MutableMapping[str, Any]
    ) -> str:
        token = tokens[position]
        text = html.escape(self.renderInlineAsText(token.children or [], options, environment))
        folder = environment["folder"].resolve()
        file = (folder / unquote(str(token.attrs["src"]))).resolve()
        # Only figures of this folder: a name in somebody's data must not bring other files, or other machines, in.
        if not file.is_relative_to(folder) or file.suffix != ".png" or not file.is_file():
            return f"<em>(figure not there: {text})</em>"
        pixels = base64.b64encode(file.read_bytes()).decode("ascii")
        picture = f'<img src="data:image/png;base64,{pixels}" alt="{text}">'
        return f"<figure>{picture}<figcaption>{text}</figcaption></figure>"

    def text(
        self, tokens: Sequence[Token], position: int, options: OptionsDict, environment: MutableMapping[str, Any]
    ) -> str:
        return html.escape(_TOGETHER.sub(lambda found: found[0].replace(" ", "\u00a0"), tokens[position].content))

    def table_open(self, tokens: Sequence[Token], position: int, *_: Any) -> str:
        heading = next((token for token in tokens[position:] if token.type == "inline"), None)
        stacked = heading is not None and heading.content in _STACKED
        return f'<div class="wide{" stacked" if stacked else ""}"><table>\n'

    def table_close(self, *_: Any) -> str:
        return "</table></div>\n"

    def td_open(
        self, tokens: Sequence[Token], position: int, options: OptionsDict, environment: MutableMapping[str, Any]
    ) -> str:
        cell = tokens[position + 1].content.strip("*").lower()
        if cell in _VERDICTS:
            tokens[position].attrSet("class", cell.replace(" ", "-"))
        return self.renderToken(tokens, position, options, environment)

    def list_item_open(
        self, tokens: Sequence[Token], position: int, options: OptionsDict, environment: MutableMapping[str, Any]
    ) -> str:
        following = next((token for token in tokens[position:] if token.type == "inline"), None)
        warning = following is not None and following.content.startswith("**WARNING")
        return '<li class="warning">' if warning else "<li>"


def _set_figures_apart(tokens: Sequence[Token]) -> None:
    """Makes a row of figures of every paragraph that holds nothing else: a paragraph may not hold figures."""
    for before, content, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        kinds = {token.type for token in content.children or []}
        if before.type == "paragraph_open" and "image" in kinds and kinds <= {"image", "softbreak"}:
            before.tag = after.tag = "div"
            before.attrSet("class", "figures")


def _name_sections(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """Gives every second-level heading an anchor; returns anchors and names."""
    found: list[tuple[str, str]] = []
    for heading, content in itertools.pairwise(tokens):
        if heading.type == "heading_open" and heading.tag == "h2":
            anchor = f"section-{len(found) + 1}"
            heading.attrSet("id", anchor)
            found.append((anchor, content.content))
    return found
