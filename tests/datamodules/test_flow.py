"""The flow of cases: datamodules/flow.py."""

from __future__ import annotations

import pandas as pd

from cxrlab.datamodules.flow import COLUMNS, Flow, Step


def films() -> pd.DataFrame:
    return pd.DataFrame({"patient_id": ["a", "a", "b", "", ""], "view": ["PA", "L", "PA", "PA", "AP"]})


def test_every_image_is_left_or_in_one_step() -> None:
    flow = Flow("cohen")
    table = flow.start(films(), "rows of metadata.csv")
    table = flow.keep(table, table["view"] != "L", "lateral view")
    table = flow.keep(table, table["view"] == "PA", "not PA")
    assert list(table.index) == [0, 2, 3]
    steps = flow.table()
    assert list(steps.columns) == list(COLUMNS)
    assert steps["step"].tolist() == ["rows of metadata.csv", "lateral view", "not PA"]
    assert steps["removed"].tolist() == [0, 1, 1]
    assert steps["images"].tolist() == [5, 4, 3]
    assert (steps["images"].iloc[0] - steps["removed"].cumsum() == steps["images"]).all()


def test_images_of_unknown_patients_count_as_one_patient_each() -> None:
    flow = Flow("x")
    flow.start(films(), "listed")
    assert flow.steps == [Step("x", "listed", 0, 5, 4)]


def test_a_step_that_removes_nothing_is_noted() -> None:
    flow = Flow("x", [Step("y", "listed", 0, 9, 9)])
    flow.keep(films(), films()["view"] != "none", "no view")
    assert [(step.source, step.removed) for step in flow.steps] == [("y", 0), ("x", 0)]
