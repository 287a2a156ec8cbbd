"""The matrix: from what is typed to the page, on drawn sets; matrix.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tests import programs
from tests.training import without_pages

from cxrlab.config import compose
from cxrlab.errors import ConfigError, DataError
from cxrlab.matrix import matrix
from cxrlab.reports.matrix_page import Matrix
from cxrlab.steps import results

SMALL = "data=synthetic data.source.n_train=40 data.source.n_test=16 data.source.size=64"
SETS = f"sets={{a: '{SMALL} data.source.shortcut=marker', b: '{SMALL} data.source.seed=1'}}"
RECIPE = "recipe='model=logistic trainer.max_epochs=2 data.image_size=32 logger=none trainer.accelerator=cpu'"
QUICK = [SETS, RECIPE, "resamples=100", "accelerator=cpu"]


Done = tuple[Path, Path, dict[str, Any]]
"""The folder of a matrix, what it keeps, and its numbers."""


def made(folder: Path, runs: Path, *typed: str) -> tuple[Matrix, dict[str, Any]]:
    typed = (*typed, f"runs={runs}")
    with without_pages():  # of its trainings: the matrix has its own
        found, _ = matrix(compose("matrix", typed, folder), typed)
    return found, json.loads((folder / "matrix.json").read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Two drawn hospitals, the first with a marker in a corner of its positives; page, kept trainings, and numbers."""
    folder, runs = tmp_path_factory.mktemp("matrix"), tmp_path_factory.mktemp("runs")
    return folder, runs, made(folder, runs, "train=[a,b]", "seeds=[0,1]", *QUICK)[1]


def cell_of(found: dict[str, Any], row: str, column: str) -> dict[str, Any]:
    return next(cell for cell in found["cells"] if (cell["row"], cell["column"]) == (row, column))


@pytest.mark.slow
def test_a_matrix_leaves_page_figures_and_numbers(done: Done) -> None:
    folder, _, found = done
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {f"matrix.{end}" for end in ("md", "html", "json", "csv")} | {
        f"figures/{name}.png" for name in ("matrix", "drop")
    }
    text = (folder / "matrix.md").read_text()
    assert text.startswith("# SYNTHETIC: ")
    assert "phantom, disease" in text
    assert "src/matrix.py" not in text.split("## How to repeat it")[0]
    assert len(pd.read_csv(folder / "matrix.csv")) == len(found["cells"]) == 4
    assert [cell["internal"] for cell in found["cells"]] == [True, False, False, True]
    assert found["synthetic"]
    assert found["failures"] == []


@pytest.mark.slow
def test_the_diagonal_is_the_run_s_own_test_split(done: Done) -> None:
    _, runs, found = done
    own = cell_of(found, "a", "a")
    assert (own["numbers"]["n"], own["shared"]["images"], own["shared"]["removed"]) == (16, 56, 40)
    files = [pd.read_csv(run / "predictions.csv").query("split == 'test'") for run in sorted(runs.glob("a-seed*"))]
    seeds = [roc_auc_score(each["label"], each["score"]) for each in files]
    assert own["numbers"]["auroc"]["seeds"] == pytest.approx(seeds)
    assert own["numbers"]["auroc"]["value"] == pytest.approx(np.mean(seeds))
    other = cell_of(found, "a", "b")  # other phantoms share nobody
    assert (other["shared"]["removed"], other["shared"]["patients"], other["numbers"]["n"]) == (0, 0, 56)
    assert other["shared"]["checked"]


@pytest.mark.slow
def test_the_shortcut_of_a_set_is_found_without_a_lung_inside_and_not_elsewhere(done: Done) -> None:
    inside, outside = (cell_of(done[2], "a", column) for column in "ab")
    assert inside["best"] == outside["best"] == "corners"  # chosen on training images: the same in both
    assert inside["lung_free"]["corners"]["auroc"]["value"] > 0.9
    assert outside["lung_free"]["corners"]["auroc"]["value"] < 0.75
    assert inside["lung_free"]["corners"]["training"] > 0.9
    assert not inside["lung_free"]["8x8 thumbnail"]["lung_free"]


@pytest.mark.slow
def test_drops_and_pairs_are_those_of_the_cells(done: Done) -> None:
    found = done[2]
    values = {(cell["row"], cell["column"]): cell["numbers"]["auroc"]["value"] for cell in found["cells"]}
    drops = {(each["row"], each["external"]): each["drop"]["value"] for each in found["drops"]}
    assert drops == {
        ("a", "b"): pytest.approx(values["a", "a"] - values["a", "b"]),
        ("b", "a"): pytest.approx(values["b", "b"] - values["b", "a"]),
    }
    assert [(each["own"], each["other"], each["n"]) for each in found["pairs"]] == [("a", "b", 16), ("b", "a", 16)]


@pytest.mark.slow
def test_a_second_matrix_trains_nothing_and_reads_no_image(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing is left to be read or trained")

    _, runs, first = done
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    for module in ("cache", "films"):
        monkeypatch.setattr(f"cxrlab.datamodules.{module}.read_image", refuse)
    monkeypatch.setattr("cxrlab.train.train", refuse)
    _, again = made(tmp_path, runs, "train=[a,b]", "seeds=[0,1]", *QUICK)
    assert again["cells"] == first["cells"]
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_run_folder_is_a_row_and_knows_its_own_place(done: Done, tmp_path: Path) -> None:
    _, runs, first = done
    mine = sorted(map(str, runs.glob("a-seed*")))
    _, found = made(tmp_path, runs, "train=[mine]", "test=[a,b]", f"models={{mine: {mine}}}".replace("'", ""), *QUICK)
    for column, internal in (("a", True), ("b", False)):
        cell = cell_of(found, "mine", column)
        assert cell["internal"] is internal
        assert cell["numbers"] == cell_of(first, "a", column)["numbers"]
    assert found["rows"][0]["images"] == 40


@pytest.mark.slow
def test_a_checkpoint_alone_is_tested_and_says_what_was_not_checked(done: Done, tmp_path: Path) -> None:
    alone = tmp_path / "alone.ckpt"
    shutil.copy(next(done[1].glob("a-seed0-*")) / "checkpoints/model.ckpt", alone)
    _, found = made(tmp_path, tmp_path / "runs", f"train=[{alone}]", "test=[a]", *QUICK)
    (cell,) = found["cells"]
    assert cell["numbers"]["n"] == 56
    assert not cell["shared"]["checked"]
    assert cell["lung_free"] == {}
    assert found["synthetic"]
    assert "NOT CHECKED | NOT CHECKED | NOT CHECKED | 56 |" in (tmp_path / "matrix.md").read_text()
    assert "manifest.csv of its run is not there" in found["notes"][0]


@pytest.mark.slow
def test_a_failure_costs_one_row_and_a_killed_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"

    def fails_for_a(module: Any, datamodule: Any, *rest: Any) -> Any:
        if datamodule.source.shortcut == "marker":
            raise RuntimeError("out of memory")
        return real(module, datamodule, *rest)

    real = results.score
    with monkeypatch.context() as patch:
        patch.setattr(results, "score", fails_for_a)
        found, _ = made(tmp_path / "one", runs, "train=[a,b]", "test=[b]", "seeds=[0]", *QUICK)
    assert found.failures == ["a seed 0: out of memory"]
    assert [(cell.row, cell.column) for cell in found.cells] == [("b", "b")]
    assert "not there: a seed 0: out of memory" in (tmp_path / "one/matrix.md").read_text()
    (run,) = runs.glob("a-seed0-*")
    assert not (run / "metrics.json").exists()
    history = (run / "metrics.csv").read_text()

    found, _ = made(tmp_path / "two", runs, "train=[a,b]", "test=[b]", "seeds=[0]", *QUICK)
    assert found.failures == []
    assert (run / "metrics.json").exists()
    assert (run / "metrics.csv").read_text() == history  # no epoch was trained again
    said = capsys.readouterr().out
    assert "went on  a seed 0" in said
    assert "found    b seed 0" in said


@pytest.mark.slow
def test_shared_people_and_films_are_removed_and_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()

    def draw(name: str, label: int) -> np.ndarray[Any, Any]:
        """Blots of its own, so that a film can be known again; positives are brighter."""
        coarse = rng.normal(150 if label else 80, 60, (24, 24)).clip(0, 255).astype(np.uint8)
        pixels = cv2.resize(coarse, (192, 192), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(images / name), pixels)
        return pixels

    first = [(f"x{k}.png", k % 2, f"p{k}", "train" if k < 20 else "val" if k < 26 else "test") for k in range(36)]
    pixels = {name: draw(name, label) for name, label, _, _ in first}
    second = [(f"y{k}.png", k % 2, f"q{k}", "") for k in range(20)]
    for name, label, _, _ in second:
        draw(name, label)
    # Another copy of a training film, whose patient q0 has y0.png as well; a patient of training, one of validation.
    assert cv2.imwrite(str(images / "copy.jpg"), pixels["x1.png"], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert cv2.imwrite(str(images / "test.jpg"), pixels["x27.png"], [cv2.IMWRITE_JPEG_QUALITY, 90])
    draw("other.png", 1)
    second += [("copy.jpg", 1, "q0", ""), ("x3.png", 1, "", ""), ("test.jpg", 1, "", ""), ("other.png", 1, "p21", "")]
    for name, rows in (("x", first), ("y", second)):
        table = pd.DataFrame(rows, columns=["path", "label", "patient_id", "split"])
        table.assign(source=name, finding="", view="").to_csv(images / f"{name}.csv", index=False)
    listed = {name: f"data=manifest data.source.path={images}/{name}.csv" for name in "xy"}
    sets = f"sets={{x: '{listed['x']}', y: '{listed['y']}'}}"
    _, found = made(tmp_path / "out", tmp_path / "runs", "train=[x]", "test=[x,y]", "seeds=[0]", sets, *QUICK[1:])
    there = cell_of(found, "x", "y")
    # Removed are copy.jpg and x3.png (films), y0.png (the patient of the copy), other.png (patient p21).
    counts = {"images": 24, "films": 2, "patients": 3, "removed": 4, "unread": 0}
    assert there["shared"] == {**counts, "checked": True}
    assert there["numbers"]["n"] == 20
    own = cell_of(found, "x", "x")
    assert (own["shared"]["removed"], own["numbers"]["n"]) == (26, 10)
    assert not found["synthetic"]
    assert "| x | y | 24 | 2 | 3 | 4 | 20 |" in (tmp_path / "out/matrix.md").read_text()


def test_what_is_wrong_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)^a: .*model.*did you mean"):
        made(tmp_path, tmp_path / "runs", "train=[a]", SETS, "recipe='model=logistic +model.sizes=3'")
    with pytest.raises(DataError, match=r"(?s)^paper: .*cxrlab-download data=paper"):
        made(tmp_path, tmp_path / "runs", "train=[paper]", "sets={paper: 'data=paper data.source.root=x'}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_command_ends_with_the_table(done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, errors = programs.run("matrix", "train=[a,b]", "seeds=[0,1]", *QUICK, f"runs={done[1]}")
    assert (status, errors) == (0, "")
    assert printed.count("found    ") == 4
    assert "scored" not in printed
    assert "SYNTHETIC" in printed
    page = tmp_path / printed.splitlines()[-1].split(maxsplit=1)[1]
    assert page.name == "matrix.html"
    assert "src/matrix.py 'train=[a,b]'" in json.loads(page.with_suffix(".json").read_text())["command"]
