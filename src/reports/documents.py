"""Documents: a template in ``templates/`` around values that a function has gathered, as Markdown and as a web page.

A value in a template is text, whatever it holds: it is escaped as Markdown, on one line. What the program itself wrote
as Markdown (:class:`Markdown`, a macro, ``table``) stays. The page is made of the Markdown, in
which the only HTML are the lines that fold a part, and holds every figure, so that it needs no other file.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token
from markupsafe import Markup

from cxrlab.console import DISCLAIMER, one_line, printable
from cxrlab.evaluation.estimate import Estimate
from cxrlab.evaluation.statistics import METRICS
from cxrlab.files import write_text
from cxrlab.words import listed, plural

NOT_RECORDED = "not recorded"
NAMES = {name: name.upper() if name in ("ppv", "npv", "auroc", "ap", "f1") else name.capitalize() for name in METRICS}
_LONG = 12  # rows of a table; a longer one is folded
_TOGETHER = re.compile(r"[\d.]+ \[[\d.?]+, [\d.?]+\]|\d+ of \d+")
"""What no line should break in: ``0.975 [0.871, 0.996]`` and ``39 of 40``."""
_STACKED = frozenset({"Verdict", "Item"})
"""Tables whose first column is called so hold sentences: on a phone every row is a card, so that nothing scrolls."""
_VERDICTS = frozenset({"fail", "warn", "not checked", "pass"})  # cells that hold nothing else are coloured
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


class Markdown(str):
    """Text that is Markdown, as the program wrote it, so that nothing escapes it again."""


def plain(text: object) -> Markdown:
    """Text as Markdown that shows it as it is, on one line: names of files and patients may hold anything.

    Only what Markdown would take for markup is escaped, so that the Markdown file stays readable too.
    """
    if isinstance(text, Markdown):
        return text
    line = one_line(text)
    line = re.sub(r"([\\`*])", r"\\\1", line)
    line = re.sub(r"(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|~(?=~)|(?<=~)~", r"\\\g<0>", line)
    # A link or a picture needs ](, ][ or ]:, and the caption of a picture ends at a bracket that nothing opened.
    depths = [0, *itertools.accumulate((character == "[") - (character == "]") for character in line)]
    if re.search(r"\][(\[:]", line) or min(depths) < 0 or depths[-1]:
        line = re.sub(r"([\[\]])", r"\\\1", line)
    # A mark that would begin a heading, a quotation or a list; before it a number, if it is of a list.
    return Markdown(re.sub(r"^(?:(?=[#>+=-](?:\s|$|[=-]))|(\d+)(?=[.)](?:\s|$)))", r"\1\\", line))


def code(text: object) -> Markdown:
    """Text as code within a line."""
    line = one_line(text) or " "
    fence = _fence(line, 1)
    return Markdown(f"{fence}{line}{fence}" if len(fence) == 1 else f"{fence} {line} {fence}")


def strong(text: object) -> Markdown:
    """Text that stands out."""
    return Markdown(f"**{plain(text)}**")


def code_block(text: str, language: str = "") -> Markdown:
    """Lines as a block of code, whatever stands in them."""
    fence = _fence(text, 3)
    return Markdown(f"{fence}{language}\n{printable(text)}\n{fence}")


def _fence(text: str, shortest: int) -> str:
    return "`" * max(shortest, 1 + max((len(run) for run in re.findall(r"`+", text)), default=0))


def markdown_table(rows: Iterable[Sequence[object]], header: Sequence[str]) -> Markdown:
    """Returns a Markdown table; a cell that is no :class:`Markdown` is text, ``None`` is an empty cell.

    Raises:
        ValueError: If a row is not as long as the header.
    """
    lines = []
    for row in (header, *rows):
        if len(row) != len(header):
            raise ValueError(f"a table row must have {len(header)} cells ({', '.join(header)}), got {list(row)!r}")
        cells = (plain("" if cell is None else cell).replace("|", "\\|") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return Markdown("\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]]))


def flow_table(flow: pd.DataFrame) -> Markdown:
    """The flow of cases, see :mod:`cxrlab.datamodules.flow`, as a Markdown table."""
    rows = flow[["source", "step", "removed", "images", "patients"]].itertuples(index=False)
    return markdown_table(rows, ("Source", "Step", "Images removed", "Images left", "Patients left"))


def known(value: Any, form: str = "") -> str:
    """The value in a format, or that it was not recorded."""
    return NOT_RECORDED if value is None or value == "" else format(value, form)


# ----------------------------------------------------------------------------------------------------------- templates


def rendered(template: str, title: str, context: dict[str, Any]) -> str:
    """A document as Markdown, see :func:`write_document`."""
    text = _ENVIRONMENT.get_template(f"{template}.md.j2").render(title=title, **context)
    text = re.sub(r"\n{3,}", "\n\n", text.strip())  # a part that is not there leaves empty lines
    # A file name that is not UTF-8 reaches Python as text that cannot be written.
    return text.encode(errors="replace").decode() + "\n"


def link(heading: str, text: object = None) -> Markdown:
    """A link to a section of the same document by its heading, which is its text where there is no other."""
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
    body = Markup(parser.renderer.render([*_filled(tokens, folder.resolve())], parser.options, {}))
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


def _filled(tokens: Sequence[Token], folder: Path) -> Iterator[Token]:
    """Embeds figures, and lets wide tables scroll on their own, by keyboard too."""
    for at, token in enumerate(tokens):
        token.children = [*_with_figures(token.children, folder)] if token.children else token.children
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
