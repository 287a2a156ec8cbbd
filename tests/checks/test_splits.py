from __future__ import annotations

import json
from math import comb, log10
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.checks.conftest import numbers

from cxrlab.checks import splits
from cxrlab.checks.base import Finding, Section, Verdict
from cxrlab.datamodules.sources import PaperSource

HALF = [1] * 20 + [0] * 20
ORDER = "the split and the order of file names"
SERIES = "the split and series of files"


def found(section: Section, check: str) -> Finding:
    (finding,) = [finding for finding in section.findings if finding.check == check]
    return finding


def tail() -> list[str]:
    return (["train"] * 15 + ["test"] * 5) * 2


def test_a_clean_split_passes_and_the_facts_are_json(make_case: Any) -> None:
    section = splits.check(make_case({"label": HALF, "split": (["train", "train", "val", "test"] * 5) * 2}))
    verdicts = {finding.check: finding.verdict for finding in section.findings}
    assert set(verdicts.values()) == {Verdict.PASS}
    json.dumps(section.facts, allow_nan=False)
    assert section.facts["counts"][0] == {
        "split": "train",
        "label": "Positive",
        "images": 10,
        "patients": 10,
        "films": 10,
        "most_of_one_patient": 1,
        "design_effect": 1.0,
    }


def test_a_patient_on_both_sides_fails_and_one_under_both_labels_warns(make_case: Any) -> None:
    patients = ["p0", "p0", "p2", "p3", "p3", "p5"]
    table = {"label": [1, 1, 1, 1, 0, 0], "split": ["train", "test", "train"] + ["test"] * 3, "patient_id": patients}
    section = splits.check(make_case(table))
    leak = found(section, "patients in several splits")
    assert leak.verdict == Verdict.FAIL
    assert numbers(leak.said) == ["1", "2"]
    assert leak.details == "Found: p0 in train (image_000.png) and test (image_001.png)."
    assert section.answer == leak.said
    assert leak.weight == pytest.approx(1 / 4)
    both = found(section, "patients under both labels")
    assert both.verdict == Verdict.WARN
    assert "p3 in Positive (image_003.png) and Negative (image_004.png)" in both.evidence


def test_unknown_patients_are_not_checked(make_case: Any) -> None:
    none = splits.check(make_case({"label": HALF, "split": tail(), "patient_id": [""] * 40}))
    for check in ("patients in several splits", "patients under both labels", "several images of a patient"):
        assert found(none, check).verdict == Verdict.NOT_CHECKED
    some = splits.check(
        make_case({"label": [1, 0, 1], "split": ["train", "train", "test"], "patient_id": ["a", "b", ""]})
    )
    assert found(some, "patients in several splits").verdict == Verdict.PASS
    assert "1 of 3 (33 %) images" in found(some, "images of unknown patients").said
    assert "no file, no film" in none.answer
    assert "patient" in none.answer


def test_copies_and_near_duplicates_across_splits_and_labels_fail(make_case: Any) -> None:
    table = {"label": [1, 1, 0, 0], "split": ["train", "test", "train", "test"]}
    copies = splits.check(make_case(table, pairs=[(0, 1)], same_file=True))
    assert found(copies, "the same file in several splits").verdict == Verdict.FAIL
    assert found(copies, "the same film in several splits").verdict == Verdict.FAIL
    near = splits.check(make_case(table, pairs=[(0, 1)]))
    assert found(near, "the same file in several splits").verdict == Verdict.PASS
    film = found(near, "the same film in several splits")
    assert film.verdict == Verdict.FAIL
    assert numbers(film.said) == ["1", "2"]
    assert film.details == "Found: train (image_000.png) and test (image_001.png)."
    assert found(near, "the same film under both labels").verdict == Verdict.PASS
    conflict = splits.check(make_case(table, pairs=[(1, 3)]))
    assert found(conflict, "the same film under both labels").verdict == Verdict.FAIL


def test_pairs_inside_a_split_warn_with_their_names(make_case: Any) -> None:
    table = {"label": HALF, "split": tail()}
    section = splits.check(make_case(table, pairs=[(0, 3), (20, 21)]))
    inside = found(section, "the same film twice in a split")
    assert inside.verdict == Verdict.WARN
    assert numbers(inside.said) == ["2", "0", "2"]
    assert "image_000.png = image_003.png, image_020.png = image_021.png" in inside.details
    (pairs,) = [table for table in section.tables if table.caption.startswith("Pairs")]
    assert pairs.rows[0][0] == "image_000.png (train Positive)"


def test_the_tail_of_the_alphabet_fails_with_its_probability(make_case: Any) -> None:
    section = splits.check(make_case({"label": HALF, "split": tail()}))
    order = found(section, ORDER)
    expected = log10(2 / comb(20, 5))
    assert order.verdict == Verdict.FAIL
    assert "alphabetical order" in order.said
    assert "the last 5 of 20 (Positive)" in order.said
    assert f"10^{expected:.1f}" in order.evidence
    assert section.facts["file_order"][0]["log10_p_images"] == pytest.approx(expected)


def test_upper_and_lower_case_names_are_sorted_alike(make_case: Any) -> None:
    names = [f"{'A' if row % 2 else 'a'}{row:02d}.png" for row in range(20)]
    table = {
        "label": HALF,
        "split": tail(),
        "path": [f"/p/{name}" for name in names] + [f"/n/{name}" for name in names],
    }
    assert found(splits.check(make_case(table)), ORDER).verdict == Verdict.FAIL


def test_one_block_of_one_label_warns_and_whole_patients_are_the_measure(make_case: Any) -> None:
    mixed = ["test" if row % 4 == 0 else "train" for row in range(20)]
    one = splits.check(make_case({"label": HALF, "split": tail()[:20] + mixed}))
    assert found(one, ORDER).verdict == Verdict.WARN
    # Two patients, the last of whom is the test: as likely as anything.
    patients = ["a"] * 15 + ["b"] * 5 + ["c"] * 15 + ["d"] * 5
    few = splits.check(make_case({"label": HALF, "split": tail(), "patient_id": patients}))
    assert found(few, ORDER).verdict == Verdict.PASS
    assert "10^0.0 (patients drawn)" in found(few, ORDER).details


def test_a_tail_with_gaps_is_still_noticed(make_case: Any) -> None:
    split = ["train"] * 69 + ["test", "train"] + ["test"] * 29
    section = splits.check(make_case({"label": [1] * 100 + [0] * 100, "split": split * 2}))
    assert found(section, ORDER).verdict == Verdict.WARN
    assert "no block (Positive)" in found(section, ORDER).said
    assert "Positive: p < 0.001" in found(section, ORDER).details


def test_names_that_say_their_split_say_nothing_about_its_drawing(make_case: Any) -> None:
    split = tail()
    paths = [f"/films/{name}_{row:03d}.png" for row, name in enumerate(split)]
    section = splits.check(make_case({"label": HALF, "split": split, "path": paths}))
    assert found(section, ORDER).verdict == Verdict.NOT_CHECKED
    assert found(section, SERIES).verdict == Verdict.NOT_CHECKED


def test_the_order_of_a_list_is_looked_at_only_where_the_splits_share_folders(make_case: Any) -> None:
    split = tail()
    names = [f"{(row * 7) % 20:02d}.png" for row in range(20)] * 2
    apart = [f"/{split[row]}/{HALF[row]}/{names[row]}" for row in range(40)]
    section = splits.check(make_case({"label": HALF, "split": split, "path": apart}))
    assert not [finding for finding in section.findings if "list" in finding.check]
    together = [f"/all/{HALF[row]}/{names[row]}" for row in range(40)]
    section = splits.check(make_case({"label": HALF, "split": split, "path": together}))
    assert found(section, "the split and the order of the list").verdict == Verdict.WARN
    assert found(section, ORDER).verdict == Verdict.PASS


def test_a_series_that_only_the_test_has_warns(make_case: Any) -> None:
    paths = [f"/t/NORMAL2-IM-{row:04d}.jpeg" for row in range(10)] + [f"/t/IM-{row:04d}.jpeg" for row in range(40)]
    split = ["test"] * 10 + ["train"] * 41 + ["test"]
    table = {"label": [0] * 50 + [1, 1], "split": split, "path": [*paths, "/t/a.png", "/t/b.png"]}
    shift = found(splits.check(make_case(table)), SERIES)
    assert shift.verdict == Verdict.WARN
    assert "NORMAL2" in shift.said
    assert numbers(shift.said) == ["10", "10", "100", "0", "40", "0"]


def test_series_are_beginnings_that_several_names_share() -> None:
    names = [f"person{row}_virus_{row}.jpeg" for row in range(6)] + [f"NORMAL2-{row}.jpeg" for row in range(5)]
    names += ["01E392EE-69F9.jpeg", "000012_003.png"]
    assert splits.series(pd.Series(names)).tolist() == ["person"] * 6 + ["NORMAL2"] * 5 + ["", ""]


def test_a_split_of_this_program_is_said_to_be(make_case: Any) -> None:
    section = splits.check(make_case({"label": HALF, "split": tail()}, drawn=True))
    made = found(section, "how the split was made")
    assert made.verdict is Verdict.PASS
    assert ORDER not in {finding.check for finding in section.findings}
    assert "drawn by this program" in section.text[0]


def test_validation_on_the_test_images_fails(make_case: Any) -> None:
    section = splits.check(make_case({"label": HALF, "split": tail()}, val_is_test=True))
    validation = found(section, "validation images apart from test")
    assert validation.verdict == Verdict.FAIL
    assert "10 test images" in validation.said
    without = splits.check(make_case({"label": HALF, "split": tail()}))
    assert found(without, "validation images apart from test").verdict == Verdict.PASS


def test_many_images_of_few_patients_warn(make_case: Any) -> None:
    patients = [f"p{row // 4}" for row in range(20)] + [f"n{row}" for row in range(20)]
    section = splits.check(make_case({"label": HALF, "split": ["train"] * 40, "patient_id": patients}))
    repeats = found(section, "several images of a patient")
    assert repeats.verdict == Verdict.WARN
    assert numbers(repeats.said) == ["15", "40", "38", "25"]
    assert numbers(repeats.details) == ["4", "75"]
    assert "(p0)" in repeats.details
    assert found(section, ORDER).verdict == Verdict.NOT_CHECKED


def test_the_papers_split_is_the_tail_of_the_alphabet(paper_root: Path, make_case: Any) -> None:
    source = PaperSource(str(paper_root))
    manifest = source.manifest()
    case = make_case({name: manifest[name].tolist() for name in manifest.columns}, claim=source.claim, val_is_test=True)
    section = splits.check(case)
    order = found(section, ORDER)
    assert order.verdict == Verdict.FAIL
    assert order.said.count("the last 20 of 94") == 2
    assert found(section, "patients in several splits").verdict == Verdict.PASS
    assert numbers(found(section, SERIES).said)[:5] == ["20", "20", "100", "9", "74"]
    assert {(row["split"], row["label"]): row["patients"] for row in section.facts["counts"]} == {
        ("train", "Positive"): 55,
        ("train", "Negative"): 70,
        ("test", "Positive"): 9,
        ("test", "Negative"): 20,
    }


def test_films_in_several_sources_warn_and_are_all_listed(make_case: Any) -> None:
    columns = {
        "label": [1, 1, 0, 1, 1, 0],
        "split": ["train"] * 4 + ["test"] * 2,
        "source": ["a", "a", "a", "b", "b", "b"],
    }
    section = splits.check(make_case(columns, pairs=[(0, 3), (1, 4), (0, 1)]))
    shared = found(section, "the same film in several sources")
    assert shared.verdict == Verdict.WARN
    assert "1 film with 4 images (a 2, b 2)" in shared.said
    assert shared.details.startswith("Found: a (")
    (table,) = [table for table in section.tables if table.caption.startswith("Films in several sources")]
    assert list(table.header) == ["a", "b"]
    assert [str(cell).count(";") for row in table.rows for cell in row] == [1, 1]
    apart = splits.check(make_case(columns, pairs=[(0, 1)]))
    assert found(apart, "the same film in several sources").verdict == Verdict.PASS
    assert section.facts["shared_films"] == [list(row) for row in table.rows]


def test_ids_that_share_a_film_are_one_patient(make_case: Any) -> None:
    table = {"label": [1, 0, 1, 0], "split": ["train", "test", "train", "train"], "patient_id": ["a", "b", "c", ""]}
    section = splits.check(make_case(table, pairs=[(0, 1), (2, 3)]))
    verdicts = {finding.check: finding.verdict for finding in section.findings}
    assert verdicts["the same film under both labels"] == Verdict.FAIL
    assert verdicts["patients under both labels"] == Verdict.WARN
    assert verdicts["patients in several splits"] == Verdict.FAIL
