"""What is taken from images, or added to them: datamodules/alterations.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrlab.datamodules.alterations import BATTERY, Alteration
from cxrlab.datamodules.cues import plant_shortcut

Images = NDArray[np.uint8]
Masks = NDArray[np.bool_]


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(0).integers(1, 256, (3, 40, 50, 3), dtype=np.uint8)


@pytest.fixture
def lungs() -> Masks:
    masks = np.zeros((3, 40, 50), np.bool_)
    masks[0, 10:20, 10:20] = True
    masks[1, 5:35, 8:18] = True
    masks[1, 5:35, 30:40] = True
    return masks  # in the third no lung was found


def changed(name: Any, images: Images, lungs: Masks | None = None) -> Images:
    return Alteration.parse(name).apply(images, lungs)


@pytest.mark.parametrize("name", BATTERY)
def test_every_alteration_of_the_battery_gives_copies_of_the_same_shape_and_never_touches_its_input(
    name: Any, images: Images, lungs: Masks
) -> None:
    before = images.copy()
    after = changed(name, images, lungs)
    assert after.shape == images.shape
    assert after.dtype == np.uint8
    assert not np.shares_memory(after, images)
    np.testing.assert_array_equal(images, before)
    assert (after == images).all() == (name == "none")


@pytest.mark.parametrize("name", BATTERY)
def test_grey_images_become_what_one_channel_of_the_same_in_colour_becomes(
    name: Any, images: Images, lungs: Masks
) -> None:
    grey = images[..., :1]
    in_colour = changed(name, np.repeat(grey, 3, axis=-1), lungs)
    np.testing.assert_array_equal(changed(name, grey, lungs), in_colour[..., :1])


def test_the_central_part_of_each_side_is_black_and_nothing_else(images: Images) -> None:
    after = changed("centre_black_60", images)
    assert (after[:, 8:32, 10:40] == 0).all()
    after[:, 8:32, 10:40] = images[:, 8:32, 10:40]
    np.testing.assert_array_equal(after, images)


def test_centre_and_frame_are_each_other_s_complement(images: Images) -> None:
    both = changed("centre_black_70", images).astype(int) + changed("frame_black_70", images)
    np.testing.assert_array_equal(both, images)


def test_lungs_and_background_share_no_pixel_and_the_rim_is_in_neither(images: Images, lungs: Masks) -> None:
    inside, outside = changed("lungs_only", images, lungs), changed("background_only", images, lungs)
    assert (inside[lungs] == images[lungs]).all()
    assert not inside[~lungs].any()
    assert not outside[lungs].any()
    assert not outside[0, 9, 15].any()  # one pixel above the lung: its rim would tell its shape
    np.testing.assert_array_equal(outside[0, :8], images[0, :8])
    assert not inside[2].any()  # without a lung there is nothing to keep, and nothing to remove
    np.testing.assert_array_equal(outside[2], images[2])


def test_the_box_hides_the_shape_of_the_lungs(images: Images, lungs: Masks) -> None:
    black = (changed("lungs_box_black", images, lungs) == 0).all(axis=-1)
    assert black[1, 4:36, 7:41].all()
    assert black[1].sum() == 32 * 34
    assert not black[2].any()


def _patches(image: Images) -> list[bytes]:
    return sorted(
        image[row : row + 10, column : column + 12].tobytes() for row in (0, 10, 20, 30) for column in (0, 12, 24, 36)
    )


def test_shuffling_moves_whole_patches_and_loses_no_pixel(images: Images) -> None:
    after = changed("shuffle_4", images)
    for before, shuffled in zip(images, after, strict=True):
        assert _patches(before) == _patches(shuffled)
    np.testing.assert_array_equal(after[:, :, 48:], images[:, :, 48:])  # what does not divide stays
    np.testing.assert_array_equal(after, changed("shuffle_4", images))
    first, second = changed("shuffle_4", np.repeat(images[:1], 2, axis=0))
    assert (first != second).any()


def test_tiny_images_hold_one_colour_per_tile(images: Images) -> None:
    after = changed("tiny_5", images)
    tiles = after.reshape(3, 5, 8, 5, 10, 3)
    assert (tiles == tiles[:, :, :1, :, :1]).all()
    mean = images.reshape(3, 5, 8, 5, 10, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(tiles[:, :, 0, :, 0], mean, atol=0.51)


def test_blurring_keeps_the_mean_and_takes_the_detail(images: Images) -> None:
    after = changed("blur_10", images)
    assert after.std() < 0.2 * images.std()
    assert abs(after.mean() - images.mean()) < 2


def test_matched_histograms_no_longer_tell_dark_films_from_bright_ones() -> None:
    rng = np.random.default_rng(2)
    films = np.stack([rng.integers(low, low + 100, (64, 64, 1)) for low in (0, 50, 150)]).astype(np.uint8)
    after = changed("histogram", films)
    assert np.ptp(films.mean(axis=(1, 2, 3))) > 100
    assert np.ptp(after.mean(axis=(1, 2, 3))) < 2
    for before, matched in zip(films, after, strict=True):  # the order of grey levels is kept
        assert (np.diff(matched.ravel()[np.argsort(before.ravel(), kind="stable")].astype(int)) >= 0).all()


@pytest.mark.parametrize("kind", ["marker", "border", "brightness"])
def test_an_edit_is_the_shortcut_that_phantoms_can_carry(kind: str, images: Images) -> None:
    after = changed(kind, images[..., :1])
    for before, edited in zip(images[..., 0], after[..., 0], strict=True):
        np.testing.assert_array_equal(edited, plant_shortcut(np.ascontiguousarray(before), kind))


def test_a_wrong_name_is_told_with_what_there_is() -> None:
    wrong: dict[Any, str] = {
        "centre_blak_60": "did you mean 'centre_black_60'",
        "centre_black": "centre_black needs a number from 1 to 99, as centre_black_8, got 'centre_black'",
        "centre_black_100": "needs a number from 1 to 99",
        "lungs_only_3": "lungs_only takes no number",
        "": "alter must be one of none, centre_black_N",
        8: "got 8",
    }
    for name, says in wrong.items():
        with pytest.raises(ValueError, match="alter") as caught:
            Alteration.parse(name)
        assert says in str(caught.value)


def test_masks_that_are_needed_are_asked_for(images: Images, lungs: Masks) -> None:
    for name in ("lungs_only", "background_only", "lungs_box_black"):
        with pytest.raises(ValueError, match=r"needs lung masks of shape \(3, 40, 50\), got none"):
            changed(name, images)
    with pytest.raises(ValueError, match=r"got masks of shape \(2, 40, 50\)"):
        changed("lungs_only", images, lungs[:2])


def test_groups_say_what_is_left_of_the_lungs() -> None:
    group = {name: Alteration.parse(name).group for name in BATTERY}
    removed = {"background_only", "lungs_box_black", *(f"centre_black_{share}" for share in (60, 70, 80, 90))}
    assert {name for name in BATTERY if group[name] == "lungs removed"} == removed
    assert Alteration.parse("tiny_8").words == "8 x 8 pixels left"
