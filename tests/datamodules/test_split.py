"""Drawing splits by patient: datamodules/split.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp

from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.split import assign_folds, hold_out, hold_out_fold
from cxrlab.errors import DataError

Ints = np.ndarray[Any, np.dtype[np.int64]]


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


def test_a_draw_belongs_to_the_seed_and_the_split_and_not_to_the_order_of_rows() -> None:
    table = of_patients(30, 30, 2)

    def draw(rows: pd.DataFrame, seed: int = 0, into: str = "val") -> list[bool]:
        return (hold_out(rows, 0.3, seed, into, "data.val").sort_index()["split"] == into).tolist()

    assert draw(table.sample(frac=1, random_state=0)) == draw(table)
    assert (table["split"] == "train").all()  # the argument is not changed
    assert draw(table) != draw(table, seed=1)
    assert draw(table) != draw(table, into="test")
    # Images of unknown patients are known by their bytes, wherever they lie.
    unknown = of_patients(30, 30).assign(patient_id="")
    unknown["sha256"] = [f"{row:064x}" for row in np.random.default_rng(0).permutation(60)]
    assert draw(unknown.assign(path=[f"/elsewhere/{row}" for row in reversed(range(60))])) == draw(unknown)
    for fraction, expected in ((0.001, 1), (0.999, 9)):  # neither side is left empty
        held = hold_out(of_patients(10, 10), fraction, 0, "val", "data.val")["split"] == "val"
        assert held.sum() == 2 * expected


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


@pytest.mark.parametrize(("negative", "positive"), [(1, 9), (9, 1), (9, 0)])
def test_too_few_patients(negative: int, positive: int) -> None:
    lacking = f"only {min(negative, positive)} training patient(s) are {'Negative' if negative < 9 else 'Positive'}"
    with pytest.raises(DataError) as caught:
        hold_out(of_patients(negative, positive, images=5), 0.2, 0, "val", "data.val=0.2")
    assert str(caught.value).startswith(f"data.val=0.2 cannot draw val images: {lacking}, and val and train need one")
    assert "give the data set a val folder of its own" in str(caught.value)


def drawn_films(generator: np.random.Generator) -> tuple[Ints, int]:
    """Images per person and label, shape (people, 2), and a number of folds: even and lumpy, rare and common labels."""
    folds = int(generator.integers(2, 11) if generator.random() < 0.9 else generator.integers(11, 21))
    people = folds + int(generator.integers(0, generator.choice([3, 30, 100])))
    heaviness = generator.choice([0.0, 0.3, 0.7, 1.0])
    films = np.minimum((1 - generator.random(people)) ** -heaviness, 60).astype(np.int64)
    films += generator.choice([0, 0, 0, 1, 4])  # at times nobody has a single image to even out with
    positive = films * (generator.random(people) < generator.choice([0.1, 0.3, 0.5]))
    both = generator.random(people) < generator.choice([0.0, 0.1, 1.0])
    positive = np.where(both, generator.binomial(films, generator.choice([0.1, 0.5])), positive)
    return np.stack([films - positive, positive], axis=1), folds


def as_images(films: Ints) -> tuple[Ints, Ints]:
    """The label and the person of each image."""
    labels = np.tile([0, 1], len(films)).repeat(films.ravel())
    return labels, np.arange(len(films)).repeat(films.sum(1))


def deviation(films: Ints, fold: Ints, folds: int) -> int:
    """The largest |images of a label in a fold - the label's images / folds|, in units of 1/folds images."""
    counts = np.array([films[fold == number].sum(0) for number in range(folds)])
    return int(np.abs(counts * folds - films.sum(0)).max())


def least_deviation(films: Ints, folds: int) -> int:
    """No spread has a smaller deviation: from the remainder, and from the largest people (some must share a fold)."""
    bounds = [0]
    for sizes in np.sort(films, axis=0)[::-1].T:
        images, step = int(sizes.sum()), int(np.gcd.reduce(sizes))
        over = images // step % folds
        bounds.append(step * max(over, folds - over) if over else 0)
        for sharing in range(1, (len(sizes) - 1) // folds + 2):
            first = sizes[: (sharing - 1) * folds + 1]
            bounds.append(folds * int(first[-sharing:].sum()) - images)
    return max(bounds)


def can_deviate_less(films: Ints, folds: int, than: int) -> bool:
    """Whether some spread has a deviation below ``than``, in units of 1/folds images; solved exactly."""
    alike, count = np.unique(films, axis=0, return_counts=True)
    each_once = np.kron(np.eye(len(alike)), np.ones(folds))
    held = np.vstack([np.kron(alike[:, label], np.eye(folds)) * folds for label in (0, 1)])
    images = np.repeat(films.sum(0), folds)
    limits = LinearConstraint(
        np.vstack([each_once, held]),
        np.concatenate([count, images - than + 1]),
        np.concatenate([count, images + than - 1]),
    )
    size = len(alike) * folds
    found = milp(
        np.zeros(size),
        constraints=limits,
        bounds=Bounds(0, np.repeat(count, folds)),
        integrality=np.ones(size),
        options={"time_limit": 60},
    )
    assert found.status in (0, 2), found.message
    return bool(found.status == 0)


def is_within_one_image(films: Ints, fold: Ints, folds: int) -> bool:
    found = deviation(films, fold, folds)
    return found <= least_deviation(films, folds) + folds or not can_deviate_less(films, folds, found - folds)


@pytest.mark.parametrize("tried", [60, pytest.param(400, marks=pytest.mark.slow)])
def test_folds_keep_people_together_and_are_within_one_image_of_the_best_possible(tried: int) -> None:
    generator = np.random.default_rng(0)
    settings = unstratified = 0
    while settings < tried:
        films, folds = drawn_films(generator)
        if ((films > 0).sum(0) < folds).any():
            continue  # refused, see below
        settings += 1
        labels, people = as_images(films)
        drawn = assign_folds(labels, people, folds, settings)
        fold = drawn[np.unique(people, return_index=True)[1]]
        np.testing.assert_array_equal(fold[people], drawn)  # nobody in two folds, and each image in one
        assert set(drawn) <= set(range(folds))
        assert is_within_one_image(films, fold, folds), (settings, folds, films.tolist())
        # What the bound is worth: people dealt out by their number of images alone often break it.
        by_size = np.empty(len(films), np.int64)
        by_size[np.argsort(-films.sum(1), kind="stable")] = np.arange(len(films)) % folds
        if settings <= 60:
            unstratified += deviation(films, by_size, folds) > deviation(films, fold, folds) + folds
    assert unstratified > 15


def test_one_giant_does_not_make_the_other_folds_uneven() -> None:
    films = np.array([[50, 0], *[[1, 0]] * 20, *[[0, 1]] * 25])
    labels, people = as_images(films)
    drawn = assign_folds(labels, people, 5, 0)
    assert sorted(np.bincount(drawn[labels == 0])) == [5, 5, 5, 5, 50]
    assert np.bincount(drawn[labels == 1]).tolist() == [5] * 5


def test_folds_are_a_draw_of_the_seed_in_any_order_of_rows() -> None:
    table = of_patients(33, 22, 2)

    def test_images(manifest: pd.DataFrame, seed: int) -> list[set[str]]:
        drawn = [hold_out_fold(manifest, fold, 5, seed) for fold in range(5)]
        return [set(each["path"][each["split"] == "test"]) for each in drawn]

    expected = test_images(table, 0)
    assert test_images(table.sample(frac=1, random_state=0), 0) == expected
    assert test_images(table.assign(split="test"), 0) == expected
    assert test_images(table, 1) != expected
    assert set.union(*expected) == set(table["path"])
    assert sum(map(len, expected)) == len(table)


def test_as_many_folds_as_people_of_a_label() -> None:
    table = of_patients(4, 9)
    for fold in range(4):
        after = hold_out_fold(table, fold, 4, 0)
        assert after["label"][after["split"] == "test"].tolist().count(0) == 1
    assert (table["split"] == "train").all()


def test_more_folds_than_people_of_a_label() -> None:
    for positive, message in (
        (4, r"^data\.folds=5 is too many: only 4 patient\(s\) have a Positive .*; type data\.folds=4 or fewer"),
        (1, r"only 1 patient\(s\) have a Positive image, .*; leave data\.folds and data\.fold out, or add images"),
    ):
        with pytest.raises(DataError, match=message):
            hold_out_fold(of_patients(9, positive, images=8), 0, 5, 0)
