"""Trains the lung segmenter, and cross-validates it by person."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig

from cxrlab.config import Problems
from cxrlab.console import say, short
from cxrlab.datamodules import LungMasksDataModule
from cxrlab.evaluation.estimate import as_plain, mean
from cxrlab.evaluation.overlap import dice, iou
from cxrlab.files import write_atomically, write_csv, write_json
from cxrlab.models import LungModule, LungUnet, Segmenter
from cxrlab.reports.auxiliary_report import Overlay, write_lungs_report
from cxrlab.runs import RunFolder
from cxrlab.runs.auxiliary import LUNGS_ENTRY, LUNGS_FORMAT, load_segmenter
from cxrlab.runs.folder import LUNGS
from cxrlab.steps.auxiliary import Auxiliary, fit

_LUNGS = Auxiliary(
    task="segment",
    experiment="lungs",
    noun="lungs",
    file=LUNGS,
    data=("lungs", "LungMasksDataModule"),
    model=("lung_unet", "LungUnet"),
)
_SHOWN = 10  # overlays of either kind


def train_lungs(config: DictConfig, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measures by folds of people how well lungs are found, then trains on all masks and keeps that.

    Args:
        config: As composed from ``conf/train.yaml`` with ``experiment=lungs``.
        overrides: What was typed.

    Returns:
        The contents of ``metrics.json``; and by name ``run``, ``datamodule`` and ``segmenter``.

    Raises:
        UserError: Something was asked for that cannot be done; nothing was overwritten.
    """
    began = time.monotonic()
    config = _LUNGS.narrowed(config, overrides)
    run = RunFolder(config.output_dir)
    run.check_free()
    datamodule = _assemble(config)
    datamodule.setup()
    run.begin(config, overrides)
    _banner(run, datamodule)
    try:
        parts = [_fold(config, run, datamodule, fold) for fold in range(datamodule.folds)]
        say(f"final     on all {len(datamodule.manifest)} images")
        network = _fit(config, run, datamodule, None)
    except KeyboardInterrupt:
        return _LUNGS.interrupted(run), {"run": run}
    found = pd.concat([table for table, _ in parts]).sort_index()
    predicted = {row: mask for _, masks in parts for row, mask in masks.items()}
    write_csv(run.path / "masks.csv", found)
    write_csv(run.flow, datamodule.flow.table())
    held_out = {str(source): _summary(rows) for source, rows in found.groupby("source", sort=True)}
    keep(run.path / LUNGS, network, datamodule, held_out)
    segmenter = load_segmenter(str(run.path / LUNGS))
    metrics = {
        "status": "finished",
        "task": "segment",
        "synthetic": datamodule.synthetic,
        "held_out": held_out,
        "folds": datamodule.folds,
        "epochs": int(config.trainer.max_epochs),
        "images": len(found),
        "people": int(found["person"].nunique()),
        "fingerprint": datamodule.fingerprint,
        "weights": segmenter.fingerprint,
        "wall_seconds": round(time.monotonic() - began, 3),
    }
    shown = {title: _overlays(rows, datamodule, predicted) for title, rows in _chosen(found, datamodule.seed).items()}
    page = write_lungs_report(run.path, metrics, found, shown, datamodule.flow.table())
    write_json(run.metrics, metrics)
    for source, summary in held_out.items():
        say(f"{'SYNTHETIC ' if source == 'synthetic' else ''}{source}: {_sentence(summary)}", loud=True)
    say(f"lungs    {short(run.path / LUNGS)}", f"report   {short(page)}")
    return metrics, {"run": run, "datamodule": datamodule, "segmenter": segmenter}


def keep(path: Path, network: LungUnet, datamodule: LungMasksDataModule, held_out: dict[str, Any]) -> None:
    """Writes the checkpoint: weights and plain values, all that is needed to segment lungs with it."""
    entry = {
        "format": LUNGS_FORMAT,
        "channels": network.channels,
        "image_size": datamodule.image_size,
        "sources": sorted(datamodule.manifest["source"].unique().tolist()),
        "synthetic": datamodule.synthetic,
        "held_out": as_plain(held_out),
        "data": {"images": len(datamodule.manifest), "fingerprint": datamodule.fingerprint},
    }
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    write_atomically(path, lambda file: torch.save({"state_dict": state, LUNGS_ENTRY: entry}, file))


def _assemble(config: DictConfig) -> LungMasksDataModule:
    """Checks everything before any file is read."""
    problems = Problems()
    datamodule, network = _LUNGS.try_parts(config, problems)
    if datamodule is not None and network is not None and datamodule.image_size % network.multiple:
        problems.add("data.image_size", f"must be a multiple of {network.multiple}, got {datamodule.image_size}")
    problems.raise_if_any()
    assert isinstance(datamodule, LungMasksDataModule)
    return datamodule


def _fold(
    config: DictConfig, run: RunFolder, datamodule: LungMasksDataModule, fold: int
) -> tuple[pd.DataFrame, dict[int, Any]]:
    """Trains without a fold; returns its rows of the manifest with how well lungs were found, and the masks by row."""
    began = time.monotonic()
    segment = Segmenter(_fit(config, run, datamodule, fold), datamodule.image_size, run.path)
    rows = datamodule.rows("val")
    table = datamodule.manifest.iloc[rows].copy()
    predicted = [segment(datamodule.images[row][None])[0] for row in rows]
    truth = [datamodule.masks[row] for row in rows]
    table["dice"] = [dice(mask, true) for mask, true in zip(predicted, truth, strict=True)]
    table["iou"] = [iou(mask, true) for mask, true in zip(predicted, truth, strict=True)]
    table["share"], table["true_share"] = [mask.mean() for mask in predicted], [true.mean() for true in truth]
    means = ", ".join(f"{source} {part['dice'].mean():.3f}" for source, part in table.groupby("source"))
    seconds = time.monotonic() - began
    say(f"fold {fold + 1}/{datamodule.folds}  Dice {means} on {len(rows)} held-out images  {seconds:.0f} s")
    return table, dict(zip(rows.tolist(), predicted, strict=True))


def _fit(config: DictConfig, run: RunFolder, datamodule: LungMasksDataModule, fold: int | None) -> LungUnet:
    """Trains one network; ``fold`` is held out, or nothing."""
    network = fit(config, run, datamodule, fold, LungModule, watch=True)
    assert isinstance(network, LungUnet)
    return network


def _summary(rows: pd.DataFrame) -> dict[str, Any]:
    """Dice and IoU of the held-out images of one collection, with intervals, and how large lungs were found."""
    people = rows["person"].to_numpy()
    means = {name: mean(rows[name], people) for name in ("dice", "iou", "share", "true_share")}
    return {
        "images": len(rows),
        "people": int(rows["person"].nunique()),
        **means,
        "median_dice": float(rows["dice"].median()),
        "worst_dice": float(rows["dice"].min()),
        "below_0.8": int((rows["dice"] < 0.8).sum()),
    }


def _sentence(summary: dict[str, Any]) -> str:
    images = f"{summary['images']} held-out images of {summary['people']} people"
    return f"Dice {summary['dice']}, {images}, {summary['dice'].method}"


def _chosen(found: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Ten images sampled at random and the ten worst, of patients where there are any."""
    shown = found[found["source"] == "cohen"] if (found["source"] == "cohen").any() else found
    lot = shown.sample(min(_SHOWN, len(shown)), random_state=seed)
    return {"drawn": lot.sort_index(), "worst": shown.sort_values("dice", kind="stable").head(_SHOWN)}


def _overlays(rows: pd.DataFrame, datamodule: LungMasksDataModule, predicted: dict[int, Any]) -> list[Overlay]:
    return [
        Overlay(datamodule.images[row][..., 0], datamodule.masks[row], predicted[row], rows.loc[row, "dice"])
        for row in rows.index
    ]


def _banner(run: RunFolder, datamodule: LungMasksDataModule) -> None:
    """What is trained on, and where it goes."""
    lines = ["SYNTHETIC data: these are drawn phantoms, no patients"] if datamodule.synthetic else []
    for source, rows in datamodule.manifest.groupby("source", sort=True):
        lines += [f"data      {source}: {len(rows)} images with lung masks, {rows['person'].nunique()} people"]
    lines += [
        f"network   {datamodule.image_size}x{datamodule.image_size}, {datamodule.folds} folds, then one on everything"
    ]
    say(*lines, f"run       {short(run.path)}")
