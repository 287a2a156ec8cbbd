"""A gate: its rules, its verdicts, and what it takes from a stranger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from cxrlab.datamodules import gate_images
from cxrlab.datamodules.gate_drawings import draw_document
from cxrlab.datamodules.sources.phantom import Anatomy, draw
from cxrlab.models.gate import (
    ACCEPT,
    KINDS,
    NAMES,
    REFUSE,
    WARN,
    Gate,
    Limits,
    colourfulness,
    judged,
)
from cxrlab.models.gate_net import GateNet

Image = np.ndarray[Any, np.dtype[np.uint8]]


@pytest.fixture(scope="module")
def film() -> Image:
    rng = np.random.default_rng(0)
    image, _ = draw(Anatomy.sample(rng), rng, 256, 0.0)
    grey = image if image.ndim == 2 else image[..., 0]
    return np.asarray(np.repeat(grey[..., None], 3, axis=2), np.uint8)


@pytest.fixture
def gate() -> Gate:
    torch.manual_seed(0)
    return Gate(GateNet(len(KINDS), [4, 8]), 32, Limits(0.2, 0.8), {"false_refusal": {"value": 0.01}}, ["synthetic"])


def test_without_a_network_nothing_is_known_and_it_says_what_to_type(film: Image) -> None:
    gate = Gate()
    (judgement,) = gate([film])
    assert (judgement.verdict, judgement.kind, judgement.frontal) == (WARN, "unknown", None)
    assert "cxrlab-train experiment=gate" in judgement.reason
    assert "gate=runs/gate" in judgement.reason
    assert gate.fingerprint == ""
    assert gate.as_entry() == {}
    assert Gate.from_entry({}).network is None


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        (lambda film: np.full_like(film, 90), "blank", "blank"),
        (lambda film: (film // 64 + 100).astype(np.uint8), "blank", "blank"),
        (lambda film: cv2.resize(film, (63, 200)), "too_small", "63 pixels"),
        (lambda film: cv2.resize(film, (300, 20)), "too_small", "export it larger"),
        (lambda film: np.dstack([film[..., 0], film[::-1, :, 1], film[:, ::-1, 2]]), "photograph", "colour photograph"),
    ],
)
def test_rules_that_need_no_weights(
    film: Image, gate: Gate, change: Callable[[Image], Image], kind: str, word: str
) -> None:
    for judge in (Gate(), gate):
        (judgement,) = judge([np.ascontiguousarray(change(film))])
        assert (judgement.verdict, judgement.kind) == (REFUSE, kind)
        assert word in judgement.reason
        assert ";" in judgement.reason  # what it is; what to do


def tinted(film: Image) -> Image:
    """As photographed from a light box: every grey level has its own strong colour."""
    grey = film[..., 0].astype(float)
    return np.asarray(np.dstack([grey * 0.6, grey * 0.8, 60 + grey * 0.76]), np.uint8)


def annotated(film: Image) -> Image:
    """With a red arrow, a yellow box and green letters."""
    image: Any = film.copy()
    cv2.arrowedLine(image, (60, 60), (110, 110), (255, 0, 0), 2)
    cv2.rectangle(image, (140, 120), (180, 160), (255, 255, 0), 2)
    cv2.putText(image, "RUL", (20, 240), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 255, 0), 2)
    return np.asarray(image, np.uint8)


@pytest.mark.parametrize("change", [tinted, annotated, lambda film: film])
def test_a_tint_or_coloured_letters_are_no_photograph(film: Image, change: Callable[[Image], Image]) -> None:
    assert colourfulness(change(film)) < 0.05
    assert Gate()([change(film)])[0].kind == "unknown"


def test_colour_photographs_are_refused_without_a_network() -> None:
    pytest.importorskip("skimage", reason="NOT CHECKED: scikit-image, of the extra gate, is not installed")
    crops = gate_images._photographs(0)
    names = ("astronaut.png", "coffee.png", "flower.jpg", "china.jpg", "motorcycle_left.png")
    coloured = [
        image for path, _, source, image in crops if source in names and not path.endswith(("1", "3", "5", "7", "9"))
    ]
    verdicts = [each.verdict for each in Gate()(coloured)]
    assert len(verdicts) >= 20
    assert verdicts.count(REFUSE) / len(verdicts) > 0.8


@pytest.mark.parametrize(
    ("frontal", "verdict"), [(0.0, REFUSE), (0.19, REFUSE), (0.2, WARN), (0.79, WARN), (0.8, ACCEPT)]
)
def test_between_the_limits_it_is_in_doubt(frontal: float, verdict: str) -> None:
    scores = np.full(len(KINDS), 0.0)
    scores[0], scores[1] = frontal, 1 - frontal
    judgement = judged(scores, Limits(0.2, 0.8))
    assert judgement.verdict == verdict
    assert judgement.frontal == frontal
    assert (judgement.reason == "") == (verdict == ACCEPT)
    if verdict == WARN:
        assert "may be a lateral view" in judgement.reason
        assert f"{100 * (1 - frontal):.0f} %" in judgement.reason


@pytest.mark.parametrize("kind", KINDS[1:])
def test_every_kind_has_a_reason_that_says_what_to_do(kind: str) -> None:
    scores = np.where(np.array(KINDS) == kind, 0.97, 0.003)
    judgement = judged(scores, Limits(0.2, 0.8))
    assert judgement.kind == kind
    assert "; " in judgement.reason
    assert set(NAMES) == set(KINDS)


def test_turned_films_are_told_how_to_turn_them_back() -> None:
    said = {
        kind: judged(np.where(np.array(KINDS) == kind, 1.0, 0.0), Limits(0.2, 0.8)).reason
        for kind in ("turned_90", "turned_270", "inverted")
    }
    assert "90 degrees clockwise; turn it back (counter-clockwise)" in said["turned_90"]
    assert "90 degrees counter-clockwise; turn it back (clockwise)" in said["turned_270"]
    assert "invert" in said["inverted"]


def test_one_by_one_or_all_at_once(gate: Gate, film: Image) -> None:
    images = [film, film[:, :150], draw_document(np.random.default_rng(0)), np.zeros((100, 100, 3), np.uint8)] * 20
    together, alone = gate(images), [gate([image])[0] for image in images]
    assert [each.verdict for each in together] == [each.verdict for each in alone]
    for one, other in zip(together, alone, strict=True):
        assert (one.frontal is None) == (other.frontal is None)
        assert one.frontal is None or one.frontal == pytest.approx(other.frontal, abs=1e-5)
    assert gate([]) == []


def test_what_is_no_image_is_refused(gate: Gate) -> None:
    with pytest.raises(ValueError, match="images must be uint8"):
        gate([np.zeros((100, 100), np.uint8)])


def test_there_and_back(gate: Gate, film: Image, tmp_path: Any) -> None:
    torch.save({"gate": gate.as_entry()}, tmp_path / "x.ckpt")
    entry = torch.load(tmp_path / "x.ckpt", weights_only=True)["gate"]
    again = Gate.from_entry(entry)
    assert again.fingerprint == gate.fingerprint != ""
    assert again([film]) == gate([film])
    assert (again.limits, again.size, again.trained_on, again.held_out, again.synthetic) == (
        gate.limits,
        gate.size,
        gate.trained_on,
        gate.held_out,
        gate.synthetic,
    )


def test_the_fingerprint_is_of_weights_and_limits(gate: Gate) -> None:
    entry = gate.as_entry()
    other = Gate.from_entry(entry | {"limits": {"refuse_below": 0.2, "accept_from": 0.81}})
    entry["state_dict"]["head.bias"][0] += 1
    assert len({gate.fingerprint, other.fingerprint, Gate.from_entry(entry).fingerprint}) == 3


def weights(change: Callable[[torch.Tensor], Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Another value for one of the tensors."""
    return lambda entry: {"state_dict": entry["state_dict"] | {"head.bias": change(entry["state_dict"]["head.bias"])}}


HOSTILE: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = [
    (lambda entry: {"format": 2}, "format must be 1"),
    (lambda entry: {"kinds": ["frontal"]}, "kinds of pictures"),
    (lambda entry: {"image_size": 10**9}, "image_size must be"),
    (lambda entry: {"image_size": "64"}, "image_size must be"),
    (lambda entry: {"channels": [512] * 99}, "2 to 5 whole numbers"),
    (lambda entry: {"channels": [4, 10**9]}, "channels must be"),
    (lambda entry: {"channels": "ab"}, "channels must be a list"),
    (lambda entry: {"channels": [4, 512]}, "must be torch.float32"),
    (lambda entry: {"limits": {"refuse_below": 0.9, "accept_from": 0.1}}, "accept_from must be"),
    (lambda entry: {"limits": {"refuse_below": float("nan"), "accept_from": 1.0}}, "refuse_below must be"),
    (lambda entry: {"limits": {"refuse_below": 0.1}}, "'accept_from' is missing"),
    (lambda entry: {"limits": 3}, "cannot be used"),
    (lambda entry: {"state_dict": {}}, "other weights"),
    (lambda entry: {"state_dict": entry["state_dict"] | {"more": torch.zeros(1)}}, "other weights"),
    (weights(lambda value: value.half()), "must be torch.float32"),
    (weights(lambda value: value.double()), "must be torch.float32"),
    (weights(lambda value: value[:3]), "got torch.float32"),
    (weights(lambda value: value * torch.nan), "must be finite"),
    (weights(lambda value: value.to_sparse()), "plain tensor"),
    (weights(lambda value: value.to("meta")), "plain tensor"),
    (weights(lambda value: value.tolist()), "plain tensor"),
    (lambda entry: {"held_out": 3}, "held_out must be a table"),
    (lambda entry: {"held_out": {"x": torch.zeros(1)}}, "plain values only"),
    (lambda entry: {"held_out": {"x": float("inf")}}, "finite"),
    (lambda entry: {"held_out": {"x": "y" * 10**6}}, "plain values only"),
    (lambda entry: {"held_out": {"x": list(range(10**5))}}, "at most 5000"),
    (lambda entry: {"sources": [b"x"]}, "plain values only"),
    (lambda entry: {"synthetic": "yes"}, "true or false"),
]


@pytest.mark.parametrize(("change", "message"), HOSTILE)
def test_a_strangers_entry_is_looked_through(
    gate: Gate, change: Callable[[dict[str, Any]], dict[str, Any]], message: str
) -> None:
    entry = gate.as_entry()
    with pytest.raises(ValueError, match=message):
        Gate.from_entry(entry | change(entry))


def test_every_part_of_an_entry_is_needed(gate: Gate) -> None:
    entry = gate.as_entry()
    for name in entry:
        with pytest.raises(ValueError, match=f"'{name}' is missing"):
            Gate.from_entry({key: value for key, value in entry.items() if key != name})
    with pytest.raises(ValueError, match="table of values"):
        Gate.from_entry([1])  # type: ignore[arg-type]


def test_what_was_measured_is_told_in_a_sentence(gate: Gate) -> None:
    assert gate.measured == ""  # of what the fixture says nothing can be told
    each = {"value": 0.0125, "low": 0.0, "high": 0.03, "n": 2000}
    gate.held_out = {"false_refusal": each, "false_acceptance": each}
    assert "refused 25 of 2,000 (1.25 % [0.00, 3.00]) frontal chest films" in gate.measured
    gate.synthetic = True
    assert gate.measured.startswith("SYNTHETIC")
    assert Gate().measured == ""


def test_it_keeps_weights_of_its_own(gate: Gate, film: Image) -> None:
    entry = gate.as_entry()
    again = Gate.from_entry(entry)
    before = again.probabilities([film])
    for value in entry["state_dict"].values():
        value.zero_()
    np.testing.assert_array_equal(again.probabilities([film]), before)


@pytest.mark.parametrize(
    "arguments",
    [
        {"network": GateNet(10, [4, 8])},
        {"limits": Limits(0, 1)},
        {"network": GateNet(3, [4, 8]), "limits": Limits(0, 1)},
    ],
)
def test_a_network_and_limits_go_together(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="network"):
        Gate(**arguments)


def test_both_rooms_name_the_same_kinds() -> None:
    """Networks and images do not import each other; what they must agree on is compared here."""
    assert tuple(gate_images.SHARES) == KINDS
