"""Judges and scores images with a trained model: ``python src/predict.py ckpt_path=… input=scans/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from cxrlab.entry import command_line
from cxrlab.imports import quick_imports


def predict(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Looks at files, and says of each whether it may be scored, and its score.

    Args:
        config: As composed from ``conf/predict.yaml``.
        overrides: What was typed.

    Returns:
        The summary: ``files``; how many of each of ``verdicts``, ``kinds`` (of what was refused) and ``labels``;
        ``looked_at`` (now, not before) and ``seconds``. And the objects by name: ``predictor``, ``table``, ``journal``.

    Raises:
        UserError: The model, the gate or the input cannot be used, or the configuration is wrong.
    """
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.inference import list_inputs
        from cxrlab.steps.predict import begin, check_plan, end, load_predictor, look_at_files

    plan = check_plan(config)
    given = [config.input] if isinstance(config.input, str) else list(config.input)
    with plan.hidden(given):
        listed = list_inputs(given)
    predictor = load_predictor(config, plan)
    begin(plan, predictor, listed)
    with plan.hidden(listed.paths):
        table, summary, journal = look_at_files(plan, predictor, listed, config)
    end(plan, predictor, summary, journal)
    return summary, {"predictor": predictor, "table": table, "journal": journal}


def main() -> None:
    """The command line."""
    command_line("predict", predict, "type the same again")


if __name__ == "__main__":
    main()
