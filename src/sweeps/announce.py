"""The sentences of a sweep, on the screen of whoever runs it."""

from __future__ import annotations

import shlex
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from cxrlab.console import command, quoted, short, tell
from cxrlab.errors import UserError
from cxrlab.sweeps.state import Sweep, note_begin

_ANEW = "hydra.sweep.dir=<another folder> runs it anew"


def announce(config: DictConfig) -> None:
    """Notes that a sweep begins, or goes on, and says how much of it is over.

    Args:
        config: As composed for the whole sweep, with Hydra's own node.
    """
    folder = Path(config.hydra.sweep.dir)
    known = folder.is_dir()
    total = count_jobs(config)
    note_begin(folder, total, config.hydra.overrides.task)
    jobs = "jobs" if total is None else f"{total} jobs"
    if not known:
        tell(f"sweep    {short(folder)}, {jobs}; repeating the command continues it")
        return
    sweep = Sweep.read(folder)
    finished = sweep.count("finished")
    if finished == total:
        tell(f"sweep    {short(folder)}: all {jobs} are finished, nothing to run; {_ANEW}")
    else:
        tell(f"sweep    {short(folder)}, continued: {finished} of {jobs} are finished; {_ANEW}")


def tell_end(config: DictConfig) -> None:
    """Prints what a search has found, to be typed, and how to look at all runs together.

    Args:
        config: As composed for the whole sweep, with Hydra's own node.
    """
    sweep = Sweep.read(Path(config.hydra.sweep.dir))
    tell(f"curves   tensorboard --logdir {quoted(short(sweep.folder))}")
    if sweep.count("finished") > 1 and config.get("task") == "classify":
        tell(f"compare  {command('compare', runs=short(sweep.folder))}")
    if is_search(config.hydra) and sweep.best is not None:
        tell(f"search   {sweep.summary()}; to type it: {shlex.join(sweep.settings(sweep.best))}")


def is_search(hydra: HydraConf | DictConfig) -> bool:
    """Whether a sweep proposes its own settings and wants a value of each, as ``hydra/sweeper=optuna`` does.

    Args:
        hydra: Hydra's own node.
    """
    return "n_trials" in hydra.sweeper


def tell_progress(sweep_folder: Path, job_folder: Path) -> None:
    """Prints how far a sweep is, if the job has been run now and not taken over from earlier.

    Args:
        sweep_folder: Of the sweep.
        job_folder: Of the job that has ended.
    """
    try:
        sweep = Sweep.read(sweep_folder)
    except (UserError, OSError):  # somebody has removed the folder: the job itself tells of that
        return
    for job in sweep.jobs:
        if job.folder.name == job_folder.name and (job.ended or 0.0) >= sweep.began:
            tell(f"sweep    {sweep.varied(job)} {job.status}; {sweep.summary()}")


def count_jobs(config: DictConfig) -> int | None:
    """How many jobs a sweep is to have; ``None`` where its values cannot be read, which Hydra then tells.

    Args:
        config: As composed for the whole sweep, with Hydra's own node.
    """
    sweeper = config.hydra.sweeper
    if is_search(config.hydra):
        return int(sweeper.n_trials)
    varied = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    try:
        overrides = parser.parse_overrides([*varied, *config.hydra.overrides.task])
        return len(BasicSweeper.split_arguments(overrides, None)[0])
    except HydraException:
        return None
