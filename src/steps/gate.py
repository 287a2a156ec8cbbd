"""The gate: training it, and measuring it on people it has not seen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from torch import nn

from cxrlab.config import Problems
from cxrlab.console import say, short
from cxrlab.datamodules import GateImagesDataModule
from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import Mean, as_plain, mean
from cxrlab.evaluation.gate_rates import choose_limits
from cxrlab.files import write_atomically, write_csv, write_json
from cxrlab.models import GateModule, GateNet
from cxrlab.models.gate import ACCEPT, FRONTAL, KINDS, REFUSE, VERDICTS, WARN, Gate, Limits, rule
from cxrlab.reports.auxiliary_report import write_gate_report
from cxrlab.runs import RunFolder
from cxrlab.runs.auxiliary import load_gate
from cxrlab.runs.checkpoint import GATE as GATE_ENTRY
from cxrlab.runs.folder import GATE
from cxrlab.steps.auxiliary import Auxiliary, fit

_GATE = Auxiliary(
    task="gate",
    experiment="gate",
    noun="a gate",
    file=GATE,
    data=("gate", "GateImagesDataModule"),
    model=("gate_net", "GateNet"),
    keys=("limits",),
)
_RATES = ("false_refusal", "false_acceptance", "false_warning")
_SHOWN = 24  # pictures of either sheet


def train_gate(config: DictConfig, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measures a gate by folds of collections or of people, then trains one on everything and keeps that.

    Args:
        config: As composed from ``conf/train.yaml`` with ``experiment=gate``.
        overrides: What was typed.

    Returns:
        The contents of ``metrics.json``; and by name ``run``, ``datamodule`` and ``gate``.

    Raises:
        UserError: Something was asked for that cannot be done; nothing was overwritten.
    """
    began = time.monotonic()
    config = _GATE.narrowed(config, overrides)
    run = RunFolder(config.output_dir)
    run.check_free()
    datamodule = _assemble(config)
    datamodule.setup()
    run.begin(config, overrides)
    _banner(run, datamodule)
    try:
        scores = np.full((len(datamodule.manifest), len(KINDS)), np.nan)
        for fold in range(datamodule.folds):
            _fold(config, run, datamodule, fold, scores)
        say(f"final     on all {len(datamodule.thumbnails)} pictures")
        network = _fit(config, run, datamodule, None)
    except KeyboardInterrupt:
        return _GATE.interrupted(run), {"run": run}
    table = _judged(datamodule, scores, dict(config.limits))
    counted = measured(table)
    limits = Limits(*_limits(counted, dict(config.limits)))
    held_out = summary(counted) | {"left_out": datamodule.collections}
    write_csv(run.path / "gate.csv", table)
    write_csv(run.flow, datamodule.flow.table())
    sources = sorted(set(datamodule.manifest["source"]))
    gate = Gate(network, datamodule.image_size, limits, as_plain(held_out), sources, datamodule.synthetic)
    keep(run.path / GATE, gate)
    gate = load_gate(str(run.path / GATE))
    metrics = {
        "status": "finished",
        "task": "gate",
        "synthetic": datamodule.synthetic,
        "held_out": held_out,
        "limits": {"refuse_below": limits.refuse_below, "accept_from": limits.accept_from},
        "folds": datamodule.folds,
        "epochs": int(config.trainer.max_epochs),
        "images": len(table),
        "people": int(table["person"].nunique()),
        "fingerprint": datamodule.fingerprint,
        "gate": gate.fingerprint,
        "wall_seconds": round(time.monotonic() - began, 3),
    }
    shown = {title: _pictures(datamodule, rows) for title, rows in _chosen(counted, datamodule.seed).items()}
    page = write_gate_report(run.path, metrics, table, shown, datamodule.flow.table())
    write_json(run.metrics, metrics)
    say(*_sentences(held_out, datamodule.synthetic), loud=True)
    say(f"gate     {short(run.path / GATE)}", f"report   {short(page)}")
    return metrics, {"run": run, "datamodule": datamodule, "gate": gate}


def keep(path: Path, gate: Gate) -> None:
    """Writes the checkpoint: the entry ``gate`` as in any other checkpoint, beside no weights of a classifier."""
    write_atomically(path, lambda file: torch.save({"state_dict": {}, GATE_ENTRY: gate.as_entry()}, file))


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """What held-out pictures say of a gate, plain values.

    Args:
        table: One row per picture with ``kind``, ``collection``, ``person``, ``verdict`` and ``said``.

    Returns:
        ``false_refusal``, ``in_doubt`` (frontal films), ``false_acceptance`` (of all others, each picture counting
        once): each a :class:`~cxrlab.evaluation.estimate.Mean`; ``kinds`` and
        ``collections`` (frontal films only): for each name the counts of verdicts, ``named`` (how many were called
        what they are), ``accepted``, ``warned`` and ``refused`` with intervals.
    """
    films, others = table[table["kind"] == FRONTAL], table[table["kind"] != FRONTAL]
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    return {
        "false_refusal": _rate(films["verdict"] == REFUSE, films["person"]),
        "in_doubt": _rate(films["verdict"] == WARN, films["person"]),
        "false_acceptance": _rate(others["verdict"] == ACCEPT, others["person"]),
        "kinds": {kind: _part(table[table["kind"] == kind]) for kind in kinds},
        "collections": {str(name): _part(rows) for name, rows in films.groupby("collection", sort=True)},
    }


def _rate(found: pd.Series, people: pd.Series) -> Mean:
    """A share of images with an interval that has a width even at 0 and 1."""
    return mean(found, people, share=True)


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that rates and limits are about: those of no phantom, unless there are no other films."""
    drawn = table["source"] == "synthetic"
    return table if (table.loc[table["kind"] == FRONTAL, "source"] == "synthetic").all() else table[~drawn]


def _part(rows: pd.DataFrame) -> dict[str, Any]:
    counts = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in VERDICTS}
    return {
        "images": len(rows),
        "people": int(rows["person"].nunique()),
        **counts,
        "named": int((rows["said"] == rows["kind"]).sum()),
        "accepted": _rate(rows["verdict"] == ACCEPT, rows["person"]),
        "warned": _rate(rows["verdict"] == WARN, rows["person"]),
        "refused": _rate(rows["verdict"] == REFUSE, rows["person"]),
    }


def _judged(datamodule: GateImagesDataModule, scores: Any, rates: dict[str, float]) -> pd.DataFrame:
    """Every picture with its held-out probabilities and its verdict by limits that other folds have chosen."""
    table = datamodule.manifest.drop(columns=["picture"]).reset_index(drop=True)
    table[[f"p_{kind}" for kind in KINDS]] = scores
    ruled = [rule(datamodule.picture(row), int(side)) for row, side in enumerate(table["short_side"])]
    table["rule"] = ["" if found is None else found.kind for found in ruled]
    judgements = list(ruled)
    for fold in range(datamodule.folds):
        limits = Limits(*_limits(measured(table[table["fold"] != fold]), rates))
        gate = Gate(GateNet(len(KINDS)), datamodule.image_size, limits)
        for row in np.flatnonzero(table["fold"] == fold):
            judgements[row] = ruled[row] or gate.judge(scores[row])
    done = [each for each in judgements if each is not None]
    table["verdict"], table["said"] = [each.verdict for each in done], [each.kind for each in done]
    return table


def _limits(table: pd.DataFrame, rates: dict[str, float]) -> tuple[float, float]:
    scores = table[f"p_{FRONTAL}"].where(table["rule"] == "", -1.0)
    return choose_limits(scores, table["kind"].tolist(), table["collection"].tolist(), **rates)


def _assemble(config: DictConfig) -> GateImagesDataModule:
    """Checks everything before any file is read."""
    problems = Problems()
    for name in _RATES:
        with problems.guard(f"limits.{name}"):
            check_range(name, config.limits.get(name), 0, 0.5)
    for name in set(config.limits) - {*_RATES}:
        problems.add(f"limits.{name}", f"no such key; there are {', '.join(_RATES)}")
    datamodule, network = _GATE.try_parts(config, problems)
    if network is not None and network.kinds != len(KINDS):
        problems.add("model.kinds", f"must be {len(KINDS)}, got {network.kinds}")
    problems.raise_if_any()
    assert isinstance(datamodule, GateImagesDataModule)
    return datamodule


def _fold(config: DictConfig, run: RunFolder, datamodule: GateImagesDataModule, fold: int, scores: Any) -> None:
    """Trains without a fold, and fills in the probabilities of its pictures."""
    began = time.monotonic()
    gate = Gate(_fit(config, run, datamodule, fold), datamodule.image_size, Limits(0, 1))
    rows = datamodule.rows("val")
    scores[rows] = gate.probabilities([datamodule.picture(row) for row in rows])
    kinds = datamodule.manifest["kind"].to_numpy()[rows]
    right = float((np.asarray(KINDS)[scores[rows].argmax(1)] == kinds).mean())
    told = f"{right:.1%} of {len(rows)} held-out pictures named rightly"
    say(f"fold {fold + 1}/{datamodule.folds}  {told}  {time.monotonic() - began:.0f} s")


def _fit(config: DictConfig, run: RunFolder, datamodule: GateImagesDataModule, fold: int | None) -> GateNet:
    """Trains one network; ``fold`` is held out, or nothing."""

    def module_of(network: nn.Module, optimizer: Any, scheduler: Any) -> GateModule:
        return GateModule(network.to(memory_format=torch.channels_last), optimizer, scheduler)  # half the time on a CPU

    network = fit(config, run, datamodule, fold, module_of, watch=False)
    assert isinstance(network, GateNet)
    return network


def _chosen(table: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    """Frontal films that look least like it and others that look most like it; the verdicts may still be right."""
    films, others = table[table["kind"] == FRONTAL], table[(table["kind"] != FRONTAL) & (table["rule"] == "")]
    least = films.sort_values(f"p_{FRONTAL}", kind="stable").head(_SHOWN)
    most = others.sort_values(f"p_{FRONTAL}", kind="stable", ascending=False)
    return {"least": least, "most": most.drop_duplicates(["kind", "path"]).head(_SHOWN)}


def _pictures(datamodule: GateImagesDataModule, rows: pd.DataFrame) -> list[tuple[Any, str]]:
    """Each picture with what is written into its corner."""
    return [
        (datamodule.picture(row), f"{kind} {frontal:.2f} {verdict}")
        for row, kind, frontal, verdict in zip(
            rows.index, rows["kind"], rows[f"p_{FRONTAL}"], rows["verdict"], strict=True
        )
    ]


def _sentences(held_out: dict[str, Any], synthetic: bool) -> list[str]:
    """What is said at the end."""
    mark = "SYNTHETIC " if synthetic else ""
    lines = []
    for name, what in (("false_refusal", "frontal films refused"), ("false_acceptance", "others accepted")):
        each = held_out[name]
        counts = f"{each.count} of {each.n} held-out pictures of {each.n_patients} people"
        lines.append(f"{mark}{what}: {each:.2%}, {counts}, {each.method}")
    for name, part in held_out["collections"].items():
        where = f"{name}, left out whole" if name in held_out["left_out"] else name
        warned = f"{part['warn']} of {part['images']} frontal films warned about, {part['refuse']} refused"
        lines.append(f"{mark}{where}: {warned}, {part['people']} people")
    return lines


def _banner(run: RunFolder, datamodule: GateImagesDataModule) -> None:
    """What is trained on, and where it goes."""
    lines = ["SYNTHETIC data: the films are drawn phantoms, no patients"] if datamodule.synthetic else []
    own = datamodule.manifest.iloc[: len(datamodule.thumbnails)]
    for (kind, source), rows in own.groupby(["kind", "source"], sort=True):
        lines += [f"data      {kind} ({source}): {len(rows)} pictures of {rows['person'].nunique()} people or sources"]
    folds = f"without {', '.join(datamodule.collections)} in turn" if datamodule.collections else ""
    folds = folds or f"{datamodule.folds} folds by person (films of two collections or more would be left out in turn)"
    lines += [f"network   {datamodule.image_size}x{datamodule.image_size}, {folds}, then on everything"]
    say(*lines, f"run       {short(run.path)}")
