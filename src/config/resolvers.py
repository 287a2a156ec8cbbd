"""Interpolations that the configuration uses: for names of folders, and for what a sweep asks of the machine."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from cxrlab.config.parallel import parallel_jobs
from cxrlab.config.sweep_folder import sweep_dir

_LONGEST = 100  # characters of a job folder's name; many file systems allow 255 for the whole


def register() -> None:
    """Makes ``${run_name:…}`` and the others known; calling it again does nothing."""
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
    OmegaConf.register_new_resolver("predict_dir", predict_dir, replace=True)
    OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)
    OmegaConf.register_new_resolver("parallel_jobs", parallel_jobs, replace=True)
    OmegaConf.register_new_resolver("optuna_direction", optuna_direction, replace=True)
    # Jobs have configurations of their own, and yet write to the folder of their sweep: Hydra hands them this cache.
    OmegaConf.register_new_resolver("sweep_dir", _sweep_dir, replace=True, use_cache=True)


def run_name(choices: Mapping[str, str | None]) -> str:
    """The experiment that was chosen, or else the model."""
    return str(choices.get("experiment") or choices.get("model")).replace("/", "_")


def run_dir(ckpt_path: str | None, fresh: str) -> str:
    """The folder of the run that is continued; a fresh one where ``ckpt_path`` is null, or names no run."""
    folder = Path(re.sub(r"/checkpoints/[^/]+\.ckpt$", "", str(ckpt_path or ""))).expanduser()
    return str(folder) if ckpt_path and (folder / "config.yaml").is_file() else fresh


def predict_dir(overrides: Sequence[str]) -> str:
    """``scans_1f0c2a9b``: the same for the same command in any order, so that typing it again goes on with its folder.

    Args:
        overrides: As typed; what changes no row (batch size, lines of JSON) plays no part. With ``deidentify=true``
            the name says nothing of the input.
    """
    decisive = sorted(each for each in overrides if each.partition("=")[0] not in ("batch_size", "json", "accelerator"))
    given = next((each.partition("=")[2] for each in decisive if each.startswith("input=")), "")
    if any(re.fullmatch(r"deidentify=(true|yes|on|y|1)", each, re.IGNORECASE) for each in decisive):
        given = ""
    name = re.sub(r"[^A-Za-z0-9]+", "-", given.rstrip("/").rpartition("/")[2]).strip("-")[:40] or "files"
    return f"{name}_{hashlib.sha256(json.dumps([str(Path.cwd()), *decisive]).encode()).hexdigest()[:8]}"


def job_folder(number: int, overrides: Sequence[str]) -> str:
    """``3_dropout-0-0-0_image_size-128``: safe in any file system, shell and Hydra override (no ``=``, no brackets).

    What names the sweep is left out: the folder above bears its name.
    """
    parts = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key in ("experiment", "hparams_search"):
            continue
        clean = re.sub(r"[^A-Za-z0-9.]+", "-", value).strip("-")
        parts.append(f"{key.split('.')[-1].lstrip('+~')}-{clean}")
    return "_".join([str(number), *parts])[:_LONGEST].rstrip("-_.")


def optuna_direction(monitor_mode: str) -> str:
    """``minimize`` or ``maximize``, for ``min`` and ``max``; anything else is told by the jobs' own check."""
    return "maximize" if monitor_mode == "max" else "minimize"


def _sweep_dir(above: str, sweeper: DictConfig) -> str:
    root = sweeper._get_root()  # OmegaConf hands none to resolvers that have a cache
    assert isinstance(root, DictConfig)
    return sweep_dir(above, root)
