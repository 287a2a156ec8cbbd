"""Sheets are fair samples, pairs stand side by side, and nothing is judged."""

from __future__ import annotations

import numpy as np
import pytest
from tests.checks.conftest import make_case

from cxrlab.checks import pictures
from cxrlab.checks.base import Picture, Section


def named(section: Section, name: str) -> Picture:
    (picture,) = [picture for picture in section.pictures if picture.name == name]
    return picture


def test_a_sheet_for_every_class_of_every_split() -> None:
    case = make_case({"label": [0, 1] * 30, "split": ["train"] * 54 + ["test"] * 6})
    section = pictures.check(case)
    assert section.findings == ()
    sheets = [f"sheet_{split}_{label}" for split in ("train", "test") for label in ("positive", "negative")]
    assert [picture.name for picture in section.pictures] == ["class_means", *sheets]
    caption = named(section, "sheet_train_positive").caption
    assert caption.startswith("train Positive: 24 of 27 images, 24 of 27 patients")
    assert section.facts["sheets"]["test Negative"] == ["image_054.png", "image_056.png", "image_058.png"]
    assert "3: image_058.png" in named(section, "sheet_test_negative").files
    assert "No two images" in section.text[0]


def test_nobody_is_shown_twice_while_somebody_else_is_not() -> None:
    # One patient has forty images, twenty others have one each: all of these are on the sheet.
    patients = ["many"] * 40 + [f"one-{number}" for number in range(20)]
    case = make_case({"label": [1] * 60, "patient_id": patients})
    section = pictures.check(case)
    shown = [int(name[6:9]) for name in section.facts["sheets"]["train Positive"]]
    assert shown == sorted(shown)
    assert set(range(40, 60)) < set(shown)
    assert len(shown) == pictures.SHEET
    assert "24 of 60 images, 21 of 21 patients" in section.pictures[0].caption
    assert [picture.name for picture in section.pictures] == ["sheet_train_positive"]  # one class has no difference
    assert pictures.check(case).facts == section.facts


def test_pairs_that_matter_most_come_first() -> None:
    columns = {"label": [1, 1, 1, 0, 1, 1], "split": ["train"] * 5 + ["test"], "patient_id": ["a", "b", "", *"def"]}
    case = make_case(columns, pairs=[(0, 1), (2, 3), (4, 5)])
    section = pictures.check(case)
    assert section.facts["pairs"] == [
        ["image_004.png", "image_005.png"],  # across splits
        ["image_002.png", "image_003.png"],  # across labels
        ["image_000.png", "image_001.png"],
    ]
    first, second = named(section, "pair_01"), named(section, "pair_02")
    assert first.caption == "Pair 1: hashes 12 of 256 bits apart, 250 matching points"
    assert first.files == (
        "left: image_004.png (train Positive, patient e); right: image_005.png (test Positive, patient f)"
    )
    assert [text.get_text() for text in second.figure.axes[0].texts] == ["train Positive", "train Negative"]
    assert "patient unknown" in second.files
    assert "3 pairs" in section.text[0]
    copies = pictures.check(make_case(columns, pairs=[(0, 1)], same_file=True))
    assert "the same file" in named(copies, "pair_01").caption


def test_at_most_a_dozen_pairs() -> None:
    case = make_case({"label": [1] * 40}, pairs=[(number, number + 20) for number in range(20)])
    section = pictures.check(case)
    assert sum(picture.name.startswith("pair_") for picture in section.pictures) == pictures.PAIRS
    assert "20 pairs. They are shown side by side, 12 of them" in section.text[0]


def test_images_have_their_own_aspect() -> None:
    case = make_case({"label": [1, 0]}, facts={"width": [1000, 300], "height": [500, 3000]})
    assert pictures.upright(case, 0).shape == (128, 256)
    assert pictures.upright(case, 1).shape == (256, 26)


def test_every_patient_weighs_the_same_in_a_mean() -> None:
    grey = np.zeros((5, 256, 256), np.uint8)
    grey[:3] = 200  # three images of one patient, one of another
    case = make_case({"label": [1, 1, 1, 1, 0], "patient_id": ["a", "a", "a", "b", "c"]}, grey=grey)
    figure = named(pictures.check(case), "class_means").figure
    assert np.asarray(figure.axes[1].images[0].get_array()).mean() == pytest.approx(100)
    assert figure.axes[1].get_title() == "Positive (n = 4)"
