"""Reports written anew by ``python src/report.py``: of one run, of a sweep, and of what is no run."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from playwright.sync_api import Browser
from tests import programs

from cxrlab.errors import CheckpointError, ConfigError
from cxrlab.report import report

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sweep(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two finished runs and one that was killed at its start."""
    folder = tmp_path_factory.mktemp("sweep")
    for name in ("0", "1"):
        shutil.copytree(finished_run, folder / name)
    (folder / "2").mkdir()
    shutil.copy(folder / "0" / "config.yaml", folder / "2")
    return folder


@pytest.mark.slow
def test_every_run_below_a_folder(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for page in sweep.glob("*/report.*"):
        page.unlink()
    pages, objects = report(OmegaConf.create({"run": str(sweep)}))
    assert pages == [sweep / "0" / "report.html", sweep / "1" / "report.html"]
    for page in pages:
        assert page.read_text(encoding="utf-8").count("data:image/png;base64,") > 8
        assert page.with_suffix(".md").read_text(encoding="utf-8").startswith("# SYNTHETIC: Report of ")
    assert list(objects["left_out"]) == [sweep / "2"]
    assert "left out manifest.csv is missing" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_writes_the_same_report_as_its_training(sweep: Path) -> None:
    page = sweep / "0" / "report.md"
    report(OmegaConf.create({"run": str(sweep / "0")}))
    first = page.read_text(encoding="utf-8")
    for figure in (sweep / "0" / "figures").iterdir():
        figure.unlink()
    report(OmegaConf.create({"run": f"{sweep}/*"}))
    assert page.read_text(encoding="utf-8") == first


@pytest.mark.slow
def test_no_run(sweep: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no run folder .* there; run folders are below runs/"):
        report(OmegaConf.create({"run": str(sweep / "3")}))
    with pytest.raises(CheckpointError, match=r"manifest\.csv is missing"):
        report(OmegaConf.create({"run": str(sweep / "2")}))
    with pytest.raises(ConfigError, match=r"rn: unknown key; did you mean 'run'"):
        report(OmegaConf.create({"run": "x", "rn": "y"}))


@pytest.mark.slow
def test_command_leaves_nothing_beside_the_report(sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, errors = programs.run("report", f"run={sweep / '0'}")
    assert status == 0, errors
    assert f"report   {sweep / '0' / 'report.html'}" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_a_real_browser(sweep: Path, browser: Browser, width: int) -> None:
    report(OmegaConf.create({"run": str(sweep / "0")}))
    requested: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("request", lambda request: requested.append(request.url))
    page.goto((sweep / "0" / "report.html").as_uri())
    figures = re.findall(r"!\[[^\]]*\]\(", (sweep / "0" / "report.md").read_text(encoding="utf-8"))
    widths = page.evaluate("[...document.images].map(image => [image.naturalWidth, image.clientWidth])")
    assert len(widths) == len(figures) > 8
    assert all(own > 100 and 100 < shown <= width for own, shown in widths)
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # wide tables scroll inside themselves
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('p')).fontSize)") >= 16
    assert [url for url in requested if not url.startswith("data:")] == [(sweep / "0" / "report.html").as_uri()]
    anchors = page.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))")
    assert all(page.query_selector(anchor) for anchor in anchors)
    page.close()
