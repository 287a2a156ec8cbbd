"""From a source to batches: datamodules/chest_xray.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from pydicom.data import get_testdata_file

from cxrlab.config import build, compose
from cxrlab.datamodules import (
    Augmentation,
    ChestXRayDataModule,
    ConcatSource,
    FolderSource,
    PaperSource,
    SyntheticSource,
)
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.alterations import Alteration
from cxrlab.errors import DataError
from cxrlab.reading import image as reading

ClassFolders = Callable[..., Path]
BOTH = {"train/NORMAL": 10, "train/PNEUMONIA": 10, "test/NORMAL": 4, "test/PNEUMONIA": 4}
OWN_VAL = BOTH | {"val/NORMAL": 3, "val/PNEUMONIA": 3}


def module(root: Path, pattern: str | None = None, **options: Any) -> ChestXRayDataModule:
    source = FolderSource(str(root), {"NORMAL": 0, "PNEUMONIA": 1}, patient_pattern=pattern)
    return ChestXRayDataModule(source, **{"image_size": [16, 20], "batch_size": 4, **options})


def ready(root: Path, pattern: str | None = None, **options: Any) -> ChestXRayDataModule:
    datamodule = module(root, pattern, **options)
    datamodule.setup("fit")
    return datamodule


def sizes(datamodule: ChestXRayDataModule) -> list[tuple[int, int]]:
    """Negatives and positives of train, val and test."""
    labels = datamodule.manifest["label"].to_numpy()
    counts = [np.bincount(labels[datamodule.rows(split)], minlength=2) for split in mf.SPLITS]
    return [(int(negative), int(positive)) for negative, positive in counts]


def refused(root: Path, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        ready(root, **options)
    return str(caught.value)


@pytest.fixture
def root(class_folders: ClassFolders) -> Path:
    return class_folders(BOTH)


@pytest.mark.parametrize(
    ("counts", "options", "expected"),
    [
        (BOTH, {"val": 0.2}, [(8, 8), (2, 2), (4, 4)]),
        (OWN_VAL, {"val": 0.2}, [(10, 10), (3, 3), (4, 4)]),
        (BOTH, {"val": "test"}, [(10, 10), (4, 4), (4, 4)]),
        ({"NORMAL": 20, "PNEUMONIA": 10}, {"test": 0.3, "val": 0.25}, [(10, 5), (4, 2), (6, 3)]),
        ({"NORMAL": 20, "PNEUMONIA": 10}, {"test": 0.3, "val": "test"}, [(14, 7), (6, 3), (6, 3)]),
    ],
    ids=["val-drawn", "own-val-kept", "val-is-test", "drawn", "test"],
)
def test_splits(class_folders: ClassFolders, counts: Any, options: Any, expected: list[tuple[int, int]]) -> None:
    assert sizes(ready(class_folders(counts), **options)) == expected


def test_the_manifest_is_checked_complete_and_hashed(root: Path) -> None:
    table = ready(root).manifest
    pd.testing.assert_frame_equal(mf.check(table, "again"), table)
    assert list(table.columns) == [*mf.COLUMNS, "sha256", "film"]
    assert table["sha256"].str.len().eq(64).all()
    assert mf.leaks(table) == []


def test_the_split_belongs_to_split_seed_and_not_to_seed(class_folders: ClassFolders) -> None:
    root = class_folders({"NORMAL": 20, "PNEUMONIA": 20})
    first = ready(root).manifest
    pd.testing.assert_frame_equal(ready(root, seed=7).manifest, first)
    assert (ready(root, split_seed=1).manifest["split"] != first["split"]).any()


def test_patients_are_kept_together(class_folders: ClassFolders) -> None:
    root = class_folders({"NORMAL": 40, "PNEUMONIA": 40})
    table = ready(root, pattern=r"^(.*\d)\d\.png", val=0.3).manifest  # ten films each
    assert table["patient_id"].nunique() == 8
    assert table.groupby("patient_id")["split"].nunique().eq(1).all()


def test_copies_of_one_film_are_drawn_together(class_folders: ClassFolders) -> None:
    root = class_folders({"NORMAL": 10, "PNEUMONIA": 10})
    for file in sorted(root.rglob("*.png")):
        shutil.copy(file, file.with_name(f"copy of {file.name}"))
    folded: list[dict[str, Any]] = [
        {"folds": 3, "fold": fold, "val": "test", "pattern": r"^(.*)\.png"} for fold in range(3)
    ]
    for options in (*({"split_seed": seed} for seed in range(3)), *folded):  # in folds of two patients by their names
        assert ready(root, **options).manifest.groupby("sha256")["split"].nunique().eq(1).all()


def test_a_split_that_cannot_hold_both_labels_is_named(class_folders: ClassFolders) -> None:
    no_train = {"val/NORMAL": 3, "val/PNEUMONIA": 3, "test/NORMAL": 3, "test/PNEUMONIA": 3}
    message = refused(class_folders(no_train))
    assert message.startswith("folder: the train split holds no Negative and no Positive image; it needs both")
    few = class_folders({"NORMAL": 1, "PNEUMONIA": 9}, name="few")
    assert refused(few).startswith("data.test=0.2 cannot draw test images: only 1")


def test_a_label_that_is_in_one_split_only_is_named(root: Path) -> None:
    for file in (root / "test/PNEUMONIA").iterdir():
        file.write_bytes(b"")
    message = refused(root, on_error="skip", val="test")
    assert message.startswith("folder: the test split holds no Positive image; it needs both: add some")


def test_a_patient_in_two_splits_is_a_leak(root: Path) -> None:
    pattern = r"_(\d+)\.png"  # takes NORMAL_000 of train and of test for one person
    lines = refused(root, pattern=pattern, val="test").splitlines()
    assert lines[0] == "folder: 4 leak(s) between splits:"
    assert lines[1] == "  patient 000 is in test (NORMAL_000.png) and train (NORMAL_000.png)"
    assert "or pass data.allow_leak=true" in lines[-1]
    allowed = ready(root, pattern=pattern, val="test", allow_leak=True).warnings[1]
    assert allowed == f"data.allow_leak=true: 4 leak(s) between splits, the first: {lines[1].strip()}"


def test_unreadable_images_are_named_and_skipping_leaves_them_out(root: Path) -> None:
    empty, missing = root / "train/NORMAL/NORMAL_002.png", root / "test/PNEUMONIA/PNEUMONIA_001.png"
    empty.write_bytes(b"")
    missing.unlink()
    missing.symlink_to("gone.png")
    told = (f"{empty}: the file is empty", f"{missing}: a link to a file that is not there")
    lines = refused(root).splitlines()
    assert lines[0] == "2 of 28 images cannot be used:"
    assert all(any(line.startswith(f"  {each}") for line in lines) for each in told)
    assert "data.on_error=skip" in lines[-1]
    datamodule = ready(root, on_error="skip", val="test")
    assert sizes(datamodule) == [(9, 10), (4, 3), (4, 3)]
    assert not datamodule.manifest["path"].isin([str(empty), str(missing)]).any()
    assert all(any(line.startswith(f"left out: {each}") for line in datamodule.warnings) for each in told)
    for batch in datamodule.test_dataloader():  # the pixels are still those of their rows
        for image, row in zip(batch["image"], batch["row"].tolist(), strict=True):
            expected = reading.read_image(datamodule.manifest["path"][row]).pixels
            np.testing.assert_array_equal(image, datamodule.preprocessing.apply(expected))


@pytest.mark.parametrize("cached", [False, True])
def test_films_in_doubt_are_told_with_their_label_and_names(root: Path, tmp_path: Path, cached: bool) -> None:
    ct = Path(str(get_testdata_file("CT_small.dcm", download=False)))
    films = sorted((root / "train" / "NORMAL").iterdir())
    for number, film in enumerate(films[:5]):
        film.write_bytes(ct.read_bytes() + bytes(2 * number))  # five files
    blank = min((root / "train" / "PNEUMONIA").iterdir())
    assert cv2.imwrite(str(blank), np.full((40, 40), 200, np.uint8))
    for _ in range(2):  # the second time from the cache, where there is one
        warnings = ready(root, val="test", cache=str(tmp_path / "cache") if cached else None).warnings
        listed = ", ".join(film.name for film in films[:3])
        assert f"5 of 28 films (5 Negative, 0 Positive): Modality CT (no radiograph); look at {listed}, …" in warnings
        assert f"1 of 28 films (0 Negative, 1 Positive): nearly blank; look at {blank.name}" in warnings


def test_what_inflates_a_number_comes_first_among_the_warnings(class_folders: ClassFolders) -> None:
    root = class_folders(OWN_VAL)
    first, second, third = ready(root, val="test").warnings
    assert first == "validation was the test set (data.val=test): nothing here was chosen on independent images"
    assert second == "folder: its own val split (6 images) is not used (data.val=test)"
    assert third.startswith("folder: the patient of 34 of 34 images is unknown")
    assert ready(root, pattern=r"^(.*)\.png", allow_leak=True).warnings[1:] == []  # a clean data set has none
    other = class_folders({"NORMAL": 9, "PNEUMONIA": 9}, name="other")
    assert ready(other, pattern=r"^(.*)\.png").warnings == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"image_size": 0}, r"image_size must be"),
    ({"channels": 2}, r"channels must be one of 1, 3, got 2"),
    ({"batch_size": 0}, r"batch_size must be a whole number in \[1, 65536\], got 0"),
    ({"batch_size": 3.5}, r"batch_size must be a whole number"),
    ({"val": 0}, r"val must be a number in \(0, 1\), got 0"),
    ({"val": 1.0}, r"val must be a number in \(0, 1\), got 1.0"),
    ({"val": None}, r"val must be a number in \(0, 1\), got None"),
    ({"val": "tset"}, r"val must be one of test, got 'tset'; did you mean 'test'\?"),
    ({"test": 1.5}, r"test must be a number in \(0, 1\), got 1.5"),
    ({"test": float("nan")}, r"test must be a number in \(0, 1\), got nan"),
    ({"test": "every"}, r"test must be one of all"),
    ({"resplit": "no"}, r"resplit must be one of True, False"),
    ({"duplicates": "drp"}, r"duplicates must be one of keep, drop, exclude, refuse, got 'drp'; did you mean"),
    ({"split_seed": -1}, r"split_seed must be a whole number in"),
    ({"folds": 1, "fold": 0}, r"folds must be a whole number in \[2, inf\), got 1"),
    ({"folds": 3, "fold": 3}, r"fold must be a whole number in \[0, 2\], got 3"),
    ({"folds": 3}, r"folds=3 needs fold: .* -m data\.fold=0,1,2 for all of them"),
    ({"fold": 1}, r"fold=1 needs folds, .* data\.folds=5 data\.fold=1"),
    ({"folds": 3, "fold": 0, "test": "all"}, r"folds must be left out with test=all"),
    ({"seed": -1}, r"seed must be a whole number in"),
    ({"num_workers": -1}, r"num_workers must be a whole number in"),
    ({"persistent_workers": True}, r"persistent_workers=true needs num_workers"),
    ({"on_error": "skp"}, r"on_error must be one of raise, skip, got 'skp'; did you mean"),
    ({"mask": "annotations/lungVAE-masks"}, r"mask must be null or lungs .*real masks would tell the label"),
    ({"on_device": True, "augment": Augmentation([A.HorizontalFlip()])}, r"on_device=true needs augment=none"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_argument_is_named_before_any_file_is_touched(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        module(tmp_path / "none", **options)


def test_every_image_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = reading.read_image

    def count(path: str) -> Any:
        read.append(path)
        return original(path)

    monkeypatch.setattr("cxrlab.datamodules.cache.read_image", count)
    datamodule = module(root)
    for stage in ("fit", "validate", "test", None):
        datamodule.setup(stage)
        for loader in (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader()):
            assert sum(len(batch["row"]) for batch in loader) == len(loader.sampler.rows)  # type: ignore[attr-defined]
    assert sorted(read) == sorted(datamodule.manifest["path"])


def test_with_a_cache_the_second_run_reads_and_compares_no_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(root / "train/NORMAL/NORMAL_000.png", root / "train/NORMAL/copy.png")
    expected = ready(root)
    first = ready(root, cache=str(tmp_path / "cache"))
    for name in ("cache.read_image", "cache.file_sha256", "chest_xray.near_duplicates"):
        monkeypatch.setattr(f"cxrlab.datamodules.{name}", None)
    second = ready(root, cache=str(tmp_path / "cache"))
    for datamodule in (first, second):
        pd.testing.assert_frame_equal(datamodule.manifest, expected.manifest)
        np.testing.assert_array_equal(datamodule.pixels, expected.pixels)
        assert datamodule.warnings == expected.warnings
    assert expected.manifest["film"].duplicated().sum() == 1


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}, {"on_device": True}], ids=str)
def test_batches_out_of_the_cache_are_those_out_of_memory(root: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    def batches(**given: Any) -> list[torch.Tensor]:
        datamodule = ready(root, **options, **given)
        loader = datamodule.train_dataloader()
        return [datamodule.on_after_batch_transfer(batch, 0)["image"] for batch in loader]

    for found, expected in zip(batches(cache=str(tmp_path / "cache")), batches(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["light", "strong"])
def test_mapped_images_can_be_augmented(root: Path, tmp_path: Path, name: str) -> None:
    augment = build(compose("train", [f"augment={name}"], "unused").augment)
    mapped, held = (ready(root, augment=augment, cache=cache) for cache in (str(tmp_path / "cache"), None))
    for found, expected in zip(mapped.train_dataloader(), held.train_dataloader(), strict=True):
        torch.testing.assert_close(found["image"], expected["image"], rtol=0, atol=0)


def test_altered_images_do_not_change_the_cache(root: Path, tmp_path: Path) -> None:
    plain = ready(root)
    cache = str(tmp_path / "cache")
    for _ in range(2):
        assert (ready(root, alter="tiny_4", cache=cache).pixels[:] != plain.pixels[:]).any()
        np.testing.assert_array_equal(ready(root, cache=cache).pixels, plain.pixels)


def test_a_cache_that_cannot_be_written_is_told_once_and_the_run_goes_on(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    datamodule = ready(root, cache=str(tmp_path / "file"))
    np.testing.assert_array_equal(datamodule.pixels, ready(root).pixels)
    assert sum("could not be kept" in warning for warning in datamodule.warnings) == 1


@pytest.mark.slow
def test_several_sources_share_a_cache(class_folders: ClassFolders, tmp_path: Path) -> None:
    class_folders(BOTH, name="one", seed=1), class_folders(BOTH, name="two", seed=2)

    def joined(cache: str | None) -> ChestXRayDataModule:
        labels = {"NORMAL": 0, "PNEUMONIA": 1}
        sources = {name: FolderSource(str(tmp_path / name), labels, name=name) for name in ("one", "two")}
        both: Any = ConcatSource(sources)
        datamodule = ChestXRayDataModule(both, image_size=16, cache=cache)
        datamodule.setup()
        return datamodule

    expected = joined(None)
    for _ in range(2):
        found = joined(str(tmp_path / "cache"))
        pd.testing.assert_frame_equal(found.manifest, expected.manifest)
        np.testing.assert_array_equal(found.pixels, expected.pixels)


def test_setup_can_be_repeated_after_it_failed(root: Path) -> None:
    empty = root / "train/NORMAL/NORMAL_000.png"
    good = empty.read_bytes()
    empty.write_bytes(b"")
    datamodule = module(root)
    with pytest.raises(DataError):
        datamodule.setup()
    empty.write_bytes(good)
    datamodule.setup()
    assert len(datamodule.manifest) == 28


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_have_the_documented_shapes_and_types(root: Path, channels: int) -> None:
    datamodule = ready(root, channels=channels, batch_size=3)
    batch = next(iter(datamodule.train_dataloader()))
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items()} == {
        "image": ((3, 16, 20, channels), torch.uint8),
        "label": ((3,), torch.float32),
        "row": ((3,), torch.int64),
    }
    moved = datamodule.on_after_batch_transfer(batch, 0)
    assert moved["image"].shape == (3, channels, 16, 20)
    assert moved["image"].dtype == torch.float32
    torch.testing.assert_close(moved["image"], batch["image"].permute(0, 3, 1, 2) / 255)
    assert moved["label"] is batch["label"]
    assert [datamodule.manifest["label"][row] for row in batch["row"].tolist()] == batch["label"].tolist()


def rows_of(loader: Any) -> list[int]:
    return [row for batch in loader for row in batch["row"].tolist()]


def test_training_is_shuffled_by_seed_and_the_rest_in_order(class_folders: ClassFolders) -> None:
    root = class_folders(OWN_VAL)
    datamodule = ready(root)
    train = rows_of(datamodule.train_dataloader())
    assert sorted(train) == datamodule.rows("train").tolist() != train
    assert rows_of(datamodule.val_dataloader()) == datamodule.rows("val").tolist()
    assert rows_of(datamodule.test_dataloader()) == datamodule.rows("test").tolist()
    assert rows_of(ready(root, split_seed=1).train_dataloader()) == train
    assert rows_of(ready(root, seed=1).train_dataloader()) != train


def test_drawing_batches_leaves_the_random_state_of_dropout_alone(root: Path) -> None:
    datamodule = ready(root)
    before = torch.get_rng_state()
    for loader in (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader()):
        rows_of(loader)
        assert torch.equal(torch.get_rng_state(), before)


def test_only_training_images_are_augmented(root: Path) -> None:
    datamodule = ready(root, augment=Augmentation([A.InvertImg(p=1)]))
    for name, turn in (("train", 255), ("val", 0), ("test", 0)):
        batch = next(iter(getattr(datamodule, f"{name}_dataloader")()))
        stored = [cv2.imread(datamodule.manifest["path"][row]) for row in batch["row"].tolist()]
        expected = [datamodule.preprocessing.apply(np.asarray(image, np.uint8)[..., ::-1]) ^ turn for image in stored]
        np.testing.assert_array_equal(batch["image"], expected)


def test_preview_images_are_half_of_either_label(root: Path) -> None:
    datamodule = ready(root)
    assert datamodule.images("test", 4).shape == (4, 16, 20, 3)
    assert datamodule.images("test", 100).shape == (8, 16, 20, 3)
    batch = next(iter(datamodule.test_dataloader()))
    np.testing.assert_array_equal(datamodule.images("test", 4)[:2], batch["image"][:2])


class Recorder(pl.LightningModule):
    """Learns nothing and keeps the sum of each image it saw, by epoch and row."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, int, float]] = []

    def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        sums = batch["image"].sum((1, 2, 3)).tolist()
        self.seen += [(self.current_epoch, *pair) for pair in zip(batch["row"].tolist(), sums, strict=True)]
        return self.weight.sum()

    def validation_step(self, batch: dict[str, torch.Tensor]) -> None:
        assert batch["image"].dtype == torch.float32

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(root: Path, torch_seed: int = 0, **options: Any) -> list[tuple[int, int, float]]:
    torch.manual_seed(torch_seed)
    quiet: dict[str, Any] = dict.fromkeys(
        ("enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False
    )
    trainer = pl.Trainer(accelerator="cpu", max_epochs=3, logger=False, **quiet)
    recorder = Recorder()
    augment = Augmentation([A.RandomBrightnessContrast(p=1), A.GaussNoise(p=0.5)])
    trainer.fit(recorder, module(root, augment=augment, **options))
    return recorder.seen


def test_a_training_sees_the_same_numbers_whatever_the_workers(root: Path) -> None:
    expected = trained(root)
    assert len(expected) == len(set(expected)) == 3 * len(ready(root).rows("train"))
    orders = [[row for epoch, row, _ in expected if epoch == wanted] for wanted in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert trained(root, torch_seed=1, num_workers=1) == expected
    assert trained(root, torch_seed=2, num_workers=2, persistent_workers=True) == expected
    assert trained(root, seed=1) != expected


@pytest.mark.slow
def test_the_papers_protocol(paper_root: Path) -> None:
    datamodule = ChestXRayDataModule(PaperSource(str(paper_root)), val="test")
    datamodule.setup()
    assert sizes(datamodule) == [(74, 74), (20, 20), (20, 20)]
    assert datamodule.images("train", 2).shape == (2, 224, 224, 3)
    assert [warning for warning in datamodule.warnings if "validation was the test set" in warning]


def test_folds_pool_the_sources_own_splits_and_say_so(class_folders: ClassFolders) -> None:
    root = class_folders(OWN_VAL)  # 17 of either label
    tested: list[str] = []
    for fold in range(3):
        datamodule = ready(root, folds=3, fold=fold, val=0.25, seed=fold)
        table = datamodule.manifest
        tested += table["path"][datamodule.rows("test")].tolist()
        train, val, test = sizes(datamodule)
        assert set(test) <= {5, 6}
        assert val == (3, 3)
        assert [sum(counts) for counts in zip(train, val, test, strict=True)] == [17, 17]
        assert mf.leaks(table) == []
        assert datamodule.warnings[0] == (
            "folder: its own split (20 train, 6 val, 8 test images) is set aside: all 34 images are pooled, and the "
            f"test images are those of data.fold={fold} of data.folds=3"
        )
        assert datamodule.warnings[1].startswith("folder: the patient of 34 of 34 images is unknown")
    assert sorted(tested) == sorted(ready(root).manifest["path"])


def test_folds_of_a_source_without_splits_set_nothing_aside(class_folders: ClassFolders) -> None:
    datamodule = ready(class_folders({"NORMAL": 9, "PNEUMONIA": 9}), r"^(.*)\.png", folds=3, fold=0, val="test")
    (warning,) = datamodule.warnings
    assert warning.startswith("validation was the test set (data.val=test):")
    assert sizes(datamodule) == [(6, 6), (3, 3), (3, 3)]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return SyntheticSource(str(tmp_path_factory.mktemp("phantoms")), n_train=12, n_test=8, size=256).manifest()


def films(phantoms: pd.DataFrame, root: Path) -> Path:
    """The phantoms as class folders."""
    for row in phantoms.itertuples():
        folder = root / str(row.split) / ("PNEUMONIA" if row.label else "NORMAL")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(row.path), folder)
    return root


def test_a_film_in_two_splits_is_a_leak_in_another_size_and_encoding(phantoms: pd.DataFrame, tmp_path: Path) -> None:
    root = films(phantoms, tmp_path)
    assert mf.leaks(ready(root, val="test").manifest) == []
    film = next((root / "train" / "NORMAL").iterdir())
    smaller = cv2.resize(reading.read_image(film).pixels, (200, 210), interpolation=cv2.INTER_AREA)
    assert cv2.imwrite(str(root / "test" / "NORMAL" / "again.jpg"), smaller, [cv2.IMWRITE_JPEG_QUALITY, 80])
    message = refused(root, val="test")
    assert f"the same film (a near-duplicate) is in test (again.jpg) and train ({film.name})" in message
    allowed = ready(root, val="test", allow_leak=True)
    assert any("data.allow_leak=true: 1 leak(s)" in warning for warning in allowed.warnings)
    anew = ready(root, resplit=True, test=0.3, val="test").manifest
    assert anew.groupby("film")["split"].nunique().eq(1).all()
    dropped = ready(root, duplicates="drop", val="test")
    assert len(dropped.manifest) == 20
    assert dropped.flow.steps[-1].removed == 1


def test_filters_are_in_the_flow_of_cases(root: Path) -> None:
    (root / "train" / "NORMAL" / "NORMAL_000.png").write_bytes(b"not an image")
    pattern = r"^(.*)_\d\d\d\.png"  # two patients, one of either class
    options: dict[str, Any] = {"limit_per_patient": 12, "on_error": "skip", "val": "test", "allow_leak": True}
    datamodule = ready(root, pattern=pattern, **options)
    steps = datamodule.flow.table()
    assert steps["removed"].tolist()[-2:] == [4, 1]
    assert steps["images"].iloc[-1] == len(datamodule.manifest) == 23
    assert len(datamodule.pixels) == 23


def test_too_few_patients_for_folds_and_validation(class_folders: ClassFolders) -> None:
    root = class_folders({"NORMAL": 2, "PNEUMONIA": 9})
    assert refused(root, folds=3, fold=0).startswith("data.folds=3 is too many: only 2 patient(s) have a Negative")
    message = refused(root, folds=2, fold=0)
    assert message.startswith("data.val=0.15 cannot draw val images: only 1 training patient(s) are Negative")
    assert message.endswith("add images, loosen a filter, or type data.val=test")


@pytest.mark.slow
def test_folds_of_the_papers_set(paper_root: Path, cache: Path) -> None:
    tested: list[str] = []
    source, kept = PaperSource(str(paper_root)), str(cache / "measurements")
    for fold in range(5):
        datamodule = ChestXRayDataModule(source, image_size=16, folds=5, fold=fold, cache=kept)
        datamodule.setup()
        table = datamodule.manifest
        tested += table["path"][datamodule.rows("test")].tolist()
        assert set(sizes(datamodule)[2]) <= {18, 19}  # 94 of either label
        assert table.groupby(mf.people(table))["split"].nunique().eq(1).all()
        assert "its own split (148 train, 40 test images) is set aside" in datamodule.warnings[0]
        assert any("NOT CHECKED" in warning for warning in datamodule.warnings)
    assert len(tested) == len(set(tested)) == 188


def test_every_image_of_every_split_is_altered_and_reports_say_so(root: Path) -> None:
    plain, altered = ready(root), ready(root, alter="centre_black_50")
    np.testing.assert_array_equal(altered.pixels, Alteration.parse("centre_black_50").apply(plain.pixels[:]))
    words = "every image was altered (central 50 % of each side black)"
    assert altered.warnings[0] == f"data.alter=centre_black_50: {words}"
    assert (altered.manifest["split"] == plain.manifest["split"]).all()
    dealt = ready(root, permute_labels=1)  # every image a patient of its own
    assert sizes(dealt) == sizes(plain)
    assert (dealt.manifest["label"] != plain.manifest["label"]).any()


@pytest.mark.parametrize("options", [{"mask": "lungs"}, {"alter": "lungs_only"}], ids=str)
def test_lungs_are_found_on_what_the_preprocessing_gives_and_everything_else_turns_black(
    root: Path, options: dict[str, str]
) -> None:
    plain, masked = ready(root), module(root, **options)
    assert masked.needs_lungs
    masked.segment = bright
    masked.setup()
    np.testing.assert_array_equal(masked.pixels, np.where(bright(plain.pixels[:])[..., None], plain.pixels, 0))


def bright(images: Any) -> Any:
    return images.mean(axis=-1) > 100


def test_lungs_without_a_segmenter_are_an_error_and_not_whole_images(root: Path) -> None:
    assert "set `segment` before setup()" in refused(root, mask="lungs")


def test_permuted_labels_stay_with_the_patient_and_come_from_the_split(tmp_path: Path) -> None:
    def drawn(**options: Any) -> ChestXRayDataModule:
        source = SyntheticSource(str(tmp_path), n_train=40, n_test=16, size=64)
        datamodule = ChestXRayDataModule(source, image_size=16, **options)
        datamodule.setup()
        return datamodule

    plain, dealt, again = drawn(), drawn(permute_labels=2), drawn(permute_labels=2)
    assert (dealt.manifest["split"] == plain.manifest["split"]).all()
    assert (dealt.manifest["label"] != plain.manifest["label"]).mean() > 0.2
    assert (dealt.manifest["label"] == again.manifest["label"]).all()
    assert (dealt.manifest.groupby("patient_id")["label"].nunique() == 1).all()
    assert dealt.manifest["patient_id"].duplicated().any()
    assert "negative control" in dealt.warnings[0]


def all_batches(root: Path, device: str, **options: Any) -> list[dict[str, torch.Tensor]]:
    data = ready(root, **options)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    moved = [{key: value.to(device) for key, value in batch.items()} for loader in loaders for batch in loader]
    return [data.on_after_batch_transfer(batch, 0) for batch in moved]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_batches_of_pixels_on_the_device_are_those_that_travel(root: Path, device: str) -> None:
    expected, found = all_batches(root, device), all_batches(root, device, on_device=True)
    assert len(found) == len(expected) > 5
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) and one[key].device == other[key].device for key in one)
        assert one["image"].stride() == other["image"].stride()
