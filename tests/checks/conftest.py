"""Made-up cases: what an audit looks at, without reading a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from cxrlab.checks.base import Case
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.films import Features
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.measurements import SIDE, Measurements

FACTS: dict[str, Any] = {
    "format": "PNG",
    "width": 512,
    "height": 480,
    "mode": "grey",
    "bits": 8,
    "bytes": 200_000,
    "jpeg_quality": 0,
    "device": "",
    "view": "",
    "guessed": False,
    "doubts": "",
}


def numbers(text: str) -> list[str]:
    """The numbers of a sentence in their order, whatever its words are; those within names are none."""
    return re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?!\w)", text.replace(", ", " , "))


class MakeCase(Protocol):
    """See :func:`make_case`."""

    def __call__(
        self,
        columns: Mapping[str, Sequence[object]],
        *,
        name: str = "made up",
        claim: str = "",
        pairs: Sequence[tuple[int, int]] = (),
        same_file: bool = False,
        drawn: bool = False,
        val_is_test: bool = False,
        synthetic: bool = False,
        grey: NDArray[np.uint8] | None = None,
        facts: Mapping[str, Sequence[object]] | None = None,
        problems: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        folder: Path | None = None,
        lost: pd.DataFrame | None = None,
        judged: pd.DataFrame | None = None,
    ) -> Case:
        """See :func:`make_case`."""
        ...


@pytest.fixture
def make_case() -> MakeCase:
    """Makes a small case from columns of a manifest; whatever is not given is filled in.

    ``columns`` are lists of n values each; ``label`` is needed. Unless given, ``path`` is ``/films/image_<row>.png``,
    ``patient_id`` one per image, ``split`` ``train`` for all, ``source`` ``made up``, ``finding`` and ``view`` empty,
    ``sha256`` one per image, and ``film`` one per image, pairs sharing theirs. ``pairs`` are near-duplicates (or, with
    ``same_file``, copies). ``grey`` (n, 256, 256) is smooth noise, and ``facts`` are columns that replace those of a
    grey PNG of 512x480. With ``folder`` the grey images are written there as PNG, as ``image_<row>.png``.
    """

    def make(
        columns: Mapping[str, Sequence[object]],
        *,
        name: str = "made up",
        claim: str = "",
        pairs: Sequence[tuple[int, int]] = (),
        same_file: bool = False,
        drawn: bool = False,
        val_is_test: bool = False,
        synthetic: bool = False,
        grey: NDArray[np.uint8] | None = None,
        facts: Mapping[str, Sequence[object]] | None = None,
        problems: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        folder: Path | None = None,
        lost: pd.DataFrame | None = None,
        judged: pd.DataFrame | None = None,
    ) -> Case:
        count = len(columns["label"])
        if grey is None:
            # Smooth, as films are: in noise every pixel looks like a letter, and finding none takes seconds an image.
            noise = np.random.default_rng(0).integers(0, 256, (count, 16, 16), np.uint8)
            grey = np.stack([cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for each in noise])
        manifest = _manifest(columns, pairs, same_file, folder or Path("/films"))
        if folder is not None:
            for path, pixels in zip(manifest["path"], grey, strict=True):
                assert cv2.imwrite(path, pixels)
        return Case(
            name=name,
            synthetic=synthetic,
            claim=claim,
            manifest=manifest,
            measured=_measured(manifest, grey, facts or {}),
            pairs=_pairs(pairs, same_file),
            drawn=drawn,
            val_is_test=val_is_test,
            flow=_flow(manifest, name),
            problems=dict(problems or {}),
            notes=notes,
            seed=0,
            lost=manifest[:0] if lost is None else lost,
            judged=judged,
        )

    return make


def _manifest(
    columns: Mapping[str, Sequence[object]], pairs: Sequence[tuple[int, int]], same_file: bool, folder: Path
) -> pd.DataFrame:
    count = len(columns["label"])
    sha256 = [hashlib.sha256(str(row).encode()).hexdigest() for row in range(count)]
    film = list(sha256)
    for first, second in pairs:
        film = [film[first] if key == film[second] else key for key in film]
        if same_file:
            sha256[second] = sha256[first]
    filled: dict[str, Sequence[object]] = {
        "path": [str(folder / f"image_{row:03d}.png") for row in range(count)],
        "patient_id": [f"patient-{row}" for row in range(count)],
        "split": ["train"] * count,
        "source": ["made up"] * count,
        "finding": [""] * count,
        "view": [""] * count,
        "sha256": sha256,
        "film": film,
    }
    return mf.check(pd.DataFrame(filled | dict(columns)), "made up")


def _measured(manifest: pd.DataFrame, grey: NDArray[np.uint8], facts: Mapping[str, Sequence[object]]) -> Measurements:
    count = len(manifest)
    return Measurements(
        grey=grey,
        sha256=manifest["sha256"].tolist(),
        hashes=np.random.default_rng(1).integers(0, 256, (count, 32), np.uint8),
        features=cast(Features, None),  # checks take the pairs that were found, never the features
        facts=pd.DataFrame({name: [value] * count for name, value in FACTS.items()} | dict(facts)),
        problems={},
    )


def _pairs(pairs: Sequence[tuple[int, int]], same_file: bool) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "first": np.array([first for first, _ in pairs], np.int64),
            "second": np.array([second for _, second in pairs], np.int64),
            "same_file": np.full(len(pairs), same_file, np.bool_),
            "distance": np.full(len(pairs), 0 if same_file else 12, np.int64),
            "inliers": np.full(len(pairs), 250, np.int64),
            "mirrored": np.zeros(len(pairs), np.bool_),
        }
    )


def _flow(manifest: pd.DataFrame, name: str) -> Flow:
    flow = Flow(name)
    flow.start(manifest, "images listed")
    return flow
