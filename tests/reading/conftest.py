"""DICOM files made for a test, and what becomes of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from cxrlab.errors import DataError
from cxrlab.reading.image import ReadImage, read_image

PATIENT = "Doe^Jane"
DIGITAL_X_RAY = "1.2.840.10008.5.1.4.1.1.1.1"
TESTED_WITH = Path(str(pydicom.data.__file__)).parent
Read = Callable[..., ReadImage]


def outcomes_of_damage(files: Sequence[bytes], file: Path, trials: int, header: int) -> list[bool]:
    """Damages files at random and reads each: whether an image came of it; whatever else than a DataError is raised.

    Args:
        files: Whole ones, taken in turn.
        file: Where the damaged ones are written.
        trials: How many; every second one is damaged in its first ``header`` bytes only, every seventh cut off, too.
        header: Bytes.
    """
    generator = np.random.default_rng(0)
    outcomes = []
    for trial in range(trials):
        data = bytearray(files[trial % len(files)])
        reach = len(data) if trial % 2 else min(len(data), header)
        for position in generator.integers(0, reach, generator.integers(1, 6)):
            data[position] = generator.integers(256)
        if trial % 7 == 0:
            del data[generator.integers(1, len(data)) :]
        file.write_bytes(data)
        try:
            pixels = read_image(file).pixels
        except DataError as error:
            assert str(error).startswith(f"{file}: ")  # noqa: PT017 - either outcome is right
            outcomes.append(False)
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3
            outcomes.append(True)
    return outcomes


def film(values: NDArray[Any], meaning: str = "MONOCHROME2", bits: int | None = None, **attributes: Any) -> Dataset:
    """A data set with these stored values, shape (rows, columns[, 3])."""
    dataset = Dataset()
    dataset.SOPClassUID = UID(DIGITAL_X_RAY)
    dataset.SOPInstanceUID = UID("1.2.3")
    dataset.Manufacturer, dataset.ManufacturerModelName = "Acme", "DX 1000"
    dataset.PatientName, dataset.ViewPosition = PATIENT, "PA"
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = values.shape[2] if values.ndim == 3 else 1
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = meaning
    dataset.BitsAllocated = 8 * values.dtype.itemsize
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    data = values.tobytes()
    dataset.PixelData = data + bytes(len(data) % 2)
    return dataset


def saved(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.file_meta.MediaStorageSOPClassUID = UID(dataset.get("SOPClassUID", DIGITAL_X_RAY))
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OB" if UID(syntax).is_encapsulated else "OW"
        dataset["PixelData"].is_undefined_length = UID(syntax).is_encapsulated
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lut(entries: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = entries
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US" if first >= 0 else "SS"
    if first < 0:
        item["LUTData"].VR = "US"
    return item


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_(data: Dataset | bytes) -> ReadImage:
        file = tmp_path / "film"
        file.write_bytes(saved(data) if isinstance(data, Dataset) else data)
        return read_image(file)

    return read_


@pytest.fixture
def levels(read: Read) -> Callable[..., list[int]]:
    """Grey levels of the first row."""

    def levels_(data: Dataset | bytes) -> list[int]:
        pixels = read(data).pixels
        assert (pixels == pixels[..., :1]).all()
        return [int(level) for level in pixels[0, :, 0]]

    return levels_


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    def refused_(data: Dataset | bytes) -> str:
        file = tmp_path / "film"
        file.write_bytes(saved(data) if isinstance(data, Dataset) else data)
        with pytest.raises(DataError) as caught:
            read_image(file)
        message = str(caught.value)
        assert message.startswith(f"{file}: ")
        assert PATIENT not in message
        return message.removeprefix(f"{file}: ")

    return refused_


def row(*values: int, dtype: Any = np.uint16) -> NDArray[Any]:
    return np.array([values], dtype)
