"""What people, spreadsheets, pandas and scanners write for one thing: ages, sexes, views, ids, labels, splits.

One rule for every kind: a known spelling becomes the usual one, a word for "unknown" becomes empty, and anything else
is left as it is written, for whoever reads it to name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

OLDEST = 130
"""Years: nobody reached them, so that an age beyond is a mistake or a code."""

_UNKNOWN_WORDS = """
nan -nan +nan na <na> n/a n.a. n.a #n/a #na nat nd none (none) null [null] (null) nil unknown unk unkn undefined
unspecified missing blank (blank) unavailable anonymous anonymized anonymised anon deidentified de-identified redacted
removed tbd todo ? ?? ??? - -- --- _ . * xxx #value! #ref! #name? #null! #div/0! #num! ##### \\n 1.#qnan -1.#ind 1.#ind
"""
_UNKNOWN = {
    "",
    *_UNKNOWN_WORDS.split(),
    *(f"not {how}" for how in ("available", "known", "recorded", "specified", "given")),
}
_SEXES = {
    "M": "m male man men boy masculino männlich maennlich masculin homme hombre uomo maschio",
    "F": "f w female woman women girl femenino weiblich féminin feminin femme mujer donna femmina",
    "O": "o other diverse d nonbinary non-binary intersex",
}
_VIEWS = {  # keyed without blanks, hyphens, underscores, dots and the word view
    "PA": "pa posteroanterior posterioranterior postanterior frontalpa",
    "AP": "ap anteroposterior anteriorposterior antposterior frontalap",
    "AP Supine": "apsupine supineap apsup aplying aphorizontal aprecumbent",
    "AP Erect": "aperect erectap apupright apstanding",
    "L": "l lat lateral ll rl leftlateral rightlateral llat rlat lateralleft lateralright",
}
_SPLITS = {
    "train": "train training trn traindata",
    "val": "val valid validation validate validating dev devel development",
    "test": "test tests testing tst testdata",
}
_LABELS = {1: "1 true t yes y positive pos + +ve", 0: "0 false f no n negative neg -ve"}
_SEX_OF = {word: sex for sex, words in _SEXES.items() for word in words.split()}
_VIEW_OF = {word: view for view, words in _VIEWS.items() for word in words.split()}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words.split()}
_LABEL_OF = {word: label for label, words in _LABELS.items() for word in words.split()}

_PER_YEAR = {
    "y yr yrs year years yo j jahr jahre a ans an años anni": 1.0,
    "m mo mos mon mth mths month months monat monate": 12.0,
    "w wk wks week weeks woche wochen": 365.25 / 7,
    "d day days tag tage": 365.25,
}
_UNITS = {unit: per_year for units, per_year in _PER_YEAR.items() for unit in units.split()}
_NUMBER = r"[+-]?\d{1,9}+(?:[.,]\d{1,9}+)?(?!\d)"  # possessive: a long row of digits is never tried in parts
_PART = re.compile(rf"({_NUMBER})\s*([^\W\d_]*)")
_AGE = re.compile(rf"(?:{_NUMBER}\s*[^\W\d_]*\s*){{1,4}}")
_RANGE = re.compile(rf"({_NUMBER})\s*([^\W\d_]*)\s*(?:-|to|bis)\s*{_NUMBER}\s*([^\W\d_]*)")
_AT_LEAST = re.compile(r"(?:>=|=>|>|≥|over|above)\s*(.+)|(.+?)\s*(?:\+|plus|and over|and above|or older|or over)")
_BELOW = re.compile(r"(?:<=|=<|<|≤|under|below)\s*(.+)")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")
_SHOWN = 8
_LONG = 64  # letters of a cell: what is longer is no age, sex, view or split


def key(text: object) -> str:
    """The text for comparing: no blanks around it, small letters, any dash as ``-``, a whole number without ``.0``."""
    plain = " ".join(unicodedata.normalize("NFKC", str(text)).split()).casefold().translate(_DASHES)
    return re.sub(r"^([+-]?\d+)[.,]0+$", r"\1", plain)


def is_unknown(text: object) -> bool:
    """Whether a cell says that something is not known: it is empty, ``nan``, ``N/A``, ``unknown``, ``-``, ``?`` …."""
    return text is None or text is pd.NA or key(text) in _UNKNOWN


def label(text: object) -> int | None:
    """1 or 0 for the usual words (``1.0``, ``TRUE``, ``yes``, ``Positive`` …), ``None`` for any other."""
    return _LABEL_OF.get(key(text))


def split(text: object) -> str | None:
    """``train``, ``val`` or ``test`` for the usual words (``Valid``, ``dev``, ``training_set`` …), else ``None``."""
    word = re.sub(r"[\W_]+", "", key(text)) if len(str(text)) <= _LONG else ""
    return _SPLIT_OF.get(word) or _SPLIT_OF.get(re.sub(r"(set|split|data|images|imgs)$", "", word))


def years(text: object) -> float:
    """An age in years, NaN where the text gives none; not bounded, see :func:`ages`.

    Read are plain numbers (``45``, ``45,5``), DICOM's age strings (``060Y``, ``018M``, ``012W``, ``003D``; PS3.5, value
    representation AS) and words (``12 years``, ``1y 6m``). What gives a range counts as its lower end: ``60-69`` as 60,
    ``>89`` and ``90+`` as the number, ``<1`` as 0.
    """
    plain = key(text)
    if len(plain) > _LONG or plain in _UNKNOWN:
        return float("nan")
    if _BELOW.fullmatch(plain):
        return 0.0 if np.isfinite(years(_BELOW.sub(r"\1", plain))) else float("nan")
    if found := _AT_LEAST.fullmatch(plain):
        return years(found[1] or found[2])
    if found := _RANGE.fullmatch(plain):
        return years(f"{found[1]}{found[2] or found[3]}")
    plain = re.sub(r"\bof age\b|\bold\b|[()]|(?<=[a-z])\.", "", plain.replace("y/o", "yo")).strip()
    if not _AGE.fullmatch(plain):
        return float("nan")
    parts = [(float(number.replace(",", ".")), unit) for number, unit in _PART.findall(plain)]
    if len(parts) == 1 and not parts[0][1]:
        return parts[0][0]
    return sum(number / _UNITS.get(unit, float("nan")) for number, unit in parts)


def each(column: pd.Series[Any], function: Callable[[object], Any]) -> pd.Series[Any]:
    """The function of every cell, computed once for each different one."""
    known = {text: function(text) for text in column.unique()}
    return column.map(known)


def ages(column: pd.Series[Any]) -> pd.Series[float]:
    """Years in [0, :data:`OLDEST`], NaN where a cell is unknown, unreadable or an age that nobody has."""
    found = each(column.astype(object).where(column.notna(), ""), years).astype(float)
    return found.where(found.between(0, OLDEST))


def no_ages(column: pd.Series[Any]) -> pd.Series[Any]:
    """The cells that say something, but no age that a person can have, as text: ``411Y``, ``-1``, ``adult``."""
    text = column.astype(object).where(column.notna(), "").astype(str)
    return text[ages(column).isna() & ~each(text, is_unknown).astype(bool)]


def shown(column: pd.Series[Any]) -> list[str]:
    """The commonest texts with how often each occurs, and how many more there are."""
    counts = column.value_counts()
    more = [f"and {len(counts) - _SHOWN} more"] if len(counts) > _SHOWN else []
    return [f"{str(text)[:_LONG]!r} ({count})" for text, count in counts.head(_SHOWN).items()] + more


def sex(text: object) -> str:
    """``M``, ``F``, ``O`` (other), empty where unknown; another text, such as a code of 0 and 1, as it is written."""
    word = key(text)
    return "" if word in _UNKNOWN or word == "u" else _SEX_OF.get(word, str(text).strip())


def view(text: object) -> str:
    """``PA``, ``AP``, ``AP Supine``, ``AP Erect``, ``L``, empty where unknown; another text as it is written."""
    if is_unknown(text):
        return ""
    word = re.sub(r"[\W_]+|view|projection|chest", "", key(text))
    return _VIEW_OF.get(word, str(text).strip())


def patients(column: pd.Series[Any]) -> pd.Series[Any]:
    """One id per person: empty where unknown, ``12`` for ``12.0`` where a program made numbers of ids, one letter case.

    ``.0`` is taken away only where no id of the column has other decimals. Of ids that differ in letter case or blanks
    alone, the first spelling stands for all. ``007`` and ``7`` stay two ids.
    """
    text = each(
        column.astype(str), lambda cell: "" if is_unknown(cell) or key(cell) == "-1" else " ".join(str(cell).split())
    )
    if not text.str.contains(r"^\d+\.(?!0+$)\d+$", regex=True).any():
        text = text.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    return text.groupby(text.str.casefold()).transform("first")
