"""Batches belong to the seed, not to the process that makes them: datamodules/batches.py."""

from __future__ import annotations

from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cxrlab.datamodules.augment import Augmentation
from cxrlab.datamodules.batches import Batch, BatchSampler, CachedImages, RowSampler

ROWS = np.array([0, 2, 3, 5, 7, 8, 10, 11, 12, 13, 14])


def images() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (15, 16, 12, 3), np.uint8)


def labels() -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.arange(15) % 2


def epochs(count: int, seed: int = 0, **loader: Any) -> list[list[dict[str, torch.Tensor]]]:
    """Every batch of the first epochs, as Lightning asks for them."""
    augment = Augmentation([A.Affine(rotate=(-9, 9), p=1.0), A.GaussNoise(p=0.5)])
    sampler = BatchSampler(RowSampler(ROWS, seed), 4)
    batches = DataLoader(CachedImages(images(), labels(), augment, seed), batch_size=None, sampler=sampler, **loader)
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(batches))
    return found


def flat(passes: list[list[dict[str, torch.Tensor]]], key: str) -> list[Any]:
    return [batch[key].tolist() for batches in passes for batch in batches]


def test_without_augmentation_the_pixels_are_the_cached_ones() -> None:
    dataset = CachedImages(images(), labels(), Augmentation([]), 0)
    batch = dataset[next(iter(BatchSampler(RowSampler(ROWS), 4)))]
    assert batch["row"].tolist() == [0, 2, 3, 5]
    np.testing.assert_array_equal(batch["image"], images()[[0, 2, 3, 5]])


@pytest.mark.parametrize("loader", [{"num_workers": 2}, {"num_workers": 2, "persistent_workers": True}], ids=str)
def test_workers_make_the_same_batches(loader: dict[str, Any]) -> None:
    expected, found = epochs(3), epochs(3, **loader)
    for key in ("row", "label", "image"):
        assert flat(found, key) == flat(expected, key)


def test_every_epoch_sees_every_row_once_in_another_order_and_otherwise_augmented() -> None:
    first, second = epochs(2)
    rows = [[row for batch in one for row in batch["row"].tolist()] for one in (first, second)]
    assert sorted(rows[0]) == sorted(rows[1]) == ROWS.tolist()
    assert rows[0] != rows[1]
    seen = [
        dict(zip(rows[epoch], torch.cat([b["image"] for b in one]), strict=True))
        for epoch, one in enumerate([first, second])
    ]
    assert all((seen[0][row] != seen[1][row]).any() for row in ROWS.tolist())


def test_a_seed_is_an_order_and_a_set_of_augmentations() -> None:
    again = epochs(2)
    assert flat(again, "image") == flat(epochs(2), "image")
    assert flat(again, "row") != flat(epochs(2, seed=1), "row")


def test_the_global_state_of_torch_is_neither_read_nor_advanced() -> None:
    torch.manual_seed(1)
    expected = list(RowSampler(ROWS, 0))
    assert torch.initial_seed() == 1
    before = torch.get_rng_state()
    torch.manual_seed(2)
    assert list(RowSampler(ROWS, 0)) == expected
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_seed_the_order_is_kept() -> None:
    sampler = RowSampler(ROWS)
    sampler.set_epoch(3)
    assert list(sampler) == [(3, row) for row in ROWS.tolist()]
    assert len(sampler) == 11


def test_a_sampler_can_start_at_a_later_epoch() -> None:
    resumed, whole = RowSampler(ROWS, 0, epoch=4), RowSampler(ROWS, 0)
    whole.set_epoch(4)
    assert list(resumed) == list(whole) != list(RowSampler(ROWS, 0))


def test_without_images_the_rest_is_the_same() -> None:
    batch = Batch([(0, 5), (0, 3)])
    whole, rest = (CachedImages(each, labels(), Augmentation([]), 0)[batch] for each in (images(), None))
    assert rest.keys() == {"row", "label"}
    assert all(torch.equal(rest[key], whole[key]) for key in rest)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_parts_are_the_batches_of_one_process(processes: int) -> None:
    whole = list(BatchSampler(RowSampler(ROWS, 0, epoch=2), 4))
    samplers = [BatchSampler(RowSampler(ROWS, 0, epoch=2), 4, rank, processes) for rank in range(processes)]
    assert [len(batch.keys) for batch in whole] == [4, 4, 3]
    assert {len(sampler) for sampler in samplers} == {3}
    for batch, parts in zip(whole, zip(*samplers, strict=True), strict=True):
        counted = [part for part in parts if part.share]
        assert sorted(key for part in counted for key in part.keys) == sorted(batch.keys)
        assert all(len(part.keys) >= 1 for part in parts)  # a process without an image could not take the step
        # The mean over processes of each part's mean times its share is the mean over the whole batch.
        means = [np.mean([row for _, row in part.keys]) * (part.share or 0) for part in parts]
        assert np.mean(means) == pytest.approx(np.mean([row for _, row in batch.keys]))
