"""A trained model, a running page, a browser and files to drop: what the tests of the page share."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_sample_image
from tests.reading.conftest import film as stored
from tests.reading.conftest import saved
from tests.training import without_pages
from torch import nn

from cxrlab.config import compose
from cxrlab.evaluation.decision import Decided
from cxrlab.evaluation.recalibration import Temperature
from cxrlab.inference import Predictor, load
from cxrlab.models.classifier import METADATA
from cxrlab.models.saliency import GradCam
from cxrlab.models.segmenter import Segmenter
from cxrlab.page import Desk, Page, open_socket
from cxrlab.reports import write_model_card
from cxrlab.train import train

TRAINING = [
    *("trainer=cpu", "trainer.max_epochs=1", "model=paper_cnn_small", "logger=none", "data.image_size=32"),
    *("data.source.n_train=40", "data.source.n_test=16", "data.source.size=96", "data.val=0.4"),
]
FITTED = {
    "images": 16,
    "patients": 8,
    "positive_patients": 4,
    "negative_patients": 4,
    "threshold_low": 0.45,
    "threshold_high": 0.55,
}


class Address(NamedTuple):
    """Where a page is, and what it consists of."""

    host: str
    port: int
    page: Page
    desk: Desk

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/"

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer; ``Host`` and others are sent as given, ``_`` stands for a hyphen."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in sent, skip_accept_encoding=True)
        if body is not None and "Content-Length" not in sent:
            sent["Content-Length"] = str(len(body))
        for name, value in sent.items():
            connection.putheader(name, value)
        connection.endheaders()
        if body:
            connection.send(body)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        connection.close()
        return found

    @property
    def in_line(self) -> int:
        return int(json.loads(self.ask("GET", "/api/state")[2])["in_line"])

    def connected(self, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=20, source_address=(source, 0))

    def begun(self, path: str) -> socket.socket:
        """A connection with three of nine bytes of an upload."""
        connection = self.connected()
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: 9\r\n\r\nabc".encode())
        return connection


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@contextmanager
def held(owner: type, name: str, answer: Any = None) -> Iterator[tuple[threading.Event, list[Any]]]:
    """A method waits until the event is set; then it does what it did, or gives ``answer``. The list: its arguments."""
    go, asked, does = threading.Event(), [], getattr(owner, name)

    def waits(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        go.wait(20)
        return does(*arguments, **options) if answer is None else answer

    with mock.patch.object(owner, name, waits):
        yield go, asked


Serve = Callable[..., AbstractContextManager[Address]]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished training on phantoms, with a calibration of known numbers: so little training allows none."""
    folder = trained(tmp_path_factory.mktemp("page") / "runs" / "tiny")
    write_model_card(folder)
    path = folder / "checkpoints" / "model.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[METADATA] |= Decided(Temperature(0.5), 0.5, "chosen by hand", fitted_on=FITTED).as_dict()
    torch.save(checkpoint, path)
    return folder


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, not calibrated, which pads films to a square and sees no border."""
    folder = tmp_path_factory.mktemp("page") / "runs" / "other"
    return trained(folder, "seed=1", "data.fit=pad", "data.border=0.05")


def trained(folder: Path, *more: str) -> Path:
    with without_pages():
        train(compose("train", [*TRAINING, *more], folder), [*TRAINING, *more])
    return folder


class DarkParts(nn.Module):
    """Takes for lung what is dark and not at the edge, which is near the truth on phantoms and needs no training."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        edge = torch.ones_like(images)
        edge[..., 3:-3, 3:-3] = 0
        return 20 * (self.level - images) - 40 * edge


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """Finds the lungs of phantoms; one that is trained is looked at in tests/steps/test_lungs.py."""
    return Segmenter(DarkParts(), 32, Path("lungs.ckpt"), ("synthetic",))


@pytest.fixture(scope="session")
def predictor(run: Path) -> Predictor:
    return load(run, accelerator="cpu")


@pytest.fixture(scope="session")
def other(other_run: Path) -> Predictor:
    return load(other_run, accelerator="cpu")


@pytest.fixture(scope="session")
def serve() -> Serve:
    """``with serve(desk, **limits) as address:`` runs a page in a thread."""

    @contextmanager
    def serve_(desk: Desk, **limits: Any) -> Iterator[Address]:
        page, ready = Page(desk, **limits), threading.Event()
        listening = open_socket("127.0.0.1", 0)
        port = listening.getsockname()[1]
        thread = threading.Thread(target=page.serve, args=(listening, ready.set))
        thread.start()
        try:
            assert ready.wait(30)
            yield Address("127.0.0.1", port, page, desk)
        finally:
            page.stop()
            thread.join(30)
            assert not thread.is_alive()

    return serve_


@pytest.fixture(scope="module")
def site(serve: Serve, predictor: Predictor, segmenter: Segmenter) -> Iterator[Address]:
    """A page with one model, maps and lungs, which takes little; it ends with the tests of a file."""
    desk = Desk([predictor], saliency=GradCam(), segment=segmenter, max_megapixels=50)
    with serve(desk, max_upload_mb=4) as address:
        yield address


@pytest.fixture(scope="session")
def film(run: Path) -> bytes:
    """A phantom that was drawn for the tests of the model, as PNG."""
    rows = pd.read_csv(run / "predictions.csv").query("split == 'test'")
    return Path(str(rows["path"].iloc[0])).read_bytes()


@pytest.fixture(scope="session")
def dicom(film: bytes) -> bytes:
    """The same pixels as DICOM, every level as it is, with a patient's name and number in its header."""
    grey = np.asarray(cv2.imdecode(np.frombuffer(film, np.uint8), cv2.IMREAD_GRAYSCALE))
    return saved(stored(grey, PatientID="4711", WindowCenter=128, WindowWidth=256))


@pytest.fixture(scope="session")
def photograph() -> bytes:
    """A colour photograph that ships with scikit-learn, as JPEG."""
    written, data = cv2.imencode(".jpg", load_sample_image("china.jpg")[..., ::-1])
    assert written
    return data.tobytes()


@pytest.fixture(scope="session")
def huge() -> bytes:
    """A PNG of 10,000 x 10,000 pixels in 100 kB, which takes 100 MB as soon as somebody decodes it."""
    return png_of(10_000, 10_000)


def png_of(width: int, height: int) -> bytes:
    """A black greyscale PNG, made without its pixels ever being in memory."""
    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(bytes(width + 1)) for _ in range(height)), packer.flush()])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
