"""What a run says on the screen: a banner before training, a verdict after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from cxrlab.console import command, quoted, say, short
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.datamodules import manifest as mf
from cxrlab.models.layer_table import LayerTable
from cxrlab.reports.cautions import one_answer
from cxrlab.runs.folder import RunFolder


def begin(
    run: RunFolder, config: DictConfig, datamodule: ChestXRayDataModule, table: LayerTable, facts: dict[str, Any]
) -> None:
    """One screen: data, network, machine, folder."""
    lines = ["SYNTHETIC data: these are drawn phantoms, no patients"] if datamodule.source.synthetic else []
    fingerprint = mf.fingerprint(datamodule.manifest)[:12]
    lines += [f"data     {datamodule.source.name}, {_shape(datamodule)}, fingerprint {fingerprint}"]
    lines += [f"         {line}" for line in _counts(datamodule)]
    lines += [f"WARNING  {warning}" for warning in datamodule.warnings]
    lines += ["", *table.render().splitlines(), ""]
    device = facts["gpu"] if facts["device"] == "cuda" else f"{facts['cpu']}, {facts['cores']} threads"
    lines += [f"device   {facts['device']} ({device}), {facts['precision']}, seed {config.seed}"]
    last = run.last_checkpoint()
    lines += [f"run      {short(run.path)}" + (", continued" if last else "")]
    say(*lines)


def end(run: RunFolder, metrics: dict[str, Any], report: Path, card: Path | None = None) -> None:
    """The result with its interval, and where everything is; ``card`` is the model card of a training."""
    test = metrics.get("test")
    if test:
        (tn, _), (_, tp) = test["confusion_matrix"]
        accuracy = test["accuracy"]
        marked = "SYNTHETIC " if metrics["synthetic"] else ""
        if same := one_answer(test):
            say(same)
        value = f"accuracy {accuracy['value']:.3f} [{accuracy['low']:.3f}, {accuracy['high']:.3f}]"
        say(f"{marked}test: {tn + tp} of {test['n']} right, {value}, {accuracy['method']}")
    for warning in metrics["warnings"]:
        say(f"WARNING  {warning}")
    if metrics["status"] == "interrupted":
        how = command("train", ckpt_path=short(run.path))
        say(f"interrupted after epoch {metrics['epochs']}; to go on: {how}")
    above = run.path.parent
    say(f"report   {short(report.with_suffix('.html'))}")
    if card:
        say(f"card     {short(card)}")
    if card and metrics["weights"]:
        say(f"use      {command('predict', 'input=…', ckpt_path=short(run.path))}")
    say(f"curves   tensorboard --logdir {quoted(short(above))}")
    if (above / "multirun.yaml").is_file():  # Hydra's mark of a sweep
        say(f"compare  {command('compare', runs=short(above))}")


def already_finished(run: RunFolder, max_epochs: int) -> None:
    """Says that there is nothing to continue, and what to do where more was wanted."""
    epochs = run.results()["epochs"]
    say(f"{short(run.path)} is finished ({epochs} epochs); nothing to do")
    if max_epochs > epochs:
        say(
            "more epochs cannot be added: a finished run keeps weights but no optimizer state; "
            "begin a new run with trainer.max_epochs=… and without ckpt_path"
        )


def _shape(datamodule: ChestXRayDataModule) -> str:
    size = datamodule.preprocessing
    return f"{size.height}x{size.width}x{size.channels}"


def _counts(datamodule: ChestXRayDataModule) -> list[str]:
    """Images and people per split and class."""
    lines = []
    for split in mf.SPLITS:
        rows = datamodule.manifest.iloc[datamodule.rows(split)]
        per_class = ", ".join(f"{int((rows['label'] == label).sum())} {name}" for name, label in mf.LABELS.items())
        unknown = int((rows["patient_id"] == "").sum())
        people = rows.loc[rows["patient_id"] != "", "patient_id"].nunique()
        whose = [f"{people} patients"] if people else []
        whose += [f"{unknown} images of unknown patients"] if unknown else []
        same = " = the test images" if split == "val" and datamodule.partition.val_is_test else ""
        lines.append(f"{split:<5} {len(rows):>4} images: {per_class}; {', '.join(whose)}{same}")
    return lines
