"""The notebooks run, and what is stored in them is fit to be published: executed in order, and no patient's image."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = ("01_reproduce_the_paper", "02_compare_runs", "03_your_own_data", "python_api")
REPRODUCE, COMPARE, OWN_DATA, API = NAMES
TINY_PHANTOMS = ["trainer=cpu", "data.source.n_train=40", "data.source.n_test=16", "data.source.size=64"]

Cell = Any  # nbformat's NotebookNode has no type of its own for cells


def load(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]


def read(name: str) -> list[Cell]:
    return list(load(name).cells)


def code(cells: list[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.cell_type == "code"]


def tagged(cell: Cell, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def texts(cell: Cell) -> Iterator[str]:
    """Every text of a cell's outputs; what only stands for a picture or a table is none."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        for kind, content in output.get("data", {}).items():
            if kind.startswith("text/") and not re.match(r"<(Figure|PIL|IPython)\b", content):
                yield content


def said(cells: list[Cell]) -> str:
    return "\n".join(text for cell in code(cells) for text in texts(cell))


# ------------------------------------------------------------------------------------------------------ executed anew


def with_values(source: str, values: dict[str, object]) -> str:
    """A cell of assignments, with other values for some of its names."""
    lines = source.splitlines()
    names = [line.partition(" = ")[0] for line in lines]
    assert set(values) <= set(names), f"the notebook's parameters are {', '.join(names)}"
    return "\n".join(
        f"{name} = {values[name]!r}" if name in values else line for name, line in zip(names, lines, strict=True)
    )


WITHOUT_PAGES = (
    f"import sys; sys.path.append({str(NOTEBOOKS.parent)!r})\n"
    """
from tests.training import without_pages
nothing_drawn = without_pages()
nothing_drawn.__enter__()"""
)
"""Begins a notebook that looks at no run's report."""


def executed(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, pages: bool = True, **settings: object
) -> list[Cell]:
    """Runs a notebook in a folder, with other values in its cell of parameters and without any data set."""
    (folder / "no_data").mkdir()
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(folder / "jupyter"))
    monkeypatch.setenv("CXRLAB_DATA", str(folder / "no_data"))
    notebook = load(name)
    (parameters,) = (cell for cell in notebook.cells if tagged(cell, "parameters"))
    parameters.source = with_values(parameters.source, {"RUNS": "runs", **settings})
    if not pages:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(WITHOUT_PAGES))  # type: ignore[no-untyped-call]
    before = sorted(NOTEBOOKS.rglob("*"))
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        coalesce_streams=True,  # what is printed piece by piece is one output, as in every front end
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    assert sorted(NOTEBOOKS.rglob("*")) == before
    return [cell for cell in notebook.cells if cell.source != WITHOUT_PAGES]


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def assert_marked_synthetic(cells: list[Cell]) -> None:
    for cell in code(cells):
        if tagged(cell, "figure"):
            assert "MARK" in cell.source, f"the figure's title does not say SYNTHETIC: {cell.source}"
        elif cell.outputs and not tagged(cell, "no-images"):
            assert all("SYNTHETIC" in text for text in texts(cell)), cell.source


@pytest.mark.slow
def test_reproduce_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = [*TINY_PHANTOMS, "model=paper_cnn_small"]
    cells = executed(REPRODUCE, tmp_path, monkeypatch, EPOCHS=2, IMAGE_SIZE=32, EXTRA=extra)
    assert_marked_synthetic(cells)
    run = only_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    (tn, _), (_, tp) = metrics["test"]["confusion_matrix"]
    assert f"**SYNTHETIC test: {tn + tp} of 16 images right**" in said(cells)
    assert metrics["synthetic"]
    assert metrics["epochs"] == len(pd.read_csv(run / "metrics.csv")) == 2
    trivial = pd.read_csv(run / "baselines.csv")
    right = int(((trivial["thumbnail_8x8"] >= 0.5) == trivial["label"]).sum())
    assert f"| thumbnail_8x8 | {right} of 16 |" in said(cells)
    assert "| Fig. 9's four values, rearranged | 20, 1, 0, 19 | 21/19 | 13 of 13 |" in said(cells)
    assert (run / "report.html").is_file()


@pytest.mark.slow
def test_compare_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = [*TINY_PHANTOMS, "data.source.shortcut=brightness"]  # which one setting sees at once, and others do not
    cells = executed(COMPARE, tmp_path, monkeypatch, pages=False, EPOCHS=5, IMAGE_SIZE=32, FOLDS=2, EXTRA=extra)
    assert_marked_synthetic(cells)
    run = only_run(tmp_path)
    assert len(list(run.glob("*seed=*/metrics.json"))) == 6
    assert len(list(run.glob("*data.folds=2_data.fold=*/metrics.json"))) == 4
    assert list(pd.read_csv(run / "comparison/comparison.csv")["seeds"]) == [2, 2, 2]
    assert set(pd.read_csv(run / "cross-validation/comparison.csv")["images"]) == {56}

    pairs = pd.read_csv(run / "comparison/pairs.csv")
    assert (pairs["accuracy_p_holm"] < 1).any(), "a correction of nothing is not tested"
    models = pairs["a"].str.contains("Logistic") ^ pairs["b"].str.contains("Logistic")
    (by_hand,) = re.findall(r"by hand: p = ([\d.]+)\*\*", said(cells))
    assert by_hand in [f"{p:.3f}" for p in pairs.loc[models, "accuracy_p"]]
    (holm,) = (text for text in map("\n".join, map(texts, code(cells))) if "| p (Holm) | by hand |" in text)
    rows = re.findall(r"\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", holm, re.MULTILINE)
    p_values = pairs[["accuracy_p", "accuracy_p_holm", "accuracy_p_holm"]].map("{:.3f}".format)
    assert rows == list(p_values.itertuples(index=False, name=None))


@pytest.mark.slow
def test_your_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = executed(OWN_DATA, tmp_path, monkeypatch, pages=False, PATIENTS=24, EPOCHS=1, IMAGE_SIZE=32)
    assert_marked_synthetic(cells)
    run = only_run(tmp_path)
    assert "ConfigError" not in said(cells)
    assert "no label for this class folder; data.source.labels knows normal, opacities; did you mean" in said(cells)
    films = [path.stem for path in (run / "scans").rglob("*.png")]
    twice = sum(film.endswith("_1") for film in films)
    assert f"DataError: SYNTHETIC scans, split by hand: {twice} leak(s) between splits:" in said(cells)
    assert f"the patient of {len(films)} of {len(films)} images is unknown" in said(cells)
    assert "the same images, labels and splits as from the folders: True" in said(cells)
    predictions = pd.read_csv(run / "run/predictions.csv", dtype=str).query("split == 'test'")
    assert f"of {predictions['patient_id'].nunique()} test patients right" in said(cells)
    evaluation = json.loads((run / "evaluation/metrics.json").read_text())
    assert evaluation["test"]["n"] == len(list((run / "elsewhere").rglob("*.png")))


@pytest.mark.slow
def test_python_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = executed(API, tmp_path, monkeypatch, IMAGE_SIZE=32, EPOCHS=1, FILMS=40)
    assert_marked_synthetic(cells)
    assert (tmp_path / "runs/audit/audit.html").is_file()
    assert (tmp_path / "runs/weights/best.ckpt").is_file()
    assert "SYNTHETIC: 40 films of" in said(cells)
    assert re.search(r"^auroc +[01]\.\d+", said(cells), re.MULTILINE)
    assert "array 2" in said(cells)


# --------------------------------------------------------------------------------------------------------- as stored


@pytest.fixture(params=NAMES)
def stored(request: pytest.FixtureRequest) -> list[Cell]:
    return read(request.param)


def test_every_notebook_is_tested() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(NAMES)


def test_begins_with_what_one_learns_and_how_long_it_takes(stored: list[Cell]) -> None:
    assert stored[0].cell_type == "markdown"
    assert stored[0].source.startswith("# ")
    assert "learn" in stored[0].source
    assert "minute" in stored[0].source


def test_was_executed_in_order_and_without_an_error(stored: list[Cell]) -> None:
    cells = code(stored)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert not [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]


def test_pictures_are_figures_only(stored: list[Cell]) -> None:
    for cell in code(stored):
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        pictures = {kind for kind in kinds if kind.startswith("image/")}
        assert pictures == ({"image/png"} if tagged(cell, "figure") else set()), cell.source
        assert kinds <= {"image/png", "text/plain", "text/markdown"}, cell.source


def test_outputs_are_small(stored: list[Cell]) -> None:
    for cell in code(stored):
        for output in cell.outputs:
            assert len(json.dumps(output)) < 300_000, cell.source
            picture = output.get("data", {}).get("image/png")
            assert picture is None or base64.b64decode(picture).startswith(b"\x89PNG")


@pytest.mark.parametrize("name", NAMES)
def test_tells_nothing_of_the_machine_it_ran_on(name: str) -> None:
    text = re.sub(r'"image/png": "[^"]*"', '"image/png": ""', (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert not re.findall(r"(?<![\w.])/(?:work|tmp|home|root|Users|var|mnt)\b[^\s\"]*", text)
    notebook = json.loads(text)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert set(notebook["metadata"]["language_info"]) == {"name"}
    assert all(set(cell["metadata"]) <= {"tags"} for cell in notebook["cells"])


def test_code_needs_no_trick_to_find_the_package(stored: list[Cell]) -> None:
    source = "\n".join(cell.source for cell in code(stored))
    assert not re.findall(r"sys\.path|PYTHONPATH|os\.chdir|%cd|!pip|%pip", source)


@pytest.mark.parametrize("name", [REPRODUCE, COMPARE])
def test_what_is_stored_is_of_the_papers_images(name: str) -> None:
    text = said(read(name))
    assert "The paper's images are here." in text
    assert "SYNTHETIC" not in text


@pytest.mark.parametrize("name", [OWN_DATA, API])
def test_what_is_stored_of_drawn_images_says_so(name: str) -> None:
    assert_marked_synthetic(read(name))


def test_the_code_of_the_python_api_is_that_of_its_page() -> None:
    page = (NOTEBOOKS.parent / "docs/python_api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```python\n(.*?)\n```", page, re.MULTILINE | re.DOTALL)
    parameters, _, *steps = [cell.source for cell in code(read(API))]
    assert [step.removesuffix('\nprint("SYNTHETIC")') for step in steps] == shown[1:]
    assert set(shown[0].splitlines()[1:]) <= set(parameters.splitlines()), "all but the folder"
