"""The collections and their configurations, and which files of an archive are theirs."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tests.downloads.conftest import archive, below, by_hand, refused

from cxrlab import datamodules
from cxrlab.downloads import COLLECTIONS, Collection

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("collection", COLLECTIONS.values(), ids=COLLECTIONS)
def test_every_collection_goes_where_its_source_looks(collection: Collection) -> None:
    node = OmegaConf.load(ROOT / "conf/data/source" / f"{collection.name}.yaml")
    assert OmegaConf.to_container(node)["root"] == f"${{paths.data_dir}}/{collection.folder}"  # type: ignore[call-overload,index]
    assert node._target_ == f"cxrlab.datamodules.{collection.source}"
    assert hasattr(datamodules, collection.source)
    assert bool(collection.archive) != bool(collection.kaggle)
    assert all((collection.licence, collection.size, collection.cite, collection.needed))


def test_another_set_is_not_taken_for_this_one(tmp_path: Path) -> None:
    told = refused(lambda: by_hand(tmp_path, archive({"set/metadata.csv": b"", "other/images/a.png": b""})))
    assert "not COVID-19 image data collection: no folder in it holds metadata.csv, images" in told
    assert list((tmp_path / "data").iterdir()) == []


def test_of_a_nested_copy_the_outer_is_taken(tmp_path: Path) -> None:
    names = [f"{part}/{name}/a.jpeg" for part in ("train", "val", "test") for name in ("NORMAL", "PNEUMONIA")]
    files = {f"chest_xray/{name}": b"outer" for name in names}
    files |= {f"chest_xray/chest_xray/{name}": b"inner" for name in names}
    files |= {f"chest_xray/__MACOSX/{name}": b"leftover" for name in names}
    folder = by_hand(tmp_path, archive(files), COLLECTIONS["kermany"])
    assert below(folder) == {*names, "download.json"}
    assert {(folder / name).read_bytes() for name in names} == {b"outer"}


def test_of_two_copies_the_fuller_is_taken(tmp_path: Path) -> None:
    classes = ("Covid-19", "No_findings", "Pneumonia")
    files = {f"a/Dataset/{name}/1.png": b"" for name in classes}
    files |= {f"a/X-Ray Image DataSet/{name}/{number}.png": b"" for name in classes for number in range(3)}
    assert len(below(by_hand(tmp_path, archive(files), COLLECTIONS["darkcovidnet"]))) == 9 + 1
