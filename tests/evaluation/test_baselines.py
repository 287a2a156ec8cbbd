"""Baselines against hand-made images, against scikit-learn, and on the paper's own set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxrlab.datamodules import PaperSource
from cxrlab.datamodules.pixels import read_all
from cxrlab.datamodules.preprocessing import Preprocessing
from cxrlab.evaluation.baselines import DESCRIPTIONS, trivial_scores
from cxrlab.evaluation.cross_validation import best_columns

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def strips(*levels: int) -> np.ndarray:
    """Grey images 20 wide, whose left column has these grey levels; all else is the same in each."""
    images = np.full((len(levels), 10, 20, 1), 100, dtype=np.uint8)
    images[:, :, 0, 0] = np.array(levels)[:, None]
    return images


def noise(n: int, seed: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Images whose lower half is somewhat brighter in positives."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    pixels = rng.normal(110, 40, (n, 40, 48, channels)) + 8 * labels[:, None, None, None]
    return pixels.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def paper(paper_root: Path) -> Arrays:
    table = PaperSource(str(paper_root)).manifest()
    images = read_all(table["path"].tolist(), Preprocessing.create(224, 3)).images
    labels, test = table["label"].to_numpy(), (table["split"] == "test").to_numpy()
    return images[~test], labels[~test], images[test], labels[test]


@pytest.mark.slow
def test_the_papers_test_images_need_no_network(paper: Arrays) -> None:
    train_images, train_labels, test_images, labels = paper
    found = trivial_scores(train_images, train_labels, test_images)
    right = {name: int(((scores >= 0.5) == labels).sum()) for name, scores in found.items()}
    assert right == {"majority": 20, "left_strip": 40, "thumbnail_8x8": 39}
    assert roc_auc_score(labels, found["left_strip"]) == 1.0
    assert roc_auc_score(labels, found["thumbnail_8x8"]) > 0.99


@pytest.mark.slow
def test_the_papers_threshold(paper: Arrays) -> None:
    """120 of 148 training images right at a mean grey level of 74 in the left 11 of 224 columns."""
    train_images, labels, _, _ = paper
    levels = np.array([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :11].mean() for image in train_images])
    _, (threshold,), (brighter,) = best_columns(levels[:, None], labels[:, None])
    assert brighter
    assert threshold == pytest.approx(74.02, abs=0.01)
    assert ((levels >= threshold) == labels).sum() == 120


def test_every_baseline_is_described_and_scores_every_image() -> None:
    images, labels = noise(20, 0)
    found = trivial_scores(images, labels, images[:7])
    assert list(found) == list(DESCRIPTIONS) == ["majority", "left_strip", "thumbnail_8x8"]
    for scores in found.values():
        assert scores.shape == (7,)
        assert scores.dtype == np.float64
        assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize(("labels", "share"), [([0, 0, 1], 1 / 3), ([0, 1, 1, 1], 0.75), ([0, 1], 0.5)])
def test_majority_which_equal_strips_say_too(labels: list[int], share: float) -> None:
    images = strips(*range(len(labels)))
    assert trivial_scores(images, labels, images[:1])["majority"].tolist() == pytest.approx([share])
    alike = strips(*[7] * len(labels))
    assert trivial_scores(alike, labels, images[:1])["left_strip"].tolist() == pytest.approx([share])


@pytest.mark.parametrize("brighter", [1, 0])
def test_left_strip_is_a_line_on_either_side_of_the_midpoint(brighter: int) -> None:
    labels = [1 - brighter, 1 - brighter, brighter, brighter]
    found = trivial_scores(strips(20, 40, 80, 100), labels, strips(0, 30, 59, 60, 61, 255))["left_strip"]
    expected = np.array([0, 0.25, 59 / 120, 0.5, 0.5 + 0.5 / 195, 1])
    assert found.tolist() == pytest.approx(expected if brighter else 1 - expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnail_against_scikit_learn(channels: int) -> None:
    images, labels = noise(60, 1, channels)
    grey = images @ np.array([0.299, 0.587, 0.114]) if channels == 3 else images[..., 0].astype(float)
    blocks = np.rint(np.rint(grey).reshape(60, 8, 5, 8, 6).mean(axis=(2, 4))).reshape(60, 64)
    train, test = blocks[:40], blocks[40:]
    mean, std = train.mean(axis=0), train.std(axis=0)
    model = LogisticRegression(C=0.1).fit((train - mean) / std, labels[:40])
    expected = model.predict_proba((test - mean) / std)[:, 1]
    found = trivial_scores(images[:40], labels[:40], images[40:])["thumbnail_8x8"]
    # Half a grey level is rounded otherwise here and there: the spread of the scores is a hundred times as large.
    assert found == pytest.approx(expected, abs=0.02)
    assert np.ptp(found) > 0.3
    assert roc_auc_score(labels[40:], found) > 0.8


def test_the_test_images_choose_nothing() -> None:
    images, labels = noise(40, 2)
    together = trivial_scores(images[:30], labels[:30], images[30:])
    alone = trivial_scores(images[:30], labels[:30], images[30:31])
    for name, scores in alone.items():
        assert scores[0] == pytest.approx(together[name][0], abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 1, 1], r"train_labels must hold both classes, 0 and 1, got only 1 \(3 images\)"),
        ([0, 0, 0], "got only 0"),
        ([0, 1, 2], r"train_labels must be 0 \(Negative\) or 1 \(Positive\), got 2"),
        ([0, 1], r"one label per image, got shape \(2,\) for 3 images"),
    ],
)
def test_wrong_labels_are_named(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trivial_scores(strips(1, 2, 3), labels, strips(1))


@pytest.mark.parametrize("wrong", [strips(1)[..., 0], strips(1) / 255, strips(1)[:0], np.zeros((1, 4, 4, 2), np.uint8)])
def test_wrong_images_are_named(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="train_images must be uint8 of shape"):
        trivial_scores(wrong, [0], strips(1))
    with pytest.raises(ValueError, match="test_images must be uint8 of shape"):
        trivial_scores(strips(1, 2), [0, 1], wrong)
