"""What TensorBoard shows beside curves: the graph, a grid of input images, and figures of the validation scores."""

from __future__ import annotations

import warnings
from typing import cast

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from cxrlab import figures
from cxrlab.datamodules.manifest import people
from cxrlab.errors import check_range
from cxrlab.evaluation import summarise
from cxrlab.models import ClassifierModule

_GRID = 16  # images
_RESAMPLES = 500  # enough for the interval in a figure's legend; the report's own come from more


class TensorBoardFigures(pl.Callback):
    """Draws into every TensorBoard logger of the trainer; without one it does nothing.

    Args:
        every_n_epochs: How often the validation figures are drawn; 0 for once, when training is over. Drawing them
            takes longer (half a second) than everything else that is done beside an epoch's steps.
    """

    def __init__(self, every_n_epochs: int = 0) -> None:
        check_range("every_n_epochs", every_n_epochs, 0, integer=True)
        self.every_n_epochs = every_n_epochs

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds graph and images after the first epoch, the figures after every n-th; validation is over by now."""
        if trainer.current_epoch == 0:  # not before: the first step would wait half a second for them
            _add_network_and_images(trainer, pl_module)
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            _add_validation_figures(trainer, pl_module)

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the last epoch's figures, unless it was an n-th."""
        if not self.every_n_epochs or trainer.current_epoch % self.every_n_epochs:
            _add_validation_figures(trainer, pl_module)


def _add_network_and_images(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """The graph and some of the images that the network sees."""
    writers = _writers(trainer)
    if not writers:
        return
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    images = datamodule.preprocessing.to_float(torch.from_numpy(datamodule.images("train", _GRID)))
    for writer in writers:
        writer.add_image("train/images", make_grid(images, nrow=8), 0)
        _add_graph(writer, module, images[:1].to(module.device, module.dtype))


def _add_validation_figures(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Confusion matrix, ROC and PR curve of the newest validation pass, if there has been one."""
    writers = _writers(trainer)
    scores = cast(ClassifierModule, module).passes["val"]
    if not writers or not scores:
        return
    rows, values = scores.collected()
    table = trainer.datamodule.manifest.iloc[rows].assign(score=values)  # type: ignore[attr-defined]
    add_score_figures(writers, "val", table, trainer.global_step)


def add_score_figures(
    writers: list[SummaryWriter], split: str, predictions: pd.DataFrame, step: int, threshold: float = 0.5
) -> None:
    """Adds ``<split>/confusion_matrix``, ``<split>/roc`` and ``<split>/pr`` of a manifest with ``score``."""
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    patients = people(predictions).to_numpy()
    summary = summarise(labels, scores, patients, threshold=threshold, resamples=_RESAMPLES)
    for writer in writers:
        writer.add_figure(
            f"{split}/confusion_matrix", figures.confusion_matrix(summary["confusion_matrix"], split), step
        )
        writer.add_figure(f"{split}/roc", figures.roc(labels, scores, summary["auroc"], split), step)
        writer.add_figure(f"{split}/pr", figures.precision_recall(labels, scores, summary["ap"], split), step)


def _writers(trainer: pl.Trainer) -> list[SummaryWriter]:
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _add_graph(writer: SummaryWriter, module: pl.LightningModule, images: torch.Tensor) -> None:
    """Traces the bare network; in evaluation mode, since drawing dropout masks here would change the run's numbers."""
    network = cast(nn.Module, module.network)
    training = network.training
    network.eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's remarks on shapes: the graph is a picture, nothing more
            writer.add_graph(network, images)
    finally:
        network.train(training)
