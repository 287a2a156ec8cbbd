"""Writes the report of finished runs anew: ``python src/report.py run=runs/…``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import say
from cxrlab.entry import command_line
from cxrlab.errors import CheckpointError, UserError
from cxrlab.imports import quick_imports
from cxrlab.locks import claimed


def report(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[list[Path], dict[str, Any]]:
    """Writes ``report.md``, ``report.html``, figures and the model card into every run folder that is meant.

    Args:
        config: As composed from ``conf/report.yaml``.
        overrides: What was typed; not needed here.

    Returns:
        The pages that were written; and by name ``left_out``: the reason by folder for runs without a report.

    Raises:
        UserError: The configuration is wrong, or there is no run of which a report can be written.
    """
    problems = Problems()
    check_names(config, keys_of("report"), problems)
    problems.raise_if_any()
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.reports import write_model_card, write_report
        from cxrlab.reports.model_card import is_trained
        from cxrlab.reports.record import find_runs

    folders = find_runs([str(config.run)])
    if not folders:
        raise CheckpointError(
            f"run={config.run}: no run folder (with config.yaml and metrics.json) there; run folders are below runs/"
        )
    pages, left_out = [], {}
    for folder in folders:
        try:
            with claimed(folder):
                pages.append(write_report(folder).with_suffix(".html"))
                if is_trained(folder):
                    write_model_card(folder)
        except UserError as error:
            left_out[folder] = str(error)
        else:
            say(f"report   {pages[-1]}")
    if not pages:
        raise CheckpointError("\n".join(left_out.values()))
    for reason in left_out.values():
        say(f"left out {reason}")
    return pages, {"left_out": left_out}


def main() -> None:
    """The command line."""
    command_line("report", report)


if __name__ == "__main__":
    main()
