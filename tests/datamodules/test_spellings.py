"""What people write for one thing: datamodules/spellings.py."""

from __future__ import annotations

import math
import time
from typing import Any

import pandas as pd
import pytest

from cxrlab.datamodules import spellings

AGES: dict[object, float] = {
    "060Y": 60, "018M": 1.5, "012W": 12 * 7 / 365.25, "003D": 3 / 365.25, "45": 45, "45.0": 45, "45,5": 45.5, 45: 45,
    0: 0, " 7 ": 7, "12 years": 12, "12 yrs.": 12, "12 y.o.": 12, "45 y/o": 45, "5 month(s)": 5 / 12, "1y 6m": 1.5,
    "60 Jahre": 60, ">89": 89, "90+": 90, "over 89": 89, "80 or older": 80, "60-69": 60, "60\u201369 years": 60,
    "6 months - 2 years": 0.5, "<1": 0, "\uff17\uff10": 70,
}  # fmt: skip
NO_AGES = ["", "nan", None, "adult", "1e3", "inf", "2019-05-04", "12:30", "60-", "1/2", "9" * 60]
VIEWS = {
    "PA": "PA", "pa ": "PA", "postero-anterior": "PA", "Posterior Anterior": "PA", "CHEST PA": "PA", "AP": "AP",
    "AP view": "AP", "AP Supine": "AP Supine", "AP_horizontal": "AP Supine", "Erect AP": "AP Erect", "L": "L",
    "LL": "L", "RL": "L", "LATERAL": "L", "left lateral": "L", "": "", "UNK": "", "nan": "", "COSTAL": "COSTAL",
    "Axial": "Axial",
}  # fmt: skip
SEXES = {
    "M": "M", "male": "M", "F": "F", "Female ": "F", "w": "F", "O": "O", "U": "", "unknown": "", "0": "0",
}  # fmt: skip
SPLITS = {
    "train": "train", "Training": "train", "train_set": "train", "valid": "val", "VALIDATION": "val", "validate": "val",
    "dev": "val", "Test": "test", "testing": "test", "Test Set": "test", "eval": None, "train2": None, "NORMAL": None,
    "": None, "x" * 5000: None,
}  # fmt: skip


@pytest.mark.parametrize("text", AGES, ids=repr)
def test_ages_are_years(text: object) -> None:
    assert spellings.years(text) == pytest.approx(AGES[text])


def test_what_gives_no_age() -> None:
    assert all(math.isnan(spellings.years(text)) for text in NO_AGES)


def test_ages_that_nobody_has_are_unknown_and_named() -> None:
    column = pd.Series(["411Y", "155", "-1", "130", "131", "adult", "", None, "nan", 12.0, "999"])
    assert spellings.ages(column).dropna().tolist() == [130, 12]
    assert spellings.no_ages(column).tolist() == ["411Y", "155", "-1", "131", "adult", "999"]
    assert spellings.shown(pd.Series(["x", "y", "x"])) == ["'x' (2)", "'y' (1)"]


def test_a_hostile_column_of_ages_takes_no_time() -> None:
    began = time.monotonic()
    column = pd.Series(
        [f"{'1' * 60}{number % 10}{'-1' * 1}" for number in range(10)] + ["1 a" * 21, ">" * 64, "+" * 64]
    )
    assert spellings.ages(column).isna().all()
    assert time.monotonic() - began < 2


def test_views_sexes_and_splits() -> None:
    assert {text: spellings.view(text) for text in VIEWS} == VIEWS
    assert {text: spellings.sex(text) for text in SEXES} == SEXES
    assert {text: spellings.split(text) for text in SPLITS} == SPLITS


def test_ids_keep_decimals_that_are_their_own() -> None:
    def ids(*texts: Any) -> list[str]:
        return spellings.patients(pd.Series(texts, dtype=object)).tolist()

    assert ids("12.0", "12", "7.00") == ["12", "12", "7"]
    assert ids("12.0", "12.5") == ["12.0", "12.5"]
    assert ids("a  b", " A b", "007", "7") == ["a b", "a b", "007", "7"]
    assert ids("nan", "N/A", None, float("nan"), "--", "-1", "-1.0") == [""] * 7
