"""Figures are saved as real PNG files, and leave matplotlib's global state alone."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image
from tests.figures.drawn import ESTIMATE, LABELS, SCORES

from cxrlab import figures


def test_save_writes_whole_png_files(tmp_path: Path) -> None:
    path = figures.save(figures.roc(LABELS, SCORES, ESTIMATE, "Test"), tmp_path / "deep" / "roc.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert 400 < image.width < 900
    first = path.read_bytes()
    assert figures.save(figures.roc(LABELS, SCORES, ESTIMATE, "Test"), path).read_bytes() == first
    assert [item.name for item in path.parent.iterdir()] == ["roc.png"]


def test_threads_draw_what_one_thread_draws(tmp_path: Path) -> None:
    def draw(number: int) -> bytes:
        figure = figures.confusion_matrix([[number, 1], [2, 3]], f"Test {number}")
        return figures.save(figure, tmp_path / f"{number}.png").read_bytes()

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, range(6)))
    assert together == [draw(number) for number in range(6)]


def test_neither_pyplot_nor_torch_is_imported() -> None:
    code = (
        "import sys, cxrlab.evaluation.calibration; print('matplotlib' in sys.modules); import cxrlab.figures;"
        "print({'matplotlib.pyplot', 'torch', 'lightning', 'hydra'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "set()"]


def test_nobody_else_draws() -> None:
    source = Path(figures.__file__).parents[1]
    drawing = {path for path in source.rglob("*.py") if "matplotlib" in path.read_text(encoding="utf-8")}
    assert {path.parent.name for path in drawing} == {"figures"}
