"""Values of untrusted files, as fresh plain copies under limits; nothing in them is acted upon.

Checkpoints, ONNX files and every file of a run folder pass through here before anything walks them. This module and
:mod:`cxrlab.rebuild`, which makes objects of such values, import neither OmegaConf nor Hydra: a text such as
``${oc.env:HOME}`` is a text.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import yaml

MAX_VALUES, MAX_DEPTH = 1_000_000, 24
"""Of one file: values, those of nested containers included; containers inside of one another."""
MAX_STRING, MAX_KEY, MAX_INTEGER = 2**20, 1000, 2**63
"""Characters of a text and of a key; whole numbers are smaller than that."""
MAX_JSON, MAX_YAML, MAX_TABLE = 16 * 2**20, 2**18, 2**30
"""Bytes of a file. YAML is read by Python itself, about 100 kB a second; a run's ``config.yaml`` has 5 kB."""
MAX_COLUMNS, MAX_CELL = 1000, 2**16
"""Of a table: columns, and characters of a cell."""

_SCALARS = (bool, int, float, str, type(None))


def plain(value: Any) -> Any:
    """A copy in which only ``dict`` with text keys, ``list``, texts, numbers, booleans and ``None`` are left.

    Tuples become lists, ordered dictionaries ``dict``. Containers that hold themselves end at the limit of depth, and
    containers that are shared count as often as they are met. It calls nothing of the value's own, and does not
    recurse.

    Args:
        value: Anything.

    Raises:
        ValueError: Anything else is in it, or it is over a limit.
    """
    top: list[Any] = [value]
    todo: list[tuple[Any, Any, int]] = [(top, 0, 0)]  # a container that is ours, a key in it, and its depth
    left = MAX_VALUES
    while todo:
        into, key, depth = todo.pop()
        found = into[key]
        kind = type(found)
        if kind in _SCALARS:
            _check_scalar(found)
            continue
        if kind not in (dict, OrderedDict, list, tuple):
            raise ValueError(f"it holds a {kind.__name__[:40]} where only texts, numbers, lists and mappings belong")
        left -= len(found)
        if left < 0 or depth == MAX_DEPTH:
            reason = (
                f"holds more than {MAX_VALUES:,} values" if left < 0 else f"is nested deeper than {MAX_DEPTH} times"
            )
            raise ValueError(f"it {reason}, or holds itself")
        into[key] = copy = _with_text_keys(found) if kind in (dict, OrderedDict) else list(found)
        todo.extend((copy, each, depth + 1) for each in (copy if isinstance(copy, dict) else range(len(copy))))
    return top[0]


def read_json(path: Path) -> Any:
    """The plain values of a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, or over a limit.
    """
    return parse_json(_text(path, MAX_JSON))


def parse_json(text: str) -> Any:
    """The plain values of a JSON text; ``NaN`` and infinity, which JSON has not, are refused.

    Raises:
        ValueError: It is no JSON, or over a limit.
    """
    if len(text) > MAX_JSON:
        raise ValueError(f"it has more than {MAX_JSON:,} characters")
    try:
        return plain(json.loads(text, parse_constant=_no_number, parse_float=_finite))
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} times") from None


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file; tags that build objects, and aliases, are refused.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no YAML, or over a limit.
    """
    try:
        return plain(yaml.load(_text(path, MAX_YAML), Loader=_Loader))
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} times") from None
    except (yaml.YAMLError, TypeError, AttributeError, OverflowError) as error:  # what strange scalars raise in PyYAML
        raise ValueError(" ".join(str(error).split())[:200]) from None


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """Reads a table of commas.

    Args:
        path: UTF-8.
        **options: Of ``pandas.read_csv``.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no such table (``pandas.errors.EmptyDataError`` where it is empty), or over a limit.
    """
    _check_size(path, MAX_TABLE)
    with path.open("rb") as file:
        head = file.readline(MAX_CELL)
    if head.count(b",") >= MAX_COLUMNS or (len(head) == MAX_CELL and not head.endswith(b"\n")):
        raise ValueError(f"it has more than {MAX_COLUMNS:,} columns")
    try:
        table: pd.DataFrame = pd.read_csv(path, **options)
    except (OverflowError, MemoryError) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    for column in table.columns[[kind.kind not in "biuf" for kind in table.dtypes]]:
        longest = table[column].astype(str).str.len().max()
        if longest > MAX_CELL:
            raise ValueError(f"a cell of column {str(column)[:40]!r} has {longest:,} characters")
    return table


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file; empty where there is none that can be read."""
    try:
        found = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except (OSError, ValueError):
        return {}
    return mapping(found)


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return dict(value) if isinstance(value, Mapping) else {}


class _Loader(yaml.SafeLoader):
    """Plain values only, each written where it stands: aliases of aliases grow without an end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuses aliases, which no file of this project has."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias")
        return super().compose_node(parent, index)


def _text(path: Path, most: int) -> str:
    _check_size(path, most)
    with path.open(encoding="utf-8") as file:
        return file.read(most)  # and no more, if it grows meanwhile


def _check_size(path: Path, most: int) -> None:
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"it has {size:,} bytes, and {most:,} are the most that are read")


def _with_text_keys(found: dict[Any, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for key, value in found.items():
        text = str(key) if type(key) is int and -MAX_INTEGER < key < MAX_INTEGER else key  # a class folder named 0
        if type(text) is not str or len(text) > MAX_KEY or text in copy:
            raise ValueError(f"its keys must be different texts of at most {MAX_KEY} characters, got {repr(text)[:40]}")
        copy[text] = value
    return copy


def _check_scalar(value: Any) -> None:
    if type(value) is str and len(value) > MAX_STRING:
        raise ValueError(f"it holds a text of {len(value):,} characters, and {MAX_STRING:,} are the most")
    if type(value) is int and not -MAX_INTEGER < value < MAX_INTEGER:
        raise ValueError("it holds a whole number of more than 63 bits")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value
