"""Classifiers without a lung: against scikit-learn, against brute force, and on images whose cue is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from cxrlab.datamodules.sources.phantom import plant_shortcut
from cxrlab.evaluation import lung_free
from cxrlab.evaluation.baselines import strip_threshold


def header(n: int) -> dict[str, np.ndarray]:
    return {
        "format": np.array(["PNG", "JPEG"] * n)[:n],
        "mode": np.full(n, "grey"),
        "width": np.arange(n) + 200,
        "height": np.full(n, 100),
        "bits": np.full(n, 8),
        "bytes": np.arange(n) + 1000,
        "jpeg_quality": np.array([0, 75] * n)[:n],
    }


def films(n: int, seed: int = 0) -> np.ndarray:
    """Grey images (n, 256, 256) of any brightness and contrast, brighter downwards, with noise."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 1, 256)[None, :, None] * rng.uniform(60, 90, (n, 1, 1))
    grey = 60 + rng.normal(0, 12, (n, 1, 1)) + slope + rng.normal(0, 3, (n, 256, 256))
    return grey.clip(0, 255).astype(np.uint8)


def test_every_input_has_numbers_of_every_image() -> None:
    found = lung_free.features(films(3), header(3))
    assert list(found) == list(lung_free.INPUTS)
    columns = {name: numbers.shape[1] for name, numbers in found.items()}
    assert columns == {
        "size": 4, "header": 9, "bytes": 2, "corners": 4, "strip": 4, "border": 7,
        "frame": 1024, "wide_frame": 1024, "grey": 7, "thumbnail": 64,
    }  # fmt: skip
    assert all(numbers.shape[0] == 3 and numbers.dtype == np.float64 for numbers in found.values())
    assert found["size"][1].tolist() == [201, 100, 2.01, 1 / 3]
    assert found["bytes"][1].tolist() == pytest.approx([1001, 8 * 1001 / 20100])


def test_what_is_called_lung_free_does_not_see_the_middle() -> None:
    before, after = films(2), films(2)
    after[:, 12:-12, 12:-12] = 255 - after[:, 12:-12, 12:-12]
    after[:, :24, :24], after[:, :24, -24:] = before[:, :24, :24], before[:, :24, -24:]
    after[:, -24:, :24], after[:, -24:, -24:] = before[:, -24:, :24], before[:, -24:, -24:]
    first, second = (lung_free.features(grey, header(2)) for grey in (before, after))
    for name, what in lung_free.INPUTS.items():
        same = np.array_equal(first[name], second[name])
        assert same == (what.lung_free or name == "bytes"), name  # bytes are a fact of the file here


def test_numbers_by_hand() -> None:
    grey = np.zeros((1, 256, 256), np.uint8)
    grey[0, :, :12] = 100
    found = lung_free.features(grey, header(1))
    assert found["strip"][0].tolist() == pytest.approx([100, 0, 100 * 12 / 256, 100 * 12 / 256])
    assert found["corners"][0].tolist() == [50, 0, 50, 0]
    assert found["grey"][0].tolist() == pytest.approx(
        [100 * 12 / 256, 100 * np.sqrt(12 / 256 * 244 / 256), 0, 0, 0, 244 / 256, 0]
    )
    assert found["frame"].reshape(32, 32)[5].tolist() == [100, 50, *[0] * 30]


def test_commonness() -> None:
    found = lung_free.commonness(np.array([5.0, 5.0, 5.0, 7.0]), np.array([5.0, 5.0, 6.0, 5.0]))
    assert found.tolist() == [0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("columns", [3, 90])
def test_regressions_end_where_scikit_learn_ends(columns: int) -> None:
    rng = np.random.default_rng(columns)
    numbers = rng.normal(5, 3, (60, columns)) * rng.uniform(0.1, 10, columns)
    labels = np.column_stack([numbers[:, 0] > 5, rng.random(60) < 0.3, rng.random(60) < 0.5])
    found = lung_free.scored(numbers[:40], labels[:40], numbers[40:])
    scaler = StandardScaler().fit(numbers[:40])
    for column, own in enumerate(labels.T):
        model = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(numbers[:40]), own[:40])
        expected = model.predict_proba(scaler.transform(numbers[40:]))[:, 1]
        assert found[:, column] == pytest.approx(expected, abs=0.001)


def test_columns_that_do_not_vary_say_nothing() -> None:
    labels = np.array([[0, 0, 1, 0]], bool).T
    assert lung_free.scored(np.full((4, 2), 7.0), labels, np.array([[7.0, 9.0]])).tolist() == [[0.25]]
    assert lung_free.scored(np.full((4, 2), 7.0), labels, np.array([[7.0, 9.0]]), strip=True).tolist() == [[0.5]]


def test_best_columns_against_every_threshold() -> None:
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 12, (30, 3)).astype(float)
    labels = rng.random((30, 40)) < 0.4
    columns, thresholds, brighter = lung_free.best_columns(levels, labels)
    for draw, y in enumerate(labels.T):
        single = [strip_threshold(column, y) for column in levels.T]
        right = [
            int(((column >= threshold) == (y == up)).sum())
            for column, (threshold, up) in zip(levels.T, single, strict=True)
        ]
        assert columns[draw] == int(np.argmax(right))
        assert (thresholds[draw], brighter[draw]) == single[columns[draw]]


def test_a_strip_is_a_line_on_either_side_of_its_threshold() -> None:
    train = np.array([[9.0, 20.0], [9.0, 40.0], [9.0, 80.0], [9.0, 100.0]])
    labels = np.array([[1, 1, 0, 0]], bool).T
    found = lung_free.scored(train, labels, np.array([[0.0, 0.0], [0.0, 60.0], [0.0, 255.0]]), strip=True)
    assert found[:, 0].tolist() == [1, 0.5, 0]


def test_cross_validation_finds_what_is_there_and_nothing_in_its_control() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(120) % 2
    numbers = np.column_stack([labels + rng.normal(0, 0.7, 120), rng.normal(0, 1, (120, 3))])
    folds = np.stack([rng.permutation(np.arange(120) // 2 % 5) for _ in range(2)])
    control = lung_free.dealt_labels(labels, np.arange(120), 200, 0)
    auroc, scores, permuted = lung_free.cross_validated(numbers, labels, folds, control=control)
    by_fold = [
        roc_auc_score(labels[fold == k], own[fold == k])
        for fold, own in zip(folds, scores, strict=True)
        for k in range(5)
    ]
    assert auroc == pytest.approx(np.mean(by_fold), abs=0.02)  # folds weigh by their pairs
    assert 0.75 < auroc < 0.92
    assert permuted.shape == (200,)
    assert permuted.mean() == pytest.approx(0.5, abs=0.02)
    assert lung_free.control_p(auroc, permuted) == 1 / 201
    estimate = lung_free.cross_validated_interval(labels, scores, folds, np.arange(120))
    assert estimate["value"] == pytest.approx(auroc)
    assert estimate["low"] < auroc < estimate["high"]
    assert "patient bootstrap" in estimate["method"]


def test_the_control_column_is_the_same_pipeline() -> None:
    rng = np.random.default_rng(2)
    numbers, labels, other = rng.normal(size=(50, 4)), np.arange(50) % 2, rng.permutation(np.arange(50) % 2)
    folds = np.arange(50) // 2 % 5
    _, _, permuted = lung_free.cross_validated(numbers, labels, folds, control=other[:, None].astype(bool))
    auroc, _, _ = lung_free.cross_validated(numbers, other, folds)
    assert permuted[0] == pytest.approx(auroc)


def test_a_model_has_not_seen_what_it_scores() -> None:
    rng = np.random.default_rng(3)
    numbers, labels, folds = rng.normal(size=(40, 5)), np.arange(40) % 2, np.arange(40) // 2 % 5
    _, before, _ = lung_free.cross_validated(numbers, labels, folds)
    flipped = np.where(folds == 2, 1 - labels, labels)
    _, after, _ = lung_free.cross_validated(numbers, flipped, folds)
    assert (before[:, folds == 2] == after[:, folds == 2]).all()
    assert not (before[:, folds != 2] == after[:, folds != 2]).any()


def test_a_perfect_score_has_an_interval() -> None:
    labels = np.arange(40) % 2
    estimate = lung_free.cross_validated_interval(
        labels, labels[None].astype(np.float64), np.arange(40) // 2 % 5, np.arange(40) // 4
    )
    assert (estimate["value"], estimate["high"]) == (1, 1)
    assert 0.5 < estimate["low"] < 0.95
    assert estimate["method"].startswith("Newcombe score 95 % (10 positive, 10 negative patients")


def test_dealing_keeps_patients_whole() -> None:
    patients = np.array(["a", "b", "b", "c", "c", "c", "d", "e", "e"])
    labels = np.array([1, 0, 0, 1, 1, 1, 0, 1, 1])
    dealt = lung_free.dealt_labels(labels, patients, 300, 0)
    for patient in "abcde":
        own = dealt[patients == patient]
        assert (own == own[0]).all()
        assert own[0].mean() == pytest.approx(0.6, abs=0.1)  # three of five patients
    firsts = dealt[[0, 1, 3, 6, 7]]
    assert (firsts.sum(axis=0) == 3).all()
    assert (dealt == lung_free.dealt_labels(labels, patients, 300, 0)).all()
    assert (dealt != lung_free.dealt_labels(labels, patients, 300, 1)).any()


def test_a_patient_with_both_labels_passes_both_on() -> None:
    dealt = lung_free.dealt_labels([0, 1, 0, 0], ["a", "a", "b", "b"], 50, 0)
    assert {tuple(column) for column in dealt.T.tolist()} == {(False, True, False, False), (False, False, False, True)}


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("marker", "a mark in the top left corner"),
        ("border", "a bright frame"),
        ("brightness", "overall brightness (lighter images)"),
    ],
)
def test_cues_are_named(kind: str, words: str) -> None:
    labels = np.arange(30) % 2
    grey = np.stack([plant_shortcut(image, kind) if y else image for image, y in zip(films(30), labels, strict=True)])
    ranked = lung_free.rank_cues(lung_free.edge_cues(grey), labels)
    assert ranked[0][0] == words
    assert ranked[0][1] > 0.9


def test_a_darker_left_edge_is_named() -> None:
    labels = np.arange(30) % 2
    grey = films(30)
    grey[labels == 1, :, :12] = 20
    name, auroc = lung_free.rank_cues(lung_free.edge_cues(grey), labels)[0]
    assert (name, auroc) == ("a left edge darker than the others", 1.0)


def test_header_cues_are_named() -> None:
    facts = header(12) | {"width": np.array([100, 300] * 6), "height": np.array([100, 150] * 6)}
    facts["width"][1] = 301
    ranked = dict(lung_free.rank_cues(lung_free.header_cues(facts), np.arange(12) % 2))
    assert ranked["larger images"] == ranked["wider images"] == ranked["file format JPEG"] == 1
    assert ranked["another size than 100 x 100"] == 1
    assert "a higher JPEG quality" not in ranked  # half of them have none


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"grey must be uint8 of shape \(n, 256, 256\), got float64"):
        lung_free.features(np.zeros((2, 256, 256)), header(2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="facts must hold bytes of each of the 2 images"):
        lung_free.features(films(2), {name: fact for name, fact in header(2).items() if name != "bytes"})
    with pytest.raises(ValueError, match="draws must be a whole number"):
        lung_free.dealt_labels([0, 1], ["a", "b"], 0, 0)
