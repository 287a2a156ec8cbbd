"""Images read again for a report: which ones are shown, what they are called, and what is said when they are gone."""

from __future__ import annotations

from typing import Any

import pytest
from tests.reports.conftest import altered

from cxrlab import figures
from cxrlab.reports import pictures
from cxrlab.reports.record import RunRecord


@pytest.fixture
def captions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions of the grids that were drawn."""
    seen: list[str] = []
    draw = figures.image_grid

    def note(images: Any, texts: list[str]) -> Any:
        seen.extend(texts)
        return draw(images, texts)

    monkeypatch.setattr(figures, "image_grid", note)
    return seen


def test_worst_mistake_comes_first(record: RunRecord, captions: list[str]) -> None:
    picture = pictures.mistakes(record, "test", 0.5, "")
    assert picture.text == "Worst mistakes: 2 of 2 wrong test images"
    assert [caption.splitlines()[0] for caption in captions] == ["Positive, score 0.050", "Negative, score 0.600"]
    assert captions[0].splitlines()[1:] == ["PNEUMONIA", "patient not recorded"]
    assert (record.folder / picture.path).read_bytes().startswith(b"\x89PNG")


def test_without_mistakes_the_closest_calls_are_shown(record: RunRecord, captions: list[str]) -> None:
    assert record.predictions is not None
    scores = [0.1 + 0.06 * row + 0.55 * label for row, label in enumerate(record.predictions["label"])]
    right = RunRecord(**{**vars(record), "predictions": record.predictions.assign(score=scores)})
    picture = pictures.mistakes(right, "test", 0.5, "SYNTHETIC ")
    assert picture.text == "SYNTHETIC No test image was called wrongly; the 4 nearest to the threshold"
    nearest = sorted(scores, key=lambda score: abs(score - 0.5))[:4]
    assert [caption.splitlines()[0].split()[-1] for caption in captions] == [f"{score:.3f}" for score in nearest]


def test_samples_are_two_of_each_class(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, Any] = {}

    def note(originals: Any, processed: Any, captions: list[str], title: str) -> Any:
        drawn.update(originals=originals, processed=processed, captions=captions)
        return figures.image_grid(processed[0][None], ["x"])

    monkeypatch.setattr(figures, "before_after", note)
    assert pictures.samples(record, "").path == "figures/samples.png"
    assert [caption.splitlines()[0] for caption in drawn["captions"]] == ["Negative"] * 2 + ["Positive"] * 2
    assert {image.shape for image in drawn["originals"]} == {(32, 40, 3)}
    assert {image.shape for image in drawn["processed"]} == {(16, 16, 3)}


def test_altered_images_are_shown_as_the_network_saw_them(record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    def note(images: Any, texts: list[str]) -> Any:
        shown.append(images)
        return original(images, texts)

    original = figures.image_grid
    monkeypatch.setattr(figures, "image_grid", note)
    picture = pictures.mistakes(altered(record, alter="centre_black_50"), "test", 0.5, "")
    assert "before" not in picture.text
    assert not shown[0][:, 4:12, 4:12].any()
    assert shown[0][:, 0].any()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"alter": "lungs_only"}, " (before data.alter=lungs_only)"),
        ({"mask": "lungs", "alter": "centre_black_50"}, " (before data.mask=lungs, data.alter=centre_black_50)"),
        ({"alter": "histogram"}, " (before data.alter=histogram)"),
    ],
)
def test_what_a_few_files_do_not_tell_is_said(record: RunRecord, data: dict[str, Any], said: str) -> None:
    assert pictures.samples(altered(record, **data), "").text.endswith("as the network sees them" + said)
    assert pictures.mistakes(altered(record, **data), "test", 0.5, "").text.endswith(said)
