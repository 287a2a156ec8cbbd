"""The page of a probe, made of made-up numbers: rule, verdicts, tables and JSON; and several in one table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxrlab.evaluation.estimate import Difference, Estimate, SeedMean
from cxrlab.evaluation.shortcuts import Retrained, Tried
from cxrlab.reports.probe_page import Probe, SourceClassifier, sections, summarise_probes, write_probe, write_summary
from cxrlab.reports.sections import verdict_lines


def estimate(value: float, half: float = 0.05, seeds: tuple[float, ...] = ()) -> SeedMean:
    return SeedMean(value, value - half, min(1.0, value + half), "made up", seeds)


def tried(name: str, auroc: float, group: str = "lungs removed", free: bool = False, flipped: float = 0.0) -> Tried:
    change = Difference(auroc - 0.95, auroc - 1, auroc - 0.9, "made up", 0.5)
    shift: dict[str, Estimate] = {"Negative": estimate(0.1), "Positive": estimate(-0.1)}
    share = Estimate(flipped, max(0, flipped - 0.02), flipped + 0.02, "made up")
    corrected = estimate(auroc, 0.1) if free else None
    return Tried(name, group, f"words of {name}", 40, 30, estimate(auroc), change, shift, share, None, corrected)


def again(name: str, auroc: float, free: bool = False) -> Retrained:
    group = "lungs kept" if name == "none" else "lungs removed"
    mean, corrected = estimate(auroc, seeds=(auroc - 0.01, auroc + 0.01)), estimate(auroc, 0.1) if free else None
    return Retrained(name, group, f"words of {name}", 40, 30, (36, 38), mean, None, corrected)


BASE = Probe(
    name="made up",
    synthetic=False,
    split="test",
    images=40,
    patients=30,
    fingerprint="abc",
    seed=0,
    ckpt="runs/a/checkpoints/model.ckpt",
    tried=[tried("none", 0.95, "lungs kept"), tried("centre_black_90", 0.9, free=True), tried("marker", 0.95, "edit")],
    warnings=["a *warning*"],
)


def verdicts(probe: Probe) -> dict[str, str]:
    return {line.finding.check: str(line.finding.verdict) for line in verdict_lines(sections(probe))}


def test_a_model_that_needs_no_lungs_fails() -> None:
    assert verdicts(BASE) == {"this model without lungs": "FAIL", "decisions under words of marker": "PASS"}


def test_a_model_that_needs_them_passes_and_its_recipe_is_judged_apart() -> None:
    probe = replace(
        BASE,
        tried=[BASE.tried[0], tried("centre_black_90", 0.5, free=True), tried("brightness", 0.9, "edit", flipped=0.3)],
        not_tried={"lungs_only": "nothing finds lungs", "background_only": "nothing finds lungs"},
        retrained=[again("none", 0.97), again("centre_black_90", 0.96, free=True)],
        source_classifier=SourceClassifier("runs/s", 20, 20, 19, estimate(0.98)),
    )
    assert verdicts(probe) == {
        "the recipe trained again without lungs": "FAIL",
        "decisions under words of brightness": "WARN",
        "which collection a Negative comes from": "WARN",
        "lungs_only, background_only": "NOT CHECKED",
        "this model without lungs": "PASS",
    }


def test_retrained_runs_without_an_intact_one_say_nothing() -> None:
    probe = replace(BASE, ckpt="", tried=[], retrained=[again("centre_black_90", 0.9, free=True)])
    assert verdicts(probe) == {"the recipe trained again without lungs": "NOT CHECKED"}


def test_the_page_states_rule_numbers_warnings_and_command(tmp_path: Path) -> None:
    probe = replace(
        BASE,
        retrained=[again("none", 0.97), again("centre_black_90", 0.96, free=True)],
        samples=[("intact", np.zeros((2, 16, 16, 1), np.uint8))],
    )
    page = write_probe(tmp_path, probe, 1.5, "python src/probe.py ckpt_path=runs/a")
    text = (tmp_path / "probe.md").read_text()
    assert page.read_text().count("<figure>") == 2
    assert text.startswith("# Does it see the lungs? made up\n\n**FAIL**")
    assert "(figures/lungs_removed.png)" in text.split("## Verdicts")[0]  # and before the tables
    for told in (
        *("**WARNING** a \\*warning\\*", "at least 50%", "A fall has two explanations", "0.900 [0.850, 0.950]"),
        *("36 to 38 of 40", "python src/probe.py ckpt_path=runs/a", "not a medical device"),
    ):
        assert told in text


def test_the_json_holds_what_the_model_card_reads(tmp_path: Path) -> None:
    write_probe(tmp_path, replace(BASE, synthetic=True), 1.0, "typed")
    found = json.loads((tmp_path / "probe.json").read_text())
    expected = {"schema": 1, "name": "made up", "synthetic": True, "verdict": "FAIL", "images": 40, "patients": 30}
    assert found | expected | {"fingerprint": "abc"} == found
    assert {"verdict", "check", "evidence"} <= set(found["verdicts"][0])
    assert [row["name"] for row in found["rows"]] == ["none", "centre_black_90", "marker"]
    assert found["rows"][1]["corrected"]["low"] == pytest.approx(0.8)
    assert "SYNTHETIC" in (tmp_path / "probe.md").read_text().splitlines()[0]


def test_several_probes_in_one_table(tmp_path: Path) -> None:
    by_folder = {}
    for name, auroc in (("a", 0.9), ("b", 0.5), ("c", 0.5), ("d", 0.5)):
        probe = replace(BASE, ckpt=name, tried=[BASE.tried[0], tried("centre_black_90", auroc, free=True)])
        write_probe(tmp_path / name, probe, 1.0)
        by_folder[str(tmp_path / name)] = json.loads((tmp_path / name / "probe.json").read_text())
    summary = summarise_probes(by_folder, "typed")
    assert summary["checks"]["this model without lungs"] == {"FAIL": 1, "WARN": 0, "NOT CHECKED": 0, "PASS": 3}
    black = summary["alterations"]["centre_black_90"]
    assert (black["mean"], black["from"], black["to"], black["runs"]) == (pytest.approx(0.6), 0.5, 0.9, 4)
    assert black["low"] == pytest.approx(0.6 - 3.182 * 0.1, abs=0.001)  # Student's t with three degrees of freedom
    assert summary["alterations"]["none"]["low"] is None
    write_summary(tmp_path, summary)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert "0.500 to 0.900" in (tmp_path / "summary.md").read_text()
