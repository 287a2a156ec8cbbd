"""One job of a sweep: taken over where it is finished, continued where it was stopped, run where it was not begun."""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich import get_console

from cxrlab.config.sweep_folder import comparable
from cxrlab.console import hushed, short, tell
from cxrlab.errors import ConfigError, DivergedError
from cxrlab.files import write_text
from cxrlab.runs.folder import LAST, RunFolder
from cxrlab.sweeps.announce import is_search
from cxrlab.sweeps.state import FAILED, best_monitored

Metrics = dict[str, Any]
Train = Callable[[DictConfig, Sequence[str]], tuple[Metrics, dict[str, Any]]]


def run_job(config: DictConfig, overrides: Sequence[str], train: Train) -> tuple[Metrics, float | None]:
    """Runs what is left to run of a job, in a folder of which the process has the claim.

    Args:
        config: Of the job, as composed from ``conf/train.yaml``.
        overrides: What was typed for it.
        train: Runs, or continues, a training.

    Returns:
        The contents of its ``metrics.json``; and the best value of ``monitor``, ``None`` where no epoch has one. To a
        search, a training that diverged is infinitely bad.

    Raises:
        UserError: The job cannot be run; ``failed.txt`` in its folder says why.
    """
    run = RunFolder(config.output_dir)
    if run.config.is_file():
        check_same(run, config)
    (run.path / FAILED).unlink(missing_ok=True)
    try:
        check(config)
        metrics = _go_on(run, config, overrides, train)
    except Exception as error:
        write_text(run.path / FAILED, f"{error}\n")
        if not (isinstance(error, DivergedError) and is_search(HydraConfig.get())):
            raise
        tell(f"job {HydraConfig.get().job.num}: {error}; the search takes this for the worst value")
        return run.results(), -math.inf if config.monitor_mode == "max" else math.inf
    gc.collect()  # a trainer and its module hold each other, and would stay beside those of the next job
    return metrics, best_monitored(run)


def check(config: DictConfig) -> None:
    """Refuses what this launcher or this sweeper cannot do.

    Raises:
        ConfigError: Names the key.
    """
    devices = (config.get("trainer") or {}).get("devices")
    if devices != 1 and not _one_at_a_time():
        raise ConfigError(
            f"trainer.devices={devices}: jobs that run at once would train on the same devices; leave out "
            "hydra/launcher=…, so that they run one after the other, or trainer=ddp"
        )
    if not is_search(HydraConfig.get()):
        return
    if config.get("task") == "segment":
        raise ConfigError("task=segment: a search optimises `monitor`, which a segmentation does not have")
    if not str(config.monitor).startswith("val/"):
        raise ConfigError(f"monitor={config.monitor}: a search optimises a validation metric; monitor=val/loss is one")
    if (config.get("data") or {}).get("val") == "test":
        raise ConfigError(
            "data.val=test: a search would choose the settings that suit the test images; data.val=0.15 holds "
            "validation images out of the training images"
        )


def _one_at_a_time() -> bool:
    """Whether the jobs of this sweep run one after the other, as Hydra's own launcher has them."""
    return str(HydraConfig.get().launcher.get("_target_")).endswith(".BasicLauncher")


def check_same(run: RunFolder, config: DictConfig) -> None:
    """Refuses a folder in which another job was begun.

    Raises:
        ConfigError: Names the keys that differ.
    """
    saved = run.saved_config()
    begun, today = (_flat(comparable(each, str(saved.output_dir))) for each in (saved, config))
    roots = {key.partition(".")[0] for key in begun}  # a gate or a segmentation keeps only the keys that it reads
    today = {key: value for key, value in today.items() if key.partition(".")[0] in roots}
    missing = object()
    differing = sorted(
        key
        for key in begun.keys() | today.keys()
        # What is chosen automatically was written down as chosen.
        if begun.get(key, missing) != today.get(key, missing) and today.get(key) != "auto"
    )
    if differing:
        raise ConfigError(
            f"{run.path}: holds a run that was begun otherwise, in {', '.join(differing)}; "
            "hydra.sweep.dir=… chooses another folder for the sweep"
        )


def is_over(run: RunFolder) -> bool:
    """Whether nothing is left to do: also the last files, which are written after the results."""
    if run.status() != "finished":
        return False
    return (run.path / "report.html").is_file() and not (run.checkpoints / LAST).exists()


def _go_on(run: RunFolder, config: DictConfig, overrides: Sequence[str], train: Train) -> Metrics:
    """Takes a job over, begins it, or continues it from its last saved epoch; a gate or a segmentation begins again."""
    if run.config.is_file():
        if is_over(run):
            tell(f"job {HydraConfig.get().job.num}: finished before, {short(run.path)}")
            return run.results()
        if config.get("task") in ("segment", "gate"):
            _clear(run)
        else:
            config.ckpt_path = str(run.path)
    _settle_in()
    with hushed():  # what all jobs have in common, and each epoch of them, stands in their logs
        return train(config, overrides)[0]


def _clear(run: RunFolder) -> None:
    """Removes what a training that is not continued has left; what Hydra logs is kept."""
    for path in (run.config, run.metrics, *run.path.rglob("events.out.tfevents.*")):
        path.unlink(missing_ok=True)


def _settle_in() -> None:
    """Adapts this process to its launcher: threads as asked for, and no word of each epoch where several jobs print."""
    launcher = HydraConfig.get().launcher
    if launcher.get("cpus_per_task"):
        torch.set_num_threads(int(launcher.cpus_per_task))
    if str(launcher.get("_target_")).endswith(".JoblibLauncher"):
        get_console().quiet = True  # all of it stands in the log of each run
        _end_with_parent()


def _end_with_parent() -> None:
    """Ends this process when the one that began the sweep is gone: killed, it could not say so.

    Its work is lost back to the last saved epoch, and its memory is there for the repeated command.
    """
    name, parent = "end-with-parent", os.getppid()
    if any(thread.name == name for thread in threading.enumerate()):
        return  # processes serve several jobs

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name=name, daemon=True).start()


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """``{"model.dropout": [0.25, 0.25, 0.5]}``."""
    if not isinstance(node, dict):
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
