"""The steps of an audit: open the case, then look at it from every side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from cxrlab.checks import Case, Section, checklist, confounders, files, pictures, provenance, size, splits
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.datamodules.films import find_pairs
from cxrlab.datamodules.measurements import measure
from cxrlab.datamodules.parallel import for_each
from cxrlab.errors import DataError
from cxrlab.models.gate import Gate
from cxrlab.reading.image import read_image

CHECKS: dict[str, Callable[[Case], Section]] = {
    "where the images come from": provenance.check,
    "how they are split": splits.check,
    "what tells the labels apart without a lung": confounders.check,
    "how much the set can show": size.check,
    "the files": files.check,
    "the pictures": pictures.check,
}
"""By what they look at, in the order of the page; the checklist, which is filled in from all of them, comes last."""


def open_case(datamodule: ChestXRayDataModule, seed: int, gate: Gate | None = None) -> Case:
    """Lists, measures and splits the images; what is unreadable or leaks is kept for the record.

    Args:
        datamodule: Not set up.
        seed: Of every draw of the checks.
        gate: Judges whether images are frontal chest films; ``None``: that is not checked.

    Raises:
        DataError: There is no image.
    """
    listed = datamodule.list_images()
    measured = measure(list(listed["path"]), datamodule.cache)
    pairs = find_pairs(measured.hashes, measured.features, measured.sha256)
    # Validation images are a part of the training images that another seed would draw otherwise: no matter of the set.
    arranged = datamodule.arrange(listed, measured.sha256, measured.problems, pairs, train=False)
    place = np.full(len(listed), -1)
    place[arranged.rows] = np.arange(len(arranged.rows))
    pairs = pairs.assign(first=place[pairs["first"]], second=place[pairs["second"]])
    partition = datamodule.partition
    return Case(
        name=datamodule.source.name,
        synthetic=datamodule.source.synthetic,
        claim=datamodule.source.claim,
        manifest=arranged.manifest,
        measured=measured.take(arranged.rows),
        pairs=pairs[(pairs["first"] >= 0) & (pairs["second"] >= 0)].reset_index(drop=True),
        drawn=partition.drawn(arranged.own),
        val_is_test=partition.val_is_test,
        flow=datamodule.flow,
        problems={str(listed["path"].iloc[row]): problem for row, problem in measured.problems.items()},
        notes=[
            *measured.notes,
            *datamodule.source.notes,
            *partition.warnings(arranged.own, arranged.manifest, [], datamodule.source.name),
        ],
        seed=seed,
        cache=datamodule.cache,
        lost=datamodule.lost,
        judged=None if gate is None else _judged(gate, list(arranged.manifest["path"])),
    )


def _judged(gate: Gate, paths: list[str]) -> pd.DataFrame:
    """What the gate says of every image, columns ``verdict`` and ``kind``; images are read once more, one at a time."""
    found = [("", "")] * len(paths)

    def judge(row: int) -> None:
        with suppress(DataError):  # it changed since it was measured; then it stays without a verdict
            judgement = gate([read_image(paths[row]).pixels])[0]
            found[row] = judgement.verdict, judgement.kind

    for_each(judge, range(len(paths)), "looking for pictures that are no frontal films")
    return pd.DataFrame(found, columns=["verdict", "kind"])


def examine(case: Case, step: Callable[[str], None] = lambda name: None) -> list[Section]:
    """Every section of the audit, in the order of the page.

    Args:
        case: The data set under audit.
        step: Is told which check begins.
    """
    # The matrices are small: several threads on each would wait for one another most of the time.
    with threadpool_limits(limits=1, user_api="blas"):
        sections = []
        for name, check in CHECKS.items():
            step(name)
            sections.append(check(case))
    step("filling in the check-list")
    return [*sections, checklist.check(case, sections)]
