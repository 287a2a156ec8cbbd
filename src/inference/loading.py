"""From the path of a model to what predicts with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cxrlab.console import tell
from cxrlab.datamodules import Preprocessing
from cxrlab.errors import CheckpointError, ConfigError
from cxrlab.inference.predictor import Model, Predictor, lungs_only
from cxrlab.inference.scorer import BATCH, TorchScorer
from cxrlab.machine.precision import AUTO, fastest
from cxrlab.models.gate import Gate
from cxrlab.models.segmenter import Segmenter
from cxrlab.runs import LoadedModel, load_model
from cxrlab.runs.auxiliary import choose_gate, load_segmenter

LUNGS = "runs/lungs"


def load(
    ckpt_path: str | os.PathLike[str],
    *,
    gate: str | None = None,
    lungs: str = LUNGS,
    trusted: Sequence[str] = (),
    accelerator: str = "auto",
    precision: str | None = None,
    network: nn.Module | None = None,
    preprocessing: Preprocessing | None = None,
) -> Predictor:
    """Loads a trained model to use it: ``cxrlab.load("runs/…").predict(paths)``.

    Args:
        ckpt_path: A run folder, a ``.ckpt`` file, or an ``.onnx`` file of ``src/export.py``.
        gate: What judges an image before it is scored: a run of ``experiment=gate``, a folder above some, a ``.ckpt``
            file, or ``none``; ``None`` takes the one that travels in the checkpoint, and where there is none, rules
            that need no training: size, colour, blankness.
        lungs: What finds lungs, for models that saw lungs only: a run of ``experiment=lungs`` likewise.
        trusted: Packages beside ``cxrlab.models`` whose networks a checkpoint may name.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        precision: ``None`` takes the precision that the model was trained with, ``auto`` measures which is faster.
        network: Gets the weights, as a copy: the network of a checkpoint that a plain ``pl.Trainer`` wrote with a
            :class:`~cxrlab.models.ClassifierModule`, which does not say what network that was; or one of your own.
        preprocessing: Of such a checkpoint, where the images came from no
            :class:`~cxrlab.datamodules.ChestXRayDataModule`, which would have written it there.

    Raises:
        CheckpointError: The model, the gate or what finds lungs cannot be used; names the file.
        ConfigError: An ``.onnx`` file runs on the CPU in the precision that is in it, and holds its network.
    """
    path = Path(ckpt_path).expanduser()
    if path.suffix.lower() == ".onnx":
        if accelerator not in ("auto", "cpu") or precision not in (None, "32-true"):
            raise ConfigError(f"{path}: an .onnx file runs on the CPU in float32; leave out accelerator and precision")
        if network is not None or preprocessing is not None:
            raise ConfigError(f"{path}: an .onnx file holds its network; leave out network and preprocessing")
        model, own_gate = _onnx_model(path)
    else:
        model, own_gate = _torch_model(load_model(path, trusted, network, preprocessing), path, accelerator, precision)
    return Predictor(model, choose_gate(gate, own_gate or Gate()), _segmenter(model, lungs))


def _torch_model(loaded: LoadedModel, path: Path, accelerator: str, precision: str | None) -> tuple[Model, Gate | None]:
    if precision is None:
        trainer: Any = loaded.metadata["config"]
        try:
            precision = str(trainer["trainer"]["precision"])
        except (KeyError, TypeError):
            raise CheckpointError(f"{loaded.path}: does not say its precision; precision=32-true names one") from None
    if precision == AUTO:
        size = Preprocessing.from_dict(loaded.metadata["preprocessing"]).shape
        precision, reason = fastest(loaded.network, (BATCH, *size), accelerator, training=False)
        tell(f"precision=auto: {reason}", error=True)  # not where a program may read JSON
    fingerprint = loaded.fingerprint
    scorer = TorchScorer(loaded.network, accelerator, precision)
    name = path.name if path.is_dir() else path.stem
    return Model(name, loaded.metadata, fingerprint, scorer, loaded.network, loaded.path), loaded.gate


def _onnx_model(path: Path) -> tuple[Model, Gate | None]:
    from cxrlab.inference.onnx_file import OnnxScorer

    scorer = OnnxScorer(path)
    return Model(path.stem, scorer.metadata, scorer.fingerprint, scorer, None, path), scorer.gate


def _segmenter(model: Model, lungs: str) -> Segmenter | None:
    if not lungs_only(model.metadata, model.path):
        return None
    return load_segmenter(lungs)
