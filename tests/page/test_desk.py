"""Files at the desk: examined by every model, named harmlessly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import cv2
import pytest
import torch

from cxrlab.errors import ConfigError
from cxrlab.inference import Predictor
from cxrlab.models.saliency import GradCam
from cxrlab.models.segmenter import Segmenter
from cxrlab.page import Desk
from cxrlab.page.desk import shown_name


def test_every_model_says_what_it_says_alone(predictor: Predictor, other: Predictor, film: bytes) -> None:
    case = Desk([predictor, other]).examine("a.png", film)
    assert [each.prediction for each in case.opinions] == [
        model.examine("a.png", film).prediction for model in (predictor, other)
    ]
    assert len({each.prediction.score for each in case.opinions}) == 2
    assert case.rgb is None
    assert all(each.heat is None and not each.no_heat for each in case.opinions)


def test_a_close_look_has_a_map_per_model_and_lungs(
    predictor: Predictor, other: Predictor, segmenter: Segmenter, film: bytes
) -> None:
    case = Desk([predictor, other], saliency=GradCam(), segment=segmenter).examine("a.png", film, closely=True)
    assert case.method == "Grad-CAM"
    assert all(each.heat is not None and each.heat.shape == (32, 32) for each in case.opinions)
    assert case.rgb is not None
    assert case.rgb.shape == (96, 96, 3)
    assert case.lungs is not None
    assert 0.1 < case.lungs.mean() < 0.6


def test_what_is_refused_has_neither_map_nor_lungs(
    predictor: Predictor, segmenter: Segmenter, photograph: bytes
) -> None:
    case = Desk([predictor], saliency=GradCam(), segment=segmenter).examine("a.jpg", photograph, closely=True)
    assert case.opinions[0].prediction.verdict == "refuse"
    assert case.opinions[0].prediction.score is None
    assert case.opinions[0].heat is None
    assert case.lungs is None
    assert case.rgb is not None  # a reader may look at what was refused


def test_a_file_without_a_network_says_why_there_is_no_map(predictor: Predictor, film: bytes) -> None:
    desk = Desk([predictor], saliency=GradCam())
    with mock.patch.object(predictor, "network", None):
        (opinion,) = desk.examine("a.png", film, closely=True).opinions
    assert opinion.heat is None
    assert opinion.no_heat.startswith("No map: maps of saliency need gradients")
    assert str(predictor.model.path) not in opinion.no_heat


def test_an_image_over_the_limit_is_never_decoded(predictor: Predictor, huge: bytes) -> None:
    desk = Desk([predictor], max_megapixels=50)
    with mock.patch.object(cv2, "imdecode", side_effect=AssertionError("decoded")):
        case = desk.examine("big.png", huge, closely=True)
    assert case.opinions[0].prediction.reason.startswith(
        "10000x10000 pixels by its header, over the limit of 50,000,000"
    )


def test_threads_get_the_same_answers_as_one_after_another(
    predictor: Predictor, film: bytes, photograph: bytes
) -> None:
    desk = Desk([predictor], saliency=GradCam())
    files = [film, photograph, film, b"", film, b"nonsense"] * 3
    alone = [desk.examine("x", data, closely=True).opinions[0] for data in files]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda data: desk.examine("x", data, closely=True).opinions[0], files))
    for one, another in zip(alone, together, strict=True):
        assert one.prediction == another.prediction
        assert (one.heat is None) == (another.heat is None)
        assert one.heat is None or another.heat is None or (one.heat == another.heat).all()
    assert not any(weight.grad is not None for weight in predictor.network.parameters())  # type: ignore[union-attr]
    assert not torch.is_inference_mode_enabled()


def test_what_cannot_be_explained_is_told_at_the_start(predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match="'conv9' is no layer"):
        Desk([predictor], saliency=GradCam(layer="conv9"))
    with pytest.raises(ValueError, match="number of models"):
        Desk([])
    with pytest.raises(ValueError, match="max_megapixels"):
        Desk([predictor], max_megapixels=151)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("thorax.png", "thorax.png"),
        ("../../etc/passwd", "../../etc/passwd"),
        ("a\x00b\nc\x1b[31m.png", "a\ufffdb\ufffdc\ufffd[31m.png"),
        ("gnp.\u202eexe", "gnp.\ufffdexe"),
        ("a\u2028b", "a\ufffdb"),
        ("\ud800.png", "\ufffd.png"),
        ("", "file without a name"),
        (" \u00a0 ", "\ufffd"),
        ("Röntgen Müller.png", "Röntgen Müller.png"),
        ("x" * 300, "x" * 50 + "…" + "x" * 50),
    ],
)
def test_a_name_is_one_harmless_line(sent: str, shown: str) -> None:
    assert shown_name(sent) == shown
