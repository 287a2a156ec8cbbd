"""Drawing splits by patient: datamodules/split.py."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.split import hold_out
from cxrlab.errors import DataError


def drawn_manifest(seed: int) -> pd.DataFrame:
    """Random: patients unknown, with several images, with images of either label, or in the test split already."""
    generator = np.random.default_rng(seed)
    n = int(generator.integers(12, 120))
    patients = generator.integers(0, generator.integers(8, 80), n)
    ids = np.where(generator.random(n) < generator.choice([0.0, 0.3, 1.0]), "", [f"p{patient}" for patient in patients])
    labels = np.where(generator.random(n) < 0.1, 1, patients % 2)  # a person's label, and now and then the other
    splits = np.where(patients % 7 == 0, "test", "train")
    columns = {"path": [f"/{row}.png" for row in range(n)], "label": labels, "patient_id": ids, "split": splits}
    return mf.check(pd.DataFrame(columns | {"source": "toy", "finding": "", "view": ""}), "toy")


def of_patients(negative: int, positive: int, images: int = 1) -> pd.DataFrame:
    """Training patients of either label with as many images each."""
    people = [(f"n{number}", 0) for number in range(negative)] + [(f"p{number}", 1) for number in range(positive)]
    rows = [(f"/{who}-{film}.png", label, who) for who, label in people for film in range(images)]
    table = pd.DataFrame(rows, columns=["path", "label", "patient_id"])
    return mf.check(table.assign(split="train", source="toy", finding="", view=""), "toy")


def test_no_patient_straddles_and_both_sides_hold_both_labels() -> None:
    drawn = 0
    for seed in range(200):
        before = drawn_manifest(seed)
        fraction = float(np.random.default_rng([seed, 1]).uniform(0.01, 0.99))
        try:
            after = hold_out(before, fraction, seed, "val", "data.val")
        except DataError:
            continue  # too few patients of a label; see below
        drawn += 1
        train, val = after["split"] == "train", after["split"] == "val"
        assert not set(mf.people(after)[train]) & set(mf.people(after)[val])
        assert set(after["label"][train]) == set(after["label"][val]) == {0, 1}
        assert ((after["split"] == before["split"]) | val).all()
        assert (before["split"][val] == "train").all()
    assert drawn > 150


@pytest.mark.parametrize("fraction", [0.05, 0.15, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("images", [1, 3])
def test_the_share_of_patients_of_either_label_is_the_one_wanted(fraction: float, images: int) -> None:
    after = hold_out(of_patients(60, 40, images), fraction, 0, "test", "data.test")
    held = after[after["split"] == "test"]
    assert held.groupby("label")["patient_id"].nunique().tolist() == [round(60 * fraction), round(40 * fraction)]
    assert len(held) == images * held["patient_id"].nunique()


@pytest.mark.parametrize(("fraction", "expected"), [(0.001, 1), (0.999, 9)])
def test_neither_side_is_left_empty(fraction: float, expected: int) -> None:
    after = hold_out(of_patients(10, 10), fraction, 0, "val", "data.val")
    assert (after["split"] == "val").sum() == 2 * expected


def test_the_argument_is_not_changed() -> None:
    before = of_patients(10, 10)
    hold_out(before, 0.5, 0, "val", "data.val")
    assert (before["split"] == "train").all()


def test_a_seed_is_a_draw_and_another_seed_another() -> None:
    draws = [hold_out(of_patients(30, 30), 0.3, seed, "val", "data.val")["split"].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_val_and_test_are_drawn_independently() -> None:
    val = hold_out(of_patients(30, 30), 0.3, 0, "val", "data.val")["split"] == "val"
    test = hold_out(of_patients(30, 30), 0.3, 0, "test", "data.test")["split"] == "test"
    assert (val != test).any()


def test_the_draw_does_not_depend_on_the_order_of_rows() -> None:
    table = of_patients(30, 30, 2)
    shuffled = table.sample(frac=1, random_state=0)
    after = hold_out(shuffled, 0.3, 0, "val", "data.val").sort_index()["split"]
    pd.testing.assert_series_equal(after, hold_out(table, 0.3, 0, "val", "data.val")["split"])


def test_the_draw_does_not_depend_on_where_images_of_unknown_patients_lie() -> None:
    table = of_patients(30, 30).assign(patient_id="")
    table["sha256"] = [f"{row:064x}" for row in np.random.default_rng(0).permutation(60)]
    moved = table.assign(path=[f"/elsewhere/{row}" for row in reversed(range(60))])
    draws = [hold_out(each, 0.3, 0, "val", "data.val")["split"].tolist() for each in (table, moved)]
    assert draws[0] == draws[1]


def test_copies_of_one_film_stay_together() -> None:
    table = of_patients(30, 30, 2).assign(sha256=lambda rows: rows["patient_id"], patient_id="")
    for seed in range(5):
        assert mf.leaks(hold_out(table, 0.5, seed, "val", "data.val")) == []


def test_only_training_images_are_moved() -> None:
    before = of_patients(10, 10, images=2)
    before.loc[::2, "split"] = "test"  # the source's own leak: everyone is in both; setup refuses it afterwards
    after = hold_out(before, 0.5, 0, "val", "data.val")
    assert (after.loc[::2, "split"] == "test").all()
    assert (after["split"] == "val").sum() == 10


@pytest.mark.parametrize(
    ("negative", "positive", "message"),
    [
        pytest.param(1, 9, r"only 1 training patient\(s\) are Negative", id="negative"),
        pytest.param(9, 1, r"only 1 training patient\(s\) are Positive", id="positive"),
        pytest.param(9, 0, r"only 0 training patient\(s\) are Positive", id="none"),
    ],
)
def test_too_few_patients(negative: int, positive: int, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        hold_out(of_patients(negative, positive, images=5), 0.2, 0, "val", "data.val=0.2")
    assert str(caught.value).startswith("data.val=0.2 cannot draw val images: ")
    assert "give the data set a val folder of its own" in str(caught.value)
