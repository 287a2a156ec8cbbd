"""One file in words: what card, report and JSON say of it, what they never say, and that templates alone write HTML."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError

import cxrlab.page
from cxrlab.console import DISCLAIMER
from cxrlab.inference import Predictor
from cxrlab.models.saliency import GradCam
from cxrlab.models.segmenter import Segmenter
from cxrlab.page import Desk
from cxrlab.page.desk import Case, Opinion
from cxrlab.page.documents import NO_DIAGNOSIS, NOT_DISEASE, answer, card_and_report, number, render
from cxrlab.page.worth import Worth, worth

FOLDER = Path(str(cxrlab.page.__file__)).parent
known_of = functools.cache(worth)


@pytest.fixture(scope="module")
def case(predictor: Predictor, segmenter: Segmenter, film: bytes) -> Case:
    return Desk([predictor], saliency=GradCam(), segment=segmenter).examine("film.png", film, closely=True)


def pages(case: Case, known: Sequence[Worth] = ()) -> tuple[str, str, Any]:
    """Card, report, and what the viewer draws."""
    known = known or [known_of(each.predictor) for each in case.opinions]
    made = card_and_report(case, known, datetime(2026, 1, 2, 3, 4, tzinfo=UTC))
    return made["card"], made["report"], made["film"]


def saying(case: Case, **changes: Any) -> Case:
    (opinion,) = case.opinions
    said = dataclasses.replace(opinion.prediction, **changes)
    return dataclasses.replace(case, opinions=(dataclasses.replace(opinion, prediction=said),))


def statements(case: Case) -> str:
    return " ".join(answer(case, [known_of(each.predictor) for each in case.opinions])["predictions"][0]["statements"])


def test_a_card_shows_the_call_and_the_viewer_gets_film_map_and_lungs(case: Case) -> None:
    card, _, film = pages(case)
    for text in ("Called ", "SYNTHETIC", DISCLAIMER, NO_DIAGNOSIS, NOT_DISEASE):
        assert text in card
    assert not re.search(r"(?:src|href)=\"?(?!data:|#)\w", card)
    (drawn,) = film["maps"]
    assert (drawn["model"], drawn["name"], drawn["place"]) == ("0", "tiny", (0, 0, 96, 96))
    assert all(each["source"].startswith("data:image/") for each in (film, drawn))
    assert film["lungs"].startswith("M")
    assert film["frames"] == []


def test_a_number_says_what_it_means_and_on_what_it_rests(case: Case) -> None:
    text = statements(case)
    assert re.search(r"Calibrated probability 0\.\d{3} \(the network's own score: 0\.\d{3}\)", text)
    assert re.search(r"fitted on 16 images of \d+ Positive and \d+ Negative patients; in 95 % of resamples", text)
    assert re.search(r"sensitivity [\d.]+ \[[\d.]+, [\d.]+\] and specificity", text)
    assert "SYNTHETIC: trained on phantoms" in text


def test_a_score_that_is_no_probability_is_called_one_nowhere(other: Predictor, film: bytes) -> None:
    case = Desk([other]).examine("film.png", film)
    assert "called Positive from 0.5 on; not calibrated: the score is no probability." in statements(case)
    assert "Threshold: a fixed number, fitted to no image." in statements(case)
    assert "robability 0." not in pages(case)[0]


def test_a_value_near_the_threshold_is_said_to_be(case: Case) -> None:
    fitted = case.opinions[0].predictor.decided.fitted_on
    assert fitted is not None
    inside, outside = fitted["threshold_low"], 1.0
    assert "with other patients the call could have been the other one" in statements(saying(case, probability=inside))
    assert "could have been the other one" not in statements(saying(case, probability=outside))


@pytest.mark.parametrize(("value", "shown"), [(0.99999, "above 0.999"), (1e-7, "below 0.001")])
def test_a_number_is_never_rounded_to_certainty(case: Case, value: float, shown: str) -> None:
    assert [number(each) for each in (None, 0.0, value, 0.5, 1.0)] == ["none", "0.000", shown, "0.500", "1.000"]
    assert shown in statements(saying(case, probability=value))
    row, _, rest = pages(saying(case, probability=value))[0].partition("</li>")
    assert shown in row
    assert shown in rest


def test_a_refused_file_has_a_reason_and_no_number(predictor: Predictor, photograph: bytes) -> None:
    case = Desk([predictor], saliency=GradCam()).examine("holiday.jpg", photograph, closely=True)
    card, _, film = pages(case)
    assert "Refused: not scored" in card
    assert case.opinions[0].prediction.reason[1:20] in card
    assert 'class="scale"' not in card
    assert film["maps"] == []
    assert answer(case, [known_of(predictor)])["predictions"][0]["score"] is None


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is empty (0 bytes)"),
        # A terminal, and a program, is told `git lfs pull`.
        (b"version https://git-lfs.github.com/spec/v1", "A Git LFS pointer, which is not read; get the image itself."),
    ],
)
def test_an_unreadable_file_is_a_sentence_without_a_command(predictor: Predictor, data: bytes, sentence: str) -> None:
    case = Desk([predictor]).examine("film.png", data, closely=True)
    assert ("`git lfs pull`" in case.opinions[0].prediction.reason) == (data != b"")
    card, report, film = pages(case)
    assert "Cannot be read" in card
    assert sentence in card
    assert "`" not in card
    assert "<image" not in report
    assert film is None


def test_several_models_stand_beside_each_other(predictor: Predictor, other: Predictor, film: bytes) -> None:
    case = Desk([predictor, other], saliency=GradCam()).examine("film.png", film, closely=True)
    card, report, drawn = pages(case)
    assert [each["name"] for each in drawn["maps"]] == ["tiny", "other"]
    assert len(drawn["frames"]) == 1  # the second model sees no border
    assert report.count('class="heat"') == 2
    assert report.count('visibility="hidden"') == 1
    assert 'class="field"' in report
    assert "not calibrated" in card
    assert "inside the dashed frame" in card
    disagreeing = tuple(
        Opinion(each.predictor, dataclasses.replace(each.prediction, label=label))
        for each, label in zip(case.opinions, "PN", strict=True)
    )
    row, _, card = pages(dataclasses.replace(case, opinions=disagreeing))[0].partition("</li>")
    assert "Models disagree" in row
    assert "The models do not agree." in card


def test_a_report_is_one_file_and_says_all(case: Case) -> None:
    _, report, _ = pages(case)
    assert not re.search(r"(?:src|href)=\"?(?!data:|#)\w", report)
    assert "<script" not in report
    assert "url(" not in report
    assert report.count("<image") == 3  # the film, the film again, its map
    assert '<path class="lungs"' in report
    assert report.count(DISCLAIMER) >= 3
    for text in ("2026-01-02 03:04 UTC", case.sha256, case.opinions[0].prediction.model):
        assert text in report
    assert "Own test images" in report
    assert "Shortcut battery" in report


@pytest.mark.parametrize("name", ['<img src=x onerror="alert(1)">.png', "../../x.png", "a\u202egnp.exe", "' onload='x"])
def test_a_hostile_name_is_text(predictor: Predictor, film: bytes, name: str) -> None:
    for page in pages(Desk([predictor]).examine(name, film, closely=True))[:2]:
        for made in ("<img src=x", "\u202e", "' onload='", 'onerror="'):
            assert made not in page


def test_a_patients_name_in_a_header_is_nowhere(predictor: Predictor, dicom: bytes) -> None:
    case = Desk([predictor], saliency=GradCam()).examine("film.dcm", dicom, closely=True)
    for text in map(str, (*pages(case), answer(case, [known_of(predictor)]))):
        assert "Doe" not in text
        assert "4711" not in re.sub(r"[0-9a-f]{64}|base64,[^\"']*", "", text)


def test_empty_maps_and_lungs_that_were_not_found_are_told(case: Case) -> None:
    (opinion,) = case.opinions
    assert opinion.heat is not None
    blank = dataclasses.replace(opinion, heat=np.zeros_like(opinion.heat))
    card, report, film = pages(dataclasses.replace(case, opinions=(blank,), lungs=np.zeros((9, 9), bool)))
    assert "A map is empty" in card
    assert "No lungs were found" in card
    assert 'class="lungs"' not in report
    assert film["lungs"] == ""


@pytest.mark.parametrize(
    ("measured", "says"),
    [
        ({}, "No evidence: whether maps depend on what was learned is <strong>NOT CHECKED</strong>"),
        ({"HiResCAM": "PASS"}, "No evidence: whether maps depend on what was learned is <strong>NOT CHECKED</strong>"),
        ({"Grad-CAM": "WARN"}, "No evidence: maps were measured to depend little on what the network learned: WARN."),
        ({"Grad-CAM": "PASS"}, "Maps were measured to depend on what the network learned: PASS."),
    ],
)
def test_a_map_is_no_evidence_unless_it_was_measured_to_be(case: Case, measured: dict[str, str], says: str) -> None:
    known = [dataclasses.replace(known_of(case.opinions[0].predictor), maps=measured)]
    assert all(says in page for page in pages(case, known)[:2])


def test_no_python_file_of_the_page_writes_html() -> None:
    for path in FOLDER.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        assert not [text for text in texts if re.search(r"</?[a-z][\w-]*[\s>/]", text)], path.name
        names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(tree)}
        assert not names & {"escape", "Markup"}, path.name


def test_what_is_safe_in_a_template_is_our_own_style_sheet() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "templates").iterdir())
    assert re.findall(r"{{[^{}]*\|\s*safe\s*}}", text) == ["{{ style | safe }}"]
    assert "autoescape" not in text


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'known' is undefined"):
        render("index")
