"""What a DICOM header says against a frontal chest film: reading/dicom_header.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from tests.reading.conftest import PATIENT, TESTED_WITH, Read, film, saved

from cxrlab.reading.dicom_header import doubts_of
from cxrlab.reading.image import BETWEEN, NO_RADIOGRAPH

PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30)


def coded(meaning: str, value: str = "1") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return Sequence([item])


def header(**attributes: Any) -> Dataset:
    dataset = Dataset()
    with disable_value_validation():
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    "attributes",
    [
        *({"Modality": modality} for modality in ("CR", "DX", "RG", "dx ", "OT", "", None)),
        *({"BodyPartExamined": part} for part in ("CHEST", "Thorax", "LUNG", "TORAX", "CHEST PA", "", None)),
        *({"ViewPosition": view} for view in ("PA", "AP", "AP SUPINE", "POSTERO_ANTERIOR", "pa", "", None)),
        {"ViewCodeSequence": coded("postero-anterior"), "AnatomicRegionSequence": coded("Chest")},
        {"ViewCodeSequence": coded("antero-posterior"), "AnatomicRegionSequence": coded("Thoracic cavity")},
        {"ViewCodeSequence": Sequence(), "AnatomicRegionSequence": coded("")},
        {"PresentationIntentType": "FOR PRESENTATION", "PresentationLUTShape": "IDENTITY"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME2", "PixelIntensityRelationshipSign": 1},
        {"ImageLaterality": "U"},
        {"ImageLaterality": "B"},
        {"PatientOrientation": ["L", "F"]},
        {"PatientOrientation": ["L", "FP"]},
        {"PatientOrientation": None},
        {"PixelAspectRatio": [1, 1], "ImagerPixelSpacing": [0.148, 0.148]},
        {"ImagerPixelSpacing": [0.1480, 0.1485]},
        {"PatientSpeciesDescription": "Homo sapiens", "QualityControlImage": "NO", "BurnedInAnnotation": "NO"},
        *({"SOPClassUID": f"1.2.840.10008.5.1.4.1.1.{end}"} for end in ("1", "1.1", "7", "7.4")),
        {"SOPClassUID": "1.2.3.4", "ConversionType": "WSD"},
    ],
)
def test_nothing_is_said_against_a_frontal_chest_film(attributes: dict[str, Any]) -> None:
    assert doubts_of(header(**attributes)) == []


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        *(
            ({"Modality": each}, f"Modality {each} (no radiograph)")
            for each in ("CT", "MR", "US", "SEG", "RTDOSE", "MG", "XA", "PT", "NM", "PX", "IO", "SM", "PR", "SR", "KO")
        ),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"},
            "SOPClassUID of CT Image Storage (no radiograph)",
        ),
        (
            {"Modality": "DX", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2"},
            "SOPClassUID of Digital Mammography X-Ray Image Storage - For Presentation (no radiograph)",
        ),
        *(({"BodyPartExamined": part}, f"BodyPartExamined {part}") for part in ("HAND", "SKULL", "ABDOMEN", "KNEE")),
        ({"AnatomicRegionSequence": coded("Hand")}, "AnatomicRegionSequence HAND"),
        ({"BodyPartExamined": "CHEST", "AnatomicRegionSequence": coded("Foot")}, "AnatomicRegionSequence FOOT"),
        *(
            ({"ViewPosition": view}, f"ViewPosition {view}")
            for view in ("LL", "RL", "LATERAL", "LAO", "LLD", "PA LATERAL", "AP OBLIQUE", "AP AXIAL", "LORDOTIC")
        ),
        ({"ViewCodeSequence": coded("left lateral")}, "ViewCodeSequence LEFT LATERAL"),
        ({"ViewPosition": "PA", "ViewCodeSequence": coded("lateral")}, "ViewCodeSequence LATERAL"),
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation YES (text in the picture)"),
        ({"ImageLaterality": "R"}, "ImageLaterality R (one side of a paired part of the body)"),
        ({"QualityControlImage": "YES"}, "QualityControlImage YES (a test object)"),
        ({"ConversionType": "SD"}, "ConversionType SD (a scanned document)"),
        ({"PatientSpeciesDescription": "Canis familiaris"}, "PatientSpeciesDescription (an animal)"),
        ({"PatientOrientation": ["A", "F"]}, "PatientOrientation A/F (a side view)"),
        ({"PatientOrientation": ["R", "F"]}, "PatientOrientation R/F (mirrored)"),
        ({"PatientOrientation": ["F", "L"]}, "PatientOrientation F/L (turned)"),
        ({"PixelAspectRatio": [2, 1]}, "PixelAspectRatio (pixels 2 times as high as wide, shown as squares)"),
        ({"PixelSpacing": [0.1, 0.2]}, "PixelSpacing (pixels 0.5 times as high as wide, shown as squares)"),
        (
            {"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "INVERSE"},
            "PresentationLUTShape INVERSE (does not fit MONOCHROME2, which was followed)",
        ),
        *(
            (attributes, "PresentationIntentType FOR PROCESSING (raw values, not made to be looked at)")
            for attributes in (
                {"PresentationIntentType": "FOR PROCESSING"},
                {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1"},
            )
        ),
    ],
)
def test_what_speaks_against_it_is_named(attributes: dict[str, Any], said: str) -> None:
    assert doubts_of(header(**attributes)) == [said]
    assert BETWEEN not in said


def test_raw_values_may_have_dark_bones() -> None:
    said = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationshipSign": 1}
    raw = header(**said, PhotometricInterpretation="MONOCHROME2")
    assert doubts_of(raw)[1:] == ["PixelIntensityRelationshipSign 1 (bone is dark in MONOCHROME2)"]
    assert len(doubts_of(header(**said, PhotometricInterpretation="MONOCHROME1"))) == 1


@pytest.mark.parametrize(
    "hostile", ["\x1b[31mred", "<b>x</b>", "a" * 70, "é", "(no radiograph)", "=1+1", "x\x00y", "; y"]
)
def test_texts_of_strangers_are_not_quoted(read: Read, hostile: str) -> None:
    dataset = film(PIXELS, SpecificCharacterSet="ISO_IR 192")
    for keyword in ("Modality", "BodyPartExamined", "ViewPosition"):
        dataset.add_new(keyword, "LT", hostile)  # a text of any letters and length
    doubts = read(dataset).facts.doubts
    assert doubts.isascii()
    assert doubts.isprintable()
    assert hostile not in doubts.replace(NO_RADIOGRAPH, "") or hostile == "; y"
    assert "BodyPartExamined (not printable)" in doubts
    assert len(doubts.split(BETWEEN)) == 3
    assert PATIENT not in doubts


def test_a_value_that_cannot_be_read_is_a_doubt_and_no_reason_to_refuse(read: Read) -> None:
    data = saved(film(PIXELS, ImagerPixelSpacing=[0.1, 0.1], PixelIntensityRelationshipSign=1))
    at = data.index(b"\x28\0\x41\x10SS")
    image = read(data[: at + 6] + b"\x01\0" + data[at + 8 : at + 9] + data[at + 10 :])  # one byte of a number of two
    assert "PixelIntensityRelationshipSign cannot be read" in image.facts.doubts
    np.testing.assert_array_equal(image.pixels, read(film(PIXELS)).pixels)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CT_small.dcm", "Modality CT (no radiograph)"),
        ("liver_1frame.dcm", "Modality SEG (no radiograph)"),
        ("rtdose_1frame.dcm", "Modality RTDOSE (no radiograph)"),
        ("examples_palette.dcm", "Modality US (no radiograph)"),
        ("JPGExtended.dcm", "Modality NM (no radiograph); BodyPartExamined WHOLE BODY"),
        ("SC_rgb_rle.dcm", "ConversionType SYN (a synthetic image)"),
    ],
)
def test_files_that_ship_with_pydicom(read: Read, name: str, said: str) -> None:
    assert read((TESTED_WITH / "test_files" / name).read_bytes()).facts.doubts.startswith(said)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (
            {"WindowCenter": -5000, "WindowWidth": 350},
            "window (centre -5000, width 350) shows 100 % of the pixels white",
        ),
        ({"WindowCenter": 9000, "WindowWidth": 350}, "window (centre 9000, width 350) shows 100 % of the pixels black"),
        ({"RescaleSlope": 0, "RescaleIntercept": 7}, "RescaleSlope 0 (makes all values one: blank)"),
    ],
)
def test_a_window_that_shows_nothing_is_told(
    read: Read, levels: Callable[..., list[int]], attributes: dict[str, Any], said: str
) -> None:
    image = read(film(PIXELS, **attributes))
    assert said in image.facts.doubts
    assert len(np.unique(image.pixels)) == 1
    assert "blank" not in read(film(PIXELS, WindowCenter=300, WindowWidth=600)).facts.doubts
    assert "blank" not in read(film(PIXELS * 0 + 7)).facts.doubts  # the picture itself is one value: no window's fault
