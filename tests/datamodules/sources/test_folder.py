"""Class folders become a manifest: datamodules/sources/folder.py."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cxrlab.console import literal
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources import FolderSource
from cxrlab.errors import DataError

LABELS = {"NORMAL": 0, "PNEUMONIA": 1}
ClassFolders = Callable[..., Path]


def source(root: Path, labels: Mapping[Any, Any] = LABELS, **options: Any) -> FolderSource:
    return FolderSource(str(root), labels, **options)


def names(root: Path, **options: Any) -> list[str]:
    return [str(Path(path).relative_to(root)) for path in source(root, **options).manifest()["path"]]


def refused(root: Path, **options: Any) -> str:
    return refused_for(root, LABELS, **options)


def refused_for(root: Path, labels: Mapping[Any, Any], **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        source(root, labels, **options).manifest()
    return str(caught.value)


@pytest.fixture
def plain(class_folders: ClassFolders) -> Path:
    """Two classes without splits, two images each."""
    return class_folders({"NORMAL": 2, "PNEUMONIA": 2})


def test_without_splits(plain: Path) -> None:
    table = source(plain, name="mine").manifest()
    assert list(table.columns) == list(mf.COLUMNS)
    assert [Path(path).name for path in table["path"]] == [
        f"{name}_00{number}.png" for name in LABELS for number in (0, 1)
    ]
    assert table["label"].tolist() == [0, 0, 1, 1]
    assert table["finding"].tolist() == ["NORMAL", "NORMAL", "PNEUMONIA", "PNEUMONIA"]
    assert set(table["split"]) == set(table["patient_id"]) == set(table["view"]) == {""}
    assert set(table["source"]) == {"mine"}
    mf.check(table, "mine")


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val", "test"), ("train",)], ids="+".join)
def test_with_splits(class_folders: ClassFolders, splits: tuple[str, ...]) -> None:
    root = class_folders({f"{split}/{name}": 2 for split in splits for name in LABELS})
    table = source(root).manifest()
    assert table.groupby("split").size().to_dict() == dict.fromkeys(splits, 4)
    assert [Path(path).relative_to(root).parts[:2] for path in table["path"]] == list(
        zip(table["split"], table["finding"], strict=True)
    )


@pytest.mark.parametrize(
    "names", ["train valid test", "Train Val Test", "TRAINING dev testing", "train_set val test-data"]
)
def test_splits_may_have_any_usual_name(class_folders: ClassFolders, names: str) -> None:
    counts = dict(zip(names.split(), (3, 1, 2), strict=True))
    root = class_folders({f"{split}/{name}": count for split, count in counts.items() for name in LABELS})
    asked = source(root)
    assert asked.manifest().groupby("split").size().to_dict() == {"train": 6, "val": 2, "test": 4}
    for split, usual in zip(counts, mf.SPLITS, strict=True):
        assert (f"{root}: the folder {split} is taken for the {usual} split" in asked.notes) == (split != usual)


def test_a_folder_beside_the_splits_is_asked_about(class_folders: ClassFolders) -> None:
    root = class_folders({f"{split}/{name}": 1 for split in ("train", "tset", "extra") for name in LABELS})
    message = refused(root)
    assert message.startswith(f"{root}: beside the splits train there are the folder(s) extra, tset")
    assert message.endswith("'data.source.exclude=[extra, tset]'")
    assert "did you mean 'test'" in refused(root, exclude=["extra"])
    asked = source(root, exclude=["extra", "tset"])
    assert len(asked.manifest()) == 2
    assert [(step.step, step.removed) for step in asked.flow.steps] == [
        ("image files listed", 0),
        ("data.source.exclude: extra", 2),
        ("data.source.exclude: tset", 2),
    ]


def test_two_folders_of_one_split_are_refused(class_folders: ClassFolders) -> None:
    root = class_folders({f"{split}/{name}": 1 for split in ("train", "val", "valid") for name in LABELS})
    assert "the folders val and valid both mean the val split" in refused(root)


@pytest.mark.parametrize("masks", ["masks", "lung masks", "Mask", "ManualMask/leftMask", "segmentation", "annotations"])
def test_masks_beside_films_are_asked_about(class_folders: ClassFolders, masks: str) -> None:
    root = class_folders({f"{name}/{inner}": 2 for name in LABELS for inner in ("images", masks)})
    message = refused(root)
    assert "by its name this may be no film" in message
    first = masks.split("/")[0]
    assert f"""'data.source.exclude=[{literal(first)}]' leaves such files out""" in message
    asked = source(root, exclude=[first])
    assert {Path(path).parent.name for path in asked.manifest()["path"]} == {"images"}
    assert asked.flow.steps[1].removed == 4
    assert len(source(root, include=["*"]).manifest()) == 8
    assert len(source(root, include=["*/images/*"]).manifest()) == 4


@pytest.mark.parametrize("name", ["{}_mask", "mask_{}", "{}-seg", "{} overlay", "{}_lungmask"])
def test_masks_beside_films_in_one_folder_are_asked_about(plain: Path, name: str) -> None:
    film = plain / "NORMAL/NORMAL_000.png"
    shutil.copy(film, film.with_stem(name.format(film.stem)))
    assert "may be no film, but a mask" in refused(plain)
    assert len(source(plain, exclude=[f"{name.format('*')}.png"]).manifest()) == 4


@pytest.mark.parametrize("pair", [("images", "more"), ("raw", "enhanced"), ("PNG", "JPG")])
def test_several_folders_below_every_class_are_asked_about(class_folders: ClassFolders, pair: tuple[str, str]) -> None:
    root = class_folders({f"{name}/{inner}": 1 for name in LABELS for inner in pair})
    message = refused(root)
    assert "which may be several kinds of images" in message
    first = min(pair)
    assert f"""'data.source.include=["*/{first}/*"]'""" in message
    assert len(source(root, include=[f"*/{first}/*"]).manifest()) == 2


def test_patients_below_a_class_are_no_kinds_of_images(class_folders: ClassFolders) -> None:
    root = class_folders({"NORMAL/p1": 1, "NORMAL/p2": 2, "PNEUMONIA/p3": 1, "PNEUMONIA/p4/study1": 1})
    assert len(source(root).manifest()) == 5


def test_splits_below_the_classes_are_refused(class_folders: ClassFolders) -> None:
    root = class_folders({f"{name}/{split}": 1 for name in LABELS for split in ("train", "test")})
    assert "test, train look like splits; put splits above the classes" in refused(root)


@pytest.mark.parametrize("where", ["", "train"])
def test_images_beside_the_folders_are_asked_about(class_folders: ClassFolders, where: str) -> None:
    root = class_folders({f"train/{name}": 1 for name in LABELS})
    shutil.copy(root / "train/NORMAL/NORMAL_000.png", root / where / "x.png")
    assert f"{root / where}: 1 image(s) lie beside the folders, the first x.png" in refused(root)
    asked = source(root, exclude=["x.png"])
    assert len(asked.manifest()) == 2
    assert asked.flow.steps[1].removed == 1


@pytest.mark.parametrize("name", ["films.zip", "IM0001", "a.gif", "scan.nii.gz", "film.dcm.part"])
def test_a_file_that_may_hold_films_is_asked_about(plain: Path, name: str) -> None:
    (plain / "NORMAL" / name).touch()
    assert f"{plain / 'NORMAL' / name}: neither an image by its ending nor a text" in refused(plain)
    assert len(source(plain, exclude=[name]).manifest()) == 4


def test_a_pattern_that_matches_nothing_is_misspelt(plain: Path) -> None:
    assert "no file or folder matches 'msks' of data.source.include or exclude" in refused(plain, exclude=["msks"])
    with pytest.raises(ValueError, match="exclude must be a list of patterns"):
        source(plain, exclude="masks")


def test_labels_in_names_of_one_folder(class_folders: ClassFolders) -> None:
    root = class_folders({"CXR_png": 4})
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        file.rename(root / f"CHNCXR_{number:04d}_{number % 2}.png")
    (root / "CXR_png").rmdir()
    assert """'data.source.label_pattern="_([01])[.]"'""" in refused(root)
    table = source(root, {0: 0, 1: 1}, label_pattern="_([01])[.]", patient_pattern=r"_(\d+)_").manifest()
    assert table["label"].tolist() == [0, 1, 0, 1]
    assert table["patient_id"].tolist() == ["0000", "0001", "0002", "0003"]
    message = refused_for(root, {"n": 0, "t": 1}, label_pattern="_([01])[.]")
    assert "finds '0', which data.source.labels lacks" in message
    assert "finds no class in this name" in refused_for(root, {0: 0, 1: 1}, label_pattern="_([x])[.]")


def test_classes_may_share_a_label_or_be_one(class_folders: ClassFolders) -> None:
    root = class_folders({"0": 1, "Covid-19": 1, "Pneumonia": 1})
    table = source(root, {0: 0, "Pneumonia": 0, "Covid-19": 1}).manifest()  # YAML reads 0: as a number
    assert dict(zip(table["finding"], table["label"], strict=True)) == {"0": 0, "Covid-19": 1, "Pneumonia": 0}
    assert source(class_folders({"COVID": 3}, name="one"), {"COVID": 1}).manifest()["label"].tolist() == [1, 1, 1]


def test_paths_are_absolute(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain.parent)
    assert all(Path(path).is_absolute() for path in source(Path(plain.name)).manifest()["path"])
    monkeypatch.setenv("HOME", str(plain.parent))
    assert len(FolderSource(f"~/{plain.name}", LABELS).manifest()) == 4


def test_nested_folders_and_mixed_case_suffixes_are_found_in_a_fixed_order(plain: Path) -> None:
    folder = plain / "NORMAL" / "hospital b" / "2020"
    folder.mkdir(parents=True)
    for name in ("b.JPG", "a.Png", "c.TIFF"):
        shutil.copy(plain / "NORMAL/NORMAL_000.png", folder / name)
    assert names(plain)[:5] == [
        "NORMAL/NORMAL_000.png",
        "NORMAL/NORMAL_001.png",
        *(f"NORMAL/hospital b/2020/{name}" for name in ("a.Png", "b.JPG", "c.TIFF")),
    ]


def test_hidden_files_and_folders_are_left_out(plain: Path) -> None:
    before = names(plain)
    shutil.copy(plain / "NORMAL/NORMAL_000.png", plain / "NORMAL/._NORMAL_000.png")
    shutil.copytree(plain / "NORMAL", plain / "NORMAL/.ipynb_checkpoints")
    shutil.copytree(plain / "NORMAL", plain / ".cache")
    shutil.copytree(plain / "NORMAL", plain / "__MACOSX")
    shutil.copytree(plain / "NORMAL", plain / "NORMAL/__MACOSX")
    assert names(plain) == before
    assert len(source(plain).manifest()) == 4


def test_texts_beside_images_are_noted(plain: Path) -> None:
    for name in ("notes.txt", "README", "metadata.xlsx"):
        (plain / "NORMAL" / name).touch()
    asked = source(plain)
    assert len(asked.manifest()) == 4
    assert asked.notes[0] == f"{plain / 'NORMAL'}: 3 file(s) whose names are no image's were not used"


def test_the_flow_begins_with_the_files_and_notes_are_of_the_last_listing(plain: Path) -> None:
    asked = source(plain, name="mine")
    asked.manifest()
    asked.manifest()  # counted and noted once
    assert asked.flow.table().to_dict("records") == [
        {"source": "mine", "step": "image files listed", "removed": 0, "images": 4, "patients": 4}
    ]
    (note,) = asked.notes
    assert note.startswith("mine: the patient of 4 of 4 images is unknown")
    assert "NOT CHECKED" in note


def test_a_missing_root_says_what_to_type(tmp_path: Path) -> None:
    message = refused(tmp_path / "none", how_to_get="write to us")
    assert message == f"{tmp_path / 'none'}: no such folder; write to us; data=synthetic needs no files at all"
    (tmp_path / "file").touch()
    assert "data.source.root=/path/to/images" in refused(tmp_path / "file")


def test_an_unknown_class_folder_gets_labels_that_fit_it(plain: Path) -> None:
    (plain / "PNEUMONIA").rename(plain / "Pneumonia")
    assert refused(plain) == (
        f"{plain / 'Pneumonia'}: no label for this class folder; data.source.labels knows NORMAL, PNEUMONIA; "
        "did you mean '{NORMAL: 0, Pneumonia: 1}'? Otherwise rename the folder to 'PNEUMONIA'"
    )


def test_one_class_folder_too_many_is_not_taken_for_another(plain: Path) -> None:
    shutil.copytree(plain / "PNEUMONIA", plain / "Pneumonia")  # PNEUMONIA is there, so it cannot be meant
    assert refused(plain).endswith(
        "data.source.labels knows NORMAL, PNEUMONIA; add 'Pneumonia' to them as 0 or 1, or leave it out: "
        "'data.source.exclude=[Pneumonia]'"
    )
    asked = source(plain, exclude=["Pneumonia"])
    assert len(asked.manifest()) == 4
    assert asked.flow.table()[["removed", "images"]].to_numpy().tolist() == [[0, 6], [2, 4]]


def test_a_missing_class_is_named(plain: Path) -> None:
    shutil.rmtree(plain / "PNEUMONIA")
    hint = "add it, or change data.source.labels"
    assert refused(plain) == f"{plain}: the class folder 'PNEUMONIA' is missing; found NORMAL; {hint}"
    shutil.rmtree(plain / "NORMAL")
    assert "the class folder 'NORMAL' is missing; found no folder" in refused(plain)


def test_a_class_without_images_is_named(plain: Path) -> None:
    shutil.rmtree(plain / "PNEUMONIA")
    (plain / "PNEUMONIA").mkdir()
    (plain / "PNEUMONIA/readme.md").touch()
    assert refused(plain).startswith(f"{plain / 'PNEUMONIA'}: an empty class, no image in it (.bmp, ")


def test_patients_are_read_from_names(plain: Path) -> None:
    for number, file in enumerate(sorted(plain.rglob("*.png"))):
        file.rename(file.with_name(f"{number // 2:08d}_{number:03d}.png"))
    asked = source(plain, patient_pattern=r"^(\d+)_")
    assert asked.manifest()["patient_id"].tolist() == ["00000000", "00000000", "00000001", "00000001"]
    assert asked.notes == []


@pytest.mark.parametrize("pattern", [r"^(\d+)_", r"^(\d+)?NORMAL"], ids=["no-match", "empty-group"])
def test_a_name_without_a_patient_is_refused(plain: Path, pattern: str) -> None:
    message = refused(plain, patient_pattern=pattern)
    assert message.startswith(f"{plain / 'NORMAL/NORMAL_000.png'}: data.source.patient_pattern=")
    assert message.endswith("finds no patient in this name")


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    for pattern, message in (
        ("(", r"patient_pattern must be a regular expression, got '\('"),
        (7, "patient_pattern must be a regular expression, got 7"),
        (r"\d+", r"patient_pattern must have one \(group\), which is the patient"),
        (r"(\d)(\d)", r"patient_pattern must have one \(group\), which is the patient"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            source(tmp_path, patient_pattern=pattern)
    wrong: list[Any] = [{}, {"A": 0, "B": 2}, {"A": "0"}, {"A": [0]}, ["A", "B"], None, {"A": 0, "C": -1}]
    for labels in wrong:
        with pytest.raises(ValueError, match=r"^labels must map class folders onto 0 \(Negative\) and 1 \(Positive\)"):
            source(tmp_path, labels)


def test_a_link_upwards_does_not_bring_in_the_other_class(plain: Path) -> None:
    before = names(plain)
    (plain / "NORMAL/loop").symlink_to(plain)
    (plain / "PNEUMONIA/self").symlink_to(".")
    asked = source(plain)
    assert names(plain) == before
    asked.manifest()
    assert [note for note in asked.notes if "was not entered" in note] == [
        f"{plain / 'NORMAL/loop'}: leads to a folder above it or listed already and was not entered",
        f"{plain / 'PNEUMONIA/self'}: leads to a folder above it or listed already and was not entered",
    ]


def test_a_linked_folder_is_followed_and_listed_once(plain: Path, tmp_path: Path) -> None:
    (plain / "NORMAL").rename(tmp_path / "elsewhere")
    (plain / "NORMAL").symlink_to(tmp_path / "elsewhere")
    shutil.copytree(plain / "PNEUMONIA", tmp_path / "extra")
    for name in ("a", "b"):
        (plain / "NORMAL" / name).symlink_to(tmp_path / "extra")
    assert names(plain)[2:4] == ["NORMAL/a/PNEUMONIA_000.png", "NORMAL/a/PNEUMONIA_001.png"]
    assert len(names(plain)) == 6
    (plain / "NORMAL/zz.png").symlink_to("gone.png")  # a dangling link is listed, so that reading names it
    assert "NORMAL/zz.png" in names(plain)


@pytest.mark.parametrize("where", ["", "NORMAL", "NORMAL/deep"])
def test_a_folder_that_cannot_be_listed_is_an_error(plain: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    (plain / "NORMAL/deep").mkdir()
    closed = plain / where
    for function in ("scandir", "listdir"):  # root may list everything, hence the patch
        real = getattr(os, function)

        def fail(path: Any = ".", real: Callable[..., Any] = real) -> Any:
            if Path(path) == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, function, fail)
    assert refused(plain) == (
        f"{closed}: the folder cannot be listed (Permission denied); `chmod u+rx` it, or ask its owner"
    )


def test_a_name_that_no_table_can_hold_is_refused(plain: Path) -> None:
    shutil.copy(plain / "NORMAL/NORMAL_000.png", os.fsdecode(os.fsencode(plain / "NORMAL") + b"/R\xf6ntgen.png"))
    message = refused(plain)
    assert message.startswith(f"'{plain}/NORMAL/R\\udcf6ntgen.png': the name is not UTF-8")
    message.encode()
