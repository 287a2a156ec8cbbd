"""Kaggle's chest-xray-pneumonia: datamodules/sources/kermany.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.sources import KermanySource
from cxrlab.errors import DataError

FILES = (
    "train/NORMAL/IM-0115-0001.jpeg",
    "train/NORMAL/IM-0115-0002.jpeg",
    "train/NORMAL/NORMAL2-IM-0115-0001.jpeg",
    "train/PNEUMONIA/person1000_bacteria_2931.jpeg",
    "train/PNEUMONIA/person1000_virus_1681.jpeg",
    "train/PNEUMONIA/person1_bacteria_1.jpeg",
    "val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
    "val/PNEUMONIA/person1946_bacteria_4874.jpeg",
    "test/NORMAL/IM-0001-0001.jpeg",
    "test/PNEUMONIA/person1_virus_6.jpeg",
)


def laid_out(root: Path, files: Iterable[str] = FILES) -> Path:
    """Makes empty files: listing reads no pixel."""
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_patients_and_findings_are_read_from_names(tmp_path: Path) -> None:
    source = KermanySource(str(laid_out(tmp_path)))
    table = mf.check(source.manifest(), source.name)
    rows = table[["path", "label", "split", "finding", "patient_id"]].itertuples(index=False, name=None)
    told = {Path(path).name: tuple(row) for path, *row in rows}
    assert told == {
        "IM-0115-0001.jpeg": (0, "train", "Normal", "kermany-IM-0115"),
        "IM-0115-0002.jpeg": (0, "train", "Normal", "kermany-IM-0115"),
        "NORMAL2-IM-0115-0001.jpeg": (0, "train", "Normal", "kermany-NORMAL2-IM-0115"),
        "person1000_bacteria_2931.jpeg": (1, "train", "bacterial pneumonia", "kermany-bacteria-1000"),
        "person1000_virus_1681.jpeg": (1, "train", "viral pneumonia", "kermany-virus-1000"),
        "person1_bacteria_1.jpeg": (1, "train", "bacterial pneumonia", "kermany-bacteria-1"),
        "NORMAL2-IM-1427-0001.jpeg": (0, "val", "Normal", "kermany-NORMAL2-IM-1427"),
        "person1946_bacteria_4874.jpeg": (1, "val", "bacterial pneumonia", "kermany-bacteria-1946"),
        "IM-0001-0001.jpeg": (0, "test", "Normal", "kermany-IM-0001"),
        "person1_virus_6.jpeg": (1, "test", "viral pneumonia", "kermany-virus-1"),
    }
    constant = table[["source", "view", "collection", "population", "licence"]].drop_duplicates()
    assert constant.to_numpy().tolist() == [["kermany", "AP", "kermany", "child", "CC BY 4.0"]]
    assert mf.leaks(table) == []
    assert all(source.claim in finding for finding in table.loc[table["label"] == 1, "finding"])


def test_what_is_assumed_of_patients_is_said_with_numbers(tmp_path: Path) -> None:
    source = KermanySource(str(laid_out(tmp_path)))
    source.manifest()
    (note,) = source.notes
    assert "NOT CHECKED" in note
    assert "whether the 2 person number(s) that occur in the bacterial and in the viral series" in note  # 1 and 1000
    assert "whether the 4 case number(s) of normal films" in note
    assert source.flow.table().to_dict("records") == [
        {"source": "kermany", "step": "image files listed", "removed": 0, "images": 10, "patients": 9}
    ]


def test_a_number_of_one_series_in_two_splits_is_one_child(tmp_path: Path) -> None:
    laid_out(tmp_path, ["test/PNEUMONIA/person1_bacteria_2.jpeg", *FILES])
    (leak,) = mf.leaks(KermanySource(str(tmp_path)).manifest())
    assert leak.startswith("patient kermany-bacteria-1 is in ")


def test_names_of_the_authors_own_release_and_others_that_tell_no_patient(tmp_path: Path) -> None:
    names = ["train/NORMAL/NORMAL-1003233-0001.jpeg", "train/PNEUMONIA/BACTERIA-1008087-0002.jpeg"]
    source = KermanySource(str(laid_out(tmp_path, [*names, "train/NORMAL/a.jpeg", "train/PNEUMONIA/person1.jpeg"])))
    table = source.manifest()
    assert table["patient_id"].tolist() == ["kermany-1003233", "", "kermany-1008087", ""]
    assert table["finding"].tolist() == ["Normal", "Normal", "bacterial pneumonia", "pneumonia"]
    (note,) = source.notes
    assert note.startswith("kermany: the names of 2 of 4 images are not the set's")


@pytest.mark.parametrize("inside", ["", "chest_xray", "chest_xray/chest_xray"])
def test_folders_as_kaggles_archive_has_them(tmp_path: Path, inside: str) -> None:
    laid_out(tmp_path / inside)
    if not inside.count("/"):
        shutil.copytree(tmp_path / inside / "train", tmp_path / inside / "chest_xray/train")  # the second copy in it
    for leftover in ("__MACOSX/train/NORMAL/._IM-0115-0001.jpeg", "train/.DS_Store", "train/NORMAL/.DS_Store"):
        laid_out(tmp_path / inside, [leftover])
    source = KermanySource(str(tmp_path))
    assert len(source.manifest()) == len(FILES)
    assert not any("MACOSX" in note or "DS_Store" in note for note in source.notes)


def test_a_missing_set_names_the_command_that_gets_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder; `cxrlab-download data=kermany` gets the set"):
        KermanySource(str(tmp_path / "none")).manifest()
