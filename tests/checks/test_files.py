"""What only one class has is named with its counts; odd and unreadable files are listed; letters are suspects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from tests.checks.conftest import found, make_case, numbers

from cxrlab.checks import files
from cxrlab.checks.base import Section, Verdict
from cxrlab.evaluation.burned_in import text_boxes
from cxrlab.reading.image import read_image

HALF = [1] * 30 + [0] * 30
FORMAT, LETTERS = "file format of the classes", "burned-in text (suspects)"
HEADERS, GATE = "headers of DICOM files", "pictures that are no frontal chest films"


def of_facts(**facts: Any) -> Section:
    """Of thirty images of either class, whose facts are given."""
    return files.check(make_case({"label": HALF}, facts=facts))


def smooth(count: int, level: int = 120) -> NDArray[np.uint8]:
    """Images with a slope and a little noise."""
    slope = np.linspace(-60, 60, 256)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 3, (count, 256, 256))
    return np.asarray((level + slope + noise).clip(0, 255), np.uint8)


def test_files_that_are_alike_pass(tmp_path: Path) -> None:
    section = files.check(make_case({"label": HALF}, grey=smooth(60), folder=tmp_path))
    assert {finding.check for finding in section.findings if finding.verdict != Verdict.PASS} == {GATE}  # nobody looked
    assert found(section, FORMAT).said == "The file format is PNG for all 60 images."
    for check in ("unreadable files", LETTERS):
        assert numbers(found(section, check).said) == ["60"]
    assert not [finding for finding in section.findings if finding.check.startswith("JPEG")]  # there is none
    assert section.facts["read_again"] == 60
    assert json.loads(json.dumps(section.facts, allow_nan=False))
    assert not section.pictures


def test_what_headers_say_is_counted_by_class_and_listed() -> None:
    doubts = ["Modality CT (no radiograph); BodyPartExamined HEAD"] + ["ViewPosition LL"] * 2 + [""] * 57
    section = of_facts(format=["DICOM"] * 40 + ["PNG"] * 20, doubts=doubts)
    finding = found(section, HEADERS)
    assert finding.verdict == Verdict.WARN
    assert "3 of 40 (8 %) files (3 Positive, 0 Negative)" in finding.said
    assert "ViewPosition LL 2, BodyPartExamined HEAD 1, Modality CT (no radiograph) 1" in finding.details
    (table,) = [table for table in section.tables if table.caption == "3 DICOM files with doubts"]
    assert [row[1] for row in table.rows] == doubts[:3]
    assert found(of_facts(format=["DICOM"] * 60), HEADERS).verdict is Verdict.PASS
    assert not [finding for finding in of_facts().findings if "DICOM" in finding.check]


def test_a_size_that_one_class_always_and_the_other_never_has() -> None:
    # As in a set whose negatives were all made the same size, and whose positives were cut by hand.
    sides = [500 + number for number in range(30)] + [512] * 30
    section = of_facts(width=sides, height=sides)
    finding = found(section, "pixel size of the classes")
    assert finding.verdict == Verdict.FAIL
    # One positive happens to be 512 wide, too.
    assert finding.said.startswith("512x512: ")
    assert numbers(finding.said) == ["1", "30", "1", "30", "30", "30", "30", "30"]
    assert finding.weight == pytest.approx(29 / 30)
    assert found(section, LETTERS).verdict == Verdict.NOT_CHECKED  # made-up paths hold no file


def test_a_format_that_some_of_one_class_have() -> None:
    section = of_facts(format=["PNG"] * 10 + ["JPEG"] * 50, jpeg_quality=[0] * 10 + [90] * 50)
    finding = found(section, FORMAT)
    assert finding.verdict == Verdict.WARN
    assert finding.said.startswith("PNG: ")
    assert numbers(finding.said)[:6] == ["10", "30", "10", "30", "0", "30"]
    assert "(Holm)" in finding.evidence
    # That some have no quality is not told a second time.
    assert "quality is 90 for all 50 images of known value" in found(section, "JPEG quality of the classes").said


def test_patients_are_counted_rather_than_images() -> None:
    # The same ten PNG files are of one patient: no evidence that the classes differ.
    patients = ["one"] * 10 + [f"patient-{number}" for number in range(50)]
    facts = {"format": ["PNG"] * 10 + ["JPEG"] * 50}
    section = files.check(make_case({"label": HALF, "patient_id": patients}, facts=facts))
    assert found(section, FORMAT).verdict == Verdict.PASS


def test_unreadable_files_are_listed_with_the_reason() -> None:
    problems = {f"/films/bad_{number}.png": f"/films/bad_{number}.png: the file is empty" for number in range(10)}
    section = files.check(make_case({"label": HALF}, problems=problems))
    finding = found(section, "unreadable files")
    assert finding.verdict == Verdict.WARN
    assert finding.said.startswith("10 of 70 (14 %) images")
    assert "bad_0.png, bad_1.png, bad_2.png and 7 more" in finding.said
    (table,) = [table for table in section.tables if "left out" in table.caption]
    assert table.caption == "10 files left out"
    assert table.rows[0] == ("bad_0.png", "the file is empty")
    assert len(section.facts["unreadable"]) == 10


@pytest.mark.parametrize(
    ("bits", "verdict", "evidence"),
    [
        ([12, 14], Verdict.WARN, "30 as 12 bits (30 Positive, 0 Negative); 30 as 14 bits (0 Positive, 30"),
        ([12, 12], Verdict.PASS, "60 as 12 bits (30 Positive, 30 Negative)"),
    ],
)
def test_16_bit_files_that_were_scaled_differently(bits: list[int], verdict: Verdict, evidence: str) -> None:
    finding = found(of_facts(bits=np.repeat(bits, 30), guessed=[True] * 60), "scaling of 16-bit files")
    assert finding.verdict == verdict
    assert evidence in finding.evidence


def test_odd_images(tmp_path: Path) -> None:
    grey = smooth(6)
    grey[2] = 7
    facts = {"width": [100, 2000, 512, 512, 512, 512], "height": [300, 900, 512, 512, 512, 512]}
    case = make_case({"label": [1, 1, 1, 0, 0, 0]}, grey=grey, facts=facts, folder=tmp_path)
    assert cv2.imwrite(str(tmp_path / "image_004.png"), cv2.applyColorMap(grey[4], cv2.COLORMAP_JET))
    section = files.check(case)
    why = {0: "small, long", 1: "long", 2: "nearly blank", 4: "coloured"}
    assert section.facts["odd"] == [{"file": f"image_00{row}.png", "why": text} for row, text in why.items()]
    finding = found(section, "odd images")
    assert finding.verdict == Verdict.WARN
    assert finding.said.startswith("4 of 6 (67 %) images")
    assert "(3 Positive, 1 Negative): 2 long, " in finding.said


def test_letters_in_one_class(tmp_path: Path) -> None:
    grey, label = smooth(24), [1] * 12 + [0] * 12
    for number in range(7):
        cv2.putText(grey[number], "SUPINE", (20, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1, cv2.LINE_AA)
    section = files.check(make_case({"label": label}, grey=grey, folder=tmp_path))
    assert found(section, LETTERS).verdict == Verdict.WARN
    assert numbers(found(section, LETTERS).said) == ["7", "12", "7", "12", "0", "12", "0", "12"]
    (sheet,) = section.pictures
    assert numbers(sheet.caption) == ["7", "7"]
    assert sheet.files.startswith("1: image_000.png (Positive), 2:")
    grey[12:19] = grey[:7]
    section = files.check(make_case({"label": label}, grey=grey, folder=tmp_path))
    # As many in either class, but of 12 patients a strong association can be missed.
    assert found(section, LETTERS).verdict == Verdict.NOT_CHECKED
    assert "7 of 12 Negative" in found(section, LETTERS).evidence
    assert len(section.facts["text_suspects"]) == 14


def test_only_some_images_of_a_large_set_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "READ", 5)
    patients = ["one"] * 26 + [f"patient-{number}" for number in range(34)]
    section = files.check(make_case({"label": HALF, "patient_id": patients}, grey=smooth(60), folder=tmp_path))
    assert section.facts["read_again"] == 10
    assert "10 images were read again" in section.text[0]


@pytest.mark.parametrize(("folder", "suspects"), [("PNEUMONIA", 8), ("NORMAL", 0)])
def test_the_papers_test_images(folder: str, suspects: int, paper_root: Path) -> None:
    images = [read_image(path).pixels for path in sorted((paper_root / "test" / folder).iterdir())]
    greys = [np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8) for pixels in images]
    assert (sum(len(text_boxes(grey)) > 0 for grey in greys), len(greys)) == (suspects, 20)


@pytest.mark.parametrize(
    ("kept", "lost", "who", "verdict", "counts"),
    [
        ((18, 26), (109, 32), "", Verdict.WARN, "109 of 127 Positive images (109 of 127 patients)"),
        ((20, 20), (10, 10), "", Verdict.PASS, "10 of 30 Positive images (10 of 30 patients)"),
        ((40, 40), (12, 0), "", Verdict.WARN, "12 of 52 Positive images (12 of 52 patients)"),
        ((40, 40), (2, 0), "", Verdict.PASS, "2 of 42 Positive images (2 of 42 patients)"),
        # A patient is lost with all images only.
        (
            (30, 30),
            (10, 0),
            "patient-0",
            Verdict.PASS,
            "10 of 40 Positive images (0 of 30 patients) and 0 of 30 Negative",
        ),
    ],
)
def test_unreadable_files_are_compared_between_the_labels(
    kept: tuple[int, int], lost: tuple[int, int], who: str, verdict: Verdict, counts: str
) -> None:
    gone = pd.DataFrame({"label": [1] * lost[0] + [0] * lost[1], "patient_id": who})
    gone["path"] = [f"/films/gone_{row}.png" for row in gone.index]
    problems = dict.fromkeys(gone["path"], "no such file")
    case = make_case({"label": [1] * kept[0] + [0] * kept[1]}, problems=problems, lost=gone)
    finding = found(files.check(case), "unreadable files and label")
    assert finding.verdict == verdict
    assert counts in finding.evidence


def test_what_a_gate_refuses_is_listed() -> None:
    label, judged = {"label": [1, 0] * 3}, pd.DataFrame({"verdict": ["accept"] * 6, "kind": ["frontal"] * 6})
    assert found(files.check(make_case(label)), GATE).verdict == Verdict.NOT_CHECKED
    sound = found(files.check(make_case(label, judged=judged)), GATE)
    assert (sound.verdict, numbers(sound.said)) == (Verdict.PASS, ["6", "0"])
    judged.loc[0], judged.loc[2], judged.loc[3] = ("refuse", "lateral"), ("refuse", "ct"), ("warn", "frontal")
    section = files.check(make_case(label, judged=judged))
    assert found(section, GATE).verdict == Verdict.WARN
    assert "2 of 6 (33 %) images (2 Positive, 0 Negative)" in found(section, GATE).said
    assert "image_000.png (lateral), image_002.png (ct)" in found(section, GATE).details
    (table,) = [table for table in section.tables if table.caption.startswith("What the gate doubts")]
    assert [row[0] for row in table.rows] == ["image_002.png", "image_000.png", "image_003.png"]
