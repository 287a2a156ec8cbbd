"""Probing: from what is typed to the page, on phantoms in which the right answer is known; probe.py."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import programs
from tests.training import without_pages

from cxrlab.config import compose
from cxrlab.datamodules.alterations import Alteration
from cxrlab.errors import CheckpointError, ConfigError, DataError
from cxrlab.evaluation.estimate import Resampling
from cxrlab.evaluation.statistics import mean_auroc
from cxrlab.probe import probe
from cxrlab.steps.probe import Lungs, lung_free, try_alterations
from cxrlab.train import train

SMALL = [
    *("data.source.n_train=60", "data.source.n_test=40", "data.source.size=64", "data.image_size=32"),
    *("data.channels=1", "model=logistic", "logger=none", "trainer=cpu", "trainer.max_epochs=20", "optimizer.lr=0.05"),
]
MARKED = ["data.source.opacity=0", "data.source.shortcut=marker", "data.batch_size=8"]
QUICK = ["resamples=200", "accelerator=cpu"]


Probed = tuple[Path, dict[str, Any]]
"""The folder of a probe, and its numbers."""


def trained(folder: Path, *typed: str) -> Path:
    overrides = [*SMALL, *typed]
    with without_pages():
        train(compose("train", overrides, folder), overrides)
    return folder


def probed(folder: Path, *typed: str) -> dict[str, Any]:
    overrides = [*QUICK, *typed]
    probe(compose("probe", overrides, folder), overrides)
    found: dict[str, Any] = json.loads((folder / "probe.json").read_text())
    return found


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {row["check"]: row["verdict"] for row in found["verdicts"]}


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of phantoms whose only difference is a letter in the corner."""
    return trained(tmp_path_factory.mktemp("marked") / "run", *MARKED)


@pytest.fixture(scope="module")
def page(marked: Path, tmp_path_factory: pytest.TempPathFactory) -> Probed:
    folder = tmp_path_factory.mktemp("probe") / "probe"
    return folder, probed(folder, f"ckpt_path={marked}", "lungs=null")


def test_a_model_that_reads_a_marker_fails(page: Probed) -> None:
    _, found = page
    assert found["verdict"] == "FAIL"
    assert verdicts(found)["this model without lungs"] == "FAIL"
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["none"]["auroc"]["value"] > 0.75
    assert rows["centre_black_80"]["auroc"]["value"] > 0.85
    assert rows["centre_black_90"]["auroc"]["value"] < 0.7  # the letter is not so near the edge
    assert found["synthetic"]
    assert found["images"] == 40


def test_what_needs_lungs_is_not_checked_and_says_how_to_get_them(page: Probed) -> None:
    _, found = page
    (line,) = [row for row in found["verdicts"] if row["verdict"] == "NOT CHECKED"]
    assert line["check"] == "background_only, lungs_box_black, lungs_only"
    assert "cxrlab-train experiment=lungs" in line["evidence"]


def test_a_probe_leaves_its_page_its_scores_and_a_copy_in_the_run(page: Probed, marked: Path) -> None:
    folder, found = page
    assert {"probe.html", "probe.md", "probe.json", "scores.csv", "settings.yaml"} <= {p.name for p in folder.iterdir()}
    assert {path.name for path in (folder / "figures").iterdir()} == {"lungs_removed.png", "samples.png"}
    assert json.loads((marked / "probe.json").read_text()) == found
    assert "SYNTHETIC" in (folder / "probe.md").read_text().splitlines()[0]


def test_intact_scores_are_those_of_the_training_and_every_auroc_can_be_recomputed(page: Probed, marked: Path) -> None:
    folder, found = page
    scores = pd.read_csv(folder / "scores.csv")
    own = pd.read_csv(marked / "predictions.csv").query("split == 'test'")
    assert np.allclose(scores["intact"], own["score"], atol=1e-6)
    for row in found["rows"]:
        column = scores["intact" if row["name"] == "none" else row["name"]]
        value = mean_auroc(scores["label"], column, scores["patient_id"], Resampling(100))
        assert value.value == pytest.approx(row["auroc"]["value"])


def test_a_probe_is_not_written_over(page: Probed, marked: Path) -> None:
    with pytest.raises(ConfigError, match="holds a probe already"):
        probed(page[0], f"ckpt_path={marked}")


@pytest.mark.slow
def test_training_images_are_warned_about(marked: Path, tmp_path: Path) -> None:
    found = probed(tmp_path / "p", f"ckpt_path={marked}", "split=all", "alterations=[centre_black_90]", "lungs=null")
    assert found["images"] == 100
    assert any("evaluated images are known to the model" in warning for warning in found["warnings"])


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ([], "name a run folder or .ckpt file to probe"),
        (["ckpt_path=nowhere"], "ckpt_path=nowhere: no run that holds weights there"),
        (["ckpt_path=x", "alterations=[centre_blak_80]"], "must be one of"),
        (["ckpt_path=x", "resamples=5", "split=trian"], "resamples"),
        (["retrained=nowhere/**"], "no run folder"),
    ],
)
def test_mistakes_end_in_sentences(typed: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises((ConfigError, CheckpointError, DataError)) as caught:
        probe(compose("probe", typed, tmp_path), typed)
    assert words in str(caught.value)


def test_lungs_that_were_asked_for_by_name_must_be_found(marked: Path, tmp_path: Path) -> None:
    with pytest.raises(
        (ConfigError, CheckpointError), match=r"alterations=lungs_only: lungs are needed; .*experiment=lungs"
    ):
        probed(tmp_path / "p", f"ckpt_path={marked}", "alterations=[lungs_only]", "lungs=nowhere")


@pytest.mark.slow
def test_runs_trained_again_are_put_beside_each_other(tmp_path: Path) -> None:
    for alter in ("none", "centre_black_80"):
        for seed in (0, 1):
            trained(
                tmp_path / f"runs/{alter}{seed}", *MARKED, f"data.alter={alter}", f"seed={seed}", "keep_weights=false"
            )
    found = probed(tmp_path / "p", f"retrained={tmp_path}/runs/**", f"source_classifier={tmp_path}/runs/none0")
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == ["none", "centre_black_80", "which_collection"]
    assert [len(rows[name]["right"]) for name in ("none", "centre_black_80")] == [2, 2]
    assert rows["centre_black_80"]["auroc"]["value"] > 0.85
    assert verdicts(found) == {
        "the recipe trained again without lungs": "FAIL",
        "which collection a Negative comes from": "WARN",
    }
    assert found["ckpt"] == ""
    own = pd.read_csv(tmp_path / "runs/none1/predictions.csv").query("split == 'test'")
    assert rows["none"]["right"][1] == ((own["score"] >= 0.5) == (own["label"] == 1)).sum()
    trained(tmp_path / "runs/other", *MARKED, "data.alter=centre_black_80", "optimizer.lr=0.01")
    with pytest.raises(ConfigError, match="differ in more than their seeds"):
        probed(tmp_path / "q", f"retrained={tmp_path}/runs/**")


@pytest.mark.slow
def test_every_run_of_a_pattern_is_probed_and_summarised(marked: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(marked, tmp_path / f"runs/{name}")
    overrides = [*QUICK, f"ckpt_path={tmp_path}/runs/**", "lungs=null", "alterations=[centre_black_80]"]
    found = probe(compose("probe", overrides, tmp_path / "p"), overrides)
    summary = json.loads((tmp_path / "p/summary.json").read_text())
    assert summary["checks"]["this model without lungs"]["FAIL"] == 2
    assert [Path(run["ckpt"]).parents[1].name for run in summary["runs"]] == ["a", "b"]
    assert len(found["pages"]) == 2
    assert all(page.is_file() for page in found["pages"])
    assert (tmp_path / "runs/b/probe.json").is_file()


@pytest.mark.slow
def test_the_command_ends_with_the_verdicts(marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, errors = programs.run("probe", f"ckpt_path={marked}", *QUICK, "alterations=[centre_black_80]")
    assert (status, errors) == (0, "")
    assert "SYNTHETIC" in printed
    assert "FAIL" in printed
    last = printed.splitlines()[-1]
    assert last.startswith("probe")
    assert (tmp_path / last.split(maxsplit=1)[1]).is_file()


# Lungs, by masks that are known --------------------------------------------------------------------------------------


def with_lungs(score: Any, names: list[str]) -> dict[str, Any]:
    """Eight images of noise, lungs in the middle, none found on the last; Positives are brighter there."""
    images = np.random.default_rng(0).integers(50, 60, (8, 32, 32, 1), dtype=np.uint8)
    labels = np.arange(8) % 2
    masks = np.zeros((8, 32, 32), np.bool_)
    masks[:7, 10:22, 8:24] = True
    images[(labels == 1), 10:22, 8:24] += 50
    lungs = Lungs(masks, np.arange(8) < 7, "made up")
    alterations = [Alteration.parse(name) for name in ("none", *names)]
    ids = np.array([f"p{number}" for number in range(8)])
    trials = try_alterations(score, images, lungs, alterations, labels, ids, threshold=0.3, how=Resampling(100))
    return {each.name: each for each in trials.tried} | {"scores": trials.scores}


def brightness(images: Any) -> Any:
    return images.mean(axis=(1, 2, 3)) / 255


@pytest.mark.slow
def test_a_model_of_the_lungs_is_lost_without_them_and_images_without_lungs_are_left_out() -> None:
    found = with_lungs(brightness, ["background_only", "lungs_box_black", "lungs_only", "centre_black_90"])
    assert found["none"].auroc.value == 1
    assert found["lungs_only"].auroc.value == 1
    assert found["lungs_box_black"].auroc.value < 1
    assert (found["lungs_only"].n, found["centre_black_90"].n) == (7, 8)
    assert np.isnan(found["scores"]["lungs_only"][7])
    assert found["centre_black_90"].visible == 0
    assert found["lungs_only"].visible == 1
    assert found["none"].visible == 1


def test_which_inputs_count_as_without_lungs() -> None:
    found = with_lungs(brightness, ["background_only", "lungs_box_black", "centre_black_40", "centre_black_80"])
    assert found["centre_black_40"].visible > 0.05
    assert {name for name in found if name != "scores" and found[name].corrected} == {
        "lungs_box_black",
        "centre_black_80",
    }
    assert lung_free(Alteration.parse("centre_black_80"))
    assert not lung_free(Alteration.parse("centre_black_70"))
    assert not lung_free(Alteration.parse("centre_black_80"), visible=0.2)
    assert not lung_free(Alteration.parse("background_only"), visible=0.0)
    assert not lung_free(Alteration.parse("lungs_only"))


@pytest.mark.slow
def test_a_model_of_opacities_needs_the_lungs(tmp_path: Path) -> None:
    typed = ["experiment=control_none", "hydra.mode=RUN", "trainer=cpu"]
    folder = tmp_path / "run"
    with without_pages():
        train(compose("train", typed, folder), typed)
    found = probed(tmp_path / "p", f"ckpt_path={folder}", "lungs=null")
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["none"]["auroc"]["value"] > 0.85
    assert rows["centre_black_90"]["auroc"]["low"] < 0.5 < rows["centre_black_90"]["auroc"]["high"]
    assert verdicts(found)["this model without lungs"] == "PASS"
