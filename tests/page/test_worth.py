"""What a model is worth is read from its run folder, and what nobody looked at reads NOT CHECKED."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cxrlab.inference import Predictor, load
from cxrlab.page.documents import render
from cxrlab.page.worth import Worth, worth
from cxrlab.reports.cautions import DEPENDS


@pytest.fixture
def known(predictor: Predictor) -> Worth:
    return worth(predictor)


def test_numbers_come_with_interval_and_n(known: Worth, run: Path) -> None:
    rows = dict((*known.rows, *known.more))
    test = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["test"]
    found = test["sensitivity"]
    assert f"Sensitivity {found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" in rows["Own test images"]
    assert rows["Own test images"].startswith("SYNTHETIC: AUROC")
    assert f"({test['n']} images:" in rows["Own test images"]
    assert rows["Other hospitals"].startswith("NOT CHECKED: it has not been tried")
    assert rows["Audit of its data"].startswith("NOT CHECKED")
    assert rows["Shortcut battery"].startswith("NOT CHECKED")
    assert rows["Positive means"].startswith('"phantom, disease" ')
    assert rows["Called Positive"].startswith("from 0.5 on: chosen by hand; fitted on 16 images of 4 Positive and 4")
    assert "between 0.45 and 0.55 in 95 % of resamples" in rows["Called Positive"]
    assert rows["Input filter"].startswith("rules only")
    assert known.synthetic
    assert "On its SYNTHETIC test images (16 of " in known.on_test
    assert any("fitted on few validation images" in each for each in known.warnings)


def test_what_other_commands_found_out_is_shown(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(run, folder)
    sane = {"verdict": "PASS", "check": DEPENDS, "section": "Saliency, measured (HiResCAM)"}
    verdicts = [{"verdict": "FAIL", "check": "marker", "evidence": "-"}, {"verdict": "PASS", "check": "border"}, sane]
    (folder / "probe.json").write_text(json.dumps({"verdict": "FAIL", "verdicts": verdicts}), encoding="utf-8")
    known = worth(load(folder, accelerator="cpu"))
    assert dict(known.more)["Shortcut battery"] == "FAIL: marker"
    assert known.maps == {"HiResCAM": "PASS"}


def test_a_checkpoint_alone_says_that_nothing_is_known(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "checkpoints" / "model.ckpt", tmp_path)
    known = worth(load(tmp_path / "model.ckpt", accelerator="cpu"))
    assert dict(known.rows)["Own test images"].startswith("NOT CHECKED: no run folder lies above")
    assert known.on_test.startswith("How often it is right: NOT CHECKED")
    assert known.card == ""
    assert "fitted on" in dict(known.more)["Called Positive"]  # which the checkpoint itself says


def test_a_damaged_run_folder_is_told_and_ends_nothing(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    shutil.copytree(run, folder)
    (folder / "manifest.csv").unlink()
    known = worth(load(folder, accelerator="cpu"))
    assert "manifest.csv is missing" in dict(known.rows)["Own test images"]


def test_the_card_is_a_page_without_what_hubs_read(known: Worth) -> None:
    assert "<title>Model card of tiny</title>" in known.card
    assert "pipeline_tag" not in known.card


def test_one_model_is_open_and_of_several_the_first(known: Worth) -> None:
    assert "<h2>tiny" in render("index", known=[known], max_upload_mb=1)
    several = render("index", known=[known, known], max_upload_mb=1)
    assert several.count("<details open>") == 1
    assert 'href="/page/card/0"' in several
    assert 'href="/page/card/1"' in several


def test_names_and_texts_are_escaped() -> None:
    hostile = "<script>alert(1)</script>NOT CHECKED{{ 7 * 7 }}"
    known = Worth(hostile, False, ((hostile, hostile),), (), hostile, {}, (hostile,), "")
    page = render("index", known=[known], max_upload_mb=1)
    assert "<script>" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;<strong>NOT CHECKED</strong>{{ 7 * 7 }}") == 2


def test_no_command_stands_on_the_page(known: Worth) -> None:
    page = render("index", known=[known], max_upload_mb=1)
    assert "no gate" in page
    for word in ("`", "cxrlab-", "python ", "ckpt_path", "experiment="):
        assert word not in page
