"""Composing a configuration without the command line: for notebooks, tests and other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig, open_dict

from cxrlab.config import resolvers


def compose(name: str, overrides: Sequence[str], output_dir: str | Path) -> DictConfig:
    """Composes what ``python <name>.py <overrides>`` would, to be handed to that function.

    Args:
        name: ``train``, ``evaluate``, ``compare`` or ``report``.
        overrides: As on the command line.
        output_dir: The run folder, which Hydra would choose there.

    Returns:
        The configuration, without Hydra's own node.
    """
    resolvers.register()
    with hydra.initialize_config_module("cxrlab.conf", version_base="1.3"):
        config = hydra.compose(name, overrides=list(overrides))
    with open_dict(config):
        config.output_dir = str(output_dir)
    return config
