"""Composing a configuration without the command line: for notebooks, tests and other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from cxrlab.config import plugins, resolvers

_CHANGE_OTHERS = {"experiment", "hparams_search", "debug"}  # groups whose files set other keys, and are none themselves


def compose(name: str, overrides: Sequence[str], output_dir: str | Path) -> DictConfig:
    """Composes what ``python <name>.py <overrides>`` would, to be handed to that function.

    Inside of an entry point its own search path counts, so that a ``--config-dir`` is looked into as well.

    Args:
        name: ``train``, ``evaluate``, ``compare`` or ``report``.
        overrides: As on the command line.
        output_dir: The run folder, which Hydra would choose there.

    Returns:
        The configuration, without Hydra's own node.
    """
    resolvers.register()
    with _search_path():
        config = hydra.compose(name, overrides=list(overrides))
    with open_dict(config):
        config.output_dir = str(output_dir)
    return config


def group_options(group: str) -> list[str]:
    """The options of a group, ``data`` for example; those that are parts of others are left out."""
    with _search_path():
        loader = GlobalHydra.instance().config_loader()
        return sorted(name for name in loader.get_group_options(group) if not name.startswith("_"))


@cache
def keys_of(program: str) -> frozenset[str]:
    """The keys that a program reads: those of its ``conf/<program>.yaml``, and the groups that it begins with."""
    shipped = yaml.safe_load((resources.files("cxrlab.conf") / f"{program}.yaml").read_text(encoding="utf-8"))
    groups = {name for entry in shipped["defaults"] if isinstance(entry, dict) for name in entry}
    return frozenset(({*shipped} | groups) - {"defaults", "hydra", "paths"} - _CHANGE_OTHERS)


@contextmanager
def _search_path() -> Iterator[None]:
    """Makes Hydra look into ``cxrlab.conf``, unless an entry point of this process has told it where to look."""
    plugins.register()
    if GlobalHydra.instance().is_initialized():
        yield
        return
    with hydra.initialize_config_module("cxrlab.conf", version_base="1.3"):
        yield
