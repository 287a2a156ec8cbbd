"""A run folder: which file stands where, and what state the run is in.

==================  =========================================================================
``config.yaml``     the resolved configuration; the first file written
``overrides.yaml``  what was typed
``environment.json``  versions, commit, machine, seed
``network.json``    the network's layers, with output shapes and parameters
``manifest.csv``    every image with split and SHA-256
``flow.csv``        the flow of cases: what the source lists, and which step removed what
``metrics.csv``     one row per epoch
``predictions.csv``  manifest rows of val and test, with ``score``
``metrics.json``    results with intervals; written last but one: with it, the run is over
``report.html``     for people, beside ``report.md`` and ``figures/``
``baselines.csv``   test rows with the scores of trivial baselines; ``baselines.json``, what each reaches; of the report
``model_card.md``   what the model is, and what it must not be used for; written by a training, and by ``report.py``
``checkpoints/``    ``last.ckpt`` (and ``best.ckpt``) while unfinished, ``model.ckpt`` afterwards
``events.out.…``    for TensorBoard
==================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from cxrlab.config.build import escaped
from cxrlab.config.sweep_folder import UNINFLUENTIAL
from cxrlab.console import key_of
from cxrlab.datamodules.manifest import fingerprint
from cxrlab.datamodules.manifest import read as read_manifest
from cxrlab.datamodules.manifest import write as write_manifest
from cxrlab.errors import CheckpointError, ConfigError, DataError, DivergedError
from cxrlab.evaluation.estimate import revived
from cxrlab.files import write_atomically, write_csv, write_json, write_text
from cxrlab.models.layer_table import LayerTable
from cxrlab.rebuild import at_home, check_node, check_texts
from cxrlab.untrusted import read_json, read_yaml

MODEL = "model.ckpt"
LAST = "last.ckpt"
BEST = "best.ckpt"
LUNGS = "lungs.ckpt"  # of a run of experiment=lungs
GATE = "gate.ckpt"  # of a run of experiment=gate
RESUMABLE = ("trainer.max_epochs", *UNINFLUENTIAL)
"""What may differ when a run is continued: nothing here changes the numbers of an epoch."""


_RESTORE = "restore it, or begin a new run without ckpt_path"
_WRITTEN = ("default_root_dir", "profiler", "plugins", "callbacks", "logger")  # by which a Trainer writes elsewhere


class RunFolder:
    """Paths and state of one run.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.overrides = self.path / "overrides.yaml"
        self.environment = self.path / "environment.json"
        self.network = self.path / "network.json"
        self.manifest = self.path / "manifest.csv"
        self.flow = self.path / "flow.csv"
        self.history = self.path / "metrics.csv"
        self.predictions = self.path / "predictions.csv"
        self.metrics = self.path / "metrics.json"
        self.checkpoints = self.path / "checkpoints"

    @classmethod
    def of(cls, path: str | Path) -> RunFolder:
        """Finds the run that a user's ``ckpt_path`` means: the folder itself, or a file in its ``checkpoints/``.

        Raises:
            CheckpointError: There is no such path, or no run in it.
        """
        given = Path(path).expanduser()
        if not given.exists():
            raise CheckpointError(f"ckpt_path={path}: no such file or folder; run folders are below runs/")
        folder = given.parent.parent if given.is_file() and given.parent.name == "checkpoints" else given
        run = cls(folder)
        if not run.config.is_file():
            raise CheckpointError(
                f"ckpt_path={path}: no run folder, config.yaml is not in it; if the run was killed before it had "
                "begun, repeat its command without ckpt_path"
            )
        return run

    def begin(self, config: DictConfig, overrides: Sequence[str], *, resumed: bool = False) -> None:
        """Claims the folder for a new run and writes what it was asked to do.

        Raises:
            ConfigError: The folder holds a run already, or cannot be written.
        """
        if resumed:
            return
        self.check_free()
        try:
            write_text(self.overrides, yaml.safe_dump(list(overrides), allow_unicode=True))
            plain = escaped(OmegaConf.to_container(config, resolve=True))
            write_text(self.config, OmegaConf.to_yaml(plain))
        except OSError as error:
            raise ConfigError(
                f"{self.path}: cannot be written ({error.strerror}); hydra.run.dir=… chooses another"
            ) from None

    def check_free(self) -> None:
        """Refuses a folder that holds a run.

        Raises:
            ConfigError: It does.
        """
        if self.config.exists():
            raise ConfigError(
                f"{self.path}: holds a run already, which would be overwritten; hydra.run.dir=… chooses another "
                f"folder, ckpt_path={self.path} goes on with it"
            )

    def saved_config(self) -> DictConfig:
        """The configuration the run was begun with."""
        return OmegaConf.create(self._saved())

    def _saved(self) -> dict[str, Any]:
        """The values of ``config.yaml``, in which nothing is left for OmegaConf to resolve."""
        config = self._read(self.config, read_yaml)
        if not isinstance(config, dict):
            raise CheckpointError(f"{self.config}: damaged (no mapping); {_RESTORE}")
        try:
            check_texts(config)
        except ConfigError as error:
            raise CheckpointError(f"{self.config}: refused: {error}; {_RESTORE}") from None
        return config

    @staticmethod
    def _read(path: Path, read: Callable[[Path], Any]) -> Any:
        """Reads a file of the run, of which a person may have changed or lost something.

        Raises:
            CheckpointError: It is missing or damaged.
        """
        try:
            return read(path)
        except (OSError, ValueError) as error:
            what = "missing" if isinstance(error, FileNotFoundError) else f"damaged ({' '.join(str(error).split())})"
            raise CheckpointError(f"{path}: {what}; {_RESTORE}") from None

    def typed(self) -> list[str]:
        """What was typed when the run was begun.

        Raises:
            CheckpointError: The file cannot be read.
        """
        return [each for each in self._read(self.overrides, read_yaml) or [] if isinstance(each, str)]

    def resume_config(self, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """The run's own configuration, with those of today's overrides that do not change what an epoch computes.

        Args:
            config: As composed today.
            overrides: As typed today, ``key=value``.

        Raises:
            CheckpointError: The folder's files are damaged, or name classes that are neither this project's nor typed.
            ConfigError: Something was typed that differs from what the run was begun with.
            DivergedError: The run diverged, and would again.
        """
        if self.status() == "diverged":
            raise DivergedError(f"{self.path}: cannot go on: {self.results().get('diverged')}")
        saved = self._checked_config(config)
        begun_with = self.typed()
        refused = []
        for override in overrides:
            key = key_of(override)
            if key in RESUMABLE:
                OmegaConf.update(saved, key, OmegaConf.select(config, key))
            elif override not in begun_with and key != "ckpt_path" and not self._same(saved, config, key):
                refused.append(f"  {override}: the run was begun otherwise")
        if refused:
            changes = ", ".join(RESUMABLE)
            head = f"{self.path}: a run can only be continued as it was begun; only {changes} may change:"
            raise ConfigError("\n".join([head, *refused, "  leave these out, or begin a new run without ckpt_path"]))
        if Path(config.output_dir).resolve() != self.path.resolve():
            raise ConfigError(
                f"ckpt_path={self.path}: an interrupted run goes on in its own folder, one at a time: "
                "leave out hydra.run.dir and -m"
            )
        saved.output_dir, saved.ckpt_path = config.output_dir, config.ckpt_path
        return saved

    def _checked_config(self, config: DictConfig) -> DictConfig:
        """The run's own configuration, which is untrusted, as far as it may be built.

        Each node names classes of this project only, or is, to the letter, what was typed today. Loggers are always
        today's, and what is written lies where today's configuration has it.
        """
        saved = self._saved()
        lacking = [str(key) for key in config if key not in saved]
        if lacking and saved.get("task", "classify") == "classify":  # other tasks keep what they read, and say more
            raise CheckpointError(f"{self.config}: damaged (it lacks {', '.join(lacking)}); {_RESTORE}")
        for group, node in saved.items():
            try:
                check_node(node, group)
                if group in ("logger", "trainer"):
                    _check_written(group, node, config.get(group))
            except ConfigError as error:
                today = config.get(group)
                if not OmegaConf.is_config(today) or OmegaConf.to_container(today, resolve=True) != node:
                    raise CheckpointError(
                        f"{self.config}: refused: {error}; if you trust this folder, repeat what the run was begun "
                        f"with, for example {group}=… (it stands in {self.overrides.name}), beside ckpt_path=…"
                    ) from None
        saved["data"] = at_home(saved.get("data"))
        checked = OmegaConf.create(saved)
        if saved.get("logger"):
            checked.logger = config.get("logger")
        return checked

    @staticmethod
    def _same(saved: DictConfig, config: DictConfig, key: str) -> bool:
        missing = object()
        return bool(OmegaConf.select(saved, key, default=missing) == OmegaConf.select(config, key, default=missing))

    def last_checkpoint(self) -> Path | None:
        """The newest state of an unfinished run, ``None`` before its first epoch is over."""
        path = self.checkpoints / LAST
        return path if path.is_file() else None

    def status(self) -> str | None:
        """``finished``, ``interrupted`` (by Ctrl-C), ``diverged``, or ``None``: running, or killed."""
        if not self.metrics.is_file():
            return None
        return str(self.results()["status"])

    def results(self) -> dict[str, Any]:
        """The contents of ``metrics.json``."""
        found = self._read(self.metrics, lambda path: revived(read_json(path)))
        if not isinstance(found, dict) or not isinstance(found.get("status"), str):
            raise CheckpointError(f"{self.metrics}: damaged (it states no status); {_RESTORE}")
        return found

    def weights(self) -> Path:
        """The checkpoint to load: the finished run's, or that of an unfinished run's best or last epoch.

        Raises:
            CheckpointError: The run kept no weights, or has not finished an epoch.
        """
        names = [MODEL, BEST, LAST] if self.saved_config().get("weights") == "best" else [MODEL, LAST]
        for name in names:
            if (self.checkpoints / name).is_file():
                return self.checkpoints / name
        if (self.path / LUNGS).is_file():
            raise CheckpointError(
                f"{self.path}: a run of experiment=lungs, which calls no image Positive; it is for lungs=…"
            )
        if (self.path / GATE).is_file():
            raise CheckpointError(
                f"{self.path}: a run of experiment=gate, which calls no image Positive; it is for gate=…"
            )
        why = "it has finished no epoch yet" if self.status() is None else "it was run with keep_weights=false"
        raise CheckpointError(f"{self.path}: no weights in this run folder: {why}")

    def check_same_data(self, manifest: pd.DataFrame) -> None:
        """Refuses to continue a run on other images, labels or splits than it was begun with.

        Raises:
            DataError: The data have changed since.
        """
        if self.manifest.is_file() and fingerprint(read_manifest(self.manifest)) != fingerprint(manifest):
            raise DataError(
                f"{self.manifest}: images, labels or splits have changed since this run was begun, so it cannot go on; "
                "restore them, or begin a new run without ckpt_path"
            )

    def record(self, facts: dict[str, Any], table: LayerTable, manifest: pd.DataFrame, flow: pd.DataFrame) -> None:
        """Writes what the run runs on: ``environment.json``, ``network.json``, ``manifest.csv`` and ``flow.csv``."""
        write_json(self.environment, facts)
        write_json(self.network, {**asdict(table), "text": str(table)})
        write_manifest(manifest, self.manifest)
        write_csv(self.flow, flow)

    def keep_weights(self, checkpoint: dict[str, Any]) -> None:
        """Writes ``model.ckpt``, the one file a finished run of 24 million weights needs (96 MB)."""
        write_atomically(self.checkpoints / MODEL, lambda file: torch.save(checkpoint, file))

    def drop_training_state(self) -> None:
        """Removes what only an unfinished run needs."""
        for name in (LAST, BEST):
            (self.checkpoints / name).unlink(missing_ok=True)


def _check_written(group: str, node: Any, today: Any) -> None:
    """Refuses other loggers than today's, and a Trainer that writes to a folder of its own.

    Raises:
        ConfigError: Names them.
    """
    if group == "logger" and node and set(node) != set(today or ()):
        raise ConfigError(f"logger has {', '.join(map(str, node))}, and today {', '.join(today or ()) or 'none'}")
    if group == "trainer" and isinstance(node, dict) and any(node.get(name) is not None for name in _WRITTEN):
        raise ConfigError(f"trainer holds one of {', '.join(_WRITTEN)}")
