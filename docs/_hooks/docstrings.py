"""Docstrings of this project use roles and tables of reStructuredText; this turns them into Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")
_RULE = r"(?P<indent> *)=+(?: +=+)+\n"
_TABLE = re.compile(rf"^{_RULE}(?:.+\n)+?(?P=indent)=+(?: +=+)+\n(?:.+\n)+?(?P=indent)=+(?: +=+)+$", re.MULTILINE)


class AsMarkdown(griffe.Extension):
    """Turns each role into its target, written as code, and puts each table into a block of code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Changes the docstring of a module, class, function or attribute."""
        if obj.docstring:
            text = _ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = _TABLE.sub(r"\g<indent>```text\n\g<0>\n\g<indent>```", text)
