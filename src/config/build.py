"""The one way in which a configuration node becomes an object.

Every ``_target_`` of a run passes through :func:`build`, so that constructors always receive plain ``dict`` and
``list`` and never a container of OmegaConf, which a checkpoint could not hold.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Iterator
from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from cxrlab.errors import ConfigError


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


def check_targets(node: Any, allowed: Collection[str]) -> None:
    """Refuses a node that would run code from outside the named packages.

    A configuration that came with an untrusted checkpoint has to pass here before :func:`build` sees it. The name alone
    is no proof (``cxrlab.models.torch.hub.load`` starts well), so what it resolves to must be a class that one of the
    packages defines.

    Args:
        node: A configuration node, plain or OmegaConf's, at any depth.
        allowed: Packages or modules whose classes may be built, for example ``["cxrlab.models"]``.

    Raises:
        ConfigError: Names the target and the packages that are allowed.
    """
    for target in _targets(node):
        if not (_is_under(target, allowed) and _defines_class(target, allowed)):
            raise ConfigError(f"_target_ {target!r} is not allowed here; only classes of {', '.join(allowed)} are")


def escaped(value: Any) -> Any:
    r"""Plain values of which OmegaConf resolves nothing: ``a${b}`` as ``a\${b}``, at any depth."""
    if isinstance(value, dict):
        return {key: escaped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [escaped(each) for each in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value


def _targets(node: Any) -> Iterator[Any]:
    plain = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if isinstance(plain, dict):
        if "_target_" in plain:
            yield plain["_target_"]
        for value in plain.values():
            yield from _targets(value)
    elif isinstance(plain, (list, tuple)):
        for value in plain:
            yield from _targets(value)


def _is_under(name: Any, packages: Collection[str]) -> bool:
    """Whether a dotted name lies in one of the packages; anything but a plain dotted name does not."""
    if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name):
        return False
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _defines_class(target: str, packages: Collection[str]) -> bool:
    try:
        found = get_object(target)
    except ImportError as error:
        raise ConfigError(f"_target_ {target!r} was not found") from error
    return inspect.isclass(found) and _is_under(found.__module__, packages)
