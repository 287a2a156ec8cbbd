"""Weights from an untrusted file: what is read of it, what is refused, and what a network may ask for.

A file of ``torch.save`` is a zip archive with a pickle. The pickle is looked through before PyTorch opens it, and
nothing in it is run; tensors have to lie in the memory that came with them.
"""

from __future__ import annotations

import inspect
import io
import os
import pickle
import pickletools
import re
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from cxrlab.console import command
from cxrlab.errors import CheckpointError

MAX_NUMBERS, MAX_OPERATORS = 2**31, 100_000
"""That a network may compute for one image, and the operators that it may take."""
_MAX_PICKLE = 2 * 2**20
"""Bytes; the largest networks with the state of their optimizer have a third of it."""
_GLOBALS = frozenset({"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "_codecs encode"})
_STORAGE = re.compile("torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage")
_OPERATIONS = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"})
_UNREADABLE = (
    *(OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError),
    *(OverflowError, MemoryError, NotImplementedError, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What zipfile, pickletools and PyTorch raise on damaged files."""


def load_tensors(path: Path, data: bytes | None = None) -> Any:
    """Tensors and plain values of an untrusted file of ``torch.save``, of which nothing is run.

    Args:
        path: The file.
        data: Its bytes, where it stands inside of another file, ``path``.

    Raises:
        CheckpointError: It is no such file, or holds anything else; it names the file.
    """
    if data is None and not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; name a run folder below runs/, or a .ckpt file")
    if data is None and 51200 * getattr(path.stat(), "st_blocks", 2**60) < path.stat().st_size:  # blocks of 512 bytes
        raise CheckpointError(f"{path}: refused: nearly all of it is holes, which would fill the memory; copy it again")
    try:
        with path.open("rb") if data is None else io.BytesIO(data) as file:
            _check_archive(path, file)
        # Without mmap, which compares no storage with the part of the file that it lies in.
        found = torch.load(path if data is None else io.BytesIO(data), "cpu", weights_only=True)
        _check_tensors(found)
    except _RefusedError as error:
        raise CheckpointError(f"{path}: refused: {error}; ask its author for the weights alone") from None
    except _UNREADABLE as error:
        reason = first_line(error)
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason}); copy it again, or train anew") from None
    return found


class _RefusedError(ValueError):
    """A file holds what no checkpoint of this project does."""


def _check_archive(path: Path, file: IO[bytes]) -> None:
    """Refuses a file before PyTorch opens it: what unfolds, two files of one name, and a pickle with more than weights.

    ``torch.load`` runs no code with ``weights_only=True``, but builds on demand what takes memory without end
    (``bytearray``), or what is no plain tensor.
    """
    if not zipfile.is_zipfile(file):  # the directory of a zip archive is at its end, so one cut off is none
        raise ValueError("it is cut off, or no file of torch.save")
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        size = file.seek(0, os.SEEK_END)
        if any(part.filename.lower().endswith(("constants.pkl", "archive_format")) for part in parts):
            how = command("export", "ckpt_path=runs/…")
            raise CheckpointError(
                f"{path}: refused: a program of TorchScript or torch.export, which could run code; use a run folder, "
                f"a .ckpt file or an .onnx file, which `{how}` makes"
            )
        packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if packed or sum(part.file_size for part in parts) > size:
            raise _RefusedError("it unfolds to more than it holds, which no file of torch.save does")
        pickles = [part for part in parts if part.filename.endswith("/data.pkl")]
        names = {part.filename.lower() for part in parts}
        if len(names) < len(parts) or len(pickles) != 1:
            raise _RefusedError("its parts are not those of torch.save")
        if pickles[0].file_size > _MAX_PICKLE:
            raise _RefusedError(f"its pickle has {pickles[0].file_size:,} bytes, and {_MAX_PICKLE:,} are the most")
    file.seek(pickles[0].header_offset + 26)  # zipfile would stop at a wrong checksum, which PyTorch does not look at
    lengths = struct.unpack("<HH", file.read(4))
    file.seek(sum(lengths), os.SEEK_CUR)
    _check_pickle(file.read(pickles[0].file_size))


def _check_pickle(code: bytes) -> None:
    registered = [each for each in torch.serialization.get_safe_globals() if inspect.isclass(each)]
    allowed = _GLOBALS | {f"{each.__module__} {each.__qualname__}" for each in registered}
    for operation, argument, _ in pickletools.genops(code):
        if operation.name == "GLOBAL" and argument not in allowed and not _STORAGE.fullmatch(str(argument)):
            named = str(argument).replace(" ", ".")[:80]
            raise _RefusedError(f"{named!r} is more than tensors and plain values, and could run code")
        if operation.name in _OPERATIONS:
            raise _RefusedError(f"{operation.name} is more than tensors and plain values, and could run code")


def _check_tensors(found: Any) -> None:
    """Refuses tensors that say to be larger than the memory they lie in, at any depth.

    A stride of zero repeats one number without end, and everything that copies such a tensor takes the memory for all.
    """
    todo, seen = [found], set()
    while todo:
        value = todo.pop()
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.device.type != "cpu":
                raise _RefusedError("a tensor in it is no plain one")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise _RefusedError(
                    f"a tensor in it says to be {'x'.join(map(str, value.shape))[:80]}, more than it holds"
                )
        elif isinstance(value, dict | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            todo.extend([*value.keys(), *value.values()] if isinstance(value, dict) else value)


def check_weights(path: Path, state: dict[str, Tensor], wanted: dict[str, Tensor], *, double: bool = False) -> None:
    """Refuses weights of other names, shapes or types than a network's, and such that are no numbers.

    Args:
        path: For messages.
        state: From a file.
        wanted: The network's own.
        double: Whether floating numbers are float64.

    Raises:
        CheckpointError: Names file and weights.
    """
    for name in [*wanted, *state]:
        found, like = state.get(name), wanted.get(name)
        if found is None or like is None or found.shape != like.shape:
            shapes = ["none" if each is None else f"{tuple(each.shape)}"[:80] for each in (like, found)]
            raise CheckpointError(
                f"{path}: its weights do not fit the network it names: {name[:80]!r} must be {shapes[0]}, "
                f"got {shapes[1]}"
            )
        kind = torch.float64 if double and like.is_floating_point() else like.dtype
        if found.dtype != kind:
            raise CheckpointError(f"{path}: refused: its weights {name[:80]!r} are {found.dtype}, and {kind} is needed")
        if not bool(torch.isfinite(found).all()):
            raise CheckpointError(
                f"{path}: refused: its weights {name[:80]!r} are not all finite numbers, as after a training that "
                "diverged; every score would be one; use another epoch's, or train again with a lower optimizer.lr"
            )


def check_work(path: Path, network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Refuses a network through which such images do not go, or that takes more than any of this project's would.

    Nothing is computed: only shapes are followed (PyTorch's device ``meta``).

    Args:
        path: For messages.
        network: On the device ``meta``.
        shape: Channels, height and width of one image.
    """
    work = _Work()
    constants = {name: value.to("meta") for name, value in network.named_buffers()}
    was_training = network.training
    try:
        with torch.inference_mode(), work:
            logits = functional_call(network.eval(), constants, (torch.empty(1, *shape, device="meta"),))
    except _TooMuchError as error:
        raise CheckpointError(f"{path}: refused: its network {error}; use a smaller image_size") from None
    except NotImplementedError:  # an operator of somebody's own that does not tell its shapes
        return
    except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
        size = "x".join(map(str, shape))
        raise CheckpointError(
            f"{path}: refused: images of {size} do not go through its network ({first_line(error)})"
        ) from None
    finally:
        network.train(was_training)
    if not isinstance(logits, Tensor) or logits.shape != (1, 1):
        raise CheckpointError(f"{path}: refused: its network gives no logit for an image; copy it again")


class _TooMuchError(Exception):
    """A network asks for more than is allowed."""


class _Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the numbers that operators give."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numbers = 0
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operators += 1
        for each in found if isinstance(found, tuple | list) else (found,):
            self.numbers += each.numel() if isinstance(each, Tensor) else 0
        if self.numbers > MAX_NUMBERS or self.operators > MAX_OPERATORS:
            raise _TooMuchError(
                f"computes more than {MAX_NUMBERS:,} numbers, or in more than {MAX_OPERATORS:,} steps, for one image"
            )
        return found


def first_line(error: BaseException) -> str:
    """The first line of somebody else's message."""
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
