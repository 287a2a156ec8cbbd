"""Films with lung masks: which ones, whose, and what becomes of them on the way to the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cxrlab.datamodules import LungMasksDataModule
from cxrlab.datamodules.lung_masks import MASKS, augmented
from cxrlab.errors import DataError
from cxrlab.models.segmenter import square

MakeSet = Callable[..., Path]


@pytest.fixture
def collection(tmp_path: Path) -> MakeSet:
    """A folder like Cohen's: four people, one of them under two ids, one image without a row, one CT, one no mask."""

    def make(size: tuple[int, int] = (60, 80), mask_size: tuple[int, int] | None = None) -> Path:
        root = tmp_path / "covid"
        (root / "images").mkdir(parents=True)
        (root / MASKS).mkdir(parents=True)
        rng = np.random.default_rng(0)
        lines = ["patientid,finding,view,modality,folder,filename"]
        people = {"a": 30, "b": 31, "c": 7, "d": 8, "e": 9, "ct": 10, "unmasked": 11, "unlisted": None}
        for name, person in people.items():
            pixels = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
            cv2.imwrite(str(root / "images" / f"{name}.jpg"), pixels)
            mask = np.zeros(mask_size or size, np.uint8)
            mask[10:50, 10:30] = mask[10:50, 45:65] = 255
            if name != "unmasked":
                cv2.imwrite(str(root / MASKS / f"{name}_mask.png"), mask)
            if person is not None:
                lines.append(f"{person},COVID-19,PA,{'CT' if name == 'ct' else 'X-ray'},images,{name}.jpg")
        (root / "metadata.csv").write_text("\n".join(lines))
        return root

    return make


def test_which_films_and_whose(collection: MakeSet, cache: Path) -> None:
    module = LungMasksDataModule(str(collection()), str(cache), phantoms=0, folds=2, image_size=32)
    module.setup()
    table = module.manifest
    assert sorted(Path(path).stem for path in table["path"]) == ["a", "b", "c", "d", "e", "unlisted"]
    people = dict(zip((Path(path).stem for path in table["path"]), table["person"], strict=True))
    assert people["a"] == people["b"] == "cohen-30"  # ids 30 and 31 are one person
    assert people["unlisted"].startswith("image:")
    assert len(set(people.values())) == 5
    assert table.groupby("person")["fold"].nunique().max() == 1
    assert sorted(table["fold"].unique()) == [0, 1]
    removed = dict(zip(module.flow.table()["step"], module.flow.table()["removed"], strict=True))
    assert removed["modality is not X-ray"] == 1
    assert module.images[0].shape == (60, 80, 1)
    assert module.masks[0].mean() == pytest.approx(2 * 40 * 20 / (60 * 80))
    assert not module.synthetic


def test_every_image_is_held_out_once(cache: Path) -> None:
    module = LungMasksDataModule("unread", str(cache), cohen=False, phantoms=12, folds=3, image_size=64, batch_size=4)
    module.setup()
    held_out = []
    for fold in range(3):
        module.hold_out(fold)
        train, val = module.rows("train"), module.rows("val")
        assert sorted([*train, *val]) == list(range(12))
        assert not set(module.manifest["person"].iloc[train]) & set(module.manifest["person"].iloc[val])
        held_out += val.tolist()
    assert sorted(held_out) == list(range(12))
    module.hold_out(None)
    assert len(module.rows("train")) == 12
    assert module.synthetic


def test_batches_are_what_the_network_takes_and_belong_to_the_seed(cache: Path) -> None:
    def batch(seed: int) -> dict[str, np.ndarray]:
        options = {"cohen": False, "phantoms": 6, "folds": 2, "image_size": 64, "batch_size": 6}
        module = LungMasksDataModule("unread", str(cache), **options, seed=seed)  # type: ignore[arg-type]
        module.setup()
        return {name: value.numpy() for name, value in next(iter(module.train_dataloader())).items()}

    one, again, other = batch(0), batch(0), batch(1)
    for name in ("image", "mask"):
        assert one[name].shape == (6, 1, 64, 64)
        assert one[name].dtype == np.float32
        assert (one[name] == again[name]).all()
    assert 0 <= one["image"].min() < one["image"].max() <= 1
    assert set(np.unique(one["mask"])) == {0, 1}
    assert not np.array_equal(one["image"], other["image"])


def test_the_mask_goes_with_the_image() -> None:
    """Whatever the augmentation: the lungs stay dark, and what surrounds them light."""
    mask = np.zeros((64, 64), bool)
    mask[16:48, 12:28] = mask[16:48, 36:52] = True
    image = np.where(mask, 40, 180).astype(np.uint8)
    areas = []
    for seed in range(40):
        film, inside = augmented(image, mask, np.random.default_rng(seed))
        assert film.dtype == np.uint8
        assert inside.dtype == np.bool_
        edge = cv2.dilate(inside.astype(np.uint8), np.ones((5, 5))) - inside
        assert film[inside].mean() < film[edge == 1].mean()
        areas.append(inside.mean())
    assert np.std(areas) > 0.02
    assert 0.5 < np.mean(areas) / mask.mean() < 1.3


def test_training_sees_what_the_segmenter_will_see(collection: MakeSet, cache: Path) -> None:
    module = LungMasksDataModule(str(collection()), str(cache), phantoms=0, folds=2, image_size=32, augment=False)
    module.setup()
    module.hold_out(None)
    for batch in module.train_dataloader():
        for image in batch["image"].numpy():
            pixels = np.rint(image[0] * 255).astype(np.uint8)
            assert any((square(each, 32) == pixels).all() for each in module.images)


def test_what_is_missing_is_told(collection: MakeSet, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"lungVAE-masks: no such folder; .*cxrlab-download data=cohen.*data.cohen=false"
    ):
        LungMasksDataModule(str(tmp_path / "nowhere"), str(cache)).setup()
    with pytest.raises(DataError, match=r"cohen: masks of 5 people; data.folds=6"):
        LungMasksDataModule(str(collection()), str(cache), phantoms=0, folds=6).setup()


def test_a_mask_of_another_size_is_refused(collection: MakeSet, cache: Path) -> None:
    root = collection(mask_size=(60, 70))
    with pytest.raises(DataError, match=r"a_mask.png: image and mask are of different sizes \(60x80 and 60x70\)"):
        LungMasksDataModule(str(root), str(cache), phantoms=0, folds=2).setup()


def test_wrong_options_are_refused(cache: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"cohen": False, "phantoms": 0}, "phantoms must be at least 2"),
        ({"phantoms": 1}, "phantoms must be 0 or at least 2"),
        ({"folds": 1}, "folds must be"),
        ({"image_size": 16}, "image_size must be"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            LungMasksDataModule("unread", str(cache), **options)


@pytest.mark.slow
def test_the_real_masks(cohen_root: Path, cache: Path) -> None:
    module = LungMasksDataModule(str(cohen_root), str(cache), phantoms=0)
    module.setup()
    assert len(module.manifest) == 195
    assert module.manifest["person"].nunique() == 111
    shares = np.array([mask.mean() for mask in module.masks])
    assert 0.1 < shares.min() < shares.max() < 0.6
