"""Which key was meant by one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cxrlab.config.help import Conf
from cxrlab.errors import did_you_mean

_MANY = 3  # keys of one name that are listed
_LONG = 5  # letters of a word that is looked for in comments


def meant(key: str, cfg: DictConfig) -> str:
    """``"; did you mean 'optimizer.lr'?"`` for ``lr``, or an empty string.

    A key of the same last name anywhere is meant rather than a similar one beside it, that rather than a similar one
    elsewhere, and that rather than one whose comment begins with these words.

    Args:
        key: As typed, dotted.
        cfg: The whole configuration; Hydra's own node is left out.
    """
    parent, _, name = key.rpartition(".")
    keys = [each for each in all_keys(cfg) if each != key and not each.startswith("hydra.")]
    by_name: dict[str, list[str]] = {}
    for each in sorted(keys, key=lambda each: each.count(".")):
        by_name.setdefault(each.rpartition(".")[2], []).append(each)
    if name in by_name and name.isidentifier():
        return _listed(by_name[name])
    beside = [each.rpartition(".")[2] for each in keys if each.rpartition(".")[0] == parent]
    if hint := did_you_mean(name, beside):
        return hint if not parent else hint.replace("mean '", f"mean '{parent}.")
    close = difflib.get_close_matches(name, [each for each in by_name if not each.isdigit()], n=1, cutoff=0.7)
    found = by_name[close[0]] if close else _described(name, keys)
    return _listed(found) if found else ""


def _described(name: str, keys: Collection[str]) -> list[str]:
    """The keys whose comment in ``conf/`` begins with the words of a name: ``optimizer.lr`` for ``learning_rate``."""
    words, conf = name.replace("_", " ").casefold(), Conf()
    if len(words) < _LONG:
        return []
    options = (conf.option(group, option) for group in conf.groups() for option in conf.options(group))
    comments = {key.name: key.comment for option in options for key in option.keys}
    return [key for key in keys if comments.get(key, "").casefold().startswith(words)]


def all_keys(cfg: DictConfig) -> list[str]:
    """Every key of a configuration, dotted, nodes before what is in them."""

    def below(node: Any, path: str) -> Iterator[str]:
        named = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for name, value in named:
            key = f"{path}.{name}" if path else str(name)
            yield key
            yield from below(value, key)

    return list(below(OmegaConf.to_container(cfg, resolve=False), ""))


def _listed(keys: list[str]) -> str:
    *others, last = map(repr, keys[:_MANY])
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
