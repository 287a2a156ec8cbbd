"""Limits of a gate, and how often it is wrong: arrays in, no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cxrlab.errors import check_range

FRONTAL = "frontal"
LIKELIER = 0.5
"""Whatever the images say, nothing is accepted below this probability, and nothing refused from it on."""


def choose_limits(
    scores: npt.ArrayLike,
    kinds: Sequence[str],
    collections: Sequence[str],
    false_refusal: float = 0.01,
    false_acceptance: float = 0.01,
    false_warning: float = 0.01,
) -> tuple[float, float]:
    """Chooses ``refuse_below`` and ``accept_from``, the probabilities of a frontal film where a gate is not in doubt.

    ``a`` is the largest limit below which at most ``false_refusal`` of the frontal films of every collection lie, ``w``
    the same for ``false_warning``; ``b`` the smallest from which on at most ``false_acceptance`` of the others lie,
    every kind of them counting the same, whatever its number of images. Refused is what lies below ``min(a, 0.5)``,
    accepted what lies from ``max(w, b, 0.5)`` on. So the worst collection keeps the rates, unless too many others would
    be accepted; and what looks less like a frontal film than nearly all of them do is never accepted, although no kind
    of picture that was learned from may need it: a gate meets others.

    Args:
        scores: Shape (n,): probability of a frontal film, in [0, 1]; below 0 where a rule refuses the image anyway.
        kinds: Of each of them; at least one ``frontal``.
        collections: Of each of them; only those of frontal films are looked at.
        false_refusal: Share of the frontal films of a collection that may be refused, in [0, 0.5].
        false_acceptance: Share of the others that may be accepted, in [0, 0.5].
        false_warning: Share of the frontal films of a collection that may be warned about or refused, in [0, 0.5].
    """
    check_range("false_refusal", false_refusal, 0, 0.5)
    check_range("false_acceptance", false_acceptance, 0, 0.5)
    check_range("false_warning", false_warning, 0, 0.5)
    values, names, places = np.asarray(scores, np.float64), np.asarray(kinds), np.asarray(collections)
    if values.ndim != 1 or not values.shape == names.shape == places.shape:
        raise ValueError(
            f"scores, kinds and collections must be equally long, got {values.shape}, {names.shape}, {places.shape}"
        )
    frontal = names == FRONTAL
    if not frontal.any():
        raise ValueError("kinds must hold at least one frontal film")
    films = [np.sort(values[frontal & (places == place)]) for place in np.unique(places[frontal])]
    refusal, warning = (min(each[int(share * each.size)] for each in films) for share in (false_refusal, false_warning))
    others, which, count = np.unique(names[~frontal], return_inverse=True, return_counts=True)
    order = np.argsort(-values[~frontal], kind="stable")
    shares = np.cumsum(1 / (others.size * count[which[order]]))  # accepted so far: the mean over kinds
    over = np.flatnonzero(shares > false_acceptance + 1e-12)
    # Just above the first one that is too many; ties with it stay out, too.
    acceptance = np.nextafter(values[~frontal][order[over[0]]], 2) if over.size else 0.0
    refuse_below = float(np.clip(min(refusal, LIKELIER), 0, 1))
    return refuse_below, float(np.clip(max(warning, acceptance, LIKELIER), refuse_below, 1))
