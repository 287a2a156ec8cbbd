"""Pictures for the gate: which ones, whose, in which fold, and what becomes of them on the way to the network."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from cxrlab.datamodules import GateImagesDataModule, gate_images
from cxrlab.datamodules.films import near_duplicates
from cxrlab.datamodules.gate_augment import altered, augmented
from cxrlab.datamodules.gate_drawings import draw_document, draw_pattern
from cxrlab.datamodules.gate_images import OF_FRONTAL, SHARES, KindSampler
from cxrlab.errors import DataError
from cxrlab.reading.image import read_image
from cxrlab.thumbnails import luma, square, thumbnail

MakeSet = Callable[..., Path]

needs_photographs = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None,
    reason="NOT CHECKED: scikit-image, of the extra gate, is not installed",
)


def module(root: Path | str, cache: Path, **changes: Any) -> GateImagesDataModule:
    options: dict[str, Any] = {
        "phantoms": 0,
        "folds": 2,
        "drawn": 4,
        "photographs": False,
        "epoch_images": 40,
        "batch_size": 8,
        "image_size": 32,
        "paper": False,
        "darkcovidnet": False,
    }
    return GateImagesDataModule(str(root), "nowhere", "nowhere", str(cache), **{**options, **changes})


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """A folder like Cohen's: films, laterals and CT slices of some people, one of them under two ids."""
    root = tmp_path / "covid"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = ["patientid,finding,view,modality,folder,filename"]
    films = [(30, "PA"), (31, "L"), (1, "AP Supine"), (2, "AP"), (3, "PA"), (3, "L"), (4, "Axial"), (5, "Coronal")]
    films += [(6, ""), (7, "PA"), (8, "AP Erect")]
    for number, (person, view) in enumerate(films):
        cv2.imwrite(str(root / "images" / f"{number}.jpg"), rng.integers(0, 255, (80, 60, 3), dtype=np.uint8))
        modality = "CT" if view in ("Axial", "Coronal") else "X-ray"
        lines.append(f"{person},COVID-19,{view},{modality},images,{number}.jpg")
    lines += ["9,COVID-19,Axial,CT,volumes,volume.nii.gz", "9,COVID-19,PA,X-ray,images,gone.jpg"]
    (root / "metadata.csv").write_text("\n".join(lines))
    return root


def test_which_pictures_and_whose(collection: Path, cache: Path) -> None:
    images = module(collection, cache)
    images.setup()
    table = images.manifest
    counts = table["kind"].value_counts().to_dict()
    assert counts == {"frontal": 6, "lateral": 2, "ct": 2, "document": 4, "pattern": 4, **dict.fromkeys(OF_FRONTAL, 6)}
    people = dict(zip((Path(path).stem for path in table["path"]), table["person"], strict=True))
    assert people["0"] == people["1"] == "cohen-30"  # ids 30 and 31 are one person
    removed = dict(zip(images.flow.table()["step"], images.flow.table()["removed"], strict=True))
    assert removed["view is none of PA, AP, AP Supine, AP Erect, L"] == 1
    assert removed["the file is not there"] == 1
    assert removed["no file in the folder images"] == 1
    assert set(table.loc[table["source"] == "cohen", "short_side"]) == {60}
    assert not images.synthetic


def test_a_person_is_in_one_fold_whatever_the_kind_and_every_fold_has_some_of_each(
    collection: Path, cache: Path
) -> None:
    images = module(collection, cache, phantoms=8)
    images.setup()
    table = images.manifest
    assert table.groupby("person")["fold"].nunique().max() == 1
    assert table.groupby("kind")["fold"].nunique().min() == 2
    held_out = []
    for fold in range(2):
        images.hold_out(fold)
        train, val = images.rows("train"), images.rows("val")
        assert sorted([*train, *val]) == list(range(len(table)))
        assert not set(table["person"].iloc[train]) & set(table["person"].iloc[val])
        held_out += val.tolist()
    assert sorted(held_out) == list(range(len(table)))


def test_collections_are_left_out_one_at_a_time_and_nobody_is_seen_twice(
    collection: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Person 3 has a film and a lateral view; wherever that is held out, the film is not learned from either."""
    first = GateImagesDataModule._cohen

    def two(self: GateImagesDataModule) -> Any:
        table = first(self)
        elsewhere = table["patient_id"].isin(["cohen-7", "cohen-6"])
        return table.assign(collection=table["collection"].mask(elsewhere, "elsewhere"))

    monkeypatch.setattr(GateImagesDataModule, "_cohen", two)
    images = module(collection, cache, folds="auto", phantoms=8)
    images.setup()
    table = images.manifest
    assert images.collections == ["cohen", "elsewhere"]
    assert images.folds == 2
    films = table["kind"].isin(["frontal", *OF_FRONTAL])
    assert table.loc[films & (table["collection"] == "cohen"), "fold"].unique().tolist() == [0]
    assert table.loc[films & (table["collection"] == "elsewhere"), "fold"].unique().tolist() == [1]
    assert set(table.loc[films & (table["collection"] == "synthetic"), "fold"]) == {0, 1}
    assert table[~films].groupby("kind")["fold"].nunique().min() == 2
    for fold in range(2):
        images.hold_out(fold)
        train, val = table.iloc[images.rows("train")], table.iloc[images.rows("val")]
        assert not {images.collections[fold]} & set(train.loc[films, "collection"])
        assert not set(train.loc[films, "person"]) & set(val["person"])
        left = films & table["person"].isin(val["person"]) & (table["fold"] != fold)
        assert len(train) + len(val) + left.sum() == len(table)
    images.hold_out(None)
    assert len(images.rows("train")) == len(table)


def test_one_collection_is_split_by_person(collection: Path, cache: Path) -> None:
    images = module(collection, cache, folds="auto", drawn=4, photographs=False, phantoms=8)
    images.folds = 2  # of three lateral views there are two
    images.setup()
    assert images.collections == []
    assert images.manifest.groupby("person")["fold"].nunique().max() == 1


def test_inverted_and_turned_films_stay_with_the_film(cache: Path) -> None:
    images = module("unread", cache, cohen=False, phantoms=6)
    images.setup()
    table = images.manifest
    first = {kind: table.index[table["kind"] == kind][0] for kind in ("frontal", *OF_FRONTAL)}
    film = images.picture(first["frontal"])
    assert table.loc[list(first.values())].groupby("path")["fold"].nunique().tolist() == [1]
    np.testing.assert_array_equal(images.picture(first["inverted"]), 255 - film)
    np.testing.assert_array_equal(images.picture(first["turned_90"])[:, -1], film[0])  # the top is on the right
    np.testing.assert_array_equal(images.picture(first["turned_180"]), film[::-1, ::-1])
    np.testing.assert_array_equal(images.picture(first["turned_270"])[:, 0], film[0, ::-1])
    assert images.synthetic


def test_one_seed_gives_one_epoch_and_another_another(cache: Path) -> None:
    def epoch(seed: int, number: int) -> torch.Tensor:
        images = module("unread", cache, cohen=False, phantoms=6, seed=seed)
        images.setup()
        loader = images.train_dataloader()
        loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
        return torch.cat([batch["image"] for batch in loader])

    first = epoch(0, 0)
    assert first.shape == (40, 1, 32, 32)
    assert first.dtype == torch.float32
    assert first.equal(epoch(0, 0))
    assert not first.equal(epoch(0, 1))
    assert not first.equal(epoch(1, 0))


def test_every_kind_has_its_share_whatever_its_number() -> None:
    kinds = ["frontal"] * 500 + ["lateral"] * 3 + ["ct"] * 40
    sampler = KindSampler(np.arange(1000, 1543), kinds, 530, 0)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 530
    by_kind = {kind: sum(kinds[row - 1000] == kind for _, _, row in drawn) for kind in ("frontal", "lateral", "ct")}
    together = SHARES["frontal"] + SHARES["lateral"] + SHARES["ct"]
    for kind, count in by_kind.items():
        assert count == pytest.approx(530 * SHARES[kind] / together, abs=2)
    laterals = [row for _, _, row in drawn if kinds[row - 1000] == "lateral"]
    assert max(laterals.count(row) for row in set(laterals)) - min(laterals.count(row) for row in set(laterals)) <= 1
    assert sorted(place for _, place, _ in drawn) == list(range(530))


def test_an_augmented_film_keeps_its_kind() -> None:
    """Bright above, dark below: what is turned is seen after every augmentation, and so is what is inverted."""
    film = np.full((100, 90), 60, np.uint8)
    film[:50] = 190
    for number in range(60):
        rng = np.random.default_rng(number)
        upright, turned = augmented(film, "frontal", rng), augmented(film, "turned_180", rng)
        inverted = augmented(film, "inverted", rng)
        for image, sign in ((upright, 1), (turned, -1), (inverted, -1)):
            middle = image[:, image.shape[1] // 4 : -image.shape[1] // 4].astype(float)
            third = len(middle) // 3
            assert sign * (middle[third // 2 : third].mean() - middle[-third : -third // 2].mean()) > 5
        side = augmented(film, "turned_90", rng).astype(float)
        assert (
            side[:, -side.shape[1] // 3 : -side.shape[1] // 6].mean()
            > side[:, side.shape[1] // 6 : side.shape[1] // 3].mean()
        )


def test_altering_twice_is_the_film_again() -> None:
    film = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(altered(altered(film, "turned_90"), "turned_270"), film)
    np.testing.assert_array_equal(altered(altered(film, "inverted"), "inverted"), film)
    assert altered(film, "lateral") is film


@pytest.mark.parametrize("draw", [draw_document, draw_pattern])
def test_drawings_are_grey_varied_and_never_blank(draw: Callable[[np.random.Generator], np.ndarray]) -> None:
    seen = set()
    for number in range(60):
        image = draw(np.random.default_rng(number))
        assert image.dtype == np.uint8
        assert min(image.shape[:2]) >= 128
        assert (image == image[..., :1]).all()
        assert image.std() > 1
        seen.add(image.tobytes())
    assert len(seen) == 60
    again = draw(np.random.default_rng(3))
    assert again.tobytes() in seen


@needs_photographs
def test_photographs_are_split_by_what_they_were_cut_from(cache: Path) -> None:
    images = module("unread", cache, cohen=False, phantoms=6, photographs=True)
    images.setup()
    photographs = images.manifest[images.manifest["kind"] == "photograph"]
    whole = photographs[photographs["path"].str.contains("crop")]
    assert whole["person"].nunique() >= 15
    assert whole.groupby("person").size().unique().tolist() == [12]
    assert photographs.groupby("person")["fold"].nunique().max() == 1
    colour = [bool(np.ptp(images.picture(row), axis=2).any()) for row in photographs.index]
    assert 0.2 < np.mean(colour) < 0.5


def test_a_missing_collection_says_how_to_get_it_or_do_without(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match=r"cxrlab-download data=cohen.*data.cohen=false data.phantoms=200"):
        module(tmp_path / "nowhere", cache).setup()
    for name in ("paper", "darkcovidnet"):
        with pytest.raises(DataError, match=f"data.{name}=false goes without"):
            module("unread", cache, cohen=False, phantoms=6, **{name: True}).setup()


def test_sets_that_are_not_there_are_left_out_by_auto(collection: Path, cache: Path) -> None:
    images = module(collection, cache, paper="auto", darkcovidnet="auto")
    images.setup()
    assert set(images.manifest["source"]) == {"cohen", "drawn"}


def test_too_few_people_for_the_folds(cache: Path) -> None:
    with pytest.raises(DataError, match=r"data.folds=20 wants one each at least"):
        module("unread", cache, cohen=False, phantoms=6, folds=20, drawn=20).setup()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"cohen": "yes"}, "cohen"),
        ({"paper": "no"}, "paper"),
        ({"phantoms": 1}, "phantoms"),
        ({"cohen": False, "phantoms": 0}, "phantoms"),
        ({"drawn": 1}, "drawn"),
        ({"folds": 1}, "folds"),
        ({"image_size": 16}, "image_size"),
        ({"epoch_images": 4}, "epoch_images"),
        ({"batch_size": 1}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"photographs": "no"}, "photographs"),
    ],
)
def test_arguments_out_of_range(changes: dict[str, Any], name: str, cache: Path) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be"):
        module("unread", cache, **changes)


def test_training_sees_what_the_gate_will_see(cache: Path) -> None:
    images = module("unread", cache, cohen=False, phantoms=6)
    images.setup()
    pixels = read_image(str(images.manifest["path"].iat[0])).pixels
    np.testing.assert_array_equal(images.picture(0), thumbnail(pixels))
    assert square(luma(images.picture(0)), 32).shape == (32, 32)


@pytest.mark.slow
def test_people_of_the_real_sets_never_straddle_folds(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(os.environ.get("CXRLAB_DATA") or "data")
    if not (data / "covid-chestxray-dataset").is_dir():
        pytest.skip("NOT CHECKED: no covid-chestxray-dataset under CXRLAB_DATA")
    found: dict[tuple[str, ...], pd.DataFrame] = {}

    def once(paths: list[str], *arguments: Any) -> pd.DataFrame:
        if tuple(paths) not in found:
            found[tuple(paths)] = near_duplicates(paths, *arguments)
        return found[tuple(paths)]

    # Whatever the folds are, the pictures are the same: they are read, and pairs of them looked for, once.
    monkeypatch.setattr(gate_images, "_read", functools.cache(gate_images._read))
    monkeypatch.setattr(gate_images, "near_duplicates", once)
    for folds in (3, "auto"):
        images = GateImagesDataModule(
            str(data / "covid-chestxray-dataset"),
            str(data / "xray_dataset_covid19"),
            str(data / "darkcovidnet"),
            str(cache),
            photographs=False,
            folds=folds,
        )
        images.setup()
        table = images.manifest
        if folds == "auto":
            assert images.collections == ["cohen", "kermany", "nih"]
            table = table[table["kind"].isin(["frontal", *OF_FRONTAL])]
        assert table.groupby("person")["fold"].nunique().max() == 1
        assert table.groupby("film")["fold"].nunique().drop("", errors="ignore").max() == 1
        known = table[table["patient_id"] != ""]
        assert known.groupby("patient_id")["fold"].nunique().max() == 1
        kinds = images.manifest["kind"].value_counts()
        assert kinds["lateral"] > 40
        assert kinds["ct"] > 50
        assert kinds["frontal"] > 500
