"""A small model with random weights, as a file, and films to look at."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
import torch
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from cxrlab.datamodules.sources.phantom import Anatomy, draw
from cxrlab.models import ClassifierModule, PaperCNN
from cxrlab.models.gate import KINDS, Gate, Limits
from cxrlab.models.gate_net import GateNet
from cxrlab.runs.checkpoint import FORMAT, final_checkpoint

SMALL: dict[str, Any] = {"image_size": 32, "filters": [2, 3, 4], "dense_units": 5}
MakeModel = Callable[..., Path]
Encode = Callable[..., bytes]


def saved(path: Path, gate: Gate | None = None, **changes: Any) -> Path:
    """Writes a checkpoint with random weights; ``changes`` of its metadata."""
    torch.manual_seed(0)
    metadata = {
        "format": FORMAT,
        "model": {"_target_": "cxrlab.models.PaperCNN", **SMALL},
        "config": {"trainer": {"precision": "32-true"}, "data": {"mask": None, "alter": "none"}},
        "preprocessing": {"height": 32, "width": 32, "channels": 3},
        "lungs": None,
        "labels": {"Negative": 0, "Positive": 1},
        "threshold": 0.5,
        "data": {"fingerprint": "0" * 64, "synthetic": True, "sources": ["synthetic"], "images": 8},
        **changes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(final_checkpoint(ClassifierModule(PaperCNN(**SMALL), metadata=metadata), "last", gate), path)
    return path


def random_gate(seed: int = 0, refuse_below: float = 0.3, accept_from: float = 0.7) -> Gate:
    torch.manual_seed(seed)
    return Gate(GateNet(len(KINDS), [4, 8]), 32, Limits(refuse_below, accept_from))


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """``make_model(name="model.ckpt", gate=None, **metadata)`` writes a checkpoint and returns its path."""
    return lambda name="model.ckpt", gate=None, **changes: saved(tmp_path / name, gate, **changes)


@pytest.fixture(scope="session")
def films() -> list[NDArray[np.uint8]]:
    """Six drawn frontal films, each of shape (160, 160), uint8."""
    rng = np.random.default_rng(0)
    return [draw(Anatomy.sample(rng), rng, 160, 0.5)[0] for _ in range(6)]


@pytest.fixture(scope="session")
def png() -> Encode:
    """``png(pixels)`` encodes grey or RGB pixels."""

    def encode(pixels: NDArray[Any]) -> bytes:
        shown = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        done, encoded = cv2.imencode(".png", shown)
        assert done
        return bytes(encoded.tobytes())

    return encode


@pytest.fixture(scope="session")
def dicom() -> Encode:
    """``dicom(grey pixels, **attributes)`` makes a DICOM file, with a patient's name in it."""

    def encode(pixels: NDArray[np.uint8], **attributes: Any) -> bytes:
        dataset = pydicom.Dataset()
        dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
        dataset.SOPInstanceUID = UID("1.2.3")
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "MRN-4711", "19500101"
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        dataset.WindowCenter, dataset.WindowWidth = 128, 256  # shows every value as it is stored
        dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
        for name, value in attributes.items():
            setattr(dataset, name, value)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()

    return encode


@pytest.fixture
def lenient_gate() -> Gate:
    """A gate with random weights that accepts whatever no rule refuses."""
    torch.manual_seed(0)
    return Gate(GateNet(len(KINDS), [4, 4]), 64, Limits(0, 0), {"n": 1})
