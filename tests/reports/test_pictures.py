"""Images read again for a report: which ones are shown, what they are called, and what is said when they are gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.reports.conftest import altered

from cxrlab import figures
from cxrlab.reports import run_report as pictures
from cxrlab.reports.record import RunRecord


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of the last figure of images: of a grid images and captions, of samples originals before these."""
    seen: list[Any] = []
    draw = figures.image_grid

    def note(*given: Any) -> Any:
        seen[:] = given
        return draw(*given) if len(given) == 2 else draw(given[1][:1], ["x"])

    monkeypatch.setattr(figures, "image_grid", note)
    monkeypatch.setattr(figures, "before_after", note)
    return seen


def first_lines(captions: list[str]) -> list[str]:
    return [caption.splitlines()[0] for caption in captions]


def test_worst_mistake_comes_first(record: RunRecord, drawn: list[Any]) -> None:
    shown = pictures.mistakes(record, "test", 0.5)
    assert shown == "![Worst mistakes: 2 of 2 wrong test images](figures/mistakes.png)"
    assert first_lines(drawn[1]) == ["Positive, score 0.050", "Negative, score 0.600"]
    assert drawn[1][0].splitlines()[1:] == ["PNEUMONIA", "patient not recorded"]
    assert (record.folder / "figures/mistakes.png").read_bytes().startswith(b"\x89PNG")


def test_without_mistakes_the_closest_calls_are_shown(record: RunRecord, drawn: list[Any]) -> None:
    assert record.predictions is not None
    scores = [0.1 + 0.06 * row + 0.55 * label for row, label in enumerate(record.predictions["label"])]
    right = replace(record, predictions=record.predictions.assign(score=scores), metrics={"synthetic": True})
    shown = pictures.mistakes(right, "test", 0.5)
    assert shown.startswith("![SYNTHETIC No test image was called wrongly; the 4 nearest to the threshold](")
    nearest = sorted(scores, key=lambda score: abs(score - 0.5))[:4]
    assert [line.split()[-1] for line in first_lines(drawn[1])] == [f"{score:.3f}" for score in nearest]


def test_samples_are_two_of_each_class(record: RunRecord, drawn: list[Any]) -> None:
    assert pictures.samples(record).endswith("](figures/samples.png)")
    originals, processed, captions, _ = drawn
    assert first_lines(captions) == ["Negative"] * 2 + ["Positive"] * 2
    assert {image.shape for image in originals} == {(32, 40, 3)}
    assert {image.shape for image in processed} == {(16, 16, 3)}


def test_altered_images_are_shown_as_the_network_saw_them(record: RunRecord, drawn: list[Any]) -> None:
    assert "before" not in pictures.mistakes(altered(record, alter="centre_black_50"), "test", 0.5)
    assert not drawn[0][:, 4:12, 4:12].any()
    assert drawn[0][:, 0].any()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"alter": "lungs_only"}, " (before data.alter=lungs_only)"),
        ({"mask": "lungs", "alter": "centre_black_50"}, " (before data.mask=lungs, data.alter=centre_black_50)"),
        ({"alter": "histogram"}, " (before data.alter=histogram)"),
    ],
)
def test_what_a_few_files_do_not_tell_is_said(record: RunRecord, data: dict[str, Any], said: str) -> None:
    assert f"as the network sees them{said}](" in pictures.samples(altered(record, **data)).replace("\\_", "_")
    assert f"wrong test images{said}](" in pictures.mistakes(altered(record, **data), "test", 0.5).replace("\\_", "_")
