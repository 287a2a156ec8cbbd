"""Made-up cases: what an audit looks at, without reading a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxrlab.checks.base import Case, Finding, Section
from cxrlab.datamodules import manifest as mf
from cxrlab.datamodules.films import Features
from cxrlab.datamodules.flow import Flow
from cxrlab.datamodules.measurements import SIDE, Measurements
from cxrlab.datamodules.sources import PaperSource

FACTS: dict[str, Any] = {"format": "PNG", "width": 512, "height": 480, "mode": "grey", "bits": 8, "bytes": 200_000}
FACTS |= {"jpeg_quality": 0, "device": "", "view": "", "guessed": False, "doubts": ""}


def numbers(text: str) -> list[str]:
    """The numbers of a sentence in their order, whatever its words are; those within names are none."""
    return re.findall(r"(?<![\w.-])\d[\d,]*(?:\.\d+)?(?!\w)", text.replace(", ", " , "))


def found(section: Section, check: str) -> Finding:
    (finding,) = [finding for finding in section.findings if finding.check == check]
    return finding


def make_case(
    columns: Mapping[str, Any],
    *,
    pairs: Sequence[tuple[int, int]] = (),
    same_file: bool = False,
    grey: NDArray[np.uint8] | None = None,
    facts: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    **more: Any,
) -> Case:
    """Makes a small case from columns of a manifest; whatever is not given is filled in.

    ``columns`` are lists of n values each; ``label`` is needed. Unless given, ``path`` is ``/films/image_<row>.png``,
    ``patient_id`` one per image, ``split`` ``train`` for all, ``source`` ``made up``, ``finding`` and ``view`` empty,
    ``sha256`` one per image, and ``film`` one per image, pairs sharing theirs. ``pairs`` are near-duplicates (or, with
    ``same_file``, copies). ``grey`` (n, 256, 256) is smooth noise, and ``facts`` are columns that replace those of a
    grey PNG of 512x480. With ``folder`` the grey images are written there as PNG, as ``image_<row>.png``.
    """
    count = len(columns["label"])
    if grey is None:
        # Smooth, as films are: in noise every pixel looks like a letter, and finding none takes seconds an image.
        noise = np.random.default_rng(0).integers(0, 256, (count, 16, 16), np.uint8)
        grey = np.stack([cv2.resize(each, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for each in noise])
    sha256 = [hashlib.sha256(str(row).encode()).hexdigest() for row in range(count)]
    film = list(sha256)
    for first, second in pairs:
        film = [film[first] if key == film[second] else key for key in film]
        if same_file:
            sha256[second] = sha256[first]
    filled: dict[str, Any] = {
        "path": [str((folder or Path("/films")) / f"image_{row:03d}.png") for row in range(count)],
        "patient_id": [f"patient-{row}" for row in range(count)],
        "split": ["train"] * count,
        "source": ["made up"] * count,
        "finding": [""] * count,
        "view": [""] * count,
        "sha256": sha256,
        "film": film,
    }
    manifest = mf.check(pd.DataFrame(filled | dict(columns)), "made up")
    if folder is not None:
        for path, pixels in zip(manifest["path"], grey, strict=True):
            assert cv2.imwrite(path, pixels)
    measured = Measurements(
        grey=grey,
        sha256=manifest["sha256"].tolist(),
        hashes=np.random.default_rng(1).integers(0, 256, (count, 32), np.uint8),
        features=cast(Features, None),  # checks take the pairs that were found, never the features
        facts=pd.DataFrame({name: [value] * count for name, value in FACTS.items()} | dict(facts or {})),
        problems={},
    )
    table = pd.DataFrame(np.array(pairs, np.int64).reshape(-1, 2), columns=["first", "second"])
    table = table.assign(same_file=same_file, distance=0 if same_file else 12, inliers=250, mirrored=False)
    flow = Flow("made up")
    flow.start(manifest, "images listed")
    usual: dict[str, Any] = {"name": "made up", "synthetic": False, "claim": "", "drawn": False, "val_is_test": False}
    usual |= {"flow": flow, "problems": {}, "notes": (), "seed": 0, "lost": manifest[:0]}
    return Case(manifest=manifest, measured=measured, pairs=table, **(usual | more))


def paper_case(root: Path, **more: Any) -> Case:
    """The paper's images by their names, without their pixels."""
    source = PaperSource(str(root))
    manifest = source.manifest()
    return make_case({name: manifest[name].tolist() for name in manifest.columns}, claim=source.claim, **more)
