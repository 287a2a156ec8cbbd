"""Real data sets, for the tests that need one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

DataSet = Callable[[str], Path]
"""``data_set(name)``: the folder of a set; the test is skipped where it is missing."""


@pytest.fixture(scope="session")
def data_set() -> DataSet:
    def find(name: str) -> Path:
        data = Path(os.environ.get("CXRLAB_DATA") or Path(__file__).parents[2] / "data")
        if not (data / name).is_dir():
            pytest.skip(f"NOT CHECKED: {data / name} is missing; set CXRLAB_DATA to the folder that holds it")
        return data / name

    return find


@pytest.fixture(scope="session")
def cohen_root(data_set: DataSet) -> Path:
    """The folder of Cohen's collection."""
    return data_set("covid-chestxray-dataset")
