"""Options that are no files of ``conf/``: those of Hydra's plugins, and the variants of others.

Values of ``hydra/launcher`` and ``hydra/sweeper`` that suit this project cannot be files: Hydra would check such a file
against the plugin's own option of the same name, which is deprecated and, for optuna, an error. So they take its place.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

_JOBLIB = {
    "_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    # As many as there are cores, with 3.2 GB of memory each; one on a GPU. Every process gets its share of the cores.
    "n_jobs": "${parallel_jobs:${oc.select:trainer.accelerator,cpu}}",
    "pre_dispatch": "n_jobs",  # a job is handed out when a process is free for it: a kill leaves none in a queue
    "batch_size": "1",
}
_SUBMITIT: dict[str, Any] = {
    "submitit_folder": "${hydra.sweep.dir}/.submitit/%j",  # where jobs print to
    "tasks_per_node": 1,  # a job of a sweep uses one device
    "nodes": 1,
    "name": "${hydra.job.name}",
    "stderr_to_stdout": True,
}
# All jobs begin at once: it is for trying what Slurm will do. hydra.sweeper.max_batch_size has fewer at a time.
_SUBMITIT_LOCAL = {
    "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    **_SUBMITIT,
    "timeout_min": 1440,  # minutes, of each job
    "cpus_per_task": 1,  # threads of each job
    "gpus_per_node": None,
    "mem_gb": None,
}
# An array of jobs. Run folders must lie where all nodes see them; repeating the command goes on with jobs Slurm ended.
_SUBMITIT_SLURM = {
    "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    **_SUBMITIT,
    "timeout_min": 240,
    "cpus_per_task": 8,
    "gpus_per_node": 1,  # null with trainer=cpu
    "mem_gb": 32,
    "partition": None,
    "account": None,
    "qos": None,
    "constraint": None,
    "array_parallelism": 16,  # jobs at once
    "setup": None,  # lines of shell before each job, which activate an environment for example
    "additional_parameters": {},  # others of sbatch's options
}
_OPTUNA = {
    "_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
    # Seeded, and finished jobs are taken over: a search that is repeated proposes what it had proposed.
    "sampler": {"_target_": "optuna.samplers.TPESampler", "seed": 0, "n_startup_trials": 10, "multivariate": False},
    "direction": "${optuna_direction:${monitor_mode}}",
    "storage": None,  # the run folders are what remembers
    "study_name": None,
    "n_trials": 20,  # more continue a search
    "n_jobs": 1,  # settings proposed at a time; as many as hydra.launcher.n_jobs with hydra/launcher=joblib
    "max_failure_rate": 0.0,  # of those proposed at a time; above, the search ends
    "search_space": None,
    "custom_search_space": None,
    "params": None,  # key: interval, choice or range, see conf/hparams_search
}
OPTIONS = {
    ("hydra/launcher", "joblib"): _JOBLIB,
    ("hydra/launcher", "submitit_local"): _SUBMITIT_LOCAL,
    ("hydra/launcher", "submitit_slurm"): _SUBMITIT_SLURM,
    ("hydra/sweeper", "optuna"): _OPTUNA,
}
"""By group and name."""


def register() -> None:
    """Makes the options known, whether or not their plugins are installed; calling it again does nothing."""
    Plugins.instance()  # has the plugins store theirs, before ours take their place
    for (group, name), node in OPTIONS.items():
        ConfigStore.instance().store(group=group, name=name, node=node, provider="cxrlab")
    for group, options in yaml.safe_load(variants()).items():
        for name, node in options.items():
            package = "_global_" if group == "experiment" else None
            ConfigStore.instance().store(group=group, name=name, node=node, package=package, provider="cxrlab")


@cache
def variants() -> str:
    """The text of ``conf/_variants.yaml``: by group and name, options that are others with a few other values."""
    return (resources.files("cxrlab.conf") / "_variants.yaml").read_text(encoding="utf-8")
