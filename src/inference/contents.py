"""What travels inside an exported file beside the weights: texts, which every runtime can read without this project."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cxrlab.console import DISCLAIMER, command
from cxrlab.datamodules import Preprocessing
from cxrlab.errors import CheckpointError
from cxrlab.models.gate import Gate
from cxrlab.runs.checkpoint import LoadedModel, read_gate, read_metadata
from cxrlab.runs.weights import load_tensors
from cxrlab.untrusted import parse_json

METADATA_KEY = "cxrlab"
GATE_KEY = "cxrlab.gate"
INPUT, OUTPUTS = "image", ("logit", "score")
MAX_TEXT = 64 * 2**20
"""Characters of one text that are read; a gate has a few million."""

_OWN = ("fingerprint", "notice", "input", "outputs")  # beside the metadata of a checkpoint
_HEX = frozenset("0123456789abcdef")


class ScoringNetwork(nn.Module):
    """A classifier with its sigmoid: images (N, C, H, W), float32 in [0, 1], to logits (N,) and scores (N,) in [0, 1].

    Args:
        network: Turns the images into logits (N, 1).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()  # of the whole: the exporters ask this module, not the one inside

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and scores."""
        logit = self.network(image).squeeze(1)
        return logit, logit.sigmoid()


@dataclass(frozen=True)
class Contents:
    """What the texts of an exported file say.

    Attributes:
        metadata: As :attr:`cxrlab.runs.LoadedModel.metadata`.
        fingerprint: Of the checkpoint that the file was made from, SHA-256.
        gate: What judges an image before it is scored; ``None`` where there is none.
    """

    metadata: dict[str, Any]
    fingerprint: str
    gate: Gate | None

    @property
    def preprocessing(self) -> Preprocessing:
        """What happens to an image before the network sees it."""
        return Preprocessing.from_dict(self.metadata["preprocessing"])


def example(preprocessing: Preprocessing, count: int = 2) -> Tensor:
    """Images to trace a network with, float32 in [0, 1]; two, since exporters take one for a size that stays."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand((count, *preprocessing.shape), generator=generator)


def texts(model: LoadedModel, gate: Gate | None) -> dict[str, str]:
    """Everything but the weights as texts by key.

    Args:
        model: To be exported.
        gate: To travel along.

    Raises:
        CheckpointError: The metadata hold something that JSON has no word for.
    """
    preprocessing = Preprocessing.from_dict(model.metadata["preprocessing"])
    said = {
        **model.metadata,
        "fingerprint": model.fingerprint,
        "notice": DISCLAIMER,
        "input": {
            "name": INPUT,
            "shape": ["N", *preprocessing.shape],
            "dtype": "float32",
            "range": [0, 1],
            "order": "RGB" if preprocessing.channels == 3 else "grey",
        },
        "outputs": {"logit": "float32 (N,)", "score": "float32 (N,), the logit's sigmoid, before calibration"},
    }
    try:
        found = {METADATA_KEY: json.dumps(said, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{model.path}: its metadata cannot be written as JSON ({error}); train anew") from None
    if gate is not None:
        buffer = io.BytesIO()
        torch.save(gate.as_entry(), buffer)
        found[GATE_KEY] = base64.b64encode(buffer.getvalue()).decode("ascii")
    return found


def read_texts(path: Path, found: Mapping[str, str]) -> Contents:
    """Reads what :func:`texts` wrote; the file may come from a stranger.

    Args:
        path: For messages.
        found: Texts by key.

    Raises:
        CheckpointError: Something is missing, no JSON, or out of range; it names the file.
    """
    if METADATA_KEY not in found:
        raise CheckpointError(
            f"{path}: not a file of this project: it has no metadata {METADATA_KEY!r}; make one with "
            f"`{command('export', 'ckpt_path=runs/…', 'format=onnx')}`"
        )
    for key in (METADATA_KEY, GATE_KEY):
        if len(found.get(key, "")) > MAX_TEXT:
            raise CheckpointError(f"{path}: refused: its metadata {key!r} hold more than {MAX_TEXT:,} characters")
    try:
        said = parse_json(found[METADATA_KEY])
    except ValueError as error:
        raise CheckpointError(
            f"{path}: refused: its metadata are no JSON ({error}); export the checkpoint again"
        ) from None
    if not isinstance(said, dict):
        raise CheckpointError(f"{path}: refused: its metadata are no mapping; export the checkpoint again")
    metadata = read_metadata({key: value for key, value in said.items() if key not in _OWN}, path)
    fingerprint = said.get("fingerprint")
    if not (isinstance(fingerprint, str) and len(fingerprint) == 64 and set(fingerprint) <= _HEX):
        raise CheckpointError(f"{path}: refused: its fingerprint is no SHA-256; export the checkpoint again")
    gate = None
    if GATE_KEY in found:
        try:
            entry = load_tensors(path, data=base64.b64decode(found[GATE_KEY], validate=True))
        except (ValueError, CheckpointError) as error:
            reason = str(error).removeprefix(f"{path}: ")
            raise CheckpointError(
                f"{path}: refused: its gate cannot be read ({reason}); gate=… names another"
            ) from None
        gate = read_gate(entry, path)
    return Contents(metadata, fingerprint, gate)
