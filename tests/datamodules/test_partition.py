"""Splits, repeats of films, and what is wrong with them: datamodules/partition.py."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.partition import Partition, refuse_leaks
from cxrlab.errors import DataError


def films(**columns: Any) -> pd.DataFrame:
    """Sixteen images of eight patients; the last four are test images by the source's own split."""
    table = pd.DataFrame(
        {
            "path": [f"/d/{row}.png" for row in range(16)],
            "label": [row // 2 % 2 for row in range(16)],
            "patient_id": [f"p{row // 2}" for row in range(16)],
            "split": ["train"] * 12 + ["test"] * 4,
            "source": ["x"] * 8 + ["y"] * 8,
            "finding": "",
            "view": "",
            "sha256": [f"{row:064}" for row in range(16)],
            "film": [f"{row:064}" for row in range(16)],
        }
    )
    return table.assign(**columns)


SHARED = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15]
"""Films 0 and 1 are in both sources."""


def test_the_sources_test_split_is_kept_unless_it_is_to_be_forgotten() -> None:
    partition = Partition(val=0.3)
    assert (partition.draw(films(), "x")["split"] == "test").tolist() == [False] * 12 + [True] * 4
    assert not partition.drawn(films()["split"])
    anew = Partition(val=0.3, test=0.3, resplit=True)
    assert anew.drawn(films()["split"])
    seeds = [Partition(val=0.3, test=0.3, resplit=True, seed=seed) for seed in (0, 1)]
    drawn = [tuple(each.draw(films(), "x")["split"]) for each in seeds]
    assert drawn[0] != drawn[1]
    assert (pd.Series(drawn[0]) == "test").sum() == 4
    assert (pd.Series(drawn[0]).groupby(films()["patient_id"]).nunique() == 1).all()
    assert Partition().drawn(films(split="")["split"])


def test_forgetting_the_sources_split_is_told() -> None:
    partition = Partition(val=0.3, test=0.3, resplit=True)
    (warning,) = partition.warnings(films()["split"], partition.draw(films(), "x"), [], "x")
    assert warning.startswith("x: its own split (12 train, 4 test images) is set aside: all 16 images are pooled")
    assert warning.endswith("the test images are drawn anew by patient (data.resplit=true)")


def test_repeats_of_a_film_are_kept_or_dropped() -> None:
    flow = Flow("x")
    assert len(Partition().without_repeats(films(film=SHARED), flow)) == 16
    assert flow.steps == []
    kept = Partition(duplicates="drop").without_repeats(films(film=SHARED), flow)
    assert kept.index.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15]
    assert [(step.step, step.removed) for step in flow.steps] == [("another image of the same film", 2)]


def test_films_that_several_sources_have_are_left_out_with_all_their_images() -> None:
    flow = Flow("x")
    kept = Partition(duplicates="exclude").without_repeats(films(film=SHARED), flow)
    assert kept.index.tolist() == [2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15]
    assert [(step.step, step.removed) for step in flow.steps] == [("film that several sources have", 4)]
    of_one_source = films(film=[0, 0, *range(2, 16)])
    assert len(Partition(duplicates="exclude").without_repeats(of_one_source, flow)) == 16


def test_films_in_two_sources_are_refused_by_name() -> None:
    with pytest.raises(DataError) as caught:
        Partition(duplicates="refuse").refuse_shared(films(film=SHARED))
    message = str(caught.value)
    assert message.startswith("2 film(s) are in more than one source:\n  x: 0.png = y: 8.png\n  x: 1.png = y: 9.png")
    assert "data.duplicates=drop keeps the first of each" in message
    Partition(duplicates="drop").refuse_shared(films(film=SHARED))
    Partition(duplicates="refuse").refuse_shared(films(film=[0, 0, *range(2, 16)]))  # of one source


def test_a_film_under_both_labels_is_told() -> None:
    table = films(film=[0, 1, 0, *range(3, 16)])
    assert Partition().warnings(table["split"], table, [], "x") == [
        "1 film(s) are labelled both Negative and Positive, the first: x: 0.png = x: 2.png"
    ]


def test_one_class_ends_a_training_but_no_audit_and_no_evaluation() -> None:
    positive = films(label=1, split=["train"] * 12 + ["test"] * 4)
    with pytest.raises(DataError) as caught:
        Partition().refuse_one_class(positive, "x")
    assert str(caught.value).startswith("x: all 16 images are Positive, and a training needs both: add images")
    assert "`cxrlab-audit`" in str(caught.value)
    Partition(test="all").refuse_one_class(positive, "x")
    Partition().refuse_one_class(films(), "x")
    assert Partition().draw(positive, "x", train=False)["split"].tolist() == ["train"] * 12 + ["test"] * 4
    undrawn = Partition().draw(positive.assign(split=""), "x", train=False)
    assert set(undrawn["split"]) == {"train"}


def test_an_audit_goes_on_where_a_split_lacks_a_label() -> None:
    lacking = films(split=["test" if label else "train" for label in films()["label"]])
    with pytest.raises(DataError):
        Partition(val="test").draw(lacking, "x")
    assert Partition(val="test").draw(lacking, "x", train=False)["split"].tolist() == lacking["split"].tolist()
    with pytest.raises(DataError, match=r"data\.folds=9 is too many"):
        Partition(folds=9, fold=0).draw(lacking, "x", train=False)


def test_leaks_end_a_training_and_say_what_to_do() -> None:
    refuse_leaks([], "x")
    with pytest.raises(DataError) as caught:
        refuse_leaks([f"patient {number} is in both" for number in range(7)], "x")
    message = str(caught.value)
    assert message.startswith("x: 7 leak(s) between splits:\n  patient 0 is in both")
    assert "… and 2 more" in message
    assert "data.resplit=true" in message
    assert "data.allow_leak=true" in message
