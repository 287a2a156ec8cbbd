"""Reading a whole manifest, and images that need not lie in memory: datamodules/pixels.py."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from cxrlab.datamodules import cache
from cxrlab.datamodules.cache import held
from cxrlab.datamodules.films import perceptual_hash
from cxrlab.datamodules.pixels import ImageRows, Pixels, describe_problems, doubts_of, read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.errors import DataError
from cxrlab.files import file_sha256
from cxrlab.reading.image import ImageFacts, ReadImage, read_image

ALL = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), np.uint8)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def write(file: Path, seed: int) -> str:
    assert cv2.imwrite(str(file), noise(20, 30, seed)[..., ::-1])
    return str(file)


def test_all_images_come_in_order_with_their_hashes(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.png", number) for number in range(70)]  # enough for a progress bar
    pixels = read_all(paths[::-1], Preprocessing.create([20, 30]))
    assert pixels.images.dtype == np.uint8
    np.testing.assert_array_equal(pixels.images, [noise(20, 30, number) for number in reversed(range(70))])
    assert pixels.sha256 == [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in reversed(paths)]
    assert pixels.problems == {}
    assert pixels.hashes.dtype == np.uint8
    np.testing.assert_array_equal(pixels.hashes, [perceptual_hash(noise(20, 30, n)) for n in reversed(range(70))])


def test_every_problem_is_collected(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    missing = tmp_path / "missing.png"
    pixels = read_all([str(empty), write(tmp_path / "good.png", 0), str(missing)], Preprocessing.create(8, 1))
    assert list(pixels.problems) == [0, 2]
    assert pixels.problems[0].startswith(f"{empty}: the file is empty")
    assert pixels.problems[2].startswith(f"{missing}: no such file")
    assert [bool(image.any()) for image in pixels.images] == [False, True, False]
    assert [len(sha256) for sha256 in pixels.sha256] == [0, 64, 0]
    assert [bool(row.any()) for row in pixels.hashes] == [False, True, False]


def test_no_image_at_all_gives_empty_tables() -> None:
    pixels = read_all([], Preprocessing.create(8))
    assert pixels.images.shape == (0, 8, 8, 3)
    assert pixels.hashes.shape == (0, 32)


def test_a_long_list_of_problems_is_cut() -> None:
    lines = describe_problems({row: f"/{row}.png: bad" for row in range(25)}, 100).splitlines()
    assert lines[0] == "25 of 100 images cannot be used:"
    assert lines[1:21] == [f"  /{row}.png: bad" for row in range(20)]
    assert lines[21] == "  … and 5 more"
    assert "data.on_error=skip" in lines[22]
    assert len(lines) == 23


def test_a_short_list_of_problems_is_whole() -> None:
    assert describe_problems({3: "/3.png: bad"}, 4).splitlines()[:2] == [
        "1 of 4 images cannot be used:",
        "  /3.png: bad",
    ]


@pytest.mark.parametrize(
    ("levels", "header", "doubts"),
    [
        (slice(0, 256), "", ""),
        (slice(100, 110), "", "nearly blank"),
        (slice(0, 256), "Modality CT (no radiograph)", "Modality CT (no radiograph)"),
        (slice(7, 8), "BodyPartExamined HAND; ViewPosition LL", "BodyPartExamined HAND; ViewPosition LL; nearly blank"),
    ],
)
def test_doubts_are_what_the_header_says_and_that_nothing_is_to_be_seen(
    levels: slice, header: str, doubts: str
) -> None:
    for height, width in ((300, 200), (10, 8)):
        pixels = np.resize(np.arange(256, dtype=np.uint8)[levels], (height, width))[..., None].repeat(3, -1)
        facts = ImageFacts("DICOM", width, height, "grey", 8, 1, doubts=header)
        assert doubts_of(ReadImage(pixels, "", facts)) == doubts


# Pixels that are kept and mapped --------------------------------------------------------------------------------------


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Colour pictures and grey films, one of either and a damaged file at the end of the list."""
    files = [write(tmp_path / f"{number}.png", number) for number in range(3)]
    for number in range(3, 6):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), noise(20, 30, number)[..., 0])
        files.append(str(tmp_path / f"{number}.png"))
    (tmp_path / "damaged.png").write_bytes(b"no image")
    return [*files[::-1], str(tmp_path / "damaged.png")]


def assert_same(found: Pixels, expected: Pixels) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.hashes, expected.hashes)
    for name in ("sha256", "problems", "notes", "doubts"):
        assert getattr(found, name) == getattr(expected, name)


@pytest.mark.parametrize(
    "preprocessing", [Preprocessing.create([20, 30]), Preprocessing.create(24, 1, "pad", "clahe", 0.1)], ids=str
)
def test_kept_pixels_are_those_of_the_files(paths: list[str], tmp_path: Path, preprocessing: Preprocessing) -> None:
    expected = [None if "damaged" in path else preprocessing.apply(read_image(path).pixels) for path in paths]
    for _ in range(2):
        found = read_all(paths, preprocessing, tmp_path / "kept")
        for image, pixels in zip(found.images, expected, strict=True):
            np.testing.assert_array_equal(image, np.zeros_like(image) if pixels is None else pixels)
        assert_same(found, read_all(paths, preprocessing))
    assert list(found.problems) == [6]
    (chunk,) = (path for path, _ in held(tmp_path / "kept"))
    assert chunk.parts[-4:-2] == ("pixels", "-".join(map(str, preprocessing.as_dict().values())))


def test_grey_films_are_kept_as_one_channel(paths: list[str], tmp_path: Path) -> None:
    read_all(paths, Preprocessing.create(100), tmp_path / "kept")
    (size,) = (facts.st_size for _, facts in held(tmp_path / "kept"))
    assert 3 * 30_000 + 3 * 10_000 < size < 3 * 30_000 + 3 * 10_000 + 5_000


def test_beyond_the_limit_the_least_recently_used_goes(paths: list[str], tmp_path: Path) -> None:
    first, second, third = (Preprocessing.create(side) for side in (100, 101, 102))
    for age, preprocessing in enumerate((first, second)):
        read_all(paths, preprocessing, tmp_path / "kept")
        os.utime(held(tmp_path / "kept")[0][0], (1000 + age, 1000 + age))
    read_all(paths, first, tmp_path / "kept")  # used again, from disk
    found = read_all(paths, third, tmp_path / "kept", limit_gb=0.00026)
    assert {path.parts[-3][:3] for path, _ in held(tmp_path / "kept")} == {"100", "102"}
    assert_same(found, read_all(paths, third))


def test_images_that_the_limit_has_no_room_for_are_an_error(paths: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_all(paths, Preprocessing.create(1000), tmp_path / "kept", limit_gb=0.01)
    message = str(caught.value)
    assert message.startswith("data.cache_limit_gb=0.01: 7 images of 1000x1000 pixels take 0.021 GB of the cache; ")
    assert "data.cache_limit_gb=1 " in message
    assert "data.cache=null" in message
    assert held(tmp_path / "kept") == []
    assert read_all(paths, Preprocessing.create(1000), limit_gb=0.01).notes == []


def test_a_disk_without_room_is_told_before_anything_is_written(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    found = read_all(paths, Preprocessing.create(20), tmp_path / "kept")
    (note,) = found.notes
    assert note.startswith(f"pixels could not be kept in {tmp_path / 'kept'}: No space left on device. ")
    assert held(tmp_path / "kept") == []
    np.testing.assert_array_equal(found.images, read_all(paths, Preprocessing.create(20)).images)


def anonymous_mb() -> float:
    """Resident memory that is this process's own: mapped files, which the system can drop, are not counted."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told apart on Linux only")
def test_images_do_not_have_to_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(700)]
    for number, path in enumerate(paths):
        Path(path).write_bytes(number.to_bytes(2, "little"))

    def drawn(path: str) -> ReadImage:
        picture = np.full((32, 32, 3), int(Path(path).stem) % 251, np.uint8)
        picture[..., 1] = 7  # no grey film
        return ReadImage(picture, file_sha256(Path(path)), ImageFacts("", 0, 0, "", 0, 0))

    monkeypatch.setattr(cache, "read_image", drawn)
    large = Preprocessing.create(300)  # 189 MB in all
    read_all(paths[:130], large, tmp_path / "kept")  # whatever is allocated once
    before = anonymous_mb()
    for _ in range(2):
        found = read_all(paths, large, tmp_path / "kept")
        assert [int(found.images[row][0, 0, 0]) for row in range(0, 700, 37)] == [n % 251 for n in range(0, 700, 37)]
        assert found.images.take(range(5, 700, 7))[3].max() == 26
        assert anonymous_mb() - before < 100


# Images by row --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "mapped"])
def images(request: pytest.FixtureRequest, tmp_path: Path) -> ImageRows:
    """Those of ``ALL``, and two grey ones in it as one channel."""
    ALL[[2, 5]] = ALL[[2, 5], :, :, :1]
    flat = [ALL[row, :, :, 0].ravel() if row in (2, 5) else ALL[row].ravel() for row in range(7)]
    if request.param == "mapped":
        np.save(tmp_path / "all.npy", np.concatenate(flat[::-1]))
        mapped = np.asarray(np.load(tmp_path / "all.npy", mmap_mode="r"))
        flat = np.split(mapped, np.cumsum([len(each) for each in flat[::-1]])[:-1])[::-1]
    return ImageRows(flat, (4, 5, 3))


def test_they_look_like_the_array(images: ImageRows) -> None:
    assert (images.shape, len(images)) == ((7, 4, 5, 3), 7)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(images), ALL)
    np.testing.assert_array_equal(np.asarray(images, np.float32), ALL.astype(np.float32))
    np.testing.assert_array_equal(list(images), ALL)
    with pytest.raises(ValueError, match="by being copied"):
        np.array(images, copy=False)


@pytest.mark.parametrize(
    "index",
    [
        3,
        np.int64(-2),
        slice(1, 6, 2),
        slice(None),
        [5, 0, 5],
        np.array([2, 1]),
        np.arange(7) % 2 == 0,
        np.zeros(7, np.bool_),
    ],
    ids=str,
)
def test_they_are_indexed_like_the_array(images: ImageRows, index: Any) -> None:
    np.testing.assert_array_equal(images[index], ALL[index])
    assert images[index].dtype == np.uint8
    with pytest.raises(IndexError):
        images[7]


def test_rows_are_chosen_without_copying(images: ImageRows) -> None:
    chosen = images.take([6, 1, 2]).take(np.array([True, False, True]))
    np.testing.assert_array_equal(chosen[:], ALL[[6, 2]])
    assert np.shares_memory(chosen[0], images[6])
    chosen[:][0] = 0
    np.testing.assert_array_equal(images[6], ALL[6])
    assert np.shares_memory(ImageRows.of(ALL).take([3])[0], ALL)
    assert ImageRows.of(ALL[:0])[:].shape == ImageRows.of(ALL[:0]).shape == (0, 4, 5, 3)


def test_to_another_process_go_names_and_not_mapped_pixels(images: ImageRows, request: pytest.FixtureRequest) -> None:
    data = pickle.dumps(images.take([6, 2, 0]))
    assert (ALL[0].tobytes() in data) == ("memory" in request.node.name)
    np.testing.assert_array_equal(pickle.loads(data)[:], ALL[[6, 2, 0]])
