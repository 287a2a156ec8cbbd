"""Documents as templates: what stands in ``templates/`` around values that a function has gathered.

A value in a template is text, whatever it holds: it is escaped as Markdown, on one line. What the program itself wrote
as Markdown (:class:`~cxrlab.reports.markdown.Markdown`, a macro, ``table``) stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cxrlab.console import DISCLAIMER
from cxrlab.evaluation.estimate import Estimate
from cxrlab.reports.markdown import Markdown, code, code_block, flow_table, markdown_table, plain
from cxrlab.reports.page import folded, slug, write_pages
from cxrlab.words import listed, plural

_LONG = 12
"""Rows of a table; a longer one is folded."""


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
    return write_pages(folder, stem, rendered(template, title, context), title)[1]


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
    return Markdown(f"[{plain(heading if text is None else text)}](#{slug(heading)})")


def by_method(word: str, found: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """An estimate for each method of a column: of the commonest by its word, of others by the rows that they are of."""
    rows: dict[str, list[str]] = {}
    for name, estimate in found.items():
        rows.setdefault(estimate.method, []).append(name)
    ordered = sorted(rows.values(), key=len, reverse=True)
    return {f"{word} of {listed(names)}" if at else word: found[names[0]] for at, names in enumerate(ordered)}


def _as_markdown(value: object) -> Markup:
    """What stands in the document for a value. :class:`Markup` is what Jinja takes for safe: here, safe Markdown."""
    if isinstance(value, Markup):
        return value
    return Markup("" if value is None else plain(value))


def _joined(values: Iterable[object], separator: str = ", ") -> Markdown:
    """Jinja's own would escape as HTML."""
    return Markdown(separator.join(_as_markdown(value) for value in values))


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> Markdown:
    """The header first, as a template reads better; a long table is folded below its caption."""
    rows = list(rows)
    table = markdown_table(rows, header)
    if len(rows) <= _LONG:
        return Markdown(f"**{plain(caption)}**\n\n{table}") if caption else table
    return _folded(f"{caption or 'Table'} ({plural(len(rows), 'row')})", table)


def _folded(summary: str, text: str) -> Markdown:
    return Markdown(folded(summary, text) + "\n\n")  # Jinja takes the line break after a call


def _methods(estimates: Mapping[str, Estimate]) -> Markdown:
    """How the intervals of a table came about, each method once: ``Accuracy, F1: Wilson ...; AUROC: ...``."""
    names: dict[str, list[str]] = {}
    for name, estimate in estimates.items():
        names.setdefault(estimate.method, []).append(name)
    said = [f"{', '.join(each)}: {plain(method)}" for method, each in names.items() if method]
    return Markdown(f"Intervals: {'; '.join(said)}.")


_ENVIRONMENT = Environment(
    loader=PackageLoader("cxrlab.reports"),
    autoescape=True,  # so that the result of a macro is known from a text
    finalize=_as_markdown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"join": _joined, "code": code, "code_block": code_block, "markdown": Markdown}
_ENVIRONMENT.filters |= {"link": link, "methods": _methods}
_ENVIRONMENT.globals |= {
    "table": _table,
    "folded": _folded,
    "flow_table": flow_table,
    "plural": plural,
    "disclaimer": DISCLAIMER,
}
