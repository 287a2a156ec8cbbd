"""How far a sweep is, as its files tell: the same for every launcher, on this machine or another."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cxrlab.console import duration
from cxrlab.errors import ConfigError
from cxrlab.files import write_json
from cxrlab.locks import is_claimed
from cxrlab.runs.folder import RunFolder
from cxrlab.untrusted import mapping, read_mapping, read_table, read_yaml

NOTE = "sweep.json"
"""In the folder of a sweep: how many jobs there are, what was typed, and when."""
FAILED = "failed.txt"
"""In the folder of a job that ended with an error: what was wrong."""
_JOB = re.compile(r"(\d+)(_|$)")  # a job's folder, see cxrlab.config.resolvers.job_folder


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        folder: Its run folder.
        status: ``finished``, ``running``, ``failed`` (an error), ``interrupted`` (Ctrl-C), ``stopped`` (a kill), or
            ``waiting``.
        epoch: Epochs that are over.
        epochs: Epochs that were asked for; ``None`` where that is not known yet.
        monitor: What says which epoch is best.
        best: Its best value over the epochs; ``None`` before the first is over, and for ``task=segment``.
        seconds: That the epochs took.
        overrides: What was typed for it.
        val_is_test: Whether its validation images are its test images.
        ended: When it finished or failed, in seconds since 1970; ``None`` where it has not.
        larger_is_better: Whether ``best`` is the largest value, or the smallest.
    """

    folder: Path
    status: str
    epoch: int = 0
    epochs: int | None = None
    monitor: str | None = None
    best: float | None = None
    seconds: float = 0.0
    overrides: tuple[str, ...] = ()
    val_is_test: bool = False
    ended: float | None = None
    larger_is_better: bool = False

    @property
    def number(self) -> int:
        """Its place in the sweep, from 0."""
        found = _JOB.match(self.folder.name)
        return int(found[1]) if found else -1


@dataclass(frozen=True)
class Sweep:
    """The jobs of a sweep at one moment.

    Attributes:
        folder: Of the sweep.
        total: Jobs that there are to be; ``None`` where that was never noted.
        began: When the command was typed last, in seconds since 1970.
        typed: For all jobs alike, and what they vary in.
        jobs: Those that have a folder, by number.
    """

    folder: Path
    total: int | None
    began: float
    typed: tuple[str, ...]
    jobs: tuple[Job, ...]

    @classmethod
    def read(cls, folder: Path) -> Sweep:
        """Looks at the files of a sweep.

        Raises:
            ConfigError: The folder is not that of a sweep.
        """
        jobs = [path for path in folder.iterdir() if path.is_dir() and _JOB.match(path.name)] if folder.is_dir() else []
        noted = read_mapping(folder / NOTE)
        if not noted and not jobs:
            raise ConfigError(f"{folder}: not the folder of a sweep, which holds {NOTE} and one folder for each job")
        found = sorted(map(read_job, jobs), key=lambda job: job.number)
        total, began = noted.get("jobs"), noted.get("began")
        return cls(
            folder,
            total if isinstance(total, int) else None,
            float(began) if isinstance(began, int | float) else 0.0,
            _texts(noted.get("typed")),
            tuple(found),
        )

    def count(self, *status: str) -> int:
        """Jobs in one of the states."""
        return sum(job.status in status for job in self.jobs)

    @property
    def is_over(self) -> bool:
        """Whether no job is left that might still be run."""
        return self.count("finished", "failed") >= max(self.total or 0, len(self.jobs))

    @cached_property
    def best(self) -> Job | None:
        """The job whose monitored value is best, if all monitor the same."""
        known = [job for job in self.jobs if job.best is not None and math.isfinite(job.best)]
        if not known or len({(job.monitor, job.larger_is_better) for job in known}) > 1:
            return None
        return (max if known[0].larger_is_better else min)(known, key=lambda job: job.best or 0.0)

    def varied(self, job: Job) -> str:
        """What distinguishes a job from the sweep's others: ``seed=3``."""
        return " ".join(self.settings(job)) or f"job {job.number}"

    def settings(self, job: Job) -> list[str]:
        """What distinguishes a job from the sweep's others, as one would type it."""
        typed = set(map(_plain, self.typed))  # Hydra spells some values in its own way
        return [each for each in job.overrides if _plain(each) not in typed]

    def seconds_left(self, now: float) -> float | None:
        """By the pace since the command was typed last; ``None`` before a job has finished since."""
        done = sum(job.status == "finished" and (job.ended or 0.0) >= self.began for job in self.jobs)
        left = (self.total or len(self.jobs)) - self.count("finished", "failed")
        return left * (now - self.began) / done if done and left > 0 else None

    def summary(self, now: float | None = None) -> str:
        """``4 of 12 jobs finished (1 failed), best val/loss 0.1234 (seed=3), about 25 min left``."""
        others = ("failed", "running", "interrupted", "stopped")
        states = [f"{self.count(name)} {name}" for name in others if self.count(name)]
        total = self.total if self.total is not None else len(self.jobs)
        parts = [f"{self.count('finished')} of {total} jobs finished" + (f" ({', '.join(states)})" if states else "")]
        if self.best is not None:
            remark = "; its validation images are its test images" if self.best.val_is_test else ""
            parts.append(f"best {self.best.monitor} {self.best.best:.4f} ({self.varied(self.best)}{remark})")
        left = self.seconds_left(time.time() if now is None else now)
        if left is not None:
            parts.append(f"about {duration(left)} left")
        return ", ".join(parts)


def note_begin(folder: Path, jobs: int | None, typed: Sequence[str]) -> None:
    """Writes down that a sweep of so many jobs begins or goes on now.

    Args:
        folder: Of the sweep.
        jobs: How many there are; ``None`` where that is not known.
        typed: What was typed.
    """
    write_json(folder / NOTE, {"jobs": jobs, "typed": list(typed), "began": time.time()})


def read_job(folder: Path) -> Job:
    """Looks at one job's files; what another process is just writing counts as not there yet."""
    run = RunFolder(folder)
    config, rows = read_mapping(run.config), _rows(run.history)
    monitor, larger = str(config.get("monitor") or "") or None, config.get("monitor_mode") == "max"
    epochs = mapping(config.get("trainer")).get("max_epochs")
    return Job(
        folder=folder,
        status=_status(run),
        epoch=len(rows),
        epochs=epochs if isinstance(epochs, int) else None,
        monitor=monitor,
        best=_best(rows, monitor, larger),
        seconds=sum(number for row in rows if not math.isnan(number := _number(row.get("seconds")))),
        overrides=_overrides(run),
        val_is_test=mapping(config.get("data")).get("val") == "test",
        ended=_ended(run),
        larger_is_better=larger,
    )


def best_monitored(run: RunFolder) -> float | None:
    """The best value of a run's ``monitor`` over its epochs, as ``metrics.csv`` has it.

    Args:
        run: With a configuration.

    Returns:
        The value; infinitely bad where every epoch's is NaN; ``None`` where no epoch has one.
    """
    config, rows = run.saved_config(), _rows(run.history)
    larger = config.get("monitor_mode") == "max"
    best = _best(rows, config.get("monitor"), larger)
    return (-math.inf if larger else math.inf) if best is not None and math.isnan(best) else best


def _status(run: RunFolder) -> str:
    status = read_mapping(run.metrics).get("status")
    if status == "finished":
        return "finished"
    if is_claimed(run.path):
        return "running"
    if (run.path / FAILED).is_file():
        return "failed"
    return str(status or ("stopped" if run.config.is_file() else "waiting"))


def _best(rows: Sequence[dict[str, str]], monitor: str | None, larger: bool) -> float | None:
    values = [_number(row[monitor]) for row in rows if monitor and row.get(monitor)]
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return values[0] if values else None
    return max(numbers) if larger else min(numbers)


def _rows(history: Path) -> list[dict[str, str]]:
    try:
        table = read_table(history, dtype=str, keep_default_na=False)
    except (OSError, ValueError):
        return []
    return [{str(key): str(value) for key, value in row.items()} for row in table.to_dict("records")]


def _number(text: str | None) -> float:
    """NaN where there is none."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _overrides(run: RunFolder) -> tuple[str, ...]:
    try:
        return _texts(read_yaml(run.overrides))
    except (OSError, ValueError):
        return ()


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _ended(run: RunFolder) -> float | None:
    times = [path.stat().st_mtime for path in (run.metrics, run.path / FAILED) if path.is_file()]
    return max(times, default=None)


def _plain(override: str) -> str:
    return "".join(override.split()).casefold()
