"""The page's HTML: ``templates/`` filled in. Every value is text and is escaped, whatever it holds."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cxrlab.console import DISCLAIMER

NO_DIAGNOSIS = "The score measures similarity to the training images labelled Positive. It is not a diagnosis."
NOT_CHECKED = "NOT CHECKED"
_WEIGHTY = re.compile(rf"({NOT_CHECKED}|SYNTHETIC|FAIL|OFF:)")
"""Words that a reader must not miss."""


def render(template: str, **context: Any) -> str:
    """Fills in a template.

    Args:
        template: Name of a file in ``templates/``, without ``.html.j2``.
        context: Values by the names that the template uses; one that it uses and that is missing is an error.
    """
    return _ENVIRONMENT.get_template(f"{template}.html.j2").render(context)


def asset(name: str) -> str:
    """The text of a file beside this module, such as ``style.css``."""
    return resources.files("cxrlab.page").joinpath(name).read_text(encoding="utf-8")


def number(value: float | None) -> str:
    """Three digits, and never a 0 or a 1 that is none."""
    if value is None:
        return "none"
    if 0 < value < 0.0005:
        return "below 0.001"
    return "above 0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def _pieces(text: str) -> list[str]:
    """A text cut at its weighty words: these are the second, the fourth … piece."""
    return _WEIGHTY.split(text)


_ENVIRONMENT = Environment(
    loader=PackageLoader("cxrlab.page"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"number": number, "pieces": _pieces}
_ENVIRONMENT.globals |= {"disclaimer": DISCLAIMER, "no_diagnosis": NO_DIAGNOSIS}
