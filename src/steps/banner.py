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
from cxrlab.sweeps import is_first_job, is_sweep


def begin(
    run: RunFolder, config: DictConfig, datamodule: ChestXRayDataModule, table: LayerTable, facts: dict[str, Any]
) -> None:
    """One screen: data, network, machine, folder; of a sweep's jobs only the first fills one."""
    lines = ["SYNTHETIC data: these are drawn phantoms, no patients"] if datamodule.source.synthetic else []
    fingerprint = mf.fingerprint(datamodule.manifest)[:12]
    lines += [f"data     {datamodule.source.name}, {_shape(datamodule)}, fingerprint {fingerprint}"]
    lines += [f"         {line}" for line in _counts(datamodule)]
    lines += [f"WARNING  {warning}" for warning in datamodule.warnings]
    lines += ["", *str(table).splitlines(), ""]
    device = facts["gpu"] if facts["device"] == "cuda" else f"{facts['cpu']}, {facts['cores']} threads"
    lines += [f"device   {facts['device']} ({device}), {facts['precision']}, seed {config.seed}"]
    last = run.last_checkpoint()
    lines += [f"run      {short(run.path)}" + (", continued" if last else "")]
    say(*lines, loud=is_first_job())


def end(run: RunFolder, metrics: dict[str, Any], report: Path, card: Path | None = None) -> None:
    """The result in one sentence, which epoch it is of, what to open and what to type next.

    Args:
        run: Where it is.
        metrics: As ``metrics.json`` has them.
        report: That was written.
        card: The model card of a training; ``None`` after an evaluation.
    """
    test = metrics.get("test")
    if test:
        if same := one_answer(test):
            say(same)
        say(_result(test, metrics["synthetic"]), loud=is_sweep())
    for warning in metrics["warnings"]:
        say(f"WARNING  {warning}")
    if metrics["status"] == "interrupted":
        how = command("train", ckpt_path=short(run.path))
        say(f"interrupted after epoch {metrics['epochs']}; to go on: {how}")
    if card and metrics["weights"]:
        say(f"tested   {metrics['weights'].replace(' (', ' weights (', 1)}")
    say(f"open     {short(report.with_suffix('.html'))}")
    if card:
        curves = f"tensorboard --logdir {quoted(short(run.path.parent))}"
        say(f"next     {curves}  # the curves of every epoch")
        if metrics["weights"]:
            say(
                f"         {command('predict', 'input=…', ckpt_path=short(run.path))}  # scores images of yours",
                f"         {command('probe', ckpt_path=short(run.path))}  # what is left without the lungs",
            )


def _result(test: dict[str, Any], synthetic: bool) -> str:
    """``result   33 of 40 test images are right: accuracy 0.825 [0.680, 0.913], …``."""
    (tn, _), (_, tp) = test["confusion_matrix"]
    accuracy, auroc = test["accuracy"], test["auroc"]
    value = f"accuracy {accuracy}, {accuracy.method}"
    if auroc.value is not None:
        value = f"AUROC {auroc.value:.3f}, {value}"
    return f"result   {'SYNTHETIC: ' if synthetic else ''}{tn + tp} of {test['n']} test images are right: {value}"


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
