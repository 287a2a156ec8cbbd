from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checks.conftest import numbers

from cxrlab.checks import provenance
from cxrlab.checks.base import Case, Finding, Section, Verdict
from cxrlab.datamodules.sources import PaperSource

HALF = [1] * 20 + [0] * 20


def found(section: Section, check: str) -> Finding:
    (finding,) = [finding for finding in section.findings if finding.check == check]
    return finding


def columns(**more: Any) -> dict[str, Any]:
    return {"label": HALF, "split": (["train"] * 15 + ["test"] * 5) * 2, **more}


def test_a_claim_that_few_positive_test_images_bear_out_fails_with_the_counts(make_case: Any) -> None:
    finding = ["COVID-19"] * 15 + ["COVID-19, ARDS"] + ["SARS"] * 3 + ["Streptococcus"] + ["Normal"] * 20
    section = provenance.check(make_case(columns(finding=finding), claim="covid-19"))
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


def test_a_claim_that_holds_passes_and_one_nobody_can_know_is_not_checked(make_case: Any) -> None:
    good = provenance.check(make_case(columns(finding=["COVID-19"] * 20 + ["Normal"] * 20), claim="COVID-19"))
    assert found(good, "Positive is COVID-19").verdict == Verdict.PASS
    assert found(good, "findings that only the test shows").verdict == Verdict.PASS
    assert found(good, "findings under both labels").verdict == Verdict.PASS
    silent = provenance.check(make_case(columns(), claim="COVID-19"))
    assert found(silent, "Positive is COVID-19").verdict == Verdict.NOT_CHECKED
    assert found(silent, "findings that only the test shows").verdict == Verdict.NOT_CHECKED
    assert found(silent, "findings under both labels").verdict == Verdict.NOT_CHECKED
    unclaimed = provenance.check(make_case(columns(finding=["COVID-19"] * 20 + ["Normal"] * 20)))
    assert found(unclaimed, "what Positive means").verdict == Verdict.NOT_CHECKED
    partly = columns(finding=["COVID-19"] * 10 + [""] * 10 + ["Normal"] * 20, split=["train"] * 40)
    section = provenance.check(make_case(partly, claim="COVID-19"))
    assert found(section, "Positive is COVID-19").verdict == Verdict.NOT_CHECKED
    assert "unknown 10" in found(section, "Positive is COVID-19").evidence


def test_negatives_that_name_the_disease_fail_and_a_finding_under_both_labels_warns(make_case: Any) -> None:
    finding = ["COVID-19"] * 19 + ["Normal"] + ["Normal"] * 18 + ["Pneumonia/Viral/COVID-19"] * 2
    section = provenance.check(make_case(columns(finding=finding), claim="COVID-19"))
    negative = found(section, "Negative is not COVID-19")
    assert negative.verdict == Verdict.FAIL
    assert negative.said.startswith("2 of 20 (10 %)")
    both = found(section, "findings under both labels")
    assert both.verdict == Verdict.WARN
    assert "Normal (Positive 1, Negative 18)" in both.said


def test_labels_that_share_no_collection_fail(make_case: Any) -> None:
    disjoint = provenance.check(make_case(columns(collection=["cohen"] * 20 + ["kermany"] * 20)))
    finding = found(disjoint, "collections of the labels")
    assert (finding.verdict, finding.weight) == (Verdict.FAIL, 1)
    assert "Positive: cohen 20; Negative: kermany 20" in finding.said
    by_source = provenance.check(make_case(columns(source=["a"] * 20 + ["b"] * 20)))
    assert found(by_source, "collections of the labels").verdict == Verdict.FAIL


def test_collections_that_hold_both_labels_are_tested(make_case: Any) -> None:
    shared = provenance.check(make_case(columns(collection=(["a"] * 10 + ["b"] * 10) * 2)))
    assert found(shared, "collections of the labels").verdict == Verdict.PASS
    nearly = provenance.check(make_case(columns(collection=["a"] * 20 + ["a"] + ["b"] * 19)))
    assert found(nearly, "collections of the labels").verdict == Verdict.FAIL
    assert "48 % of the images are in collections of one label" in found(nearly, "collections of the labels").evidence
    one = provenance.check(make_case(columns(collection=["a"] * 40)))
    assert found(one, "collections of the labels").verdict == Verdict.PASS
    unknown = provenance.check(make_case(columns()))
    assert found(unknown, "collections of the labels").verdict == Verdict.NOT_CHECKED
    drawn = provenance.check(make_case(columns(), synthetic=True))
    assert found(drawn, "collections of the labels").verdict == Verdict.PASS


def test_children_against_adults_fail_whether_given_or_told_by_age(make_case: Any) -> None:
    ages = [str(30 + row) for row in range(20)] + ["4"] * 20
    section = provenance.check(make_case(columns(age=ages)))
    people = found(section, "children and adults")
    assert people.verdict == Verdict.FAIL
    assert "Positive: adult 20; Negative: child 20" in people.said
    assert people.details.startswith("V = 1.00, p < 0.001 (Holm), n = 40")
    assert found(section, "age and label").verdict == Verdict.FAIL
    assert "AUROC = 1.00" in found(section, "age and label").evidence
    given = provenance.check(make_case(columns(age=ages[:20] + [""] * 20, population=[""] * 20 + ["child"] * 20)))
    assert found(given, "children and adults").verdict == Verdict.FAIL
    missing = found(given, "properties that cannot be compared")
    assert missing.verdict == Verdict.NOT_CHECKED
    assert "age is known for 20 Positive and 0 Negative patients" in missing.details
    assert "Not known for any image: view, sex," in missing.details
    recorded = found(given, "recorded for one label rather than the other")
    assert recorded.verdict == Verdict.WARN
    assert numbers(recorded.details)[:4] == ["20", "20", "0", "20"]


def test_patients_are_counted_rather_than_images(make_case: Any) -> None:
    # 20 AP images against 20 PA images would be far beyond chance, but they are those of 4 patients.
    one_patient = ["a"] * 17 + ["b", "c", "d"] + [f"n{row}" for row in range(20)]
    section = provenance.check(make_case(columns(patient_id=one_patient, view=["AP"] * 20 + ["PA"] * 20)))
    missing = found(section, "properties that cannot be compared")
    assert "view is known for 4 Positive and 20 Negative patients" in missing.details


def test_a_licence_or_location_is_at_most_a_warning(make_case: Any) -> None:
    licence = ["CC BY-NC-ND 4.0"] * 20 + ["CC BY"] * 18 + [""] * 2
    section = provenance.check(make_case(columns(licence=licence, location=["Wuhan"] * 20 + ["Melbourne"] * 20)))
    assert found(section, "licence and label").verdict == Verdict.WARN
    assert found(section, "location and label").verdict == Verdict.WARN
    licences = found(section, "licences")
    assert licences.verdict == Verdict.WARN
    assert "2 of 40 (5 %)" in licences.said
    assert "CC BY-NC-ND 4.0 20, CC BY 18, unknown 2. 20 images" in licences.details
    assert any(table.caption.startswith("Licences") for table in section.tables)


def test_devices_and_views_of_file_headers_count_where_the_manifest_is_silent(make_case: Any) -> None:
    facts = {"device": ["Philips DigitalDiagnost"] * 20 + ["Siemens Mobilett"] * 20, "view": ["PA", "AP"] * 20}
    section = provenance.check(make_case(columns(), facts=facts))
    assert found(section, "device and label").verdict == Verdict.FAIL
    assert found(section, "view and label").verdict == Verdict.PASS


def test_a_test_split_of_other_people_warns(make_case: Any) -> None:
    sex = (["M"] * 60 + ["F"] * 20) + ["M", "F"] * 40
    table = {"label": [1] * 80 + [0] * 80, "split": (["train"] * 60 + ["test"] * 20) * 2, "sex": sex}
    section = provenance.check(make_case(table))
    shift = found(section, "test and training alike")
    assert shift.verdict == Verdict.WARN
    assert "sex, Positive test: F 20; Positive training: M 60" in shift.evidence


@pytest.mark.slow
def test_where_nothing_differs_the_tests_stay_silent_at_their_stated_rate(make_case: Any) -> None:
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(12):
        table = columns(
            sex=generator.choice(["M", "F"], 40).tolist(),
            age=generator.integers(18, 90, 40).tolist(),
            device=generator.choice(["one", "two"], 40).tolist(),
        )
        section = provenance.check(make_case(table))
        alarms += any(finding.verdict in (Verdict.FAIL, Verdict.WARN) for finding in section.findings)
    assert alarms <= 3  # at 5 % more than 3 in 0.2 % of such series


@pytest.mark.slow
def test_the_papers_positives_are_what_their_files_say(paper_root: Path, make_case: Any) -> None:
    source = PaperSource(str(paper_root))
    manifest = source.manifest()
    case: Case = make_case({name: manifest[name].tolist() for name in manifest.columns}, claim=source.claim)
    section = provenance.check(case)
    claim = found(section, "Positive is COVID-19")
    assert claim.verdict == Verdict.FAIL
    assert numbers(claim.said) == ["4", "20", "2", "9", "11", "5"]
    assert numbers(claim.details)[:2] == ["68", "74"]
    assert found(section, "findings that only the test shows").verdict == Verdict.FAIL
    collections = found(section, "collections of the labels")
    assert collections.verdict == Verdict.FAIL
    assert "Positive: cohen 94; Negative: kermany 94" in collections.said
    assert found(section, "children and adults").verdict == Verdict.FAIL


def test_every_further_column_that_tells_the_label_is_named(make_case: Any) -> None:
    days = [f"2020-{month:02d}-{day:02d}" for month in (1, 2) for day in range(1, 21)]
    table = columns(
        reader=["R1"] * 20 + ["R2"] * 20,
        hospital=(["A"] * 18 + ["B"] * 2) + ["B"] * 20,
        study_date=days,
        kvp=[float(110 + row % 7) for row in range(20)] + [float(80 + row % 7) for row in range(20)],
        ward=["x", "y"] * 20,
        image_id=list(range(40)),
        remark=[f"text {row}" for row in range(40)],
    )
    section = provenance.check(make_case(table))
    for name in ("reader", "hospital", "study_date", "kvp"):
        assert found(section, f"{name} and label").verdict == Verdict.WARN, name
    reader = found(section, "reader and label")
    assert "Positive: R1 20; Negative: R2 20" in reader.said
    assert reader.details.startswith("V = 1.00")
    assert "AUROC = 0.00" in found(section, "study_date and label").evidence
    assert "ward; smallest p = 1" in found(section, "further columns and label").said
    assert "remark" not in " ".join(finding.check + finding.evidence for finding in section.findings)
    assert "image_id" not in " ".join(finding.check + finding.evidence for finding in section.findings)
    json.dumps(section.facts, allow_nan=False)


@pytest.mark.slow
def test_further_columns_that_say_nothing_warn_no_more_often_than_stated(make_case: Any) -> None:
    rng, warned = np.random.default_rng(0), 0
    for _ in range(20):
        table = columns(**{f"c{number}": rng.choice(["a", "b", "c"], 40) for number in range(10)})
        verdicts = [f.verdict for f in provenance.check(make_case(table)).findings if f.check.endswith("and label")]
        warned += Verdict.WARN in verdicts or Verdict.FAIL in verdicts
    assert warned <= 3  # 5 % of 20 sets, of ten columns each: 1 expected


def test_a_pass_on_few_patients_is_none(make_case: Any) -> None:
    labels = [1] * 40 + [0] * 5
    section = provenance.check(make_case({"label": labels, "sex": ["M", "F"] * 22 + ["M"]}))
    sex = found(section, "sex and label")
    assert sex.verdict == Verdict.NOT_CHECKED
    assert "a difference in shares of 0.66 four times in five" in sex.details
    enough = provenance.check(make_case({"label": [1] * 100 + [0] * 100, "sex": ["M", "F"] * 100}))
    assert found(enough, "sex and label").verdict == Verdict.PASS
    assert "a difference in shares of 0.20" in found(enough, "sex and label").evidence


def test_one_patient_has_one_sex_and_ages_are_possible(make_case: Any) -> None:
    who = [f"p{row // 2}" for row in range(40)]
    sexes = ["M", "F"] + ["F", "F"] * 19
    section = provenance.check(make_case(columns(patient_id=who, sex=sexes, age=[155, -3] + [50] * 38)))
    assert found(section, "patients of two sexes").verdict == Verdict.WARN
    assert found(section, "patients of two sexes").said.startswith("1 of 20 (5 %)")
    assert "p0" in found(section, "patients of two sexes").said
    ages = found(section, "impossible ages")
    assert ages.verdict == Verdict.WARN
    assert ages.evidence.startswith("2 of 40 (5 %) ages")
    assert "155 1" in ages.evidence
    sound = provenance.check(make_case(columns(patient_id=who, sex=["M", "M"] * 20, age=[0, 99] * 20)))
    assert found(sound, "patients of two sexes").verdict == found(sound, "impossible ages").verdict == Verdict.PASS


def test_findings_joined_by_a_bar_are_several(make_case: Any) -> None:
    finding = ["Effusion|Mass"] * 10 + ["Effusion"] * 10 + ["Mass|Nodule"] * 5 + ["No Finding"] * 15
    section = provenance.check(make_case(columns(finding=finding), claim="Effusion"))
    assert ": Mass (Positive 10, Negative 5)." in found(section, "findings under both labels").said
    assert section.facts["findings"]["Positive"]["train"] == {"Effusion": 15, "Mass": 10}
    assert found(section, "Negative is not Effusion").verdict == Verdict.PASS
