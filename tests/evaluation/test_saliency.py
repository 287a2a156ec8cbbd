"""Measures of maps whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from cxrlab.evaluation import saliency as measures

RNG = np.random.default_rng(0)


def box(n: int, side: int = 32, size: int = 8) -> np.ndarray:
    masks = np.zeros((n, side, side), bool)
    masks[:, :size, :size] = True
    return masks


def test_share_inside_and_pointing() -> None:
    masks = box(4)
    maps = np.zeros((4, 32, 32), np.float32)
    maps[0, :8, :8] = 2.0  # all inside
    maps[1, 20:, 20:] = 1.0  # all outside
    maps[2] = 0.3  # even: chance
    share = measures.share_inside(maps, masks)
    np.testing.assert_allclose(share[:3], [1, 0, 1 / 16], rtol=1e-6)
    assert np.isnan(share[3])  # a map that is zero has no share, rather than one of zero
    np.testing.assert_allclose(measures.share_inside(1000 * maps, masks)[:3], share[:3], rtol=1e-6)
    maps = np.zeros((4, 32, 32), np.float32)
    maps[0, 3, 3] = 1
    maps[1, 30, 3] = 1
    maps[2, 3, 3] = maps[2, 30, 3] = 1  # undecided
    found = measures.pointing(maps, box(4))
    np.testing.assert_allclose(found[:3], [1, 0, 0.5])
    assert np.isnan(found[3])


@pytest.mark.parametrize("maps", [-np.ones((1, 32, 32), np.float32), np.full((1, 32, 32), np.nan, np.float32)])
def test_what_is_no_map_is_refused(maps: np.ndarray) -> None:
    with pytest.raises(ValueError, match="maps must be finite and at least 0"):
        measures.share_inside(maps, box(1))
    with pytest.raises(ValueError, match=r"maps and masks must both have shape \(N, H, W\)"):
        measures.share_inside(np.ones((2, 32, 32), np.float32), box(1))


def brightness_of_corner(images: np.ndarray) -> np.ndarray:
    return np.asarray(images[:, :8, :8].mean(axis=(1, 2, 3)) / 255, np.float64)


def test_deletion_of_a_model_that_is_known() -> None:
    images = np.full((40, 32, 32, 1), 255, np.uint8)
    maps = box(40).astype(np.float32)
    found = measures.deletion(brightness_of_corner, images, maps, steps=16)
    # The corner is 1/16 of the pixels, which is one step: 1, then 0 for good.
    np.testing.assert_allclose(found.by_map[0], [1] + 16 * [0])
    np.testing.assert_allclose(found.area_by_map, 1 / 32)
    assert found.area_by_chance.mean() == pytest.approx(0.5, abs=0.1)  # tiles fall everywhere
    np.testing.assert_allclose(found.by_chance[:, -1], 0)
    worst = measures.deletion(brightness_of_corner, images, 1 - maps, steps=16)
    np.testing.assert_allclose(worst.area_by_map, 1 - 1 / 32)


def test_insertion_of_a_model_that_is_known() -> None:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[:, :8, :8] = 255
    maps = box(2).astype(np.float32)
    found = measures.insertion(brightness_of_corner, images, maps, steps=16)
    blurred = found.by_map[0, 0]
    assert 0.3 < blurred < 0.95
    np.testing.assert_allclose(found.by_map[0, 1:], 1)
    np.testing.assert_allclose(found.area_by_map, 1 - (1 - blurred) / 32)
    assert (found.area_by_map > found.area_by_chance).all()


def test_curves_begin_and_end_alike_and_belong_to_the_seed() -> None:
    images = RNG.integers(0, 256, (3, 32, 32, 1), np.uint8)
    maps = RNG.random((3, 32, 32), np.float32)
    one, again, other = (
        measures.deletion(brightness_of_corner, images, maps, steps=4, seed=seed) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.by_chance, again.by_chance)
    assert not np.array_equal(one.by_chance, other.by_chance)
    np.testing.assert_array_equal(one.by_map, other.by_map)
    np.testing.assert_allclose(one.by_map[:, [0, -1]], one.by_chance[:, [0, -1]])


def test_likeness_of_maps() -> None:
    first = RNG.random((3, 16, 16)).astype(np.float32)
    second = np.stack([first[0] ** 3, -first[1], np.zeros((16, 16))]).astype(np.float32)
    found = measures.rank_correlation(first, second)
    np.testing.assert_allclose(found[:2], [1, -1], atol=1e-9)
    assert np.isnan(found[2])
    first = RNG.random((3, 32, 32)).astype(np.float32)
    second = np.stack([5 * first[0], RNG.random((32, 32)), np.zeros((32, 32))]).astype(np.float32)
    found = measures.ssim(first, second)
    assert found[0] == pytest.approx(1)  # of any scale
    assert abs(found[1]) < 0.2
    assert np.isnan(found[2])


def test_ssim_is_torchmetrics() -> None:
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = (RNG.random((2, 1, 48, 48)).astype(np.float32) for _ in range(2))
    second = 0.5 * first + 0.5 * second
    a, b = (torch.from_numpy(maps / maps.max(axis=(2, 3), keepdims=True)) for maps in (first, second))
    theirs = structural_similarity_index_measure(a, b, data_range=1.0, reduction="none", sigma=1.5)
    assert isinstance(theirs, torch.Tensor)
    # Theirs leaves the edges out; ours mirrors the image there.
    np.testing.assert_allclose(measures.ssim(first[:, 0], second[:, 0]), theirs.numpy(), atol=0.02)


def test_pick_shows_wrong_and_right_of_both_labels() -> None:
    labels = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 0])
    scores = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.05, 0.1, 0.2, 0.7, 0.9])
    assert measures.pick(labels, scores, 0.5, most=8).tolist() == [4, 9, 3, 8, 0, 5, 1, 6]
    assert measures.pick(labels, scores, 0.5, most=2).tolist() == [4, 0]
    all_wrong = measures.pick(labels, 1 - labels * 1.0, 0.5, most=4)
    assert len(all_wrong) == 4
    assert set(labels[all_wrong]) == {0, 1}
    assert len(measures.pick(labels[:3], scores[:3], 0.5)) == 3
