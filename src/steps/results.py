"""From weights to results: scores of every image, metrics with intervals, and the files that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger

from cxrlab.callbacks.figures import add_score_figures
from cxrlab.checks.columns import ALPHA
from cxrlab.checks.counting import uneven_loss
from cxrlab.config.sweep_folder import UNINFLUENTIAL
from cxrlab.console import key_of
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.datamodules import manifest as mf
from cxrlab.errors import DivergedError
from cxrlab.evaluation import summarise
from cxrlab.evaluation.decision import FIXED, Decided, Decision, consequences
from cxrlab.evaluation.estimate import Floats
from cxrlab.evaluation.statistics import METRICS
from cxrlab.files import write_json
from cxrlab.models import ClassifierModule
from cxrlab.runs.environment import peak_memory_mb
from cxrlab.runs.folder import RunFolder
from cxrlab.steps.overlap import Known
from cxrlab.steps.quiet import quiet_lightning


@dataclass(frozen=True)
class Scored:
    """One split after a pass through the network.

    Attributes:
        predictions: The split's rows of the manifest with ``score``, the network's, in [0, 1]; and ``calibrated``, the
            probability that is made of it, where anything is.
        logged: What the LightningModule logged, by name: of scores, called at 0.5.
        decided: How scores become probabilities and calls.
    """

    predictions: pd.DataFrame
    logged: dict[str, float]
    decided: Decided = FIXED

    @property
    def probabilities(self) -> Floats:
        """Of Positive, shape (n,): calibrated ones where there are any, else the scores."""
        column = "calibrated" if self.decided.calibrated else "score"
        return self.predictions[column].to_numpy(dtype="float64")

    def without(self, known: pd.Series[str]) -> Scored:
        """Without the images that are ``film`` or ``patient`` of the training; logged are then no metrics."""
        kept = known[self.predictions.index] == ""
        return self if kept.all() else replace(self, predictions=self.predictions[kept], logged={})

    def result(self) -> str:
        """``31 of 44 right (0.705 [0.558, 0.818]), AUROC 0.71 [0.55, 0.84]``."""
        if not len(self.predictions):
            return "none is left"
        found = self.summary()
        (tn, _), (_, tp) = found["confusion_matrix"]
        return f"{tn + tp} of {found['n']} right ({found['accuracy']}), AUROC {found['auroc']}"

    def under(self, decided: Decided) -> Scored:
        """The same scores under a decision."""
        table = self.predictions.drop(columns="calibrated", errors="ignore")  # a manifest may bring another model's
        if decided.calibrated:
            table = table.assign(calibrated=decided.calibration(table["score"].to_numpy()))
        return replace(self, predictions=table, decided=decided)

    def summary(self) -> dict[str, Any]:
        """Metrics with intervals, see :func:`cxrlab.evaluation.summarise`."""
        labels, people = self.predictions["label"].to_numpy(), mf.people(self.predictions).to_numpy()
        return summarise(labels, self.probabilities, people, threshold=self.decided.threshold)

    def consequences(self) -> dict[str, Any]:
        """What the decision does to these images, see :func:`cxrlab.evaluation.decision.consequences`."""
        table = self.predictions
        people = mf.people(table).to_numpy()
        return consequences(self.decided, table["label"].to_numpy(), table["score"].to_numpy(), people)


def score(
    module: ClassifierModule,
    datamodule: ChestXRayDataModule,
    accelerator: str,
    precision: str,
    splits: tuple[str, ...] = ("val", "test"),
) -> dict[str, Scored]:
    """Scores validation and test images, on one path for training's end and for ``evaluate.py``.

    Args:
        module: With the weights to evaluate.
        datamodule: Set up.
        accelerator: As in the trainer's configuration.
        precision: As in the trainer's configuration.
        splits: Which ones.

    Returns:
        By split.

    Raises:
        DivergedError: A score is NaN.
    """
    scored = {}
    for split in splits:
        trainer = evaluation_trainer(accelerator, precision)
        run_pass = trainer.validate if split == "val" else trainer.test
        with quiet_lightning():
            logged = run_pass(module, datamodule=datamodule, verbose=False)[0]
        rows, scores = module.passes[split].collected()
        broken = np.flatnonzero(~np.isfinite(scores))
        if len(broken):
            path = datamodule.manifest["path"].iloc[rows[broken[0]]]
            raise DivergedError(
                f"{len(broken)} of {len(scores)} {split} images have no score, since the network's numbers leave their "
                f"range, {path} for one; precision=32-true has the widest, or train again with a lower optimizer.lr"
            )
        table = datamodule.manifest.iloc[rows].assign(score=scores)
        logs = {name: float(value) for name, value in logged.items()}
        scored[split] = Scored(table, logs).under(FIXED)
    return scored


NOT_OVER = "training is not over"
"""Why nothing was fitted yet: what is fitted belongs to the weights that a run ends with."""


def decide(decision: Decision, scored: dict[str, Scored], *, finished: bool, seed: int) -> dict[str, Scored]:
    """Fits calibration and threshold to the validation images, and applies them to every split.

    Args:
        decision: What was asked for.
        scored: With ``val``.
        finished: Whether training came to its end; before, nothing is fitted.
        seed: Of the threshold's interval.
    """
    if finished:
        table = scored["val"].predictions
        labels, scores = table["label"].to_numpy(), table["score"].to_numpy()
        decided = decision.fit(labels, scores, mf.people(table).to_numpy(), seed=seed)
    else:
        decided = decision.unfitted(NOT_OVER)
    return {split: each.under(decided) for split, each in scored.items()}


def evaluation_trainer(accelerator: str, precision: str) -> pl.Trainer:
    """A Trainer that only passes images through a network: no logger, no checkpoints, no bar."""
    with quiet_lightning():
        return pl.Trainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )


def predictions(scored: dict[str, Scored]) -> pd.DataFrame:
    """Every scored image once, in the manifest's order: validation and test may be the same images."""
    table = pd.concat([each.predictions for each in scored.values()])
    return table[~table.index.duplicated()].sort_index()


def decision_warnings(scored: dict[str, Scored]) -> list[str]:
    """What a reader has to know of calibration and threshold."""
    return next(iter(scored.values())).decided.warnings() if scored else []


def training_warnings(datamodule: ChestXRayDataModule, weights: str) -> list[str]:
    """What a reader has to know before the first number of a training."""
    found = [*unread_warnings(datamodule), *datamodule.warnings]
    if weights == "best" and datamodule.partition.val_is_test:
        found.append(
            "the epoch whose weights are evaluated was chosen on the test images (weights=best, data.val=test)"
        )
    return found


_HUGE_LOSS = 10.0  # 0.5 for every image costs 0.69; a mean of 10 is a probability of 5e-5 for what is there


def loss_warnings(history: list[dict[str, float]]) -> list[str]:
    """Whether a training has diverged without leaving the range of numbers; by its rows of ``metrics.csv``."""
    loss = history[-1]["train/loss"] if history else 0.0
    if loss <= _HUGE_LOSS:
        return []
    found = f"the training diverged: the mean loss of epoch {len(history)} is {loss:.3g}"
    return [f"{found}, and answering 0.5 to every image costs 0.69; begin a new run with a lower optimizer.lr"]


def unread_warnings(datamodule: ChestXRayDataModule) -> list[str]:
    """Whether images that could not be read are of one label rather than the other."""
    lost, kept = datamodule.lost, datamodule.manifest
    if lost.empty or pd.concat([kept["label"], lost["label"]]).nunique() < 2:
        return []
    p, counts, _ = uneven_loss(kept, lost)
    said = f"images could not be read more often under one label, so that what is left is a selection: {counts}"
    return [said] if p < ALPHA else []


def overlap_warnings(known: Known, name: str, results: str = "") -> list[str]:
    """Which evaluated images the model knows from its training.

    Args:
        known: Of all images.
        name: Of the checkpoint's file.
        results: With and without them, and whether they are left out, where there are some.
    """
    if known.shared is None:
        return [
            (
                f"whether {name} was trained on these images or patients is NOT CHECKED: its run's manifest.csv is not "
                "there (trained_on=… names it, or its run folder)"
            )
        ]
    found = known.shared
    lines = []
    if found.images:
        films = int((known.how == "film").sum())
        lines.append(
            f"{found.images} of {len(found.kept)} evaluated images are known to the model: {films} show films that it "
            f"was trained or validated on (found by content: also re-encoded, cropped or renamed), "
            f"{found.images - films} are others of its patients{results}"
        )
    if found.unread:
        lines.append(
            f"re-encoded, cropped or renamed copies of {found.unread} training images are NOT CHECKED: they cannot be "
            "read any more (equal files and patient ids were looked for)"
        )
    return lines


def write(
    run: RunFolder,
    head: dict[str, Any],
    scored: dict[str, Scored],
    epoch_seconds: list[float],
    wall_seconds: float,
) -> dict[str, Any]:
    """Writes ``predictions.csv`` and then ``metrics.json``, with which the run is over.

    Args:
        run: The folder.
        head: ``status``, ``epochs``, ``synthetic``, ``warnings`` and ``weights``.
        scored: By split; empty where no epoch was finished.
        epoch_seconds: Training and validation, wall clock, one figure per epoch.
        wall_seconds: Of the whole run.

    Returns:
        The contents of ``metrics.json``.
    """
    if scored:
        mf.write(predictions(scored), run.predictions)
    metrics: dict[str, Any] = {
        **head,
        **{split: each.summary() for split, each in scored.items()},
        **_decision(scored),
        "epoch_seconds": epoch_seconds,
        "wall_seconds": round(wall_seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
    }
    write_json(run.metrics, metrics)
    return metrics


def _decision(scored: dict[str, Scored]) -> dict[str, Any]:
    """The decision, and what it does to each split; nothing where nothing was scored."""
    if not scored:
        return {}
    decided = next(iter(scored.values())).decided
    return {"decision": {**decided.as_dict(), **{split: each.consequences() for split, each in scored.items()}}}


def log(trainer: pl.Trainer, config: DictConfig, scored: dict[str, Scored], overrides: Sequence[str]) -> None:
    """Adds the final metrics to every logger, and to TensorBoard's HPARAMS tab beside what was varied.

    Args:
        trainer: Of the training.
        config: Of the run.
        scored: By split, with the weights that are kept.
        overrides: What was typed, today or when the run was begun: these keys come first.
    """
    logged = {name: value for split, each in scored.items() for name, value in _logged(split, each).items()}
    typed = {key_of(each) for each in overrides}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _log_hyperparameters(logger, hyperparameters(config), typed, logged, trainer.global_step)
            test = scored["test"]
            table = test.predictions.assign(score=test.probabilities)
            add_score_figures([logger.experiment], "test", table, trainer.global_step, test.decided.threshold)
        else:
            logger.log_metrics(logged, step=trainer.global_step)
        logger.save()
        logger.finalize("success")
    drop_copies(trainer)


def _log_hyperparameters(
    logger: TensorBoardLogger, values: dict[str, Any], first: set[str], metrics: dict[str, float], step: int
) -> None:
    """Writes what the HPARAMS tab shows, as Lightning's ``log_hyperparams`` does, and which columns come first there.

    TensorBoard sorts hyperparameters by name, after those that are said to differ between runs, and shows five of them.
    Of several runs it takes the description of the first that it finds.
    """
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from torch.utils.tensorboard.summary import hparams

    logger.log_metrics(metrics, step)
    plain = {key: each if isinstance(each, bool | int | float) else str(each) for key, each in values.items()}
    columns, *session = hparams(plain, metrics)  # type: ignore[no-untyped-call]
    described = columns.value[0].metadata.plugin_data
    content = HParamsPluginData.FromString(described.content)
    for column in content.experiment.hparam_infos:
        column.differs = column.name in first
    described.content = content.SerializeToString()
    for summary in (columns, *session):
        logger.experiment._get_file_writer().add_summary(summary, step)


def drop_copies(trainer: pl.Trainer) -> None:
    """Removes Lightning's ``hparams.yaml`` from the run folder, where ``config.yaml`` has all of it."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            (Path(logger.log_dir) / logger.NAME_HPARAMS_FILE).unlink(missing_ok=True)


def _logged(split: str, scored: Scored) -> dict[str, float]:
    """What was logged, with the decision's own metrics in the place of those of scores at 0.5."""
    if scored.decided == FIXED:
        return scored.logged
    summary = scored.summary()
    found = {f"{split}/{name}": summary[name].value for name in METRICS if f"{split}/{name}" in scored.logged}
    return scored.logged | {name: value for name, value in found.items() if value is not None}


def hyperparameters(config: DictConfig) -> dict[str, Any]:
    """What a reader compares runs by: the options that were chosen, and values that change results.

    Args:
        config: Of the run.

    Returns:
        Flat, by key as it is typed: ``{"model": "PaperCNN", "model.dropout": [0.25, 0.25, 0.5]}``. Paths, and what
        changes time and memory only, are left out; so is what is null.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    kept: dict[str, Any] = {key: plain[key] for key in ("seed", "weights")}
    for group in ("data", "model", "optimizer", "scheduler", "loss", "decision", "trainer"):
        node = plain.get(group) or {}
        if group not in ("decision", "trainer"):  # each is of one class
            target = (node.get("source") or node).get("_target_", "none")
            kept[group] = str(target).rpartition(".")[2].removesuffix("Source")
        kept |= {key: value for key, value in _values(node, group) if key not in _NO_RESULT}
    transforms = [str(each["_target_"]).rpartition(".")[2] for each in plain["augment"]["transforms"]]
    if plain.get("tags"):
        kept["tags"] = ", ".join(map(str, plain["tags"]))
    kept["augment"] = ", ".join(transforms) or "none"
    return kept


_PATHS = ("root", "path", "cache", "metadata", "weights_path")
_NO_RESULT = {
    *UNINFLUENTIAL,
    *("data.on_error", "data.allow_leak", "data.seed", "model.image_size", "model.in_channels", "model.channels_last"),
    *("model.fused", "model.fast_dropout", "optimizer.fused", "trainer.accelerator", "trainer.devices"),
    "trainer.deterministic",
    *("trainer.enable_model_summary", "trainer.log_every_n_steps", "trainer.num_sanity_val_steps"),
}


def _values(node: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    """Numbers, lists and words below a node, by their dotted keys."""
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _values(value, f"{place}.{name}")
        elif value is not None and name not in _PATHS and not name.startswith("_"):
            yield f"{place}.{name}", value
