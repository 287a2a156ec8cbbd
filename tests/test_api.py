"""The package as a program uses it: its names, its page of documentation, and a Lightning Trainer without Hydra."""

from __future__ import annotations

import ast
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import cxrlab
from cxrlab import api
from cxrlab.checks import Case, Finding, Section, Verdict
from cxrlab.config import build, compose
from cxrlab.errors import CheckpointError, ConfigError, DataError
from cxrlab.evaluation.statistics import METRICS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/python_api.md"
MOST_LINES = 20
SMALL: dict[str, Any] = {"image_size": 16, "filters": [2, 3, 4], "dense_units": 4}
LARGE = ("torch", "pytorch_lightning", "pandas", "numpy", "cv2", "hydra")


# ------------------------------------------------------------------------------------------------------------- names


def test_every_name_that_is_offered_is_there() -> None:
    assert sorted(cxrlab.__all__) == list(cxrlab.__all__) == dir(cxrlab)
    for name in cxrlab.__all__:
        assert getattr(cxrlab, name).__doc__ or name == "__version__", name


def test_a_type_checker_sees_the_names_that_are_offered() -> None:
    tree = ast.parse((ROOT / "src/__init__.py").read_text(encoding="utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = [alias.name for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted([*imported, "__version__"]) == cxrlab.__all__
    homes = {
        (node.module, alias.name) for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert homes == {(home, name) for home, names in cxrlab._HOMES.items() for name in names}


def test_no_name_hides_a_module_of_the_package() -> None:
    modules = {path.stem for path in (ROOT / "src").iterdir()}
    assert modules & set(cxrlab.__all__) == set()


def test_importing_the_package_imports_nothing_large(tmp_path: Path) -> None:
    script = f"import sys, cxrlab; dir(cxrlab); print([name for name in {LARGE!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_name_that_is_not_offered_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'PaperNCN'"):
        cxrlab.PaperNCN  # noqa: B018


# --------------------------------------------------------------------------------------------- the page, and its code


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_each_thing_takes_at_most_twenty_lines() -> None:
    assert len(blocks()) == 7, "six things, and what they have in common"
    assert max(len(block.splitlines()) for block in blocks()) <= MOST_LINES


def test_the_page_names_what_is_offered() -> None:
    text = PAGE.read_text(encoding="utf-8")
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| `.*?(?= \| )", text, re.MULTILINE))))
    assert listed == set(cxrlab.__all__) - {"__version__"}


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    runs = tmp_path / "runs/python_api"
    runs.mkdir(parents=True)
    drawn = cxrlab.SyntheticSource(root=str(tmp_path / "cache"), n_train=30, n_test=10, size=64)
    drawn.manifest().drop(columns="split").to_csv(runs / "films.csv", index=False)
    names: dict[str, Any] = {}
    said = StringIO()
    with chdir(tmp_path), redirect_stdout(said):
        for block in blocks():
            exec(block.replace("EPOCHS = 20", "EPOCHS = 1"), names)
    assert len(names["table"]) == len(names["data"].manifest) == 40
    assert {"train", "val", "test"} == set(names["table"]["split"])
    assert (tmp_path / names["audit"].page).is_file()
    assert names["model"].synthetic
    answers = names["answers"]
    assert list(answers["score"][:3]) == list(answers["score"][3:]), "a file and its pixels"
    best = names["table"].set_index("path").loc[names["files"], "score"]
    assert np.allclose(answers["score"][:3], best, atol=1e-6), (
        "the checkpoint that was loaded is the one that was scored"
    )
    for text in (names["audit"].verdict, "SYNTHETIC", "auroc", "array 2"):
        assert text in said.getvalue()


@pytest.mark.slow
def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(api, "examine", lambda case, step: [])
    drawn = cxrlab.SyntheticSource(root=str(tmp_path / "cache"), n_train=20, n_test=4, size=128).manifest()
    drawn.drop(columns="split").to_csv(tmp_path / "films.csv", index=False)
    shutil.copy(drawn["path"][0], tmp_path / "film.png")
    names: dict[str, Any] = {}
    said = StringIO()
    with chdir(tmp_path), redirect_stdout(said), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*sync_dist.*|.*deprecated.*|.*workers.*|.*logging interval.*")
        exec(code.replace("max_epochs=20", "max_epochs=1"), names)
    assert "film.png" in said.getvalue()
    assert "NOT CHECKED" in said.getvalue(), "the verdict of an audit without a check"
    assert (tmp_path / "model.ckpt").is_file()


# ------------------------------------------------------------------------------------------------- a plain Trainer


class Trained(NamedTuple):
    """What a plain Trainer leaves after two steps."""

    data: cxrlab.ChestXRayDataModule
    module: cxrlab.ClassifierModule
    checkpoint: Path
    scores: np.ndarray[Any, np.dtype[np.float32]]


def quiet_trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(accelerator="cpu", devices=1, **{**quiet, "enable_checkpointing": False, **options})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Shared: what a test changes, it copies first."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(16):
        pixels = rng.normal(100 + 40 * (number % 2), 25, (70, 80)).clip(0, 255).astype(np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
        rows.append({"path": f"{number}.png", "label": number % 2, "split": "train" if number < 12 else "test"})
    pd.DataFrame(rows).to_csv(folder / "films.csv", index=False)
    data = cxrlab.ChestXRayDataModule(
        cxrlab.ManifestSource(str(folder / "films.csv")), image_size=16, batch_size=4, val=0.2
    )
    pl.seed_everything(0, verbose=False)
    module = cxrlab.ClassifierModule(cxrlab.PaperCNN(**SMALL))
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=2)
    trainer.fit(module, data)
    checkpoint = folder / "lightning.ckpt"
    trainer.save_checkpoint(checkpoint)
    parts: Any = trainer.predict(module, data)
    return Trained(data, module, checkpoint, torch.cat(parts).numpy())


def changed(trained: Trained, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The checkpoint, with something else in it, as another file."""
    found = torch.load(trained.checkpoint, weights_only=True)
    change(found)
    torch.save(found, folder / "changed.ckpt")
    return folder / "changed.ckpt"


def test_a_module_without_an_optimizer_trains_with_the_papers() -> None:
    network = nn.Linear(1, 1)
    ours = cxrlab.ClassifierModule(network).configure_optimizers()
    papers = build(compose("train", [], "runs").optimizer)(network.parameters())
    assert type(ours) is type(papers)
    assert ours.defaults == papers.defaults


def test_an_optimizer_instead_of_what_makes_one_is_refused_in_a_sentence() -> None:
    network = nn.Linear(1, 1)
    with pytest.raises(TypeError, match=r"functools\.partial\(torch\.optim\.Adam.*got SGD"):
        cxrlab.ClassifierModule(network, torch.optim.SGD(network.parameters()))  # type: ignore[arg-type]


def test_a_prediction_scores_every_image_of_the_manifest_in_its_order(trained: Trained) -> None:
    images = trained.data.preprocessing.to_float(torch.from_numpy(trained.data.pixels[:]))
    with torch.inference_mode():
        expected = trained.module.network.eval()(images).sigmoid().squeeze(1).numpy()
    assert trained.scores.shape == (len(trained.data.manifest),) == (16,)
    assert np.allclose(trained.scores, expected, atol=1e-6)


def test_a_checkpoint_of_a_plain_trainer_is_used_with_its_network(trained: Trained) -> None:
    network = cxrlab.PaperCNN(**SMALL)
    before = copy.deepcopy(network.state_dict())
    model = cxrlab.load(trained.checkpoint, network=network, accelerator="cpu")
    found = model.predict(trained.data.manifest["path"])
    scored = found["score"].notna()  # the rules of a model without a gate refuse some
    scores = model.scores(trained.data.pixels[:])
    assert np.allclose(scores, trained.scores, atol=1e-6)
    assert np.allclose(found["score"][scored], trained.scores[scored], atol=1e-6)
    assert model.preprocessing == trained.data.preprocessing
    assert not model.synthetic
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before), "it gets a copy"


def test_lightning_loads_its_own_checkpoint(trained: Trained) -> None:
    network = cxrlab.PaperCNN(**SMALL)
    cxrlab.ClassifierModule.load_from_checkpoint(trained.checkpoint, network=network, weights_only=True)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), trained.module.parameters(), strict=True))


def test_such_a_checkpoint_without_its_network_says_what_to_type(trained: Trained) -> None:
    with pytest.raises(CheckpointError, match=r"does not say what network.*network="):
        cxrlab.load(trained.checkpoint)


def test_another_network_than_that_of_the_weights_is_refused(trained: Trained) -> None:
    with pytest.raises(CheckpointError, match=re.escape(str(trained.checkpoint))):
        cxrlab.load(trained.checkpoint, network=cxrlab.PaperCNN(**{**SMALL, "dense_units": 5}))


def test_images_that_came_from_elsewhere_need_their_preprocessing(trained: Trained, tmp_path: Path) -> None:
    checkpoint = changed(trained, tmp_path, lambda found: found.pop("ChestXRayDataModule"))
    network = cxrlab.PaperCNN(**SMALL)
    with pytest.raises(CheckpointError, match="preprocessing="):
        cxrlab.load(checkpoint, network=network)
    given = cxrlab.Preprocessing(16, 16)
    model = cxrlab.load(checkpoint, network=network, preprocessing=given, accelerator="cpu")
    assert np.allclose(model.scores(trained.data.pixels[:]), trained.scores, atol=1e-6)


def test_a_second_preprocessing_is_refused(trained: Trained) -> None:
    with pytest.raises(CheckpointError, match="leave out preprocessing="):
        cxrlab.load(trained.checkpoint, network=cxrlab.PaperCNN(**SMALL), preprocessing=cxrlab.Preprocessing(8, 8))


@pytest.mark.parametrize(
    "planted",
    [
        {"preprocessing": {"height": 10**9, "width": 1}},
        {"preprocessing": {"height": 16, "width": 16, "fit": "${oc.env:HOME}"}},
        {"preprocessing": None},
        {"labels": "no"},
        {"data": [1]},
        {"mask": "lungs", "lungs": "0" * 64},
        {"alter": "centre_black_90"},
    ],
)
def test_what_such_a_checkpoint_says_of_its_data_is_untrusted(
    trained: Trained, tmp_path: Path, planted: dict[str, Any]
) -> None:
    checkpoint = changed(trained, tmp_path, lambda found: found["ChestXRayDataModule"].update(planted))
    with pytest.raises(CheckpointError):
        cxrlab.load(checkpoint, network=cxrlab.PaperCNN(**SMALL), lungs=str(tmp_path / "none.ckpt"))


def test_a_network_of_ones_own_keeps_what_no_checkpoint_holds(trained: Trained, tmp_path: Path) -> None:
    class Scaled(nn.Module):
        scale: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(1, 1, bias=False)
            self.register_buffer("scale", torch.tensor(3.0), persistent=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.dense(images.mean(dim=(1, 2, 3))[:, None]) * self.scale
            return logits

    network = Scaled()
    trainer, module = quiet_trainer(max_epochs=1, limit_train_batches=1), cxrlab.ClassifierModule(network)
    trainer.fit(module, trained.data)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    model = cxrlab.load(tmp_path / "own.ckpt", network=Scaled(), accelerator="cpu")
    means = trained.data.pixels[:].mean(axis=(1, 2, 3)) / 255
    expected = 1 / (1 + np.exp(-means * network.dense.weight.item() * 3))
    assert np.allclose(model.scores(trained.data.pixels[:]), expected)


# --------------------------------------------------------------------------------------------------------- functions


def predictions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    patients = [f"p{number // 2}" for number in range(40)]
    scores = np.clip(0.3 + 0.3 * labels + rng.normal(0, 0.2, 40), 0, 1)
    return pd.DataFrame({"label": labels, "score": scores, "patient_id": patients})


def test_metrics_are_those_of_the_reports_by_patient() -> None:
    table = predictions()
    found = cxrlab.metrics(table, threshold=0.4)
    expected = cxrlab.summarise(table["label"], table["score"], table["patient_id"], threshold=0.4)
    assert list(found.index) == list(METRICS)
    for name in found.index:
        for key in ("value", "low", "high", "method"):
            assert found.loc[name, key] == getattr(expected[name], key)
    assert set(found["images"]) == {40}
    assert set(found["patients"]) == {20}


def test_images_of_unknown_patients_count_each_for_itself() -> None:
    table = predictions()
    table.loc[:3, "patient_id"] = ""
    assert set(cxrlab.metrics(table)["patients"]) == {18 + 4}
    assert set(cxrlab.metrics(table.drop(columns="patient_id"))["patients"]) == {40}


def test_what_is_undefined_is_nan_with_a_reason() -> None:
    found = cxrlab.metrics(predictions().query("label == 0"))
    assert np.isnan(found.loc["auroc", "value"])  # type: ignore[arg-type]
    assert "undefined" in str(found.loc["auroc", "method"])


def test_a_table_without_scores_names_the_column() -> None:
    with pytest.raises(DataError, match=r"no column 'score'; did you mean 'scores'"):
        cxrlab.metrics(predictions().rename(columns={"score": "scores"}))


def test_an_audit_leaves_the_data_module_as_it_was(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = [Finding("a", Verdict.PASS, "b"), Finding("c", Verdict.FAIL, "d")]
    seen: list[Case] = []

    def examine(case: Case, step: object) -> list[Section]:
        seen.append(case)
        return [Section("title", findings)]

    monkeypatch.setattr(api, "examine", examine)
    manifest, flow = trained.data.manifest.copy(), trained.data.flow.table()
    audit = cxrlab.run_audit(trained.data, tmp_path / "audit")
    assert audit.verdict == "FAIL"
    assert audit.findings().iloc[0].to_dict() == {"verdict": "FAIL", "check": "c", "evidence": "d", "section": "title"}
    assert len(seen[0].manifest) == len(pd.read_csv(tmp_path / "audit/manifest.csv")) == 16
    assert json.loads((tmp_path / "audit/audit.json").read_text())["verdict"] == "FAIL"
    assert trained.data.manifest.equals(manifest)
    assert trained.data.flow.table().equals(flow)
    with pytest.raises(ConfigError, match="holds an audit already"):
        cxrlab.run_audit(trained.data, tmp_path / "audit")


def test_an_audit_of_nothing_leaves_no_folder(tmp_path: Path) -> None:
    data = cxrlab.ChestXRayDataModule(cxrlab.ManifestSource(str(tmp_path / "films.csv")))
    with pytest.raises(DataError, match=re.escape("films.csv")):
        cxrlab.run_audit(data, tmp_path / "audit")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
