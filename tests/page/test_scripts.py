"""The load test and the script that takes the documentation's pictures run, and say what they found."""

from __future__ import annotations

import json
from pathlib import Path
from runpy import run_path

import pytest
from PIL import Image
from playwright.sync_api import Browser
from tests.page.conftest import Address

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_load_test_counts_answers_failures_and_memory(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "load.json"
    typed = f"{run} accelerator=cpu max_waiting=2 --requests 12 --clients 4 --files 3 --size 64 --cache {tmp_path}"
    run_path(str(ROOT / "benchmarks/app.py"))["main"]([*typed.split(), "--json", str(kept)])
    found = json.loads(kept.read_text(encoding="utf-8"))
    assert found["answers"] == 12 == sum(found["calls"].values())
    assert found["failures"] == []
    assert found["seconds"]["p50"] <= found["seconds"]["p95"] <= found["seconds"]["max"]
    assert all(value > 0 for value in found["memory_mb"].values())
    printed = capsys.readouterr().out
    assert "12 requests, 4 at a time, JSON only" in printed
    assert f"p95 {found['seconds']['p95']:.3f} s" in printed


@pytest.mark.slow
def test_the_pictures_of_the_documentation_can_be_taken_anew(
    site: Address, browser: Browser, film: bytes, tmp_path: Path
) -> None:
    (tmp_path / "film.png").write_bytes(film)
    taken = run_path(str(ROOT / "docs/page_pictures.py"))["take"](browser, site.url, [tmp_path / "film.png"], tmp_path)
    assert [path.name for path in taken] == ["page_1280.png", "page_390.png", "page_dark.png", "page_card.png"]
    pages = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/using_a_model.md"))
    for path, width in zip(taken, (1280, 390, 1248, 1248), strict=True):
        with Image.open(path) as picture:
            assert picture.width == width
            assert picture.height > 600
        assert (ROOT / "docs/figures" / path.name).is_file()
        assert f"figures/{path.name}" in pages
