"""Writes a trained model as a file for other programs: ``python src/export.py ckpt_path=… format=onnx``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from cxrlab.console import say, show
from cxrlab.entry import command_line
from cxrlab.imports import quick_imports


def export(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes a model in another format, with all that is needed to use it, and checks that it gives the same scores.

    Args:
        config: As composed from ``conf/export.yaml``.
        overrides: What was typed; not needed here.

    Returns:
        What the JSON file beside the export says; and by name ``path`` (of the file), ``model`` and ``gate``.

    Raises:
        UserError: The checkpoint cannot be used or not be written in this format, the file's scores are others, or the
            configuration is wrong.
    """
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.runs import load_model
        from cxrlab.runs.auxiliary import choose_gate
        from cxrlab.steps import export as steps

    steps.check_plan(config)
    model = load_model(config.ckpt_path, list(config.trusted))
    gate = choose_gate(config.gate, model.gate)
    path, found = steps.write_checked(config, model, gate)
    for line in steps.lines(found, path, model, gate):
        say(line)
    if found["latency"] is not None:
        show(steps.latency_table(found["latency"]))
    return found, {"path": path, "model": model, "gate": gate}


def main() -> None:
    """The command line."""
    command_line("export", export)


if __name__ == "__main__":
    main()
