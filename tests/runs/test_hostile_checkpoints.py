"""Checkpoints of somebody who means harm, or that broke: each ends in one sentence, soon, and in little memory."""

from __future__ import annotations

import io
import os
import pickle
import resource
import struct
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cxrlab.errors import CheckpointError
from cxrlab.models import ClassifierModule, PaperCNN
from cxrlab.models.classifier import METADATA
from cxrlab.models.gate import FORMAT as GATE_FORMAT
from cxrlab.models.gate import KINDS, Gate, Limits
from cxrlab.models.gate_net import GateNet
from cxrlab.runs import AtomicCheckpointIO, load_model
from cxrlab.runs.auxiliary import load_gate, load_segmenter
from cxrlab.runs.checkpoint import FORMAT, final_checkpoint, read_gate
from cxrlab.runs.weights import load_tensors

SMALL: dict[str, Any] = {"image_size": 16, "filters": [2, 3, 4], "dense_units": 5}
NET: dict[str, Any] = {"_target_": "cxrlab.models.PaperCNN", **SMALL}
WEIGHT = "network.conv2d.weight"
SECONDS, BYTES = 10.0, 400e6
Checkpoint = dict[str, Any]
Change = Callable[[Checkpoint], Any]


def good() -> Checkpoint:
    """A checkpoint as a training leaves it."""
    torch.manual_seed(0)
    said = {
        "format": FORMAT,
        "model": dict(NET),
        "config": {"trainer": {"precision": "32-true"}, "data": {"mask": None}},
        "preprocessing": {"height": 16, "width": 16, "channels": 3},
        "labels": {"Negative": 0, "Positive": 1},
        "threshold": 0.5,
        "data": {"fingerprint": "0" * 64},
    }
    return final_checkpoint(ClassifierModule(PaperCNN(**SMALL), metadata=said), "best")


def weight(change: Callable[[torch.Tensor], Any], name: str = WEIGHT) -> Change:
    def changed(checkpoint: Checkpoint) -> Checkpoint:
        state = dict(checkpoint["state_dict"])
        return {**checkpoint, "state_dict": {**state, name: change(state[WEIGHT])}}

    return changed


def said(**changes: Any) -> Change:
    return lambda checkpoint: {**checkpoint, METADATA: {**checkpoint[METADATA], **changes}}


def model(**changes: Any) -> Change:
    return said(model={**NET, **changes})


def whole(**changes: Any) -> Change:
    return lambda checkpoint: {**checkpoint, **changes}


def without_weight(checkpoint: Checkpoint) -> Checkpoint:
    return {**checkpoint, "state_dict": {k: v for k, v in checkpoint["state_dict"].items() if k != WEIGHT}}


def in_itself(kind: type) -> Any:
    found: Any = kind()
    found.update(own=found) if kind is dict else found.append(found)
    return found


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


def laughs(levels: int = 9) -> list[Any]:
    """Ten of ten of ten …: little to store and a billion to walk."""
    found: list[Any] = ["ha"] * 10
    for _ in range(levels - 1):
        found = [found] * 10
    return found


def quantised(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


def sparse_rows(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.eye(3).to_sparse_csr()


def nested_tensor(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.zeros(1), torch.zeros(2)])


class Mine(torch.Tensor):
    """A tensor with a class of its own."""


ESCAPES = "\x1b[2J\x1b]0;owned\x07"
VALUES: dict[str, Change] = {
    "stride zero": weight(lambda value: value.flatten()[:1].clone().view(1, 1, 1, 1).expand(2, 3, 3, 3)),
    "a billion of one number": weight(lambda value: value.flatten()[:1].expand(10**11)),
    "a billion in an entry nobody reads": whole(more=torch.zeros(1).expand(10**12)),
    "int64": weight(lambda value: value.long()),
    "int8": weight(lambda value: value.to(torch.int8)),
    "bool": weight(lambda value: value > 0),
    "complex": weight(lambda value: value.to(torch.complex64)),
    "float8": weight(lambda value: value.to(torch.float8_e4m3fn)),
    "float16": weight(lambda value: value.half()),
    "bfloat16": weight(lambda value: value.bfloat16()),
    "float64": weight(lambda value: value.double()),
    "quantised": weight(quantised),
    "meta": weight(lambda value: value.to("meta")),
    "sparse": weight(lambda value: value.to_sparse()),
    "sparse rows": weight(sparse_rows),
    "nested": weight(nested_tensor),
    "a parameter": weight(torch.nn.Parameter),
    "a subclass": weight(lambda value: value.as_subclass(Mine)),
    "another size": weight(lambda value: value[:1]),
    "a number": weight(lambda value: value.sum()),
    "empty": weight(lambda value: value[:0]),
    "a list for weights": weight(lambda value: value.tolist()),
    "a text for weights": weight(lambda value: "weights"),
    "none for weights": weight(lambda value: None),
    "a mapping for weights": weight(lambda value: {"a": value}),
    "nan": weight(lambda value: value * float("nan")),
    "infinite": weight(lambda value: value / 0),
    "one nan among many": weight(
        lambda value: value.flatten().index_fill(0, torch.tensor([7]), torch.nan).view(2, 3, 3, 3)
    ),
    "missing weights": without_weight,
    "more weights": weight(lambda value: value, "network.more"),
    "an integer for a name": weight(lambda value: value, 7),  # type: ignore[arg-type]
    "a long name": weight(lambda value: value, "x" * 5000),
    "an escape for a name": weight(lambda value: value, f"network.{ESCAPES}"),
    "weights in a list": whole(state_dict=[torch.zeros(1)]),
    "no weights": whole(state_dict=None),
    "a list for all": lambda checkpoint: [checkpoint],
    "a tensor for all": lambda checkpoint: torch.zeros(3),
    "no metadata": whole(**{METADATA: None}),
    "metadata in a list": whole(**{METADATA: [1]}),
    "metadata that are a tensor": whole(**{METADATA: torch.zeros(3)}),
    "a tensor in metadata": said(notes=torch.zeros(3)),
    "metadata in themselves": said(config=in_itself(dict)),
    "a list in itself": said(notes=in_itself(list)),
    "very deep": said(notes=nested(150)),
    "a billion values": said(notes=laughs()),
    "a million values": said(notes=[0] * 1_200_000),
    "keys that are pairs": said(notes={(1, 2): 3}),
    "two keys of one text": said(notes={1: 1, "1": 2}),
    "a huge number": said(threshold=10**400),
    "a long text": said(threshold_rule="x" * 2_000_000),
    "a long key": said(notes={"x" * 5000: 1}),
    "another format": said(format=ESCAPES),
    "a format that is a list": said(format=laughs(3)),
    "an unknown precision": said(config={"trainer": {"precision": ESCAPES}, "data": {}}),
    "a precision that is a list": said(config={"trainer": {"precision": [1]}, "data": {}}),
    "a trainer that is a text": said(config={"trainer": "cpu", "data": {}}),
    "data that are a list": said(config={"trainer": {}, "data": [1]}),
    "no config": said(config=None),
    "labels in a list": said(labels=[0, 1]),
    "a threshold that is nan": said(threshold=float("nan")),
    "a threshold of escapes": said(threshold=ESCAPES),
    "a rule that is a list": said(threshold_rule=[1]),
    "a calibration of nothing": said(calibration={"kind": "x"}),
    "a prevalence of two": said(prevalence=2),
    "an image too large": said(preprocessing={"height": 10**6, "width": 16, "channels": 3}),
    "an image of no size": said(preprocessing={"height": 0, "width": 16, "channels": 3}),
    "an image of another size": said(preprocessing={"height": 32, "width": 32, "channels": 3}),
    "an image of other channels": said(preprocessing={"height": 16, "width": 16, "channels": 1}),
    "a preprocessing of more": said(preprocessing={"height": 16, "width": 16, "channels": 3, "run": "id"}),
    "bytes": said(notes=b"x"),
    "a set": said(notes={1, 2}),
    "a network too wide": model(dense_units=10**12),
    "a network wider than numbers": model(dense_units=10**18, filters=[10**18] * 3),
    "filters without end": model(filters=[1] * 100_000),
    "a huge kernel": model(kernel=10**9),
    "a dropout of text": model(dropout="lots"),
    "an image size of a billion": model(image_size=10**9),
    "a head of escapes": model(head=ESCAPES),
    "an argument nobody knows": model(**{ESCAPES: 1}),
    "no network": said(model={}),
    "a network that is a text": said(model="cxrlab.models.PaperCNN"),
    "a network by number": said(model={"_target_": 1}),
    "a gate for a network": said(model={"_target_": "cxrlab.models.GateNet"}),
    "a vision transformer": said(
        model={"_target_": "cxrlab.models.TorchvisionNet", "name": "vit_b_16", "image_size": 224}
    ),
    "weights from elsewhere": said(
        model={"_target_": "cxrlab.models.TorchvisionNet", "pretrained": True, "weights_path": "/etc/passwd"}
    ),
    "thumbnails without end": said(model={"_target_": "cxrlab.models.ThumbnailLogistic", "size": 10**9}),
    "a function": model(_target_="os.system"),
    "a resolver": model(head="${oc.env:HOME}"),
    "arguments by place": model(_args_=[1]),
    "a gate that is a text": whole(gate="gate"),
    "a gate of one number": whole(gate={"format": GATE_FORMAT}),
    "a gate in itself": whole(gate={"format": GATE_FORMAT, "held_out": in_itself(dict)}),
    "a gate of keys": whole(gate={1: 2, "1": 3}),
}


def attempt(path: Path, load: Callable[[Path], Any] = load_model) -> str:
    """The sentence in which reading a file ends; it must be one, soon, in little memory, and fit for a terminal."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError) as caught:
        load(path)
    text = str(caught.value)
    assert time.process_time() - began < SECONDS
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < BYTES
    assert path.name in text
    assert len(text) < 900
    assert text.isprintable(), text
    return text


@pytest.mark.parametrize("what", VALUES)
def test_values_that_no_training_writes_end_in_a_sentence(what: str, tmp_path: Path) -> None:
    torch.save(VALUES[what](good()), tmp_path / "evil.ckpt")
    attempt(tmp_path / "evil.ckpt")


def test_what_is_unusual_and_right_is_read(tmp_path: Path) -> None:
    for number, change in enumerate(
        [
            lambda checkpoint: checkpoint,
            weight(lambda value: value.requires_grad_()),
            weight(lambda value: torch.cat([value, value])[2:]),  # a part of a larger storage
            weight(lambda value: value.to(memory_format=torch.channels_last)),
            said(config={"data": {"source": {"labels": {0: 0, 1: 1}}}}),  # class folders that are numbers
        ]
    ):
        torch.save(change(good()), tmp_path / f"{number}.ckpt")
        images = torch.rand(2, 3, 16, 16)
        expected = PaperCNN(**SMALL).eval()
        expected.load_state_dict({k.removeprefix("network."): v for k, v in good()["state_dict"].items()})
        assert torch.equal(load_model(tmp_path / f"{number}.ckpt").network(images), expected(images))


def test_float64_weights_belong_to_a_training_in_float64(tmp_path: Path) -> None:
    checkpoint = said(config={"trainer": {"precision": "64-true"}})(good())
    checkpoint["state_dict"] = {key: value.double() for key, value in checkpoint["state_dict"].items()}
    torch.save(checkpoint, tmp_path / "double.ckpt")
    assert next(load_model(tmp_path / "double.ckpt").network.parameters()).dtype == torch.float64


def test_an_image_that_takes_too_much_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    wide = {**SMALL, "image_size": 8192, "filters": [64, 8, 8], "head": "gap"}
    checkpoint = said(model={**NET, **wide}, preprocessing={"height": 8192, "width": 8192})(good())
    checkpoint["state_dict"] = ClassifierModule(PaperCNN(**wide)).state_dict()
    torch.save(checkpoint, tmp_path / "evil.ckpt")
    assert "computes more than" in attempt(tmp_path / "evil.ckpt")


# ------------------------------------------------------------------------------------------------------ the archive


class Calls:
    """Is pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def archive(**parts: bytes) -> bytes:
    return rezipped(lambda found: found | {f"archive/{name.replace('__', '.')}": data for name, data in parts.items()})


def rezipped(change: Callable[[dict[str, bytes]], dict[str, bytes]], packed: int = zipfile.ZIP_STORED) -> bytes:
    """A good checkpoint with some of its parts changed."""
    buffer, out = io.BytesIO(), io.BytesIO()
    torch.save(good(), buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(out, "w", packed) as new:
        for name, data in change({name: old.read(name) for name in old.namelist()}).items():
            new.writestr(name, data)
    return out.getvalue()


def doubled() -> bytes:
    buffer = io.BytesIO(archive())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(buffer, "a") as file:
            file.writestr("archive/data.pkl", pickle.dumps(1, 2))
    return buffer.getvalue()


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save({**good(), METADATA: value}, buffer)
    return buffer.getvalue()


def storage(numbers: int) -> bytes:
    """A pickle of a tensor whose storage says to be larger than the file."""
    buffer = io.BytesIO()
    torch.save(good(), buffer)
    with zipfile.ZipFile(buffer) as found:
        code = found.read("archive/data.pkl")
    return code.replace(b"K\x36tq", b"J" + struct.pack("<i", numbers) + b"tq")


FILES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b"hello" * 100,
    "the head of an archive": lambda: b"PK\x03\x04" + b"\0" * 100,
    "the end of an archive": lambda: b"PK\x05\x06" + b"\xff" * 18,
    "cut off": lambda: archive()[:-200],
    "cut at the front": lambda: archive()[200:],
    "packed": lambda: rezipped(lambda found: found, zipfile.ZIP_DEFLATED),
    "two of one name": doubled,
    "no pickle": lambda: rezipped(lambda found: {k: v for k, v in found.items() if "data.pkl" not in k}),
    "two pickles": lambda: rezipped(lambda found: found | {"other/data.pkl": pickle.dumps(1, 2)}),
    "names that differ in case": lambda: rezipped(lambda found: found | {"archive/DATA.pkl": b""}),
    "a huge pickle": lambda: archive(data__pkl=b"\x80\x02" + b"]" * 5_000_000 + b"."),
    "two million lists": lambda: archive(data__pkl=b"\x80\x02" + b"]" * 3_900_000 + b"."),
    "a pickle cut off": lambda: archive(data__pkl=b"\x80\x02}q\x00(X"),
    "a pickle of noise": lambda: archive(data__pkl=bytes(range(256)) * 8),
    "a pickle of nothing": lambda: archive(data__pkl=b""),
    "a memo that is not there": lambda: archive(data__pkl=b"\x80\x02h\x63."),
    "an end without a beginning": lambda: archive(data__pkl=b"\x80\x02t."),
    "a text longer than the file": lambda: archive(data__pkl=b"\x80\x02X\xff\xff\xff\x7fabc."),
    "a number longer than the file": lambda: archive(data__pkl=b"\x80\x02\x8b\xff\xff\xff\x7fabc."),
    "a later protocol": lambda: archive(data__pkl=pickle.dumps(Calls(os.system, "id"), 5)),
    "the first protocol": lambda: archive(data__pkl=b"(S'id'\nios\nsystem\n."),
    "an extension": lambda: archive(data__pkl=b"\x80\x02\x82\x01."),
    "a call": lambda: saved(Calls(os.system, "id")),
    "memory on demand": lambda: saved(Calls(bytearray, 10**11)),
    "a tensor on demand": lambda: saved(Calls(torch.Tensor, 10**6, 10**6)),
    "a counter": lambda: saved(__import__("collections").Counter("abc")),
    "a device": lambda: saved(torch.device("cpu")),
    "a storage too large": lambda: archive(data__pkl=storage(2**31 - 1)),
    "weights cut off": lambda: rezipped(lambda found: {k: v[:4] if "/data/" in k else v for k, v in found.items()}),
    "weights missing": lambda: rezipped(lambda found: {k: v for k, v in found.items() if "/data/0" not in k}),
    "a byte order nobody knows": lambda: archive(byteorder=b"middle"),
    "a program": lambda: archive(constants__pkl=pickle.dumps((), 2)),
    "pickled without an archive": lambda: pickle.dumps({"state_dict": {}}),
}


@pytest.mark.parametrize("what", FILES)
def test_archives_that_no_training_writes_end_in_a_sentence(what: str, tmp_path: Path) -> None:
    (tmp_path / "evil.ckpt").write_bytes(FILES[what]())
    attempt(tmp_path / "evil.ckpt")
    attempt(tmp_path / "evil.ckpt", AtomicCheckpointIO().load_checkpoint)  # how a run goes on
    attempt(
        tmp_path / "evil.ckpt", lambda path: read_gate(load_tensors(path, path.read_bytes()), path)
    )  # as in ONNX files


def test_a_file_of_holes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evil.ckpt").write_bytes(archive())
    os.truncate(tmp_path / "evil.ckpt", 30 * 2**30)
    assert "holes" in attempt(tmp_path / "evil.ckpt")


def test_what_is_no_file_ends_in_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ckpt")
    assert "no such checkpoint" in attempt(tmp_path / "pipe.ckpt")
    assert "no such" in attempt(tmp_path / "absent.ckpt")


# ----------------------------------------------------------------------------------------------- gates, lungs


def gate(**changes: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    return Gate(GateNet(len(KINDS), [2, 3]), 32, Limits(0.1, 0.9)).as_entry() | changes


def gate_weight(change: Callable[[torch.Tensor], Any]) -> dict[str, Any]:
    state = gate()["state_dict"]
    name = next(iter(state))
    return gate(state_dict={**state, name: change(state[name])})


GATES: dict[str, Any] = {
    "stride zero": gate_weight(lambda value: value.flatten()[:1].expand(10**11)),
    "of other weights": gate_weight(lambda value: value[:1, :, :1]),
    "of halves": gate_weight(lambda value: value.half()),
    "nan": gate_weight(lambda value: value * float("nan")),
    "a text": gate_weight(lambda value: "x"),
    "too wide": gate(channels=[10**9, 10**9]),
    "without end": gate(channels=[1] * 10**5),
    "channels in themselves": gate(channels=in_itself(list)),
    "limits of nothing": gate(limits={}),
    "limits that are nan": gate(limits={"refuse_below": float("nan"), "accept_from": 0.5}),
    "other kinds": gate(kinds=["film"]),
    "a size of a million": gate(image_size=10**6),
    "measured without end": gate(held_out={"a": laughs()}),
    "measured deep down": gate(held_out={"a": nested(150)}),
    "measured text": gate(held_out={"a": "x" * 10**5}),
    "sources that are a tensor": gate(sources=torch.zeros(1)),
    "another format": gate(format=ESCAPES),
}


@pytest.mark.parametrize("what", GATES)
def test_a_gate_that_no_training_writes_ends_in_a_sentence(what: str, tmp_path: Path) -> None:
    torch.save({**good(), "gate": GATES[what]}, tmp_path / "evil.ckpt")
    attempt(tmp_path / "evil.ckpt")
    attempt(tmp_path / "evil.ckpt", lambda path: load_gate(str(path)))


def test_lungs_that_no_training_writes_end_in_a_sentence(tmp_path: Path) -> None:
    for entry in (
        {"format": 1},
        {"format": 1, "image_size": 32, "channels": [10**9, 2], "sources": []},
        {"format": 1, "image_size": 32, "channels": in_itself(list), "sources": []},
        {"format": 1, "image_size": 10**9, "channels": [2, 4], "sources": []},
        {"format": 1, "image_size": 32, "channels": [2, 4], "sources": laughs()},
        {"format": 1, "image_size": 32, "channels": [2, 4], "sources": [ESCAPES]},
        "lungs",
    ):
        torch.save({"state_dict": {"a": torch.zeros(1)}, "lungs": entry}, tmp_path / "evil.ckpt")
        attempt(tmp_path / "evil.ckpt", lambda path: load_segmenter(str(path)))
