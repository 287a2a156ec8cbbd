"""The command that lists and clears what is kept of images: cache.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from omegaconf import DictConfig, open_dict

from cxrlab.cache import cache
from cxrlab.config import compose
from cxrlab.datamodules import ChestXRayDataModule, FolderSource
from cxrlab.datamodules.cache import held
from cxrlab.errors import ConfigError


def configured(*overrides: str) -> DictConfig:
    config = compose("cache", overrides, "unused")
    with open_dict(config):
        del config.output_dir
    return config


@pytest.fixture
def folder(class_folders: object, tmp_path: Path) -> str:
    """What runs with two image sizes leave."""
    assert callable(class_folders)
    root = class_folders({"train/NORMAL": 6, "train/PNEUMONIA": 6, "test/NORMAL": 2, "test/PNEUMONIA": 2})
    for size in (16, 24):
        source = FolderSource(str(root), {"NORMAL": 0, "PNEUMONIA": 1})
        ChestXRayDataModule(source, image_size=size, cache=str(tmp_path / "kept")).setup()
    return str(tmp_path / "kept")


def test_what_is_kept_is_listed(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = configured(f"folder={folder}")
    numbers, objects = cache(config)
    lines = capsys.readouterr().out.splitlines()
    kept = [line.split()[:3] for line in lines[1:-1]]
    assert ["pixels", "16-16-3-squeeze-none-0.0", "16"] in kept
    assert ["pixels", "24-24-3-squeeze-none-0.0", "16"] in kept
    assert lines[-1] == f"total    {numbers['bytes'] / 1e6:.1f} MB in {folder}"
    assert numbers["removed"] == 0
    files = [file for file in Path(folder).rglob("*") if file.is_file() and file.name != "lock"]
    assert numbers["bytes"] == sum(file.stat().st_size for file in files)
    assert len(objects["entries"]) == 3


@pytest.mark.parametrize(
    ("clear", "left"), [("pixels", {"measurements"}), ("measurements", {"pixels"}), ("all", set())]
)
def test_what_is_named_is_removed(folder: str, clear: str, left: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = sum(facts.st_size for _, facts in held(Path(folder)))
    numbers, objects = cache(configured(f"folder={folder}", f"clear={clear}"))
    assert {path.parts[-4] for path, _ in objects["entries"]} == left
    assert numbers["removed"] + numbers["bytes"] == before
    assert numbers["removed"] > 0
    said = capsys.readouterr().out
    assert said.startswith("removed ")
    assert ("empty" in said) == (clear == "all")
    assert len(list(Path(folder).glob("pixels/*/*/*.npy"))) == (2 if clear == "measurements" else 0)
    assert {path.name for path in Path(folder).iterdir()} == left, "no empty folder is left"


def test_only_what_was_not_used_for_long_is_removed(folder: str) -> None:
    small = next(Path(folder).rglob("16-*/*/*.npy"))
    os.utime(small, (1_000_000, 1_000_000))
    cache(configured(f"folder={folder}", "clear=all", "unused_for=30"))
    assert not small.exists()
    assert len(held(Path(folder))) == 2


def test_nothing_kept_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cache(configured(f"folder={tmp_path}/nowhere"))[0] == {"bytes": 0, "removed": 0}
    assert cache(configured(f"folder={tmp_path}/nowhere", "clear=all"))[0] == {"bytes": 0, "removed": 0}
    assert f"empty    {tmp_path}/nowhere" in capsys.readouterr().out


def test_it_looks_where_runs_keep_things() -> None:
    assert configured().folder == compose("train", [], "unused").data.cache


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("clear=pixel", "did you mean 'pixels'?"),
        ("unused_for=3", "unused_for: nothing is removed without clear=pixels"),
        ("clear=all unused_for=-1", "unused_for must be a number in [0, inf)"),
        ("+older=3", "older"),
    ],
)
def test_what_is_typed_wrong_is_told(typed: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cache(configured(*typed.split()))
    assert message in str(caught.value)
