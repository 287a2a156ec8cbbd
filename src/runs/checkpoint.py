"""Checkpoints: written whole or not at all, read as data and never as code, and all that is needed to use the model."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy.typing as npt
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf
from torch import nn

from cxrlab.datamodules import ChestXRayDataModule, Preprocessing
from cxrlab.datamodules.manifest import LABELS
from cxrlab.errors import CheckpointError, ConfigError
from cxrlab.evaluation.decision import FIXED, Decided
from cxrlab.evaluation.estimate import Floats
from cxrlab.files import write_atomically
from cxrlab.models.classifier import METADATA, ClassifierModule
from cxrlab.models.gate import Gate
from cxrlab.models.segmenter import weights_fingerprint
from cxrlab.rebuild import rebuild
from cxrlab.runs.folder import RunFolder
from cxrlab.runs.weights import check_weights, check_work, first_line, load_tensors
from cxrlab.untrusted import plain

FORMAT = 1
"""Version of the metadata below; raised when an older reader could not understand a newer file."""
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true")
"""In which a network is trained and used."""
_OF_DATA = ("preprocessing", "lungs", "labels", "data")
_NEEDED = ("format", "model", "config", "preprocessing", "labels", "threshold", "data")
_DECISIVE = ("model", "preprocessing", "lungs", "labels", "calibration", "threshold")
_PREFIX = "network."
GATE = "gate"
"""The checkpoint entry that holds what judges an image before it is scored, see :mod:`cxrlab.models.gate`."""


def metadata(config: DictConfig, datamodule: ChestXRayDataModule, decided: Decided = FIXED) -> dict[str, Any]:
    """What travels with the weights, so that nothing else is needed to use them; plain values only.

    Args:
        config: The run's.
        datamodule: Set up.
        decided: How scores become probabilities and calls, as far as it is known.
    """
    plain = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    seen = datamodule.state_dict()
    return {
        "format": FORMAT,
        "model": plain["model"],
        "config": plain,
        **{key: seen[key] for key in _OF_DATA},
        **decided.as_dict(),
    }


def lightning_metadata(
    checkpoint: dict[str, Any], network: nn.Module, preprocessing: Preprocessing | None, path: Path
) -> dict[str, Any]:
    """What stands in for the metadata of a checkpoint that a plain ``pl.Trainer`` wrote; to be checked as a file's own.

    Args:
        checkpoint: From :func:`load_checkpoint`.
        network: The network that its weights belong to.
        preprocessing: What happened to the images, where the file does not say so; it does where they came from a
            :class:`~cxrlab.datamodules.ChestXRayDataModule`.
        path: The file, for messages.

    Raises:
        CheckpointError: Nothing says what happened to the images, or both do; it names the file.
    """
    seen = checkpoint.get(ChestXRayDataModule.__qualname__)
    if isinstance(seen, dict) and preprocessing is not None:
        raise CheckpointError(f"{path}: it says itself how its images were prepared; leave out preprocessing=")
    if not isinstance(seen, dict) and preprocessing is None:
        raise CheckpointError(
            f"{path}: it does not say how its images were prepared, since they came from no ChestXRayDataModule; "
            "preprocessing=cxrlab.Preprocessing(height, width) does"
        )
    if not isinstance(seen, dict):
        seen = {"preprocessing": preprocessing.as_dict(), "labels": dict(LABELS), "data": {}} if preprocessing else {}
    return {
        "format": FORMAT,
        "model": {"_target_": f"{type(network).__module__}.{type(network).__qualname__}"},
        # Lightning does not write the precision into its checkpoints.
        "config": {"trainer": {"precision": PRECISIONS[0]}, "data": {key: seen.get(key) for key in ("mask", "alter")}},
        **{key: seen.get(key) for key in _OF_DATA},
        **FIXED.as_dict(),
    }


def final_checkpoint(module: ClassifierModule, weights: str, gate: Gate | None = None) -> dict[str, Any]:
    """The checkpoint that a finished run keeps: weights and metadata, no optimizer.

    Args:
        module: With the weights that were evaluated.
        weights: Which those are, in words.
        gate: Travels along where there is one.
    """
    kept = {"state_dict": module.state_dict(), METADATA: {**module.metadata, "weights": weights}}
    return kept if gate is None else {**kept, GATE: gate.as_entry()}


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final place, flushes it to disk and renames it.

    Lightning's own goes through a temporary folder that may be on another disk, and has passed over a read-only folder
    in silence (its threads #19970 and #21800); here that is an error.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves, or raises :class:`CheckpointError` naming the file; an older file at ``path`` then stays whole."""
        try:
            write_atomically(Path(path), lambda file: torch.save(checkpoint, file))
        except OSError as error:
            hint = "free some space, or choose another folder with hydra.run.dir=…"
            raise CheckpointError(f"{path}: the checkpoint cannot be written ({error.strerror}); {hint}") from error

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads, or raises :class:`CheckpointError` naming the damaged file."""
        found = load_tensors(Path(path))
        if not isinstance(found, dict):
            raise CheckpointError(f"{path}: not a checkpoint of this project: it is no mapping")
        return found


@dataclass(frozen=True)
class LoadedModel:
    """A network with everything needed to use it.

    Attributes:
        network: With its weights, in evaluation mode, on the CPU; images (N, channels, height, width) to logits (N, 1).
        metadata: ``model`` (its config), ``preprocessing``, ``labels``, ``data`` (fingerprint and names), ``config``
            (the whole run's), and of the decision ``calibration``, ``threshold``, ``threshold_rule``, ``prevalence``
            and ``fitted_on``, of which older checkpoints hold the threshold only.
        path: The file it came from.
        gate: What judges an image before it is scored; ``None`` where the checkpoint has none.
    """

    network: nn.Module
    metadata: dict[str, Any]
    path: Path
    gate: Gate | None = None

    @property
    def decided(self) -> Decided:
        """How its scores become probabilities and calls."""
        return read_decided(self.metadata, self.path)

    @property
    def threshold(self) -> float:
        """An image is called Positive when its probability, after :meth:`calibrate`, is at least this; in [0, 1]."""
        return self.decided.threshold

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides what is said of an image: weights, network, preprocessing and decision."""
        what = {key: self.metadata.get(key) for key in _DECISIVE}
        what["weights"] = weights_fingerprint(self.network.state_dict())
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()

    def calibrate(self, scores: npt.ArrayLike) -> Floats:
        """Returns probabilities of Positive, float64, of the network's scores (sigmoids of its logits), shape (n,)."""
        return self.decided.calibration(scores)


def read_decided(metadata: dict[str, Any], path: Path) -> Decided:
    """How scores become probabilities and calls, by untrusted metadata.

    Raises:
        CheckpointError: They hold something else; it names the file.
    """
    try:
        return Decided.from_dict(metadata)
    except ValueError as error:
        raise CheckpointError(
            f"{path}: refused: its calibration or threshold is none ({error}); copy the checkpoint again, or train anew"
        ) from None


def read_metadata(found: Any, path: Path) -> dict[str, Any]:
    """Checks what an untrusted file says of itself.

    Args:
        found: Its metadata.
        path: The file, for messages.

    Returns:
        A plain copy, see :func:`cxrlab.untrusted.plain`.

    Raises:
        CheckpointError: Something is missing, of another format, or out of range; it names the file.
    """
    try:
        found = plain(found)
    except ValueError as error:
        raise CheckpointError(f"{path}: refused: in its metadata {error}; ask its author for another copy") from None
    missing = [key for key in _NEEDED if not isinstance(found, dict) or key not in found]
    if missing:
        raise CheckpointError(f"{path}: not a checkpoint of this project: it lacks {', '.join(missing)}")
    if found["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: format {repr(found['format'])[:20]}, this cxrlab reads format {FORMAT}; use a matching version"
        )
    for key in ("model", "config", "preprocessing", "labels", "data"):  # readers rely on it
        if not isinstance(found[key], dict):
            raise CheckpointError(f"{path}: refused: its {key} must be a mapping; copy it again")
    for key in ("trainer", "data"):
        if not isinstance(found["config"].get(key, {}), dict):
            raise CheckpointError(f"{path}: refused: its config.{key} must be a mapping; copy it again")
    precision = found["config"].get("trainer", {}).get("precision", PRECISIONS[0])
    if precision not in PRECISIONS:
        raise CheckpointError(f"{path}: refused: its precision must be one of {', '.join(PRECISIONS)}; copy it again")
    read_decided(found, path)  # refuses now, rather than after images were scored
    try:
        Preprocessing.from_dict(found["preprocessing"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: refused: its preprocessing is none ({first_line(error)}); copy it again"
        ) from None
    return cast(dict[str, Any], found)


def read_gate(entry: Any, path: Path) -> Gate | None:
    """The gate of an untrusted file; ``None`` where it has none.

    Raises:
        CheckpointError: It cannot be used; it names the file.
    """
    if entry is None:
        return None
    try:
        if not isinstance(entry, dict):
            raise ValueError(f"gate: must be a table of values, got {type(entry).__name__}")
        values = plain({key: value for key, value in entry.items() if key != "state_dict"})
        return Gate.from_entry(values | {key: value for key, value in entry.items() if key == "state_dict"})
    except ValueError as error:
        raise CheckpointError(f"{path}: refused: its {error}") from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads an untrusted checkpoint: tensors and plain values only.

    Raises:
        CheckpointError: No such file, not a checkpoint, damaged, or one that holds code; or its ``state_dict`` holds
            anything but weights by name.
    """
    checkpoint = load_tensors(path)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint of this project: it has no state_dict")
    state = checkpoint["state_dict"]
    if not isinstance(state, dict) or not all(type(name) is str and len(name) <= 1000 for name in state):
        raise CheckpointError(f"{path}: refused: its state_dict must hold weights by name; copy it again")
    for name, value in state.items():
        if type(value) is not torch.Tensor:
            raise CheckpointError(f"{path}: refused: its weights {name[:80]!r} are no tensor; copy it again")
    return checkpoint


def load_model(
    ckpt_path: str | Path,
    trusted: Sequence[str] = (),
    network: nn.Module | None = None,
    preprocessing: Preprocessing | None = None,
) -> LoadedModel:
    """Loads a network from a run folder or a checkpoint file.

    Args:
        ckpt_path: Either; of a run folder its best weights, or the last where its recipe says so.
        trusted: Packages beside ``cxrlab.models`` whose ``nn.Module`` classes a checkpoint may name, for networks of
            your own.
        network: Gets the weights, as a copy, whatever network the file names; needed where it names none, which is so
            in a checkpoint that a plain ``pl.Trainer`` wrote.
        preprocessing: Of such a checkpoint, where it does not say how the images were prepared.

    Raises:
        CheckpointError: The file cannot be used; it names why.
    """
    path = Path(ckpt_path).expanduser()
    if path.is_dir():
        path = RunFolder.of(path).weights()
    checkpoint = load_checkpoint(path)
    found = checkpoint.get(METADATA)
    unsaid = found is None or found == {}
    if unsaid and found is not None and network is None:
        raise CheckpointError(
            f"{path}: a checkpoint of a plain Trainer, which does not say what network its weights belong to; "
            "cxrlab.load(path, network=…) takes that network"
        )
    if unsaid and network is not None:
        found = lightning_metadata(checkpoint, network, preprocessing, path)
    elif preprocessing is not None:
        raise CheckpointError(f"{path}: it says itself how its images were prepared; leave out preprocessing=")
    metadata = read_metadata(found, path)
    without_memory = (
        _network(path, metadata["model"], trusted) if network is None else copy.deepcopy(network).to("meta")
    )
    precision = metadata["config"].get("trainer", {}).get("precision")
    state = {
        key.removeprefix(_PREFIX): value for key, value in checkpoint["state_dict"].items() if key.startswith(_PREFIX)
    }
    check_weights(path, state, without_memory.state_dict(), double=precision == "64-true")
    check_work(path, without_memory, Preprocessing.from_dict(metadata["preprocessing"]).shape)
    # A network that was given may hold what no checkpoint does, a buffer that is not persistent for example.
    loaded = without_memory if network is None else copy.deepcopy(network)
    loaded.load_state_dict(state, assign=True)
    gate = read_gate(checkpoint.get(GATE), path)
    return LoadedModel(loaded.requires_grad_(False).eval(), metadata, path, gate)


def _network(path: Path, config: dict[str, Any], trusted: Sequence[str]) -> nn.Module:
    """Builds the network that an untrusted checkpoint names, without memory."""
    try:
        with torch.device("meta"):
            network = rebuild(config, "model", trusted, nn.Module)
    except ConfigError as error:
        raise CheckpointError(f"{path}: refused: {error}") from None
    except (TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError, LookupError) as error:
        raise CheckpointError(f"{path}: its network cannot be built ({first_line(error)}); copy it again") from None
    return cast(nn.Module, network)
