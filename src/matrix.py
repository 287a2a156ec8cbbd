"""Trains on each of several sets and tests on every other: ``python src/matrix.py train='[paper,cohen]'``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from cxrlab.console import command
from cxrlab.entry import command_line
from cxrlab.imports import quick_imports

if TYPE_CHECKING:
    from cxrlab.reports.matrix_page import Matrix

FAILED = 1
"""Exit status where a training or a cell failed; the page tells of the others."""


def matrix(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[Matrix, dict[str, Any]]:
    """Trains every row under every seed, tests it on every column, and says what is lost between them.

    Args:
        config: As composed from ``conf/matrix.yaml``.
        overrides: What was typed, for the record.

    Returns:
        What was found; and by name: ``page``, the path of ``matrix.html``, with ``matrix.json`` beside it.

    Raises:
        UserError: The configuration is wrong, or a set is not there; nothing was trained.
    """
    began = time.monotonic()
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.console import say, show, working
        from cxrlab.reports.matrix_page import terminal_matrix, write_matrix
        from cxrlab.steps.matrix import find_places, measure_matrix, plan_trainings, score_all, train_all
        from cxrlab.steps.matrix_plan import plan_matrix
        from cxrlab.train import train

    plan = plan_matrix(config)
    places = find_places(plan)
    trainings = plan_trainings(plan)
    models = len(trainings) + sum(len(row.checkpoints) for row in plan.rows)
    with working("matrix", len(trainings) + models * len(places) + len(plan.rows) + 1) as step:
        trained, failures = train_all(plan, trainings, train, step)
        scores = score_all(plan, trained, places, step)
        found = measure_matrix(plan, trained, places, scores, failures, step)
        step("writing the page")
        again = command("matrix", *overrides)
        page = write_matrix(Path(config.output_dir), found, time.monotonic() - began, again)
    show(terminal_matrix(found))
    say(f"matrix   {page}")
    return found, {"page": page}


def _job(config: DictConfig, overrides: Sequence[str]) -> None:
    found, _ = matrix(config, overrides)
    if found.failures:
        raise SystemExit(FAILED)


def main() -> None:
    """The command line."""
    command_line("matrix", _job, "type the same again: what was trained is kept")


if __name__ == "__main__":
    main()
