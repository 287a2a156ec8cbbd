"""The model card: read from the files of a run and from what other commands found out; never more than they say."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf
from tests.reports.test_run_report import Folder

from cxrlab.config import compose
from cxrlab.datamodules import manifest as mf
from cxrlab.errors import CheckpointError
from cxrlab.evaluate import evaluate
from cxrlab.evaluation import summarise
from cxrlab.evaluation.decision import FIXED
from cxrlab.files import write_json, write_text
from cxrlab.report import report
from cxrlab.reports.model_card import is_trained, write_model_card
from cxrlab.train import train

QUICK = ["trainer=cpu", "trainer.max_epochs=1", "model=logistic", "data.image_size=32", "logger=none"]
SMALL = ["data.source.n_train=40", "data.source.n_test=16", "data.source.size=64"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run below a folder ``runs``."""
    folder = tmp_path_factory.mktemp("lab") / "runs" / "logistic" / "first"
    train(compose("train", [*QUICK, *SMALL], folder), [*QUICK, *SMALL])
    return folder


def images() -> pd.DataFrame:
    """Positives are adults with known ages and views, Negatives children; 12 training, 4 validation, 8 test images."""
    number = np.arange(24)
    positive = number % 2 == 1
    table = {
        "path": [f"/films/{each}.png" for each in number],
        "label": number % 2,
        "patient_id": [f"p{each}" for each in number],
        "split": ["train"] * 12 + ["val"] * 4 + ["test"] * 8,
        "source": "ward",
        "finding": np.where(positive, "COVID-19", "Normal"),
        "view": np.where(positive, "PA", ""),
        "age": np.where(positive, (30 + number).astype(str), ""),
        "sex": np.where(positive, "F", ""),
        "population": np.where(positive, "adult", "child"),
        "sha256": [hashlib.sha256(str(each).encode()).hexdigest() for each in number],
        "film": number.astype(str),
    }
    return pd.DataFrame(table)


class Run(Folder):
    """A run below a folder ``runs``, whose files can be changed before the card is written."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.path = root / "runs" / "paper_cnn" / "0"
        self.path.mkdir(parents=True)
        self.manifest = images()
        held = self.manifest[self.manifest["split"] != "train"]
        score = 0.3 + 0.4 * held["label"] + np.linspace(-0.25, 0.25, len(held))
        self.predictions = held.assign(score=score)
        self.config = {
            "seed": 3,
            "optimizer": {"lr": 0.001},
            "data": {"image_size": [48, 64], "channels": 1, "fit": "pad", "mask": "lungs", "val": 0.15},
            "model": {"_target_": "cxrlab.models.PaperCNN"},
        }
        self.metrics |= {split: self.summary(split) for split in ("val", "test")} | {"decision": FIXED.as_dict()}
        self.metrics["warnings"] = ["of the run", "left out: /films/x.png: broken", "left out: /films/y.png: broken"]
        self.flow = pd.DataFrame(
            [("ward", "rows", 0, 30, 30), ("ward", "no label", 6, 24, 24)],
            columns=["source", "step", "removed", "images", "patients"],
        )

    def summary(self, split: str) -> dict[str, Any]:
        rows = self.predictions[self.predictions["split"] == split]
        return summarise(rows["label"], rows["score"], rows["patient_id"], resamples=200)

    def card(self, audits: Path | None = None) -> str:
        self.write_files()
        write_text(self.path / "flow.csv", self.flow.to_csv(index=False))
        return write_model_card(self.path, audits).read_text(encoding="utf-8")

    def audit(self, name: str, fingerprint: str, verdict: str = "FAIL") -> Path:
        folder = self.path.parents[1] / "audit" / name
        found = {"verdict": verdict, "check": f"sizes_of {name}", "evidence": "AUROC 1.00 <b>", "weight": 1.0}
        fine = {"verdict": "PASS", "check": "files", "evidence": "none", "weight": 0.0}
        content = {"fingerprint": fingerprint, "verdict": verdict, "images": 24, "patients": 24}
        write_json(folder / "audit.json", {**content, "verdicts": [found, fine, fine]})
        return folder


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def section(card: str, title: str) -> str:
    return card.split(f"\n## {title}\n")[1].partition("\n## ")[0]


def test_a_training_leaves_a_card_of_its_own_files(trained: Path) -> None:
    card = (trained / "model_card.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---")[1])
    assert head["pipeline_tag"] == "image-classification"
    assert "synthetic" in head["tags"]
    assert card.split("---")[2].strip().startswith("# SYNTHETIC: Model card of first")
    assert card.index("SYNTHETIC: the images were drawn by a program") < card.index("## Model details")
    details = section(card, "Model details")
    weights = hashlib.sha256((trained / "checkpoints/model.ckpt").read_bytes()).hexdigest()
    assert weights in details
    assert mf.fingerprint(mf.read(trained / "manifest.csv")) in details
    assert "ThumbnailLogistic, 193 parameters" in details
    assert "images of people: every training image was drawn by a program" in section(card, "Intended use")
    metrics = json.loads((trained / "metrics.json").read_text())
    results = section(card, "Results")
    for split in ("test", "val"):
        for name in ("accuracy", "auroc", "npv"):
            value = metrics[split][name]
            assert f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" in results
    assert (
        f"Test ({metrics['test']['n']} images: 8 Positive, 8 Negative; {metrics['test']['n_patients']} pat" in results
    )
    assert "| thumbnail 8x8 | " in results
    assert "NOT CHECKED: `cxrlab-report" not in results


def test_a_card_says_what_the_files_say(run: Run) -> None:
    card = run.card()
    head = card.partition("## Model details")[0]
    assert "**WARNING:** of the run" in head
    assert head.count("left out") == 1  # unreadable files are counted, and not listed
    assert "/films" not in head
    evidence = section(card, "Does it see the disease?")
    assert evidence.count("NOT CHECKED") == 3
    assert "`cxrlab-audit data=manifest data.source.path=runs/paper_cnn/0/manifest.csv`" in evidence
    assert "`cxrlab-probe ckpt_path=runs/paper_cnn/0`" in evidence
    assert "`cxrlab-evaluate ckpt_path=runs/paper_cnn/0 data=… split=all`" in evidence
    use = section(card, "Intended use")
    for limit in (
        "diagnosis, triage, screening",
        "people outside of 31 to 41 years (age known of 6 of 12 training images)",
        "children: no Positive training image is known to be of one",
        "adults: no Negative training image is known to be of one",
        "lateral views, CT slices",
        "(views in training: PA 6; view of 6 unknown)",
        "in training, Positive: COVID-19 6; Negative: Normal 6",
        "ward 12 (devices: not recorded)",
        "scores whatever it is given; no gate travels with it",
    ):
        assert limit in use
    data = section(card, "Training and evaluation data")
    assert "| Test | Positive | 4 | 4 | COVID-19 4 | PA 4 | F 4 | adult 4 | 47 to 53, median 50 (4 known) |" in data
    assert "24 images used; removed: no label: 6 (every step: [flow.csv](flow.csv))" in data


def test_what_was_trained_on_or_travels_along_is_no_limit(run: Run) -> None:
    run.config["gate"] = "runs/gate"
    run.manifest.loc[run.manifest["label"] == 0, "view"] = "L"
    run.manifest["population"] = "adult"
    use = section(run.card(), "Intended use")
    assert "a gate travels with it and refuses most of these" in use
    assert "lateral" not in use
    assert "adults:" not in use
    assert "children: no Positive and no Negative training image" in use


def test_what_no_file_says_is_not_recorded(run: Run) -> None:
    del run.environment["parameters"], run.environment["packages"], run.metrics["weights"]
    run.manifest = run.manifest.drop(columns=["age", "sex", "population"])
    run.flow = run.flow.iloc[:0]
    card = run.card()
    details = section(card, "Model details")
    assert "PaperCNN, not recorded parameters" in details
    assert "cxrlab not recorded, commit not recorded" in details
    assert "| Weights | not recorded |" in details
    assert "no weights were kept (keep_weights=false)" in details
    assert "48x64 pixels, grey, fit pad, contrast none, mask lungs, scaled to [0, 1]" in details
    data = section(card, "Training and evaluation data")
    assert "| Training | Positive | 6 | 6 | COVID-19 6 | PA 6 | not recorded | not recorded | not recorded |" in data
    assert "Flow of cases: not recorded." in data
    assert "Licence of `ward`: not recorded." in data


def test_an_interrupted_run_says_so_and_has_no_result(run: Run) -> None:
    run.metrics = {"status": "interrupted", "epochs": 0, "synthetic": False, "warnings": [], "weights": None}
    card = run.card()
    assert "**INTERRUPTED: the training stopped before its end (epochs completed: 0).**" in card
    assert "there is no result" in section(card, "Results")
    assert "| Threshold | not recorded |" in card


def test_the_audit_of_the_same_images_is_found_though_validation_was_drawn_later(run: Run) -> None:
    run.audit("other", mf.fingerprint(run.manifest.assign(label=0)))
    undrawn = run.manifest.assign(split=run.manifest["split"].replace("val", "train"))
    run.audit("mine", mf.fingerprint(undrawn), "WARN")
    evidence = section(run.card(), "Does it see the disease?")
    assert "**Audit of the data: WARN**: 24 images, 24 patients." in evidence
    assert r"- **WARN** sizes_of mine: AUROC 1.00 \<b>" in evidence
    assert "- and 2 PASS: `runs/audit/mine/audit.json`" in evidence
    assert "other" not in evidence


def test_an_audit_of_the_same_test_images_says_what_differs(run: Run) -> None:
    folder = run.audit("test_only", "something else")
    mf.write(run.manifest[run.manifest["split"] == "test"], folder / "manifest.csv")
    assert "FAIL** (of the same test images; its training images are others): 24 images" in run.card()
    mf.write(run.manifest[run.manifest["split"] == "test"].iloc[1:], folder / "manifest.csv")
    assert "Audit of the data: NOT CHECKED" in run.card()


def test_audits_elsewhere_are_found_when_named_and_broken_ones_are_none(run: Run, tmp_path: Path) -> None:
    folder = run.audit("mine", mf.fingerprint(run.manifest))
    shutil.move(folder, tmp_path / "elsewhere")
    assert "Audit of the data: NOT CHECKED" in run.card()
    assert "Audit of the data: FAIL" in run.card(tmp_path)
    (tmp_path / "elsewhere/audit.json").write_text("{")
    assert "Audit of the data: NOT CHECKED" in run.card(tmp_path)


def test_the_battery_of_the_run_is_told(run: Run) -> None:
    verdict = {"verdict": "FAIL", "check": "lungs removed", "evidence": "AUROC 0.98 [0.95, 1.00], 8 images"}
    content = {"schema": 1, "verdict": "FAIL", "synthetic": False, "images": 8, "patients": 8, "verdicts": [verdict]}
    write_json(run.path / "probe.json", content)
    evidence = section(run.card(), "Does it see the disease?")
    assert "**Shortcut battery: FAIL**: 8 images, 8 patients." in evidence
    assert "- **FAIL** lungs removed: AUROC 0.98 [0.95, 1.00], 8 images" in evidence


def test_threshold_and_calibration_of_the_checkpoint(run: Run) -> None:
    counts = {"images": 4, "patients": 4, "positive_patients": 2, "negative_patients": 2}
    run.metrics["decision"] = {
        "calibration": {"kind": "temperature", "temperature": 2.0},
        "threshold": 0.35,
        "threshold_rule": "greatest sensitivity + specificity",
        "prevalence": None,
        "fitted_on": {**counts, "threshold_low": 0.2, "threshold_high": 0.5},
    }
    details = section(run.card(), "Model details")
    assert "Positive from 0.35 on: greatest sensitivity + specificity (fitted on 4 images of 4 patients, val" in details
    assert "temperature 2.000" in details
    assert "probability of Positive in [0, 1], calibrated" in details
    run.metrics["decision"]["threshold"] = "high"
    with pytest.raises(CheckpointError, match=r"metrics\.json: its decision is none"):
        run.card()


@pytest.mark.slow
def test_an_evaluation_on_other_images_stands_in_the_card_and_one_on_its_own_does_not(trained: Path) -> None:
    root = trained.parents[1]
    others = [f"ckpt_path={trained}", "accelerator=cpu", "data=synthetic", "data.source.seed=5", "split=all", *SMALL]
    own = [f"ckpt_path={trained}", "accelerator=cpu"]
    found, _ = evaluate(compose("evaluate", others, root / "evaluate" / "others"), others)
    evaluate(compose("evaluate", own, root / "evaluate" / "own"), own)
    report(OmegaConf.create({"run": str(root)}))
    evidence = section((trained / "model_card.md").read_text(encoding="utf-8"), "Does it see the disease?")
    auroc = found["test"]["auroc"]
    (line,) = [line for line in evidence.splitlines() if "SYNTHETIC: synthetic" in line]
    assert str(auroc) in line
    assert "`runs/evaluate/others`" in line
    assert "runs/evaluate/own" not in evidence
    assert not is_trained(root / "evaluate" / "own")
    assert not (root / "evaluate" / "own" / "model_card.md").exists()


def test_a_card_of_collections_speaks_of_no_disease(run: Run) -> None:
    run.config["data"]["source"] = {"_target_": "cxrlab.datamodules.WhichCollectionSource"}
    run.manifest["source"] = np.where(run.manifest["label"] == 1, "abroad", "home")
    card = run.card()
    assert "Positive: abroad 6; Negative: home 6 (the collections that the training images come from" in card
    assert "telling any disease" in section(card, "Intended use")
    assert "telling other diseases apart" not in card
    assert "cannot be told apart from the disease" not in card


def test_the_same_files_give_the_same_card_wherever_it_is_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run.card()
    monkeypatch.chdir(tmp_path)
    assert run.card() == first
    assert str(tmp_path) not in first
    assert re.search(r"\bnan\b|None", first) is None


def test_only_a_classifiers_training_gets_a_card(tmp_path: Path) -> None:
    assert not is_trained(tmp_path)
    with pytest.raises(CheckpointError, match=r"manifest\.csv is missing"):
        write_model_card(tmp_path)
    (tmp_path / "config.yaml").write_text("{task: segment, optimizer: {}}")
    assert not is_trained(tmp_path)
    (tmp_path / "config.yaml").write_text("optimizer: {}")
    assert is_trained(tmp_path)
