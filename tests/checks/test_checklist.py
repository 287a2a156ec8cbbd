"""Every item is answered from what was found, with the place, or says who has to answer."""

from __future__ import annotations

import json

from tests.checks.conftest import make_case

from cxrlab.checks import checklist
from cxrlab.checks.base import Finding, Section, Verdict

SECTIONS = (
    Section(
        "Provenance",
        [
            Finding("collections of the labels", Verdict.FAIL, "", 1.0),
            Finding("age and label", Verdict.NOT_CHECKED, ""),
        ],
    ),
    Section(
        "Split",
        [
            Finding("the same file in several splits", Verdict.PASS, "none"),
            Finding("patients in several splits", Verdict.FAIL, "3 patients", 0.2),
        ],
    ),
)


def answers(section: Section) -> dict[str, tuple[object, object]]:
    """Answer and place by question."""
    return {str(row[1]): (row[2], row[3]) for row in section.tables[0].rows}


def test_answers_come_from_the_case_and_from_the_findings() -> None:
    columns = {
        "label": [0, 1, 0, 1],
        "split": ["train", "train", "test", "test"],
        "collection": ["a", "b", "a", "b"],
        "finding": ["Normal", "COVID-19", "", ""],
        "age": [44, "", "", ""],
        "licence": ["", "CC BY 4.0", "", ""],
    }
    parts = "train 2 (1 Positive, 2 patients); test 2 (1 Positive, 2 patients)"
    missing = "patient_id 0, finding 2, view 4, age 3; not recorded at all: sex; unreadable: 0"
    worst_first = "patients in several splits: FAIL; the same file in several splits: PASS"
    expected = {
        "Where do the images come from?": ("Positive: b 2; Negative: a 2", "Provenance"),
        "How were the images divided?": (f"{parts}; as the source gives it", "Split"),
        "What do the labels mean?": ("Positive is to mean COVID-19; 2 of 4 images with a finding", "Provenance"),
        "What is missing?": (f"unknown, of 4 images: {missing}", "Provenance"),
        "Are the parts apart, down to the patient?": (worst_first, "Split"),
        "Do the classes come from the same collections?": ("collections of the labels: FAIL", "Provenance"),
        "Who are the patients?": ("age by label, as far as recorded", "Provenance"),
        "May they be used?": ("unknown 3, CC BY 4.0 1", "Provenance"),
    }
    found = answers(checklist.check(make_case(columns, claim="COVID-19"), SECTIONS))
    assert {question: found[question] for question in expected} == expected
    assert found["Who was included and who was not?"][1] == "Flow of cases"


def test_what_nothing_answers_says_who_has_to() -> None:
    section = checklist.check(make_case({"label": [0, 1]}), SECTIONS)
    found = answers(section)
    for question, who in (
        ("Are patients of both classes of like age?", "the authors of the data set"),
        ("Are there enough patients?", "the authors of the study"),  # there is no such section
        ("Are the scores calibrated?", "a training run and its report"),
        ("What do the labels mean?", "the authors of the data set"),
    ):
        assert found[question] == (f"NOT ANSWERED: {who}", "")
    answered = [row for row in section.tables[0].rows if row[3]]
    assert section.facts["answered"] == len(answered)
    assert f"{len(answered)} of {len(found)} items" in section.text[0]
    assert section.findings == ()
    assert all("NOT ANSWERED" in str(row[2]) for row in section.tables[0].rows if not row[3])
    json.dumps(section.facts, allow_nan=False)


def test_no_other_check_was_run() -> None:
    found = answers(checklist.check(make_case({"label": [0, 1]}), ()))
    assert found["Where do the images come from?"] == ("Positive: made up 1; Negative: made up 1", "manifest")
