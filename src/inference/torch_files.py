"""A trained model as a file of PyTorch that needs no class of ours: TorchScript, or a program of ``torch.export``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.jit._trace import TracerWarning

from cxrlab.datamodules import Preprocessing
from cxrlab.errors import CheckpointError
from cxrlab.files import write_atomically
from cxrlab.inference.contents import (
    GATE_KEY,
    INPUT,
    METADATA_KEY,
    Contents,
    ScoringNetwork,
    example,
    read_texts,
    texts,
)
from cxrlab.models.gate import Gate
from cxrlab.runs.checkpoint import LoadedModel

Run = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images (N, C, H, W), float32 in [0, 1], to logits (N,) and scores (N,)."""


def write_torchscript(model: LoadedModel, path: str | Path, gate: Gate | None = None) -> None:
    """Writes a model as TorchScript, by tracing; the texts of the contents are its extra files.

    PyTorch calls TorchScript deprecated since 2.9 and still reads and writes it: it is for programs that already load
    it, in C++ for example.

    Args:
        model: To be written.
        path: Where the file is to stand; an older one is replaced when the new one is whole.
        gate: Travels along; ``None`` for none.

    Raises:
        CheckpointError: The network cannot be traced.
        OSError: The file cannot be written.
    """
    network, images = ScoringNetwork(model.network), _images(model)
    with _expected():
        try:
            traced = torch.jit.trace(network, images, check_trace=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # tracing runs the network's own code, which may raise anything
            raise _cannot(model, "traced", error) from error
        said = texts(model, gate)
        write_atomically(Path(path), lambda file: torch.jit.save(traced, file, _extra_files=said))


def read_torchscript(path: Path) -> tuple[Run, Contents]:
    """Reads what :func:`write_torchscript` wrote; a file of your own, since TorchScript is a program.

    Raises:
        CheckpointError: Its texts are not those of this project.
    """
    found = {METADATA_KEY: "", GATE_KEY: ""}
    with _expected():
        network = torch.jit.load(path, map_location="cpu", _extra_files=found)  # type: ignore[no-untyped-call]
    said = {key: value.decode() if isinstance(value, bytes) else value for key, value in found.items() if value}
    return network, read_texts(path, said)


def write_torch_export(model: LoadedModel, path: str | Path, gate: Gate | None = None) -> None:
    """Writes a model as a program of ``torch.export``; the texts of the contents are its extra files.

    Args:
        model: To be written.
        path: Where the file is to stand; an older one is replaced when the new one is whole.
        gate: Travels along; ``None`` for none.

    Raises:
        CheckpointError: The network cannot be exported.
        OSError: The file cannot be written.
    """
    network, images = ScoringNetwork(model.network), _images(model)
    try:
        program = torch.export.export(network, (images,), dynamic_shapes={INPUT: {0: torch.export.Dim("N")}})
    except Exception as error:  # tracing runs the network's own code, which may raise anything
        raise _cannot(model, "exported", error) from error
    program.example_inputs = None  # noise that would stand in the file
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # source lines with paths of this machine
    said = texts(model, gate)
    with _expected():
        write_atomically(Path(path), lambda file: torch.export.save(program, file, extra_files=said))


def read_torch_export(path: Path) -> tuple[Run, Contents]:
    """Reads what :func:`write_torch_export` wrote; a file of your own, since it is a program.

    Raises:
        CheckpointError: Its texts are not those of this project.
    """
    found = {METADATA_KEY: "", GATE_KEY: ""}
    program = torch.export.load(path, extra_files=found)
    return program.module(), read_texts(path, {key: value for key, value in found.items() if value})


def _images(model: LoadedModel) -> Tensor:
    return example(Preprocessing.from_dict(model.metadata["preprocessing"]))


@contextmanager
def _expected() -> Iterator[None]:
    """Silences what PyTorch says each time, and what is checked anyway."""
    with warnings.catch_warnings():
        # That TorchScript is deprecated stands in the help and the documentation, once. (The category is another one in
        # PyTorch 2.10.)
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
        # That another batch size might take another path: other sizes are tried after every export.
        warnings.filterwarnings("ignore", category=TracerWarning)
        # Weights in channels_last order are on the CPU, for which it warns in vain.
        warnings.filterwarnings("ignore", message="No complete tensor found in the group", category=UserWarning)
        yield


def _cannot(model: LoadedModel, done: str, error: Exception) -> CheckpointError:
    reason = (str(error).strip().partition("\n")[0] or type(error).__name__)[:300]
    return CheckpointError(f"{model.path}: its network cannot be {done} ({reason}); another format=… may do")
