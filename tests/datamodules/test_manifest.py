"""The table that everything else takes: datamodules/manifest.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxrlab.datamodules import manifest as mf
from cxrlab.errors import DataError


def table(**columns: list[Any]) -> pd.DataFrame:
    """Four images of four patients, in train and test; columns replace or join the default ones."""
    default: dict[str, list[Any]] = {
        "path": ["/d/a.png", "/d/b.png", "/d/c.png", "/d/d.png"],
        "label": [0, 1, 0, 1],
        "patient_id": ["p1", "p2", "p3", "p4"],
        "split": ["train", "train", "test", "test"],
        "source": ["toy"] * 4,
        "finding": [""] * 4,
        "view": ["PA", "AP", "", ""],
        "sha256": ["a" * 64, "b" * 64, "c" * 64, "d" * 64],
    }
    return pd.DataFrame(default | columns)


def test_check_puts_the_known_columns_first_and_numbers_the_rows_anew() -> None:
    shuffled = table(age=[3, 4, 5, 6])[["age", *reversed([*mf.COLUMNS, "sha256"])]].iloc[::-1]
    checked = mf.check(shuffled, "toy")
    assert list(checked.columns) == [*mf.COLUMNS, "age", "sha256"]
    assert list(checked.index) == [0, 1, 2, 3]
    assert list(checked["path"]) == ["/d/d.png", "/d/c.png", "/d/b.png", "/d/a.png"]


def test_check_leaves_its_argument_alone_and_fills_gaps_with_text() -> None:
    given = table(finding=[None, np.nan, "edema", ""], patient_id=[7, None, "p3", "p4"], label=[0.0, 1.0, 0.0, 1.0])
    before = given.copy()
    checked = mf.check(given, "toy")
    pd.testing.assert_frame_equal(given, before)
    assert list(checked["finding"]) == ["", "", "edema", ""]
    assert list(checked["patient_id"]) == ["7", "", "p3", "p4"]
    assert checked["label"].dtype == np.int64


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param({"label": [0, 1, 2, 1]}, "toy: row 3: label is 2, expected one of 0, 1", id="label"),
        pytest.param({"label": ["0", 1, 0, 1]}, "toy: row 1: label is '0', expected one of 0, 1", id="label-text"),
        pytest.param({"label": [0, 1, 0, None]}, "toy: row 4: label is nan, expected one of 0, 1", id="label-missing"),
        pytest.param({"label": [0, 0.5, 0, 1]}, "toy: row 2: label is 0.5, expected one of 0, 1", id="label-soft"),
        pytest.param(
            {"split": ["train", "valid", "", ""]},
            "toy: row 2: split is 'valid', expected one of '', 'test', 'train', 'val'",
            id="split",
        ),
        pytest.param({"path": ["/a", "", "/c", "/d"]}, "toy: row 2: path is empty, expected", id="path-empty"),
        pytest.param({"path": ["/a", "/b", None, "/d"]}, "toy: row 3: path is empty, expected", id="path-missing"),
        pytest.param({"path": ["/a", "/b", "/c", "/a"]}, "toy: row 4 lists /a a second time", id="path-twice"),
    ],
)
def test_check_names_the_first_wrong_row(columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError) as caught:
        mf.check(table(**columns), "toy")
    assert str(caught.value).startswith(message)


def test_check_counts_rows_whatever_the_index() -> None:
    with pytest.raises(DataError, match="row 3: label is 9"):
        mf.check(table(label=[0, 1, 9, 9]).set_index(pd.Index([7, 7, 7, 7])), "toy")


def test_check_names_missing_columns() -> None:
    with pytest.raises(DataError, match=r"toy: the manifest lacks the column\(s\) label, view; needed are path, label"):
        mf.check(table().drop(columns=["label", "view"]), "toy")


def test_check_refuses_an_empty_manifest() -> None:
    with pytest.raises(DataError, match="toy: the manifest holds no image"):
        mf.check(table().iloc[:0], "toy")


ODD = ["/d/a,b.png", "/d/\"quoted\" 'one'.png", "/d/new\nline\r\nreturn\rs.png", "/d/Thorax größer 肺 🫁 .png "]


def test_write_and_read_keep_every_value(tmp_path: Path) -> None:
    ids = ["007", "1e5", "NA", " spaced "]
    written = mf.check(
        table(path=ODD, patient_id=ids, finding=["", "null", "None", "nan"], age=[1.5, 2.0, 3.0, 4.0]), "x"
    )
    mf.write(written, tmp_path / "manifest.csv")
    pd.testing.assert_frame_equal(mf.read(tmp_path / "manifest.csv"), written)


def test_hashes_of_digits_stay_text(tmp_path: Path) -> None:
    digits = [f"{number:064d}" for number in range(4)]
    mf.write(table(sha256=digits), tmp_path / "manifest.csv")
    assert list(mf.read(tmp_path / "manifest.csv")["sha256"]) == digits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "not a manifest", id="empty"),
        pytest.param(b"\x89PNG\r\n\xff\xfe\x00", "not a manifest", id="binary"),
        pytest.param(b"path,label\n/a.png,0\n", "lacks the column", id="columns"),
        pytest.param(b"path,label\n/a.png,yes\n", "not a manifest", id="label"),
        pytest.param(b"path,label\n/a.png,0\n/b.png,0,1,2,3\n", "not a manifest", id="ragged"),
    ],
)
def test_read_names_a_file_that_is_no_manifest(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "some.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        mf.read(file)
    assert str(caught.value).startswith(f"{file}: ")


def test_read_names_what_is_missing_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file; a manifest was expected there"):
        mf.read(tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"not a manifest \(it is no regular file\)"):
        mf.read(tmp_path)


def test_fingerprint_is_of_the_content_and_not_of_order_names_or_notes() -> None:
    expected = mf.fingerprint(table())
    assert len(expected) == 64
    assert mf.fingerprint(table().iloc[::-1]) == expected
    assert mf.fingerprint(table(path=ODD, patient_id=[""] * 4, finding=["x"] * 4)) == expected


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"label": [1, 1, 0, 1]}, id="label"),
        pytest.param({"split": ["val", "train", "test", "test"]}, id="split"),
        pytest.param({"sha256": ["e" * 64, "b" * 64, "c" * 64, "d" * 64]}, id="bytes"),
        pytest.param({"label": [1, 0, 0, 1]}, id="labels-swapped"),
    ],
)
def test_fingerprint_changes_with(columns: dict[str, list[Any]]) -> None:
    assert mf.fingerprint(table(**columns)) != mf.fingerprint(table())


def test_fingerprint_changes_when_an_image_is_added_twice() -> None:
    assert mf.fingerprint(pd.concat([table(), table().iloc[:1]])) != mf.fingerprint(table())


def test_clean_splits_have_no_leaks() -> None:
    assert mf.leaks(table()) == []
    assert mf.leaks(table(patient_id=["p1", "p1", "p3", "p3"])) == []


def test_a_patient_in_two_splits_is_a_leak() -> None:
    assert mf.leaks(table(patient_id=["p1", "p2", "p1", ""])) == ["patient p1 is in test (c.png) and train (a.png)"]


def test_a_file_in_two_splits_is_a_leak_under_any_name() -> None:
    copies = table(sha256=["a" * 64, "b" * 64, "c" * 64, "b" * 64])
    assert mf.leaks(copies) == ["the same file is in test (d.png) and train (b.png)"]


def test_unknown_patients_and_unread_files_are_no_leaks() -> None:
    assert mf.leaks(table(patient_id=[""] * 4, sha256=[""] * 4)) == []
    assert mf.leaks(table().drop(columns="sha256")) == []


def test_people_are_patients_or_else_images() -> None:
    known = mf.people(table(patient_id=["p1", "p1", "", ""]).drop(columns="sha256"))
    assert list(known) == ["p1", "p1", "image:/d/c.png", "image:/d/d.png"]


def test_copies_of_one_film_are_one_person() -> None:
    copies = table(patient_id=["", "", "", "p4"], sha256=["a" * 64, "a" * 64, "", "a" * 64])
    assert list(mf.people(copies)) == ["image:" + "a" * 64, "image:" + "a" * 64, "image:/d/c.png", "p4"]


def test_a_near_duplicate_in_two_splits_is_a_leak() -> None:
    found = mf.leaks(table(film=["f1", "f2", "f3", "f2"]))
    assert found == ["the same film (a near-duplicate) is in test (d.png) and train (b.png)"]
    same_file = table(film=["f1", "f2", "f3", "f2"], sha256=["a" * 64, "b" * 64, "c" * 64, "b" * 64])
    assert mf.leaks(same_file) == ["the same file is in test (d.png) and train (b.png)"]  # told once


def test_ids_that_share_a_film_are_one_person_over_any_number_of_steps() -> None:
    linked = table(patient_id=["p3", "p1", "p2", "p4"], film=["f", "f", "g", "h"])
    assert list(mf.people(linked)) == ["p1", "p1", "p2", "p4"]
    chain = pd.concat([linked, table(patient_id=["p2", "p3", "", ""], film=["f", "", "h", "i"])], ignore_index=True)
    third, fourth = "image:" + "c" * 64, "image:" + "d" * 64
    assert list(mf.people(chain)) == ["p1", "p1", "p1", third, "p1", "p1", third, fourth]


def test_films_of_one_image_each_change_nobody() -> None:
    alone = table(patient_id=["p1", "p1", "", ""], film=["a", "b", "c", "d"])
    pd.testing.assert_series_equal(mf.people(alone), mf.people(alone.drop(columns="film")), check_names=False)


def test_ages_are_years_or_unknown() -> None:
    assert mf.ages(table()).isna().all()
    years = mf.ages(table(age=["61", "", "x", 4]))
    assert years.tolist()[0::3] == [61.0, 4.0]
    assert years.isna().tolist() == [False, True, True, False]
