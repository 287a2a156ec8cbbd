"""A trained model as one ONNX file: written, and run with ONNX Runtime, with everything needed to use it inside."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrlab.console import DISCLAIMER, command
from cxrlab.datamodules import Preprocessing
from cxrlab.errors import CheckpointError, check_range
from cxrlab.files import write_atomically
from cxrlab.imports import need
from cxrlab.inference import onnx_guard
from cxrlab.inference.onnx_guard import INPUT, OUTPUTS
from cxrlab.inference.scorer import BATCH, Images, Scorer
from cxrlab.models.gate import Gate
from cxrlab.runs.checkpoint import LoadedModel, read_gate, read_metadata
from cxrlab.runs.weights import first_line, load_tensors
from cxrlab.untrusted import parse_json

OPSETS = (18, 23)  # versions of ONNX's operators that can be written: PyTorch's exporter begins with 18
# Of the texts in a file, which every runtime can read without this project.
METADATA_KEY, GATE_KEY, SEAL_KEY = "cxrlab", "cxrlab.gate", "cxrlab.seal"
MAX_TEXT = 64 * 2**20  # characters of one text that are read; a gate has a few million
MAX_SECONDS = 60.0  # of a graph for one image; it is given up on then
_ROOM = 64 * 2**20  # bytes left for the graph and the texts beside the weights
_OWN = ("fingerprint", "notice", "input", "outputs")  # beside the metadata of a checkpoint


class ScoringNetwork(nn.Module):
    """A classifier of images (N, C, H, W) with its sigmoid: gives logits (N,) and scores (N,) in [0, 1]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()  # of the whole: the exporter asks this module, not the one inside

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and scores."""
        logit = self.network(image).squeeze(1)
        return logit, logit.sigmoid()


def write_onnx(model: LoadedModel, path: str | Path, gate: Gate | None = None, opset: int | None = None) -> None:
    """Writes a model as one ONNX file that ONNX Runtime, or any other runtime, can use without this project.

    Its input is ``image``, float32 (N, C, H, W) in [0, 1], N as large as one likes; its outputs are ``logit`` and
    ``score`` (the logit's sigmoid, not calibrated), float32 (N,). Preprocessing, labels, calibration, threshold and
    fingerprint are JSON in its metadata under ``cxrlab``, the gate under ``cxrlab.gate``.

    Args:
        model: To be written; weights are stored as float32.
        path: An older file there is replaced when the new one is whole.
        gate: Travels along; ``None`` for none.
        opset: Version of ONNX's operators, 18 to 23; ``None`` leaves it to PyTorch.

    Raises:
        MissingLibraryError: The extra ``export`` is not installed.
        CheckpointError: The network cannot be written as an ONNX graph, or is larger than 2 GB.
        ValueError: ``opset`` is out of range.
        OSError: The file cannot be written.
    """
    if opset is not None:
        check_range("opset", opset, *OPSETS, integer=True)
    for name in ("onnx", "onnxscript"):
        need(name, onnx_guard.ONNX)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.network.state_dict().values())
    if weights > onnx_guard.MAX_BYTES - _ROOM:
        raise CheckpointError(
            f"{model.path}: its weights are {weights / 1e9:.1f} GB, and one ONNX file holds at most 2 GB; "
            "use the checkpoint itself"
        )
    shape = Preprocessing.from_dict(model.metadata["preprocessing"]).shape
    images = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))  # of one, the exporter fixes the size
    try:
        program = torch.onnx.export(
            ScoringNetwork(model.network),
            (images,),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_shapes={INPUT: {0: torch.export.Dim("N")}},
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    except Exception as error:  # tracing runs the network's own code, which may raise anything
        raise CheckpointError(
            f"{model.path}: its network cannot be written as an ONNX graph ({first_line(error)}); "
            "use the checkpoint itself"
        ) from error
    assert program is not None
    found: Any = program.model_proto
    # The exporter notes where each node came from: source lines with paths of this machine.
    for each in (found, found.graph, *found.graph.node, *found.graph.value_info, *found.graph.initializer):
        del each.metadata_props[:]
        each.doc_string = ""
    for each in (*found.graph.input, *found.graph.output):
        del each.metadata_props[:]
    found.doc_string = DISCLAIMER
    texts = _texts(model, gate)
    for key, text in {**texts, SEAL_KEY: onnx_guard.seal(found, texts)}.items():
        found.metadata_props.add(key=key, value=text)
    data = found.SerializeToString()
    write_atomically(Path(path), lambda file: file.write(data))


def _texts(model: LoadedModel, gate: Gate | None) -> dict[str, str]:
    """Everything but the weights, by key."""
    preprocessing = Preprocessing.from_dict(model.metadata["preprocessing"])
    order = "RGB" if preprocessing.channels == 3 else "grey"
    shape = ["N", *preprocessing.shape]
    said = {
        **model.metadata,
        "fingerprint": model.fingerprint,
        "notice": DISCLAIMER,
        "input": {"name": INPUT, "shape": shape, "dtype": "float32", "range": [0, 1], "order": order},
        "outputs": {"logit": "float32 (N,)", "score": "float32 (N,), the logit's sigmoid, before calibration"},
    }
    try:
        texts = {METADATA_KEY: json.dumps(said, allow_nan=False)}
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{model.path}: its metadata cannot be written as JSON ({error}); train anew") from None
    if gate is not None:
        buffer = io.BytesIO()
        torch.save(gate.as_entry(), buffer)
        texts[GATE_KEY] = base64.b64encode(buffer.getvalue()).decode("ascii")
    return texts


class OnnxScorer(Scorer):
    """Runs an ONNX file of this project; the file is untrusted.

    The file is read once: the bytes that were checked are those that are run, whatever happens to the file.

    Attributes:
        metadata: As :attr:`cxrlab.runs.LoadedModel.metadata` of the checkpoint that it was made from.
        fingerprint: That checkpoint's, SHA-256.
        gate: What judges an image before it is scored; ``None`` where the file has none.
        preprocessing: What happens to an image before the network sees it.

    Raises:
        MissingLibraryError: The extra ``export`` is not installed.
        CheckpointError: The file cannot be used; it names why.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path = Path(path).expanduser()
        runtime = need("onnxruntime", onnx_guard.ONNX)
        data = _read(path)
        try:
            self.metadata, self.fingerprint, self.gate, numbers = _checked(path, data)
        except onnx_guard.RefusedError as error:
            again = f"export the checkpoint again with `{command('export')}`, or ask its author for the checkpoint"
            raise CheckpointError(f"{path}: refused: {error}; {again}") from None
        self.preprocessing = Preprocessing.from_dict(self.metadata["preprocessing"])
        self.at_once = min(BATCH, onnx_guard.MAX_ELEMENTS // numbers)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what goes wrong comes as an exception, and is told once
        runtime.disable_telemetry_events()  # its builds for Windows would report to their maker
        try:
            self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own classes, which share no base but this
            raise CheckpointError(
                f"{path}: ONNX Runtime cannot use its graph ({first_line(error)}); export the checkpoint again"
            ) from error
        self._runtime = runtime
        self.words = {"runtime": f"ONNX Runtime {runtime.__version__}", "device": "cpu", "precision": "32-true"}

    def run(self, images: Images) -> tuple[NDArray[Any], NDArray[Any]]:
        """See :class:`Scorer`.

        Raises:
            ValueError: The images are of another shape or type than the file's preprocessing gives.
            CheckpointError: The graph fails on them.
        """
        channels, height, width = self.preprocessing.shape
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
            raise ValueError(
                f"images must be uint8 (n, {height}, {width}, {channels}), got {images.dtype} {images.shape}"
            )
        batch = Preprocessing.to_float(torch.from_numpy(np.ascontiguousarray(images))).contiguous().numpy()
        options = self._runtime.RunOptions()
        limit = threading.Timer(MAX_SECONDS * len(images), setattr, (options, "terminate", True))
        limit.daemon = True
        limit.start()
        try:
            logits, scores = self._session.run(list(OUTPUTS), {INPUT: batch}, options)
        except Exception as error:  # the runtime's own classes, which share no base but this
            late = f"took more than {MAX_SECONDS:g} s for an image" if options.terminate else ""
            reason = late or f"fails on an image ({first_line(error)})"
            raise CheckpointError(f"{self.path}: its graph {reason}") from error
        finally:
            limit.cancel()
        if logits.shape != (len(images),) or scores.shape != (len(images),):
            raise CheckpointError(f"{self.path}: refused: it gives {scores.shape} scores for {len(images)} images")
        return logits, scores


def _read(path: Path) -> bytes:
    if not path.is_file():
        how = command("export", "ckpt_path=runs/…")
        raise CheckpointError(f"{path}: no such file; `{how}` makes one")
    size = path.stat().st_size
    if size > onnx_guard.MAX_BYTES:
        raise CheckpointError(f"{path}: {size / 1e9:.1f} GB, and an ONNX file holds at most 2 GB; copy it again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); see its permissions") from None


def _checked(path: Path, data: bytes) -> tuple[dict[str, Any], str, Gate | None, int]:
    """Metadata, fingerprint and gate of an untrusted file, and how many numbers its graph computes for one image."""
    onnx = need("onnx", onnx_guard.ONNX)
    try:
        model = onnx.ModelProto.FromString(data)  # reads no other file, whatever this one names
    except Exception as error:  # protobuf's own class, which is another in another version
        raise CheckpointError(f"{path}: not a readable ONNX file: damaged, or something else; copy it again") from error
    if not model.graph.node:
        raise CheckpointError(f"{path}: not a readable ONNX file: it has no graph; copy it again")
    onnx_guard.check(model, len(data))
    texts = {entry.key: entry.value for entry in model.metadata_props}
    sealed = texts.pop(SEAL_KEY, None)
    texts = {key: texts[key] for key in (METADATA_KEY, GATE_KEY) if key in texts}
    metadata, fingerprint, gate = _read_texts(path, texts)
    if sealed != onnx_guard.seal(model, texts):
        raise onnx_guard.RefusedError(
            "it was changed or damaged after it was exported, and its fingerprint no longer holds"
        )
    shape = Preprocessing.from_dict(metadata["preprocessing"]).shape
    return metadata, fingerprint, gate, onnx_guard.check_shapes(model, shape)


def _read_texts(path: Path, texts: Mapping[str, str]) -> tuple[dict[str, Any], str, Gate | None]:
    if METADATA_KEY not in texts:
        how = command("export", "ckpt_path=runs/…")
        raise CheckpointError(
            f"{path}: not a file of this project: it has no metadata {METADATA_KEY!r}; make one with `{how}`"
        )
    for key, text in texts.items():
        if len(text) > MAX_TEXT:
            raise onnx_guard.RefusedError(f"its metadata {key!r} hold more than {MAX_TEXT:,} characters")
    try:
        said = parse_json(texts[METADATA_KEY])
    except ValueError as error:
        raise onnx_guard.RefusedError(f"its metadata are no JSON ({error})") from None
    if not isinstance(said, dict):
        raise onnx_guard.RefusedError("its metadata are no mapping")
    metadata = read_metadata({key: value for key, value in said.items() if key not in _OWN}, path)
    fingerprint = said.get("fingerprint")
    if not (isinstance(fingerprint, str) and re.fullmatch("[0-9a-f]{64}", fingerprint)):
        raise onnx_guard.RefusedError("its fingerprint is no SHA-256")
    if GATE_KEY not in texts:
        return metadata, fingerprint, None
    try:
        entry = load_tensors(path, data=base64.b64decode(texts[GATE_KEY], validate=True))
    except (ValueError, CheckpointError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(f"{path}: refused: its gate cannot be read ({reason}); gate=… names another") from None
    return metadata, fingerprint, read_gate(entry, path)
