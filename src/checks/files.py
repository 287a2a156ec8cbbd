"""What the files are: formats, sizes and qualities, those that cannot be read, odd images, letters burned in.

A network sees pixels, yet a file leaves marks in them: what was enlarged is soft, what was compressed has blocks, what
was squeezed to a square has another shape. Where one class has its own kind of file, that alone can tell the classes
apart.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from rich import get_console
from rich.progress import track
from scipy.stats import fisher_exact

from cxrlab.checks.base import Case, Finding, Picture, Section, Table, Verdict
from cxrlab.checks.columns import pass_of
from cxrlab.checks.counting import LABELS, splits, uneven_loss
from cxrlab.datamodules.cache.shelf import Shelf, key_of, version_of
from cxrlab.datamodules.manifest import people
from cxrlab.datamodules.pixels import BLANK
from cxrlab.errors import DataError
from cxrlab.evaluation import burned_in
from cxrlab.evaluation.association import holm
from cxrlab.evaluation.burned_in import text_boxes
from cxrlab.figures import contact_sheet
from cxrlab.reading.image import BETWEEN, read_image
from cxrlab.words import MOST, file_name, listed, p_value, part, plural, tally

READ = 400
"""Images of each class that are read again, at most, to look for letters and colours."""
ALPHA = 0.05
_FAIL_ALPHA = 0.01
_WARN_SHARE = 0.05  # difference of the shares of patients from which a clear difference is told
_ONLY = (0.9, 0.1)  # one class nearly always, the other nearly never: FAIL
_FEWEST = 5  # patients with a value, below which it is not tested
_SMALL = 224  # pixels of the shorter side: the paper's network enlarges anything smaller
_LONG = 2.0  # longer side to shorter side
_COLOURED = (24, 0.01)  # grey levels between the channels of a coloured pixel; share of such pixels
_COLOUR_SIDE, _CROP = 256, 360  # pixels of the longer side at which colours and letters are kept
_SHOWN_SUSPECTS = 24
_SHOW_PROGRESS_FROM = 64  # images, as when a data set is read

_ABOUT_VALUES = (
    "Each value of format, colour mode, bit depth, pixel size and JPEG quality that at least "
    f"{_FEWEST} patients have is compared between the classes: patients with at least one such image, by Fisher's "
    "exact test, all p values corrected together (Holm). FAIL: one class nearly always has the value "
    f"({100 * _ONLY[0]:.0f} % of its patients or more) and the other nearly never ({100 * _ONLY[1]:.0f} % or less), "
    f"p < {_FAIL_ALPHA:g}. WARN: p < {ALPHA:g} and the shares are {100 * _WARN_SHARE:.0f} percentage points apart. "
    "Whether the file as a whole tells the classes apart is measured with the classifiers that see no lung."
)
_ABOUT_ODD = (
    f"Odd images: the shorter side under {_SMALL} pixels; one side more than {_LONG:g} times the other; nearly blank "
    f"(nine in ten pixels within {BLANK} grey levels); coloured (more than {100 * _COLOURED[1]:.0f} % of the pixels "
    "of an image that was read again)."
)


@dataclass(frozen=True)
class _Value:
    """How often the classes have one value; patients and images of (Negative, Positive)."""

    what: str
    value: str
    patients: tuple[int, int]
    of_patients: tuple[int, int]
    images: tuple[int, int]
    of_images: tuple[int, int]
    p: float  # corrected once all values are known

    @property
    def apart(self) -> float:
        negative, positive = self.shares
        return round(abs(positive - negative), 9)  # a value and its opposite are equally far apart

    @property
    def shares(self) -> tuple[float, float]:
        """Of the patients of either class."""
        return self.patients[0] / self.of_patients[0], self.patients[1] / self.of_patients[1]

    @property
    def evidence(self) -> str:
        counts = " and ".join(
            f"{self.images[label]} of {self.of_images[label]} {LABELS[label]} images "
            f"({self.patients[label]} of {self.of_patients[label]} patients)"
            for label in (1, 0)
        )
        return f"{self.value}: {counts}; Fisher's exact test by patient, {p_value(self.p)} (Holm)"


@dataclass(frozen=True)
class _Look:
    """What reading an image again showed: rows of letters, and the share of its pixels that has a colour."""

    boxes: npt.NDArray[np.int64]
    colour: float
    crop: npt.NDArray[np.uint8]

    def packed(self) -> bytes:
        """As bytes, for a shelf."""
        file = io.BytesIO()
        np.savez(file, boxes=self.boxes, colour=np.float64(self.colour), crop=self.crop)
        return file.getvalue()

    @classmethod
    def unpacked(cls, data: bytes) -> _Look:
        """From what :meth:`packed` gave."""
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            return cls(kept["boxes"], float(kept["colour"]), kept["crop"])


def check(case: Case) -> Section:
    """Looks at what the files say about themselves and, in a sample, for letters and colours."""
    looks, unread = _look_again(case)
    values = _compared(case)
    odd = _odd(case, looks)
    suspects = sorted(row for row, look in looks.items() if len(look.boxes))
    findings = [*_unreadable(case), _not_films(case), *_headers(case), *_kinds(case, values), *_scaling(case)]
    findings.append(_odd_images(case, odd))
    findings.append(_letters(case, looks, suspects))
    tables = [_overview(case), *_header_tables(case)]
    if case.problems:
        tables.append(_problem_table(case))
    if case.judged is not None and (case.judged["verdict"] != "accept").any():
        rows = [(_name(case, row), *case.judged[["verdict", "kind"]].iloc[row]) for row in range(len(case.judged))]
        rows = sorted((row for row in rows if row[1] != "accept"), key=lambda row: row[1:])
        caption = _first("What the gate doubts", rows[:MOST], len(rows))
        tables.append(Table(caption, ("file", "verdict", "looks like"), rows[:MOST]))
    if odd:
        tables.append(_odd_table(case, odd))
    pictures = [_suspect_sheet(case, looks, suspects)] if suspects else []
    facts = {
        "unreadable": {file_name(path): reason for path, reason in case.problems.items()},
        "values": [vars(value) for value in values],
        "odd": [{"file": _name(case, row), "why": why} for row, why in odd.items()],
        "read_again": len(looks),
        "text_suspects": [_name(case, row) for row in suspects],
    }
    text = [_ABOUT_VALUES, _ABOUT_ODD, _about_letters(case, looks, unread)]
    return Section("Files", findings, text=text, tables=tables, pictures=pictures, facts=facts)


# Files that cannot be read ------------------------------------------------------------------------------------------


def _unreadable(case: Case) -> Iterator[Finding]:
    listed_images = len(case.manifest) + len(case.problems)
    if not case.problems:
        yield Finding("unreadable files", Verdict.PASS, f"all {plural(listed_images, 'image')} could be read")
        return
    names = [file_name(path) for path in case.problems]
    evidence = f"{part(len(names), listed_images)} images could not be read and are left out: {listed(names, 3)}"
    yield Finding("unreadable files", Verdict.WARN, evidence, len(names) / listed_images)
    if len(case.lost) and pd.concat([case.manifest["label"], case.lost["label"]]).nunique() == 2:
        p, counts, of_patients = uneven_loss(case.manifest, case.lost)
        verdict, said = (Verdict.WARN, counts) if p < ALPHA else pass_of(of_patients, counts)
        yield Finding("unreadable files and label", verdict, said, len(names) / listed_images)


def _not_films(case: Case) -> Finding:
    """Pictures that a gate takes for something else than a frontal chest film."""
    name, judged = "pictures that are no frontal chest films", case.judged
    if judged is None:
        how = "no gate looked: gate=runs/gate names one (`experiment=gate` trains it), or a model that has one"
        return Finding(name, Verdict.NOT_CHECKED, how)
    refused = (judged["verdict"] == "refuse").to_numpy()
    doubt = plural(int((judged["verdict"] == "warn").sum()), "further image")
    if not refused.any():
        return Finding(
            name, Verdict.PASS, f"the gate refuses none of {plural(len(judged), 'image')}, and doubts {doubt}"
        )
    of_each = (f"{int(refused[case.manifest['label'] == label].sum())} {title}" for label, title in LABELS.items())
    names = [f"{_name(case, row)} ({judged['kind'].iloc[row]})" for row in np.flatnonzero(refused).tolist()]
    evidence = f"the gate refuses {part(len(names), len(judged))} images ({', '.join(of_each)}) and doubts {doubt}"
    return Finding(name, Verdict.WARN, f"{evidence}: {listed(names)}", float(refused.mean()))


def _problem_table(case: Case) -> Table:
    rows = [(file_name(path), reason.removeprefix(f"{path}: ")) for path, reason in list(case.problems.items())[:MOST]]
    return Table(_first(f"{plural(len(case.problems), 'file')} left out", rows, len(case.problems)), _WHY, rows)


_WHY = ("file", "why")


# What DICOM headers say ---------------------------------------------------------------------------------------------


def _headers(case: Case) -> Iterator[Finding]:
    """Whether the header of a DICOM file speaks against a frontal chest film; nothing where there is no such file."""
    facts, labels = case.measured.facts, case.manifest["label"]
    count, name = int((facts["format"] == "DICOM").sum()), "headers of DICOM files"
    doubted = (facts["doubts"] != "").to_numpy()
    if not doubted.any():
        if count:
            yield Finding(name, Verdict.PASS, f"none of {plural(count, 'header')} speaks against a frontal chest film")
        return
    kinds = tally(doubt for said in facts["doubts"][doubted] for doubt in said.split(BETWEEN))
    per_class = ", ".join(f"{int((labels[doubted] == label).sum())} {each}" for label, each in LABELS.items())
    evidence = f"{part(int(doubted.sum()), count)} files ({per_class}) have a header that speaks against them: {kinds}"
    yield Finding(name, Verdict.WARN, evidence, float(doubted.mean()))


def _header_tables(case: Case) -> Iterator[Table]:
    doubted = np.flatnonzero(case.measured.facts["doubts"] != "")
    if len(doubted):
        rows = [(_name(case, row), case.measured.facts["doubts"].iloc[row]) for row in doubted[:MOST]]
        yield Table(_first(f"{plural(len(doubted), 'DICOM file')} with doubts", rows, len(doubted)), _WHY, rows)


# What only one class has --------------------------------------------------------------------------------------------


def _properties(case: Case) -> dict[str, pd.Series[Any]]:
    """The properties of every file, as text."""
    facts = case.measured.facts
    sizes = facts["width"].astype(int).astype(str) + "x" + facts["height"].astype(int).astype(str)
    quality = facts["jpeg_quality"].astype(int)
    return {
        "file format": facts["format"].astype(str),
        "colour mode": facts["mode"].astype(str),
        "bit depth": facts["bits"].astype(int).astype(str) + " bit",
        "pixel size": sizes,
        "JPEG quality": ("quality " + quality.astype(str)).where(quality > 0, ""),
    }


def _compared(case: Case) -> list[_Value]:
    """Every value that enough patients have, with corrected p values; none where there is one class only."""
    if case.manifest["label"].nunique() < 2:
        return []
    found = [value for what, texts in _properties(case).items() for value in _values(case, what, texts)]
    corrected = holm([value.p for value in found])
    return [replace(value, p=p) for value, p in zip(found, corrected, strict=True)]


def _values(case: Case, what: str, texts: pd.Series[Any]) -> Iterator[_Value]:
    known = texts.to_numpy() != ""  # a JPEG's quality is compared with that of other JPEGs only
    labels, persons, texts = case.manifest["label"].to_numpy()[known], people(case.manifest)[known], texts[known]
    if texts.nunique() < 2 or len(set(labels)) < 2:
        return
    counts = texts.value_counts()
    for value in sorted(counts.index[counts >= _FEWEST]):
        has = texts.to_numpy() == value
        if persons[has].nunique() >= _FEWEST:
            yield _counted(what, value, has, labels, persons)


def _counted(
    what: str, value: str, has: npt.NDArray[np.bool_], labels: npt.NDArray[Any], persons: pd.Series[Any]
) -> _Value:
    classes = [labels == label for label in (0, 1)]
    patients = tuple(int(persons[one & has].nunique()) for one in classes)
    of_patients = tuple(int(persons[one].nunique()) for one in classes)
    table = [[count, whole - count] for count, whole in zip(patients, of_patients, strict=True)]
    return _Value(
        what,
        value,
        (patients[0], patients[1]),
        (of_patients[0], of_patients[1]),
        (int((classes[0] & has).sum()), int((classes[1] & has).sum())),
        (int(classes[0].sum()), int(classes[1].sum())),
        float(fisher_exact(table).pvalue),
    )


def _kinds(case: Case, values: Sequence[_Value]) -> Iterator[Finding]:
    """One finding per property: its value that sets the classes furthest apart."""
    for what, texts in _properties(case).items():
        name = f"{what} of the classes"
        shown = texts[texts != ""]
        if shown.empty:
            continue
        if case.manifest["label"][shown.index].nunique() < 2:
            yield Finding(name, Verdict.NOT_CHECKED, f"known for one class only ({plural(len(shown), 'image')})")
            continue
        own = [value for value in values if value.what == what]
        clear = [value for value in own if value.p < ALPHA and value.apart >= _WARN_SHARE]
        if clear:
            worst = max(clear, key=lambda value: (_only(value), value.apart, -sum(value.shares)))
            verdict = Verdict.FAIL if _only(worst) and worst.p < _FAIL_ALPHA else Verdict.WARN
            more = len(clear) - 1 if shown.nunique() > 2 else 0  # of two values, one says what the other says
            others = f"; {plural(more, 'other value')} likewise" if more else ""
            yield Finding(name, verdict, worst.evidence + others, worst.apart)
        elif shown.nunique() == 1:
            those = "" if len(shown) == len(texts) else " of known value"
            yield Finding(name, Verdict.PASS, f"{shown.iloc[0]} for all {plural(len(shown), 'image')}{those}")
        else:
            yield Finding(name, *_no_difference(case, own, shown))


def _only(value: _Value) -> bool:
    low, high = sorted(value.shares)
    return high >= _ONLY[0] and low <= _ONLY[1]


def _no_difference(case: Case, own: Sequence[_Value], shown: pd.Series[Any]) -> tuple[Verdict, str]:
    different = plural(shown.nunique(), "different value")
    if not own:
        return Verdict.PASS, f"{different}, none of them shared by {_FEWEST} patients"
    smallest = p_value(min(value.p for value in own))
    said = f"{different}, {len(own)} tested by patient: no clear difference, smallest {smallest} (Holm)"
    return pass_of(own[0].of_patients, said)


def _scaling(case: Case) -> Iterator[Finding]:
    """Whether 16-bit files that declare no depth were scaled alike; nothing where there are none."""
    guessed = case.measured.facts["guessed"].to_numpy(bool)
    bits, labels = case.measured.facts["bits"][guessed], case.manifest["label"][guessed]
    parts = [
        f"{int((bits == depth).sum())} as {depth} bits ("
        + ", ".join(f"{int((labels[bits == depth] == label).sum())} {name}" for label, name in LABELS.items())
        + ")"
        for depth in sorted(bits.unique())
    ]
    if parts:
        evidence = f"16-bit files that declare no depth were scaled by the largest value in each: {'; '.join(parts)}"
        fix = ". Declare it (PNG: sBIT, TIFF: MaxSampleValue), or save all as 8-bit PNG in one way"
        alike = len(parts) == 1
        yield Finding(
            "scaling of 16-bit files", *((Verdict.PASS, evidence) if alike else (Verdict.WARN, evidence + fix))
        )


# Odd images, letters, colours ---------------------------------------------------------------------------------------


def _look_again(case: Case) -> tuple[dict[int, _Look], int]:
    """Reads up to 400 images of each class again, of different patients first; also says how many could not be."""
    rows = _sample(case)
    shelf = None if case.cache is None else Shelf(case.cache, _version())

    def look(row: int) -> _Look | None:
        try:
            return _look(str(case.manifest["path"].iloc[row]), shelf)
        except DataError:
            return None

    quiet = len(rows) < _SHOW_PROGRESS_FROM or not get_console().is_terminal
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV releases the interpreter lock
        done = track(pool.map(look, rows), "looking for letters", len(rows), disable=quiet, transient=True)
        looks = {row: found for row, found in zip(rows, done, strict=True) if found is not None}
    return looks, len(rows) - len(looks)


def _look(path: str, shelf: Shelf | None) -> _Look:
    """What an image showed when an audit last read it, or shows now."""
    key = None if shelf is None else key_of(path)
    kept = None if shelf is None or key is None else shelf.fetch(key)
    if kept is not None:
        return _Look.unpacked(kept)
    found = _looked_at(read_image(path).pixels)
    if shelf is not None and key is not None and key == key_of(path):  # it may have been replaced while it was read
        shelf.keep(key, found.packed())
    return found


@functools.cache
def _version() -> str:
    return version_of((burned_in, sys.modules[__name__]), "boxes, colour, crop")


def _sample(case: Case) -> list[int]:
    rows: list[int] = []
    persons = people(case.manifest)
    for label in LABELS:
        mixed = np.random.default_rng([case.seed, label]).permutation(
            np.flatnonzero(case.manifest["label"].to_numpy() == label)
        )
        own = persons.iloc[mixed]
        turn = own.groupby(own).cumcount().to_numpy()
        rows += [int(row) for row in mixed[np.argsort(turn, kind="stable")][:READ]]
    return sorted(rows)


def _looked_at(pixels: npt.NDArray[np.uint8]) -> _Look:
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    small = _at_most(pixels, _COLOUR_SIDE)
    colour = float(np.mean(np.ptp(small.astype(int), axis=2) > _COLOURED[0]))
    boxes = text_boxes(grey)
    return _Look(boxes, colour, _crop(grey, boxes[0]) if len(boxes) else grey[:1, :1].copy())


def _crop(grey: npt.NDArray[np.uint8], box: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """The surroundings of a row of letters, small enough to keep, so that a person can read it."""
    x, y, width, height = (int(value) for value in box)
    half = max(width, 4 * height) * 3 // 4
    middle_x, middle_y = x + width // 2, y + height // 2
    cut = grey[max(0, middle_y - half) : middle_y + half, max(0, middle_x - half) : middle_x + half]
    return _at_most(cut, _CROP)


def _at_most(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """A copy whose longer side has at most so many pixels; a view would keep the whole image in memory."""
    scale = min(1.0, side / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.array(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _odd(case: Case, looks: dict[int, _Look]) -> dict[int, str]:
    """Why images are odd, by row."""
    facts = case.measured.facts
    shorter = facts[["width", "height"]].min(axis=1).to_numpy(dtype=float)
    longer = facts[["width", "height"]].max(axis=1).to_numpy(dtype=float)
    # Of the grey copy 4,096 pixels tell as well as all.
    spread = [np.ptp(np.percentile(grey[::4, ::4], (5, 95))) for grey in case.measured.grey]
    kinds = {
        "small": np.flatnonzero(shorter < _SMALL).tolist(),
        "long": np.flatnonzero(longer > _LONG * shorter).tolist(),
        "nearly blank": np.flatnonzero(np.array(spread) < BLANK).tolist(),
        "coloured": [row for row, look in looks.items() if look.colour > _COLOURED[1]],
    }
    reasons: dict[int, list[str]] = {}
    for kind, rows in kinds.items():
        for row in rows:
            reasons.setdefault(row, []).append(kind)
    return {row: ", ".join(reasons[row]) for row in sorted(reasons)}


def _odd_images(case: Case, odd: dict[int, str]) -> Finding:
    if not odd:
        return Finding("odd images", Verdict.PASS, f"none of {plural(len(case.manifest), 'image')}")
    kinds = Counter(reason for why in odd.values() for reason in why.split(", "))
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    per_class = ", ".join(
        f"{sum(case.manifest['label'].iloc[row] == label for row in odd)} {name}" for label, name in LABELS.items()
    )
    evidence = f"{part(len(odd), len(case.manifest))} images ({per_class}): {counted}"
    return Finding("odd images", Verdict.WARN, evidence, len(odd) / len(case.manifest))


def _odd_table(case: Case, odd: dict[int, str]) -> Table:
    facts = case.measured.facts
    rows = [
        (
            _name(case, row),
            f"{case.manifest['split'].iloc[row]} {LABELS[case.manifest['label'].iloc[row]]}",
            f"{facts['width'].iloc[row]}x{facts['height'].iloc[row]}",
            why,
        )
        for row, why in list(odd.items())[:MOST]
    ]
    return Table(_first(plural(len(odd), "odd image"), rows, len(odd)), ("file", "group", "size", "why"), rows)


def _letters(case: Case, looks: dict[int, _Look], suspects: Sequence[int]) -> Finding:
    name = "burned-in text (suspects)"
    if not looks:
        return Finding(name, Verdict.NOT_CHECKED, "no image could be read again")
    seen = case.manifest.iloc[sorted(looks)]
    has = seen.index.isin(suspects)
    if seen["label"].nunique() < 2:
        return Finding(name, Verdict.NOT_CHECKED, f"{part(int(has.sum()), len(seen))} images; one class only")
    found = _counted("letters", "rows of letters", has, seen["label"].to_numpy(), people(seen))
    if not has.any():
        return Finding(name, Verdict.PASS, f"none in {plural(len(seen), 'image')} that were read again")
    evidence = found.evidence.removesuffix(" (Holm)")
    verdict, said = (Verdict.WARN, evidence) if found.p < ALPHA else pass_of(found.of_patients, evidence)
    return Finding(name, verdict, said, found.apart)


def _about_letters(case: Case, looks: dict[int, _Look], unread: int) -> str:
    which = "All images were" if len(looks) + unread == len(case.manifest) else f"{plural(len(looks), 'image')} were"
    gone = f" {plural(unread, 'image')} could not be read a second time." if unread else ""
    return (
        f"Burned-in text. {which} read again and searched for rows of three or more patches that look like letters "
        f"({READ} images of each class at most, of different patients first).{gone} They are suspects: no text is "
        "read, and words may be missed. In the two public sets on which the search was tried, letters were seen by eye "
        "on 116 of the 119 images that it flagged. Single side letters (R, L) are not looked for. WARN: the share of "
        f"patients with suspects differs between the classes (Fisher's exact test, p < {ALPHA:g})."
    )


def _suspect_sheet(case: Case, looks: dict[int, _Look], suspects: Sequence[int]) -> Picture:
    mixed = np.random.default_rng(case.seed).permutation(np.array(suspects))
    shown = sorted(int(row) for row in mixed[:_SHOWN_SUSPECTS])
    marks = [str(number) for number in range(1, len(shown) + 1)]
    named = ", ".join(
        f"{mark}: {_name(case, row)} ({LABELS[case.manifest['label'].iloc[row]]})"
        for mark, row in zip(marks, shown, strict=True)
    )
    caption = f"Around the suspects of burned-in text: {len(shown)} of {plural(len(suspects), 'image')}. {named}"
    return Picture("text_suspects", caption, contact_sheet([looks[row].crop for row in shown], marks))


# The overview -------------------------------------------------------------------------------------------------------


def _overview(case: Case) -> Table:
    groups = [(split, label) for split in splits(case.manifest) for label in LABELS]
    columns, names = [], []
    for split, label in groups:
        rows = np.flatnonzero((case.manifest["split"] == split) & (case.manifest["label"] == label))
        if len(rows):
            names.append(f"{split} {LABELS[label]}")
            columns.append(_described(case.measured.facts.iloc[rows]))
    rows_of_table = [(what, *(column[what] for column in columns)) for what in columns[0]]
    caption = "The files of every split and class; numbers are the median and, in brackets, the range"
    return Table(caption, ("", *names), rows_of_table)


def _described(facts: pd.DataFrame) -> dict[str, str]:
    sizes = Counter(zip(facts["width"], facts["height"], strict=True))
    (width, height), count = sizes.most_common(1)[0]
    quality = facts["jpeg_quality"][facts["jpeg_quality"] > 0]
    return {
        "images": str(len(facts)),
        "format": tally(facts["format"]),
        "colour mode": tally(facts["mode"]),
        "bits per channel": tally(facts["bits"]),
        "width, pixels": _spread(facts["width"]),
        "height, pixels": _spread(facts["height"]),
        "width / height": _spread(facts["width"] / facts["height"], 2),
        "commonest size": f"{width}x{height} ({count})",
        "kilobytes": _spread(facts["bytes"] / 1000),
        "JPEG quality": _spread(quality) if len(quality) else "no JPEG",
    }


def _spread(values: pd.Series[Any], digits: int = 0) -> str:
    low, middle, high = (f"{value:,.{digits}f}" for value in (values.min(), values.median(), values.max()))
    return middle if low == high else f"{middle} ({low} to {high})"


def _first(caption: str, rows: Sequence[object], whole: int) -> str:
    return f"{caption}, the first {len(rows)}" if len(rows) < whole else caption


def _name(case: Case, row: int) -> str:
    return file_name(case.manifest["path"].iloc[row])
