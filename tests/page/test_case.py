"""One file in words: what a card, a report and JSON say of it, and what they never say."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime

import numpy as np
import pytest

from cxrlab.console import DISCLAIMER
from cxrlab.inference import Predictor
from cxrlab.models.saliency import GradCam
from cxrlab.models.segmenter import Segmenter
from cxrlab.page import Desk
from cxrlab.page.case import NOT_DISEASE, answer, card, report
from cxrlab.page.desk import Case, Opinion
from cxrlab.page.documents import NO_DIAGNOSIS
from cxrlab.page.worth import worth

WHEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture(scope="module")
def case(predictor: Predictor, segmenter: Segmenter, film: bytes) -> Case:
    return Desk([predictor], saliency=GradCam(), segment=segmenter).examine("film.png", film, closely=True)


def saying(case: Case, **changes: object) -> Case:
    (opinion,) = case.opinions
    said = dataclasses.replace(opinion.prediction, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(case, opinions=(dataclasses.replace(opinion, prediction=said),))


def statements(case: Case) -> str:
    return " ".join(answer(case, [worth(each.predictor) for each in case.opinions])["predictions"][0]["statements"])


def test_a_card_shows_film_map_lungs_and_call(case: Case) -> None:
    shown = card(case, [worth(case.opinions[0].predictor)])
    assert shown.count("<image") == 2
    assert 'class="heat"' in shown
    assert '<path class="lungs"' in shown
    assert "Called " in shown
    assert "SYNTHETIC" in shown
    assert DISCLAIMER in shown
    assert NO_DIAGNOSIS in shown
    assert NOT_DISEASE in shown
    assert not re.search(r"(?:src|href)=\"?(?!data:)\w", shown)


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
    assert "robability 0." not in card(case, [worth(other)])


def test_a_value_near_the_threshold_is_said_to_be(case: Case) -> None:
    fitted = case.opinions[0].predictor.decided.fitted_on
    assert fitted is not None
    inside, outside = fitted["threshold_low"], 1.0
    assert "with other patients the call could have been the other one" in statements(saying(case, probability=inside))
    assert "could have been the other one" not in statements(saying(case, probability=outside))


def test_a_number_is_never_rounded_to_certainty(case: Case) -> None:
    assert "above 0.999" in statements(saying(case, probability=0.99999))
    assert "below 0.001" in statements(saying(case, probability=1e-7))


def test_a_refused_file_has_a_reason_and_no_number(predictor: Predictor, photograph: bytes) -> None:
    case = Desk([predictor], saliency=GradCam()).examine("holiday.jpg", photograph, closely=True)
    shown = card(case, [worth(predictor)])
    assert "Refused: not scored" in shown
    assert case.opinions[0].prediction.reason[1:20] in shown
    assert 'class="scale"' not in shown
    assert 'class="heat"' not in shown
    assert answer(case, [worth(predictor)])["predictions"][0]["score"] is None


def test_an_unreadable_file_is_a_sentence(predictor: Predictor) -> None:
    case = Desk([predictor]).examine("empty.png", b"", closely=True)
    shown = card(case, [worth(predictor)])
    assert "Cannot be read" in shown
    assert "The file is empty (0 bytes)" in shown
    assert "<image" not in shown


def test_a_reason_on_the_page_has_no_command(predictor: Predictor) -> None:
    case = Desk([predictor]).examine("film.png", b"version https://git-lfs.github.com/spec/v1", closely=True)
    assert "`git lfs pull`" in case.opinions[0].prediction.reason  # which a terminal, and a program, is told
    shown = card(case, [worth(predictor)])
    assert "A Git LFS pointer, which is not read; get the image itself." in shown
    assert "`" not in shown


def test_several_models_stand_beside_each_other(predictor: Predictor, other: Predictor, film: bytes) -> None:
    case = Desk([predictor, other], saliency=GradCam()).examine("film.png", film, closely=True)
    known = [worth(predictor), worth(other)]
    shown = card(case, known)
    assert shown.count('class="heat"') == 2
    assert shown.count('visibility="hidden"') == 1
    assert "not calibrated" in shown
    assert 'class="field"' in shown  # the second model sees no border
    assert "inside the dashed frame" in shown
    opposite = [
        dataclasses.replace(each.prediction, label=name) for each, name in zip(case.opinions, "PN", strict=True)
    ]
    disagreeing = tuple(Opinion(each.predictor, said) for each, said in zip(case.opinions, opposite, strict=True))
    assert "The models do not agree." in card(dataclasses.replace(case, opinions=disagreeing), known)


def test_a_report_is_one_file_and_says_all(case: Case) -> None:
    page = report(case, [worth(case.opinions[0].predictor)], WHEN)
    assert not re.search(r"(?:src|href)=\"?(?!data:)\w", page)
    assert "<script" not in page
    assert "url(" not in page
    assert page.count("<image") == 3  # the film, the film again, its map
    assert page.count(DISCLAIMER) >= 3
    assert "2026-01-02 03:04 UTC" in page
    assert case.sha256 in page
    assert case.opinions[0].prediction.model in page
    assert "Own test images" in page
    assert "Shortcut battery" in page


@pytest.mark.parametrize("name", ['<img src=x onerror="alert(1)">.png', "../../x.png", "a\u202egnp.exe", "' onload='x"])
def test_a_hostile_name_is_text(predictor: Predictor, film: bytes, name: str) -> None:
    case = Desk([predictor]).examine(name, film, closely=True)
    for page in (card(case, [worth(predictor)]), report(case, [worth(predictor)], WHEN)):
        assert "<img src=x" not in page
        assert "\u202e" not in page
        assert "' onload='" not in page
        assert 'onerror="' not in page


def test_a_patients_name_in_a_header_is_nowhere(predictor: Predictor, dicom: bytes) -> None:
    case = Desk([predictor], saliency=GradCam()).examine("film.dcm", dicom, closely=True)
    known = [worth(predictor)]
    for text in (card(case, known), report(case, known, WHEN), str(answer(case, known))):
        assert "Doe" not in text
        assert "4711" not in re.sub(r"[0-9a-f]{64}|base64,[^\"]*", "", text)


def test_empty_maps_and_lungs_that_were_not_found_are_told(case: Case) -> None:
    (opinion,) = case.opinions
    assert opinion.heat is not None
    blank = dataclasses.replace(opinion, heat=np.zeros_like(opinion.heat))
    shown = card(dataclasses.replace(case, opinions=(blank,), lungs=np.zeros((9, 9), bool)), [worth(opinion.predictor)])
    assert "A map is empty" in shown
    assert "No lungs were found" in shown
    assert 'class="lungs"' not in shown


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
    known = [dataclasses.replace(worth(case.opinions[0].predictor), maps=measured)]
    assert says in card(case, known)
    assert says in report(case, known, WHEN)
