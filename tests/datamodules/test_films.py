"""Which images are one radiograph: datamodules/films.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from cxrlab.datamodules.films import (
    COLUMNS,
    ENOUGH,
    NEAR,
    Features,
    film_keys,
    find_pairs,
    near_duplicates,
    perceptual_hash,
)
from cxrlab.datamodules.measurements import Measurements, measure
from cxrlab.errors import DataError
from cxrlab.reading.image import read_image

Image = np.ndarray[Any, np.dtype[np.uint8]]


def picture(seed: int, height: int = 300, width: int = 260) -> Image:
    """Soft blobs of all sizes, another set for every seed."""
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), blur) * blur for blur in (2, 4, 8, 16, 40)]
    grey = np.sum(layers, axis=0)
    grey = (255 * (grey - grey.min()) / np.ptp(grey)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)


def encoded_again(image: Image, width: int, height: int, quality: int = 60) -> Image:
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def mirrored(image: Image) -> Image:
    return np.ascontiguousarray(image[:, ::-1])


def bits_apart(one: Image, other: Image) -> int:
    return int(np.bitwise_count(perceptual_hash(one) ^ perceptual_hash(other)).sum())


def pairs_of(images: Sequence[Image], sha256: Sequence[str] | None = None) -> pd.DataFrame:
    features = Features.empty(len(images))
    for row, image in enumerate(images):
        features.find(row, image)
    hashes = np.stack([perceptual_hash(image) for image in images])
    return find_pairs(hashes, features, [f"{row:064}" for row in range(len(images))] if sha256 is None else sha256)


def rows(pairs: pd.DataFrame) -> list[tuple[int, int]]:
    return list(pairs[["first", "second"]].itertuples(index=False, name=None))


def test_hash_of_a_copy_differs_in_few_bits_and_of_another_image_in_half() -> None:
    image = picture(0)
    code = perceptual_hash(image)
    assert code.shape == (32,)
    assert code.dtype == np.uint8
    assert int(np.bitwise_count(code).sum()) == 128  # half are above their median
    assert bits_apart(image, encoded_again(image, 200, 230)) <= 8
    assert bits_apart(image, encoded_again(image, 224, 224)) <= 8, "squeezed"
    assert 80 < bits_apart(image, picture(1)) < 176


def test_finds_copies_in_another_size_encoding_and_aspect() -> None:
    image = picture(0)
    pairs = pairs_of([picture(1), image, encoded_again(image, 224, 224), picture(2), encoded_again(image, 520, 600)])
    assert list(pairs.columns) == list(COLUMNS)
    assert rows(pairs) == [(1, 2), (1, 4), (2, 4)]
    assert (pairs["distance"] <= NEAR).all()
    assert (pairs["inliers"] >= ENOUGH).all()
    assert not pairs["same_file"].any()
    assert not pairs["mirrored"].any()
    assert pairs.dtypes.astype(str).to_list() == ["int64", "int64", "bool", "int64", "int64", "bool"]


def test_finds_a_crop_that_the_hash_does_not() -> None:
    image = picture(0, 600, 500)
    crop = encoded_again(image[90:480, 60:430], 280, 295)
    pairs = pairs_of([image, picture(1), crop])
    assert rows(pairs) == [(0, 2)]
    assert pairs["distance"].item() > NEAR


def test_finds_a_mirrored_copy_and_says_so_and_the_same_pairs_again() -> None:
    images = [picture(seed) for seed in range(4)]
    images += [encoded_again(mirrored(image), 200, 230) for image in images]
    pairs = pairs_of(images)
    assert rows(pairs) == [(0, 4), (1, 5), (2, 6), (3, 7)]
    assert pairs["mirrored"].all()
    assert (pairs["distance"] <= NEAR).all()
    pd.testing.assert_frame_equal(pairs, pairs_of(images))


def test_a_shared_label_is_no_shared_film() -> None:
    images = [picture(seed, 400, 400) for seed in range(2)]
    for image in images:
        cv2.putText(image, "AP SUPINE 12:30 SCORE 14", (10, 390), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2)
    assert rows(pairs_of(images)) == []


def test_near_hashes_alone_are_no_pair() -> None:
    """The same coarse shapes under different detail, as of two phantoms."""
    coarse = cv2.GaussianBlur(picture(0).astype(np.float32), (0, 0), 6)
    detail = [cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 60, (300, 260, 1)), (0, 0), 1) for seed in (1, 2)]
    images = [np.clip(coarse + one[:, :, None], 0, 255).astype(np.uint8) for one in detail]
    assert bits_apart(*images) <= NEAR
    assert rows(pairs_of(images)) == []


def test_copies_of_one_file_are_paired_with_the_first_and_blank_or_unreadable_images_with_none() -> None:
    blank, grey = np.zeros((50, 50, 3), np.uint8), np.full((60, 50, 3), 90, np.uint8)
    pairs = pairs_of([blank, picture(0), blank, blank, grey, picture(1), picture(1)], ["a", "b", "a", "a", "c", "", ""])
    assert rows(pairs) == [(0, 2), (0, 3)]
    assert pairs["same_file"].all()
    assert pairs["distance"].to_list() == [0, 0]


def test_mostly_blank_images_are_no_trouble() -> None:
    features = Features.empty(600)
    for row in (301, 303):
        features.find(row, picture(0))
    hashes = np.random.default_rng(0).integers(0, 256, (600, 32), np.uint8)
    assert rows(find_pairs(hashes, features, [str(row) for row in range(600)])) == [(301, 303)]


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images_have_no_pairs(n: int) -> None:
    pairs = find_pairs(np.zeros((n, 32), np.uint8), Features.empty(n), ["x"] * n)
    assert list(pairs.columns) == list(COLUMNS)
    assert rows(pairs) == []
    assert film_keys(["x"] * n, pairs) == ["x"] * n
    assert rows(near_duplicates(["missing.png"] * n, np.zeros((n, 32), np.uint8), ["x"] * n)) == []


def test_many_copies_of_one_film_are_connected() -> None:
    image = picture(0)
    images = [encoded_again(image, 200 + side, 230 + side) for side in range(30)] + [picture(1)]
    keys = film_keys([f"{row:064}" for row in range(31)], pairs_of(images))
    assert keys == [f"{0:064}"] * 30 + [f"{30:064}"]


def test_film_keys_connect_through_others_and_unreadable_images_are_films_of_their_own() -> None:
    pairs = pd.DataFrame({"first": [1, 2], "second": [3, 3]})
    assert film_keys(["a", "b", "c", "d", "e"], pairs) == ["a", "b", "b", "b", "e"]
    keys = film_keys(["", "a", ""], pd.DataFrame({"first": [], "second": []}))
    assert len(set(keys)) == 3
    assert keys[1] == "a"


def write(folder: Path, images: Sequence[Image]) -> tuple[list[str], np.ndarray[Any, np.dtype[np.uint8]], list[str]]:
    paths = [str(folder / f"{row}.png") for row in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        assert cv2.imwrite(path, image)
    return paths, np.stack([perceptual_hash(image) for image in images]), [read_image(path).sha256 for path in paths]


def test_training_start_reads_only_files_whose_hashes_are_near(tmp_path: Path) -> None:
    image = picture(0)
    images = [picture(1), image, picture(2), encoded_again(image, 220, 250), mirrored(image), picture(1)]
    paths, hashes, sha256 = write(tmp_path, images)
    for row in (0, 2, 5):
        Path(paths[row]).unlink()
    pairs = near_duplicates(paths, hashes, sha256)
    assert rows(pairs) == [(0, 5), (1, 3), (1, 4), (3, 4)]
    assert pairs["same_file"].to_list() == [True, False, False, False]
    assert pairs["mirrored"].to_list() == [False, False, True, True]


def test_training_start_names_a_file_that_has_gone(tmp_path: Path) -> None:
    paths, hashes, sha256 = write(tmp_path, [picture(0), encoded_again(picture(0), 220, 250)])
    Path(paths[1]).unlink()
    with pytest.raises(DataError, match=r"1\.png: no such file"):
        near_duplicates(paths, hashes, sha256)


def measured_once(files: Sequence[Path], cache: Path) -> Measurements:
    """Kept where an audit keeps them, so that the tests read every image of the real sets once."""
    return measure([str(file) for file in files], cache / "measurements")


@pytest.mark.slow
def test_the_paper_has_three_near_duplicates_in_train(paper_root: Path, cache: Path) -> None:
    """Read at a training start: hashes of all, features of what is near."""
    files = sorted(paper_root.glob("*/*/*"))
    measured = measured_once(files, cache)
    pairs = near_duplicates([str(file) for file in files], measured.hashes, measured.sha256)
    found = {tuple(sorted(files[row].name.split("-")[0] for row in pair)) for pair in rows(pairs)}
    assert found == {("E63574A7", "F4341CE7"), ("auntminnie", "nejmoa2001191_f5"), ("nCoV", "nejmoa2001191_f1")}
    assert {files[row].parts[-3] for pair in rows(pairs) for row in pair} == {"train"}


@pytest.mark.slow
def test_finds_the_films_that_real_sets_share(data_set: Callable[[str], Path], cache: Path) -> None:
    """69 films of the paper's in DarkCovidNet and 120 of DarkCovidNet's in Cohen's, most of them cropped by hand."""
    sets = ("xray_dataset_covid19", "darkcovidnet", "covid-chestxray-dataset")
    paper, dark = sorted(data_set(sets[0]).glob("*/*/*")), sorted(data_set(sets[1]).glob("*/*"))
    cohen = {file.name: file for file in sorted((data_set(sets[2]) / "images").iterdir())}
    files = [*paper, *dark, *(cohen[file.name] for file in dark if file.name in cohen)]
    measured = measured_once(files, cache)
    pairs = rows(find_pairs(measured.hashes, measured.features, measured.sha256))

    by_set = [[row for row, file in enumerate(files) if name in file.parts] for name in sets]
    names = [{files[row].name: row for row in rows_of} for rows_of in by_set]
    for one, other, expected in ((0, 1, 69), (1, 2, 120)):
        shared = [(row, names[other][name]) for name, row in names[one].items() if name in names[other]]
        assert len(shared) == expected
        assert set(shared) <= set(pairs)
    other_names = [pair for pair in pairs if files[pair[0]].name != files[pair[1]].name]
    assert 0 < len(other_names) <= 20
    assert not [pair for pair in other_names if {"NORMAL", "No_findings"} & {files[row].parent.name for row in pair}]
