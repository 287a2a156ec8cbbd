"""Short trainings on small phantoms, for the tests of every program that needs a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import cxrlab.reports
from cxrlab.config import compose
from cxrlab.config.help import Conf
from cxrlab.train import train

ROOT = Path(__file__).parents[1]

QUICK = [
    "trainer=cpu",
    "trainer.max_epochs=2",
    "model=paper_cnn_small",
    "data.image_size=32",
    "data.batch_size=8",
    "data.source.n_train=40",
    "data.source.n_test=16",
    "data.source.size=64",
]
"""Two epochs of a second each."""
ONE_STEP = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "logger=none"]


def options(group: str) -> list[str]:
    """The options of a group of ``conf/``; those that are parts of others are left out."""
    return Conf().options(group)


@contextmanager
def without_pages() -> Iterator[None]:
    """Trainings inside the block write an empty report and no card: drawing them takes twice as long as two epochs."""

    def write_report(run_dir: Path, images: Any = None) -> Path:
        page = run_dir / "report.html"  # by which a sweep sees that a job is over
        page.touch()
        return page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cxrlab.reports, "write_report", write_report)
        patch.setattr(cxrlab.reports, "write_model_card", lambda run_dir, audits=None: run_dir / "model_card.md")
        yield


def trained(folder: Path, *overrides: str, pages: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``python train.py`` with :data:`QUICK` and some overrides returns: metrics, and the run's objects.

    Args:
        folder: The run folder, not there yet.
        *overrides: Later ones count.
        pages: Whether report and model card are written.
    """
    typed = [*QUICK, *overrides]
    config = compose("train", typed, folder)
    if pages:
        return train(config, typed)
    with without_pages():
        return train(config, typed)
