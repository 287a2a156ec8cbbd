"""Objects from the plain values of an untrusted file: the only way in which such a file becomes an object.

A node may name a class of :data:`CLASSES`, or one that a package in ``trusted`` defines; its arguments are compared
with the constructor's signature. Neither OmegaConf nor Hydra is imported here, so that nothing is resolved,
interpolated or instantiated. A node in an argument is built only where the constructor is annotated to take a source.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from cxrlab.errors import ConfigError, did_you_mean


def _entries(node: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """Every value below a node with its place and its own name."""
    todo: list[tuple[str, str, Any]] = [(place, "", node)]
    while todo:
        place, name, value = todo.pop()
        yield place[:200], name, value
        inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        todo.extend((f"{place}.{key}" if place else str(key), str(key), each) for key, each in inside)


def _named_in_conf() -> dict[str, frozenset[str]]:
    """Every class that a file of ``conf/`` names, by group."""
    found: dict[str, set[str]] = {}
    conf = Path(str(resources.files("cxrlab.conf")))
    groups = [(path.parent.name, path) for path in conf.glob("*/**/*.yaml") if path.parts[len(conf.parts)] != "hydra"]
    for group, path in [*groups, ("", conf / "_variants.yaml")]:
        for place, name, value in _entries(yaml.safe_load(path.read_text(encoding="utf-8")), group):
            if name == "_target_":
                first, *inside = place.split(".")
                found.setdefault("source" if "source" in inside else first, set()).add(value)
    return {group: frozenset(names) for group, names in found.items()}


CLASSES = _named_in_conf()
"""What an untrusted file may name: the classes that the files of this project name, by group of ``conf/``."""

_LONGEST = 4096  # characters of a text in a node; paths are shorter
_FORBIDDEN = ("_args_", "_convert_", "_recursive_")  # words of Hydra's that no file of this project has


def rebuild(node: Any, group: str, trusted: Collection[str] = (), base: type = object) -> Any:
    """Builds what a node of a file describes.

    Args:
        node: Plain values, see :func:`cxrlab.untrusted.plain`: ``_target_`` and arguments.
        group: Of :data:`CLASSES`.
        trusted: Packages or modules whose classes may be named, too.
        base: What such a class has to be derived from.

    Raises:
        ConfigError: Another class, an argument that the class does not have or that is of another type, or one missing.
        Exception: What the constructor raises.
    """
    if not isinstance(node, dict) or type(node.get("_target_")) is not str:
        raise ConfigError(f"{group} names no class")
    check_node(node, group, trusted)
    found = _class(node["_target_"], group, trusted, base)
    parameters = inspect.signature(found).parameters
    given = {name: value for name, value in node.items() if name != "_target_"}
    _check_names(node["_target_"], given, parameters)
    hints = _hints(found)
    arguments = {name: _argument(name, value, hints.get(name, Any), trusted) for name, value in given.items()}
    return found(**arguments)


def check_node(node: Any, group: str, trusted: Collection[str] | None = None) -> None:
    """Refuses a node that names anything but the classes of a group, or that OmegaConf or Hydra would act upon.

    Args:
        node: Plain values.
        group: Of :data:`CLASSES`; other groups may name no class.
        trusted: Packages or modules whose classes may be named, too; ``None`` where a user cannot name any.

    Raises:
        ConfigError: Names the place.
    """
    check_texts(node, group)
    known = CLASSES.get(group, frozenset()) | (CLASSES["source"] if group == "data" else frozenset())
    for place, name, value in _entries(node, group):
        partial = group in ("optimizer", "scheduler") and value is True
        if name in _FORBIDDEN or (name == "_partial_" and not partial):
            raise ConfigError(f"{place} does not belong into a file")
        if name == "_target_" and value not in known and not _is_under(value, trusted or ()):
            hint = _trust(value) if trusted is not None and group in ("model", "data") else ""
            raise ConfigError(
                f"{place} {_cut(value)} is not allowed here; only these classes are: {', '.join(sorted(known))}"
                f"{did_you_mean(str(value)[:200], known)}{hint}"
            )


def _trust(target: Any) -> str:
    """How to allow a class of somebody's own package."""
    package = target.partition(".")[0] if isinstance(target, str) else ""
    if not package.isidentifier() or package in {*sys.stdlib_module_names, "cxrlab", "torch"}:
        return ""
    return f"; if {package[:80]} is your own package: trusted=[{package[:80]}]"


def check_texts(node: Any, place: str = "") -> None:
    """Refuses texts that OmegaConf would resolve, and endless ones.

    Args:
        node: Plain values.
        place: What they are called, for messages.

    Raises:
        ConfigError: Names the place.
    """
    for where, name, value in _entries(node, place):
        for text in (name, value):
            if isinstance(text, str) and ("${" in text or text == "???"):
                raise ConfigError(f"{where} holds {_cut(text)}, and nothing in a file is interpolated")
            if isinstance(text, str) and len(text) > _LONGEST:
                raise ConfigError(f"{where} holds a text of {len(text):,} characters")


def at_home(node: Any) -> Any:
    """A copy of a node of data whose folders for what is *written* are those of this machine, whatever the file says.

    They are below ``$CXRLAB_CACHE``, as in ``conf/``: an untrusted file chooses no folder to write to.

    Args:
        node: Plain values.
    """
    node, home = copy.deepcopy(node), Path(os.environ.get("CXRLAB_CACHE") or "~/.cache/cxrlab")
    for _, _, value in _entries(node, ""):
        target = value.get("_target_") if isinstance(value, dict) else None
        if target == "cxrlab.datamodules.SyntheticSource":
            value["root"] = str(home)
        elif target in CLASSES["data"] and value.get("cache") is not None:
            whole = target == "cxrlab.datamodules.ChestXRayDataModule"
            value["cache"] = str(home / "measurements" if whole else home)
    return node


def paths_in(node: Any) -> list[str]:
    """The files and folders that a node of data names, as Python writes texts."""
    return [_cut(value) for _, name, value in _entries(node, "") if name in ("root", "path", "metadata") and value]


def _class(target: str, group: str, trusted: Collection[str], base: type) -> Any:
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"_target_ {_cut(target)} cannot be imported ({error})") from None
    ours = target in CLASSES[group] or _is_under(getattr(found, "__module__", None), trusted)
    wanted = group != "source" or hasattr(found, "manifest")
    if not (inspect.isclass(found) and ours and issubclass(found, base) and wanted):
        raise ConfigError(f"_target_ {_cut(target)} is not allowed here: it is no class for {group}")
    return found


def _is_under(name: Any, packages: Collection[str]) -> bool:
    """Whether a dotted name lies in one of the packages; anything but a plain dotted name does not."""
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        return False
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _check_names(target: str, given: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {name: each for name, each in parameters.items() if each.kind not in variadic}
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    for name in given:
        if name not in named and not takes_any:
            raise ConfigError(f"{target} has no argument {_cut(name)}{did_you_mean(name[:200], named)}")
    missing = [name for name, each in named.items() if each.default is each.empty and name not in given]
    if missing:
        raise ConfigError(f"{target} lacks {', '.join(missing)}")


def _hints(found: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(found.__init__)
    except (NameError, TypeError):  # somebody's own package
        return {}


def _argument(name: str, value: Any, hint: Any, trusted: Collection[str]) -> Any:
    """One argument, with its sources built."""
    if not _fits(value, hint):
        wanted = hint.__name__ if isinstance(hint, type) else re.sub(r"\w+\.", "", str(hint))
        raise ConfigError(f"{name} must be {wanted}, got {_cut(value)}")
    if _takes_source(hint):
        if isinstance(value, dict) and "_target_" not in value:
            return {key: rebuild(each, "source", trusted) for key, each in value.items()}
        return rebuild(value, "source", trusted)
    return value


def _takes_source(hint: Any) -> bool:
    return getattr(hint, "__name__", "") == "Source" or any(map(_takes_source, typing.get_args(hint)))


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of an annotated type; a node is of any class."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inside)
    if origin in (Sequence, list, tuple):
        return isinstance(value, list) and all(_fits(each, inside[0]) for each in value)
    if origin in (Mapping, dict):
        return isinstance(value, dict) and all(_fits(each, inside[1]) for each in value.values())
    if hint is float:
        return type(value) in (int, float)
    if hint in (bool, int, str, types.NoneType):
        return type(value) is hint
    return True if hint is Any else isinstance(value, dict) and "_target_" in value


def _cut(value: Any) -> str:
    return repr(value)[:80]
