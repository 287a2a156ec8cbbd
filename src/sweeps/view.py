"""What a sweep says about itself: where it stands when it begins, and a line after each of its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cxrlab.imports import quick_imports


def is_sweep() -> bool:
    """Whether this process runs a job of a sweep, rather than a single run."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def is_first_job() -> bool:
    """Whether this process runs the first job of a sweep, which says what all of them have in common."""
    if not is_sweep() or OmegaConf.is_missing(HydraConfig.get().job, "num"):  # which it is before the first job
        return False
    return HydraConfig.get().job.num == 0


class LiveView(Callback):
    """Tells how far a sweep is. Launchers carry it to where the jobs run; it knows nothing but the sweep's files."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Announces the sweep: new, continued, or over already."""
        with quick_imports():  # large libraries, which a single run does not need here
            from cxrlab.sweeps.announce import announce

        announce(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Says what a search has found, and how to compare the runs."""
        from cxrlab.sweeps.announce import tell_end

        tell_end(config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Prints how many jobs are over, the best value so far and the time left."""
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        from cxrlab.sweeps.announce import tell_progress

        tell_progress(Path(config.hydra.sweep.dir), Path(config.hydra.runtime.output_dir))
