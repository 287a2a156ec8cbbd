"""Classifiers that see no lung, trained on one set and tested on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cxrlab.datamodules.split import assign_folds
from cxrlab.evaluation import cross_validation, lung_free
from cxrlab.evaluation import matrix as statistics
from cxrlab.evaluation.estimate import Resampling
from cxrlab.evaluation.matrix import Answers
from cxrlab.steps.overlap import Pool

FOLDS = 5
"""Of the cross-validation by which, on training images, the best classifier without a lung is chosen."""
_INPUTS = ("size", "header", "corners", "strip", "border", "frame", "thumbnail")


@dataclass(frozen=True)
class Edge:
    """One such classifier of one row.

    Attributes:
        name: One of :data:`cxrlab.evaluation.lung_free.INPUTS`.
        numbers: What it is given, of every image of the pool, shape (images, columns).
        rows: The row's training images in it, shape (n,).
        labels: Theirs, shape (n,), boolean.
        training: Its AUROC on them, cross-validated by patient; ``None`` with too few patients for that.
        images: The pool.
    """

    name: str
    numbers: np.ndarray[Any, np.dtype[np.float64]]
    rows: np.ndarray[Any, np.dtype[np.int64]]
    labels: np.ndarray[Any, np.dtype[np.bool_]]
    training: float | None
    images: Pool

    def scores(self, paths: pd.Series) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Trained on the row's images, the scores of others, shape (n,), in [0, 1]."""
        there = self.numbers[self.images.of(paths)["row"].to_numpy()]
        strip = lung_free.INPUTS[self.name].strip
        return cross_validation.scored(self.numbers[self.rows], self.labels[:, None], there, strip=strip)[:, 0]

    def tested(self, paths: pd.Series, answers: Answers, how: Resampling) -> dict[str, Any]:
        """Trained on the row's images, tested on a cell's."""
        spec = lung_free.INPUTS[self.name]
        found = self.scores(paths)[None]
        auroc = statistics.cell(Answers(answers.labels, found, found >= 0.5, answers.patients), how)["auroc"]
        return {"sees": spec.sees, "lung_free": spec.lung_free, "training": self.training, "auroc": auroc}


class Edges:
    """What classifiers without a lung are given, of every image of a pool.

    Args:
        images: The pool.
        how: Its seed is that of the folds.
    """

    def __init__(self, images: Pool, how: Resampling) -> None:
        self.images = images
        self.seed = how.seed
        facts = images.measured.facts
        readable = images.table["readable"].to_numpy(dtype=bool)
        some = facts[readable]
        seen = lung_free.features(
            images.measured.grey[readable], {name: some[name].to_numpy() for name in lung_free.FACTS}
        )
        self.numbers = {}
        for name in _INPUTS:
            self.numbers[name] = np.zeros((len(facts), seen[name].shape[1]))
            self.numbers[name][readable] = seen[name]

    def train(self, known: pd.DataFrame | None) -> dict[str, Edge]:
        """Every classifier, by its name in words; none where the training images are unknown or of one label."""
        if known is None:
            return {}
        here = self.images.of(known["path"])
        usable = here["readable"].to_numpy(dtype=bool)
        labels = known["label"].to_numpy()[usable] == 1
        if not labels.any() or labels.all():
            return {}
        rows, people = here["row"].to_numpy()[usable], here["person"].to_numpy(dtype=str)[usable]
        fewest = min(np.unique(people[labels]).size, np.unique(people[~labels]).size)
        folds = assign_folds(labels.astype(np.int64), people, FOLDS, self.seed) if fewest >= FOLDS else None
        found = {}
        for name in _INPUTS:
            spec, numbers = lung_free.INPUTS[name], self.numbers[name]
            auroc = None
            if folds is not None:
                auroc = cross_validation.cross_validated(numbers[rows], labels, folds, strip=spec.strip)[0]
            found[spec.name] = Edge(name, numbers, rows, labels, auroc, self.images)
        return found
