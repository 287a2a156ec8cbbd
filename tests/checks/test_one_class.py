"""A set of one class can be audited: what needs two is NOT CHECKED, and nothing ends in an error."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.checks.conftest import make_case

from cxrlab.checks import checklist
from cxrlab.checks.base import Verdict
from cxrlab.steps.examine import CHECKS

TWO_CLASSES = {
    "collections of the labels",
    "label told without a lung",
    "findings under both labels",
    "the same film under both labels",
    "patients under both labels",
    "burned-in text (suspects)",
    "file format of the classes",
    "what a perfect score is worth",
    "interval of an AUROC",
}


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("test", [0, 6])
def test_every_check_takes_one_class(label: int, test: int, tmp_path: Path) -> None:
    table = {
        "label": [label] * 24,
        "split": ["test"] * test + ["train"] * (24 - test),
        "sex": ["M", "F"] * 12,
        "age": [40.0, 50.0, 60.0] * 8,
        "reader": ["a", "b"] * 12,
        "collection": ["x", "y"] * 12,
        "finding": ["COVID-19"] * 24,
    }
    case = make_case(table, claim="COVID-19", folder=tmp_path, drawn=True)
    sections = [check(case) for check in CHECKS.values()]
    sections.append(checklist.check(case, sections))
    json.dumps([section.facts for section in sections], allow_nan=False, default=asdict)
    verdicts = {finding.check: finding.verdict for section in sections for finding in section.findings}
    assert {name: verdicts[name] for name in TWO_CLASSES if name in verdicts} == dict.fromkeys(
        TWO_CLASSES & set(verdicts), Verdict.NOT_CHECKED
    )
    assert len(TWO_CLASSES & set(verdicts)) > 5
    assert not [name for name in verdicts if name.endswith(" and label")]
