"""What a user can get wrong, and what the programs say to it: one test per row.

Values that are refused before a file is touched are in tests/steps/test_refused_configurations.py.

``python -m tests.test_wrong_inputs > docs/wrong_inputs.md`` writes the rows of
:data:`IN_TABLE` anew from what is really printed.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import io
import os
import pickle
import re
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import urllib.error
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from unittest import mock

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLosslessSV1
from tests.programs import run, script
from tests.training import without_pages

from cxrlab import train
from cxrlab.reading import dicom_frames
from cxrlab.reading.child import answer
from cxrlab.reading.worker import POOL

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "wrong_inputs.md"
TINY = ("data.image_size=32", "model=paper_cnn_small", "trainer=cpu", "trainer.max_epochs=1", "logger=none")
FILMS = ("data=folder", "data.source.root=films", "data.source.labels={neg: 0, pos: 1}", "data.val=0.25")
RUN = "hydra.run.dir=run"


@dataclass(frozen=True)
class Row:
    """One wrong input.

    Attributes:
        section: Of the table.
        wrong: What is wrong, in words; the name of the test.
        typed: Arguments; those of :data:`TINY` (training only) and :data:`FILMS` come before them, unless ``bare``.
        says: What the message must say, among the rest.
        prepare: Makes files in the folder in which the program runs; there are good films in ``films`` already.
        program: By the name of its module.
        bare: Nothing comes before ``typed`` but :data:`TINY`.
        works: Not refused: the run ends well, and ``says`` stands on the screen.
        patched: Simulates what a test cannot make, a missing network for instance.
        rewritten: Files that may change.
    """

    section: str
    wrong: str
    typed: tuple[str, ...]
    says: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda folder: None
    program: str = "train"
    bare: bool = False
    works: bool = False
    patched: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    rewritten: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        if self.program in ("evaluate", "predict", "probe"):
            return [RUN, "accelerator=cpu", *self.typed]
        if self.program in ("report", "compare", "download", "cache", "matrix", "export", "app"):
            return list(self.typed)
        keys = {each.partition("=")[0] for each in self.typed}
        tiny = TINY if self.program == "train" else ()
        before = [each for each in (*(() if self.bare else FILMS), *tiny, RUN) if each.partition("=")[0] not in keys]
        flags = {"-m": 1, "--config-dir": 2}.get(self.typed[0] if self.typed else "", 0)  # argparse wants them first
        return [*self.typed[:flags], *before, *self.typed[flags:]]


@dataclass(frozen=True)
class Outcome:
    """What a program did.

    Attributes:
        status: Its exit status.
        printed: On stdout, with the folder's name shortened.
        errors: On stderr, likewise.
        files: What is in the folder afterwards.
        unharmed: Whether the files that were there are as before.
        repeatable: Whether the corrected command can be typed with the same run folder.
    """

    status: int
    printed: str
    errors: str
    files: frozenset[str]
    unharmed: bool
    repeatable: bool


# ---------------------------------------------------------------------------------------------------------- running


def outcome(row: Row) -> Outcome:
    """Runs a row in a folder of its own, once per process."""
    return _outcome(ROWS.index(row))


@functools.cache
def _outcome(number: int) -> Outcome:
    row = ROWS[number]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        films(folder / "films")
        row.prepare(folder)
        before = {path: content for path, content in contents(folder).items() if path not in row.rewritten}
        begun = _is_taken(folder / "run")
        own_cache = mock.patch.dict(os.environ, CXRLAB_CACHE=str(folder / "cache"))
        pages = without_pages() if row.program == "train" else contextlib.nullcontext()  # their names are told alike
        with contextlib.chdir(folder), own_cache, pages, row.patched():
            status, printed, errors = run(row.program, *row.command)
        after = contents(folder)
        return Outcome(
            status,
            _anywhere(printed, name),
            _anywhere(errors, name),
            files=frozenset(after),
            unharmed=before.items() <= after.items() and "PWNED" not in after,
            repeatable=begun or row.works or not _is_taken(folder / "run"),
        )


def _anywhere(told: str, folder: str) -> str:
    """What was told, without the places of this clone and of the folder in which the command was typed."""
    return told.replace(folder, "…").replace(f"{ROOT}/", "")


def _is_taken(folder: Path) -> bool:
    return (folder / "config.yaml").exists() or (folder / "audit.json").exists()


def contents(folder: Path) -> dict[str, bytes]:
    """Every regular file below a folder but what is piped or unreadable, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and os.access(path, os.R_OK)
    }


# ----------------------------------------------------------------------------------------------------- making files


def film(path: Path, seed: int) -> None:
    """A grey image of noise, whatever the name's suffix says it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32), np.uint8)).save(path)


def films(root: Path, train: int = 6, test: int = 2, suffix: str = ".png") -> None:
    """``train|test/neg|pos/p<patient>_1.png``: one image per patient."""
    patient = 0
    for split, count in (("train", train), ("test", test)):
        for name in ("neg", "pos"):
            for _ in range(count):
                film(root / split / name / f"p{patient:03}_1{suffix}", seed=patient)
                patient += 1


def bytes_at(name: str, content: bytes) -> Callable[[Path], object]:
    """Writes a file."""

    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return prepare


def text_at(name: str, text: str) -> Callable[[Path], object]:
    return bytes_at(name, text.encode())


def cut(name: str) -> Callable[[Path], object]:
    """Keeps the first half of an image that has been made as the name says."""

    def prepare(folder: Path) -> None:
        film(folder / name, seed=99)
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return prepare


def without(name: str) -> Callable[[Path], object]:
    """Removes a folder or the images in it, where the name ends in a slash."""

    def prepare(folder: Path) -> None:
        shutil.rmtree(folder / name)
        if name.endswith("/"):
            (folder / name).mkdir()

    return prepare


def steps(*each: Callable[[Path], object]) -> Callable[[Path], object]:
    def prepare(folder: Path) -> None:
        for step in each:
            step(folder)

    return prepare


def for_each(pattern: str, act: Callable[[Path], object], spare: int = 0) -> Callable[[Path], object]:
    """Does something to every path that matches, but the first few."""

    def prepare(folder: Path) -> None:
        for path in sorted(folder.glob(pattern))[spare:]:
            act(path)

    return prepare


def link(name: str, target: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).symlink_to(target)


def copy(source: str, target: str) -> Callable[[Path], object]:
    return lambda folder: shutil.copy(folder / source, folder / target)


def films_csv(*replaced: tuple[str, str], name: str = "films.csv") -> Callable[[Path], object]:
    """A table of the films, with a view, and four years as everybody's age; then texts in it are replaced."""

    def prepare(folder: Path) -> None:
        lines = ["path,label,patient_id,split,view,age"]
        for number, path in enumerate(sorted((folder / "films").rglob("*.png"))):
            split, label = path.relative_to(folder / "films").parts[:2]
            values = (path.relative_to(folder), int(label == "pos"), path.stem[:4], split, ("PA", "AP")[number % 2], 4)
            lines.append(",".join(map(str, values)))
        text = "\n".join(lines) + "\n"
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_bytes(text.encode("latin-1"))

    return prepare


def second_set(folder: Path) -> None:
    """``films.csv``, and ``others.csv`` with films of its own and one of ``films`` at twice the size."""
    films_csv()(folder)
    lines = ["path,label"]
    for number in range(8):
        film(folder / f"others/{number}.png", seed=100 + number)
        lines.append(f"others/{number}.png,{number % 2}")
    twice_as_large(f"{A_FILM}.png", "others/again.png")(folder)
    (folder / "others.csv").write_text("\n".join([*lines, "others/again.png,0", ""]))


def twice_as_large(source: str, target: str) -> Callable[[Path], object]:
    def prepare(folder: Path) -> None:
        with Image.open(folder / source) as image:
            image.resize((2 * image.width, 2 * image.height)).save(folder / target)

    return prepare


def cohen(*replaced: tuple[str, str]) -> Callable[[Path], object]:
    """Two images in the layout of Cohen's collection; then texts in its table are replaced."""
    text = (
        "patientid,finding,view,modality,folder,filename\n"
        "1,Pneumonia/Viral/COVID-19,PA,X-ray,images,a.png\n2,Pneumonia,PA,X-ray,images,b.png\n"
    )
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new)

    def prepare(folder: Path) -> None:
        for seed, name in enumerate("ab"):
            film(folder / f"data/covid-chestxray-dataset/images/{name}.png", seed)
        text_at("data/covid-chestxray-dataset/metadata.csv", text)(folder)

    return prepare


def kermany(root: str) -> Callable[[Path], object]:
    """Eight images in the layout of Kaggle's chest-xray-pneumonia."""

    def prepare(folder: Path) -> None:
        for seed in range(8):
            name = ("NORMAL/IM-{:04}-0001.png", "PNEUMONIA/person{}_virus_1.png")[seed % 2].format(seed)
            film(folder / root / ("train", "test")[seed // 4] / name, seed)

    return prepare


def _lossless() -> bytes:
    return bytes(imagecodecs.jpeg8_encode(np.zeros((32, 32), np.uint8), lossless=True))


def dicom(
    name: str, syntax: str = ExplicitVRLittleEndian, lost: int = 0, **attributes: Any
) -> Callable[[Path], object]:
    """An image of 32 x 32 pixels as DICOM, whose last bytes may be lost; ``None`` takes an attribute away."""

    def prepare(folder: Path) -> None:
        dataset = Dataset()
        dataset.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.1.1")
        dataset.SOPInstanceUID = UID("1.2.3")
        dataset.Rows = dataset.Columns = 32
        dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PhotometricInterpretation = 7, "MONOCHROME2"
        compressed = UID(syntax).is_encapsulated
        dataset.PixelData = encapsulate([_lossless()]) if compressed else bytes(range(256)) * 4
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = compressed
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
            if value is None:
                delattr(dataset, keyword)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        (folder / name).write_bytes(file.getvalue()[: len(file.getvalue()) - lost])

    return prepare


def archive(*names: str) -> Callable[[Path], object]:
    """``archive.zip`` with these files, a megabyte each."""

    def prepare(folder: Path) -> None:
        with zipfile.ZipFile(folder / "archive.zip", "w") as zipped:
            for name in names:
                # ZipInfo has a fixed date and stores: the archive has the same check sum wherever it is made.
                zipped.writestr(zipfile.ZipInfo(name), bytes(10**6))

    return prepare


def huge_png() -> bytes:
    """A PNG whose header promises 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def odd_names(folder: Path) -> None:
    """Renames films to what file systems allow and programs stumble over."""
    for number, odd in enumerate(["läung ✓ 图.png", "a b'c\"d.png", "-rf.png", "tab\there.PNG", "x=1,[y]{z}$HOME.png"]):
        (folder / f"films/train/neg/p{number:03}_1.png").rename(folder / "films/train/neg" / odd)


@functools.cache
def finished_run() -> Path:
    """A run folder, made once by training on the films."""
    folder = Path(tempfile.mkdtemp(prefix="cxrlab-finished-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    films(folder / "films")
    with contextlib.chdir(folder):
        status, _, errors = run("train", *FILMS, *TINY, RUN)
    assert status == 0, errors
    return folder / "run"


def with_run(folder: Path) -> None:
    shutil.copytree(finished_run(), folder / "run")


def with_run_and(more: Callable[[Path], object]) -> Callable[[Path], object]:
    """A run folder, and what else a row needs."""

    def prepare(folder: Path) -> None:
        with_run(folder)
        more(folder)

    return prepare


def two_test_sets(folder: Path) -> None:
    """Two runs, the second with another first test image."""
    with_run(folder)
    predictions = folder / "run/predictions.csv"
    predictions.write_text(predictions.read_text().replace(str(finished_run().parent), str(folder)))
    shutil.copytree(folder / "run", folder / "other")
    config = (folder / "run/config.yaml").read_text()
    (folder / "other/config.yaml").write_text(config.replace("lr: 0.001", "lr: 0.01"))
    rows = predictions.read_text().splitlines()
    first = next(number for number, row in enumerate(rows) if ",test," in row)
    rows[first] = re.sub(r"[0-9a-f]{64}", "0" * 64, rows[first])
    (folder / "other/predictions.csv").write_text("\n".join(rows))


def killed_run(folder: Path) -> None:
    """A run folder as after a kill, with half a checkpoint."""
    with_run(folder)
    (folder / "run/metrics.json").unlink()
    whole = (folder / "run/checkpoints/model.ckpt").read_bytes()
    (folder / "run/checkpoints/last.ckpt").write_bytes(whole[: len(whole) // 2])


def with_checkpoint(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """``model.ckpt``: that of a finished run, after a change."""

    def prepare(folder: Path) -> None:
        checkpoint = torch.load(finished_run() / "checkpoints/model.ckpt", weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, folder / "model.ckpt")

    return prepare


def other_target(target: str, **arguments: Any) -> Callable[[Path], object]:
    return with_checkpoint(lambda checkpoint: checkpoint["cxrlab"].update(model={"_target_": target, **arguments}))


def other_data(checkpoint: dict[str, Any]) -> None:
    path = {"_target_": "pathlib.Path", "_args_": ["PWNED"]}
    checkpoint["cxrlab"]["config"]["data"]["source"] = {"_target_": "cxrlab.files.write_text", "path": path, "text": ""}


def fewer_units(checkpoint: dict[str, Any]) -> None:
    checkpoint["cxrlab"]["model"]["dense_units"] = 8


class Malicious:
    """Runs a command when it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch PWNED",)


# -------------------------------------------------------------------------------------------------------- simulating


def no_gpu() -> contextlib.AbstractContextManager[object]:
    return mock.patch("torch.cuda.is_available", return_value=False)


def no_compiler() -> contextlib.AbstractContextManager[object]:
    return mock.patch("cxrlab.steps.devices.shutil.which", return_value=None)


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    refusal = urllib.error.URLError("[Errno -3] Temporary failure in name resolution")
    with (
        mock.patch("torch.hub.urlopen", side_effect=refusal),
        mock.patch.dict(os.environ, TORCH_HOME=str(Path.cwd() / "cache")),
    ):
        yield


def no_name_server() -> contextlib.AbstractContextManager[object]:
    refusal = urllib.error.URLError(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    return mock.patch("urllib.request.urlopen", side_effect=refusal)


def sign_in_page() -> contextlib.AbstractContextManager[object]:
    """What a hotel's network answers."""
    answer = mock.MagicMock(**{"__enter__.return_value": answer_of(b"<html><title>Please sign in</title></html>")})
    return mock.patch("urllib.request.urlopen", return_value=answer)


def answer_of(content: bytes) -> mock.Mock:
    headers = Message()
    headers["Content-Type"] = "text/html"
    return mock.Mock(headers=headers, status=200, url="https://hotel.example/", read=io.BytesIO(content).read)


def no_kagglehub() -> contextlib.AbstractContextManager[object]:
    return mock.patch.dict(sys.modules, kagglehub=None)


def no_room() -> contextlib.AbstractContextManager[object]:
    usage = shutil.disk_usage(".")._replace(free=0)
    return mock.patch("shutil.disk_usage", return_value=usage)


def refused_by_disk(program: str, number: int) -> Callable[[], contextlib.AbstractContextManager[object]]:
    """A disk on which the program's first file cannot be written, for this reason."""

    def refuse(path: Path, *_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    return lambda: mock.patch(f"cxrlab.{program}.write_text", refuse)


def in_this_process() -> contextlib.AbstractContextManager[object]:
    """Images are decoded in the process of the tests, where decoders and files can be replaced."""
    return mock.patch.object(POOL, "ask", lambda name, message, data, seconds: answer(message, data, bytes))


@contextlib.contextmanager
def no_decoder() -> Iterator[None]:
    with in_this_process(), mock.patch.object(dicom_frames, "is_available", return_value=False):
        yield


@contextlib.contextmanager
def no_permission() -> Iterator[None]:
    """Takes the permission to read one film away; root reads everything, and so is refused by hand."""
    opened, file = os.open, Path("films/train/neg/p000_1.png").absolute()

    def refuse(path: Any, *how: Any, **more: Any) -> int:
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *how, **more)

    with in_this_process(), mock.patch.object(os, "open", refuse):
        yield


@contextlib.contextmanager
def nothing_downloaded() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        os.environ.pop("CXRLAB_DATA", None)
        yield


# ------------------------------------------------------------------------------------------------------------- rows

KEYS, VALUES, MACHINE = "Keys and options", "Values", "Machine"
DATA, TABLES, COLLECTED = "Data folder", "Your own table of images", "Public collections"
FILTERS, SEVERAL, FILES, FOLDERS = "Filters", "Several sources", "Image files", "Run folder"
REPORTS, CHECKPOINTS, USING = "Reporting and comparing", "Evaluating a checkpoint", "Using a model"
AUDITS, DOWNLOADS, CACHE = "Auditing", "Downloading", "Clearing the cache"
LUNGS, PROBES, MATRICES = "Lungs, saliency and decisions", "Probing", "Other hospitals"
NEW = "hydra.run.dir=new"
MINE = ("--config-dir", "mine", "experiment=mine")
A_FILM = "films/train/neg/p000_1"
LISTED = ("data=manifest", "data.source.path=films.csv", "data.val=0.25")
BOTH = (
    "data=concat",
    *(f"data/source@data.source.sources.{key}=manifest" for key in ("first", "second")),
    "data.source.sources.first={path: films.csv, name: here}",
    "data.source.sources.second={path: others.csv, name: there}",
    "data.val=0.25",
)
KAGGLES = ("chest_xray/train/NORMAL/IM-0115-0001.jpeg", "chest_xray/test/PNEUMONIA/person1_virus_1.jpeg")

ROWS = [
    Row(KEYS, "misspelt key", ("model.dropot=0.1",), ("model.dropot", "did you mean 'model.dropout'?")),
    Row(KEYS, "misspelt key at the top", ("sed=1",), ("sed", "did you mean 'seed'?")),
    Row(KEYS, "misspelt group", ("modle=paper_cnn",), ("modle", "did you mean 'model'?")),
    Row(KEYS, "unknown model", ("model=papercnn",), ("model=papercnn", "did you mean 'paper_cnn'?", "torchvision")),
    Row(KEYS, "unknown augmentation", ("augment=stong",), ("augment=stong", "did you mean 'strong'?", "light")),
    Row(KEYS, "no key=value", ("epochs",), ("epochs", "key=value")),
    Row(KEYS, "bracket not closed", ("model.dropout=[0.1",), ("model.dropout=[0.1", "key=value", "quote")),
    Row(KEYS, "several values without -m", ("seed=1,2",), ("seed=1,2", "--multirun")),
    Row(
        KEYS,
        "own experiment file with `sed: 3`, `data: {batchsize: 8}` and `optimizer: {lr: -1}`",
        MINE,
        ("3 problems", "did you mean 'seed'?", "data.batchsize", "did you mean 'batch_size'?", "optimizer.lr"),
        text_at(
            "mine/experiment/mine.yaml",
            "# @package _global_\nsed: 3\ndata:\n  batchsize: 8\noptimizer:\n  lr: -1\n",
        ),
    ),
    Row(
        KEYS,
        "own experiment file with a brace that is not closed",
        MINE,
        ("mine/experiment/mine.yaml", "line 3"),
        text_at("mine/experiment/mine.yaml", "# @package _global_\ndata: {val: 0.2\nseed: 3\n"),
    ),
    Row(
        KEYS,
        "own experiment file with `override /augment: stong`",
        MINE,
        ("augment=stong", "did you mean 'strong'?"),
        text_at("mine/experiment/mine.yaml", "# @package _global_\ndefaults:\n  - override /augment: stong\n"),
    ),
    Row(KEYS, "no such experiment folder", ("--config-dir", "mien", "experiment=mine"), ("…/mien", "not found")),
    Row(VALUES, "dropout out of range", ("model.dropout=[0.25,0.25,1.5]",), ("model.dropout[2]", "[0, 1)", "1.5")),
    Row(VALUES, "negative learning rate", ("optimizer.lr=-0.1",), ("optimizer.lr", "-0.1")),
    Row(
        VALUES,
        "less than a batch of the images",
        ("trainer.limit_train_batches=0.01",),
        ("trainer.limit_train_batches: 0.01 of", "less than one", "trainer.limit_train_batches=1 takes one"),
    ),
    Row(VALUES, "validation misspelt", ("data.val=tset",), ("data.val", "did you mean 'test'?")),
    Row(VALUES, "images too small for the network", ("data.image_size=4",), ("image_size", "4x4", "at least 12x12")),
    Row(VALUES, "unknown metric", ("monitor=val/acc",), ("monitor", "val/accuracy", "'val/acc'")),
    Row(
        VALUES,
        "pretrained weights: no such file",
        ("model=torchvision", "model.pretrained=true", "model.weights_path=resnet18.pth"),
        ("model.weights_path", "resnet18.pth", "model.pretrained=false"),
    ),
    Row(
        MACHINE,
        "pretrained weights: no network",
        ("model=torchvision", "model.pretrained=true"),
        ("resnet18", "https://download.pytorch.org", "model.weights_path", "model.pretrained=false"),
        patched=no_network,
    ),
    Row(
        MACHINE,
        "images that the cache has no room for",
        ("data.cache_limit_gb=1e-6",),
        ("data.cache_limit_gb=1e-06", "16 images", "data.cache_limit_gb=1 ", "data.cache=null"),
    ),
    Row(
        MACHINE,
        "a cache that cannot be written",
        ("data.cache=notes.txt",),
        ("pixels could not be kept in notes.txt", "CXRLAB_CACHE="),
        text_at("notes.txt", "here\n"),
        works=True,
    ),
    Row(MACHINE, "no GPU", ("trainer=gpu",), ("trainer.accelerator", "trainer.accelerator=auto"), patched=no_gpu),
    Row(MACHINE, "two devices", ("trainer.devices=2",), ("trainer.devices", "must be 1", "got 2", "trainer=ddp")),
    Row(
        MACHINE,
        "no compiler",
        ("compile=true",),
        ("compile", "C++ compiler", "CXX=", "leave compile out"),
        patched=no_compiler,
    ),
    Row(
        DATA,
        "the paper's data set is not there",
        ("data=paper",),
        ("…/data/xray_dataset_covid19", "python src/download.py data=paper", "data=synthetic"),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(DATA, "no such folder", ("data.source.root=fims",), ("…/fims", "data.source.root=", "data=synthetic")),
    Row(
        DATA,
        "labels of one class",
        ("data.source.labels={neg: 0}",),
        ("films/train/pos", "data.source.labels knows neg"),
    ),
    Row(
        DATA,
        "class folder misspelt",
        ("data.source.labels={neg: 0, poss: 1}",),
        ("films/train/pos", "did you mean '{neg: 0, pos: 1}'?"),
    ),
    Row(DATA, "class folder missing", (), ("films/test", "'pos'", "neg"), without("films/test/pos")),
    Row(DATA, "empty class", (), ("films/train/pos", "empty class", ".png"), without("films/train/pos/")),
    Row(
        DATA,
        "one class only",
        (),
        ("films/train", "'pos'", "missing"),
        steps(without("films/train/pos"), without("films/test/pos")),
    ),
    Row(
        DATA,
        "one class only after unreadable images were skipped",
        ("data.on_error=skip",),
        ("test split", "no Positive"),
        for_each("films/test/pos/*", lambda path: path.write_bytes(b"")),
    ),
    Row(
        DATA,
        "too few patients to validate on",
        (),
        ("data.val=0.25", "1 training patient(s)", "Negative"),
        for_each("films/train/neg/*", Path.unlink, spare=1),
    ),
    Row(
        DATA,
        "pattern for patients does not match",
        (r'data.source.patient_pattern="^x(\d+)_"',),
        ("p000_1.png", "data.source.patient_pattern", "no patient"),
    ),
    Row(
        DATA,
        "the same patient in train and test",
        (r'data.source.patient_pattern="^(p\d+)_"',),
        ("leak", "patient p000", "train (p000_1.png)", "test (p000_2.png)", "data.allow_leak=true"),
        lambda folder: film(folder / "films/test/neg/p000_2.png", seed=99),
    ),
    Row(
        DATA,
        "the same file in train and test, under another name",
        (),
        ("leak", "the same file", "(p000_1.png)", "test (new.png)", "data.allow_leak=true"),
        copy(f"{A_FILM}.png", "films/test/neg/new.png"),
    ),
    Row(
        DATA,
        "a film of the training images in the test images, at twice the size",
        (),
        (
            "near-duplicate",
            "test (large.png)",
            "train (p000_1.png)",
            "data.resplit=true",
            "data.allow_leak=true",
        ),
        twice_as_large(f"{A_FILM}.png", "films/test/neg/large.png"),
    ),
    Row(
        TABLES,
        "no such table",
        LISTED,
        (
            "…/films.csv",
            "data.source.path=",
        ),
        bare=True,
    ),
    Row(
        TABLES,
        "a folder instead of a table",
        ("data=manifest", "data.source.path=films"),
        (
            "films: a folder",
            "CSV",
            "data=folder",
        ),
        bare=True,
    ),
    Row(
        TABLES,
        "a column is missing",
        LISTED,
        (
            "films.csv",
            "row 1",
            "data.source.columns={label: lable}",
        ),
        films_csv(("label,patient_id", "lable,patient_id")),
        bare=True,
    ),
    Row(
        TABLES,
        "wrong cells in three rows",
        LISTED,
        (
            "3 mistake(s)",
            "row 2: path is empty",
            "row 6: label is 'healthy'",
            "row 7: split is 'trian'",
            "did you mean 'train'?",
        ),
        films_csv(
            (f"{A_FILM}.png,0", f"{A_FILM}.png,healthy"),
            ("p001,train", "p001,trian"),
            ("films/test/neg/p012_1.png", ""),
        ),
        bare=True,
    ),
    Row(
        TABLES,
        "an image listed twice",
        LISTED,
        (
            "row 7",
            "p000_1.png",
            "first in row 6",
        ),
        films_csv(("p001_1", "p000_1")),
        bare=True,
    ),
    Row(
        TABLES,
        "a comma in a path, without quotes",
        LISTED,
        (
            "row 7: 7 cell(s)",
            "6 column(s)",
            "quote",
        ),
        films_csv(("p001_1", "p001,1")),
        bare=True,
    ),
    Row(
        TABLES,
        "a path that is not there",
        LISTED,
        (
            "1 of 16",
            "p100_1.png",
            "no such file",
            "data.on_error=skip",
        ),
        films_csv(("p001_1", "p100_1")),
        bare=True,
    ),
    Row(
        TABLES,
        "paths that are relative to another folder",
        LISTED,
        (
            "none of its 16 images",
            "…/scans/",
            "data.source.root=",
        ),
        films_csv(("films/", "scans/")),
        bare=True,
    ),
    Row(
        TABLES,
        "not saved as UTF-8",
        LISTED,
        (
            "films.csv",
            "line 7",
            "CSV UTF-8",
        ),
        films_csv(("p001,train", "Müller,train")),
        bare=True,
    ),
    Row(TABLES, "semicolons instead of commas", LISTED, (), films_csv((",", ";")), bare=True, works=True),
    Row(
        FILTERS,
        "misspelt view",
        (*LISTED, "data.views=[PAA]"),
        (
            "data.views=[PAA]",
            "PA (8), AP (8)",
            "did you mean 'PA'?",
        ),
        films_csv(),
        bare=True,
    ),
    Row(
        FILTERS,
        "a view, and the source knows none",
        ("data.views=[PA]",),
        (
            "data.views=[PA]",
            "no view is known",
        ),
    ),
    Row(
        FILTERS,
        "a least age, and the source knows no age",
        ("data.min_age=18",),
        (
            "data.min_age=18",
            "folder knows no age",
            "leave data.min_age out",
        ),
    ),
    Row(
        FILTERS,
        "images per patient, and the source knows no patient",
        ("data.limit_per_patient=1",),
        (
            "data.limit_per_patient=1",
            "folder knows no patient",
            "leave it out",
        ),
    ),
    Row(
        FILTERS,
        "nobody is old enough",
        (*LISTED, "data.min_age=18"),
        (
            "no image is left",
            "younger than 18 years",
            "loosen that filter",
        ),
        films_csv(),
        bare=True,
    ),
    Row(
        FILTERS,
        "a filter that leaves one class",
        (*LISTED, "data.views=[PA]"),
        (
            "data.val=0.25",
            "only 0 training patient(s) are Negative",
            "loosen a filter",
        ),
        films_csv(*((f",0,p00{number},train,PA", f",0,p00{number},train,L") for number in (0, 2, 4))),
        bare=True,
    ),
    Row(
        COLLECTED,
        "unknown data set",
        ("data=kermanny",),
        (
            "data=kermanny",
            "there are actualmed, cohen",
            "did you mean 'kermany'?",
        ),
        bare=True,
    ),
    Row(
        COLLECTED,
        "Kermany's films are not there",
        ("data=kermany",),
        (
            "…/data/chest_xray",
            "python src/download.py data=kermany",
            "data.source.root=",
        ),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        COLLECTED,
        "Cohen's collection is not there",
        ("data=cohen",),
        (
            "…/data/covid-chestxray-dataset",
            "python src/download.py data=cohen",
            "data.source.root=",
        ),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        COLLECTED,
        "DarkCovidNet's films lack a folder",
        ("data=darkcovidnet",),
        (
            "…/data/darkcovidnet/No_findings",
            "python src/download.py data=darkcovidnet",
        ),
        lambda folder: film(folder / "data/darkcovidnet/Covid-19/a.png", seed=1),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        COLLECTED,
        "Kermany's films with a class folder of another name",
        ("data=kermany",),
        (
            "test/HEALTHY",
            "NORMAL, PNEUMONIA",
            "rename this one",
            "python src/download.py data=kermany",
        ),
        steps(
            kermany("data/chest_xray"),
            lambda folder: (folder / "data/chest_xray/test/NORMAL").rename(folder / "data/chest_xray/test/HEALTHY"),
        ),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        COLLECTED,
        "the paper's set without a class folder",
        ("data=paper",),
        (
            "xray_dataset_covid19/test",
            "'NORMAL' is missing",
            "python src/download.py data=paper",
        ),
        steps(kermany("data/xray_dataset_covid19"), without("data/xray_dataset_covid19/test/NORMAL")),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        COLLECTED,
        "`metadata.csv` without a column",
        ("data=cohen",),
        (
            "metadata.csv",
            "finding",
            "diagnosis",
            "python src/download.py data=cohen",
        ),
        cohen(("finding", "diagnosis")),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        COLLECTED,
        "no finding of that name",
        ("data=cohen", "data.source.positive_if=Covid-19"),
        (
            "metadata.csv",
            "data.source.positive_if='Covid-19'",
            "Pneumonia/Viral/COVID-19 (1)",
        ),
        cohen(),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        COLLECTED,
        "none of the images that `metadata.csv` lists",
        ("data=cohen",),
        (
            "…/data/covid-chestxray-dataset/images",
            "c.png",
            "python src/download.py data=cohen",
        ),
        cohen(("a.png", "c.png"), ("b.png", "d.png")),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        SEVERAL,
        "a film in two sources",
        BOTH,
        (
            "1 film(s)",
            "here: p000_1.png = there: again.png",
            "data.duplicates=drop",
            "data.duplicates=keep",
        ),
        second_set,
        bare=True,
    ),
    Row(
        SEVERAL,
        "a film in two sources, the second left out on request",
        (*BOTH, "data.duplicates=drop"),
        ("train   16 images",),
        second_set,
        bare=True,
        works=True,
    ),
    Row(
        SEVERAL,
        "two sources of one name",
        (*BOTH[:3], "data.source.sources.first.path=films.csv", "data.source.sources.second.path=others.csv"),
        (
            "data.source.sources",
            "'manifest' for first and second",
            "data.source.sources.second.name=",
        ),
        second_set,
        bare=True,
    ),
    Row(
        SEVERAL,
        "a source is not there",
        BOTH,
        (
            "there: …/others.csv",
            "data.source.sources.second.path=",
        ),
        films_csv(),
        bare=True,
    ),
    Row(
        SEVERAL,
        "the collections to be joined are not there",
        ("data=concat",),
        ("paper: …/data/xray_dataset_covid19", "python src/download.py data=paper", "data.source.sources.first.root="),
        bare=True,
        patched=nothing_downloaded,
    ),
    Row(
        SEVERAL,
        "a file that two sources label differently",
        BOTH,
        (
            "here+there",
            "p000_1.png",
            "Negative train (here), Positive train (there)",
        ),
        steps(films_csv(), films_csv((f"{A_FILM}.png,0", f"{A_FILM}.png,1"), name="others.csv")),
        bare=True,
    ),
    Row(
        FILES,
        "DICOM cut off",
        (),
        (
            "cut.dcm",
            "cut off",
            "512 of 1,024 bytes",
            "data.on_error=skip",
        ),
        dicom("films/train/neg/cut.dcm", lost=512),
    ),
    Row(
        FILES,
        "DICOM without an image",
        (),
        (
            "report.dcm",
            "without an image",
            "Digital X-Ray",
        ),
        dicom("films/train/neg/report.dcm", PixelData=None),
    ),
    Row(
        FILES,
        "DICOM with several frames",
        (),
        (
            "series.dcm",
            "12 frames",
        ),
        dicom("films/train/neg/series.dcm", NumberOfFrames=12),
    ),
    Row(
        FILES,
        "DICOM as JPEG Lossless, and no decoder",
        (),
        (
            "small.dcm",
            "JPEG Lossless",
            "no decoder",
            "pip install 'cxrlab[dicom]'",
        ),
        dicom("films/train/neg/small.dcm", JPEGLosslessSV1),
        patched=no_decoder,
    ),
    Row(FILES, "JPEG cut off", (), ("cut.jpg", "cut off", "data.on_error=skip"), cut("films/train/neg/cut.jpg")),
    Row(FILES, "PNG cut off", (), ("p000_1.png", "cut off", "data.on_error=skip"), cut(f"{A_FILM}.png")),
    Row(FILES, "empty file", (), ("p000_1.png", "0 bytes", "data.on_error=skip"), bytes_at(f"{A_FILM}.png", b"")),
    Row(
        FILES,
        "text named .png",
        (),
        ("notes.png", "not an image", "PNG, JPEG", "data.on_error=skip"),
        text_at("films/train/neg/notes.png", "call the radiologist\n"),
    ),
    Row(
        FILES,
        "60,000 x 60,000 pixels by its header",
        (),
        ("huge.png", "150,000,000", "data.on_error=skip"),
        bytes_at("films/train/neg/huge.png", huge_png()),
    ),
    Row(FILES, "no permission to read", (), ("p000_1.png", "permission", "chmod"), patched=no_permission),
    Row(FILES, "link to nothing", (), ("gone.png", "not there"), link("films/train/neg/gone.png", "nowhere.png")),
    Row(FILES, "link to itself", (), ("loop.png", "cannot be read"), link("films/train/neg/loop.png", "loop.png")),
    Row(FILES, "folder named .png", (), (), lambda folder: (folder / "films/train/neg/folder.png").mkdir(), works=True),
    Row(
        FILES,
        "link back to the class folder",
        (),
        ("films/train/neg/again", "not entered"),
        link("films/train/neg/again", "."),
        works=True,
    ),
    Row(
        FILES,
        "link back to the folder of all classes",
        (),
        ("films/train/neg/again",),
        link("films/train/neg/again", ".."),
        works=True,
    ),
    Row(FILES, "names such as `läung ✓ 图.png`, `-rf.png`, `x=1,[y]{z}$HOME.png`", (), (), odd_names, works=True),
    Row(
        FILES,
        "five kinds of bad files at once, skipped on request",
        ("data.on_error=skip",),
        ("p000_1.png", "0 bytes", "cut.jpg", "huge.png", "gone.png"),
        steps(
            bytes_at(f"{A_FILM}.png", b""),
            cut("films/train/neg/cut.jpg"),
            bytes_at("films/train/neg/huge.png", huge_png()),
            link("films/train/neg/gone.png", "nowhere.png"),
            text_at("films/train/pos/notes.png", "call the radiologist\n"),
        ),
        works=True,
    ),
    Row(FOLDERS, "the folder holds a run", (RUN,), ("run", "ckpt_path=", "hydra.run.dir="), with_run),
    Row(
        FOLDERS,
        "the folder cannot be made: a file is in its way",
        ("hydra.run.dir=notes.txt/run",),
        ("notes.txt", "hydra.run.dir="),
        text_at("notes.txt", "here\n"),
    ),
    Row(FOLDERS, "going on with nothing", ("ckpt_path=runs/old",), ("ckpt_path=runs/old", "no such", "runs/")),
    Row(
        FOLDERS,
        "going on with a folder that is no run",
        ("ckpt_path=films",),
        ("ckpt_path=films", "config.yaml", "without ckpt_path"),
    ),
    Row(
        FOLDERS,
        "going on with other settings",
        ("ckpt_path=run", "model.dropout=[0,0,0]"),
        ("model.dropout=[0,0,0]", "trainer.max_epochs", "without ckpt_path"),
        with_run,
    ),
    Row(
        FOLDERS,
        "going on with a run whose config.yaml is damaged",
        ("ckpt_path=run",),
        ("run/config.yaml", "damaged", "restore it"),
        steps(with_run, text_at("run/config.yaml", "data: {val: [")),
    ),
    Row(
        FOLDERS,
        "going on with a run whose last.ckpt is cut off",
        ("ckpt_path=run",),
        ("run/checkpoints/last.ckpt", "cut off"),
        killed_run,
        rewritten=("run/environment.json", "run/manifest.csv", "run/train.log"),
    ),
    Row(
        FOLDERS,
        "one job of a sweep",
        ("-m", "model.dropout=[0,0,0],[0,0,2]", "hydra.sweep.dir=sweep"),
        ("error in job 1", "model.dropout[2]", "the other jobs ran"),
    ),
    Row(REPORTS, "report of nothing", (), ("run", "must be set"), program="report"),
    Row(REPORTS, "report of no run", ("run=films",), ("run=films", "no run folder", "runs/"), program="report"),
    Row(
        REPORTS,
        "report of a run whose metrics.json is cut off",
        ("run=run",),
        ("metrics.json", "run", "cannot be read"),
        steps(with_run, text_at("run/metrics.json", '{"status": ')),
        program="report",
    ),
    Row(REPORTS, "nothing to compare", ("runs=films",), ("runs=films", "no run folder"), program="compare"),
    Row(
        REPORTS,
        "runs that are not finished",
        ("runs=run",),
        ("runs=run", "no metrics.json", "give finished runs"),
        steps(with_run, lambda folder: (folder / "run/metrics.json").unlink()),
        program="compare",
    ),
    Row(
        REPORTS,
        "runs that were tested on different images",
        ("runs=[run, other]",),
        ("1 of its 4", "p012_1.png", "separately"),
        two_test_sets,
        program="compare",
    ),
    Row(
        REPORTS,
        "reference that is no setting",
        ("runs=run", "reference=resnet81"),
        ("reference", "resnet81", "PaperCNN"),
        with_run,
        program="compare",
    ),
    Row(CHECKPOINTS, "no checkpoint named", (), ("ckpt_path", "must be set"), program="evaluate"),
    Row(CHECKPOINTS, "no such checkpoint", ("ckpt_path=model.ckpt",), ("model.ckpt", "no such"), program="evaluate"),
    Row(
        CHECKPOINTS,
        "text named .ckpt",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "not a readable checkpoint"),
        text_at("model.ckpt", "weights\n"),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "checkpoint cut off",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "not a readable checkpoint"),
        lambda folder: (folder / "model.ckpt").write_bytes(
            (finished_run() / "checkpoints/model.ckpt").read_bytes()[:9999]
        ),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "pickle that runs code",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "refused"),
        lambda folder: torch.save({"state_dict": Malicious()}, folder / "model.ckpt"),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "old-style pickle that runs code",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "not a readable checkpoint"),
        bytes_at("model.ckpt", pickle.dumps({"state_dict": Malicious()})),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "weights of another project",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "not a checkpoint of this project"),
        lambda folder: torch.save({"state_dict": {"fc.weight": torch.zeros(1, 2)}}, folder / "model.ckpt"),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "names `os.system` as its network",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "refused", "'os.system'", "cxrlab.models"),
        other_target("os.system", command="touch PWNED"),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "names a function that cxrlab.models imports",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "refused", "'cxrlab.models.torch.hub.load'"),
        other_target("cxrlab.models.torch.hub.load", repo_or_dir=".", model="x", source="local"),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "names a function that writes files as its data set",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "refused", "does not belong into a file", "data="),
        with_checkpoint(other_data),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "configuration missing",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "config"),
        with_checkpoint(lambda checkpoint: checkpoint["cxrlab"].pop("config")),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "weights of another size",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "do not fit"),
        with_checkpoint(fewer_units),
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "preprocessing other than the weights'",
        ("ckpt_path=run", *FILMS, "data.image_size=64", "hydra.run.dir=new"),
        ("data.image_size", "'height': 32", "leave it out"),
        with_run,
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "unknown split",
        ("ckpt_path=run", "split=tets", "hydra.run.dir=new"),
        ("split", "did you mean 'test'?"),
        with_run,
        program="evaluate",
    ),
    Row(
        CHECKPOINTS,
        "no GPU to evaluate on",
        ("ckpt_path=run", "accelerator=gpu", "hydra.run.dir=new"),
        ("accelerator", "accelerator=auto"),
        with_run,
        program="evaluate",
        patched=no_gpu,
    ),
    Row(USING, "nothing to look at named", ("ckpt_path=run", NEW), ("input", "must be set"), with_run, "predict"),
    Row(
        USING,
        "input that is not there",
        ("ckpt_path=run", "input=film", NEW),
        ("film: no such file or folder", "did you mean 'films'?", "a CSV with a column `path`"),
        with_run,
        "predict",
    ),
    Row(
        USING,
        "folder without images",
        ("ckpt_path=run", "input=texts", NEW),
        ("texts: no image file there (1 .txt left out)",),
        with_run_and(text_at("texts/a.txt", "x")),
        "predict",
    ),
    Row(
        USING,
        "list without a column of paths",
        ("ckpt_path=run", "input=list.csv", NEW),
        ("list.csv: no column `path`", "there are: file, note"),
        with_run_and(text_at("list.csv", "file,note\na.png,\n")),
        "predict",
    ),
    Row(
        USING,
        "pattern that finds nothing",
        ("ckpt_path=run", "input=films/**/*.dcm", NEW),
        ("films/**/*.dcm: no image file there",),
        with_run,
        "predict",
    ),
    Row(
        USING,
        "misspelt key of a prediction",
        ("ckpt_path=run", "input=films", "+btach_size=8", NEW),
        ("btach_size", "did you mean 'batch_size'?"),
        with_run,
        "predict",
    ),
    Row(
        USING,
        "pickle that runs code, to predict with",
        ("ckpt_path=model.ckpt", "input=films"),
        ("model.ckpt", "refused"),
        lambda folder: torch.save({"state_dict": Malicious()}, folder / "model.ckpt"),
        "predict",
    ),
    Row(
        USING,
        "pickle that runs code, named .onnx",
        ("ckpt_path=model.onnx", "input=films"),
        ("model.onnx: not a readable ONNX file",),
        bytes_at("model.onnx", pickle.dumps({"state_dict": Malicious()})),
        "predict",
    ),
    Row(
        USING,
        "gate that is not there",
        ("ckpt_path=run", "input=films", "gate=runs/gate", NEW),
        ("runs/gate", "src/train.py experiment=gate"),
        with_run,
        "predict",
    ),
    Row(
        USING,
        "gate named in a checkpoint without one",
        ("ckpt_path=run", "input=films", "gate=run/checkpoints/model.ckpt", NEW),
        ("model.ckpt: holds no trained gate",),
        with_run,
        "predict",
    ),
    Row(
        USING,
        "checkpoint with a gate from a stranger",
        ("ckpt_path=model.ckpt", "input=films"),
        ("model.ckpt: refused: its gate", "'kinds' is missing"),
        with_checkpoint(lambda checkpoint: checkpoint.update(gate={"format": 1})),
        "predict",
    ),
    Row(
        USING,
        "network of an experiment",
        ("ckpt_path=model.ckpt", "input=films"),
        ("model.ckpt", "data.alter=centre_black_60", "not for use"),
        with_checkpoint(lambda checkpoint: checkpoint["cxrlab"]["config"]["data"].update(alter="centre_black_60")),
        "predict",
    ),
    Row(
        USING,
        "map of a layer that is none",
        ("ckpt_path=run", "input=films", "saliency=gradcam", "saliency.layer=conv9", NEW),
        ("saliency.layer", "'conv9' is no layer"),
        with_run,
        "predict",
    ),
    Row(
        USING,
        "misspelt DICOM tag",
        ("ckpt_path=run", "input=films", "dicom_tags=[PatientsID]", NEW),
        ("dicom_tags", "did you mean 'PatientID'?"),
        with_run,
        "predict",
    ),
    Row(
        USING,
        "names wanted and not wanted",
        ("ckpt_path=run", "input=films", "dicom_tags=[PatientID]", "deidentify=true", NEW),
        ("dicom_tags", "choose one"),
        with_run,
        "predict",
    ),
    Row(
        USING,
        "folder of predictions of another model",
        ("ckpt_path=run", "input=films", "hydra.run.dir=scored"),
        ("scored", "made with another model", "hydra.run.dir=…"),
        with_run_and(text_at("scored/settings.json", '{"model": "f00"}')),
        "predict",
        rewritten=("scored/predict.log",),
    ),
    Row(
        USING,
        "empty, cut and foreign files among images",
        ("ckpt_path=run", "input=films", "gate=none", NEW),
        ("17 files", "unreadable"),
        with_run_and(bytes_at("films/empty.png", b"")),
        "predict",
        works=True,
    ),
    Row(
        USING,
        "unknown format of an export",
        ("ckpt_path=run", "format=onxx"),
        ("format", "did you mean 'onnx'?"),
        with_run,
        "export",
    ),
    Row(
        USING,
        "ONNX operators of a version that is none",
        ("ckpt_path=run", "opset=3"),
        ("opset", "[18, 23]"),
        with_run,
        "export",
    ),
    Row(
        USING,
        "gate to be put into a checkpoint, not there",
        ("ckpt_path=run", "format=checkpoint", "gate=runs/gate"),
        ("gate=runs/gate: no such file or folder", "experiment=gate"),
        with_run,
        "export",
    ),
    Row(USING, "page without a model", (), ("ckpt_path", "must be set"), program="app"),
    Row(
        USING,
        "page with a model that is not there",
        ("ckpt_path=rnu", "port=0"),
        ("rnu: no such checkpoint",),
        program="app",
    ),
    Row(
        USING,
        "port that is none",
        ("ckpt_path=run", "port=99999"),
        ("port must be a whole number in [0, 65535]",),
        with_run,
        "app",
    ),
    Row(
        USING,
        "address of another machine",
        ("ckpt_path=run", "host=192.0.2.1"),
        ("host: 192.0.2.1 is no address of this machine", "host=127.0.0.1"),
        with_run,
        "app",
    ),
    Row(
        AUDITS,
        "misspelt key of an audit",
        ("strct=true",),
        (
            "strct",
            "did you mean 'strict'?",
        ),
        program="audit",
    ),
    Row(
        AUDITS,
        "strict is neither true nor false",
        ("strict=maybe",),
        (
            "strict",
            "True, False",
            "'maybe'",
        ),
        program="audit",
    ),
    Row(
        AUDITS,
        "every image is a test image",
        ("data.test=all",),
        (
            "data.test",
            "leave it out",
        ),
        program="audit",
    ),
    Row(
        AUDITS,
        "the folder holds an audit",
        (),
        (
            "…/run",
            "holds an audit",
            "hydra.run.dir=",
        ),
        text_at("run/audit.json", "{}\n"),
        program="audit",
    ),
    Row(
        AUDITS,
        "a class without images",
        (),
        (
            "films/test",
            "'pos' is missing",
        ),
        without("films/test/pos"),
        program="audit",
    ),
    Row(
        AUDITS,
        "no image can be read",
        (),
        (
            "4 of 4 images",
            "p000_1.png",
            "mend or remove them",
        ),
        steps(
            without("films"),
            lambda folder: films(folder / "films", train=1, test=1),
            for_each("films/**/*.png", lambda path: path.write_bytes(b"")),
        ),
        program="audit",
    ),
    Row(
        AUDITS,
        "a class whose test images cannot be read",
        (),
        ("no Positive",),
        for_each("films/test/pos/*", lambda path: path.write_bytes(b"")),
        program="audit",
        works=True,
    ),
    Row(
        AUDITS,
        "the audit's folder cannot be made",
        ("hydra.run.dir=notes.txt/audit",),
        (
            "notes.txt/audit",
            "hydra.run.dir=",
        ),
        text_at("notes.txt", "here\n"),
        program="audit",
    ),
    Row(
        AUDITS,
        "the audit's folder may not be written",
        (),
        (
            "…/run/settings.yaml",
            "Permission denied",
            "hydra.run.dir=",
        ),
        program="audit",
        patched=refused_by_disk("audit", errno.EACCES),
    ),
    Row(
        AUDITS,
        "the disk is full",
        (),
        (
            "…/run/settings.yaml",
            "No space left",
            "type the same again",
        ),
        program="audit",
        patched=refused_by_disk("audit", errno.ENOSPC),
    ),
    Row(
        AUDITS,
        "a leak and a file that cannot be read",
        (),
        (
            "the same file in several splits",
            "notes.png",
            "audit    …/run/audit.html",
        ),
        steps(copy(f"{A_FILM}.png", "films/test/neg/new.png"), text_at("films/train/neg/notes.png", "call\n")),
        program="audit",
        works=True,
    ),
    Row(
        DOWNLOADS,
        "nothing named",
        (),
        (
            "data: must be set",
            "data=paper",
        ),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "unknown collection",
        ("data=cohne",),
        (
            "data=cohne",
            "did you mean 'cohen'?",
        ),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "nothing to download",
        ("data=synthetic",),
        (
            "SyntheticSource",
            "data=paper, data=kermany",
        ),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "misspelt key of a download",
        ("data=cohen", "timout=5"),
        (
            "timout",
            "did you mean 'timeout'?",
        ),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "no network",
        ("data=cohen", "to=here"),
        (
            "https://github.com",
            "no network",
            "with a browser",
            "url=/path/to/",
        ),
        program="download",
        patched=no_name_server,
    ),
    Row(
        DOWNLOADS,
        "the network wants a sign-in",
        ("data=cohen", "to=here"),
        (
            "no ZIP archive",
            "'Please sign in'",
            "hotel.example",
        ),
        program="download",
        patched=sign_in_page,
    ),
    Row(
        DOWNLOADS,
        "from Kaggle without kagglehub",
        ("data=kermany", "to=here"),
        (
            "data=kermany",
            "pip install 'cxrlab[kaggle]'",
            "url=/path/to/",
        ),
        program="download",
        patched=no_kagglehub,
    ),
    Row(
        DOWNLOADS,
        "no such archive",
        ("data=cohen", "to=here", "url=archive.zip"),
        (
            "url=archive.zip",
            "no such file",
        ),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "wrong SHA-256",
        ("data=kermany", "to=here", "url=archive.zip", f"sha256={'0' * 64}"),
        (
            "archive.zip",
            "0" * 64,
            "nothing was unpacked",
            "another copy",
        ),
        archive(*KAGGLES),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "no SHA-256 at all",
        ("data=kermany", "to=here", "url=archive.zip", "sha256=123"),
        (
            "sha256",
            "64 hexadecimal digits",
            "'123'",
        ),
        archive(*KAGGLES),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "no archive",
        ("data=kermany", "to=here", "url=archive.zip"),
        (
            "archive.zip",
            "not a zip file",
            "download it again",
        ),
        text_at("archive.zip", "<html>\n"),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "archive of something else",
        ("data=cohen", "to=here", "url=archive.zip"),
        (
            "archive.zip",
            "COVID-19 image data collection",
            "metadata.csv",
        ),
        archive(*KAGGLES),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "archive with a file that leads out of its folder",
        ("data=kermany", "to=here", "url=archive.zip"),
        (
            "archive.zip",
            "refused",
            "'../../PWNED'",
        ),
        archive(*KAGGLES, "../../PWNED"),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "no room",
        ("data=kermany", "to=here", "url=archive.zip"),
        (
            "here: 0.0 MB are free",
            "to=/some/folder",
        ),
        archive(*KAGGLES),
        program="download",
        patched=no_room,
    ),
    Row(
        DOWNLOADS,
        "a file where the folder is to be",
        ("data=kermany", "to=notes.txt", "url=archive.zip"),
        (
            "notes.txt",
            "File exists",
            "to=/some/folder",
        ),
        steps(archive(*KAGGLES), text_at("notes.txt", "here\n")),
        program="download",
    ),
    Row(
        DOWNLOADS,
        "the folder is there",
        ("data=kermany", "to=here"),
        (
            "there already, left alone",
            "force=true",
            "listed   8 images",
        ),
        kermany("here/chest_xray"),
        program="download",
        works=True,
    ),
    Row(CACHE, "unknown part of the cache", ("clear=pixel",), ("clear", "did you mean 'pixels'?"), program="cache"),
    Row(CACHE, "an age, and nothing to remove", ("unused_for=30",), ("unused_for", "clear=all"), program="cache"),
    Row(
        CACHE,
        "negative age of what is kept",
        ("clear=all", "unused_for=-1"),
        ("unused_for", "[0, inf)", "got -1"),
        program="cache",
    ),
    Row(CACHE, "misspelt key of the cache", ("claer=all",), ("claer", "did you mean 'clear'?"), program="cache"),
    Row(CACHE, "nothing in the cache", ("folder=nowhere",), ("empty", "nowhere"), program="cache", works=True),
    Row(LUNGS, "nothing finds lungs", ("data.mask=lungs",), ("lungs", "runs/lungs", "src/train.py experiment=lungs")),
    Row(
        LUNGS,
        "a classifier in place of what finds lungs",
        ("data.mask=lungs", "lungs=run", NEW),
        ("lungs", "src/train.py experiment=lungs"),
        with_run,
    ),
    Row(LUNGS, "unknown saliency", ("saliency=gradcm",), ("saliency=gradcm", "did you mean 'gradcam'?")),
    Row(
        LUNGS,
        "threshold chosen on the test images",
        ("decision=calibrated", "data.val=test"),
        ("decision", "data.val=0.15"),
    ),
    Row(PROBES, "nothing to probe", (), ("ckpt_path", "retrained"), program="probe"),
    Row(
        PROBES,
        "no such checkpoint to probe",
        ("ckpt_path=model.ckpt",),
        ("model.ckpt", "no run that holds"),
        program="probe",
    ),
    Row(
        PROBES,
        "unknown alteration of a probe",
        ("ckpt_path=run", "alterations=[centre_blak_60]", NEW),
        ("alterations", "did you mean 'centre_black_60'?"),
        with_run,
        program="probe",
    ),
    Row(
        PROBES,
        "lungs asked for, and nothing that finds them",
        ("ckpt_path=run", "alterations=[lungs_only]", NEW),
        ("lungs_only", "src/train.py experiment=lungs"),
        with_run,
        program="probe",
    ),
    Row(PROBES, "no retrained run there", ("retrained=runs/battery/**",), ("retrained=runs/battery",), program="probe"),
    Row(MATRICES, "no rows", (), ("train", "must be set"), program="matrix"),
    Row(MATRICES, "unknown set", ("train=[papr]",), ("papr", "did you mean 'paper'?"), program="matrix"),
    Row(MATRICES, "a set named twice", ("train=[synthetic,synthetic]",), ("train", "synthetic"), program="matrix"),
    Row(
        MATRICES,
        "a set that is not there",
        ("train=[mine]", 'sets={mine: "data=paper data.source.root=nowhere"}'),
        ("mine: ", "nowhere", "no such folder", "src/download.py"),
        program="matrix",
    ),
    Row(MATRICES, "no seed", ("train=[synthetic]", "seeds=[]"), ("seeds",), program="matrix"),
    Row(
        MATRICES,
        "a recipe with a misspelt key",
        ("train=[synthetic]", 'recipe="modle=logistic"'),
        ("modle", "did you mean 'model'?"),
        program="matrix",
    ),
]
IN_TABLE = {
    "misspelt key",
    "unknown model",
    "no key=value",
    "dropout out of range",
    "validation misspelt",
    "images too small for the network",
    "unknown metric",
    "no GPU",
    "two devices",
    "the paper's data set is not there",
    "no such folder",
    "class folder misspelt",
    "one class only",
    "the same patient in train and test",
    "a film of the training images in the test images, at twice the size",
    "wrong cells in three rows",
    "a path that is not there",
    "misspelt view",
    "unknown data set",
    "Cohen's collection is not there",
    "a film in two sources",
    "DICOM cut off",
    "60,000 x 60,000 pixels by its header",
    "five kinds of bad files at once, skipped on request",
    "going on with nothing",
    "going on with other settings",
    "going on with a run whose last.ckpt is cut off",
    "report of nothing",
    "runs that were tested on different images",
    "no such checkpoint",
    "pickle that runs code",
    "names `os.system` as its network",
    "preprocessing other than the weights'",
    "input that is not there",
    "pickle that runs code, to predict with",
    "gate that is not there",
    "page with a model that is not there",
    "no image can be read",
    "wrong SHA-256",
    "unknown part of the cache",
    "nothing finds lungs",
    "threshold chosen on the test images",
    "unknown set",
}
"""Rows of docs/wrong_inputs.md, some of each section; the others are as real, and run with the slow tests."""
IN_A_PROCESS = ("misspelt key", "JPEG cut off", "text named .ckpt")
"""Rows that are also run the way a user does it."""


# ------------------------------------------------------------------------------------------------------------- tests


def marked(row: Row) -> Any:
    """A row as a test; without the mark where it stands in the table."""
    return pytest.param(row, id=row.wrong, marks=() if row.wrong in IN_TABLE else pytest.mark.slow)


@pytest.mark.parametrize("row", [marked(row) for row in ROWS])
def test_wrong_input(row: Row) -> None:
    found = outcome(row)
    told = found.printed if row.works else found.errors
    assert found.status == (0 if row.works else 1), found.errors
    assert [each for each in row.says if each not in told] == [], told
    assert found.errors.startswith("" if row.works else "error")
    assert "Traceback" not in found.errors
    assert found.unharmed, "a file that was there has changed, or code of a checkpoint was run"
    assert found.repeatable, "the same command would meet a run folder that is taken"


@pytest.mark.slow
def test_a_process_says_the_same(tmp_path: Path) -> None:
    started: list[tuple[Row, Path, subprocess.Popen[bytes]]] = []
    for row in ROWS:
        if row.wrong in IN_A_PROCESS:
            folder = tmp_path / str(len(started))
            films(folder / "films")
            row.prepare(folder)
            command = [sys.executable, str(ROOT / script(row.program)), *row.command]
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            started.append((row, folder, process))  # all at once: each spends seconds on its imports
    for row, folder, process in started:
        errors = process.communicate(timeout=120)[1].decode()
        assert process.returncode == 1
        assert _anywhere(errors, str(folder)) == outcome(row).errors


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "train", bug)
    with pytest.raises(ValueError, match="a bug"):
        run("train", RUN)


def test_the_malicious_checkpoint_would_run_its_code(tmp_path: Path) -> None:
    torch.save({"state_dict": Malicious()}, tmp_path / "model.ckpt")
    with contextlib.chdir(tmp_path):
        torch.load("model.ckpt", weights_only=False)
    assert (tmp_path / "PWNED").exists()


@pytest.mark.slow
def test_the_other_jobs_of_a_sweep_are_not_lost() -> None:
    (sweep,) = [row for row in ROWS if "-m" in row.typed]
    finished = [path for path in outcome(sweep).files if path.endswith("metrics.json")]
    assert [path.startswith("sweep/0_") for path in finished] == [True]


def test_every_row_has_a_name_of_its_own() -> None:
    names = {row.wrong for row in ROWS}
    assert len(names) == len(ROWS)
    assert set(IN_TABLE) <= names


def test_the_table_is_up_to_date() -> None:
    again = "type `python -m tests.test_wrong_inputs > docs/wrong_inputs.md`"
    assert TABLE.read_text(encoding="utf-8") == table(), again


# ------------------------------------------------------------------------------------------------------------- table


def table() -> str:
    """docs/wrong_inputs.md."""
    sections = dict.fromkeys(row.section for row in ROWS if row.wrong in IN_TABLE)
    return HEAD + "".join(_section(name) for name in sections)


HEAD = f"""# What you can get wrong, and what you are told

{len(IN_TABLE)} wrong inputs, with the real output of each; the tests have some two hundred more. A mistake ends with
exit status 1 and a message that names the key or file. It shows no traceback, changes no file that was there, and
leaves the run folder free for the corrected command. Some inputs that look wrong work, and say so.

What is typed is added to this command, unless it is a command itself; `films` holds 6 + 6 training and 2 + 2 test
images:

    python train.py {shlex.join(FILMS)} \\
        {shlex.join(TINY)} {RUN}

`…` stands for the working folder. `python -m tests.test_wrong_inputs > docs/wrong_inputs.md` writes this file from
what is really printed, and a test compares the two. A missing permission, network, GPU, library or decoder and a full
disk are simulated there.
"""


def _section(name: str) -> str:
    head = ["", f"## {name}", "", "| what is wrong | typed | what is printed |", "| --- | --- | --- |"]
    rows = [
        f"| {row.wrong} | {_typed(row)} | {_printed(row)} |"
        for row in ROWS
        if row.section == name and row.wrong in IN_TABLE
    ]
    return "\n".join([*head, *rows, ""])


def _typed(row: Row) -> str:
    if row.program == "train" and not row.bare:
        return _code(shlex.join(row.typed))
    if row.program == "audit":
        return _code(shlex.join(["python", script(row.program), *row.command]))
    return _code(shlex.join(["python", script(row.program), *row.typed]))


def _printed(row: Row) -> str:
    found = outcome(row)
    if not row.works:
        return "<br>".join(_code(line) for line in found.errors.rstrip("\n").splitlines())
    asked = tuple(each for each in row.says if row.program != "train")
    warned = [
        line
        for line in found.printed.splitlines()
        if line.startswith(asked) or (line.startswith("WARNING") and "NOT CHECKED" not in line)
    ]
    return "<br>".join(["works", *map(_code, dict.fromkeys(warned))])


def _code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    blank = " " if "`" in text else ""
    escaped = re.sub(r" +", " ", text.strip()).replace("|", "\\|")
    return f"{fence}{blank}{escaped}{blank}{fence}" if text else ""


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ.pop("CXRLAB_DATA", None)  # no set is there, as in the tests
    sys.stdout.write(table())
