from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from cxrlab.errors import CheckpointError
from cxrlab.models import ClassifierModule, PaperCNN
from cxrlab.models.classifier import METADATA
from cxrlab.runs import AtomicCheckpointIO, load_checkpoint, load_model
from cxrlab.runs.checkpoint import FORMAT, final_checkpoint

SMALL = {"image_size": 16, "filters": [2, 3, 4], "dense_units": 5}


def metadata(**model: Any) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model": {"_target_": "cxrlab.models.PaperCNN", **SMALL, **model},
        "config": {},
        "preprocessing": {"height": 16, "width": 16, "channels": 3},
        "labels": {"Negative": 0, "Positive": 1},
        "threshold": 0.5,
        "data": {"fingerprint": "0" * 64},
    }


def saved(path: Path, **changes: Any) -> Path:
    module = ClassifierModule(PaperCNN(**SMALL), metadata=metadata())  # type: ignore[arg-type]
    checkpoint = final_checkpoint(module, "last (epoch 1)")
    checkpoint[METADATA] = {**checkpoint[METADATA], **changes}
    torch.save(checkpoint, path)
    return path


def test_loads_what_was_saved(tmp_path: Path) -> None:
    network = PaperCNN(**SMALL).eval()  # type: ignore[arg-type]
    torch.save(final_checkpoint(ClassifierModule(network, metadata=metadata()), "best"), tmp_path / "model.ckpt")
    model = load_model(tmp_path / "model.ckpt")
    images = torch.rand(4, 3, 16, 16)
    assert torch.equal(model.network(images), network(images))
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert model.metadata["weights"] == "best"


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("pickled_by", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_not_run(pickled_by: str, tmp_path: Path) -> None:
    path, sign = tmp_path / "evil.ckpt", tmp_path / "owned"
    if pickled_by == "torch":
        torch.save({"state_dict": {}, METADATA: Evil(sign)}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Evil(sign)}))
    with pytest.raises(CheckpointError, match=r"evil\.ckpt"):
        load_model(path)
    assert not sign.exists()


@pytest.mark.parametrize(
    "target",
    ["os.mkdir", "builtins.eval", "cxrlab.models.torchvision_net.torch.hub.load", "torchvision.models.resnet18", ""],
)
def test_a_target_that_is_no_network_of_ours_is_refused(target: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.ckpt", model={"_target_": target, "name": str(tmp_path / "owned")})
    with pytest.raises(CheckpointError, match="refused"):
        load_model(path)
    assert not (tmp_path / "owned").exists()


def test_a_target_hidden_in_an_argument_is_refused(tmp_path: Path) -> None:
    hidden = {"_target_": "os.mkdir", "path": str(tmp_path / "owned")}
    path = saved(tmp_path / "model.ckpt", model={**metadata()["model"], "head": hidden})
    with pytest.raises(CheckpointError, match="refused"):
        load_model(path)
    assert not (tmp_path / "owned").exists()


def test_a_class_of_ours_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.ckpt", model={"_target_": "cxrlab.models.layer_table.LayerRow"})
    with pytest.raises(CheckpointError, match=r"model\.ckpt"):
        load_model(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "format 99, this cxrlab reads format 1"),
        ({"model": {"_target_": "cxrlab.models.PaperCNN", **SMALL, "dense_units": 7}}, "do not fit"),
        ({"model": {"_target_": "cxrlab.models.PaperCNN", **SMALL, "dense_units": 10**12}}, "do not fit"),
        ({"model": {"_target_": "cxrlab.models.PaperCNN", **SMALL, "head": "flat"}}, "head must be one of"),
        ({"model": {"_target_": "cxrlab.models.PaperCN"}}, "PaperCN"),
    ],
    ids=["newer", "other width", "absurd width", "bad argument", "unknown class"],
)
def test_a_checkpoint_that_contradicts_itself(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_model(saved(tmp_path / "model.ckpt", **changes))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not a readable checkpoint"), (b"hello", "model.ckpt"), (b"PK\x03\x04" + b"\0" * 100, "model.ckpt")],
    ids=["empty", "text", "broken zip"],
)
def test_a_file_that_is_no_checkpoint(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "model.ckpt")


def test_every_cut_of_a_checkpoint_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.ckpt").read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(CheckpointError, match=r"cut\.ckpt"):
            load_model(tmp_path / "cut.ckpt")


def test_other_projects_checkpoints_are_named_as_such(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="lacks format, model, config, preprocessing"):
        load_model(tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="no such"):
        load_model(tmp_path / "absent.ckpt")


def test_a_failed_write_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    io = AtomicCheckpointIO()
    io.save_checkpoint({"epoch": 1}, path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"last.ckpt: the checkpoint cannot be written \(No space left"):
        io.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_an_archive_that_unfolds_is_refused_before_it_does(tmp_path: Path) -> None:
    packed, overlapping = tmp_path / "packed.ckpt", tmp_path / "overlapping.ckpt"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("m/data.pkl", "w") as member:
        for _ in range(64):
            member.write(bytes(2**20))
    whole = saved(tmp_path / "model.ckpt").read_bytes()
    assert packed.stat().st_size < 2**17
    directory = whole.index(b"PK\x01\x02")
    entry = whole.index(b"PK\x01\x02", directory + 4) - directory
    end = whole.rindex(b"PK\x05\x06")
    many = whole[directory : directory + entry] * 2000  # the same bytes under 2,000 names
    head = bytearray(whole[end : end + 22])
    head[8:12] = (2000).to_bytes(2, "little") * 2
    head[12:16] = len(many).to_bytes(4, "little")
    head[16:20] = directory.to_bytes(4, "little")
    overlapping.write_bytes(whole[:directory] + many + bytes(head))
    for path in (packed, overlapping):
        with pytest.raises(CheckpointError, match=rf"{path.name}: refused: it unfolds to more than it holds"):
            load_model(path)
