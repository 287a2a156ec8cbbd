"""Which arguments of Lightning's Trainer a training takes, and which it refuses, with what to type instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig

from cxrlab.config import Problems
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.errors import ConfigError, check_choice, check_range

Rule: TypeAlias = Callable[[str, Any], None]


def _whole(low: int) -> Rule:
    return lambda name, value: check_range(name, value, low, integer=True)


def _one_of(*choices: Any) -> Rule:
    return lambda name, value: check_choice(name, value, choices)


def _limit(name: str, value: Any) -> None:
    """A share of the batches, or a number of them."""
    right = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    if not (right and (isinstance(value, int) or value <= 1)):
        raise ValueError(f"{name} must be a share in (0, 1.0], or a whole number of batches from 1, got {value!r}")


def _elsewhere(name: str, value: Any) -> None:
    """Checked with what it depends on, by ``check_device`` and ``check_devices``."""


_SWITCH = _one_of(True, False)
_WHOLE_EPOCHS = "a run saves and validates whole epochs"

ARGUMENTS: dict[str, Rule | str] = {
    "accelerator": _elsewhere,
    "strategy": _elsewhere,
    "devices": _elsewhere,
    "num_nodes": "a run stays on one machine; trainer=ddp uses all of its GPUs",
    "precision": _elsewhere,
    "logger": "loggers are a group of their own; logger=none or logger=tensorboard",
    "callbacks": "callbacks are a group of their own; callbacks=early_stopping, or +callbacks.mine._target_=…",
    "fast_dev_run": "it writes no checkpoint to report on; debug=quick runs everything once, in seconds",
    "max_epochs": _whole(1),
    "min_epochs": _whole(1),
    "max_steps": f"{_WHOLE_EPOCHS}; trainer.max_epochs, or trainer.limit_train_batches for shorter epochs",
    "min_steps": f"{_WHOLE_EPOCHS}; trainer.min_epochs",
    "max_time": f"{_WHOLE_EPOCHS}; `timeout --signal=INT 2h` before the command, and ckpt_path=… goes on with the run",
    "limit_train_batches": _limit,
    "limit_val_batches": _limit,
    "limit_test_batches": "all test images are evaluated; leave it out",
    "limit_predict_batches": "a training predicts nothing; leave it out",
    "overfit_batches": "it validates on training images; list a few images in a table, data=manifest reads it",
    "val_check_interval": "validation is of an epoch's last weights; trainer.limit_train_batches shortens epochs",
    "check_val_every_n_epoch": "each epoch is compared with the others; trainer.limit_val_batches shortens validation",
    "num_sanity_val_steps": _whole(-1),
    "log_every_n_steps": _whole(1),
    "enable_checkpointing": "without checkpoints a killed run is lost; keep_weights=false keeps none of a finished run",
    "enable_progress_bar": "the bar is a callback; ~callbacks.progress leaves it out",
    "enable_model_summary": _SWITCH,
    "accumulate_grad_batches": _whole(1),
    "gradient_clip_val": lambda name, value: check_range(name, value, 0),
    "gradient_clip_algorithm": _one_of("norm", "value"),
    "deterministic": _one_of(True, False, "warn"),
    "benchmark": _SWITCH,
    "inference_mode": _SWITCH,
    "use_distributed_sampler": _SWITCH,
    "profiler": "its table would not be shown; benchmarks/train_step.py --profile says where a step's time goes",
    "detect_anomaly": "a run ends by itself at the first loss that is no number, and says where; leave it out",
    "barebones": "it leaves out what the report needs; benchmarks/epoch.py times a training without it",
    "plugins": "the run writes checkpoints and starts processes in its own way; leave it out",
    "sync_batchnorm": _SWITCH,
    "reload_dataloaders_every_n_epochs": "each epoch draws its batches anew; leave it out",
    "default_root_dir": "everything is written into the run folder; hydra.run.dir=… chooses it",
    "enable_autolog_hparams": "the run logs its own settings; logger=none logs nothing",
    "model_registry": "weights stay on this machine, in the run folder's checkpoints/; leave it out",
}
"""By name: the rule for a value, or why another than Lightning's default is refused."""


def check_trainer(trainer: DictConfig | dict[str, Any], problems: Problems) -> None:
    """Checks the node ``trainer``, argument by argument; a name that Lightning does not have is another check's.

    Args:
        trainer: The node.
        problems: Takes what is found.
    """
    defaults = inspect.signature(pl.Trainer).parameters
    for name, rule in ARGUMENTS.items():
        if name not in trainer or name not in defaults:
            continue
        with problems.guard(f"trainer.{name}"):
            value, default = trainer.get(name), defaults[name].default
            if type(value) is type(default) and value == default:
                continue
            if isinstance(rule, str):
                problems.add(f"trainer.{name}", f"refused: {rule}")
            elif name == "max_epochs" or value is not None:
                rule(name, value)
    if trainer.get("strategy") == "ddp" and trainer.get("use_distributed_sampler", True) is True:
        problems.add("trainer.use_distributed_sampler", "must be false with strategy=ddp: batches are divided already")


def check_sees_all(trainer: DictConfig | dict[str, Any], noun: str, problems: Problems) -> None:
    """Refuses to train lungs or a gate on a part of their images, of which their reports would not speak."""
    for name in ("limit_train_batches", "limit_val_batches"):
        if trainer.get(name) not in (None, 1.0) or isinstance(trainer.get(name), int):
            problems.add(f"trainer.{name}", f"a training of {noun} sees all its images; trainer.max_epochs shortens it")


def seen(trainer: pl.Trainer, datamodule: ChestXRayDataModule, monitor: str) -> list[str]:
    """What a reader must know where an epoch is a part of the images only.

    Args:
        trainer: Built.
        datamodule: Set up.
        monitor: The metric that chooses an epoch.

    Raises:
        ConfigError: A part is less than a batch, or ``monitor`` is not defined on the images that are seen.
    """
    found = []
    for split, verb in (("train", "trained"), ("val", "was validated")):
        name, rows = f"limit_{split}_batches", datamodule.rows(split)
        images, limit = len(rows), getattr(trainer, f"limit_{split}_batches")
        batches = -(-images // datamodule.batch_size)
        taken = min(limit, batches) if isinstance(limit, int) else int(limit * batches)
        if not taken:
            raise ConfigError(
                f"trainer.{name}: {limit:g} of {batches} batch{'es' if batches > 1 else ''} is less than one; "
                f"trainer.{name}=1 takes one"
            )
        share = min(images, taken * datamodule.batch_size)
        if share < images:
            found.append(f"each epoch {verb} on {share} of {images} images only (trainer.{name}={limit:g})")
        if split == "val":
            _check_monitor(monitor, datamodule.manifest["label"].to_numpy()[rows[:share]])
    return found


def _check_monitor(monitor: str, labels: Any) -> None:
    """Refuses to choose by a metric that is no number where images of one class are missing."""
    split, _, metric = monitor.partition("/")
    needs = {"sensitivity": {1}, "specificity": {0}, "ap": {1}, "auroc": {0, 1}}.get(metric, set())
    missing = needs - set(np.unique(labels).tolist())
    if split == "val" and missing:
        raise ConfigError(
            f"monitor={monitor}: not defined, since none of the {len(labels)} validation images is "
            f"{'Positive' if 1 in missing else 'Negative'}; monitor=val/loss, or another data.val"
        )
