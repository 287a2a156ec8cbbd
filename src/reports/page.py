"""One text, two files: Markdown for terminals and repositories, and a web page with every figure inside it."""

from __future__ import annotations

import base64
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token
from markupsafe import Markup

from cxrlab.console import one_line
from cxrlab.files import write_text

_TOGETHER = re.compile(r"[\d.]+ \[[\d.?]+, [\d.?]+\]|\d+ of \d+")
"""What no line should break in: ``0.975 [0.871, 0.996]`` and ``39 of 40``."""
_STACKED = frozenset({"Verdict", "Item"})
"""Tables whose first column is called so hold sentences: on a phone every row is a card, so that nothing scrolls."""
_VERDICTS = frozenset({"fail", "warn", "not checked", "pass"})
"""Cells that hold nothing else are coloured."""
_FOLD = re.compile(r"<(/?)(details|summary)>(?:(.+)</\2>)?")
"""The lines with which a template folds a part of a page; no other HTML is let through."""


def write_pages(folder: Path, stem: str, markdown: str, title: str) -> tuple[Path, Path]:
    """Writes ``<stem>.md`` and ``<stem>.html``.

    Args:
        folder: Where both go; figures in the text are linked relative to it.
        stem: Their name without ending.
        markdown: CommonMark with tables. HTML in it is shown as text: names of files and patients may hold anything.
            Only the lines that fold a part (``details`` and ``summary``, each alone on its line) are what they say.
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
    parser = MarkdownIt("js-default")
    parser.block.ruler.before("paragraph", "fold", _fold, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    tokens = parser.parse(markdown)
    contents = _name_sections(tokens)
    _mark(tokens)
    _set_figures_apart(tokens)
    tokens = [*_with_wide_tables(tokens)]
    for token in tokens:
        token.children = [*_with_figures(token.children, folder.resolve())] if token.children else token.children
    body = Markup(parser.renderer.render(tokens, parser.options, {}))
    return _ENVIRONMENT.get_template("page.html.j2").render(title=one_line(title), body=body, contents=contents)


def folded(summary: str, text: str) -> str:
    """Markdown of a part that a click opens.

    Args:
        summary: The line that is always seen; text, whatever it holds.
        text: The part, Markdown.
    """
    return _ENVIRONMENT.get_template("fold.html.j2").render(summary=one_line(summary), text=Markup(text.strip()))


def slug(title: str, seen: Counter[str] | None = None) -> str:
    """The anchor of a heading, as GitHub makes it, so that links within a document work there too.

    Args:
        title: The heading as it is shown.
        seen: How often each anchor was given before; the second of the same name gets a number.
    """
    plain = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    if seen is None:
        return plain
    seen[plain] += 1
    return plain if seen[plain] == 1 else f"{plain}-{seen[plain] - 1}"


_ENVIRONMENT = Environment(
    loader=PackageLoader("cxrlab.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def _fold(state: StateBlock, line: int, _: int, silent: bool) -> bool:
    """A rule of the parser: the three lines around a folded part become its tags."""
    found = _FOLD.fullmatch(state.getLines(line, line + 1, state.blkIndent, False).strip())
    if found is None or bool(found[3]) != (found[2] == "summary") or (found[1] and found[3]):
        return False
    if silent:
        return True
    token = state.push(f"{found[2]}_{'close' if found[1] else 'open'}", found[2], -1 if found[1] else 1)
    token.block = found[2] == "details"  # whose tags stand on lines of their own
    if found[3]:  # which is HTML, so that it reads the same wherever the Markdown is shown
        state.push("text", "", 0).content = Markup(found[3]).unescape()
        state.push("summary_close", "summary", -1)
    state.line = line + 1
    return True


def _name_sections(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """Gives every heading an anchor; returns anchors and names of those of the second level."""
    found: list[tuple[str, str]] = []
    seen: Counter[str] = Counter()
    for heading, content in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            name = _text(content)
            anchor = slug(name, seen)
            heading.attrSet("id", anchor)
            found += [(anchor, name)] if heading.tag == "h2" else []
    return found


def _text(inline: Token) -> str:
    """What a reader sees of a line, without its marks."""
    return "".join(child.content for child in inline.children or [])


def _mark(tokens: Sequence[Token]) -> None:
    """Gives warnings and cells of verdicts their classes, and keeps numbers together with their intervals."""
    for at, token in enumerate(tokens):
        if token.type == "td_open" and (verdict := _text(tokens[at + 1]).lower()) in _VERDICTS:
            token.attrSet("class", verdict.replace(" ", "-"))
        elif token.type == "fence":
            token.attrSet("tabindex", "0")  # a long line scrolls, by keyboard too
        elif token.type == "list_item_open":
            following = next((each for each in tokens[at:] if each.type == "inline"), None)
            if following is not None and following.content.startswith("**WARNING"):
                token.attrSet("class", "warning")
        for child in token.children or []:
            if child.type == "text":
                child.content = _TOGETHER.sub(lambda found: found[0].replace(" ", "\u00a0"), child.content)


def _set_figures_apart(tokens: Sequence[Token]) -> None:
    """Makes a row of figures of every paragraph that holds nothing else: a paragraph may not hold figures."""
    for before, content, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        kinds = {token.type for token in content.children or []}
        if before.type == "paragraph_open" and "image" in kinds and kinds <= {"image", "softbreak"}:
            before.tag = after.tag = "div"
            before.attrSet("class", "figures")


def _with_wide_tables(tokens: Sequence[Token]) -> Iterator[Token]:
    """Lets wide tables scroll on their own, by keyboard too."""
    for at, token in enumerate(tokens):
        if token.type == "table_open":
            first = next(each for each in tokens[at:] if each.type == "inline")
            kind = "wide stacked" if first.content in _STACKED else "wide"
            yield Token("div_open", "div", 1, {"class": kind, "tabindex": "0", "role": "group", "aria-label": "Table"})
        yield token
        if token.type == "table_close":
            yield Token("div_close", "div", -1)


def _with_figures(children: Sequence[Token], folder: Path) -> Iterator[Token]:
    """Embeds pictures, each with its caption; one that is not there, or not of this folder, is told in words."""
    for token in children:
        if token.type != "image":
            yield token
            continue
        caption = Token("text", "", 0, content=_text(token))
        file = (folder / unquote(str(token.attrs["src"]))).resolve()
        # Only figures of this folder: a name in somebody's data must not bring other files, or other machines, in.
        if not file.is_relative_to(folder) or file.suffix != ".png" or not file.is_file():
            absent = Token("text", "", 0, content=f"(figure not there: {caption.content})")
            yield from (Token("em_open", "em", 1), absent, Token("em_close", "em", -1))
            continue
        token.attrSet("src", f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}")
        yield from (Token("figure_open", "figure", 1), token, Token("figcaption_open", "figcaption", 1), caption)
        yield from (Token("figcaption_close", "figcaption", -1), Token("figure_close", "figure", -1))
