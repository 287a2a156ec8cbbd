"""Pixels that stay on the device: ``data.on_device``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import pytest
import torch

from cxrlab.datamodules import Augmentation, ChestXRayDataModule, FolderSource

ClassFolders = Callable[..., Path]
FILES = {"train/NORMAL": 10, "train/PNEUMONIA": 10, "test/NORMAL": 4, "test/PNEUMONIA": 4}


def batches(root: Path, device: str = "cpu", **options: Any) -> list[dict[str, torch.Tensor]]:
    source = FolderSource(str(root), {"NORMAL": 0, "PNEUMONIA": 1})
    data = ChestXRayDataModule(source, image_size=16, batch_size=4, **options)
    data.setup()
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    on_device = [{key: value.to(device) for key, value in batch.items()} for loader in loaders for batch in loader]
    return [data.on_after_batch_transfer(batch, 0) for batch in on_device]


def assert_same_batches(root: Path, device: str) -> None:
    expected, found = batches(root, device), batches(root, device, on_device=True)
    assert len(found) == len(expected) > 5
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) and one[key].device == other[key].device for key in one)
        assert one["image"].stride() == other["image"].stride()


def test_batches_are_those_that_travel(class_folders: ClassFolders) -> None:
    assert_same_batches(class_folders(FILES), "cpu")


@pytest.mark.gpu
def test_batches_on_a_gpu_are_those_that_travel(class_folders: ClassFolders) -> None:
    assert_same_batches(class_folders(FILES), "cuda")


def test_augmentation_is_refused(tmp_path: Path) -> None:
    source = FolderSource(str(tmp_path), {"NORMAL": 0, "PNEUMONIA": 1})
    with pytest.raises(ValueError, match="on_device=true needs augment=none"):
        ChestXRayDataModule(source, augment=Augmentation([A.HorizontalFlip()]), on_device=True)
    ChestXRayDataModule(source, augment=Augmentation([]), on_device=True)
