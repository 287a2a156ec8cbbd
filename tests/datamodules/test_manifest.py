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


WRONG_ROWS: dict[str, dict[str, list[Any]]] = {
    "row 3: label is 2, expected one of 0, 1": {"label": [0, 1, 2, 1]},
    "row 1: label is '0', expected one of 0, 1": {"label": ["0", 1, 0, 1]},
    "row 4: label is nan, expected one of 0, 1": {"label": [0, 1, 0, None]},
    "row 2: label is 0.5, expected one of 0, 1": {"label": [0, 0.5, 0, 1]},
    "row 2: split is 'valid', expected one of '', 'test', 'train', 'val'": {"split": ["train", "valid", "", ""]},
    "row 2: path is empty, expected": {"path": ["/a", "", "/c", "/d"]},
    "row 3: path is empty, expected": {"path": ["/a", "/b", None, "/d"]},
    "row 4 lists /a a second time": {"path": ["/a", "/b", "/c", "/a"]},
}


@pytest.mark.parametrize("message", WRONG_ROWS)
def test_check_names_the_first_wrong_row_whatever_the_index(message: str) -> None:
    with pytest.raises(DataError) as caught:
        mf.check(table(**WRONG_ROWS[message]).set_index(pd.Index([7, 7, 7, 7])), "toy")
    assert str(caught.value).startswith(f"toy: {message}")


def test_check_names_missing_columns_and_refuses_an_empty_manifest() -> None:
    with pytest.raises(DataError, match=r"toy: the manifest lacks the column\(s\) label, view; needed are path, label"):
        mf.check(table().drop(columns=["label", "view"]), "toy")
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


def test_read_names_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    for content, message in (
        (b"", "not a manifest"),
        (b"\x89PNG\r\n\xff\xfe\x00", "not a manifest"),
        (b"path,label\n/a.png,0\n", "lacks the column"),
        (b"path,label\n/a.png,yes\n", "not a manifest"),
        (b"path,label\n/a.png,0\n/b.png,0,1,2,3\n", "not a manifest"),
    ):
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


def test_fingerprint_changes_with_labels_splits_bytes_and_images() -> None:
    changes: list[dict[str, list[Any]]] = [
        {"label": [1, 1, 0, 1]},
        {"split": ["val", "train", "test", "test"]},
        {"sha256": ["e" * 64, "b" * 64, "c" * 64, "d" * 64]},
        {"label": [1, 0, 0, 1]},  # swapped
    ]
    tables = [table(), pd.concat([table(), table().iloc[:1]]), *(table(**change) for change in changes)]
    assert len(set(map(mf.fingerprint, tables))) == 6


def test_leaks_are_patients_files_and_films_in_two_splits() -> None:
    copied = ["a" * 64, "b" * 64, "c" * 64, "b" * 64]
    assert mf.leaks(table()) == mf.leaks(table(patient_id=["p1", "p1", "p3", "p3"])) == []
    assert mf.leaks(table(patient_id=["p1", "p2", "p1", ""])) == ["patient p1 is in test (c.png) and train (a.png)"]
    same_file = ["the same file is in test (d.png) and train (b.png)"]
    assert mf.leaks(table(sha256=copied)) == same_file
    near = mf.leaks(table(film=["f1", "f2", "f3", "f2"]))
    assert near == ["the same film (a near-duplicate) is in test (d.png) and train (b.png)"]
    assert mf.leaks(table(film=["f1", "f2", "f3", "f2"], sha256=copied)) == same_file  # told once
    # Unknown patients and unread files are none.
    assert mf.leaks(table(patient_id=[""] * 4, sha256=[""] * 4)) == mf.leaks(table().drop(columns="sha256")) == []


def test_people_are_patients_or_else_images_known_by_their_bytes() -> None:
    known = mf.people(table(patient_id=["p1", "p1", "", ""]).drop(columns="sha256"))
    assert list(known) == ["p1", "p1", "image:/d/c.png", "image:/d/d.png"]
    copies = table(patient_id=["", "", "", "p4"], sha256=["a" * 64, "a" * 64, "", "a" * 64])
    assert list(mf.people(copies)) == ["image:" + "a" * 64, "image:" + "a" * 64, "image:/d/c.png", "p4"]


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
