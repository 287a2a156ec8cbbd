"""A trained model as one ONNX file: written, and run with ONNX Runtime, with everything needed to use it inside."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxrlab.console import DISCLAIMER, command
from cxrlab.datamodules import Preprocessing
from cxrlab.errors import CheckpointError, check_range
from cxrlab.evaluation.estimate import Floats
from cxrlab.files import write_atomically
from cxrlab.imports import need
from cxrlab.inference import onnx_guard
from cxrlab.inference.contents import (
    GATE_KEY,
    INPUT,
    METADATA_KEY,
    OUTPUTS,
    Contents,
    ScoringNetwork,
    example,
    read_texts,
    texts,
)
from cxrlab.models.gate import Gate
from cxrlab.runs.checkpoint import LoadedModel

OPSETS = (18, 23)
"""Versions of ONNX's operators that can be written: PyTorch's exporter begins with 18."""
SEAL_KEY = "cxrlab.seal"
_KEYS = (METADATA_KEY, GATE_KEY)
MAX_SECONDS = 60.0
"""Of a graph for one image; it is given up on then."""
_AT_ONCE = 64  # images that go through the graph together at most; more are no faster
_ROOM = 64 * 2**20  # bytes left for the graph and the texts beside the weights


def write_onnx(model: LoadedModel, path: str | Path, gate: Gate | None = None, opset: int | None = None) -> None:
    """Writes a model as one ONNX file that ONNX Runtime, or any other runtime, can use without this project.

    Its input is ``image``, float32 (N, C, H, W) in [0, 1], N as large as one likes; its outputs are ``logit`` and
    ``score`` (the logit's sigmoid, not calibrated), float32 (N,). Preprocessing, labels, calibration, threshold and
    fingerprint are JSON in its metadata under ``cxrlab``, the gate under ``cxrlab.gate``.

    Args:
        model: To be written; weights are stored as float32.
        path: Where the file is to stand; an older one is replaced when the new one is whole.
        gate: Travels along; ``None`` for none.
        opset: Version of ONNX's operators, 18 to 23; ``None`` leaves it to PyTorch.

    Raises:
        MissingLibraryError: The extra ``export`` is not installed.
        CheckpointError: The network cannot be written as an ONNX graph, or is larger than 2 GB.
        ValueError: ``opset`` is out of range.
        OSError: The file cannot be written.
    """
    path = Path(path)
    if opset is not None:
        check_range("opset", opset, *OPSETS, integer=True)
    for name in ("onnx", "onnxscript"):
        need(name, onnx_guard.ONNX)
    _check_size(model)
    found = _graph(model, opset)
    _without_traces(found)
    said = texts(model, gate)
    for key, text in {**said, SEAL_KEY: onnx_guard.seal(found, said)}.items():
        found.metadata_props.add(key=key, value=text)
    data = found.SerializeToString()
    write_atomically(path, lambda file: file.write(data))


class OnnxScorer:
    """Runs an ONNX file of this project, which may come from a stranger; see :class:`cxrlab.inference.scorer.Scorer`.

    Args:
        path: A file that :func:`write_onnx` wrote.

    Attributes:
        path: The file.
        metadata: As :attr:`cxrlab.runs.LoadedModel.metadata` of the checkpoint that it was made from.
        fingerprint: That checkpoint's, SHA-256.
        gate: What judges an image before it is scored; ``None`` where the file has none.

    Raises:
        MissingLibraryError: The extra ``export`` is not installed.
        CheckpointError: The file cannot be used; it names why.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        onnx, runtime = need("onnx", onnx_guard.ONNX), need("onnxruntime", onnx_guard.ONNX)
        data = _read(self.path)
        contents, numbers = _looked_through(self.path, onnx, data)
        self.metadata: dict[str, Any] = contents.metadata
        self.fingerprint = contents.fingerprint
        self.gate = contents.gate
        self.preprocessing = contents.preprocessing
        self._at_once = min(_AT_ONCE, onnx_guard.MAX_ELEMENTS // numbers)
        self._session = _session(self.path, runtime, data)
        self._version = runtime.__version__
        self._run_options = runtime.RunOptions

    def __call__(self, images: NDArray[np.uint8]) -> Floats:
        """Returns scores, float64 (n,), of images (n, height, width, channels) as prepared."""
        return self.logits_and_scores(images)[1].astype(np.float64)

    def logits_and_scores(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns logits and scores, float32 (n,) each, of images (n, height, width, channels) as prepared.

        Raises:
            ValueError: The images are of another shape or type than the file's preprocessing gives.
            CheckpointError: The graph fails on them.
        """
        channels, height, width = self.preprocessing.shape
        if images.dtype != np.uint8 or images.shape[1:] != (height, width, channels):
            raise ValueError(
                f"images must be uint8 (n, {height}, {width}, {channels}), got {images.dtype} {images.shape}"
            )
        found = [(np.zeros(0, np.float32), np.zeros(0, np.float32))]
        starts = range(0, len(images), self._at_once)
        found += [self._run(images[start : start + self._at_once]) for start in starts]
        return np.concatenate([logits for logits, _ in found]), np.concatenate([scores for _, scores in found])

    def _run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        batch = Preprocessing.to_float(torch.from_numpy(np.ascontiguousarray(images))).contiguous().numpy()
        options = self._run_options()
        limit = threading.Timer(MAX_SECONDS * len(images), setattr, (options, "terminate", True))
        limit.daemon = True
        limit.start()
        try:
            logits, scores = self._session.run(list(OUTPUTS), {INPUT: batch}, options)
        except Exception as error:  # the runtime's own classes, which share no base but this
            late = f"took more than {MAX_SECONDS:g} s for an image" if options.terminate else ""
            reason = late or f"fails on an image ({_first_line(error)})"
            raise CheckpointError(f"{self.path}: its graph {reason}") from error
        finally:
            limit.cancel()
        if logits.shape != (len(images),) or scores.shape != (len(images),):
            raise CheckpointError(f"{self.path}: refused: it gives {scores.shape} scores for {len(images)} images")
        return logits, scores

    @property
    def words(self) -> dict[str, Any]:
        """What it runs on, for people."""
        return {"runtime": f"ONNX Runtime {self._version}", "device": "cpu", "precision": "32-true"}


def _check_size(model: LoadedModel) -> None:
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.network.state_dict().values())
    if weights > onnx_guard.MAX_BYTES - _ROOM:
        raise CheckpointError(
            f"{model.path}: its weights are {weights / 1e9:.1f} GB, and one ONNX file holds at most 2 GB; "
            "format=torch_export has no such limit"
        )


def _graph(model: LoadedModel, opset: int | None) -> Any:
    """``onnx.ModelProto`` of the network and its sigmoid."""
    network = ScoringNetwork(model.network)
    images = example(Preprocessing.from_dict(model.metadata["preprocessing"]))
    try:
        program = torch.onnx.export(
            network,
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
            f"{model.path}: its network cannot be written as an ONNX graph ({_first_line(error)}); "
            "try format=torchscript"
        ) from error
    assert program is not None
    return program.model_proto


def _without_traces(found: Any) -> None:
    """Removes what the exporter notes of where each node came from: source lines with paths of this machine."""
    for each in (found, found.graph, *found.graph.node, *found.graph.value_info, *found.graph.initializer):
        del each.metadata_props[:]
        each.doc_string = ""
    for each in (*found.graph.input, *found.graph.output):
        del each.metadata_props[:]
    found.doc_string = DISCLAIMER


def _read(path: Path) -> bytes:
    """The file's bytes: what is looked through is what is run, whatever happens to the file in between."""
    if not path.is_file():
        how = command("export", "ckpt_path=runs/…", "format=onnx")
        raise CheckpointError(f"{path}: no such file; `{how}` makes one")
    size = path.stat().st_size
    if size > onnx_guard.MAX_BYTES:
        raise CheckpointError(f"{path}: {size / 1e9:.1f} GB, and an ONNX file holds at most 2 GB; copy it again")
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); see its permissions") from None


def _looked_through(path: Path, onnx: Any, data: bytes) -> tuple[Contents, int]:
    """Checks the graph and reads the texts; returns these, and how many numbers an image takes."""
    try:
        model = onnx.ModelProto.FromString(data)  # reads no other file, whatever this one names
    except Exception as error:  # protobuf's own class, which is another in another version
        raise CheckpointError(f"{path}: not a readable ONNX file: damaged, or something else; copy it again") from error
    if not model.graph.node:
        raise CheckpointError(f"{path}: not a readable ONNX file: it has no graph; copy it again")
    onnx_guard.check(path, model, len(data))
    props = {entry.key: entry.value for entry in model.metadata_props}
    contents = read_texts(path, props)
    said = {key: props[key] for key in _KEYS if key in props}
    if props.get(SEAL_KEY) != onnx_guard.seal(model, said):
        raise CheckpointError(
            f"{path}: refused: it was changed or damaged after it was exported, and its fingerprint no longer holds; "
            "export the checkpoint again"
        )
    return contents, onnx_guard.check_shapes(path, model, contents.preprocessing.shape)


def _session(path: Path, runtime: Any, data: bytes) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong comes as an exception, and is told once
    runtime.disable_telemetry_events()  # its builds for Windows would report to their maker
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own classes, which share no base but this
        raise CheckpointError(
            f"{path}: ONNX Runtime cannot use its graph ({_first_line(error)}); export the checkpoint again"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:300]
