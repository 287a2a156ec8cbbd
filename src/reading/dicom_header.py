"""What a DICOM header says against a frontal chest film, in a few words for each; its texts are untrusted."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from cxrlab.reading.image import NO_RADIOGRAPH

KEYWORDS = (
    *("SOPClassUID", "Modality", "ConversionType", "PresentationIntentType", "BurnedInAnnotation"),
    *("BodyPartExamined", "AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence"),
    *("ImageLaterality", "PatientOrientation", "QualityControlImage", "PatientSpeciesDescription"),
    *("PixelAspectRatio", "ImagerPixelSpacing", "PixelSpacing", "PresentationLUTShape", "PhotometricInterpretation"),
    *("PixelIntensityRelationshipSign",),
)
"""What is looked at. Nothing of it has to be there, or right, for the picture to be read."""

_RADIOGRAPHS = frozenset({"CR", "DX", "RG", "RF", "DR", "XR", "RX", "HC", "SC", "OT"})
"""Modalities of films; DR, XR, RX and SC are no terms of the standard (PS3.3 C.7.3.1.1.1), but people write them."""
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_CLASSES = frozenset(f"{_STORAGE}{end}" for end in ("1", "1.1", "1.1.1", "7", "7.1", "7.2", "7.3", "7.4", "12.2"))
"""Computed and digital radiography, secondary capture, radiofluoroscopy (PS3.4 B.5)."""
_CHEST = re.compile(r"CHEST|THORA|TORAX|LUNG|PULMO|BRUSTK|POUMON|HEART")
_FRONTAL = re.compile(r"\b(PA|AP)\b|FRONTAL|POSTERO.?ANTERIOR|ANTERO.?POSTERIOR")
_NOT_FRONTAL = re.compile(r"LAT|OBL|DECUB|AXIAL|LORD")
_PRINTABLE = re.compile(r"[A-Z0-9 _.,/+-]{1,64}")  # a text of a header that may be quoted; no parentheses, see above
_SHOWN = 32  # characters of it
_SQUARE = 0.01  # how far height and width of a pixel may be apart
_FOR_PROCESSING = f"{_STORAGE}1.1.1"  # digital radiography, of the two that there are
_NOT_WANTED = {
    "BurnedInAnnotation": {"YES": "text in the picture"},
    "QualityControlImage": {"YES": "a test object", "BOTH": "a test object beside the patient"},
    "ImageLaterality": {"R": "one side of a paired part of the body", "L": "one side of a paired part of the body"},
    "ConversionType": {"SD": "a scanned document", "DRW": "a drawing", "SYN": "a synthetic image"},
}


def doubts_of(dataset: Dataset) -> list[str]:
    """What a header says against a frontal chest film that is shown as it is stored, in the order of importance.

    Args:
        dataset: The elements of :data:`KEYWORDS`, as far as they are there and can be read.

    Returns:
        Phrases such as ``Modality CT (no radiograph)``: printable ASCII, each naming an attribute of the standard.
    """
    return [*_kind_and_part(dataset), *_wording(dataset), *_geometry(dataset)]


def _kind_and_part(dataset: Dataset) -> Iterator[str]:
    modality, kind = _said(dataset, "Modality"), UID(str(dataset.get("SOPClassUID") or ""))
    if modality and modality not in _RADIOGRAPHS:
        yield f"Modality {modality} {NO_RADIOGRAPH}"
    elif kind.name != kind and kind.type == "SOP Class" and kind not in _CLASSES and "Hardcopy" not in kind.name:
        yield f"SOPClassUID of {kind.name} {NO_RADIOGRAPH}"
    # Parts of the body, and views of it; where a code says it, too, once is enough.
    for keyword, sequence in (("BodyPartExamined", "AnatomicRegionSequence"), ("ViewPosition", "ViewCodeSequence")):
        items = dataset.get(sequence)
        meaning = _said(items[0], "CodeMeaning") if isinstance(items, Sequence) and len(items) else ""
        for name, said in ((keyword, _said(dataset, keyword)), (sequence, meaning)):
            words = re.sub(r"[_.,/+-]", " ", said)
            frontal = bool(_FRONTAL.search(re.sub(r"[_-]", " ", said))) and not _NOT_FRONTAL.search(words)
            if said and not (_CHEST.search(words) if keyword == "BodyPartExamined" else frontal):
                yield f"{name} {said}"
                break


def _wording(dataset: Dataset) -> Iterator[str]:
    for keyword, meanings in _NOT_WANTED.items():
        said = _said(dataset, keyword)
        if said in meanings:
            yield f"{keyword} {said} ({meanings[said]})"
    meaning = _said(dataset, "PhotometricInterpretation")
    intent, default = _said(dataset, "PresentationIntentType"), dataset.get("SOPClassUID") == _FOR_PROCESSING
    if intent == "FOR PROCESSING" or (default and not intent):
        yield "PresentationIntentType FOR PROCESSING (raw values, not made to be looked at)"
        sign = _said(dataset, "PixelIntensityRelationshipSign")
        if (sign, meaning) in (("1", "MONOCHROME2"), ("-1", "MONOCHROME1")):  # PS3.3 C.8.11.3.1.2: 1 is dark for bone
            yield f"PixelIntensityRelationshipSign {sign} (bone is dark in {meaning})"
    if _said(dataset, "PatientSpeciesDescription") not in ("", "HUMAN", "HOMO SAPIENS"):
        yield "PatientSpeciesDescription (an animal)"
    shape = _said(dataset, "PresentationLUTShape")
    if (meaning, shape) in (
        ("MONOCHROME2", "INVERSE"),
        ("MONOCHROME1", "IDENTITY"),
    ):  # PS3.3 C.8.11.3.1.2: the other way
        yield f"PresentationLUTShape {shape} (does not fit {meaning}, which was followed)"


def _geometry(dataset: Dataset) -> Iterator[str]:
    # Rows run to the patient's left and columns to the feet in a frontal film (PS3.3 C.7.6.1.1.1).
    said = _said(dataset, "PatientOrientation")
    row, _, column = said.partition("/")
    if row and column and (row[0] != "L" or column[0] != "F"):
        what = "a side view" if row[0] in "AP" else "mirrored" if (row[0], column[0]) == ("R", "F") else "turned"
        yield f"PatientOrientation {said} ({what})"
    for keyword in ("PixelAspectRatio", "ImagerPixelSpacing", "PixelSpacing"):
        try:
            high, wide = (float(each) for each in dataset.get(keyword))
            ratio = high / wide
        except (TypeError, ValueError, ZeroDivisionError):
            continue
        if abs(ratio - 1) > _SQUARE and ratio > 0:
            yield f"{keyword} (pixels {ratio:.3g} times as high as wide, shown as squares)"
            return


def _said(dataset: Dataset, keyword: str) -> str:
    """A text in capitals that may be quoted; empty where there is none, several values with slashes between."""
    value = dataset.get(keyword)
    if value is None:
        return ""
    several = [value] if isinstance(value, str | int | float) else list(value)
    text = "/".join(str(each).strip() for each in several).upper()
    return text[:_SHOWN].strip() if _PRINTABLE.fullmatch(text) else "(not printable)" if text.strip("/\0 ") else ""
