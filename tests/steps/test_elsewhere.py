"""Evaluating on other collections: whole, without what the model knows, and with both results said."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from tests.training import without_pages

from cxrlab.config import compose
from cxrlab.errors import CheckpointError, DataError
from cxrlab.evaluate import evaluate
from cxrlab.train import train

LABELS = "data.source.labels={neg: 0, pos: 1}"
SMALL = ["model=logistic", "data.image_size=32", "trainer=cpu", "trainer.max_epochs=2", "logger=none", "data.val=test"]


def film(seed: int, positive: bool, size: int = 160) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A drawn film with a texture of its own."""
    g = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    image = 90 + 60 * np.exp(-(((x - 0.5) / 0.12) ** 2)) + 40 * y + (25 if positive else 0)
    image += cv2.resize(g.normal(0, 20, (24, 24)), (size, size)) + g.normal(0, 3, (size, size))
    clipped: np.ndarray[Any, np.dtype[np.uint8]] = np.clip(image, 0, 255).astype(np.uint8)
    return clipped


def write(folder: Path, films: dict[str, np.ndarray[Any, Any]]) -> None:
    for name, image in films.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / name), image)


def drawn(first: int, count: int) -> dict[str, np.ndarray[Any, Any]]:
    return {f"{'pos' if n % 2 else 'neg'}/film_{n:03d}.png": film(n, bool(n % 2)) for n in range(first, first + count)}


def run_evaluation(folder: Path, ckpt_path: Path, *typed: str, pages: bool = False) -> dict[str, Any]:
    command = [f"ckpt_path={ckpt_path}", "accelerator=cpu", *typed]
    with nullcontext() if pages else without_pages():
        return evaluate(compose("evaluate", command, folder), command)[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``films/{train,test}`` and ``run``, trained on it: 16 training and 8 test films."""
    root = tmp_path_factory.mktemp("home")
    write(root / "films/train", drawn(0, 16))
    write(root / "films/test", drawn(16, 8))
    typed = [*SMALL, "data=folder", f"data.source.root={root / 'films'}", LABELS, "data.source.name=home"]
    with without_pages():
        train(compose("train", typed, root / "run"), typed)
    return root


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six copies of training films under other names (as they are, re-encoded, resized, cropped), and ten new ones."""
    root = tmp_path_factory.mktemp("away")
    write(root, drawn(100, 10))
    cropped = film(2, positive=False)[8:152, 8:152]
    large = cv2.resize(film(3, positive=True), (320, 320), interpolation=cv2.INTER_CUBIC)
    copies: dict[str, np.ndarray[Any, Any]] = {
        "neg/a.png": film(0, positive=False),
        "pos/b.jpg": film(1, positive=True),
        "neg/c.png": cropped,
    }
    copies |= {"pos/d.jpg": large, "neg/e.jpg": film(4, positive=False), "pos/f.jpg": film(5, positive=True)[4:156, 4:]}
    write(root, copies)
    return root


def of(root: Path, *more: str, name: str = "away") -> list[str]:
    return ["data=folder", f"data.source.root={root}", LABELS, f"data.source.name={name}", *more]


@pytest.mark.slow
def test_another_collection_is_evaluated_whole_but_for_what_is_known(home: Path, away: Path, tmp_path: Path) -> None:
    found = run_evaluation(tmp_path / "e", home / "run", *of(away), pages=True)
    assert found["test"]["n"] == 10
    assert found["evaluation"]["known"] == {"images": 6, "films": 6, "people": 6}
    first = found["warnings"][0]
    assert first.startswith("6 of 16 evaluated images are known to the model: 6 show films")
    assert "They are left out: " in first
    assert " of 10 right" in first.partition("without them")[0]
    assert " of 16 right" in first.partition("without them")[2]
    manifest = pd.read_csv(tmp_path / "e" / "manifest.csv", keep_default_na=False)
    assert (manifest["known"] == "film").sum() == (manifest["split"] == "").sum() == 6
    text = (tmp_path / "e" / "report.md").read_text()
    assert text.splitlines()[0].endswith("trained on home, evaluated on away (ThumbnailLogistic)")
    assert "Fitted on the same 16 training images" in text
    baselines = pd.read_csv(tmp_path / "e" / "baselines.csv")
    assert len(baselines) == 10
    assert {"majority", "corners", "narrow frame"} <= set(baselines)
    assert "| corners | " in text


@pytest.mark.slow
def test_a_split_that_was_asked_for_counts_what_is_known(home: Path, away: Path, tmp_path: Path) -> None:
    found = run_evaluation(tmp_path / "e", home / "run", *of(away), "split=all")
    assert found["test"]["n"] == 16
    assert "They are counted, as split=… was asked for" in found["warnings"][0]
    half = run_evaluation(tmp_path / "h", home / "run", *of(away, "data.test=0.5"))
    assert half["test"]["n"] < 16


@pytest.mark.slow
def test_the_models_own_set_is_its_test_split_by_whichever_name(home: Path, tmp_path: Path) -> None:
    own = run_evaluation(tmp_path / "own", home / "run")
    named = run_evaluation(tmp_path / "named", home / "run", *of(home / "films", name="anything"))
    assert named["test"] == own["test"]
    assert own["test"]["n"] == 8
    assert not [text for text in named["warnings"] if "known to the model" in text]


def test_a_set_that_holds_the_training_images_is_evaluated_without_them(home: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    for split in ("train", "test"):
        shutil.copytree(home / "films" / split, mixed, dirs_exist_ok=True)
    write(mixed, drawn(200, 6))
    write(mixed, {"neg/again.jpg": film(0, positive=False)})
    found = run_evaluation(tmp_path / "e", home / "run", *of(mixed))
    assert found["test"]["n"] == 8 + 6
    assert found["evaluation"]["known"]["images"] == 1
    splits = pd.read_csv(tmp_path / "e" / "manifest.csv", keep_default_na=False)["split"].value_counts()
    assert dict(splits) == {"train": 16, "test": 14, "": 1}


@pytest.mark.slow
def test_a_checkpoint_without_its_run_says_what_was_not_checked(home: Path, away: Path, tmp_path: Path) -> None:
    alone = tmp_path / "models" / "alone.ckpt"
    alone.parent.mkdir()
    shutil.copy(home / "run/checkpoints/model.ckpt", alone)
    other = run_evaluation(tmp_path / "other", alone, *of(away))
    assert other["test"]["n"] == 16
    assert "NOT CHECKED" in other["warnings"][0]
    assert "trained_on=" in other["warnings"][0]
    same = run_evaluation(tmp_path / "same", alone, *of(away, name="home"))
    assert same["test"]["n"] < 16
    assert any(text.startswith("only the test split is evaluated") for text in same["warnings"])
    told = run_evaluation(tmp_path / "told", alone, *of(away, name="home"), f"trained_on={home / 'run'}")
    assert told["test"]["n"] == 10
    with pytest.raises(CheckpointError, match=r"trained_on=.*was trained with other images"):
        run_evaluation(tmp_path / "wrong", alone, *of(away), f"trained_on={tmp_path / 'other'}")


def test_a_manifest_of_another_training_is_not_taken(home: Path, away: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(home / "run/checkpoints/model.ckpt", folder / "checkpoints")
    other = pd.read_csv(home / "run/manifest.csv", keep_default_na=False).iloc[1:]
    other.to_csv(folder / "manifest.csv", index=False)
    found = run_evaluation(tmp_path / "e", folder / "checkpoints/model.ckpt", *of(away))
    assert "NOT CHECKED" in found["warnings"][0]


def test_a_set_that_is_all_known_is_refused(home: Path, tmp_path: Path) -> None:
    write(tmp_path / "copies", {"neg/x.jpg": film(0, positive=False), "pos/y.jpg": film(1, positive=True)})
    with pytest.raises(DataError, match=r"all 2 images are films or patients .* split=all"):
        run_evaluation(tmp_path / "e", home / "run", *of(tmp_path / "copies"))
