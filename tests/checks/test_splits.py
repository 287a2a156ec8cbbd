from __future__ import annotations

import json
from math import comb, log10
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tests.checks.conftest import found, make_case, numbers, paper_case

from cxrlab.checks import splits
from cxrlab.checks.base import Section, Verdict

HALF = [1] * 20 + [0] * 20
TAIL = (["train"] * 15 + ["test"] * 5) * 2
ORDER = "the split and the order of file names"
SERIES = "the split and series of files"


def checked(columns: dict[str, Any], **more: Any) -> Section:
    return splits.check(make_case(columns, **more))


def verdicts(section: Section) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in section.findings}


def test_a_clean_split_passes_and_the_facts_are_json() -> None:
    section = checked({"label": HALF, "split": (["train", "train", "val", "test"] * 5) * 2})
    assert set(verdicts(section).values()) == {Verdict.PASS}
    json.dumps(section.facts, allow_nan=False)
    counts = {"images": 10, "patients": 10, "films": 10, "most_of_one_patient": 1, "design_effect": 1.0}
    assert section.facts["counts"][0] == {"split": "train", "label": "Positive", **counts}


def test_a_patient_on_both_sides_fails_and_one_under_both_labels_warns() -> None:
    patients = ["p0", "p0", "p2", "p3", "p3", "p5"]
    table = {"label": [1, 1, 1, 1, 0, 0], "split": ["train", "test", "train"] + ["test"] * 3, "patient_id": patients}
    section = checked(table)
    leak = found(section, "patients in several splits")
    assert leak.verdict == Verdict.FAIL
    assert numbers(leak.said) == ["1", "2"]
    assert leak.details == "Found: p0 in train (image_000.png) and test (image_001.png)."
    assert section.answer == leak.said
    assert leak.weight == pytest.approx(1 / 4)
    both = found(section, "patients under both labels")
    assert both.verdict == Verdict.WARN
    assert "p3 in Positive (image_003.png) and Negative (image_004.png)" in both.evidence


def test_unknown_patients_are_not_checked() -> None:
    none = checked({"label": HALF, "split": TAIL, "patient_id": [""] * 40})
    for check in ("patients in several splits", "patients under both labels", "several images of a patient"):
        assert verdicts(none)[check] == Verdict.NOT_CHECKED
    some = checked({"label": [1, 0, 1], "split": ["train", "train", "test"], "patient_id": ["a", "b", ""]})
    assert verdicts(some)["patients in several splits"] == Verdict.PASS
    assert "1 of 3 (33 %) images" in found(some, "images of unknown patients").said
    assert "no file, no film" in none.answer
    assert "patient" in none.answer


@pytest.mark.parametrize(
    ("pair", "same_file", "failed"),
    [
        ((0, 1), True, {"the same file in several splits", "the same film in several splits"}),
        ((0, 1), False, {"the same film in several splits"}),
        ((1, 3), False, {"the same film under both labels"}),
    ],
)
def test_copies_and_near_duplicates_across_splits_and_labels_fail(
    pair: tuple[int, int], same_file: bool, failed: set[str]
) -> None:
    table = {"label": [1, 1, 0, 0], "split": ["train", "test", "train", "test"]}
    section = checked(table, pairs=[pair], same_file=same_file)
    fails = {check for check, verdict in verdicts(section).items() if verdict == Verdict.FAIL}
    assert {check for check in fails if check.startswith("the same")} == failed
    if pair == (0, 1):
        film = found(section, "the same film in several splits")
        assert numbers(film.said) == ["1", "2"]
        assert film.details == "Found: train (image_000.png) and test (image_001.png)."


def test_ids_that_share_a_film_are_one_patient() -> None:
    table = {"label": [1, 0, 1, 0], "split": ["train", "test", "train", "train"], "patient_id": ["a", "b", "c", ""]}
    section = checked(table, pairs=[(0, 1), (2, 3)])
    assert verdicts(section)["the same film under both labels"] == Verdict.FAIL
    assert verdicts(section)["patients under both labels"] == Verdict.WARN
    assert verdicts(section)["patients in several splits"] == Verdict.FAIL


def test_pairs_inside_a_split_warn_with_their_names() -> None:
    section = checked({"label": HALF, "split": TAIL}, pairs=[(0, 3), (20, 21)])
    inside = found(section, "the same film twice in a split")
    assert inside.verdict == Verdict.WARN
    assert numbers(inside.said) == ["2", "0", "2"]
    assert "image_000.png = image_003.png, image_020.png = image_021.png" in inside.details
    (pairs,) = [table for table in section.tables if table.caption.startswith("Pairs")]
    assert pairs.rows[0][0] == "image_000.png (train Positive)"


def test_films_in_several_sources_warn_and_are_all_listed() -> None:
    columns = {"label": [1, 1, 0, 1, 1, 0], "split": ["train"] * 4 + ["test"] * 2, "source": list("aaabbb")}
    section = checked(columns, pairs=[(0, 3), (1, 4), (0, 1)])
    shared = found(section, "the same film in several sources")
    assert shared.verdict == Verdict.WARN
    assert "1 film with 4 images (a 2, b 2)" in shared.said
    assert shared.details.startswith("Found: a (")
    (table,) = [table for table in section.tables if table.caption.startswith("Films in several sources")]
    assert list(table.header) == ["a", "b"]
    assert [str(cell).count(";") for row in table.rows for cell in row] == [1, 1]
    assert section.facts["shared_films"] == [list(row) for row in table.rows]
    apart = checked(columns, pairs=[(0, 1)])
    assert verdicts(apart)["the same film in several sources"] == Verdict.PASS


def test_the_tail_of_the_alphabet_fails_with_its_probability() -> None:
    section = checked({"label": HALF, "split": TAIL})
    order, expected = found(section, ORDER), log10(2 / comb(20, 5))
    assert order.verdict == Verdict.FAIL
    assert "alphabetical order" in order.said
    assert "the last 5 of 20 (Positive)" in order.said
    assert f"10^{expected:.1f}" in order.evidence
    assert section.facts["file_order"][0]["log10_p_images"] == pytest.approx(expected)


CASES = [f"/{side}/{'A' if row % 2 else 'a'}{row:02d}.png" for side in "pn" for row in range(20)]
MIXED = ["test" if row % 4 == 0 else "train" for row in range(20)]
GAPS = (["train"] * 69 + ["test", "train"] + ["test"] * 29) * 2
SAY = [f"/films/{name}_{row:03d}.png" for row, name in enumerate(TAIL)]
TWO = ["a"] * 15 + ["b"] * 5 + ["c"] * 15 + ["d"] * 5


@pytest.mark.parametrize(
    ("columns", "verdict", "evidence"),
    [
        ({"label": HALF, "split": TAIL, "path": CASES}, Verdict.FAIL, "the last 5 of 20"),  # upper and lower case alike
        ({"label": HALF, "split": TAIL[:20] + MIXED}, Verdict.WARN, "no block (Negative)"),
        ({"label": [1] * 100 + [0] * 100, "split": GAPS}, Verdict.WARN, "(Positive) and no block (Negative)"),
        (
            {"label": [1] * 100 + [0] * 100, "split": GAPS},
            Verdict.WARN,
            "Positive: p < 0.001",
        ),  # gaps are still noticed
        # Two patients, the last of whom is the test: as likely as anything.
        ({"label": HALF, "split": TAIL, "patient_id": TWO}, Verdict.PASS, "10^0.0 (patients drawn)"),
        ({"label": HALF, "split": TAIL, "path": SAY}, Verdict.NOT_CHECKED, "given after the split"),
        ({"label": HALF, "split": ["train"] * 40}, Verdict.NOT_CHECKED, "no split with test"),
    ],
)
def test_the_order_of_names_is_judged_by_patient(columns: Any, verdict: Verdict, evidence: str) -> None:
    section = checked(columns)
    assert found(section, ORDER).verdict == verdict
    assert evidence in found(section, ORDER).evidence
    assert (found(section, SERIES).verdict == Verdict.NOT_CHECKED) == (verdict == Verdict.NOT_CHECKED)


def test_the_order_of_a_list_is_looked_at_only_where_the_splits_share_folders() -> None:
    names = [f"{(row * 7) % 20:02d}.png" for row in range(20)] * 2
    apart = [f"/{TAIL[row]}/{HALF[row]}/{names[row]}" for row in range(40)]
    section = checked({"label": HALF, "split": TAIL, "path": apart})
    assert not [finding for finding in section.findings if "list" in finding.check]
    together = [f"/all/{HALF[row]}/{names[row]}" for row in range(40)]
    section = checked({"label": HALF, "split": TAIL, "path": together})
    assert verdicts(section)["the split and the order of the list"] == Verdict.WARN
    assert verdicts(section)[ORDER] == Verdict.PASS


def test_a_series_that_only_the_test_has_warns() -> None:
    paths = [f"/t/NORMAL2-IM-{row:04d}.jpeg" for row in range(10)] + [f"/t/IM-{row:04d}.jpeg" for row in range(40)]
    split = ["test"] * 10 + ["train"] * 41 + ["test"]
    shift = found(
        checked({"label": [0] * 50 + [1, 1], "split": split, "path": [*paths, "/t/a.png", "/t/b.png"]}), SERIES
    )
    assert shift.verdict == Verdict.WARN
    assert "NORMAL2" in shift.said
    assert numbers(shift.said) == ["10", "10", "100", "0", "40", "0"]


def test_series_are_beginnings_that_several_names_share() -> None:
    names = [f"person{row}_virus_{row}.jpeg" for row in range(6)] + [f"NORMAL2-{row}.jpeg" for row in range(5)]
    names += ["01E392EE-69F9.jpeg", "000012_003.png"]
    assert splits.series(pd.Series(names)).tolist() == ["person"] * 6 + ["NORMAL2"] * 5 + ["", ""]


def test_a_split_of_this_program_is_said_to_be() -> None:
    section = checked({"label": HALF, "split": TAIL}, drawn=True)
    assert verdicts(section)["how the split was made"] is Verdict.PASS
    assert ORDER not in verdicts(section)
    assert "drawn by this program" in section.text[0]


def test_validation_on_the_test_images_fails() -> None:
    validation = found(checked({"label": HALF, "split": TAIL}, val_is_test=True), "validation images apart from test")
    assert validation.verdict == Verdict.FAIL
    assert "10 test images" in validation.said
    without = checked({"label": HALF, "split": TAIL})
    assert verdicts(without)["validation images apart from test"] == Verdict.PASS


def test_many_images_of_few_patients_warn() -> None:
    patients = [f"p{row // 4}" for row in range(20)] + [f"n{row}" for row in range(20)]
    section = checked({"label": HALF, "split": ["train"] * 40, "patient_id": patients})
    repeats = found(section, "several images of a patient")
    assert repeats.verdict == Verdict.WARN
    assert numbers(repeats.said) == ["15", "40", "38", "25"]
    assert numbers(repeats.details) == ["4", "75"]
    assert "(p0)" in repeats.details


def test_the_papers_split_is_the_tail_of_the_alphabet(paper_root: Path) -> None:
    section = splits.check(paper_case(paper_root, val_is_test=True))
    assert verdicts(section)[ORDER] == Verdict.FAIL
    assert found(section, ORDER).said.count("the last 20 of 94") == 2
    assert verdicts(section)["patients in several splits"] == Verdict.PASS
    assert numbers(found(section, SERIES).said)[:5] == ["20", "20", "100", "9", "74"]
    counts = {f"{row['split']} {row['label']}": row["patients"] for row in section.facts["counts"]}
    assert counts == {"train Positive": 55, "train Negative": 70, "test Positive": 9, "test Negative": 20}
