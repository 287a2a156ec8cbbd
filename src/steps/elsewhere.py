"""Evaluating a model on images of another collection: which of them, and what it knows of them from its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from omegaconf import DictConfig
from threadpoolctl import threadpool_limits

from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.datamodules import manifest as mf
from cxrlab.errors import DataError
from cxrlab.evaluation.estimate import Resampling
from cxrlab.runs import LoadedModel, RunFolder
from cxrlab.steps.edges import Edges
from cxrlab.steps.overlap import Known, images_of_model, known_to
from cxrlab.steps.results import Scored, overlap_warnings

_SPLITTING = ("data.test=", "data.val=", "data.resplit=", "data.split_seed=", "data.folds=", "data.fold=")


@dataclass(frozen=True)
class Place:
    """What a model is evaluated on.

    Attributes:
        split: That is scored, ``test`` or ``val``.
        whole: Whether it is everything that the model was not trained on, rather than a split that was asked for.
        known: What the model knows of it.
        run: Manifest of its training; ``None`` where it is not there.
        model: The model.
        warnings: What a reader has to know of the choice.
    """

    split: str
    whole: bool
    known: Known
    run: pd.DataFrame | None
    model: LoadedModel
    warnings: list[str]

    def settle(self, datamodule: ChestXRayDataModule, scored: Scored) -> tuple[Scored, list[str]]:
        """Leaves out what the model knows, unless a split was asked for, and says so with both results.

        Args:
            datamodule: The images that are left out lose their split, and column ``known`` of its manifest says why.
            scored: Everything that was evaluated.

        Raises:
            DataError: The model knows all of it.
        """
        how = self.known.how
        fresh = scored.without(how)
        if self.whole and not len(fresh.predictions):
            raise DataError(
                f"{datamodule.source.name}: all {len(scored.predictions)} images are films or patients that "
                f"{self.model.path.name} was trained or validated on; split=all evaluates them all the same"
            )
        datamodule.manifest = datamodule.manifest.assign(known=how)
        results = ""
        if (how != "").any():
            what = "they are left out" if self.whole else "they are counted, as split=… was asked for"
            results = f". {what[0].upper()}{what[1:]}: {fresh.result()} without them, {scored.result()} with them"
        if self.whole:
            datamodule.manifest["split"] = datamodule.manifest["split"].mask(how != "", "")
        kept = fresh if self.whole else scored
        kept = replace(kept, predictions=kept.predictions.assign(known=how[kept.predictions.index]))
        return kept, overlap_warnings(self.known, self.model.path.name, results)

    def baselines(self, run: RunFolder, datamodule: ChestXRayDataModule, rows: pd.DataFrame, seed: int) -> None:
        """Writes what classifiers without a lung make of the evaluated rows, fitted on the training images."""
        if self.known.images is None or self.known.own or self.run is None:
            return  # the report fits them on the training images among the listed ones
        with threadpool_limits(limits=1, user_api="blas"):
            edges = Edges(self.known.images, Resampling(seed=seed)).train(self.run[self.run["split"] == "train"])
            scores = {name: edge.scores(rows["path"]) for name, edge in edges.items()}
        if scores:
            share = float(self.run.loc[self.run["split"] == "train", "label"].mean())
            mf.write(rows.assign(majority=share, **scores), run.path / "baselines.csv")

    def facts(self, datamodule: ChestXRayDataModule) -> dict[str, Any]:
        """Plain values for ``metrics.json``: what the title and the tables of the report say."""
        shared = self.known.shared
        sources = self.model.metadata["data"].get("sources")
        train = None if self.run is None else int((self.run["split"] == "train").sum())
        return {
            "trained_on": "+".join(map(str, sources)) if isinstance(sources, list) and sources else "unknown sets",
            "evaluated_on": datamodule.source.name,
            "whole": self.whole,
            "training_images": train,
            "known": None
            if shared is None
            else {"images": shared.images, "films": shared.films, "people": shared.people},
        }


def prepare(
    config: DictConfig,
    model: LoadedModel,
    datamodule: ChestXRayDataModule,
    overrides: Sequence[str],
    *,
    other_data: bool,
) -> Place:
    """Reads the images, and finds what is to be scored and what the model knows of it.

    Args:
        config: Of the evaluation; ``split`` and ``data.test`` are filled in.
        model: The model.
        datamodule: Not set up.
        overrides: What was typed.
        other_data: Whether data were named, rather than taken from the checkpoint.

    Raises:
        UserError: The images cannot be used, or ``trained_on`` names another training.
    """
    asked = config.split is not None or any(each.startswith(_SPLITTING) for each in overrides)
    run = images_of_model(model, config.get("trained_on"))
    whole, warnings = other_data and not asked, []
    if whole and run is None and (same := _same_sources(model, datamodule)):
        whole = False
        warnings.append(
            f"only the test split is evaluated: the checkpoint says that it was trained on {', '.join(same)}, and "
            "which of these images is not known; trained_on=… names its run, split=all takes every image"
        )
    config.split = config.split or ("all" if whole else "test")
    if whole:
        config.data.test, config.data.folds, config.data.fold = "all", None, None
        datamodule.partition = replace(datamodule.partition, test="all", folds=None, fold=None)
    datamodule.setup()
    split = "val" if config.split == "val" else "test"
    known = known_to(datamodule.manifest, run, whole, split, datamodule.cache)
    datamodule.manifest = datamodule.manifest.assign(split=known.splits)
    return Place(split, whole, known, run, model, warnings)


def _same_sources(model: LoadedModel, datamodule: ChestXRayDataModule) -> list[str]:
    """The sources that a checkpoint without its run has in common with the listed images, by name."""
    sources = model.metadata["data"].get("sources")
    listed = set(datamodule.list_images()["source"])
    return sorted(listed & set(map(str, sources))) if isinstance(sources, list) else sorted(listed)
