"""What the trainings of the lung segmenter and of the gate, which help a classifier, have in common.

Both are measured on people held out, fold by fold, and then trained once more on everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.trainer.states import TrainerStatus
from torch import nn

from cxrlab.callbacks import Divergence, History, TrainingBar
from cxrlab.config import Problems, build, check_names, keys_of
from cxrlab.console import key_of, say
from cxrlab.errors import ConfigError, check_range
from cxrlab.files import write_json
from cxrlab.runs import RunFolder
from cxrlab.steps.assembly import settle_precision
from cxrlab.steps.quiet import quiet_lightning
from cxrlab.steps.results import drop_copies
from cxrlab.steps.trainer_keys import check_sees_all, check_trainer

_READ = (
    "data",
    "model",
    "optimizer",
    "scheduler",
    "trainer",
    "logger",
    "task",
    "seed",
    "output_dir",
    "paths",
    "print_config",
)


@dataclass(frozen=True)
class Auxiliary:
    """One of these trainings.

    Attributes:
        task: Value of the key ``task``.
        experiment: Its name, which is also the key under which a finished run is named.
        noun: For people: ``lungs``.
        file: What it leaves in its run folder.
        data: Option of the group ``data``, and the name of its class.
        model: Likewise.
        keys: That it reads beside those that both read.
    """

    task: str
    experiment: str
    noun: str
    file: str
    data: tuple[str, str]
    model: tuple[str, str]
    keys: tuple[str, ...] = ()

    @property
    def read(self) -> tuple[str, ...]:
        """Every key that it reads."""
        return (*_READ, *self.keys)

    def narrowed(self, config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """The configuration without what is not read.

        Args:
            config: As composed from ``conf/train.yaml``.
            overrides: What was typed.

        Raises:
            ConfigError: Something was typed that would not be read, or data or model are of another task.
        """
        if config.ckpt_path:
            raise ConfigError(
                f"ckpt_path={config.ckpt_path}: a training of {self.noun} takes minutes and is not continued: repeat "
                f"its command without ckpt_path; {self.experiment}=… is where a finished one is named"
            )
        roots = [key_of(override).partition(".")[0].partition("@")[0] for override in overrides]
        strays = [each for each, root in zip(overrides, roots, strict=True) if root in keys_of("train") - {*self.read}]
        if strays:
            raise ConfigError(
                f"{', '.join(strays)}: not read by task={self.task}, which has its own loss and augmentation and keeps "
                f"the last epoch; leave it out. It reads {', '.join(self.read)}"
            )
        for group, (option, target) in (("data", self.data), ("model", self.model)):
            if str((config.get(group) or {}).get("_target_", "")).rpartition(".")[2] != target:
                raise ConfigError(
                    f"{group}: task={self.task} needs {group}={option}, as in experiment={self.experiment}"
                )
        for key in self.keys:
            if key not in config:
                raise ConfigError(f"{key}: task={self.task} needs it, see experiment={self.experiment}")
        with open_dict(config):
            return OmegaConf.masked_copy(config, [key for key in self.read if key in config])

    def try_parts(self, config: DictConfig, problems: Problems) -> tuple[Any, Any]:
        """Builds everything once, before any file is read; network and trainer are built again for every fold.

        Args:
            config: As :meth:`narrowed` gives it.
            problems: Takes what is wrong.

        Returns:
            The data and a network, either ``None`` where it cannot be built.
        """
        check_names(config, keys_of("train") | {*self.keys}, problems, supplied={"trainer": {"callbacks", "logger"}})
        with problems.guard("seed"):
            check_range("seed", config.seed, 0, 2**32 - 1, integer=True)
        check_trainer(config.trainer, problems)
        check_sees_all(config.trainer, self.noun, problems)
        if config.trainer.get("devices") != 1:
            problems.add("trainer.devices", f"must be 1, got {config.trainer.get('devices')!r}")
        datamodule, network = problems.build(config, "data"), problems.build(config, "model")
        for group in ("optimizer", "scheduler", "logger"):
            problems.build(config, group)
        right = datamodule is not None and not problems.lines
        side = datamodule.image_size if right else 0
        settle_precision(config.trainer, network, (datamodule.batch_size, 1, side, side) if right else None)
        with quiet_lightning():
            problems.build(config, "trainer", callbacks=[], logger=False, enable_checkpointing=False)
        return datamodule, network

    def interrupted(self, run: RunFolder) -> dict[str, Any]:
        """Notes that nothing came of a run; returns its metrics."""
        metrics = {"status": "interrupted", "task": self.task}
        write_json(run.metrics, metrics)
        say(f"interrupted: no {self.file} was written, and such a training is not continued; repeat the command")
        return metrics


def fit(
    config: DictConfig,
    run: RunFolder,
    datamodule: Any,
    fold: int | None,
    module_of: Callable[[nn.Module, Any, Any], pl.LightningModule],
    *,
    watch: bool,
) -> nn.Module:
    """Trains one network from its seed.

    Args:
        config: As :meth:`Auxiliary.narrowed` gives it.
        run: Takes curves and history.
        datamodule: Set up.
        fold: Held out; ``None``: nothing is.
        module_of: From network, optimizer and scheduler to what trains it.
        watch: Whether the held-out fold is gone through after each epoch, for the curves.

    Returns:
        The network, on the CPU.

    Raises:
        DivergedError: Loss or weights are no numbers any more.
        KeyboardInterrupt: Ctrl-C.
    """
    name = "final" if fold is None else f"fold_{fold + 1}"
    problems = Problems()
    pl.seed_everything(config.seed, workers=False, verbose=False)
    datamodule.hold_out(fold)
    network: nn.Module = problems.build(config, "model")
    module = module_of(network, problems.build(config, "optimizer"), problems.build(config, "scheduler"))
    callbacks = [Divergence(), History(run.path / "history" / f"{name}.csv"), TrainingBar()]
    with quiet_lightning():
        extra: dict[str, Any] = {"enable_checkpointing": False, "callbacks": callbacks}
        extra |= {} if watch and fold is not None else {"limit_val_batches": 0}
        trainer = problems.build(config, "trainer", logger=_loggers(config, name), **extra)
        problems.raise_if_any()
        try:
            trainer.fit(module, datamodule=datamodule)
        except SystemExit:  # Lightning's answer to Ctrl-C
            if trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise
    drop_copies(trainer)
    return network.cpu()


def _loggers(config: DictConfig, name: str) -> list[Any]:
    """The run's loggers, each with a part of its own for one training."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    nodes = (plain.get("logger") or {}).values()
    return [build({**node, "version": name} if "version" in node else node) for node in nodes]
