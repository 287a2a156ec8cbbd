"""Gets a public collection: ``python src/download.py data=cohen``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cxrlab.config import Problems, build, check_names, keys_of
from cxrlab.console import say
from cxrlab.downloads import COLLECTIONS, Collection, download
from cxrlab.entry import command_line
from cxrlab.errors import ConfigError, check_choice, check_range


def get(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Gets the collection that a data set reads, and lists what has come.

    Args:
        config: As composed from ``conf/download.yaml``.
        overrides: What was typed; not needed here.

    Returns:
        ``images`` and ``patients``, the numbers that the source lists; and by name ``folder`` and ``manifest``.

    Raises:
        UserError: The configuration is wrong, there is nothing to get, or it cannot be had.
    """
    problems = Problems()
    # Only the source of a data set matters here, and what a run would set is missing.
    others = [str(key) for key in config if key != "data"]
    check_names(OmegaConf.masked_copy(config, others), keys_of("download"), problems)
    with problems.guard("timeout", config):
        check_range("timeout", config.timeout, 0, 3600, low_open=True)
    with problems.guard("force", config):
        check_choice("force", config.force, (True, False))
    problems.raise_if_any()
    collection = _collection(config)
    folder = download(collection, config.to, config.url, config.sha256, config.force, config.timeout)
    source = build(config.data.source, root=str(folder))
    manifest = source.manifest()
    step = source.flow.steps[-1]
    say(f"listed   {step.images:,} images, {step.patients:,} patients (an unknown one counts as one per image)")
    for note in source.notes:
        say(f"note     {note}")
    if folder.parent.absolute() != Path(config.data.source.root).expanduser().parent.absolute():
        say(f"next     CXRLAB_DATA={folder.parent.absolute()} before a command makes it look there")
    return {"images": step.images, "patients": step.patients}, {"folder": folder, "manifest": manifest}


def _collection(config: DictConfig) -> Collection:
    known = f"data={', data='.join(COLLECTIONS)}"
    if config.get("data") is None:
        raise ConfigError(f"data: must be set; there is something to download for {known}")
    source = str(config.data.source._target_).rpartition(".")[2]
    for collection in COLLECTIONS.values():
        if collection.source == source:
            return collection
    raise ConfigError(f"data: there is nothing to download for {source}; there is for {known}")


def main() -> None:
    """The command line."""
    command_line("download", get)


if __name__ == "__main__":
    main()
