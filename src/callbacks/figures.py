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

from cxrlab.callbacks.scores import Scores
from cxrlab.datamodules.manifest import people
from cxrlab.errors import check_range
from cxrlab.evaluation import figures, summarise

_GRID = 16  # images
_RESAMPLES = 500  # enough for the interval in a figure's legend; the report's own come from more


class TensorBoardFigures(Scores):
    """Draws into every TensorBoard logger of the trainer; without one it does nothing.

    Args:
        every_n_epochs: How often the validation figures are drawn; 0 for never.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__()
        check_range("every_n_epochs", every_n_epochs, 0, integer=True)
        self.every_n_epochs = every_n_epochs

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds the graph and the images that the network sees."""
        writers = _writers(trainer)
        if not writers:
            return
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        images = datamodule.preprocessing.to_float(torch.from_numpy(datamodule.images("train", _GRID)))
        for writer in writers:
            writer.add_image("train/images", make_grid(images, nrow=8), 0)
            _add_graph(writer, pl_module, images[:1].to(pl_module.device))

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Adds confusion matrix, ROC and PR curve of this epoch's validation scores."""
        writers = _writers(trainer)
        epoch = trainer.current_epoch + 1
        if not writers or not self.every_n_epochs or epoch % self.every_n_epochs or not self._batches:
            return
        rows, scores = self.collected()
        table = trainer.datamodule.manifest.iloc[rows].assign(score=scores)  # type: ignore[attr-defined]
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
