"""The gate: training it, measuring it on people it has not seen, and loading it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.trainer.states import TrainerStatus
from rich import get_console

from cxrlab.callbacks import History
from cxrlab.config import Problems, build, check_names
from cxrlab.console import say, short
from cxrlab.datamodules import GateImagesDataModule
from cxrlab.errors import CheckpointError, ConfigError, check_range
from cxrlab.evaluation.gate_rates import choose_limits, rate
from cxrlab.files import write_atomically, write_json, write_text
from cxrlab.models import GateModule, GateNet
from cxrlab.models.gate import ACCEPT, FRONTAL, HOW, KINDS, REFUSE, VERDICTS, Gate, Limits, rule
from cxrlab.reports.gate_report import write_gate_report
from cxrlab.runs import RunFolder, load_checkpoint
from cxrlab.runs.folder import GATE
from cxrlab.steps.assembly import KEYS
from cxrlab.steps.quiet import quiet_lightning

_READ = ("data", "model", "optimizer", "scheduler", "trainer", "logger", "task", "seed", "output_dir")
_LIMITS = "limits"  # of experiment=gate alone
_ENTRY = "gate"
_SHOWN = 24  # pictures of either sheet


def train_gate(config: DictConfig, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measures a gate by folds of people, then trains one on everything and keeps that.

    Args:
        config: As composed from ``conf/train.yaml`` with ``experiment=gate``.
        overrides: What was typed.

    Returns:
        The contents of ``metrics.json``; and by name ``run``, ``datamodule`` and ``gate``.

    Raises:
        UserError: Something was asked for that cannot be done; nothing was overwritten.
    """
    began = time.monotonic()
    _refuse(config, overrides)
    with open_dict(config):
        config = OmegaConf.masked_copy(config, [key for key in (*_READ, _LIMITS) if key in config])
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
        return _interrupted(run), {"run": run}
    table = _judged(datamodule, scores, dict(config.limits))
    counted = measured(table)
    limits = Limits(*_limits(counted, dict(config.limits)))
    held_out = summary(counted)
    write_text(run.path / "gate.csv", table.to_csv(index=False))
    write_text(run.flow, datamodule.flow.table().to_csv(index=False))
    sources = sorted(set(datamodule.manifest["source"]))
    gate = Gate(network, datamodule.image_size, limits, held_out, sources, datamodule.synthetic)
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
    say("\n".join(_sentences(held_out, datamodule.synthetic)))
    say(f"gate     {short(run.path / GATE)}\nreport   {short(page)}")
    return metrics, {"run": run, "datamodule": datamodule, "gate": gate}


def load_gate(path: str) -> Gate:
    """Loads a trained gate.

    Args:
        path: The folder of a finished run of ``experiment=gate``, a folder above some (the newest finished one is
            taken), or a ``.ckpt`` file with a gate in it; ``~`` is expanded.

    Raises:
        CheckpointError: There is none, or the file cannot be used; it may come from a stranger.
    """
    file = _locate(str(path))
    entry = load_checkpoint(file).get(_ENTRY)
    if not isinstance(entry, dict) or not entry:
        raise CheckpointError(f"{file}: holds no trained gate; {HOW}")
    try:
        return Gate.from_entry(entry)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from None


def keep(path: Path, gate: Gate) -> None:
    """Writes the checkpoint: the entry ``gate`` as in any other checkpoint, beside no weights of a classifier."""
    write_atomically(path, lambda file: torch.save({"state_dict": {}, _ENTRY: gate.as_entry()}, file))


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """What held-out pictures say of a gate, plain values.

    Args:
        table: One row per picture with ``kind``, ``source``, ``person``, ``verdict`` and ``said``.

    Returns:
        ``false_refusal``, ``in_doubt`` (frontal films), ``false_acceptance`` (of all others, each picture counting
        once): each ``{"value", "low", "high", "method", "flagged", "images", "people"}``; ``kinds`` and ``sources``
        (frontal films only): for each name the counts of verdicts, ``named`` (how many were called what they are),
        ``accepted`` and ``refused`` with intervals.
    """
    films, others = table[table["kind"] == FRONTAL], table[table["kind"] != FRONTAL]
    kinds = [kind for kind in KINDS if (table["kind"] == kind).any()]
    return {
        "false_refusal": rate(films["verdict"] == REFUSE, films["person"]),
        "in_doubt": rate(films["verdict"] == "warn", films["person"]),
        "false_acceptance": rate(others["verdict"] == ACCEPT, others["person"]),
        "kinds": {kind: _part(table[table["kind"] == kind]) for kind in kinds},
        "sources": {str(name): _part(rows) for name, rows in films.groupby("source", sort=True)},
    }


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
        "accepted": rate(rows["verdict"] == ACCEPT, rows["person"]),
        "refused": rate(rows["verdict"] == REFUSE, rows["person"]),
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
    return choose_limits(scores, table["kind"].tolist(), rates["false_refusal"], rates["false_acceptance"])


def _locate(given: str) -> Path:
    """The checkpoint that a user means by ``gate=…``."""
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"gate={given}: no such file or folder; {HOW}")
    finished = [file for file in path.rglob(GATE) if _finished(file.parent)]
    if not finished:
        raise CheckpointError(f"gate={given}: no finished run of experiment=gate in this folder; {HOW}")
    return max(finished, key=lambda file: (file.stat().st_mtime_ns, str(file)))


def _finished(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["status"] == "finished")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refuse(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuses what the training of a gate would not read, rather than ignoring it."""
    if config.ckpt_path:
        raise ConfigError(
            f"ckpt_path={config.ckpt_path}: a training of a gate takes minutes and is not continued: repeat its "
            "command without ckpt_path; gate=… is where a finished one is named"
        )
    roots = [override.lstrip("+~").partition("=")[0].partition(".")[0].partition("@")[0] for override in overrides]
    strays = [override for override, root in zip(overrides, roots, strict=True) if root in {*KEYS} - {*_READ}]
    if strays:
        raise ConfigError(
            f"{', '.join(strays)}: not read by task=gate, which has its own loss and augmentation and keeps the last "
            f"epoch; leave it out. It reads {', '.join((*_READ, _LIMITS))}"
        )
    for group, option, target in (("data", "gate", "GateImagesDataModule"), ("model", "gate_net", "GateNet")):
        if str((config.get(group) or {}).get("_target_", "")).rpartition(".")[2] != target:
            raise ConfigError(f"{group}: task=gate needs {group}={option}, as in experiment=gate")
    if _LIMITS not in config:
        raise ConfigError(
            "limits: task=gate needs limits.false_refusal and limits.false_acceptance, see experiment=gate"
        )


def _assemble(config: DictConfig) -> GateImagesDataModule:
    """Checks everything before any file is read; the network and the trainer are built again for every fold."""
    problems = Problems()
    check_names(config, (*KEYS, _LIMITS), problems, supplied={"trainer": {"callbacks", "logger"}})
    with problems.guard("seed"):
        check_range("seed", config.seed, 0, 2**32 - 1, integer=True)
    with problems.guard("trainer.max_epochs"):
        check_range("max_epochs", config.trainer.get("max_epochs"), 1, integer=True)
    for name in ("false_refusal", "false_acceptance"):
        with problems.guard(f"limits.{name}"):
            check_range(name, config.limits.get(name), 0, 0.5)
    for name in set(config.limits) - {"false_refusal", "false_acceptance"}:
        problems.add(f"limits.{name}", "no such key; there are false_refusal and false_acceptance")
    if config.trainer.get("devices") != 1:
        problems.add("trainer.devices", f"must be 1, got {config.trainer.get('devices')!r}")
    datamodule, network = problems.build(config, "data"), problems.build(config, "model")
    if network is not None and network.kinds != len(KINDS):
        problems.add("model.kinds", f"must be {len(KINDS)}, got {network.kinds}")
    for group in ("optimizer", "scheduler", "logger"):
        problems.build(config, group)
    with quiet_lightning():
        problems.build(config, "trainer", callbacks=[], logger=False, enable_checkpointing=False)
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
    """Trains one network from its seed; ``fold`` is held out, or nothing."""
    name = "final" if fold is None else f"fold_{fold + 1}"
    problems = Problems()
    pl.seed_everything(config.seed, workers=False, verbose=False)
    datamodule.hold_out(fold)
    network = problems.build(config, "model")
    assert isinstance(network, GateNet)
    network = network.to(memory_format=torch.channels_last)  # half the time on a CPU
    module = GateModule(network, problems.build(config, "optimizer"), problems.build(config, "scheduler"))
    bar = get_console().is_terminal
    callbacks = [History(run.path / "history" / f"{name}.csv"), *([RichProgressBar()] if bar else [])]
    with quiet_lightning():
        extra: dict[str, Any] = {"enable_checkpointing": False, "enable_progress_bar": bar, "callbacks": callbacks}
        trainer = problems.build(config, "trainer", logger=_loggers(config, name), **extra)
        problems.raise_if_any()
        try:
            trainer.fit(module, datamodule=datamodule)
        except SystemExit:  # Lightning's answer to Ctrl-C
            if trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise
    return network.cpu()


def _loggers(config: DictConfig, name: str) -> list[Any]:
    """The run's loggers, each with a part of its own for one training."""
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    nodes = (plain.get("logger") or {}).values()
    return [build({**node, "version": name} if "version" in node else node) for node in nodes]


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
        limits = f"{each['value']:.2%} [{each['low']:.2%}, {each['high']:.2%}]"
        counts = f"{each['flagged']} of {each['images']} held-out pictures of {each['people']} people"
        lines.append(f"{mark}{what}: {limits}, {counts}, {each['method']}")
    return lines


def _banner(run: RunFolder, datamodule: GateImagesDataModule) -> None:
    """What is trained on, and where it goes."""
    lines = ["SYNTHETIC data: the films are drawn phantoms, no patients"] if datamodule.synthetic else []
    own = datamodule.manifest.iloc[: len(datamodule.thumbnails)]
    for (kind, source), rows in own.groupby(["kind", "source"], sort=True):
        lines += [f"data      {kind} ({source}): {len(rows)} pictures of {rows['person'].nunique()} people or sources"]
    lines += [
        f"network   {datamodule.image_size}x{datamodule.image_size}, {datamodule.folds} folds, then one on everything"
    ]
    say("\n".join([*lines, f"run       {short(run.path)}"]))


def _interrupted(run: RunFolder) -> dict[str, Any]:
    """Notes that nothing came of the run."""
    metrics = {"status": "interrupted", "task": "gate"}
    write_json(run.metrics, metrics)
    say(f"interrupted: no {GATE} was written and a gate's training is not continued; repeat the command")
    return metrics
