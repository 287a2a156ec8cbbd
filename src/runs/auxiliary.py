"""The lung segmenter and the gate, which help a classifier, by the runs that trained them.

A user names one by the run's folder, by a folder above some (the newest finished one is taken), or by a file, which may
come from a stranger.
"""

from __future__ import annotations

from pathlib import Path

import torch

from cxrlab.console import command
from cxrlab.errors import CheckpointError, check_range
from cxrlab.models import LungUnet
from cxrlab.models.gate import Gate
from cxrlab.models.gate import how_to_train as how_to_train_gate
from cxrlab.models.segmenter import Segmenter
from cxrlab.runs.checkpoint import GATE as GATE_ENTRY
from cxrlab.runs.checkpoint import load_checkpoint, read_gate
from cxrlab.runs.folder import GATE, LUNGS
from cxrlab.runs.weights import check_weights
from cxrlab.untrusted import plain, read_mapping

NO_GATE = "none"
LUNGS_FORMAT = 1
"""Version of the entry ``lungs`` of a checkpoint."""
LUNGS_ENTRY = "lungs"


def _how_to_train_lungs() -> str:
    how = command("train", "experiment=lungs")
    return f"`{how}` trains one, `… data.cohen=false data.phantoms=200` on drawn phantoms only"


def load_segmenter(lungs: str) -> Segmenter:
    """Loads the lung segmenter.

    Args:
        lungs: A run of ``experiment=lungs``, as above; ``~`` is expanded.

    Raises:
        CheckpointError: There is none, or the file cannot be used.
    """
    path = _locate("lungs", lungs, LUNGS, _how_to_train_lungs())
    checkpoint = load_checkpoint(path)
    entry = checkpoint.get(LUNGS_ENTRY)
    if not isinstance(entry, dict) or entry.get("format") != LUNGS_FORMAT:
        raise CheckpointError(f"{path}: holds no lung segmenter (format {LUNGS_FORMAT}); {_how_to_train_lungs()}")
    try:
        entry = plain(entry)
        check_range("image_size", entry["image_size"], 32, 1024, integer=True)
        with torch.device("meta"):  # an untrusted file cannot claim memory by the size that it states
            network = LungUnet(list(entry["channels"]))
        if entry["image_size"] % network.multiple:
            raise ValueError(f"image_size must be a multiple of {network.multiple}, got {entry['image_size']}")
        check_weights(path, checkpoint["state_dict"], network.state_dict())
        network.load_state_dict(checkpoint["state_dict"], assign=True)
        trained_on = tuple(str(source) for source in entry["sources"])
        return Segmenter(network, entry["image_size"], path, trained_on)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: its weights cannot be used ({reason}); {_how_to_train_lungs()}") from None


def load_gate(gate: str) -> Gate:
    """Loads a trained gate.

    Args:
        gate: A run of ``experiment=gate``, as above, or a classifier's checkpoint with a gate in it; ``~`` is expanded.

    Raises:
        CheckpointError: There is none, or the file cannot be used.
    """
    path = _locate("gate", gate, GATE, how_to_train_gate())
    entry = load_checkpoint(path).get(GATE_ENTRY)
    if not isinstance(entry, dict) or not entry:
        raise CheckpointError(f"{path}: holds no trained gate; {how_to_train_gate()}")
    return read_gate(entry, path) or Gate()


def choose_gate(asked: str | None, own: Gate | None) -> Gate | None:
    """The gate that was asked for with ``gate=…``; ``None`` where there is to be none.

    Args:
        asked: As for :func:`load_gate`; or ``none``, or ``None`` for the model's own.
        own: That one.

    Raises:
        CheckpointError: There is none where one was named.
    """
    if asked is None:
        return own
    return None if asked == NO_GATE else load_gate(asked)


def _locate(key: str, given: str, name: str, how: str) -> Path:
    """The checkpoint that a user means.

    Args:
        key: Of the configuration, ``lungs`` or ``gate``; also the experiment.
        given: Its value.
        name: Of the file in a run folder.
        how: To get one, for messages.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"{key}={given}: no such file or folder; {how}")
    finished = [file for file in path.rglob(name) if _is_finished(file.parent)]
    if not finished:
        raise CheckpointError(f"{key}={given}: no finished run of experiment={key} in this folder; {how}")
    return max(finished, key=lambda file: (file.stat().st_mtime_ns, str(file)))


def _is_finished(folder: Path) -> bool:
    return bool(read_mapping(folder / "metrics.json").get("status") == "finished")
