"""The folder that Hydra makes for a run before anyone has checked the command: removed if the run never begins."""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

_LEFT_BY_MISTAKES = (".lock", ".lock.holder", "failed.txt", "multirun.yaml", "sweep.json")
"""What a run folder, or that of a sweep, may hold before a run has begun; besides logs."""
_NOTED = "hydra.callbacks.new_folder"


class NewFolder(Callback):
    """Notes in Hydra's own configuration which folders a command is about to make; see :func:`remove_unused`."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the folder of a run is made."""
        _note(config, "run")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the folder of a sweep is made."""
        _note(config, "sweep")


def _note(config: DictConfig, kind: str) -> None:
    hydra_config = HydraConfig.instance()
    hydra_config.set_config(config)  # names of folders ask for it, and Hydra has not set it yet
    path = Path(config.hydra[kind].dir).absolute()
    missing = [str(each) for each in (path, *path.parents) if not each.exists()]
    with read_write(config.hydra), open_dict(config.hydra):
        OmegaConf.update(config, f"{_NOTED}.made", missing)
    hydra_config.set_config(config)


def remove_unused() -> None:
    """Removes the folders that this command has made, if no run began in them: only logs and locks are there."""
    config: Any = HydraConfig.instance().cfg
    made = OmegaConf.select(config, f"{_NOTED}.made") if config is not None else None
    if not made:
        return
    folder, *above = map(Path, made)
    if any(path.is_file() and not _is_left_by_mistake(path) for path in folder.rglob("*")):
        return
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(folder):
            root.removeHandler(handler)  # else the next line that is logged opens its file anew
            handler.close()  # Windows removes no open file
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # another run has begun beside it
        for each in above:
            each.rmdir()


def _is_left_by_mistake(path: Path) -> bool:
    return path.name in _LEFT_BY_MISTAKES or path.suffix == ".log"
