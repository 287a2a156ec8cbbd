"""Filters of the listed images: datamodules/selection.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.selection import Selection
from cxrlab.errors import DataError


def listed(n: int = 8, **columns: Any) -> pd.DataFrame:
    """Every second image is Positive, every patient has two images one after the other."""
    table = pd.DataFrame(
        {
            "path": [f"/d/{row}.png" for row in range(n)],
            "label": [row % 2 for row in range(n)],
            "patient_id": [f"p{row // 2}" for row in range(n)],
            "split": "",
            "source": "x",
            "finding": "",
            "view": ["PA", "PA", "AP", "AP"] * (n // 4),
        }
    )
    return mf.check(table.assign(**columns), "x")


def selected(table: pd.DataFrame, **options: Any) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
    flow = Flow("x")
    kept = Selection(**options).apply(table, flow)
    return kept, [(step.step, step.removed) for step in flow.steps]


def refused(table: pd.DataFrame, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        selected(table, **options)
    return str(caught.value)


def test_without_filters_everything_stays_and_nothing_is_noted() -> None:
    kept, steps = selected(listed())
    pd.testing.assert_frame_equal(kept, listed())
    assert steps == []


def test_views() -> None:
    kept, steps = selected(listed(), views=["PA"])
    assert kept["path"].tolist() == ["/d/0.png", "/d/1.png", "/d/4.png", "/d/5.png"]
    assert list(kept.index) == [0, 1, 2, 3]
    assert steps == [("view is not PA", 4)]
    assert selected(listed(), views=["PA", "AP"])[1] == [("view is not PA or AP", 0)]
    table = listed(view=["PA", "pa", "postero-anterior", "P.A.", "AP", "LL", "Lateral", "nan"])
    assert len(selected(table, views=["pa"])[0]) == 4
    assert len(selected(table, views=["L"])[0]) == 2
    # An unknown view is left out by any choice of views, and counted apart.
    assert selected(table, views=["PA", "AP"])[1] == [("view is not PA or AP (1 of them of unknown view)", 3)]


def test_a_view_that_no_image_has_is_refused_with_those_there_are() -> None:
    message = refused(listed(), views=["PA", "AP Supin"])
    assert "data.views=[PA,AP Supin]: no image of x has the view 'AP Supin'" in message
    assert "there are PA (4), AP (4)" in message
    assert "none: no view is known" in refused(listed(view=""), views=["PA"])


def test_min_age_keeps_the_unknown_and_counts_them() -> None:
    kept, steps = selected(listed(age=[3, 17.9, 18, 40, np.nan, 80, "", "12"]), min_age=18)
    assert kept["path"].tolist() == ["/d/2.png", "/d/3.png", "/d/4.png", "/d/5.png", "/d/6.png"]
    assert steps == [("younger than 18 years (2 of unknown age stay)", 3)]
    kept, steps = selected(listed(age=["060Y", "018M", "012W", "12 years", "45,5", ">89", "017Y", "nan"]), min_age=18)
    assert kept["age"].tolist() == ["060Y", "45,5", ">89", "nan"]
    assert steps == [("younger than 18 years (1 of unknown age stay)", 4)]
    assert "data.min_age=18: x knows no age" in refused(listed(), min_age=18)


def test_an_age_that_nobody_has_is_no_adults() -> None:
    kept, steps = selected(listed(age=["40", "411Y", "155", "155", "-1", "adult", "", "12"]), min_age=18)
    assert kept["age"].tolist() == ["40", ""]
    reason = "age is none that a person can have: '155' (2), '411Y' (1), '-1' (1), 'adult' (1)"
    assert steps == [(reason, 5), ("younger than 18 years (1 of unknown age stay)", 1)]


def test_limit_per_patient_keeps_the_first_of_each_and_leaves_unknown_patients_alone() -> None:
    kept, steps = selected(listed(), limit_per_patient=1)
    assert kept["path"].tolist() == ["/d/0.png", "/d/2.png", "/d/4.png", "/d/6.png"]
    assert steps == [("more than 1 of one patient (the first are kept)", 4)]
    assert len(selected(listed(), limit_per_patient=2)[0]) == 8
    assert len(selected(listed(patient_id=["a", "a", "a", *[""] * 5]), limit_per_patient=1)[0]) == 6
    assert "knows no patient" in refused(listed(patient_id=""), limit_per_patient=1)


def test_balance_makes_the_classes_equal_in_every_split_and_keeps_patients() -> None:
    labels = [1, 1, 1, 1, 1, 0, 0, 1, 1, 0, 1, 0]
    patients = ["a", "a", "b", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    table = listed(12, label=labels, patient_id=patients, split=["train"] * 7 + ["test"] * 5)
    for seed in range(10):
        kept, steps = selected(table, balance=True, seed=seed)
        assert kept.groupby(["split", "label"]).size().tolist() == [2, 2, 2, 2]
        assert steps == [("more than the smaller class has (data.balance)", 4)]
        positives = kept[(kept["split"] == "train") & (kept["label"] == 1)]
        assert positives["patient_id"].nunique() == 2  # a second film of one patient goes before anybody's only one
    same, _ = selected(table, balance=True, seed=3)
    pd.testing.assert_frame_equal(same, selected(table, balance=True, seed=3)[0])


def test_filters_follow_each_other() -> None:
    table = listed(age=[50, 50, 50, 50, 10, 10, 50, 50])
    _, steps = selected(table, views=["PA"], min_age=18, limit_per_patient=1, balance=False)
    assert [removed for _, removed in steps] == [4, 2, 1]


def test_nothing_left_names_the_filter_that_took_the_last() -> None:
    assert "no image is left after the step 'younger than 90 years" in refused(listed(age=50), min_age=90)


def test_a_wrong_value_is_named() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        *(({"views": views}, "views must be a list of views such as") for views in ("PA", [], [1])),
        ({"min_age": -1}, "min_age must be a number in"),
        ({"limit_per_patient": 0}, "limit_per_patient must be a whole number in"),
        ({"balance": "yes"}, "balance must be one of True, False"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            Selection(**options)
