"""The steps of an export: check what was asked, write the file, compare it with PyTorch, say what came of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from rich.table import Table

from cxrlab.config import Problems, check_names
from cxrlab.console import DISCLAIMER, command
from cxrlab.datamodules import Preprocessing, SyntheticSource
from cxrlab.datamodules.pixels import read_all
from cxrlab.errors import CheckpointError, ConfigError, DataError, check_choice, check_range
from cxrlab.files import file_sha256, write_json
from cxrlab.imports import check_installed
from cxrlab.inference.contents import ScoringNetwork
from cxrlab.inference.inputs import list_inputs
from cxrlab.inference.onnx_file import OPSETS, OnnxScorer, write_onnx
from cxrlab.inference.parity import TOLERANCE, Images, Parity, Run, torch_run
from cxrlab.inference.torch_files import read_torch_export, read_torchscript, write_torch_export, write_torchscript
from cxrlab.models.gate import Gate
from cxrlab.runs.checkpoint import GATE, AtomicCheckpointIO, LoadedModel, load_checkpoint, load_model
from cxrlab.runs.environment import cpu_name

KEYS = ("ckpt_path", "format", "output", "gate", "opset", "images", "max_images", "latency", "trusted")
"""The keys of ``conf/export.yaml``."""
ONNX, TORCHSCRIPT, TORCH_EXPORT, CHECKPOINT = "onnx", "torchscript", "torch_export", "checkpoint"
SUFFIXES = {ONNX: ".onnx", TORCHSCRIPT: ".pt", TORCH_EXPORT: ".pt2", CHECKPOINT: ".ckpt"}
"""By format."""
RUNTIMES = {ONNX: "ONNX Runtime", TORCHSCRIPT: "TorchScript", TORCH_EXPORT: "torch.export", CHECKPOINT: "the copy"}
"""What runs a file, by format."""
PHANTOMS = 16


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        path: The file.
        json: The file beside it that says what was found.
        model: What was exported.
        gate: That travels in the file; ``None`` for none.
        parity: How far it is from PyTorch.
        latency: See :func:`cxrlab.inference.parity.time_ways`; ``None`` where nothing was timed.
    """

    path: Path
    json: Path
    model: LoadedModel
    gate: Gate | None
    parity: Parity
    latency: dict[str, Any] | None


def check_plan(config: DictConfig) -> None:
    """Checks a configuration; no file is touched.

    Raises:
        ConfigError: Lists every problem.
    """
    problems = Problems()
    check_names(config, KEYS, problems)
    with problems.guard("format"):
        check_choice("format", config.format, SUFFIXES)
        for name in ("onnx", "onnxruntime", "onnxscript") if config.format == ONNX else ():
            check_installed(name, "format=onnx", "choose format=torchscript")
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


def output_of(config: DictConfig, model: LoadedModel) -> Path:
    """Where the file is to stand: in the folder ``export`` of its run, or as asked.

    Raises:
        ConfigError: On the checkpoint itself.
    """
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


def images_to_check(config: DictConfig, model: LoadedModel) -> tuple[Images, str]:
    """Images as the network sees them, shape (n, H, W, C), and which they are, in words.

    Raises:
        DataError: There are none, or one cannot be read.
    """
    preprocessing = Preprocessing.from_dict(model.metadata["preprocessing"])
    if config.images is None:
        with tempfile.TemporaryDirectory() as folder:
            half = PHANTOMS // 2
            source = SyntheticSource(folder, half, half, disease="consolidation")  # more like films than lines are
            pixels = read_all([str(path) for path in source.manifest()["path"]], preprocessing)
            return _stack(pixels.images), "drawn phantoms"
    given = [str(each) for each in config.images] if isinstance(config.images, ListConfig) else str(config.images)
    paths = list_inputs(given).paths[: config.max_images]
    pixels = read_all(paths, preprocessing)
    if pixels.problems:
        first = next(iter(pixels.problems.values()))
        raise DataError(f"images: {len(pixels.problems)} of {len(paths)} cannot be read, the first: {first}")
    return _stack(pixels.images), str(config.images)


def _stack(images: Any) -> Images:
    return np.stack([np.asarray(images[row], dtype=np.uint8) for row in range(len(images))])


@contextmanager
def workshop(output: Path) -> Iterator[Path]:
    """A folder beside ``output`` in which a file is made and checked before it takes that place; gone afterwards.

    Raises:
        ConfigError: It cannot be made.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=output.parent, prefix=".export.")
    except OSError as error:
        raise _unwritable(output, error) from None
    with folder as name:
        yield Path(name)


def write(config: DictConfig, model: LoadedModel, gate: Gate | None, path: Path) -> None:
    """Writes the file.

    Raises:
        UserError: The network cannot be written in this format, or the folder cannot be written.
    """
    try:
        if config.format == ONNX:
            write_onnx(model, path, gate, config.opset)
        elif config.format == TORCHSCRIPT:
            write_torchscript(model, path, gate)
        elif config.format == TORCH_EXPORT:
            write_torch_export(model, path, gate)
        else:
            _write_checkpoint(model, path, gate)
    except OSError as error:
        raise _unwritable(path, error) from None


def _write_checkpoint(model: LoadedModel, path: Path, gate: Gate | None) -> None:
    """The checkpoint as it is, with another gate."""
    checkpoint = {key: value for key, value in load_checkpoint(model.path).items() if key != GATE}
    if gate is not None:
        checkpoint[GATE] = gate.as_entry()
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)


def read_back(config: DictConfig, model: LoadedModel, gate: Gate | None, path: Path) -> Run:
    """The file as it will be used.

    Raises:
        CheckpointError: It cannot be used, or is not of this model or this gate.
    """
    run, fingerprint, found = _read(config, path)
    if fingerprint != model.fingerprint or (found and found.fingerprint) != (gate and gate.fingerprint):
        raise CheckpointError(f"{path}: not written: it came out as another model than {model.path}; report this")
    return run


def _read(config: DictConfig, path: Path) -> tuple[Run, str, Gate | None]:
    if config.format == ONNX:
        scorer = OnnxScorer(path)
        return scorer.logits_and_scores, scorer.fingerprint, scorer.gate
    if config.format == CHECKPOINT:
        model = load_model(path, list(config.trusted))
        return torch_run(ScoringNetwork(model.network)), model.fingerprint, model.gate
    network, contents = (read_torchscript if config.format == TORCHSCRIPT else read_torch_export)(path)
    return torch_run(network), contents.fingerprint, contents.gate


def check_parity(parity: Parity, output: Path) -> None:
    """Refuses a file whose scores are others than PyTorch's.

    Raises:
        CheckpointError: They differ by more than the tolerance, or are no numbers.
    """
    if not parity.holds:
        raise CheckpointError(
            f"{output}: not written: on {parity.images} images ({parity.what}) its scores differ from PyTorch's by up "
            f"to {parity.score:.2g}, and {TOLERANCE:g} is allowed; try another format=…"
        )


def facts(config: DictConfig, done: Exported, written: Path) -> dict[str, Any]:
    """What the JSON file beside an export says: plain values.

    Args:
        config: As composed.
        done: The export.
        written: The file, which is not yet at its place.
    """
    return {
        "notice": DISCLAIMER,
        "format": config.format,
        "file": done.path.name,
        "bytes": written.stat().st_size,
        "sha256": file_sha256(written),
        "checkpoint": str(done.model.path),
        "checkpoint_bytes": done.model.path.stat().st_size,
        "fingerprint": done.model.fingerprint,
        "gate": None if done.gate is None else done.gate.fingerprint,
        "synthetic": _is_synthetic(done.model),
        "parity": asdict(done.parity),
        "latency": done.latency,
        "machine": {"torch": torch.__version__, "threads": torch.get_num_threads(), "cpu": cpu_name()},
    }


def put_in_place(found: dict[str, Any], written: Path, done: Exported) -> None:
    """Moves the checked file to its place, where an older one is replaced, and writes the JSON file beside it.

    Raises:
        ConfigError: The folder cannot be written.
    """
    try:
        written.replace(done.path)
        write_json(done.json, found)
    except OSError as error:
        raise _unwritable(done.path, error) from None


def lines(found: dict[str, Any], done: Exported) -> list[str]:
    """What is told of a finished export, a line each."""
    decided, parity = done.model.decided, done.parity
    prepared = Preprocessing.from_dict(done.model.metadata["preprocessing"])
    calibration = "calibrated" if decided.calibrated else "not calibrated"
    gate = "no gate" if done.gate is None else f"gate {done.gate.fingerprint[:12] or 'with rules only'}"
    size, checkpoint_size = (f"{found[key] / 1e6:.2f} MB" for key in ("bytes", "checkpoint_bytes"))
    inside = (
        f"images {prepared.height} x {prepared.width} x {prepared.channels}, threshold {decided.threshold:.3g}, "
        f"{calibration}, fingerprint {done.model.fingerprint[:12]}, {gate}"
    )
    compared = (
        f"{parity.images} images ({parity.what}): scores differ from PyTorch's by at most {parity.score:.1e}, logits "
        f"by {parity.logit:.1e}; the scores spread over {parity.spread:.2g}, and {parity.calls} calls differ"
    )
    return [
        f"export   {done.path}  {size} (the checkpoint has {checkpoint_size})",
        f"inside   {inside}",
        f"parity   {compared}",
        *_warnings(done.model, parity),
        f"use      {_use(found['format'], done.path)}",
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


def _warnings(model: LoadedModel, parity: Parity) -> list[str]:
    """What a reader has to know beside the numbers."""
    found = []
    if _is_synthetic(model):
        found.append("WARNING  SYNTHETIC: it was trained on drawn phantoms and knows no patient")
    if model.metadata.get("lungs"):
        found.append(
            "WARNING  it saw lungs only: the file wants images in which all else is black; predict.py makes them so "
            "(lungs=…), other programs have to"
        )
    trainer = model.metadata["config"].get("trainer") or {}
    if str(trainer.get("precision")).startswith("bf16"):
        found.append(
            "WARNING  the checkpoint is used in bf16, the file in float32: on these images their scores differ by up "
            f"to {parity.bf16:.1e}"
        )
    return found


def _is_synthetic(model: LoadedModel) -> bool:
    return bool(model.metadata["data"].get("synthetic"))


def _use(file_format: str, output: Path) -> str:
    if file_format in (ONNX, CHECKPOINT):
        return command("predict", "input=scans/", ckpt_path=output)
    call = "torch.jit.load" if file_format == TORCHSCRIPT else "torch.export.load"
    return f"{call}({str(output)!r}) in a program of yours, see docs/export.md"


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"output: {path} cannot be written ({error.strerror}); output=… names another place")
