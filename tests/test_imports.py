"""What only some commands need is optional: nothing else asks for it, and its absence is told with what to type."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxrlab.datamodules import GateImagesDataModule
from cxrlab.errors import DataError, MissingLibraryError, UserError
from cxrlab.imports import OPTIONAL, check_installed, need
from cxrlab.models import LungUnet
from cxrlab.models.saliency import GradCam, GradCamPlusPlus, HiResCam, IntegratedGradients, Occlusion
from cxrlab.reading.picture import decode
from cxrlab.steps.predict import tags_of

ROOT = Path(__file__).resolve().parents[1]
WHOLLY_OPTIONAL = {
    *("page/api.py", "page/guard.py", "page/server.py"),
    *("reading/dicom.py", "reading/dicom_frames.py", "reading/dicom_header.py"),
}
"""Modules that import an optional library by a statement, since nobody imports them without having checked for it."""
HIDES = """
import sys
from importlib.machinery import PathFinder

HIDDEN = {packages!r}


class Hides(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname in HIDDEN else PathFinder.find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, *arguments):
        found = PathFinder.find_distributions(*arguments)
        return (each for each in found if each.metadata["Name"].lower() not in {distributions!r})


sys.meta_path[:] = [Hides if each is PathFinder else each for each in sys.meta_path]
"""
"""``sitecustomize.py``: for a Python and all that it starts, no optional library is installed."""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of an environment in which only the core is installed."""
    folder = tmp_path_factory.mktemp("hides")
    script = HIDES.format(packages=sorted(OPTIONAL), distributions=sorted(name for name, _ in OPTIONAL.values()))
    (folder / "sitecustomize.py").write_text(script, encoding="utf-8")
    (folder / "hydra_plugins").mkdir()
    (folder / "hydra_plugins" / "__init__.py").touch()  # Hydra looks for its plugins with a finder of its own
    return os.environ | {"PYTHONPATH": str(folder), "CXRLAB_CACHE": str(folder / "cache")}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda package: monkeypatch.setitem(sys.modules, package, None)


def test_the_table_of_optional_libraries_is_that_of_the_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    not_imported = {"all", "bench", "dev", "docs", "notebooks"}
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in not_imported}
    declared = {(re.split(r"[<>=]", line)[0], name) for name, lines in extras.items() for line in lines}
    assert set(OPTIONAL.values()) == declared


def imported_by_statement(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name for name in names for package in OPTIONAL if f"{name}.".startswith(f"{package}.")}


def test_optional_libraries_are_imported_through_need_alone() -> None:
    found = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src").rglob("*.py")
        if imported_by_statement(path)
    }
    assert found == WHOLLY_OPTIONAL


@pytest.mark.parametrize("module", ["captum", "captum.attr", "hydra_plugins.hydra_joblib_launcher.config"])
def test_a_library_that_is_missing_is_told_with_what_to_type(module: str, without: Callable[[str], None]) -> None:
    package = next(name for name in OPTIONAL if module.startswith(name))
    without(package)
    library, extra = OPTIONAL[package]
    with pytest.raises(MissingLibraryError) as told:
        need(module, "this", "do that")
    assert str(told.value) == (
        f"this needs {library}, which is not installed: type `pip install 'cxrlab[{extra}]'`, or do that"
    )


def test_a_library_that_is_broken_is_told_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openpyxl.py").write_text("raise ImportError('libfoo.so:\\n no such file')")
    monkeypatch.delitem(sys.modules, "openpyxl", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    check_installed("openpyxl", "this")
    with pytest.raises(
        MissingLibraryError, match=r"cannot be imported here \(libfoo\.so: no such file\).*cxrlab\[excel\]"
    ):
        need("openpyxl", "this")


def test_what_is_there_is_imported() -> None:
    assert need("pydicom.uid", "this") is sys.modules["pydicom.uid"]


def test_maps_of_gradients_need_no_library_and_the_others_say_so_at_once(
    without: Callable[[str], None],
) -> None:
    without("captum")
    for method in (GradCam, GradCamPlusPlus, HiResCam):
        method()
    for other in (Occlusion, IntegratedGradients):
        with pytest.raises(UserError, match=r"captum.*cxrlab\[saliency\].*saliency=hirescam"):
            other()


def test_the_lung_model_and_the_photographs_of_the_gate_say_so_when_they_are_made(
    tmp_path: Path, without: Callable[[str], None]
) -> None:
    without("monai")
    without("skimage")
    with pytest.raises(UserError, match=r"monai.*cxrlab\[lungs\]"):
        LungUnet()
    roots = ("none", "none", "none", str(tmp_path))
    with pytest.raises(UserError, match=r"scikit-image.*cxrlab\[gate\].*data.photographs=false"):
        GateImagesDataModule(*roots)
    GateImagesDataModule(*roots, photographs=False)


def test_dicom_says_so_and_pictures_do_without(without: Callable[[str], None]) -> None:
    without("pydicom")
    _, encoded = cv2.imencode(".png", np.zeros((8, 8), np.uint8))
    assert decode("film.png", encoded.tobytes(), 100)[1].format == "PNG"
    with pytest.raises(DataError, match=r"film.dcm: a DICOM file needs pydicom.*cxrlab\[dicom\].*save it as PNG"):
        decode("film.dcm", bytes(128) + b"DICM" + bytes(100), 100)


def test_what_is_no_dicom_has_no_tags_and_needs_no_library_to_say_so(
    tmp_path: Path, without: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without("pydicom")
    monkeypatch.delitem(sys.modules, "cxrlab.reading.dicom", raising=False)
    cv2.imwrite(str(tmp_path / "film.png"), np.zeros((8, 8), np.uint8))
    assert tags_of(tmp_path / "film.png", ["PatientID"]) == ({}, [])
    assert tags_of(tmp_path / "nowhere.png", ["PatientID"]) == ({}, [])


@pytest.mark.slow
def test_training_and_predicting_need_no_extra(bare: dict[str, str], tmp_path: Path) -> None:
    def run(program: Path, *arguments: str) -> None:
        command = [sys.executable, str(program), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    small = ["data.source.n_train=16", "data.source.n_test=8", "model=paper_cnn_small", "data.image_size=32"]
    run(ROOT / "train.py", *small, "trainer.max_epochs=1", "hydra.run.dir=run")
    assert (tmp_path / "run" / "report.html").is_file()
    assert json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))["status"] == "finished"

    cv2.imwrite(str(tmp_path / "film.png"), np.random.default_rng(0).integers(0, 256, (320, 320), np.uint8))
    wanted = ["ckpt_path=run", "input=film.png", "gate=none", "saliency=gradcam", "deidentify=true"]
    run(ROOT / "src" / "predict.py", *wanted, "hydra.run.dir=scored")
    assert len(list((tmp_path / "scored" / "overlays").iterdir())) == 1


TOLD = {
    "the page": ("app", ["ckpt_path=nowhere"], "app"),
    "a map": ("train", ["saliency=occlusion"], "saliency"),
    "lungs": ("train", ["experiment=lungs", "data.cohen=false", "data.phantoms=8"], "lungs"),
    "the gate": ("train", ["experiment=gate"], "gate"),
    "a workbook": ("train", ["data=manifest", "data.source.path=films.xlsx"], "excel"),
    "films": ("train", ["data=folder", "data.source.root=films", "data.source.labels={neg: 0, pos: 1}"], "dicom"),
    "tags": ("predict", ["ckpt_path=run", "input=films", "dicom_tags=[PatientID]"], "dicom"),
    "an export": ("export", ["ckpt_path=run", "format=onnx"], "export"),
    "an exported model": ("predict", ["ckpt_path=model.onnx", "input=films"], "export"),
    "a download": ("download", ["data=kermany", "to=here"], "kaggle"),
    "a sweep": ("train", ["-m", "hydra/launcher=joblib", "seed=0,1"], "sweeps"),
    "a search": ("train", ["-m", "hparams_search=paper_cnn"], "optuna"),
}
"""A program, what is typed, and the extra that it has to name."""
ALL = """
import contextlib, importlib, io, json, sys

told = {}
for name, (program, arguments, _) in json.loads(sys.argv[1]).items():
    sys.argv = [f"{program}.py", *arguments]
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            importlib.import_module(f"cxrlab.{program}").main()
            status = 0
        except SystemExit as end:
            status = end.code
    told[name] = [status, errors.getvalue()]
print(json.dumps(told))
"""
"""Runs every program of :data:`TOLD` in one process, since importing PyTorch takes most of the time."""


@pytest.fixture(scope="module")
def told(bare: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit status and stderr of every program where no extra is installed."""
    folder = tmp_path_factory.mktemp("told")
    for number, (split, label) in enumerate((("train", "neg"), ("train", "pos"), ("test", "neg"), ("test", "pos"))):
        (folder / "films" / split / label).mkdir(parents=True)
        (folder / "films" / split / label / f"p{number}.dcm").write_bytes(bytes(128) + b"DICM" + bytes(100))
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["path", "label"])
    book.save(folder / "films.xlsx")
    (folder / "model.onnx").write_bytes(b"")
    command = [sys.executable, "-c", ALL, json.dumps(TOLD)]
    done = subprocess.run(command, cwd=folder, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, tuple[int, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD)
def test_a_program_names_the_extra_that_it_needs(name: str, told: dict[str, tuple[int, str]]) -> None:
    status, message = told[name]
    assert status == 1, message
    assert f"pip install 'cxrlab[{TOLD[name][2]}]'" in message
    assert "Traceback" not in message
    others = {each for each in re.findall(r"cxrlab\[(\w+)\]", message) if each != TOLD[name][2]}
    assert others == set(), "one extra at a time"
