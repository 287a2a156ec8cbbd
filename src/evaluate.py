"""Evaluates a trained model, on its own data or on others: ``python src/evaluate.py ckpt_path=… data=…``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig

from cxrlab.entry import command_line
from cxrlab.imports import quick_imports


def evaluate(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores images with a trained model, exactly as training did at its end.

    Its own test images; or every image of another collection that it was neither trained nor validated on; or, if
    ``split`` says so, those of a split, whether the model knows them or not.

    Args:
        config: As composed from ``conf/evaluate.yaml``.
        overrides: What was typed: for the record, and to tell what may not be overridden.

    Returns:
        The contents of ``metrics.json``; and the objects by name: ``run``, ``module``, ``datamodule``.

    Raises:
        UserError: The checkpoint or the data cannot be used, or the configuration is wrong.
    """
    began = time.monotonic()
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.models import ClassifierModule
        from cxrlab.models.layer_table import layer_table
        from cxrlab.reports import write_report
        from cxrlab.runs import RunFolder, environment
        from cxrlab.steps import banner, elsewhere, results
        from cxrlab.steps.assembly import assemble_evaluation

    environment.reset_peak_memory()
    run = RunFolder(config.output_dir)
    run.check_free()
    other_data = config.get("data") is not None
    config, model, datamodule = assemble_evaluation(config, overrides)
    place = elsewhere.prepare(config, model, datamodule, overrides, other_data=other_data)
    run.begin(config, overrides)
    module = ClassifierModule(model.network)
    table = layer_table(model.network, datamodule.preprocessing.shape)
    trainer = results.evaluation_trainer(config.accelerator, config.precision)
    facts = environment.describe(trainer, config.seed, table)

    scored = results.score(module, datamodule, config.accelerator, config.precision, (place.split,))[place.split]
    decided = model.decided
    if config.get("prevalence") is not None:
        decided = replace(decided, prevalence=config.prevalence)
    scored, overlap = place.settle(datamodule, scored.under(decided))
    run.record(facts, table, datamodule.manifest, datamodule.flow.table())
    place.baselines(run, datamodule, scored.predictions, config.seed)
    head = {
        "status": "finished",
        "epochs": 0,
        "synthetic": datamodule.source.synthetic,
        "warnings": [
            *overlap,
            *place.warnings,
            *results.unread_warnings(datamodule),
            *datamodule.warnings,
            *decided.warnings(),
        ],
        "weights": f"{model.metadata.get('weights', 'unfinished run')} of {model.path}",
        "evaluation": place.facts(datamodule),
    }
    metrics = results.write(run, head, {place.split: scored}, epoch_seconds=[], wall_seconds=time.monotonic() - began)
    banner.end(run, metrics, write_report(run.path, datamodule.pixels))
    return metrics, {"run": run, "module": module, "datamodule": datamodule}


def main() -> None:
    """The command line."""
    command_line("evaluate", evaluate)


if __name__ == "__main__":
    main()
