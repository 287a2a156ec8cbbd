"""What a user installs: the wheel, its entry points, its dependencies, the files around it."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distribution, packages_distributions, version
from pathlib import Path
from typing import Any

import pytest

import cxrlab

ROOT = Path(__file__).resolve().parents[1]
NEEDED_TO_BUILD = ("pyproject.toml", "setup.py", "LICENSE", "README.md", "src", "conf")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built without network from a copy, so that no build folder of ours can leak into it."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in NEEDED_TO_BUILD:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():
            shutil.copy2(source, copy / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_that_a_run_needs(wheel: zipfile.ZipFile) -> None:
    wanted = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package, endings in (
            ("src", "cxrlab", {".py", ".csv", ".yaml", ".css", ".js", ".j2", ".svg"}),
            ("conf", "cxrlab/conf", {".py", ".yaml"}),
        )
        for path in (ROOT / folder).rglob("*")
        if path.suffix in endings and "__pycache__" not in path.parts
    }
    assert wanted - set(wheel.namelist()) == set()
    assert {"cxrlab/py.typed", "cxrlab/conf/__init__.py"} <= set(wheel.namelist())


def test_the_wheel_holds_one_package(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {"cxrlab", f"cxrlab-{cxrlab.__version__}.dist-info"}


def test_the_wheel_holds_no_image_and_nothing_unexpected(wheel: zipfile.ZipFile) -> None:
    endings = {Path(name).suffix for name in wheel.namelist() if name.startswith("cxrlab/")}
    assert endings <= {".py", ".yaml", ".csv", ".css", ".js", ".j2", ".svg", ".typed"}


def test_the_version_is_told_once(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    assert f"\nVersion: {cxrlab.__version__}\n" in wheel.read(metadata).decode()
    assert version("cxrlab") == cxrlab.__version__
    assert f"\nversion: {cxrlab.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_every_command_can_be_called(project: dict[str, Any]) -> None:
    for name, target in project["project"]["scripts"].items():
        module, _, function = target.partition(":")
        assert callable(getattr(importlib.import_module(module), function)), name


def test_every_command_is_installed(project: dict[str, Any]) -> None:
    installed = {entry.name for entry in distribution("cxrlab").entry_points if entry.group == "console_scripts"}
    assert set(project["project"]["scripts"]) <= installed


def test_every_requirement_says_why(project: dict[str, Any]) -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project["project"]["optional-dependencies"]
    listed = [*project["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    for requirement in listed:
        assert re.search(rf'"{re.escape(requirement)}"\]?,?  # \w.{{10,}}', text), (
            f"{requirement} has no reason beside it"
        )


def test_every_requirement_of_a_user_has_two_bounds(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    users = [line for name, extra in extras.items() if name not in ("dev", "all") for line in extra]
    for requirement in [*project["project"]["dependencies"], *users]:
        assert re.fullmatch(r"[a-z0-9-]+>=[\d.]+,<[\d.]+(,!=[\d.]+)*", requirement), requirement


def test_all_is_every_extra_for_users(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert everything == f"cxrlab[{','.join(sorted(set(extras) - {'all', 'bench', 'dev', 'docs'}))}]"


def imported() -> set[str]:
    """The distributions that the package's code imports or a configuration's ``_target_`` names."""
    distributions = packages_distributions()
    modules: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    for path in (ROOT / "conf").rglob("*.yaml"):
        modules |= set(re.findall(r"_target_: *(\w+)\.", path.read_text(encoding="utf-8")))
    modules -= {*sys.stdlib_module_names, "cxrlab"}
    return {re.sub(r"[-_.]+", "-", (distributions.get(module) or [module])[0]).lower() for module in modules}


def test_what_is_imported_is_required_and_nothing_else(project: dict[str, Any]) -> None:
    extras = project["project"]["optional-dependencies"]
    always = {re.split(r"[<>=!]", line)[0] for line in project["project"]["dependencies"]}
    optional = {re.split(r"[<>=!]", line)[0] for name in set(extras) - {"all", "dev"} for line in extras[name]}
    behind_others = {"tensorboard"}  # Lightning's logger imports it
    assert imported() - always - optional == set()
    assert always - imported() - behind_others == set()


def test_the_shim_names_what_is_missing(tmp_path: Path) -> None:
    """``python train.py`` with a Python that has no cxrlab (-S: without site-packages) says what to type."""
    shutil.copy2(ROOT / "train.py", tmp_path)
    done = subprocess.run([sys.executable, "-S", "train.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "cxrlab is not installed for this Python; type `make install` or `pip install -e .`"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_make_lists_its_targets() -> None:
    listed = make().stdout
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    for target in targets[1].split()[1:]:  # all but help itself
        assert re.search(rf"^  make {target} +\w", listed, re.MULTILINE), target


def test_make_installs_first_and_trains_with_one_word(tmp_path: Path) -> None:
    planned = make("--dry-run", "train", f"VENV={tmp_path}", "ARGS=seed=1").stdout
    install, train = f"{tmp_path}/bin/python -m pip install", f"{tmp_path}/bin/python train.py model=paper_cnn seed=1"
    assert 0 < planned.find(install) < planned.find(train)
    assert re.findall(r"-e (\S+)", planned) == ["."], "no extra, and no development tool"


@pytest.mark.parametrize("target", ["test", "test-slow", "test-all", "lint", "bench", "validity", "install-dev"])
def test_make_adds_extras_and_tools_where_they_are_used(target: str, tmp_path: Path) -> None:
    planned = make("--dry-run", target, f"VENV={tmp_path}").stdout
    assert re.findall(r"-e (\S+)", planned) == [".", '".[all,dev]"']
    (tmp_path / ".installed").touch()
    (tmp_path / ".installed-dev").touch()
    assert "pip install" not in make("--dry-run", target, f"VENV={tmp_path}").stdout


def test_make_says_what_an_installation_costs_before_it_begins(tmp_path: Path) -> None:
    planned = make("--dry-run", "test", f"VENV={tmp_path}").stdout.splitlines()
    costs = [number for number, line in enumerate(planned) if re.search(r"\d GB.*\d minutes?", line)]
    pips = [number for number, line in enumerate(planned) if "pip install" in line]
    assert len(costs) == len(pips) == 2
    assert costs[0] < pips[0] < costs[1] < pips[1]


def test_what_pip_refuses_is_seen_and_ends_make(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy2(ROOT / name, tmp_path)
    python = tmp_path / "python"  # makes an environment in which pip fails
    python.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        f'  venv) mkdir -p "$3/bin"; cp "{python}" "$3/bin/python" ;;\n'
        '  pip) echo "ERROR: no room" >&2; exit 1 ;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    command = ["make", "train", f"VENV={tmp_path}/venv", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "ERROR: no room" in done.stderr
    assert not (tmp_path / "venv" / ".installed").exists()


def test_make_refuses_an_old_python(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1" && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = make("install", f"VENV={tmp_path}/venv", f"PYTHON={old}")
    assert done.returncode != 0
    assert "cxrlab needs Python 3.11, 3.12 or 3.13" in done.stdout
    assert "Python 3.9.1" in done.stdout
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("name", ["Makefile", ".ci/run", "pyproject.toml", "setup.py", "CITATION.cff", "CHANGELOG.md"])
def test_no_path_of_one_machine_and_no_registry_is_written_down(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"/(work|root|home|Users)/|index-url|pypi\.", text)
