"""Drawing splits: by patient, stratified by label, the same for the same seed."""

from __future__ import annotations

import functools
import itertools
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from cxrlab.datamodules import manifest as mf
from cxrlab.errors import DataError

_Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_DEALT_ANEW = {2: 7, 3: 5, 4: 4}  # so many people at once among 2, 3 or 4 folds: at most 256 ways
_PATIENCE = 30  # attempts in vain, per fold, before the folds are taken to be as even as they get


def hold_out(
    manifest: pd.DataFrame, fraction: float, seed: int, into: str, option: str, remedy: str | None = None
) -> pd.DataFrame:
    """Returns a copy with about a fraction of the training patients, of either label, moved into another split.

    Patients are drawn separately among those with and those without a positive image, so that both splits hold both.

    Args:
        manifest: Rows of any split; only those of ``train`` take part.
        fraction: Share of the training patients, in (0, 1).
        seed: Of the draw.
        into: ``val`` or ``test``.
        option: What the user typed to get here, for the error.
        remedy: What else the user can do than add images, for the error; by default a folder for the split.

    Raises:
        DataError: A label has fewer than two training patients, so that no draw leaves both splits one.
    """
    manifest = manifest.copy()
    train = manifest["split"] == "train"
    people = mf.people(manifest)
    positive = manifest["label"].groupby(people).max()
    generator = np.random.default_rng(np.random.SeedSequence([seed, mf.SPLITS.index(into)]))
    drawn: list[str] = []
    for label, name in ((0, "Negative"), (1, "Positive")):
        candidates = np.array(sorted(person for person in people[train].unique() if positive[person] == label), object)
        if len(candidates) < 2:
            raise DataError(
                f"{option} cannot draw {into} images: only {len(candidates)} training patient(s) are {name}, and "
                f"{into} and train need one each; add images, loosen a filter, or "
                + (remedy or f"give the data set a {into} folder of its own")
            )
        count = min(max(1, round(fraction * len(candidates))), len(candidates) - 1)
        drawn += generator.permutation(candidates)[:count].tolist()
    manifest.loc[train & people.isin(drawn), "split"] = into
    return manifest


def hold_out_fold(manifest: pd.DataFrame, fold: int, folds: int, seed: int) -> pd.DataFrame:
    """Returns a copy with one fold as the test split and everything else as the training split.

    Args:
        manifest: Rows of any split, which is forgotten.
        fold: Which fold, in [0, ``folds``).
        folds: How many there are.
        seed: Of the draw of all folds, see :func:`assign_folds`, which may also refuse it.
    """
    drawn = assign_folds(manifest["label"].to_numpy(np.int64), mf.people(manifest).to_numpy(), folds, seed)
    return manifest.assign(split=np.where(drawn == fold, "test", "train"))


def assign_folds(labels: _Ints, people: np.ndarray[Any, Any], folds: int, seed: int) -> _Ints:
    """Spreads images over folds: nobody in two folds, each label's images as evenly as the people allow.

    Whole people are assigned, the largest first, each into the fold that holds least of the same; then a few people
    of two to four folds at a time are assigned again in every way there is, and the most even way is kept. What counts
    is the largest deviation of a fold's images of a label from that label's share, images / ``folds``; after it the sum
    of the squares. Finding the least deviation is NP-hard (number partitioning), so the result is a good one rather
    than provably the best; the search ends at once where all deviations are below one image. scikit-learn's
    StratifiedGroupKFold only assigns and minimises the spread of shares over folds: where people have many images it
    ends several images from what is possible.

    Args:
        labels: Of each image, 0 or 1, shape (n,).
        people: Key of each image's person, text, shape (n,).
        folds: At least 2.
        seed: Of the draw; neither the order of the images nor what the keys look like matters beside their sorting.

    Returns:
        The fold of each image, in [0, ``folds``), shape (n,).

    Raises:
        DataError: A label has fewer people than there are folds.
    """
    keys, person = np.unique(np.asarray(people, str), return_inverse=True)
    films = np.zeros((len(keys), len(mf.LABELS)), np.int64)
    np.add.at(films, (person, labels), 1)
    for name, label in mf.LABELS.items():
        count = int((films[:, label] > 0).sum())
        if count < folds:
            fewer = f"type data.folds={count} or fewer" if count > 1 else "leave data.folds and data.fold out"
            raise DataError(
                f"data.folds={folds} is too many: only {count} patient(s) have a {name} image, and each fold needs "
                f"one; {fewer}, or add images"
            )
    generator = np.random.default_rng(np.random.SeedSequence([seed, len(mf.SPLITS), folds]))
    fold = _deal(films, folds, generator)
    fold = _even_out(fold, films, folds, generator)
    return np.asarray(generator.permutation(folds)[fold][person], np.int64)


def _deal(films: _Ints, folds: int, generator: np.random.Generator) -> _Ints:
    """A fold for each person, the largest first (the rule for scheduling: longest processing time first)."""
    order = generator.permutation(len(films))
    order = order[np.argsort(-films[order].sum(1), kind="stable")]
    held = np.zeros((folds, films.shape[1]), np.int64)
    fold = np.zeros(len(films), np.int64)
    all_films = int(films.sum())
    for person in order:
        # The dot product is what the sum of squares would grow by; the smaller fold where that is the same.
        fold[person] = chosen = int(((held @ films[person]) * (all_films + 1) + held.sum(1)).argmin())
        held[chosen] += films[person]
    return fold


def _even_out(fold: _Ints, films: _Ints, folds: int, generator: np.random.Generator) -> _Ints:
    """Deals a few people anew, again and again, as long as that makes the folds more even."""
    # In units of 1/folds images, so that whole numbers are compared and every machine finds the same folds.
    films = films * folds
    off = np.stack([films[fold == number].sum(0) for number in range(folds)]) - films.sum(0) // folds
    fold, best, best_off, in_vain = fold.copy(), fold, _unevenness(off), 0
    while np.abs(off).max() >= folds and in_vain < _PATIENCE * folds:
        # Two to four folds, one of them off by an image or more; every second time the one that is off most.
        worst = np.abs(off).max(1)
        first = worst.argmax() if generator.random() < 0.5 else generator.choice(np.flatnonzero(worst >= folds))
        count = generator.integers(1, min(folds, max(_DEALT_ANEW)))
        others = generator.choice(np.delete(np.arange(folds), first), count, replace=False)
        among = np.array([first, *others], np.int64)
        # A few people in these, at times of any size alike and at times rather those with many films.
        candidates = np.flatnonzero(np.isin(fold, among))
        weights = films[candidates].sum(1) ** generator.random()
        order = np.argsort(generator.exponential(size=len(candidates)) / weights)
        who = candidates[order[: _DEALT_ANEW[len(among)]]]
        ways = _ways(len(among), len(who))
        without = off[among] - (fold[who] == among[:, None]) @ films[who]
        after = without + ways @ films[who]
        most, squares = np.abs(after).max((1, 2)), (after**2).sum((1, 2))
        least = np.flatnonzero(most == most.min())
        least = least[squares[least] == squares[least].min()]
        way = generator.choice(least)  # among equals, another one each time: a way on from where others end
        fold[who] = among[ways[way].argmax(0)]
        off[among] = after[way]
        in_vain += 1
        # Over all folds: what some folds gain, others can lose again in their squares, round and round.
        if _unevenness(off) < best_off:
            best, best_off, in_vain = fold.copy(), _unevenness(off), 0
    return best


def _unevenness(off: _Ints) -> tuple[int, int]:
    return int(np.abs(off).max()), int((off**2).sum())


@functools.cache
def _ways(folds: int, people: int) -> _Ints:
    """Every way of dealing people to folds, as 0 and 1, shape (ways, folds, people)."""
    dealt = np.array(list(itertools.product(range(folds), repeat=people)), np.int64)
    return np.stack([dealt == number for number in range(folds)], axis=1).astype(np.int64)
