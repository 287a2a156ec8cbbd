"""The steps of an export: check what was asked, write the file, compare it with PyTorch, say what came of it."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from rich.table import Table

from cxrlab.config import Problems, check_names, keys_of
from cxrlab.console import DISCLAIMER, command
from cxrlab.datamodules import Preprocessing, SyntheticSource
from cxrlab.datamodules.pixels import read_all
from cxrlab.errors import CheckpointError, ConfigError, DataError, check_choice, check_range
from cxrlab.files import file_sha256, write_json
from cxrlab.imports import check_installed
from cxrlab.inference.inputs import list_inputs
from cxrlab.inference.onnx_file import OPSETS, OnnxScorer, write_onnx
from cxrlab.inference.parity import TOLERANCE, compare, time_ways
from cxrlab.inference.scorer import Images, Scorer, TorchScorer
from cxrlab.models.gate import Gate
from cxrlab.runs.checkpoint import GATE, AtomicCheckpointIO, LoadedModel, load_checkpoint, load_model
from cxrlab.runs.environment import cpu_name

ONNX, CHECKPOINT = "onnx", "checkpoint"
SUFFIXES = {ONNX: ".onnx", CHECKPOINT: ".ckpt"}


def check_plan(config: DictConfig) -> None:
    """Checks a configuration; no file is touched.

    Raises:
        ConfigError: Lists every problem.
    """
    problems = Problems()
    check_names(config, keys_of("export"), problems)
    with problems.guard("format"):
        check_choice("format", config.format, SUFFIXES)
        for name in ("onnx", "onnxruntime", "onnxscript") if config.format == ONNX else ():
            check_installed(name, "format=onnx")
    with problems.guard("opset"):
        if config.opset is not None:
            check_range("opset", config.opset, *OPSETS, integer=True)
            if config.format != ONNX:
                raise ValueError(f"opset: only format=onnx has one, and this is format={config.format}")
    with problems.guard("max_images"):
        check_range("max_images", config.max_images, 1, integer=True)
    with problems.guard("latency"):
        check_choice("latency", config.latency, (True, False))
    suffix = Path(str(config.output or "")).suffix
    wanted = SUFFIXES.get(config.format, suffix)
    if suffix in SUFFIXES.values() and suffix != wanted:
        problems.add("output", f"a file of format={config.format} ends in {wanted}, got {config.output}")
    if config.format == CHECKPOINT and config.gate is None:
        problems.add("gate", "all that format=checkpoint changes: gate=runs/gate puts one in, gate=none takes it out")
    problems.raise_if_any()


def write_checked(config: DictConfig, model: LoadedModel, gate: Gate | None) -> tuple[Path, dict[str, Any]]:
    """Writes the file, in the folder ``export`` of its run or as asked, and a JSON file that says what was found.

    The file takes its place, where an older one is replaced, only after it was read back and gave PyTorch's scores.

    Returns:
        The path of the file, and what the JSON file beside it says: plain values.

    Raises:
        ConfigError: The place cannot be written, or is the checkpoint's own.
        DataError: There are no images, or one cannot be read.
        CheckpointError: The network cannot be written in this format, or its scores differ.
    """
    output = _output(config, model)
    images, what = _images(config, model)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export.") as folder:
            written = Path(folder, output.name)
            if config.format == ONNX:
                write_onnx(model, written, gate, config.opset)
            else:  # the checkpoint as it is, with another gate
                entries = {key: value for key, value in load_checkpoint(model.path).items() if key != GATE}
                AtomicCheckpointIO().save_checkpoint(
                    {**entries, GATE: gate.as_entry()} if gate is not None else entries, written
                )
            scorer = read_back(config, model, gate, written)
            parity = compare(model, scorer, images, what)
            if not parity.score <= TOLERANCE:  # nor where it is no number
                raise CheckpointError(
                    f"{output}: not written: on {parity.images} images ({parity.what}) its scores differ from "
                    f"PyTorch's by up to {parity.score:.2g}, and {TOLERANCE:g} is allowed; use the checkpoint itself"
                )
            runtime = "ONNX Runtime" if config.format == ONNX else "the copy"
            found = {
                "notice": DISCLAIMER,
                "format": config.format,
                "file": output.name,
                "bytes": written.stat().st_size,
                "sha256": file_sha256(written),
                "checkpoint": str(model.path),
                "checkpoint_bytes": model.path.stat().st_size,
                "fingerprint": model.fingerprint,
                "gate": None if gate is None else gate.fingerprint,
                "synthetic": bool(model.metadata["data"].get("synthetic")),
                "parity": asdict(parity),
                "latency": time_ways(model, scorer, runtime, images) if config.latency else None,
                "machine": {"torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": cpu_name()},
            }
            written.replace(output)
            write_json(output.with_name(f"{output.name}.json"), found)
    except OSError as error:
        raise ConfigError(
            f"output: {output} cannot be written ({error.strerror}); output=… names another place"
        ) from None
    return output, found


def _output(config: DictConfig, model: LoadedModel) -> Path:
    suffix = SUFFIXES[config.format]
    if config.output is None:
        inside_run = model.path.parent.name == "checkpoints"
        folder = (model.path.parent.parent if inside_run else model.path.parent) / "export"
        return folder / f"{model.path.stem}{suffix}"
    path = Path(str(config.output)).expanduser()
    if path.suffix != suffix:
        path = path / f"{model.path.stem}{suffix}"
    if path.resolve() == model.path.resolve():
        raise ConfigError(f"output: {path} is the checkpoint itself; name another file")
    return path


def _images(config: DictConfig, model: LoadedModel) -> tuple[Images, str]:
    """Images to compare the scores of, as the network sees them, shape (n, H, W, C), and which they are, in words."""
    preprocessing = Preprocessing.from_dict(model.metadata["preprocessing"])
    with tempfile.TemporaryDirectory() as folder:
        if config.images is None:
            what = "drawn phantoms"
            source = SyntheticSource(folder, 8, 8, disease="consolidation")  # more like films than lines are
            paths = [str(path) for path in source.manifest()["path"]]
        else:
            given = list(config.images) if isinstance(config.images, ListConfig) else [config.images]
            paths, what = list_inputs([str(each) for each in given]).paths[: config.max_images], str(config.images)
        pixels = read_all(paths, preprocessing)
        if pixels.problems:
            first = next(iter(pixels.problems.values()))
            raise DataError(f"images: {len(pixels.problems)} of {len(paths)} cannot be read, the first: {first}")
        return np.stack([np.asarray(pixels.images[row], dtype=np.uint8) for row in range(len(paths))]), what


def read_back(config: DictConfig, model: LoadedModel, gate: Gate | None, path: Path) -> Scorer:
    """The file as it will be used; one that is not of this model or this gate is refused."""
    scorer: Scorer
    if config.format == ONNX:
        onnx = OnnxScorer(path)
        scorer, fingerprint, found = onnx, onnx.fingerprint, onnx.gate
    else:
        copy = load_model(path, list(config.trusted))
        scorer, fingerprint, found = TorchScorer(copy.network, "cpu", "32-true"), copy.fingerprint, copy.gate
    if fingerprint != model.fingerprint or (found and found.fingerprint) != (gate and gate.fingerprint):
        raise CheckpointError(f"{path}: not written: it came out as another model than {model.path}; report this")
    return scorer


def lines(found: dict[str, Any], path: Path, model: LoadedModel, gate: Gate | None) -> list[str]:
    """What is told of a finished export, a line each; ``found`` and ``path`` are from :func:`write_checked`."""
    decided, parity = model.decided, found["parity"]
    size = Preprocessing.from_dict(model.metadata["preprocessing"])
    warnings = []
    if found["synthetic"]:
        warnings.append("SYNTHETIC: it was trained on drawn phantoms and knows no patient")
    if model.metadata.get("lungs"):
        warnings.append(
            "it saw lungs only: the file wants images in which all else is black; predict.py makes them so (lungs=…), "
            "other programs have to"
        )
    if str((model.metadata["config"].get("trainer") or {}).get("precision")).startswith("bf16"):
        warnings.append(
            "the checkpoint is used in bf16, the file in float32: on these images their scores differ by up to "
            f"{parity['bf16']:.1e}"
        )
    gate_words = "no gate" if gate is None else f"gate {gate.fingerprint[:12] or 'with rules only'}"
    inside = (
        f"images {size.height} x {size.width} x {size.channels}, threshold {decided.threshold:.3g}, "
        f"{'calibrated' if decided.calibrated else 'not calibrated'}, fingerprint {model.fingerprint[:12]}, "
        f"{gate_words}"
    )
    compared = (
        f"{parity['images']} images ({parity['what']}): scores differ from PyTorch's by at most {parity['score']:.1e}, "
        f"logits by {parity['logit']:.1e}; the scores spread over {parity['spread']:.2g}, and {parity['calls']} calls "
        "differ"
    )
    return [
        f"export   {path}  {found['bytes'] / 1e6:.2f} MB (the checkpoint has {found['checkpoint_bytes'] / 1e6:.2f} MB)",
        f"inside   {inside}",
        f"parity   {compared}",
        *(f"WARNING  {each}" for each in warnings),
        f"use      {command('predict', 'input=scans/', ckpt_path=path)}",
        DISCLAIMER,
    ]


def latency_table(latency: dict[str, Any]) -> Table:
    """Milliseconds per image, for the terminal."""
    threads = torch.get_num_threads()
    table = Table(title=f"milliseconds per image, {threads} thread{'s' if threads != 1 else ''}", title_justify="left")
    table.add_column("")
    for batch in latency:
        table.add_column(f"batch {batch}", justify="right")
        table.add_column("/ float32", justify="right")
    for name in next(iter(latency.values())):
        cells = [(f"{each[name]['ms']:.2f}", f"{each[name]['ratio']:.2f}") for each in latency.values()]
        table.add_row(name, *(cell for pair in cells for cell in pair))
    return table
