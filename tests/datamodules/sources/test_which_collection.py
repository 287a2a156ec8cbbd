"""Two collections with the collection as the label: datamodules/sources/which_collection.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cxrlab.config import build, compose
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources import FolderSource, ManifestSource, WhichCollectionSource
from cxrlab.errors import DataError

ClassFolders = Callable[..., Path]
LABELS = {"NORMAL": 0, "PNEUMONIA": 1}


@pytest.fixture
def home(class_folders: ClassFolders) -> FolderSource:
    """Three Negatives and two Positives, of which some are training and some test images."""
    root = class_folders({"train/NORMAL": 2, "test/NORMAL": 1, "train/PNEUMONIA": 1, "test/PNEUMONIA": 1}, name="home")
    return FolderSource(str(root), LABELS, name="home", claim="PNEUMONIA")


@pytest.fixture
def abroad(class_folders: ClassFolders) -> FolderSource:
    """Four Negatives and one Positive without splits."""
    return FolderSource(str(class_folders({"NORMAL": 4, "PNEUMONIA": 1}, name="abroad", seed=1)), LABELS, name="abroad")


def listed(file: Path, rows: str, name: str) -> ManifestSource:
    file.write_text(f"path,label,patient_id,finding\n{rows}", encoding="utf-8")
    return ManifestSource(str(file), name=name)


def steps(source: WhichCollectionSource) -> list[tuple[str, int, int]]:
    return [(step.step, step.removed, step.images) for step in source.flow.steps]


@pytest.mark.parametrize(
    ("keep", "counts", "removed"), [("negative", [3, 4], 3), ("positive", [2, 1], 7), ("all", [5, 5], None)]
)
def test_the_label_is_the_collection(
    home: FolderSource, abroad: FolderSource, keep: str, counts: list[int], removed: int | None
) -> None:
    both = WhichCollectionSource({"first": home, "second": abroad}, keep)
    table = mf.check(both.manifest(), both.name)
    assert both.name == "home or abroad"
    assert table.groupby("label").size().tolist() == counts
    assert table.groupby("source")["label"].unique().map(list).to_dict() == {"abroad": [1], "home": [0]}
    own = {"negative": {"Negative"}, "positive": {"Positive"}, "all": {"Negative", "Positive"}}
    assert set(table["own_label"]) == own[keep]
    told = [count for step, count, _ in steps(both) if step.endswith("in its own collection")]
    assert told == ([] if removed is None else [removed])
    assert steps(both)[-1] == ("patient of both collections", 0, sum(counts))


def test_notes_say_that_the_label_is_no_disease(home: FolderSource, abroad: FolderSource) -> None:
    both = WhichCollectionSource({"first": home, "second": abroad})
    both.manifest()
    assert both.claim == ""
    assert not both.synthetic
    assert both.notes[0] == (
        "home or abroad: the label is the collection, not a disease: Positive means an image of abroad, Negative one "
        "of home, all of them Negative there (data.source.keep=negative)"
    )
    assert "what the films show, by collection (home: NORMAL 3; abroad: NORMAL 4)" in both.notes[1]
    assert any("(data.source.sources.second.patient_pattern reads patients" in note for note in both.notes[2:])
    count = len(both.notes)
    both.manifest()
    assert len(both.notes) == count


def test_patients_and_files_of_both_collections_are_left_out_with_all_their_images(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / f"{name}.png").touch()
    first = listed(tmp_path / "1.csv", "a.png,0,ann,\nb.png,0,,\nc.png,0,cid,\n", "one")
    (tmp_path / "alias.png").symlink_to(tmp_path / "c.png")
    second = listed(tmp_path / "2.csv", "d.png,0,ann,\ne.png,0,ann,\nalias.png,0,,\nf.png,0,,\na.png,1,ann,\n", "two")
    both = WhichCollectionSource({"first": first, "second": second})
    table = both.manifest()
    assert [Path(path).name for path in table["path"]] == ["b.png", "f.png"]
    assert table["label"].tolist() == [0, 1]
    assert steps(both)[2:] == [
        ("images of 2 sources together", 0, 8),
        ("Positive in its own collection", 1, 7),
        ("file that both collections list", 2, 5),
        ("patient of both collections", 3, 2),
    ]


def test_a_collection_of_which_nothing_is_left(home: FolderSource, tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    other = listed(tmp_path / "2.csv", "x.png,1,eve,\n", "two")
    with pytest.raises(DataError, match=r"^home or two: no image of two is left \(removed: Positive in its own coll"):
        WhichCollectionSource({"first": home, "second": other}).manifest()


@pytest.mark.parametrize("count", [1, 3])
def test_two_sources_and_a_known_label_are_needed(home: FolderSource, abroad: FolderSource, count: int) -> None:
    sources: Mapping[str, Any] = {"a": home, "b": abroad, "c": FolderSource("x", LABELS, name="c")}
    with pytest.raises(ValueError, match=r"^sources must be "):
        WhichCollectionSource(dict(list(sources.items())[:count]))
    with pytest.raises(ValueError, match=r"^keep must be one of negative, positive, all, got 'negativ'; did you mean"):
        WhichCollectionSource({"a": home, "b": abroad}, "negativ")


def test_a_film_copied_from_one_collection_into_the_other_is_no_ones(tmp_path: Path) -> None:
    rows = {"one": "", "two": ""}
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24), dtype=np.uint8)
        film = cv2.resize(pixels, (320, 320), interpolation=cv2.INTER_CUBIC)
        for name in rows if number == 0 else ["one" if number % 2 else "two"]:  # film 0 is in both, as other files
            suffix = "bmp" if name == "two" else "png"
            assert cv2.imwrite(str(tmp_path / f"{name}{number}.{suffix}"), film)
            rows[name] += f"{name}{number}.{suffix},0,{name}-{number},\n"
    sources = {name: listed(tmp_path / f"{name}.csv", text, name) for name, text in rows.items()}
    options: dict[str, Any] = {"image_size": 32, "resplit": True, "val": "test", "cache": None}
    source: Any = WhichCollectionSource(sources)
    data = ChestXRayDataModule(source, duplicates="exclude", **options)
    data.setup()
    assert len(data.manifest) == 11
    assert not data.manifest["path"].str.contains(r"(?:one|two)0\.").any()
    last = data.flow.steps[-1]
    assert (last.step, last.removed, last.images) == ("film that several sources have", 2, 11)


def test_configured_on_the_command_line(tmp_path: Path) -> None:
    config = compose("train", ["data=which_collection"], tmp_path)
    assert (config.data.resplit, config.data.duplicates, config.data.source.keep) == (True, "exclude", "negative")
    assert list(config.data.source.sources.first.negatives) == ["Pneumonia"]
    source = build(config.data.source)
    assert [type(part).__name__ for part in source.sources.values()] == ["DarkCovidNetSource", "CohenSource"]
    other = ["data=which_collection", "data/source@data.source.sources.first=paper", "data.source.keep=all"]
    assert build(compose("train", other, tmp_path).data.source).name == "paper or cohen"


def test_negatives_of_the_real_collections(
    data_set: Callable[[str], Path], cohen_root: Path, paper_root: Path, tmp_path: Path
) -> None:
    data_set("darkcovidnet")
    source = build(compose("train", ["data=which_collection"], tmp_path).data.source)
    table = source.manifest()
    assert table.groupby("source").size().to_dict() == {"cohen": 90, "darkcovidnet": 125}
    assert set(table.loc[table["label"] == 0, "finding"]) == {"Pneumonia"}
    assert not table["finding"].str.contains("COVID-19").any()
