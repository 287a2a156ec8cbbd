"""What answers at once imports next to nothing, and a training imports only what it needs. No times are asserted."""

from __future__ import annotations

import gc
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cxrlab.imports import OPTIONAL, quick_imports

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = (
    "train",
    "evaluate",
    "probe",
    "matrix",
    "report",
    "compare",
    "audit",
    "download",
    "cache",
    "sweep",
    "predict",
    "export",
    "app",
)
LARGE = ("torch", "pytorch_lightning", "torchvision", "albumentations", "pandas", "numpy", "cv2", "scipy", "sklearn")
# Where they are installed, Pillow imports defusedxml, and Hydra its plugins, which import little.
OURS = [name for name in OPTIONAL if name != "defusedxml" and not name.startswith("hydra_plugins")]
FOR_SOME_RUNS = ("albumentations", "optuna", "statsmodels", "tensorflow", *OURS)

TELL = "import json, sys; print(json.dumps([name for name in {names!r} if name in sys.modules]), file=sys.stderr)"
"""Ends a script of :func:`imported_by`."""


def imported_by(script: str, names: tuple[str, ...], folder: Path) -> tuple[list[str], str]:
    """Which of the modules a Python process has imported at its end; and what it printed to stdout."""
    ran = subprocess.run(
        [sys.executable, "-c", f"{script}\n{TELL.format(names=names)}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: list[str] = json.loads(ran.stderr.splitlines()[-1])
    return found, ran.stdout


def command(program: str, *arguments: str) -> str:
    """A script that runs a program and goes on after it."""
    return f"""
import sys
from cxrlab.{program} import main
sys.argv = {[f"{program}.py", *arguments]!r}
try:
    main()
except SystemExit as end:
    print("exit status", end.code)
"""


def test_no_program_imports_a_large_library_before_it_is_told_what_to_do(tmp_path: Path) -> None:
    found, _ = imported_by("\n".join(f"import cxrlab.{program}" for program in PROGRAMS), LARGE, tmp_path)
    assert found == []


@pytest.mark.parametrize("program", ["train", "compare"])
def test_help_imports_no_large_library(program: str, tmp_path: Path) -> None:
    found, printed = imported_by(command(program, "--help"), LARGE, tmp_path)
    assert f"{program}.py" in printed
    assert found == []


@pytest.mark.parametrize("mistake", ["modle=paper_cnn", "model=papr_cnn", "model.dropuot=[0,0,0]", "seed=["])
def test_a_misspelt_command_is_told_before_any_large_library_is_imported(mistake: str, tmp_path: Path) -> None:
    found, printed = imported_by(command("train", mistake), LARGE, tmp_path)
    assert "exit status 1" in printed
    assert found == []
    assert list(tmp_path.iterdir()) == []


def test_a_comparisons_options_are_checked_before_any_large_library_is_imported(tmp_path: Path) -> None:
    script = command("compare", "runs=runs", "split=tst", f"hydra.run.dir={tmp_path}")
    found, printed = imported_by(script, ("torch", "pandas", "matplotlib"), tmp_path)
    assert "exit status 1" in printed
    assert found == []


@pytest.mark.slow
def test_a_training_imports_nothing_that_only_other_runs_need(tmp_path: Path) -> None:
    # The mistake is found by the network's constructor, after all imports and before any data.
    script = command("train", "model.dropout=[2,0,0]", f"hydra.run.dir={tmp_path / 'run'}")
    found, printed = imported_by(script, (*FOR_SOME_RUNS, "pytorch_lightning"), tmp_path)
    assert "exit status 1" in printed
    assert found == ["pytorch_lightning"]


def test_imports_leave_the_garbage_collector_as_it_was() -> None:
    frozen = gc.get_freeze_count()
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with quick_imports():
                assert not gc.isenabled()
            assert gc.isenabled() == enabled
        finally:
            gc.enable()
    assert gc.get_freeze_count() == frozen, "torch was there before: what has come since may be garbage"


def test_what_the_first_imports_bring_is_left_out_of_later_collections(tmp_path: Path) -> None:
    script = """
import gc
from cxrlab.imports import quick_imports
with quick_imports():
    import torch
assert gc.get_freeze_count() > 100_000
assert gc.isenabled()
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), "nor does anything complain when the process ends"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("startup", ROOT / "benchmarks/startup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_benchmark_times_a_training_up_to_its_first_step(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["debug=quick", "model=paper_cnn_small", "data.source.n_train=16", "data.source.n_test=8"]
    # What is imported does not matter here, and takes its time.
    bare = {name: ["-c", "pass"] for name in (benchmark.TORCH, benchmark.LIGHTNING)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "commands", lambda: bare)
        benchmark.main(["--repeats", "1", "--json", str(tmp_path / "times.json"), *tiny])

    found = json.loads((tmp_path / "times.json").read_text(encoding="utf-8"))
    assert found["settings"] == {"repeats": 1, "overrides": tiny}
    assert list(found["ways"]) == [*bare, benchmark.IMPORTED, benchmark.FIRST_STEP]
    imported, first = (found["ways"][name]["median"] for name in (benchmark.IMPORTED, benchmark.FIRST_STEP))
    assert 0 < imported < first
    assert found["ways"][benchmark.TORCH]["to_torch"] == 1
    assert found["ways"][benchmark.FIRST_STEP]["to_lightning"] > 1
    printed = capsys.readouterr().out
    assert f"{benchmark.FIRST_STEP:32}{first:10.2f}" in printed


def test_the_benchmark_says_why_a_training_did_not_begin(benchmark: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="modle: no such key; did you mean 'model'"):
        benchmark.seconds_to_first_step(tmp_path, ["modle=x"], {})
