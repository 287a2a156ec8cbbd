"""Which folder a sweep writes to: the one in which the same sweep was begun. Repeating a command continues it."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from cxrlab.console import key_of

UNINFLUENTIAL = (
    "data.num_workers",
    "data.persistent_workers",
    "data.cache",
    "data.cache_limit_gb",
    "data.on_device",
    "keep_weights",
    "keep_memory",
    "gate",
    "tags",
    "print_config",
)
"""Keys that change no number of a run: it may be continued with others, and a sweep stays the same sweep."""
_HOW_MANY = ("n_trials", "max_batch_size", "max_failure_rate")  # of a sweeper: a search may be made longer
_PACKAGE = Path(__file__).parents[1]


def sweep_dir(above: str, config: DictConfig) -> str:
    """The folder of a sweep: ``<above>/<time>_<fingerprint>``.

    Args:
        above: The folder in which sweeps of this name stand.
        config: As composed for the whole sweep, with Hydra's own node.

    Returns:
        The newest folder in which the same sweep was begun, or else a new one.
    """
    mark = fingerprint(config)
    begun = sorted(Path(above).glob(f"*_{mark}"))
    return str(begun[-1]) if begun else f"{above}/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{mark}"


def fingerprint(config: DictConfig) -> str:
    """Eight hexadecimal digits that change with everything that decides a sweep's jobs and their results.

    These are the configuration, what was typed, what the sweeper varies, and the package's own source. Launchers are
    left out: where a job runs changes nothing about it.

    Args:
        config: As composed for the whole sweep, with Hydra's own node.
    """
    typed = [each for each in config.hydra.overrides.task if key_of(each) not in UNINFLUENTIAL]
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    what = {
        "config": comparable(config, output_dir=""),
        "typed": typed,
        "sweeper": {key: value for key, value in sweeper.items() if key not in _HOW_MANY},
        "code": code_digest(),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]


def comparable(config: DictConfig, output_dir: str) -> dict[str, Any]:
    """A resolved configuration as plain values, without Hydra's node and without what changes no number.

    Args:
        config: As composed, or as read from ``config.yaml``.
        output_dir: Stands for the run folder, which other keys may point into.
    """
    copy = config.copy()
    with open_dict(copy):
        copy.pop("hydra", None)
        copy.output_dir = output_dir
        copy.ckpt_path = None
        for key in UNINFLUENTIAL:
            if OmegaConf.select(copy, key) is not None:
                OmegaConf.update(copy, key, None)
    plain = OmegaConf.to_container(copy, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def code_digest(package: Path = _PACKAGE) -> str:
    """SHA-256 over the package's source files, in hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
