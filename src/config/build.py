"""The one way in which a configuration node that was typed, or stands in ``conf/``, becomes an object.

Every ``_target_`` of a run passes through :func:`build`, so that constructors always receive plain ``dict`` and
``list`` and never a container of OmegaConf, which a checkpoint could not hold. What comes out of a file is built by
:func:`cxrlab.rebuild.rebuild` instead, or has passed ``check_node`` there.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf


def build(node: DictConfig | ListConfig | dict[str, Any] | list[Any] | None, **kwargs: Any) -> Any:
    """Builds what a configuration node describes.

    Args:
        node: A node with ``_target_``, a dict or list of such nodes, or ``None``.
        **kwargs: Arguments that only code can give (a network, a data frame). They win over the node's own and
            reach the constructor untouched; ``instantiate`` alone would turn tuples into lists, dataclasses into dicts
            and resolve a ``${`` inside a string.

    Returns:
        The object; for a ``_partial_`` node a callable that still wants the rest; ``None`` for ``None`` and for an
        empty node, which is what an option file with nothing in it gives.

    Raises:
        ValueError: ``kwargs`` are given and the node has no ``_target_``.
        hydra.errors.InstantiationException: A target cannot be found or its constructor refuses its arguments.
        Exception: Whatever the constructor itself raises, where ``kwargs`` are given.
    """
    if not node and not kwargs:
        return None
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if "${" in repr(plain):  # somebody's text, which Hydra resolves twice more
        node = escaped(escaped(plain))
    if not kwargs:
        return instantiate(node, _convert_="all")
    if not isinstance(node, (DictConfig, dict)) or "_target_" not in node:
        raise ValueError(f"node must have a _target_ to take {', '.join(kwargs)}, got {node!r}")
    constructor = instantiate(node, _convert_="all", _partial_=True)
    if node.get("_partial_"):
        return functools.partial(constructor, **kwargs)
    return constructor(**kwargs)


def escaped(value: Any) -> Any:
    r"""Plain values of which OmegaConf resolves nothing: ``a${b}`` as ``a\${b}``, at any depth."""
    if isinstance(value, dict):
        return {key: escaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [escaped(each) for each in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
