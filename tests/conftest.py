"""What several test files need: a cache folder of their own, the paper's images, made-up class folders.

PyTorch is imported when it is used: the process that deals the tests out to the others never does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright

from cxrlab.reading.child import answer
from cxrlab.reading.worker import POOL

ClassFolders = Callable[..., Path]
"""``class_folders(counts, name=..., suffix=..., seed=...)``, see :func:`class_folders`."""


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which data sets are kept during the tests: never the user's own, and one for all processes."""
    temporary = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # whose folders stand side by side
        temporary = temporary.parent
    folder = temporary / "cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXRLAB_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def finished_run(cache: Path) -> Path:
    """A finished run of ``tests.training.QUICK`` with its pages, one for all processes: only copies may be changed."""
    from tests.training import trained

    folder = cache.parent / "finished"
    with FileLock(cache.parent / "finished.lock"):
        if not (folder / "model_card.md").exists():  # the last file of a run
            trained(folder, pages=True)
    return folder


@pytest.fixture(scope="session")
def paper_root() -> Path:
    """The folder of the paper's Kaggle set."""
    data = Path(os.environ.get("CXRLAB_DATA") or Path(__file__).parents[1] / "data")
    root = data / "xray_dataset_covid19"
    if not root.is_dir():
        pytest.skip(f"NOT CHECKED: {root} is missing; set CXRLAB_DATA to the folder that holds xray_dataset_covid19")
    return root


@pytest.fixture
def class_folders(tmp_path: Path) -> ClassFolders:
    """Makes ``root/<split>/<class>/<class>_<number>.png`` from ``{"train/NORMAL": 3, …}`` and returns the root.

    Every image is different and 32x40, so that no two files are the same by accident; positives (``PNEUMONIA``) are
    brighter, so that there is something to learn. ``suffix`` may be any that OpenCV writes.
    """

    def make(counts: Mapping[str, int], name: str = "set", suffix: str = ".png", seed: int = 0) -> Path:
        root = tmp_path / name
        generator = np.random.default_rng(seed)
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            level = 150 if folder.endswith("PNEUMONIA") else 80
            for number in range(count):
                pixels = generator.normal(level, 25, (32, 40, 3)).clip(0, 255).astype(np.uint8)
                file = root / folder / f"{Path(folder).name}_{number:03d}{suffix}"
                assert cv2.imwrite(str(file), pixels)
        return root

    return make


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are decoded in the process of the tests, where decoders can be replaced."""
    monkeypatch.setattr(POOL, "ask", lambda name, message, data, seconds: answer(message, data, bytes))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The Chromium that is on the machine; no longer than a module, since its loop runs in the tests' own thread."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"NOT CHECKED: no browser here ({', '.join(names)})")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a GPU skip where there is none."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="NOT CHECKED: no CUDA device here"))
