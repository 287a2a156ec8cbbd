"""Saliency measured where the answer is known: a marker in the corner, lungs, and a method that is no method."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.training import QUICK
from torch import Tensor, nn

from cxrlab.checks.base import Section, Verdict
from cxrlab.config import compose
from cxrlab.errors import ConfigError
from cxrlab.evaluation.estimate import Bools
from cxrlab.evaluation.saliency import Images
from cxrlab.models import ThumbnailLogistic
from cxrlab.models.saliency import IntegratedGradients, Occlusion, Saliency
from cxrlab.report import report
from cxrlab.steps.saliency import SaliencyMeasured, measure
from cxrlab.train import train

SIDE = 32
ONE_EPOCH = [*QUICK, "trainer.max_epochs=1"]
LEARNED, LUNGS, SCORE = (
    "do the maps depend on what was learned",
    "does the evidence for Positive lie in the lungs",
    "does the score depend on what the maps show",
)


class Edges(Saliency):
    """Looks at the image and not at the network."""

    name = "edges"

    def attribute(self, network: nn.Module, images: Tensor) -> Tensor:
        return images.mean(dim=1).diff(dim=2, prepend=images[:, 0, :, :1]).abs()


def looks_at(tiles: list[tuple[int, int]]) -> ThumbnailLogistic:
    """A network that calls an image Positive where these of its 4 x 4 tiles are bright."""
    network = ThumbnailLogistic(size=4)
    with torch.no_grad():
        weights = network.linear.weight.reshape(3, 4, 4)
        for row, column in tiles:
            weights[:, row, column] = 4.0 / len(tiles)
        network.linear.bias.fill_(-4.0)
    return network


CORNER = [(0, 0)]
CENTRE = [(1, 1), (1, 2), (2, 1), (2, 2)]
GRADIENTS = IntegratedGradients(steps=4)


def films(tiles: list[tuple[int, int]], n: int = 24) -> tuple[Images, Bools, np.ndarray]:
    """Noise, brighter in these tiles where the image is Positive; the lungs, which are the centre; and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(60, 100, (n, SIDE, SIDE, 3), np.uint8)
    labels = np.arange(n) % 2
    for row, column in tiles:
        images[labels == 1, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 250
    lungs = np.zeros((n, SIDE, SIDE), bool)
    lungs[:, 8:24, 8:24] = True
    return images, lungs, labels


def measured(method: Saliency, tiles: list[tuple[int, int]], patients: int = 24, **other: Any) -> SaliencyMeasured:
    """Of a network that looks at these tiles; other images, lungs or scores take the place of the usual ones."""
    images, lungs, labels = films(tiles)
    given = {"images": images, "lungs": lungs, "scores": np.where(labels == 1, 0.9, 0.1), **other}
    ids = [f"p{number % patients}" for number in range(len(images))]
    return measure(looks_at(tiles), method, labels=labels, patients=ids, threshold=0.5, seed=0, **given)


def verdicts(section: Section) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in section.findings}


@pytest.mark.parametrize("method", [GRADIENTS, Occlusion(window=0.25, stride=0.25)])
def test_a_marker_in_the_corner_is_found(method: Saliency) -> None:
    found = measured(method, CORNER)
    assert verdicts(found.section()) == {LEARNED: Verdict.PASS, LUNGS: Verdict.FAIL, SCORE: Verdict.PASS}
    group = found.inside["called Positive"]
    assert group["inside"].value < 0.01
    assert group["area"].value == pytest.approx(0.25)
    assert group["pointing"].value == 0
    assert group["images"] == group["inside"].n == 12


def test_evidence_in_the_lungs_is_found() -> None:
    found = measured(GRADIENTS, CENTRE)
    assert verdicts(found.section()) == {LEARNED: Verdict.PASS, LUNGS: Verdict.PASS, SCORE: Verdict.PASS}
    group = found.inside["called Positive"]
    assert group["inside"].value > 0.99
    assert group["ratio"] == pytest.approx(4, abs=0.05)
    assert group["above"].value == 1
    evidence = next(finding.evidence for finding in found.section().findings if finding.check == LUNGS)
    assert "12 images of 12 patients" in evidence


def test_a_method_that_ignores_the_weights_is_told() -> None:
    found = measured(Edges(), CENTRE)
    assert found.sanity["all"]["correlation"].value == pytest.approx(1)
    assert found.sanity["all"]["ssim"].value == pytest.approx(1)
    given = verdicts(found.section())
    assert given[LEARNED] is Verdict.WARN
    assert given[LUNGS] is Verdict.NOT_CHECKED  # a map that shows nothing learned proves nothing


def test_unknown_lungs_and_few_patients_are_not_checked() -> None:
    found = measured(GRADIENTS, CENTRE, lungs=None)
    given = verdicts(found.section())
    assert given == {LEARNED: Verdict.PASS, LUNGS: Verdict.NOT_CHECKED, SCORE: Verdict.PASS}
    assert [picture.name for picture in found.section().pictures] == ["saliency_overlays", "saliency_curves"]
    few = measured(GRADIENTS, CENTRE, patients=4).section()
    assert set(verdicts(few).values()) == {Verdict.NOT_CHECKED}


def test_maps_without_evidence_are_counted_apart() -> None:
    images, lungs, _ = films(CENTRE)
    images[0] = 0  # from black to black there is nothing to explain
    lungs[2] = False
    found = measured(GRADIENTS, CENTRE, images=images, lungs=lungs, scores=np.full(24, 0.9))
    group = found.inside["called Positive"]
    assert (group["images"], group["zero"], group["no_lungs"], group["inside"].n) == (24, 1, 1, 22)
    assert np.isnan(found.table["inside"][[0, 2]]).all()
    assert found.inside["called Negative"]["images"] == 0
    assert found.inside["called Negative"]["ratio"] is None


def test_no_image_called_positive() -> None:
    given = verdicts(measured(GRADIENTS, CENTRE, scores=np.zeros(24)).section())
    assert given[LUNGS] is given[SCORE] is Verdict.NOT_CHECKED


def test_section_is_for_a_page(tmp_path: Path) -> None:
    section = measured(GRADIENTS, CORNER).section()
    json.dumps(section.facts, allow_nan=False, default=asdict)
    assert [picture.name for picture in section.pictures] == ["saliency_overlays", "saliency_inside", "saliency_curves"]
    for picture in section.pictures:
        picture.figure.savefig(tmp_path / f"{picture.name}.png")
        assert (tmp_path / f"{picture.name}.png").stat().st_size > 10_000
    assert section.tables[0].rows[0][0] == "called Positive"
    assert "Rules" in section.text[1]
    again = measured(GRADIENTS, CORNER).section()
    assert again.facts == section.facts


@pytest.mark.slow
def test_training_shows_test_images(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    typed = [*ONE_EPOCH, "saliency=gradcam"]
    train(compose("train", typed, folder), typed)
    picture = folder / "figures/saliency.png"
    with Image.open(picture) as image:
        assert image.size[0] > 700
    drawn = picture.read_bytes()
    for written_again in (False, True):
        if written_again:
            report(OmegaConf.create({"run": str(folder)}))
        text = (folder / "report.md").read_text()
        assert "![SYNTHETIC test images, and below each its map of evidence for Positive (GradCam)]" in text
        assert text.index("figures/saliency.png") < text.index("## Cautions")
        assert picture.read_bytes() == drawn
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    assert "test/saliency" in events.Tags()["images"]
    assert events.Images("test/saliency")[0].width > 700


def test_a_network_without_feature_maps_is_refused_at_once(tmp_path: Path) -> None:
    typed = [*ONE_EPOCH, "model=logistic", "saliency=gradcam"]
    with pytest.raises(ConfigError, match=r"saliency: ThumbnailLogistic has no feature maps .*saliency=occlusion"):
        train(compose("train", typed, tmp_path / "run"), typed)
    typed = [*ONE_EPOCH, "saliency=gradcam", "saliency.layer=conv_9"]
    with pytest.raises(ConfigError, match=r"saliency.layer: 'conv_9' is no layer of the network"):
        train(compose("train", typed, tmp_path / "run"), typed)
    assert not (tmp_path / "run").exists()
