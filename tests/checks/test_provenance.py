from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checks.conftest import found, make_case, numbers, paper_case

from cxrlab.checks import provenance
from cxrlab.checks.base import Section, Verdict

COLLECTIONS = "collections of the labels"
OTHERS = ["Normal"] * 20


def columns(**more: Any) -> dict[str, Any]:
    return {"label": [1] * 20 + [0] * 20, "split": (["train"] * 15 + ["test"] * 5) * 2, **more}


def checked(claim: str = "", **more: Any) -> Section:
    """Of twenty images of either label, whose columns are given."""
    return provenance.check(make_case(columns(**more), claim=claim))


def test_a_claim_that_few_positive_test_images_bear_out_fails_with_the_counts() -> None:
    finding = ["COVID-19"] * 15 + ["COVID-19, ARDS"] + ["SARS"] * 3 + ["Streptococcus"] + OTHERS
    section = checked("covid-19", finding=finding)
    claim = found(section, "Positive is covid-19")
    assert claim.verdict == Verdict.FAIL
    assert claim.weight == pytest.approx(0.8)
    assert numbers(claim.said) == ["1", "5", "1", "5", "3", "1"]
    assert "SARS 3, Streptococcus 1" in claim.said
    assert numbers(claim.details) == ["15", "15", "15", "15"]
    untrained = found(section, "findings that only the test shows")
    assert untrained.verdict == Verdict.FAIL
    assert "Streptococcus 1" in untrained.evidence
    assert untrained.said.startswith("5 of 5 (100 %)")
    assert found(section, "Negative is not covid-19").verdict == Verdict.PASS
    json.dumps(section.facts, allow_nan=False)
    assert section.facts["findings"]["Positive"]["test"]["SARS"] == 3


def test_a_claim_that_holds_passes_and_one_nobody_can_know_is_not_checked() -> None:
    good, silent = checked("COVID-19", finding=["COVID-19"] * 20 + OTHERS), checked("COVID-19")
    for check in ("Positive is COVID-19", "findings that only the test shows", "findings under both labels"):
        assert found(good, check).verdict == Verdict.PASS
        assert found(silent, check).verdict == Verdict.NOT_CHECKED
    unclaimed = checked(finding=["COVID-19"] * 20 + OTHERS)
    assert found(unclaimed, "what Positive means").verdict == Verdict.NOT_CHECKED
    partly = checked("COVID-19", finding=["COVID-19"] * 10 + [""] * 10 + OTHERS, split=["train"] * 40)
    assert found(partly, "Positive is COVID-19").verdict == Verdict.NOT_CHECKED
    assert "unknown 10" in found(partly, "Positive is COVID-19").evidence


def test_negatives_that_name_the_disease_fail_and_a_finding_under_both_labels_warns() -> None:
    finding = ["COVID-19"] * 19 + ["Normal"] + ["Normal"] * 18 + ["Pneumonia/Viral/COVID-19"] * 2
    section = checked("COVID-19", finding=finding)
    negative, both = found(section, "Negative is not COVID-19"), found(section, "findings under both labels")
    assert negative.verdict == Verdict.FAIL
    assert negative.said.startswith("2 of 20 (10 %)")
    assert both.verdict == Verdict.WARN
    assert "Normal (Positive 1, Negative 18)" in both.said


def test_findings_joined_by_a_bar_are_several() -> None:
    finding = ["Effusion|Mass"] * 10 + ["Effusion"] * 10 + ["Mass|Nodule"] * 5 + ["No Finding"] * 15
    section = checked("Effusion", finding=finding)
    assert ": Mass (Positive 10, Negative 5)." in found(section, "findings under both labels").said
    assert section.facts["findings"]["Positive"]["train"] == {"Effusion": 15, "Mass": 10}
    assert found(section, "Negative is not Effusion").verdict == Verdict.PASS


@pytest.mark.parametrize(
    ("more", "verdict", "evidence"),
    [
        ({"collection": ["cohen"] * 20 + ["kermany"] * 20}, Verdict.FAIL, "Positive: cohen 20; Negative: kermany 20"),
        ({"source": ["a"] * 20 + ["b"] * 20}, Verdict.FAIL, "Positive: a 20; Negative: b 20"),
        ({"collection": (["a"] * 10 + ["b"] * 10) * 2}, Verdict.PASS, "0 % of the images"),
        ({"collection": ["a"] * 21 + ["b"] * 19}, Verdict.FAIL, "48 % of the images are in collections of one label"),
        ({"collection": ["a"] * 40}, Verdict.PASS, "one collection, a"),
        ({}, Verdict.NOT_CHECKED, "does not say from which collections"),
    ],
)
def test_labels_that_share_no_collection_fail_and_others_are_tested(more: Any, verdict: Verdict, evidence: str) -> None:
    finding = found(checked(**more), COLLECTIONS)
    assert finding.verdict == verdict
    assert evidence in finding.evidence
    assert (finding.weight == 1) == evidence.startswith("Positive")


def test_drawn_images_are_of_one_collection() -> None:
    section = provenance.check(make_case(columns(), synthetic=True))
    assert found(section, COLLECTIONS).verdict == Verdict.PASS


def test_children_against_adults_fail_whether_given_or_told_by_age() -> None:
    ages = [str(30 + row) for row in range(20)] + ["4"] * 20
    section = checked(age=ages)
    people = found(section, "children and adults")
    assert people.verdict == Verdict.FAIL
    assert "Positive: adult 20; Negative: child 20" in people.said
    assert people.details.startswith("V = 1.00, p < 0.001 (Holm), n = 40")
    assert found(section, "age and label").verdict == Verdict.FAIL
    assert "AUROC = 1.00" in found(section, "age and label").evidence
    given = checked(age=ages[:20] + [""] * 20, population=[""] * 20 + ["child"] * 20)
    assert found(given, "children and adults").verdict == Verdict.FAIL
    missing = found(given, "properties that cannot be compared")
    assert missing.verdict == Verdict.NOT_CHECKED
    assert "age is known for 20 Positive and 0 Negative patients" in missing.details
    assert "Not known for any image: view, sex," in missing.details
    recorded = found(given, "recorded for one label rather than the other")
    assert recorded.verdict == Verdict.WARN
    assert numbers(recorded.details)[:4] == ["20", "20", "0", "20"]


def test_patients_are_counted_rather_than_images() -> None:
    # 20 AP images against 20 PA images would be far beyond chance, but they are those of 4 patients.
    patients = ["a"] * 17 + ["b", "c", "d"] + [f"n{row}" for row in range(20)]
    missing = found(checked(patient_id=patients, view=["AP"] * 20 + ["PA"] * 20), "properties that cannot be compared")
    assert "view is known for 4 Positive and 20 Negative patients" in missing.details


def test_a_licence_or_location_is_at_most_a_warning() -> None:
    licence = ["CC BY-NC-ND 4.0"] * 20 + ["CC BY"] * 18 + [""] * 2
    section = checked(licence=licence, location=["Wuhan"] * 20 + ["Melbourne"] * 20)
    for check in ("licence and label", "location and label", "licences"):
        assert found(section, check).verdict == Verdict.WARN
    assert "2 of 40 (5 %)" in found(section, "licences").said
    assert "CC BY-NC-ND 4.0 20, CC BY 18, unknown 2. 20 images" in found(section, "licences").details
    (table,) = [table for table in section.tables if table.caption.startswith("Licences")]
    assert list(table.rows[0]) == ["CC BY-NC-ND 4.0", 20, 0, 20]


def test_devices_and_views_of_file_headers_count_where_the_manifest_is_silent() -> None:
    facts = {"device": ["Philips DigitalDiagnost"] * 20 + ["Siemens Mobilett"] * 20, "view": ["PA", "AP"] * 20}
    section = provenance.check(make_case(columns(), facts=facts))
    assert found(section, "device and label").verdict == Verdict.FAIL
    assert found(section, "view and label").verdict == Verdict.PASS


def test_a_test_split_of_other_people_warns() -> None:
    sex = (["M"] * 60 + ["F"] * 20) + ["M", "F"] * 40
    table = {"label": [1] * 80 + [0] * 80, "split": (["train"] * 60 + ["test"] * 20) * 2, "sex": sex}
    shift = found(provenance.check(make_case(table)), "test and training alike")
    assert shift.verdict == Verdict.WARN
    assert "sex, Positive test: F 20; Positive training: M 60" in shift.evidence


@pytest.mark.slow
def test_where_nothing_differs_the_tests_stay_silent_at_their_stated_rate() -> None:
    rng, alarms = np.random.default_rng(0), 0
    for _ in range(12):
        sex, age = rng.choice(["M", "F"], 40).tolist(), rng.integers(18, 90, 40).tolist()
        section = checked(sex=sex, age=age, device=rng.choice(["one", "two"], 40).tolist())
        alarms += any(finding.verdict in (Verdict.FAIL, Verdict.WARN) for finding in section.findings)
    assert alarms <= 3  # at 5 % more than 3 in 0.2 % of such series


@pytest.mark.slow
def test_further_columns_that_say_nothing_warn_no_more_often_than_stated() -> None:
    rng, warned = np.random.default_rng(0), 0
    for _ in range(20):
        table: dict[str, Any] = {f"c{number}": rng.choice(["a", "b", "c"], 40) for number in range(10)}
        section = checked(**table)
        verdicts = [finding.verdict for finding in section.findings if finding.check.endswith("and label")]
        warned += Verdict.WARN in verdicts or Verdict.FAIL in verdicts
    assert warned <= 3  # 5 % of 20 sets, of ten columns each: 1 expected


@pytest.mark.slow
def test_the_papers_positives_are_what_their_files_say(paper_root: Path) -> None:
    section = provenance.check(paper_case(paper_root))
    claim = found(section, "Positive is COVID-19")
    assert numbers(claim.said) == ["4", "20", "2", "9", "11", "5"]
    assert numbers(claim.details)[:2] == ["68", "74"]
    assert "Positive: cohen 94; Negative: kermany 94" in found(section, COLLECTIONS).said
    for check in (claim.check, "findings that only the test shows", COLLECTIONS, "children and adults"):
        assert found(section, check).verdict == Verdict.FAIL


def test_every_further_column_that_tells_the_label_is_named() -> None:
    section = checked(
        reader=["R1"] * 20 + ["R2"] * 20,
        hospital=(["A"] * 18 + ["B"] * 2) + ["B"] * 20,
        study_date=[f"2020-{month:02d}-{day:02d}" for month in (1, 2) for day in range(1, 21)],
        kvp=[float(110 + row % 7) for row in range(20)] + [float(80 + row % 7) for row in range(20)],
        ward=["x", "y"] * 20,
        image_id=list(range(40)),
        remark=[f"text {row}" for row in range(40)],
    )
    for name in ("reader", "hospital", "study_date", "kvp"):
        assert found(section, f"{name} and label").verdict == Verdict.WARN, name
    reader = found(section, "reader and label")
    assert "Positive: R1 20; Negative: R2 20" in reader.said
    assert reader.details.startswith("V = 1.00")
    assert "AUROC = 0.00" in found(section, "study_date and label").evidence
    assert "ward; smallest p = 1" in found(section, "further columns and label").said
    for name in ("remark", "image_id"):
        assert name not in " ".join(finding.check + finding.evidence for finding in section.findings)
    json.dumps(section.facts, allow_nan=False)


@pytest.mark.parametrize(
    ("positives", "negatives", "verdict", "smallest"),
    [(40, 5, Verdict.NOT_CHECKED, "0.66 four times in five"), (100, 100, Verdict.PASS, "0.20")],
)
def test_a_pass_on_few_patients_is_none(positives: int, negatives: int, verdict: Verdict, smallest: str) -> None:
    table = {"label": [1] * positives + [0] * negatives, "sex": (["M", "F"] * 100)[: positives + negatives]}
    sex = found(provenance.check(make_case(table)), "sex and label")
    assert sex.verdict == verdict
    assert f"a difference in shares of {smallest}" in sex.details


def test_one_patient_has_one_sex_and_ages_are_possible() -> None:
    who = [f"p{row // 2}" for row in range(40)]
    wrong = checked(patient_id=who, sex=["M", "F"] + ["F", "F"] * 19, age=[155, -3] + [50] * 38)
    sound = checked(patient_id=who, sex=["M", "M"] * 20, age=[0, 99] * 20)
    for check, said, named in (
        ("patients of two sexes", "1 of 20 (5 %)", "p0"),
        ("impossible ages", "2 of 40 (5 %) ages", "155 1"),
    ):
        assert found(wrong, check).verdict == Verdict.WARN
        assert found(wrong, check).said.startswith(said)
        assert named in found(wrong, check).said
        assert found(sound, check).verdict == Verdict.PASS
