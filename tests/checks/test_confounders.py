"""What the check says of phantoms whose shortcut is known, of odd data sets, and of the paper's own images."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict

import numpy as np
import pytest
from tests.checks.conftest import make_case

from cxrlab.checks import confounders
from cxrlab.checks.base import Finding, Section, Verdict
from cxrlab.datamodules.cues import plant_shortcut
from cxrlab.datamodules.sources.phantom import Anatomy, draw

N = 80  # phantoms, each of another patient, the last 20 of them for testing


@functools.cache
def drawn(disease: str) -> np.ndarray:
    """Odd ones are Positive."""
    films = []
    for number in range(N):
        anatomy = Anatomy.sample(np.random.default_rng([7, number]))
        films.append(draw(anatomy, np.random.default_rng([8, number]), 256, number % 2, disease)[0])
    return np.stack(films)


def checked(grey: np.ndarray) -> Section:
    columns = {"label": [row % 2 for row in range(N)], "split": ["train"] * (N - N // 4) + ["test"] * (N // 4)}
    return confounders.check(make_case(columns, grey=grey, synthetic=True))


def planted(kind: str) -> np.ndarray:
    """The cue on nine in ten of the Positive and one in ten of the Negative phantoms."""
    grey = drawn("lines").copy()
    for label, share in ((0, 0.1), (1, 0.9)):
        rows = np.random.default_rng(label).permutation(np.arange(label, N, 2))
        for row in rows[: round(share * len(rows))]:
            grey[row] = plant_shortcut(grey[row], kind)
    return grey


def by_name(section: Section) -> dict[str, Finding]:
    return {finding.check.removeprefix("label told by the "): finding for finding in section.findings}


def test_phantoms_without_a_shortcut() -> None:
    section = checked(drawn("lines"))
    found = by_name(section)
    assert list(found) == ["file header", "edges of the images", "inputs that may hold some lung"]
    assert found["file header"].verdict is Verdict.PASS
    assert "same for all 80 images of 80 patients" in found["file header"].said
    assert found["edges of the images"].verdict is Verdict.PASS
    assert "[" in found["edges of the images"].said  # the best, with its interval
    assert section.answer == "Nothing without a lung tells the labels apart."
    assert found["inputs that may hold some lung"].verdict is Verdict.PASS  # there is disease, too fine for them
    assert [picture.name for picture in section.pictures] == ["lung_free", "lung_free_surest"]


def test_disease_that_a_thumbnail_shows_is_told_where_lung_may_be_seen() -> None:
    found = by_name(checked(drawn("consolidation")))
    assert found["edges of the images"].verdict is Verdict.PASS
    assert found["inputs that may hold some lung"].verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("marker", "a mark in the top left corner"),
        ("border", "a bright frame"),
        ("brightness", "overall brightness (lighter images)"),
    ],
)
def test_a_planted_shortcut_is_found_named_and_first(kind: str, words: str) -> None:
    section = checked(planted(kind))
    edges = by_name(section)["edges of the images"]
    assert edges.verdict is Verdict.FAIL
    assert words in edges.said
    assert section.answer == edges.said
    assert [finding.verdict for finding in section.findings].count(Verdict.FAIL) == 1
    assert section.facts["explanations"]["edges of the images"][0][0] == words
    inputs = section.facts["inputs"]
    assert max(one["cv_auroc"].value for one in inputs.values() if "cv_auroc" in one) > 0.8
    assert inputs["border"]["permuted"]["draws"] == 999
    assert len(section.facts["surest"]["rows"]) == 8
    json.dumps(section.facts, allow_nan=False, default=asdict)


def test_labels_without_anything() -> None:
    section = confounders.check(make_case({"label": [0, 1] * 20}))
    assert Verdict.FAIL not in {finding.verdict for finding in section.findings}
    rows = {row[0]: row for row in section.tables[0].rows}
    assert rows["image size"][2] == "the same for all"
    assert rows["corners"][-2:] == ["NOT CHECKED", "NOT CHECKED"]  # there is no test split
    assert "test" not in section.facts["inputs"]["corners"]
    assert [table.caption.split()[0] for table in section.tables] == ["Classifiers", "Explanations:"]


def test_one_size_for_one_class() -> None:
    widths = [512 if row % 2 else 490 + row + 25 * (row > 20) for row in range(40)]
    section = confounders.check(make_case({"label": [(row + 1) % 2 for row in range(40)]}, facts={"width": widths}))
    header = by_name(section)["file header"]
    assert header.verdict is Verdict.FAIL
    assert header.weight == 1
    assert "Positive goes with another size than 512 x 480" in header.said
    assert "AUROC 1.000 [" in header.said
    assert "AUROC of 1.00" in header.details


def test_too_few_patients() -> None:
    columns = {"label": [1, 1, 1, *[0] * 12], "patient_id": ["a", "a", "b", *map(str, range(12))]}
    section = confounders.check(make_case({**columns, "split": ["train", "train", "test", *["train", "test"] * 6]}))
    (finding,) = section.findings
    assert finding.verdict is Verdict.NOT_CHECKED
    assert "2 Positive patients" in finding.said
    rows = {row[0]: row for row in section.tables[0].rows}
    assert rows["border"][2] == "NOT CHECKED"
    assert "of 7 [" in str(rows["border"][-2])  # training and testing needs no folds
    json.dumps(section.facts, allow_nan=False, default=asdict)


@pytest.mark.parametrize("labels", [[1], [1, 0], [1, 1, 1, 1]])
def test_tiny_sets(labels: list[int]) -> None:
    (finding,) = confounders.check(make_case({"label": labels})).findings
    assert finding.verdict is Verdict.NOT_CHECKED


def test_a_test_set_of_one_class() -> None:
    split = ["test" if row in (1, 3) else "train" for row in range(20)]
    section = confounders.check(make_case({"label": [row % 2 for row in range(20)], "split": split}))
    rows = {row[0]: row for row in section.tables[0].rows}
    assert rows["corners"][-1] == "undefined: one class"
    assert section.facts["inputs"]["corners"]["test"]["auroc"] is None
    json.dumps(section.facts, allow_nan=False, default=asdict)


def test_people_who_share_a_film_count_as_one() -> None:
    columns = {"label": [0, 1] * 6, "patient_id": [*"abcdefabcdef"]}
    section = confounders.check(make_case(columns, pairs=[(1, 3)]))  # b and d have one film
    assert "2 Positive patients" in section.findings[0].said
