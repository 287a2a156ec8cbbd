"""The steps of an audit: open the case, then look at it from every side."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from cxrlab.checks import Case, Section, checklist, confounders, files, pictures, provenance, size, splits
from cxrlab.console import say
from cxrlab.datamodules import ChestXRayDataModule
from cxrlab.datamodules.films import find_pairs
from cxrlab.datamodules.measurements import measure

CHECKS: tuple[Callable[[Case], Section], ...] = (
    provenance.check,
    splits.check,
    confounders.check,
    size.check,
    files.check,
    pictures.check,
)
"""In the order of the page; the checklist, which is filled in from all of them, comes last."""


def open_case(datamodule: ChestXRayDataModule, seed: int) -> Case:
    """Lists, measures and splits the images; what is unreadable or leaks is kept for the record.

    Args:
        datamodule: Not set up.
        seed: Of every draw of the checks.

    Raises:
        DataError: There is no image, or a class or split without any.
    """
    listed = datamodule.list_images()
    say(f"auditing {datamodule.source.name}: {len(listed)} images")
    measured = measure(list(listed["path"]), datamodule.cache)
    pairs = find_pairs(measured.hashes, measured.features, measured.sha256)
    # Validation images are a part of the training images that another seed would draw otherwise: no matter of the set.
    arranged = datamodule.arrange(listed, measured.sha256, measured.problems, pairs, val=False)
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
    )


def examine(case: Case) -> list[Section]:
    """Every section of the audit, in the order of the page."""
    # The matrices are small: several threads on each would wait for one another most of the time.
    with threadpool_limits(limits=1, user_api="blas"):
        sections = [check(case) for check in CHECKS]
    return [*sections, checklist.check(case, sections)]
