"""Counts, shares and lists in words, the same in every document and on every screen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

import pandas as pd

MOST = 8
"""Up to this many values (findings, sources, views) are listed by name; the rest is counted together."""


def plural(count: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def part(count: int, whole: int) -> str:
    """``4 of 20 (20 %)``."""
    return f"{count} of {whole} ({100 * count / whole:.0f} %)" if whole else "0 of 0"


def tally(values: Iterable[object], most: int = MOST) -> str:
    """Counts of values, commonest first: ``SARS 11, Streptococcus 5``; an empty value is ``unknown``."""
    counts = pd.Series(list(values), dtype=object).replace("", "unknown").value_counts()
    ordered = sorted(counts.items(), key=lambda item: (-int(item[1]), str(item[0])))
    most = len(ordered) if len(ordered) == most + 1 else most  # one more name is no longer than "1 other"
    shown = [f"{_quoted(str(value))} {count}" for value, count in ordered[:most]]
    rest = ordered[most:]
    return ", ".join(shown + ([f"{len(rest)} others {sum(count for _, count in rest)}"] if rest else []))


def _quoted(value: str) -> str:
    """In quotes where it holds the comma that separates values."""
    return f'"{value}"' if "," in value else value


def listed(names: Sequence[str], most: int = MOST) -> str:
    """``a, b and 3 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def file_name(path: str) -> str:
    """The last part of a path."""
    return PurePath(path).name


def p_value(p: float) -> str:
    """``p = 0.012`` or ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def bounds(low: float, high: float) -> str:
    """``[0.912, 1]``; three digits, whole numbers as such."""
    return f"[{_digits(low)}, {_digits(high)}]"


def _digits(number: float) -> str:
    return f"{number:.0f}" if number in (0, 1) else f"{number:.3f}"


def first_few(lines: list[str], most: int) -> list[str]:
    """The first lines, and one that counts the rest."""
    return [*lines[:most], *([f"… and {len(lines) - most} more"] if len(lines) > most else [])]
