"""How well a small table of numbers tells the classes apart: one fixed classifier, cross-validated, and its control.

The classifier is never tuned: a ridge-penalised logistic regression, or for strips one threshold on one number. Its
AUROC is cross-validated by patient. The same pipeline on labels permuted across patients is the negative control and
gives the p value.

Sources:
    AUROC within folds only: A. Airola et al., Comput Stat Data Anal 2011;55:1828-1844 (scores of different folds come
        from different models; comparing them across folds pulls the AUROC of unrelated labels below 0.5).
    Permutation of labels: M. Ojala and G. C. Garriga, J Mach Learn Res 2010;11:1833-1863; p = (1 + k) / (1 + m).
    The bound by which many regressions are fitted at once: D. Böhning and B. G. Lindsay, Ann Inst Stat Math
        1988;40:641-663.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import rankdata

from cxrlab.errors import check_range
from cxrlab.evaluation.estimate import NO_WIDTH, USUAL, Bools, Estimate, Floats, Ints, Resampling
from cxrlab.evaluation.statistics import auroc_interval, weighted_auroc

PENALTY = 10.0
"""Weight of half the sum of squared coefficients beside the summed log-loss: scikit-learn's ``C = 0.1``."""

_TOLERANCE = 1e-4  # root mean square of what one step changes in a regression's linear predictor
_MOMENTUM = 0.5  # halves the steps until then
_MOST_STEPS = 500  # labels of one class only never end
_CELLS_PER_BLOCK = 1_000_000


def permuted_labels(labels: ArrayLike, patients: ArrayLike, draws: int, seed: int) -> Bools:
    """Permutes the labels across patients, each of whom stays whole: the negative control.

    Everyone gets the labels of somebody else (or, at times, their own), repeated or cut to their own number of images.
    The result is boolean, shape (n, draws).
    """
    check_range("draws", draws, 1, integer=True)
    check_range("seed", seed, 0, integer=True)
    y = np.asarray(labels).astype(bool)
    _, person, films = np.unique(np.asarray(patients), return_inverse=True, return_counts=True)
    order = np.argsort(person, kind="stable")
    start = np.cumsum(films) - films
    place = np.empty(y.size, np.int64)  # of an image among its patient's
    place[order] = np.arange(y.size) - start[person[order]]
    rng = np.random.default_rng(seed)
    permuted = np.empty((y.size, draws), dtype=bool)
    for draw in range(draws):
        donor = rng.permutation(films.size)[person]
        permuted[:, draw] = y[order[start[donor] + place % films[donor]]]
    return permuted


def cross_validated(
    numbers: Floats, labels: ArrayLike, folds: ArrayLike, *, strip: bool = False, control: Bools | None = None
) -> tuple[float, Floats, Floats]:
    """Cross-validates one classifier, and with it the same classifier on the other labels of a control, shape (n, m).

    Numbers and ``strip`` are as of :func:`scored`. Folds have shape (repeats, n) or (n,), and no patient is in two of
    them. Returns the AUROC; the scores, shape (repeats, n), each from models that have not seen the image; and the
    AUROCs of the control. An AUROC counts pairs of images of one fold only, and is 0.5 where there is no such pair.
    """
    y = np.asarray(labels).astype(bool)[:, None]
    many = y if control is None else np.hstack([y, control])
    places = np.atleast_2d(np.asarray(folds))
    scores = np.empty(places.shape)
    wins, pairs = np.zeros(many.shape[1]), np.zeros(many.shape[1])
    for repeat, test in _held_out(places):
        found = scored(numbers[~test], many[~test], numbers[test], strip=strip)
        scores[repeat, test] = found[:, 0]
        positive = many[test].sum(axis=0)
        wins += (rankdata(found, axis=0) * many[test]).sum(axis=0) - positive * (positive + 1) / 2
        pairs += positive * (test.sum() - positive)
    aurocs = np.divide(wins, pairs, out=np.full(wins.size, 0.5), where=pairs > 0)
    return float(aurocs[0]), scores, aurocs[1:]


def cross_validated_interval(
    labels: ArrayLike, scores: Floats, folds: ArrayLike, patients: ArrayLike, how: Resampling = USUAL
) -> Estimate:
    """Returns the AUROC of :func:`cross_validated` with its interval, patients resampled; some fold has both labels.

    The models stay as they are, so the interval does not hold what another draw of training images would change.
    """
    y, ids = np.asarray(labels).astype(bool), np.asarray(patients)
    held_out = _held_out(np.atleast_2d(np.asarray(folds)))

    def within(weights: Floats) -> Floats:
        """The AUROC over pairs of one fold under each row of weights; 0.5 where no pair has weight."""
        wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
        for repeat, test in held_out:
            own = weights[:, test]
            count = (own @ y[test]) * (own @ ~y[test])
            some = count > 0
            if some.any():
                wins[some] += count[some] * weighted_auroc(y[test], scores[repeat, test], own[some])
                pairs += count
        return np.asarray(np.divide(wins, pairs, out=np.full(wins.size, 0.5), where=pairs > 0))

    value = float(within(np.ones((1, y.size)))[0])
    return Estimate(value, *auroc_interval(value, how.bootstrap(within, ids, y), y, ids, how))


def control_p(auroc: float, control: Floats) -> float:
    """Returns how probable an AUROC of at least this is on permuted labels: (1 + k) / (1 + m), never 0."""
    return float((1 + (control >= auroc - NO_WIDTH).sum()) / (1 + control.size))


def scored(train: Floats, labels: ArrayLike, test: Floats, *, strip: bool = False) -> Floats:
    """Fits one classifier on each of m columns of labels, and scores test images; numbers have shape (n, columns).

    The classifier is a regression on all columns or, with ``strip``, one threshold on the best column. The scores have
    shape (test images, m); at least 0.5 means Positive. That of a regression is the probability, that of a strip 0.5 at
    the threshold of :func:`best_columns`, from where a straight line runs to 0 and 1 at the grey levels 0 and 255.
    """
    many = np.asarray(labels).astype(bool)
    if not strip:
        return _regressions(train, many, test)
    scores = np.full((len(test), many.shape[1]), 0.5)
    for draw, (column, threshold, brighter) in enumerate(zip(*best_columns(train, many), strict=True)):
        if column >= 0:
            level = np.interp(test[:, column], [0, threshold, 255], [0, 0.5, 1])
            scores[:, draw] = level if brighter else 1 - level
    return scores


def best_columns(train: Floats, labels: ArrayLike) -> tuple[Ints, Floats, Bools]:
    """Returns the column, the threshold on it, and whether brighter means Positive, that get most images right.

    Each has shape (m,) for labels of shape (n, m). Of columns equally good it is the first; of thresholds the lowest,
    and brighter before darker. The column is -1 where no column holds two different values.
    """
    many = np.asarray(labels).astype(bool)
    m = many.shape[1]
    most, column = np.full(m, -1), np.full(m, -1)
    threshold, brighter = np.zeros(m), np.ones(m, dtype=bool)
    for number, levels in enumerate(train.T):
        values, group, images = np.unique(levels, return_inverse=True, return_counts=True)
        if values.size < 2:
            continue
        positive = np.zeros((values.size, m), np.int64)
        np.add.at(positive, group, many)
        # Of each threshold between two values: the negatives below it and the positives above it.
        right = positive.sum(axis=0) - 2 * np.cumsum(positive, axis=0)[:-1] + np.cumsum(images)[:-1, None]
        wrong = levels.size - right
        up = right.max(axis=0) >= wrong.max(axis=0)
        found = np.where(up, right, wrong)
        cut = ((values[1:] + values[:-1]) / 2)[found.argmax(axis=0)]
        better = found.max(axis=0) > most
        most, column = np.where(better, found.max(axis=0), most), np.where(better, number, column)
        threshold, brighter = np.where(better, cut, threshold), np.where(better, up, brighter)
    return column, threshold, brighter


def _regressions(train: Floats, many: Bools, test: Floats) -> Floats:
    """Ridge-penalised logistic regressions on standardised numbers, all label vectors at once.

    In the coordinates of the singular value decomposition the bound of Böhning and Lindsay, p (1 - p) <= 1/4, makes the
    Hessian one diagonal for all of them, so that a step of all is two products of matrices. Where they end is where
    scikit-learn's ``LogisticRegression(C=0.1)`` ends.
    """
    centre, spread = train.mean(axis=0), train.std(axis=0)
    varies = spread > 1e-9 * (1 + np.abs(centre))
    if not varies.any():
        return np.broadcast_to(many.mean(axis=0), (len(test), many.shape[1])).copy()
    centre, spread = centre[varies], spread[varies]
    _, sizes, axes = np.linalg.svd((train[:, varies] - centre) / spread, full_matrices=False)
    kept = sizes > 1e-6 * sizes[0]
    turn = axes[kept].T / spread[:, None]
    own, other = (np.column_stack([(array[:, varies] - centre) @ turn, np.ones(len(array))]) for array in (train, test))
    block = max(1, _CELLS_PER_BLOCK // len(train))
    parts = [many[:, start : start + block].astype(np.float64) for start in range(0, many.shape[1], block)]
    return np.hstack([expit(other @ _fit(own, part)) for part in parts])


def _fit(own: Floats, many: Floats) -> Floats:
    """Returns coefficients, shape (r + 1, m), the intercepts last, for orthogonal columns, shape (n, r + 1)."""
    n, m = many.shape
    squares = (own**2).sum(axis=0)[:, None]
    penalty = np.full_like(squares, PENALTY)
    penalty[-1] = 0  # of the intercept
    curvature = squares / 4 + penalty
    weights, ahead = np.zeros((2, own.shape[1], m))
    going = np.arange(m)
    for _ in range(_MOST_STEPS):
        error = many[:, going] - expit(own @ ahead[:, going])
        new = ahead[:, going] + (own.T @ error - penalty * ahead[:, going]) / curvature
        step = new - weights[:, going]
        weights[:, going] = new
        ahead[:, going] = new + _MOMENTUM * step
        going = going[np.sqrt((step**2 * squares).sum(axis=0) / n) > _TOLERANCE]
        if not going.size:
            break
    return weights


def _held_out(places: Ints) -> list[tuple[int, Bools]]:
    """The number of the repeat, and which images are in the fold that is held out."""
    return [(repeat, fold == number) for repeat, fold in enumerate(places) for number in np.unique(fold)]
