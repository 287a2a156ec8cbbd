"""Documents: a template in ``templates/`` around values that a function has gathered, as Markdown and as a web page.

A value in a template is text, whatever it holds: it is escaped as Markdown, on one line. What the program itself wrote
as Markdown (:class:`~cxrlab.reports.markdown.Markdown`, a macro, ``table``) stays. The page is made of the Markdown, in
which the only HTML are the lines that fold a part, and holds every figure, so that it needs no other file.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token
from markupsafe import Markup

from cxrlab.console import DISCLAIMER, one_line
from cxrlab.evaluation.estimate import Estimate
from cxrlab.files import write_text
from cxrlab.reports.markdown import Markdown, code, code_block, flow_table, markdown_table, plain, strong
from cxrlab.words import listed, plural

_LONG = 12
"""Rows of a table; a longer one is folded."""
_TOGETHER = re.compile(r"[\d.]+ \[[\d.?]+, [\d.?]+\]|\d+ of \d+")
"""What no line should break in: ``0.975 [0.871, 0.996]`` and ``39 of 40``."""
_STACKED = frozenset({"Verdict", "Item"})
"""Tables whose first column is called so hold sentences: on a phone every row is a card, so that nothing scrolls."""
_VERDICTS = frozenset({"fail", "warn", "not checked", "pass"})
"""Cells that hold nothing else are coloured."""
_FOLD = re.compile(r"<(/?)(details|summary)>(?:(.+)</\2>)?")
"""The lines with which a template folds a part of a page; no other HTML is let through."""


def write_document(folder: Path, stem: str, template: str, title: str, context: dict[str, Any]) -> Path:
    """Writes ``<stem>.md`` and ``<stem>.html``.

    Args:
        folder: Where both go; figures are linked relative to it.
        stem: Their name without ending.
        template: Name of a file in ``templates/``, without ``.md.j2``.
        title: Of the page, which the template calls ``title``.
        context: Values by the names that the template uses; one that it uses and that is not there is an error.

    Returns:
        The path of the page.

    Raises:
        OSError: The folder cannot be written.
    """
    text, page = rendered(template, title, context), folder / f"{stem}.html"
    write_text(page.with_suffix(".md"), text)
    write_text(page, render(text, folder, title))
    return page


# ------------------------------------------------------------------------------------------------------------ Markdown


def rendered(template: str, title: str, context: dict[str, Any]) -> str:
    """A document as Markdown, see :func:`write_document`."""
    text = _ENVIRONMENT.get_template(f"{template}.md.j2").render(title=title, **context)
    text = re.sub(r"\n{3,}", "\n\n", text.strip())  # a part that is not there leaves empty lines
    # A file name that is not UTF-8 reaches Python as text that cannot be written.
    return text.encode(errors="replace").decode() + "\n"


def link(heading: str, text: object = None) -> Markdown:
    """A link to a section of the same document.

    Args:
        heading: Of the section, as it is shown.
        text: Of the link; the heading where ``None``.
    """
    return Markdown(f"[{plain(heading if text is None else text)}](#{_slug(heading)})")


def by_method(word: str, found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """An estimate for each method of a column: of the commonest by its word, of others by the rows that they are of."""
    ordered = sorted(_names_by_method(found).values(), key=len, reverse=True)
    return {f"{word} of {listed(names)}" if at else word: found[names[0]] for at, names in enumerate(ordered)}


def _methods(estimates: Mapping[str, Estimate]) -> Markdown:
    """How the intervals of a table came about, each method once: ``Accuracy, F1: Wilson ...; AUROC: ...``."""
    names = _names_by_method(estimates)
    said = [f"{', '.join(each)}: {plain(method)}" for method, each in names.items() if method]
    return Markdown(f"Intervals: {'; '.join(said)}.")


def _names_by_method(found: Mapping[str, Estimate]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, estimate in found.items():
        names.setdefault(estimate.method, []).append(name)
    return names


def _as_markdown(value: object) -> Markup:
    """What stands in the document for a value. :class:`Markup` is what Jinja takes for safe: here, safe Markdown."""
    if isinstance(value, Markup):
        return value
    return Markup("" if value is None else plain(value))


def _joined(values: Iterable[object], separator: str = ", ") -> Markdown:
    """Jinja's own would escape as HTML."""
    return Markdown(separator.join(_as_markdown(value) for value in values))


def _bullets(lines: Iterable[object], mark: str = "") -> Markdown:
    """A list; before each of its lines a mark, which is Markdown."""
    return Markdown("\n".join(f"- {mark}{_as_markdown(line)}" for line in lines))


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Markdown:
    """The header first, as a template reads better; a long table is folded below its caption."""
    rows = list(rows)
    table = markdown_table(rows, header)
    if len(rows) <= _LONG:
        return Markdown(f"**{plain(caption)}**\n\n{table}") if caption else table
    return _folded(f"{caption or 'Table'} ({plural(len(rows), 'row')})", table)


def _folded(summary: str, text: str) -> Markdown:
    """A part that a click opens: Markdown below a line, text whatever it holds, that is always seen."""
    fold = _HTML.get_template("fold.html.j2").render(summary=one_line(summary), text=Markup(text.strip()))
    return Markdown(f"{fold}\n\n")  # Jinja takes the line break after a call


_HTML = Environment(
    loader=PackageLoader("cxrlab.reports"),
    autoescape=True,  # in Markdown as well, so that the result of a macro is known from a text
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT = _HTML.overlay(finalize=_as_markdown)
_ENVIRONMENT.filters |= {"join": _joined, "code": code, "code_block": code_block, "markdown": Markdown}
_ENVIRONMENT.filters |= {"strong": strong, "bullets": _bullets, "link": link, "methods": _methods}
_ENVIRONMENT.globals |= {"table": _table, "folded": _folded, "flow_table": flow_table, "plural": plural}
_ENVIRONMENT.globals |= {"disclaimer": DISCLAIMER}


# ------------------------------------------------------------------------------------------------------------ web page


def render(markdown: str, folder: Path, title: str) -> str:
    """Returns a web page that needs no other file: figures below ``folder`` are embedded.

    Args:
        markdown: CommonMark with tables. HTML in it is shown as text: names of files and patients may hold anything.
            Only the lines that fold a part (``details`` and ``summary``, each alone on its line) are what they say.
        folder: What links to figures are relative to.
        title: Of the page.
    """
    parser = MarkdownIt("js-default")
    parser.block.ruler.before("paragraph", "fold", _fold, {"alt": ["paragraph", "reference", "blockquote", "list"]})
    tokens = parser.parse(markdown)
    contents = _dress(tokens)
    tokens = [*_with_wide_tables(tokens)]
    for token in tokens:
        token.children = [*_with_figures(token.children, folder.resolve())] if token.children else token.children
    body = Markup(parser.renderer.render(tokens, parser.options, {}))
    return _HTML.get_template("page.html.j2").render(title=one_line(title), body=body, contents=contents)


def _slug(title: str) -> str:
    """The anchor of a heading, as GitHub makes it, so that links within a document work there too."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


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


def _dress(tokens: Sequence[Token]) -> list[tuple[str, str]]:
    """Gives anchors to headings and classes to what is styled; returns anchors and names of the second level."""
    contents: list[tuple[str, str]] = []
    seen: Counter[str] = Counter()
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            name = _text(tokens[at + 1])
            anchor = _slug(name)
            seen[anchor] += 1
            anchor += f"-{seen[anchor] - 1}" if seen[anchor] > 1 else ""  # as GitHub does for one that was there before
            token.attrSet("id", anchor)
            contents += [(anchor, name)] if token.tag == "h2" else []
        elif token.type == "td_open" and (verdict := _text(tokens[at + 1]).lower()) in _VERDICTS:
            token.attrSet("class", verdict.replace(" ", "-"))
        elif token.type == "fence":
            token.attrSet("tabindex", "0")  # a long line scrolls, by keyboard too
        elif token.type == "list_item_open" and _first_line(tokens[at:]).startswith("**WARNING"):
            token.attrSet("class", "warning")
        elif token.type == "paragraph_open":
            kinds = {child.type for child in tokens[at + 1].children or []}
            if "image" in kinds and kinds <= {"image", "softbreak"}:  # a row of figures, which no paragraph may hold
                token.tag = tokens[at + 2].tag = "div"
                token.attrSet("class", "figures")
        for child in token.children or []:
            if child.type == "text":
                child.content = _TOGETHER.sub(lambda found: found[0].replace(" ", "\u00a0"), child.content)
    return contents


def _text(inline: Token) -> str:
    """What a reader sees of a line, without its marks."""
    return "".join(child.content for child in inline.children or [])


def _first_line(tokens: Sequence[Token]) -> str:
    return next((token.content for token in tokens if token.type == "inline"), "")


def _with_wide_tables(tokens: Sequence[Token]) -> Iterator[Token]:
    """Lets wide tables scroll on their own, by keyboard too."""
    for at, token in enumerate(tokens):
        if token.type == "table_open":
            kind = "wide stacked" if _first_line(tokens[at:]) in _STACKED else "wide"
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
