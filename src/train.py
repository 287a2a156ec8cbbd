"""Trains a chest X-ray classifier and reports what came of it: ``python train.py model=paper_cnn``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cxrlab.console import as_tree, show
from cxrlab.entry import INTERRUPTED, command_line
from cxrlab.errors import DivergedError
from cxrlab.imports import quick_imports
from cxrlab.sweeps import is_sweep


def train(config: DictConfig, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs one training, from a configuration to a report.

    Args:
        config: As composed from ``conf/train.yaml``.
        overrides: What was typed: for the record, and to tell what may not change when a run is continued.

    Returns:
        The contents of ``metrics.json``; and the run's objects by name: ``run``, ``module``, ``datamodule``,
        ``trainer``.

    Raises:
        DivergedError: Loss or weights became NaN or infinite; everything was written, of the epochs before that.
        UserError: Something was asked for that cannot be done; nothing was overwritten.
    """
    with quick_imports():  # not above: they take seconds, and --help or a misspelt option needs none of them
        from cxrlab.reports import write_model_card, write_report
        from cxrlab.runs import RunFolder, environment
        from cxrlab.runs.checkpoint import final_checkpoint, load_checkpoint, metadata
        from cxrlab.runs.weights import check_weights
        from cxrlab.steps import banner, results, saliency
        from cxrlab.steps.assembly import assemble
        from cxrlab.steps.fit import fit
        from cxrlab.steps.gate import train_gate
        from cxrlab.steps.lungs import train_lungs

    environment.reset_peak_memory()
    of_another_kind = {"segment": train_lungs, "gate": train_gate}
    if config.task in of_another_kind:
        return of_another_kind[config.task](config, overrides)
    run = RunFolder(config.output_dir)
    if config.ckpt_path:
        run = RunFolder.of(config.ckpt_path)
        config = run.resume_config(config, overrides)
        if config.task in of_another_kind:
            return of_another_kind[config.task](config, overrides)
        if run.status() == "finished":
            banner.already_finished(run, config.trainer.max_epochs)
            write_report(run.path)
            run.drop_training_state()
            write_model_card(run.path)
            return run.results(), {"run": run}
    else:
        run.check_free()
    parts = assemble(config)
    parts.datamodule.setup()
    run.check_same_data(parts.datamodule.manifest)
    parts.prepare(resumed=run.last_checkpoint() is not None)
    run.begin(config, overrides, resumed=bool(config.ckpt_path))
    parts.module.metadata = metadata(config, parts.datamodule, parts.decision.unfitted(results.NOT_OVER))
    table = parts.layer_table()
    facts = environment.describe(parts.trainer, config.seed, table)
    run.record(facts, table, parts.datamodule.manifest, parts.datamodule.flow.table())
    banner.begin(run, config, parts.datamodule, table, facts)

    ending = fit(parts, run, config)
    interrupted = ending.status == "interrupted"
    weights = parts.checkpoints.path()
    scored = {}
    if weights is not None:
        state = load_checkpoint(weights)["state_dict"]
        check_weights(weights, state, parts.module.state_dict())
        parts.module.load_state_dict(state)
        scored = results.score(parts.module, parts.datamodule, config.trainer.accelerator, config.trainer.precision)
        scored = results.decide(parts.decision, scored, finished=not interrupted, seed=config.seed)
        parts.module.metadata |= scored["test"].decided.as_dict()
        if parts.saliency is not None:
            saliency.show_test(parts, run, scored["test"])
        results.log(parts.trainer, config, scored, [*run.typed(), *overrides])

    if config.keep_weights and scored and not interrupted:
        run.keep_weights(final_checkpoint(parts.module, parts.checkpoints.describe(), parts.gate))
    head = {
        **ending.head(),
        "epochs": parts.checkpoints.epochs,
        "synthetic": parts.datamodule.source.synthetic,
        "warnings": [
            *parts.seen(),
            *results.loss_warnings(parts.history.rows),
            *results.training_warnings(parts.datamodule, config.weights),
            *results.decision_warnings(scored),
        ],
        "weights": parts.checkpoints.describe() if scored else None,
    }
    metrics = results.write(run, head, scored, parts.history.epoch_seconds, parts.history.wall_seconds)
    report = write_report(run.path, parts.datamodule.pixels)
    if not interrupted:
        run.drop_training_state()
    banner.end(run, metrics, report, write_model_card(run.path))
    if ending.reason:
        raise DivergedError(f"{run.path}: {ending.reason}")
    return metrics, {"run": run, "module": parts.module, "datamodule": parts.datamodule, "trainer": parts.trainer}


def _job(config: DictConfig, overrides: Sequence[str]) -> float | None:
    """Trains; in a sweep, returns the best value of ``monitor``, which is what a search optimises."""
    best = None
    if config.print_config:
        show(as_tree("config", OmegaConf.to_container(config, resolve=True)))
    if is_sweep():
        with quick_imports():
            from cxrlab.sweeps.job import run_job
        metrics, best = run_job(config, overrides, train)
    else:
        metrics, _ = train(config, overrides)
    if metrics["status"] == "interrupted":
        raise SystemExit(INTERRUPTED)  # ends a sweep, too
    return best


def main() -> None:
    """The command line."""
    command_line("train", _job, "continue the run with ckpt_path=<its folder>")


if __name__ == "__main__":
    main()
