"""Images read again for a report: which ones are shown, what they are called, and what is said when they are gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import pytest

from cxrlab import figures
from cxrlab.datamodules import FolderSource, PaperSource
from cxrlab.datamodules.measurements import measure
from cxrlab.datamodules.pixels import read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.reports import pictures
from cxrlab.reports.record import RunRecord


@pytest.fixture
def record(class_folders: Callable[..., Path], tmp_path: Path) -> RunRecord:
    """Twelve training and six test images; the scores get two test images wrong, one of them badly."""
    root = class_folders(
        {f"{split}/{name}": n for split, n in (("train", 6), ("test", 3)) for name in ("NORMAL", "PNEUMONIA")}
    )
    manifest = FolderSource(str(root), {"NORMAL": 0, "PNEUMONIA": 1}).manifest()
    manifest["sha256"] = read_all(list(manifest["path"]), Preprocessing.create(16)).sha256
    test = manifest[manifest["split"] == "test"].reset_index(drop=True)
    scores = {0: [0.1, 0.2, 0.6], 1: [0.05, 0.8, 0.9]}
    test["score"] = [scores[label].pop(0) for label in test["label"]]
    return RunRecord(tmp_path / "run", {"data": {"image_size": 16}}, {}, {}, manifest, None, test, None, None, {}, [])


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions of the grids that were drawn."""
    seen: list[str] = []
    draw = figures.image_grid

    def note(images: Any, texts: list[str]) -> Any:
        seen.extend(texts)
        return draw(images, texts)

    monkeypatch.setattr(figures, "image_grid", note)
    return seen


def test_baselines_are_fitted_on_training_images_and_kept(record: RunRecord) -> None:
    table, reason = pictures.baselines(record)
    assert reason == ""
    assert table is not None
    assert list(table["split"]) == ["test"] * 6
    assert list(table["majority"]) == [0.5] * 6
    assert list(table["left_strip"] >= 0.5) == list(table["label"] == 1)  # the positives of the fixture are brighter
    kept = pd.read_csv(record.folder / "baselines.csv")
    assert list(kept["thumbnail_8x8"]) == pytest.approx(list(table["thumbnail_8x8"]))


def test_images_that_are_at_hand_are_not_read_again(record: RunRecord) -> None:
    images = read_all(list(record.manifest["path"]), Preprocessing.create(16)).images
    expected, _ = pictures.baselines(record)
    for path in record.manifest["path"]:
        Path(path).unlink()
    table, reason = pictures.baselines(record, images)
    assert reason == ""
    assert table is not None
    assert expected is not None
    pd.testing.assert_frame_equal(table, expected)


def test_baselines_that_were_kept_need_no_image(record: RunRecord) -> None:
    table, _ = pictures.baselines(record)
    for path in record.manifest["path"]:
        Path(path).unlink()
    again = RunRecord(**{**vars(record), "baselines": table})
    assert pictures.baselines(again)[0] is table


@pytest.mark.parametrize("what", ["missing", "changed"])
def test_other_images_are_not_used(record: RunRecord, what: str) -> None:
    path = Path(record.manifest["path"][0])
    if what == "missing":
        path.unlink()
    else:
        image = cv2.imread(str(path))
        assert image is not None
        cv2.imwrite(str(path), 255 - image)
    table, reason = pictures.baselines(record)
    assert table is None
    assert reason == f"1 of 18 images are missing or changed since the run, such as {path}"
    assert str(path) in pictures.samples(record, "").text
    assert not (record.folder / "baselines.csv").exists()


def test_no_baselines_without_training_images(record: RunRecord) -> None:
    only_test = RunRecord(**{**vars(record), "manifest": record.rows("test")})
    assert pictures.baselines(only_test)[1].startswith("the manifest holds no training images")


def test_too_many_images_are_not_read(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_IMAGES", 17)
    assert pictures.baselines(record)[1] == "18 images would have to be read again (at most 17 are)"


def test_worst_mistake_comes_first(record: RunRecord, captions: list[str]) -> None:
    picture = pictures.mistakes(record, "test", 0.5, "")
    assert picture.text == "Worst mistakes: 2 of 2 wrong test images"
    assert [caption.splitlines()[0] for caption in captions] == ["Positive, score 0.050", "Negative, score 0.600"]
    assert captions[0].splitlines()[1:] == ["PNEUMONIA", "patient not recorded"]
    assert (record.folder / picture.path).read_bytes().startswith(b"\x89PNG")


def test_without_mistakes_the_closest_calls_are_shown(record: RunRecord, captions: list[str]) -> None:
    assert record.predictions is not None
    scores = [0.1 + 0.06 * row + 0.55 * label for row, label in enumerate(record.predictions["label"])]
    right = RunRecord(**{**vars(record), "predictions": record.predictions.assign(score=scores)})
    picture = pictures.mistakes(right, "test", 0.5, "SYNTHETIC ")
    assert picture.text == "SYNTHETIC No test image was called wrongly; the 4 nearest to the threshold"
    nearest = sorted(scores, key=lambda score: abs(score - 0.5))[:4]
    assert [caption.splitlines()[0].split()[-1] for caption in captions] == [f"{score:.3f}" for score in nearest]


def test_samples_are_two_of_each_class(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}

    def note(originals: Any, processed: Any, captions: list[str], title: str) -> Any:
        drawn.update(originals=originals, processed=processed, captions=captions)
        return figures.image_grid(processed[0][None], ["x"])

    monkeypatch.setattr(figures, "before_after", note)
    assert pictures.samples(record, "").path == "figures/samples.png"
    assert [caption.splitlines()[0] for caption in drawn["captions"]] == ["Negative"] * 2 + ["Positive"] * 2
    assert {image.shape for image in drawn["originals"]} == {(32, 40, 3)}
    assert {image.shape for image in drawn["processed"]} == {(16, 16, 3)}


@pytest.mark.slow
def test_baselines_of_the_papers_set(paper_root: Path, cache: Path, tmp_path: Path) -> None:
    manifest = PaperSource(str(paper_root)).manifest()
    manifest["sha256"] = measure(list(manifest["path"]), cache / "measurements").sha256
    record = RunRecord(
        tmp_path, {"data": {"image_size": 224, "channels": 3}}, {}, {}, manifest, None, None, None, None, {}, []
    )
    table, _ = pictures.baselines(record)
    assert table is not None
    right = {name: int(((table[name] >= 0.5) == (table["label"] == 1)).sum()) for name in ("majority", "left_strip")}
    assert right == {"majority": 20, "left_strip": 40}


def altered(record: RunRecord, **data: Any) -> RunRecord:
    return RunRecord(**{**vars(record), "config": {"data": {"image_size": 16, **data}}})


def test_altered_images_are_shown_as_the_network_saw_them(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    def note(images: Any, texts: list[str]) -> Any:
        shown.append(images)
        return original(images, texts)

    original = figures.image_grid
    monkeypatch.setattr(figures, "image_grid", note)
    picture = pictures.mistakes(altered(record, alter="centre_black_50"), "test", 0.5, "")
    assert "before" not in picture.text
    assert not shown[0][:, 4:12, 4:12].any()
    assert shown[0][:, 0].any()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"alter": "lungs_only"}, " (before data.alter=lungs_only)"),
        ({"mask": "lungs", "alter": "centre_black_50"}, " (before data.mask=lungs, data.alter=centre_black_50)"),
        ({"alter": "histogram"}, " (before data.alter=histogram)"),
    ],
)
def test_what_a_few_files_do_not_tell_is_said(record: RunRecord, data: dict[str, Any], said: str) -> None:
    assert pictures.samples(altered(record, **data), "").text.endswith("as the network sees them" + said)
    assert pictures.mistakes(altered(record, **data), "test", 0.5, "").text.endswith(said)


def test_baselines_of_altered_images_are_those_of_the_run_or_none(record: RunRecord) -> None:
    table, reason = pictures.baselines(altered(record, alter="tiny_8"))
    assert table is None
    assert reason == "the run trained on altered images (data.alter=tiny_8), and its baselines.csv is not there"
