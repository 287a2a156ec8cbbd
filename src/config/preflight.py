"""Finds every mistake of a configuration at once, before any data is touched.

Hydra checks what is typed on the command line and little of what stands in files: ``sed: 3`` in an experiment file runs
silently, and a misspelt argument surfaces one at a time, deep in a traceback. Here constructor signatures are the
schema: :func:`check_names` compares every node with the signature of its ``_target_``, :meth:`Problems.build` lets
the constructors check their own values, and :meth:`Problems.raise_if_any` tells all of it in one error::

    problems = Problems()
    check_names(cfg, known_top_level, problems)
    network = problems.build(cfg, "model")
    datamodule = problems.build(cfg, "data")
    problems.raise_if_any()
"""

from __future__ import annotations

import copy
import inspect
import logging
import pkgutil
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hydra.errors import InstantiationException
from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from cxrlab.config.build import build
from cxrlab.config.hints import all_keys, meant
from cxrlab.errors import ConfigError, UserError, did_you_mean

_Node: TypeAlias = DictConfig | ListConfig

_OF_ALL = ("hydra", "paths")  # keys that any program may have
_SPECIAL = ("_target_", "_convert_", "_recursive_", "_args_", "_partial_")
_ABSENT = object()
_MAX_LENGTH = 400  # characters of somebody else's message before it is cut
_MAX_LISTED = 8  # arguments; a longer signature is not spelt out


@dataclass
class Problems:
    """Collects what is wrong with a configuration and raises once.

    Attributes:
        lines: The problems so far, each with its key, in the order in which they were found.
    """

    lines: list[str] = field(default_factory=list)
    _broken: set[str] = field(default_factory=set)
    _strays: list[str] = field(default_factory=list)
    _cause: Exception | None = None
    _has_gaps: bool = False  # whether build has returned None for something that should be there

    def add(self, key: str, message: str) -> None:
        """Adds a problem; the node that holds ``key`` is not built any more."""
        self._add_line(key, f"{key}: {message}")

    def add_stray(self, key: str, message: str) -> None:
        """Adds an argument that its target does not take; the node is tried without it, for its other mistakes."""
        self.lines.append(f"{key}: {message}")
        self._strays.append(key)

    def skip(self, key: str) -> None:
        """Marks a node as not to be built, for a reason that another key's problem tells."""
        self._broken.add(key)

    def build(self, cfg: DictConfig, key: str, **kwargs: Any) -> Any:
        """Builds ``cfg[key]``; what its constructor refuses becomes a problem.

        Args:
            cfg: The whole configuration.
            key: The node, dotted if it lies deeper.
            **kwargs: Arguments that only code can give.

        Returns:
            The object, or ``None``: the node is null, could not be built, already has a problem, or one of ``kwargs``
            is ``None`` after another node could not be built (it is then taken for that part).
        """
        if self._is_broken(key) or (self._has_gaps and any(value is None for value in kwargs.values())):
            self._has_gaps = True
            return None
        strays = [stray.removeprefix(f"{key}.") for stray in self._strays if stray.startswith(f"{key}.")]
        with self.guard(key, cfg):
            node = OmegaConf.select(cfg, key, default=_ABSENT, throw_on_missing=True)
            if node is _ABSENT:
                raise _NotThereError("missing; a run needs it")
            built = build(_without(node, strays), **kwargs)
            if not strays:
                return built
        self._has_gaps = True
        return None

    @contextmanager
    def guard(self, key: str, cfg: DictConfig | None = None) -> Iterator[None]:
        """Turns a user's mistake inside the block into a problem of ``key``.

        Use it for checks that belong to a key and are not a constructor: a rule across nodes, or a ``_partial_``
        optimizer tried on a dummy parameter so that its range errors come now. A mistake is a ``ValueError``,
        ``TypeError``, ``ImportError`` or ``UserError``, Lightning's misconfiguration or an error of OmegaConf's;
        anything else is a bug and passes through.

        Args:
            key: The key that is to blame.
            cfg: The whole configuration; with it, a message that starts with an argument's name starts with its key.
        """
        try:
            yield
        except Exception as error:
            cause = _root_cause(error)
            if not _is_users_mistake(cause):
                raise
            self._cause = self._cause or cause
            where = _full_key(error, key, cfg)
            self._add_line(where, _line_of_failure(where, cause, cfg))

    def raise_if_any(self) -> None:
        """Raises one error for all problems.

        Raises:
            ConfigError: Lists them, sorted, one per line.
        """
        if self.lines:
            count = f"{len(self.lines)} problem{'s' if len(self.lines) > 1 else ''}"
            listed = "\n".join(f"  {line}" for line in sorted(self.lines))
            keys = {re.split(r"[:= ]", line, maxsplit=1)[0] for line in self.lines}
            raise ConfigError(f"{count} in the configuration:\n{listed}", keys) from self._cause

    def _add_line(self, key: str, line: str) -> None:
        self._broken.add(key)
        if line not in self.lines:
            self.lines.append(line)

    def _is_broken(self, key: str) -> bool:
        return any(broken == key or broken.startswith((f"{key}.", f"{key}[")) for broken in self._broken)


def check_names(
    cfg: DictConfig,
    known_top_level: Collection[str],
    problems: Problems,
    *,
    sections: Mapping[str, Collection[str]] | None = None,
    supplied: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Checks every name of a configuration: keys, targets, arguments, interpolations, values left to be set.

    Args:
        cfg: The composed configuration; Hydra's own node ``hydra`` is left alone.
        known_top_level: The keys that the entry point reads.
        problems: Takes what is found.
        sections: For nodes without ``_target_``, by key: the keys they may have.
        supplied: By key of a node: the arguments that code gives when it builds it, for example
            ``{"trainer": {"callbacks", "logger"}}``.
    """
    known = {*known_top_level, *_OF_ALL}
    for key in cfg:
        if str(key) not in known:
            problems.add(str(key), f"unknown key{meant(str(key), cfg) or did_you_mean(str(key), known)}")
    for section, allowed in (sections or {}).items():
        _check_section(cfg, section, allowed, problems)
    _Walk(cfg, problems, supplied or {}).check(cfg, "")


def _check_section(cfg: DictConfig, section: str, allowed: Collection[str], problems: Problems) -> None:
    try:
        node = OmegaConf.select(cfg, section)
    except OmegaConfBaseException:
        return  # the walk names the interpolation
    if isinstance(node, DictConfig):
        for key in node:
            if str(key) not in allowed:
                problems.add(f"{section}.{key!s}", f"unknown key{did_you_mean(str(key), allowed) or _listed(allowed)}")


class _Walk:
    """One walk over a configuration, from the root to every leaf."""

    def __init__(self, cfg: DictConfig, problems: Problems, supplied: Mapping[str, Collection[str]]) -> None:
        self.cfg = cfg
        self.problems = problems
        self.supplied = supplied

    def check(self, node: _Node, path: str, completed_later: bool = False) -> None:
        """Checks a node and all below it.

        Args:
            node: The node.
            path: Its key; empty at the root.
            completed_later: Whether its receiver adds arguments to it (``_partial_`` or ``_recursive_: false``).
        """
        completed_later = completed_later or bool(_peek(node, "_partial_"))
        if isinstance(node, DictConfig) and "_target_" in node:
            self._check_call(node, path, completed_later)
        for name in _names(node):
            if path or name != "hydra":
                self._check_child(node, name, path, completed_later)

    def _check_child(self, node: _Node, name: Any, path: str, completed_later: bool) -> None:
        key = f"{path}.{name}" if path else str(name)
        if OmegaConf.is_missing(node, name):
            if not completed_later and name not in self.supplied.get(path, ()):
                self.problems.add(key, f"must be set; add {key}=... to the command")
            return
        if _is_misspelt_special(node, name):
            self.problems.add(key, f"unknown key{did_you_mean(str(name), _SPECIAL)}")
        try:
            child = node[name]
        except InterpolationToMissingValueError:
            self.problems.skip(key)  # told where the value is missing
        except OmegaConfBaseException as error:
            self.problems.add(key, _why_uninterpolated(error, self.cfg))
        else:
            if isinstance(child, _Node) and not OmegaConf.is_interpolation(node, name):
                self.check(child, key, completed_later=_peek(node, "_recursive_") is False)

    def _check_call(self, node: DictConfig, path: str, completed_later: bool) -> None:
        target = _peek(node, "_target_")
        key = f"{path}._target_" if path else "_target_"
        if target is None:
            return  # missing or an interpolation: the children's check names it
        try:
            called = _resolve(target)
        except (ImportError, TypeError, ValueError) as error:
            self.problems.add(key, str(error))
            return
        parameters = _parameters(called)
        if parameters is not None:
            hints = self._check_unknown(node, path, target, parameters)
            if not completed_later:
                self._check_required(node, path, target, parameters, hints)

    def _check_unknown(
        self, node: DictConfig, path: str, target: str, parameters: Mapping[str, inspect.Parameter]
    ) -> str:
        """Reports arguments that the target does not take; returns the suggestions that were made."""
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return ""
        known = [name for name, parameter in parameters.items() if parameter.kind in _BY_NAME]
        hints = ""
        for name in map(str, node):
            if name not in known and name not in _SPECIAL:
                hint = did_you_mean(name, [*known, *(_SPECIAL if name.startswith("_") else ())])
                what = f"{_short(target)} has no such argument{hint or _listed(known)}"
                # Without a misspelt _partial_ or the like a node is another one, and not worth a trial.
                report = self.problems.add if name.startswith("_") else self.problems.add_stray
                report(f"{path}.{name}" if path else name, what)
                hints += hint
        return hints

    def _check_required(
        self, node: DictConfig, path: str, target: str, parameters: Mapping[str, inspect.Parameter], hints: str
    ) -> None:
        given = {*map(str, node), *self.supplied.get(path, ())}
        positional = len(_peek(node, "_args_") or ())
        for position, (name, parameter) in enumerate(parameters.items()):
            optional = parameter.default is not parameter.empty or parameter.kind in _VARIADIC
            if optional or name in given or position < positional:
                continue
            if repr(name) in hints:  # misspelt: told already, and the node cannot be tried without it
                self.problems.skip(path)
            else:
                self.problems.add(f"{path}.{name}" if path else name, f"missing; {_short(target)} needs this argument")


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class _NotThereError(ValueError):
    """A node that a run needs is not in the configuration."""


def _without(node: Any, keys: list[str]) -> Any:
    """A copy of a node without some of the keys below it."""
    if not keys:
        return node
    node = copy.deepcopy(node)
    for key in keys:
        path, _, name = key.rpartition(".")
        parent = OmegaConf.select(node, path) if path else node
        with open_dict(parent):
            del parent[name]
    return node


def _names(node: _Node) -> list[Any]:
    return list(range(len(node))) if isinstance(node, ListConfig) else list(node)


def _peek(node: Any, name: str) -> Any:
    """A value of a node, or ``None`` where there is none that can be read."""
    try:
        return node.get(name) if isinstance(node, DictConfig) else None
    except OmegaConfBaseException:
        return None


def _is_misspelt_special(node: _Node, name: Any) -> bool:
    """Whether a node without ``_target_`` has a key such as ``_taget_``."""
    looks_special = isinstance(name, str) and name not in _SPECIAL and bool(re.fullmatch(r"_[a-z]+_", name))
    return looks_special and "_target_" not in node


def _short(target: str) -> str:
    return target.rpartition(".")[2]


def _listed(names: Collection[str]) -> str:
    return f"; known are {', '.join(sorted(names))}" if 0 < len(names) <= _MAX_LISTED else ""


def _resolve(target: Any) -> Any:
    """Finds what a ``_target_`` names.

    Raises:
        TypeError: It is not the name of something that can be called.
        ImportError: There is no such thing, or its module does not import.
    """
    if not isinstance(target, str):
        raise TypeError(f"must be the dotted name of a class or function, got {target!r}")
    logger = logging.getLogger("hydra.utils")  # get_object logs what we are about to say better
    was_disabled, logger.disabled = logger.disabled, True
    try:
        found = get_object(target)
    except Exception as error:
        raise ImportError(_why_unresolved(target, error)) from error
    finally:
        logger.disabled = was_disabled
    if not callable(found):
        raise TypeError(f"{target!r} is a {type(found).__name__}; it must name a class or function")
    return found


def _why_unresolved(target: str, error: Exception) -> str:
    cause = error.__cause__ or error
    missing_module = getattr(cause, "name", None) if isinstance(cause, ModuleNotFoundError) else None
    own_module = missing_module is not None and f"{target}.".startswith(f"{missing_module}.")
    if isinstance(cause, (AttributeError, ValueError)) or own_module:
        return f"{target!r} does not exist{_closest_target(target)}"
    return f"{target!r} cannot be imported: {_one_line(cause)}"


def _closest_target(target: str) -> str:
    """The first part of a dotted name that does not exist, and what it may have meant."""
    parts = target.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            parent = get_object(".".join(parts[:count]))
        except Exception:  # noqa: BLE001 - importing a module can raise anything, and a shorter name is tried next
            continue
        inside = [*dir(parent), *(module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", [])))]
        hint = did_you_mean(parts[count], [name for name in inside if not name.startswith("_")])
        return f": {'.'.join(parts[:count])} has no {parts[count]!r}{hint}"
    return f": no package {parts[0]!r} is installed"


def takes(target: str, name: str) -> bool:
    """Whether a class or function takes an argument; ``False`` where it cannot be imported."""
    try:
        parameters = _parameters(_resolve(target)) or {}
    except (ImportError, TypeError):
        return False
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _parameters(called: Any) -> Mapping[str, inspect.Parameter] | None:
    """The parameters of a callable; ``None`` where Python cannot tell (some compiled ones)."""
    try:
        return inspect.signature(called).parameters
    except (TypeError, ValueError):
        return None


def _why_uninterpolated(error: OmegaConfBaseException, cfg: DictConfig) -> str:
    text = str(error).splitlines()[0]
    found = re.fullmatch(r"Interpolation key '(.+)' not found", text)
    if not found:
        return re.sub(r"^\w+ raised while resolving interpolation: ", "", text).strip('"')
    wanted = found[1].lstrip(".")
    return f"refers to ${{{found[1]}}}, which does not exist{did_you_mean(wanted, all_keys(cfg))}"


def _root_cause(error: Exception) -> Exception:
    """The constructor's own error under Hydra's wrapping."""
    while isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _is_users_mistake(error: Exception) -> bool:
    known = (ValueError, TypeError, ImportError, UserError, InstantiationException, OmegaConfBaseException)
    by_name = any(kind.__name__ == "MisconfigurationException" for kind in type(error).__mro__)  # without Lightning
    return isinstance(error, known) or by_name


def _full_key(error: Exception, key: str, cfg: DictConfig | None) -> str:
    """The key of the node that failed, as it is typed, where Hydra tells it; else ``key``."""
    told = re.findall(r"full_key: (\S+)", str(error)) if isinstance(error, InstantiationException) else []
    if not told or cfg is None:
        return key
    below = [name for name in all_keys(cfg) if name.startswith(f"{key}.")]
    # Hydra writes data.transforms0 or data.transforms[0] for what is typed as data.transforms.0
    return next((name for name in below if told[-1] in (name, *_as_hydra_tells(name))), key)


def _as_hydra_tells(key: str) -> tuple[str, str]:
    return re.sub(r"\.(\d+)", r"\1", key), re.sub(r"\.(\d+)", r"[\1]", key)


def _line_of_failure(key: str, error: Exception, cfg: DictConfig | None) -> str:
    if isinstance(error, OmegaConfBaseException):
        return f"{key}: {_why_uninterpolated(error, cfg) if cfg is not None else _one_line(error)}"
    invalid = _first_invalid(error)
    if invalid:
        return f"{key}.{invalid}"
    node = OmegaConf.select(cfg, key) if cfg is not None else None
    text = _one_line(error)
    argument = re.match(r"[`'\"]?([A-Za-z_]\w*)((?:\[[^\]]*\]|\.\w+)*)[`'\"]?(?=[\s:,=])", text)
    if argument and argument[1] == key.rpartition(".")[2]:  # guard("seed"): "seed must be ..."
        return f"{key}{argument[2]}{text[argument.end() :]}"
    if argument and argument[1] in _arguments(node):
        return f"{key}.{argument[1]}{argument[2]}{text[argument.end() :]}"
    target = _peek(node, "_target_")
    if type(error) is TypeError and isinstance(target, str):
        given_as_text = ", ".join(f"{name}={value!r}" for name, value in _values(node) if isinstance(value, str))
        note = f"; given as text: {given_as_text}" if given_as_text else ""
        return f"{key}: {_short(target)} cannot be built with these values: {text}{note}"
    quoted = [
        name for name, value in _values(node) if re.search(rf"(?<![\w.-]){re.escape(str(value))}(?![\w.-])", text)
    ]
    return f"{key}.{quoted[0]}: {text}" if len(quoted) == 1 else f"{key}: {text}"


def _values(node: Any) -> list[tuple[str, Any]]:
    """The arguments of a node that are numbers or text."""
    names = [str(name) for name in node if name not in _SPECIAL] if isinstance(node, DictConfig) else []
    return [(name, value) for name in names if isinstance(value := _peek(node, name), (int, float, str))]


def _first_invalid(error: Exception) -> str | None:
    """What pydantic (behind albumentations) found, in one sentence that starts with the argument."""
    invalid: Any = error.__cause__ if type(error) is ValueError else error
    if type(invalid).__name__ != "ValidationError" or not hasattr(invalid, "errors"):
        return None
    first = invalid.errors()[0]
    return (
        f"{first['loc'][0]}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
        if first.get("loc")
        else None
    )


def _arguments(node: Any) -> set[str]:
    """The names that a user may type below a node: what stands there and what its target takes."""
    names = set(map(str, node)) if isinstance(node, DictConfig) else set()
    target = _peek(node, "_target_")
    try:
        return names | set((_parameters(_resolve(target)) if target else None) or ())
    except (ImportError, TypeError):
        return names


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    hint = re.search(r"; did you mean '[^']*'\?$", text)
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]} ...{hint[0] if hint else ''}"
