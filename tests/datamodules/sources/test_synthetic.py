"""The embedded data set: what its manifest promises, and that its files survive other processes and kills."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxrlab.datamodules.sources import synthetic
from cxrlab.datamodules.sources.synthetic import SyntheticSource
from cxrlab.errors import DataError

COLUMNS = ["path", "label", "patient_id", "split", "source", "finding", "view", "mask", "shortcut"]


def source(root: Path, **changes: Any) -> SyntheticSource:
    return SyntheticSource(str(root), **{"n_train": 12, "n_test": 6, "size": 64, **changes})


def plan(root: Path, **changes: Any) -> pd.DataFrame:
    """The manifest without the pictures."""
    asked = source(root, **changes)
    asked._build = lambda folder, films: None  # type: ignore[method-assign]
    return asked.manifest()


def read(paths: pd.Series) -> np.ndarray:
    return np.stack([np.asarray(cv2.imread(path, cv2.IMREAD_UNCHANGED)) for path in paths])


def python(script: str, root: Path) -> subprocess.Popen[str]:
    """Starts a script that finds the module as ``synthetic``; spares it the packages above, which import torch."""
    parent = Path(synthetic.__file__).parent
    light = (
        "import sys, types\n"
        "for name, folder in (('cxrlab.datamodules', sys.argv[2]), ('cxrlab.datamodules.sources', sys.argv[3])):\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "    sys.modules[name].__path__ = [folder]\n"
        "from cxrlab.datamodules.sources import synthetic\n"
    )
    command = [sys.executable, "-c", light + script, str(root), str(parent.parent), str(parent)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.png"))}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return source(tmp_path_factory.mktemp("many"), n_train=240, n_test=2, size=96).manifest()


# --- the manifest ---------------------------------------------------------------------------------------------------


def test_the_manifest_describes_every_image(tmp_path: Path) -> None:
    asked = source(tmp_path, shortcut="marker")
    table = asked.manifest()
    assert list(table.columns) == COLUMNS
    assert len(table) == 18
    assert table.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 3, ("test", 1): 3, ("train", 0): 6, ("train", 1): 6,
    }  # fmt: skip
    assert set(zip(table.label, table.finding, strict=True)) == {(0, "phantom, no disease"), (1, "phantom, disease")}
    assert set(table.source) == {"synthetic"}
    assert set(table["view"]) == {"PA"}
    assert table.path.is_unique
    for column in ("path", "mask"):
        assert all(Path(path).is_absolute() and Path(path).is_file() for path in table[column])
    for row in table.itertuples():
        assert f"/{row.split}/{'positive' if row.label else 'negative'}/{row.patient_id}_" in str(row.path)
    assert (read(table.path).shape, read(table["mask"]).shape) == ((18, 64, 64), (18, 64, 64))
    assert asked.synthetic
    assert table["finding"].str.contains(asked.claim, regex=False).astype(int).tolist() == table["label"].tolist()
    asked.manifest()  # counted once
    assert asked.flow.table().values.tolist() == [["synthetic", "phantoms drawn", 0, 18, table["patient_id"].nunique()]]


def test_patients_have_one_to_three_images_one_label_one_split(tmp_path: Path) -> None:
    table = plan(tmp_path, n_train=400, n_test=100)
    patients = table.groupby("patient_id")
    assert set(patients.size()) == {1, 2, 3}
    assert patients.label.nunique().max() == patients.split.nunique().max() == 1


@pytest.mark.parametrize(("total", "expected"), [(2, (1, 1)), (3, (2, 1)), (7, (4, 3)), (148, (74, 74))])
def test_classes_are_as_even_as_they_can_be(tmp_path: Path, total: int, expected: tuple[int, int]) -> None:
    labels = plan(tmp_path, n_train=total).query("split == 'train'").label
    assert ((labels == 0).sum(), (labels == 1).sum()) == expected


# --- seeds ----------------------------------------------------------------------------------------------------------


def test_the_same_arguments_give_the_same_bytes_and_every_image_is_its_own(tmp_path: Path) -> None:
    first = source(tmp_path / "a", shortcut="border", shortcut_strength=0.5).manifest()
    second = source(tmp_path / "b", shortcut="border", shortcut_strength=0.5).manifest()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    pd.testing.assert_frame_equal(first.drop(columns=["path", "mask"]), second.drop(columns=["path", "mask"]))
    assert len({image.tobytes() for image in read(first.path)}) == 18


def test_more_test_images_change_no_training_image(tmp_path: Path) -> None:
    few = source(tmp_path, shortcut="marker", shortcut_strength=0.5).manifest().query("split == 'train'")
    more = source(tmp_path, shortcut="marker", shortcut_strength=0.5, n_test=9).manifest().query("split == 'train'")
    assert (read(few.path) == read(more.path)).all()
    assert list(few.patient_id) == list(more.patient_id)


def test_another_seed_gives_other_images_and_patients(tmp_path: Path) -> None:
    one, other = source(tmp_path).manifest(), source(tmp_path, seed=1).manifest()
    assert (read(one.path) != read(other.path)).any(axis=(1, 2)).all()
    assert not set(one.patient_id) & set(other.patient_id)


def test_every_argument_that_changes_a_pixel_has_its_own_folder(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"n_train": 14}, {"n_test": 8}, {"size": 65}, {"opacity": 0.5}, {"opacity": 0.5000001}, {"seed": 1},
        {"disease": "consolidation"},
        {"shortcut": "marker"}, {"shortcut": "border"}, {"shortcut": "marker", "shortcut_strength": 0.5},
    ]  # fmt: skip
    assert len({source(tmp_path, **change).folder for change in changes}) == len(changes)
    assert source(tmp_path, opacity=1).folder == source(tmp_path, opacity=1.0).folder
    assert source(tmp_path, shortcut_strength=0.3).folder == source(tmp_path).folder  # no cue, no strength


# --- what can be learnt from it -------------------------------------------------------------------------------------


def test_detail_in_the_lungs_tells_the_classes_apart_and_no_grey_level_does(many: pd.DataFrame) -> None:
    images, masks = read(many.path).astype(float), read(many["mask"]) > 0
    pairs = list(zip(images, masks, strict=True))
    detail = [np.abs(np.diff(image, axis=0))[mask[1:]].mean() for image, mask in pairs]
    assert roc_auc_score(many.label, detail) > 0.95
    for levels in ([image[mask] for image, mask in pairs], [cv2.resize(image, (8, 8)) for image in images]):
        for number in (np.mean, np.median, np.max):
            assert 0.35 < roc_auc_score(many.label, [number(some) for some in levels]) < 0.65
    assert len({Path(path).stat().st_size for path in many.path}) == 1


def test_brightness_of_the_lungs_tells_consolidation_but_not_perfectly(tmp_path: Path) -> None:
    table = source(tmp_path, n_train=240, n_test=2, size=96, disease="consolidation").manifest()
    images, masks = read(table.path), read(table["mask"]) > 0
    lung_mean = [image[mask].mean() for image, mask in zip(images, masks, strict=True)]
    assert 0.8 < roc_auc_score(table.label, lung_mean) < 0.97


def test_nothing_outside_the_lungs_tells_the_classes_apart(many: pd.DataFrame) -> None:
    images, masks = read(many.path), read(many["mask"]) > 0
    edge = np.ones((96, 96), bool)
    edge[6:-6, 6:-6] = False
    outside = [image[~mask].mean() for image, mask in zip(images, masks, strict=True)]
    for rule in (images[:, edge].mean(axis=1), images[:, edge].std(axis=1), outside, masks.mean(axis=(1, 2))):
        assert 0.4 < roc_auc_score(many.label, rule) < 0.6


def test_without_opacity_the_lungs_carry_no_label(tmp_path: Path) -> None:
    blank, ill = source(tmp_path, opacity=0.0).manifest(), source(tmp_path).manifest()
    healthy, masks = read(blank.path), read(blank["mask"])
    assert (read(ill["mask"]) == masks).all()
    same = (healthy == read(ill.path)).all(axis=(1, 2))
    assert list(same) == list(ill.label == 0)


# --- the planted shortcut -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strength", "train", "test"),
    [(1.0, (74, 0), (20, 0)), (0.8, (67, 7), (18, 2)), (0.6, (59, 15), (16, 4)), (0.0, (37, 37), (10, 10))],
)
def test_the_cue_is_on_an_exact_share_of_each_class(
    tmp_path: Path, strength: float, train: tuple[int, int], test: tuple[int, int]
) -> None:
    table = plan(tmp_path, n_train=148, n_test=40, shortcut="marker", shortcut_strength=strength)
    for split, (positive, negative) in (("train", train), ("test", test)):
        rows = table[table.split == split]
        assert rows.groupby("label").shortcut.sum().to_dict() == {1: positive, 0: negative}
        assert roc_auc_score(rows.label, rows.shortcut) == pytest.approx(0.5 + strength / 2, abs=0.01)


RULES = {
    "marker": lambda images: images[:, 2:9, 2:8].max(axis=(1, 2)) > 240,
    "border": lambda images: images[:, 0].min(axis=1) > 240,
    "brightness": lambda images: images.min(axis=(1, 2)) >= 30,
}


@pytest.mark.parametrize("kind", RULES)
def test_a_trivial_rule_finds_the_cue_and_the_phantom_beneath_is_untouched(tmp_path: Path, kind: str) -> None:
    planted = source(tmp_path, n_train=20, shortcut=kind, shortcut_strength=0.4).manifest()
    plain = source(tmp_path, n_train=20).manifest()
    images = read(planted.path)
    assert list(RULES[kind](images)) == list(planted.shortcut == 1)
    assert (images == read(plain.path)).all(axis=(1, 2)).tolist() == list(planted.shortcut == 0)
    assert (read(planted["mask"]) == read(plain["mask"])).all()
    if kind != "brightness":
        assert (images[:, 10:-3, 3:-3] == read(plain.path)[:, 10:-3, 3:-3]).all()


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_second_call_reuses_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = source(tmp_path).manifest()
    monkeypatch.setattr(SyntheticSource, "_build", None)
    pd.testing.assert_frame_equal(source(tmp_path).manifest(), first)


def test_the_home_folder_and_relative_roots_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    home, relative = source(Path("~/cache")), source(Path("cache"))
    assert not (tmp_path / "cache").exists()  # nothing is written before the manifest is asked for
    for asked in (home, relative):
        assert asked.manifest().path[0].startswith(f"{tmp_path}/cache/synthetic/")


def test_missing_files_are_drawn_again(tmp_path: Path) -> None:
    table = source(tmp_path).manifest()
    before = contents(tmp_path)
    Path(table.path[3]).unlink()
    Path(table["mask"][5]).unlink()
    source(tmp_path).manifest()
    assert contents(tmp_path) == before


def test_what_a_killed_process_left_does_no_harm(tmp_path: Path) -> None:
    asked = source(tmp_path)
    script = (
        "import os, signal\n"
        "drawn = []\n"
        "def draw(*args, real=synthetic.draw):\n"
        "    drawn.append(0)\n"
        "    len(drawn) < 6 or os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*args)\n"
        "synthetic.draw = draw\n"
        "synthetic.SyntheticSource(sys.argv[1], n_train=12, n_test=6, size=64).manifest()\n"
    )
    process = python(script, tmp_path)
    process.communicate()
    assert process.returncode == -9
    assert not asked.folder.exists()
    leftover = contents(tmp_path)
    assert len(leftover) == 10
    table = asked.manifest()
    assert len(contents(asked.folder)) == 36
    assert all(Path(path).is_file() for path in table.path)


def test_two_processes_may_build_at_once(tmp_path: Path) -> None:
    script = (
        "source = synthetic.SyntheticSource(sys.argv[1], n_train=30, n_test=10, size=64)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(len(source.manifest()))\n"
    )
    both = [python(script, tmp_path) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[0] for process in both] == ["40\n", "40\n"]
    asked = source(tmp_path, n_train=30, n_test=10)
    assert len(contents(asked.folder)) == 80
    assert list(asked.folder.parent.iterdir()) == [asked.folder]  # the slower one took its own away


def test_the_slower_builder_uses_what_the_faster_one_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, other = source(tmp_path), source(tmp_path / "elsewhere")
    other.manifest()
    rename = Path.rename

    def overtaken(path: Path, target: Path) -> Path:
        shutil.copytree(other.folder, target)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    asked.manifest()
    assert contents(asked.folder) == contents(other.folder)
    assert list(asked.folder.parent.iterdir()) == [asked.folder]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    asked = source(tmp_path / "locked")
    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DataError, match=r"Permission denied.*CXRLAB_CACHE=/some/folder") as caught:
        asked.manifest()
    assert str(asked.folder) in str(caught.value)


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"n_train": 1}, r"n_train must be a whole number in \[2, inf\), got 1"),
        ({"n_test": 0}, r"n_test must be a whole number in \[2, inf\), got 0"),
        ({"n_train": 10.5}, "n_train must be a whole number"),
        ({"size": 63}, r"size must be a whole number in \[64, 2048\], got 63"),
        ({"size": 2049}, "size must be"),
        ({"opacity": 1.1}, r"opacity must be a number in \[0, 1\], got 1.1"),
        ({"disease": "grain"}, "disease must be one of lines, consolidation"),
        ({"shortcut_strength": -0.1}, r"shortcut_strength must be a number in \[0, 1\]"),
        ({"shortcut": "boarder"}, "shortcut must be one of none, marker, border, brightness.*did you mean 'border'"),
        ({"seed": -1}, "seed must be a whole number"),
    ]
    for changes, message in wrong:
        with pytest.raises(ValueError, match=message):
            source(tmp_path, **changes)
