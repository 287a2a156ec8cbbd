"""Errors a user can mend, and the range checks that raise them.

Everything a user may get wrong (a key, a folder, a file, a checkpoint) ends as a :class:`UserError`: its message names
the thing, says what was expected and what to type next. Entry points print it without a traceback and exit with 1.
Constructors raise plain ``ValueError`` through the ``check_*`` helpers: notebooks and tests meet the same words.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


class UserError(Exception):
    """A mistake in what was asked for; the message is all the user needs."""


class ConfigError(UserError):
    """Something is wrong with the configuration of a run.

    Attributes:
        keys: The keys that are to blame, sorted; empty where the message alone tells.
    """

    def __init__(self, message: str, keys: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.keys = tuple(sorted(keys))


class DataError(UserError):
    """Something is wrong with a data set, a manifest or an image file."""


class CheckpointError(UserError):
    """A checkpoint or run folder cannot be used."""


class MissingLibraryError(UserError):
    """An optional library is needed and not installed; the message says what to type, see :mod:`cxrlab.imports`."""


class DivergedError(UserError):
    """The loss or the weights of a training became NaN or infinite."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ``"; did you mean 'x'?"`` for the closest of ``known`` whatever its case, or an empty string."""
    names = {str(name).lower(): str(name) for name in known}
    begins = [name for lower, name in names.items() if lower.startswith(word.lower())]
    if len(word) > 1 and len(begins) == 1:  # val/acc is val/accuracy, although val/ap is closer by letters
        return f"; did you mean {begins[0]!r}?"
    close = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean {names[close[0]]!r}?" if close else ""


def check_range(
    name: str,
    value: Any,
    low: float,
    high: float = math.inf,
    *,
    low_open: bool = False,
    high_open: bool = False,
    integer: bool = False,
) -> None:
    """Checks that a number lies in a range.

    Args:
        name: The argument's name, as the user writes it.
        value: The value found; booleans, ``None`` and strings are refused.
        low: Lower end.
        high: Upper end; infinity itself is always outside.
        low_open: Whether ``low`` itself is outside.
        high_open: Whether ``high`` itself is outside.
        integer: Whether only whole numbers are allowed.

    Raises:
        ValueError: Names the argument, the allowed range and the value found.
    """
    low_open, high_open = low_open or low == -math.inf, high_open or high == math.inf
    allowed = f"{'(' if low_open else '['}{_short(low)}, {_short(high)}{')' if high_open else ']'}"
    number = isinstance(value, Integral if integer else Real) and not isinstance(value, bool)  # NumPy's, too
    # Both ends are asked for what lies inside, so that NaN, which compares as false, is refused.
    if not (number and (low < value if low_open else low <= value) and (value < high if high_open else value <= high)):
        kind = "a whole number" if integer else "a number"
        raise ValueError(f"{name} must be {kind} in {allowed}, got {value!r}")


def _short(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Checks that a value is one of a few.

    Raises:
        ValueError: Names the argument, the choices, the value found and the closest choice.
    """
    choices = list(choices)
    if value not in choices or (isinstance(value, bool) and not any(choice is value for choice in choices)):
        listed = ", ".join(str(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}{did_you_mean(str(value), choices)}")
