"""Several sources as one: datamodules/sources/concat.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxrlab.config import build, compose
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources import ConcatSource, FolderSource, ManifestSource, Source
from cxrlab.errors import DataError

ClassFolders = Callable[..., Path]
LABELS = {"NORMAL": 0, "PNEUMONIA": 1}


@pytest.fixture
def split(class_folders: ClassFolders) -> Path:
    """Two classes, training and test."""
    return class_folders({f"{part}/{name}": 2 for part in ("train", "test") for name in LABELS}, name="split")


@pytest.fixture
def plain(class_folders: ClassFolders) -> Path:
    """Two classes without splits."""
    return class_folders(dict.fromkeys(LABELS, 3), name="plain", seed=1)


def folder(root: Path, name: str, **options: Any) -> FolderSource:
    return FolderSource(str(root), LABELS, name=name, **options)


def table_source(file: Path, rows: str, name: str, **options: Any) -> ManifestSource:
    file.write_text(f"path,label,patient_id,split\n{rows}", encoding="utf-8")
    return ManifestSource(str(file), name=name, **options)


def refused(sources: Mapping[str, Source]) -> str:
    with pytest.raises(DataError) as caught:
        ConcatSource(sources).manifest()
    return str(caught.value)


def test_one_manifest_that_remembers_its_sources(split: Path, plain: Path) -> None:
    both = ConcatSource({"first": folder(split, "a"), "second": folder(plain, "b")})
    assert both.name == "a+b"
    table = mf.check(both.manifest(), both.name)
    assert table.groupby("source").size().to_dict() == {"a": 8, "b": 6}
    assert table["split"].value_counts().to_dict() == {"train": 4, "test": 4, "": 6}
    steps = [
        ["a", "image files listed", 0, 8, 8],
        ["b", "image files listed", 0, 6, 6],
        ["a+b", "images of 2 sources together", 0, 14, 14],
        ["a+b", "file that an earlier source lists already", 0, 14, 14],
    ]
    assert both.flow.table().to_numpy().tolist() == steps
    assert [note.partition(": ")[0] for note in both.notes] == ["a", "b", "a+b"]
    assert "(data.source.sources.second.patient_pattern reads patients from file names)" in both.notes[1]
    assert (
        "no split comes with b: unless data.resplit=true draws all splits by patient, all of its images are"
        in both.notes[2]
    )
    pd.testing.assert_frame_equal(both.manifest(), table)  # listing twice counts once
    assert (len(both.flow.steps), len(both.notes)) == (4, 3)


def test_columns_that_one_source_lacks_are_empty_there(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").touch()
    (tmp_path / "more.csv").write_text("path,label,age,ward\nx.png,1,61,7\n", encoding="utf-8")
    table = ConcatSource(
        {"a": folder(plain, "a"), "b": ManifestSource(str(tmp_path / "more.csv"), name="b")}
    ).manifest()
    assert table["ward"].tolist() == ["", "", "", "", "", "", "7"]
    assert pd.to_numeric(table["age"], errors="coerce").sum() == 61


def test_a_person_in_two_collections_is_one_person(plain: Path, tmp_path: Path) -> None:
    for name in "xy":
        (tmp_path / f"{name}.png").touch()
    first = table_source(tmp_path / "1.csv", "x.png,1,cohen-46,train\n", "a")
    second = table_source(tmp_path / "2.csv", "y.png,1,cohen-46,test\n", "b")
    table = ConcatSource({"first": first, "second": second}).manifest()
    assert mf.people(table).nunique() == 1
    (leak,) = mf.leaks(table)
    assert leak.startswith("patient cohen-46 is in ")


def test_a_file_of_two_sources_is_taken_once(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(plain)
    row = f"{tmp_path}/alias/NORMAL/NORMAL_000.png,0,somebody,\n"
    both = ConcatSource({"first": folder(plain, "a"), "second": table_source(tmp_path / "b.csv", row, "b")})
    table = both.manifest()
    assert set(table["source"]) == {"a"}
    assert table.index.tolist() == list(range(6))
    last = both.flow.steps[-1]
    assert (last.step, last.removed, last.images) == ("file that an earlier source lists already", 1, 6)


@pytest.mark.parametrize(("label", "split_of_it"), [(1, "train"), (0, "test")], ids=["label", "split"])
def test_sources_that_disagree_on_a_file_are_refused(split: Path, tmp_path: Path, label: int, split_of_it: str) -> None:
    file = split / "train/NORMAL/NORMAL_000.png"
    other = table_source(tmp_path / "b.csv", f"{file},{label},x,{split_of_it}\n", "b")
    word = "Positive" if label else "Negative"
    assert refused({"first": folder(split, "a"), "second": other}).splitlines() == [
        "a+b: on 1 file(s), two sources disagree about label or split:",
        f"  {os.path.realpath(file)}: Negative train (a), {word} {split_of_it} (b)",
        "  leave one of the sources out, or mend it",
    ]


def test_an_open_split_contradicts_none(split: Path, tmp_path: Path) -> None:
    other = table_source(tmp_path / "b.csv", f"{split}/train/NORMAL/NORMAL_000.png,0,x,\n", "b")
    assert len(ConcatSource({"first": folder(split, "a"), "second": other}).manifest()) == 8


def test_claims_and_phantoms(plain: Path, split: Path) -> None:
    def together(first: dict[str, Any], second: dict[str, Any]) -> ConcatSource:
        return ConcatSource({"1": folder(plain, "a", **first), "2": folder(split, "b", **second)})

    assert together({"claim": "COVID-19"}, {"claim": "COVID-19"}).claim == "COVID-19"
    assert together({}, {}).claim == ""
    differ = together({"claim": "COVID-19"}, {})
    differ.manifest()
    assert differ.claim == ""
    assert "a+b: Positive does not mean the same in every source: COVID-19 (a), nothing stated (b)" in differ.notes
    assert not together({}, {}).synthetic
    assert together({}, {"synthetic": True}).synthetic


def test_fewer_than_two_sources_are_none() -> None:
    wrong: list[Any] = [{}, {"one": None}, None, {"one": object(), "two": None}]
    for sources in wrong:
        with pytest.raises(ValueError, match=r"^sources must be at least two sources by name"):
            ConcatSource(sources)


def test_two_sources_of_one_name_are_refused(plain: Path, split: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^sources must have different names, got 'a' for first and second; .*\.second\."
    ):
        ConcatSource({"first": folder(plain, "a"), "second": folder(split, "a")})
    (tmp_path / "x.png").touch()
    (tmp_path / "b.csv").write_text("path,label,source\nx.png,1,a\n", encoding="utf-8")
    message = refused({"first": folder(plain, "a"), "second": ManifestSource(str(tmp_path / "b.csv"), name="b")})
    assert message.startswith("data.source.sources.second: its images say that they are of source 'a', as those of")


def test_the_hint_of_a_part_names_the_key_of_that_part(plain: Path, tmp_path: Path) -> None:
    message = refused({"first": folder(plain, "a"), "second": folder(tmp_path / "none", "b")})
    assert message.startswith(
        f"b: {tmp_path / 'none'}: no such folder; data.source.sources.second.root=/path/to/images"
    )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ["PaperSource", "DarkCovidNetSource"]),
        (["data/source@data.source.sources.second=cohen"], ["PaperSource", "CohenSource"]),
        (["+data/source@data.source.sources.third=kermany"], ["PaperSource", "DarkCovidNetSource", "KermanySource"]),
    ],
)
def test_configured_on_the_command_line(overrides: list[str], expected: list[str], tmp_path: Path) -> None:
    keys = ["data.source.sources.first.root=/somewhere"]
    config = compose("train", ["data=concat", *overrides, *keys], tmp_path)
    assert config.data.duplicates == "refuse"
    source = build(config.data.source)
    assert [type(part).__name__ for part in source.sources.values()] == expected
    assert "/somewhere" in refused(source.sources)


def test_one_set_alone_is_configured_as_before(tmp_path: Path) -> None:
    config = compose("train", ["data=paper", "data.source.root=/somewhere"], tmp_path)
    assert dict(config.data.source) == {"_target_": "cxrlab.datamodules.PaperSource", "root": "/somewhere"}
    swapped = compose("train", ["data=paper", "data/source=kermany"], tmp_path)
    assert swapped.data.source._target_ == "cxrlab.datamodules.KermanySource"


def test_the_shared_films_of_paper_and_darkcovidnet_share_their_patients(
    paper_root: Path, data_set: Callable[[str], Path], tmp_path: Path
) -> None:
    data_set("darkcovidnet")
    both = build(compose("train", ["data=concat"], tmp_path).data.source)
    table = both.manifest()
    assert table.groupby("source").size().to_dict() == {"darkcovidnet": 374, "paper": 188}
    known = table[table["patient_id"] != ""]
    assert (known.groupby("patient_id")["source"].nunique() > 1).sum() == 50
